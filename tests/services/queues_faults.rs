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
async fn a_broker_short_of_memory_is_waited_for() {
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
async fn connections_that_end_are_made_anew() {
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
async fn a_queue_that_is_deleted_under_a_run_stops_it() {
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
