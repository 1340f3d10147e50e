//! What happens to rows on their way through a queue when a process dies, or the broker has no room, or goes away.

use rustix::process::Signal;

use crate::{
    broker_server::{Relay, control},
    queues::{QUEUE, Scene},
    shop::{PLAN, Running, assert_same, wait_until},
};

/// Killed before a chunk is sent, behind the confirmations, and behind the journal: every row is sent, some twice.
#[tokio::test]
async fn a_publisher_that_dies_goes_on_where_it_was() {
    let scene = Scene::open("publisher").await;
    let wanted = scene.numbered(1_000);
    scene.plan(", declare: true", "");
    for point in [
        "before_write:2:kill",
        "after_ack:2:kill",
        "after_commit:2:kill",
    ] {
        let killed = scene
            .start_failing(&format!("run {PLAN} --single-process"), point)
            .finish();
        assert_eq!(killed.signal, Some(9), "{point}: {killed}");
    }
    let mut run = scene.start(&format!("run {PLAN}"));
    run.says("published, not applied");
    let sent = scene.vhost.depth(QUEUE).await;
    // What was confirmed is not sent again, but for the chunks in hand of three deaths in two partitions.
    assert!((1_000..=1_600).contains(&sent), "{sent}");
    scene.consume();
    run.finish().exits(0);
    assert_same(&wanted, &scene.shop.redis_content());
}

/// Puts the limit back, also when the test fails.
struct Alarm;

impl Alarm {
    fn raise() -> Self {
        control("set_vm_memory_high_watermark absolute 1MB");
        Self
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        control("set_vm_memory_high_watermark absolute 512MB");
    }
}

/// The broker stops reading: that is said, nothing is lost, and it goes on by itself.
#[tokio::test]
async fn m1_a_broker_short_of_memory_is_waited_for() {
    let scene = Scene::open("alarm").await;
    let wanted = scene.numbered(1_000);
    scene.plan(", declare: true", "");
    let alarm = Alarm::raise();
    let mut run = scene.start(&format!("run {PLAN}"));
    run.says("blocked by broker");
    assert!(run.is_at_work());
    wait_until("`status` says so", || {
        scene
            .start(&format!("status {PLAN}"))
            .finish()
            .stdout
            .contains("blocked by broker")
    });
    drop(alarm);
    run.says("published, not applied");
    scene.consume();
    run.finish().exits(0);
    assert_same(&wanted, &scene.shop.redis_content());
}

/// Connections end under messages that are not confirmed, and under a consumer: all of it is done again.
#[tokio::test]
async fn m2_connections_that_end_are_made_anew() {
    let scene = Scene::open("cut").await;
    let wanted = scene.numbered(1_000);
    scene.plan(", declare: true", ", throttle: { rows_per_second: 1000 }");
    let relay = Relay::start();
    let start = |words: &str| {
        let mut command = scene.shop.command(words);
        command.env("RABBITMQ_URL", relay.url(&scene.vhost));
        Running::start(command)
    };
    let mut run = start(&format!("run {PLAN}"));
    scene.shop.wait_for_chunks(2);
    assert!(relay.cut() > 0);
    run.says("published, not applied");
    let consumer = start(&format!("consume {PLAN}"));
    wait_until("the consumer works", || scene.shop.key_count() > 0);
    assert!(relay.cut() > 0);
    run.finish().exits(0);
    assert_same(&wanted, &scene.shop.redis_content());
    // What comes later comes over a new connection.
    let body = "{\"write\":{\"key\":\"url:late\",\"value\":[],\"resource\":\"url\",\"params\":[],\"store\":null}}";
    scene.vhost.publish(QUEUE, body).await;
    wait_until("the late message", || {
        scene.shop.redis.get(b"kv:url:late").is_some()
    });
    consumer.signal_group(Signal::INT);
    consumer.finish().exits(130);
}

/// The queue goes under a run that sends: it stops and says why, and nothing that was in the queue counts as sent.
#[tokio::test]
async fn m3_a_queue_that_is_deleted_under_a_run_stops_it() {
    let scene = Scene::open("under").await;
    let wanted = scene.numbered(1_000);
    scene.plan("", ", throttle: { rows_per_second: 600 }");
    scene.vhost.set_up(&[QUEUE]).await;
    let run = scene.start(&format!("run {PLAN}"));
    scene.vhost.wait_for(QUEUE, 200).await;
    scene.vhost.delete(QUEUE).await;
    let stopped = run.finish().exits(5);
    assert!(stopped.stderr.contains(QUEUE), "{stopped}");
    assert!(stopped.stderr.contains("queue:setup"), "{stopped}");
    scene.vhost.set_up(&[QUEUE]).await;
    scene.plan("", "");
    let mut run = scene.start(&format!("run {PLAN}"));
    run.says("published, not applied");
    assert_eq!(scene.vhost.depth(QUEUE).await, 1_000);
    scene.consume();
    run.finish().exits(0);
    assert_same(&wanted, &scene.shop.redis_content());
}

/// A queue that takes no more says so for each message: nothing of that counts as sent. It is waited for, then given up; and
/// once somebody consumes, the rest goes through.
#[tokio::test]
async fn m4_a_queue_that_is_full_is_waited_for_and_then_blocks() {
    let scene = Scene::open("full").await;
    let wanted = scene.numbered(300);
    scene.plan("", "");
    scene.vhost.set_up_limited(QUEUE, 150).await;
    // Its exchange; the queue itself stays as it is.
    scene.vhost.bind(QUEUE).await;
    let plan = std::fs::read_to_string(scene.shop.path(PLAN)).unwrap();
    let impatient = plan.replace("attempts: 60", "within: 1s, attempts: 3");
    scene.shop.write_plan(&impatient);
    let mut run = scene.start(&format!("run {PLAN}"));
    let said = run.says("took no message for `sync.storage.url`");
    assert!(said.contains("it is full"), "{said}");
    let stopped = run.finish().exits(5);
    assert!(stopped.stderr.contains("it is full"), "{stopped}");
    let status = scene.shop.status();
    assert_eq!(status["resources"][0]["state"], "blocked", "{status}");
    // Only whole chunks that the broker confirmed: of 150 messages, one.
    assert_eq!(scene.vhost.depth(QUEUE).await, 150);
    assert!(status["rows"].as_u64() <= Some(100), "{status}");

    scene.shop.write_plan(&plan);
    let mut run = scene.start(&format!("run {PLAN}"));
    run.says("it is full");
    let consumer = scene.start(&format!("consume {PLAN}"));
    run.finish().exits(0);
    consumer.signal_group(Signal::INT);
    consumer.finish().exits(130);
    assert_same(&wanted, &scene.shop.redis_content());
}

/// A defect that a death of ours does not show, for nothing is lost by it that was sent: rows count as sent whatever the broker
/// answers. The queue that is full shows it.
#[tokio::test]
async fn m4_a_publisher_that_does_not_mind_the_answers_is_noticed() {
    let scene = Scene::open("deaf").await;
    scene.numbered(300);
    scene.plan("", "");
    scene.vhost.set_up_limited(QUEUE, 150).await;
    scene.vhost.bind(QUEUE).await;
    let mut deaf = scene.shop.command(&format!("run {PLAN}"));
    deaf.env("RABBITMQ_URL", scene.vhost.url())
        .env("RK_MUTANT", "ack_ignored");
    let mut deaf = Running::start(deaf);
    deaf.says("published, not applied");
    assert_eq!(scene.vhost.depth(QUEUE).await, 150);
    assert_eq!(scene.shop.status()["rows"], 300);
    // The comparison at the end would find what is not there, and that is why the defect shows nowhere else.
    deaf.signal_group(Signal::INT);
    deaf.finish().exits(130);
}

/// With `declare: true`, a queue that is there and would be made otherwise is refused before anything is done; without, it is
/// used as it is.
#[tokio::test]
async fn m5_a_queue_with_other_arguments_is_refused_and_stays_as_it_is() {
    let scene = Scene::open("other").await;
    scene.numbered(1);
    scene.plan(", declare: true", "");
    scene.vhost.set_up_limited(QUEUE, 150).await;
    for words in ["run", "run --dry-run", "validate"] {
        let refused = scene.start(&format!("{words} {PLAN}")).finish().exits(3);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [QUEUE, "PRECONDITION_FAILED", "x-max-length", "declare"] {
            assert!(said.contains(part), "{words}: {part}: {refused}");
        }
    }
    assert!(!scene.vhost.has_exchange(QUEUE));
    scene.vhost.bind(QUEUE).await;
    assert_eq!(scene.vhost.depth(QUEUE).await, 0);
    scene.plan("", "");
    let run = scene.start(&format!("run {PLAN}"));
    scene.vhost.wait_for(QUEUE, 1).await;
    scene.consume();
    run.finish().exits(0);
}
