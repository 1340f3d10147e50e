//! What a person sees of queues, what is waited for behind them, and messages that were put aside.

use serde_json::{Value, json};

use crate::{
    broker_server::management,
    queues::{QUEUE, Scene},
    shop::{PLAN, assert_same, wait_until},
};

/// Depth and consumers while rows wait, what consumers hold where the plan names who tells, and what is wrong when nobody takes
/// any.
#[tokio::test]
async fn m7_a_queue_is_seen_in_status_and_progress_and_blocks_where_it_stands_still() {
    let scene = Scene::open("watched").await;
    let wanted = scene.numbered(300);
    let named = format!(", declare: true, management: \"{}\"", management());
    scene.plan(&named, ", drain: { within: 6s }");
    let mut run = scene.start(&format!("run {PLAN} --json"));
    run.event("the queue in the progress", |event| {
        let seen = event["event"] == "queue" && event["queue"] == QUEUE;
        (seen && event["ready"] == 300 && event["consumers"] == 0).then_some(())
    });
    let mut queues = Value::Null;
    wait_until("the queue in `status`", || {
        queues = scene.shop.status()["queues"].clone();
        queues[0]["ready"] == 300
    });
    assert_eq!(queues[0]["queue"], QUEUE);
    assert_eq!(queues[0]["consumers"], 0);
    let held = scene.vhost.hold(QUEUE, 100).await;
    run.event("what a consumer holds", |event| {
        let seen = event["event"] == "queue" && event["ready"] == 200;
        (seen && event["unacked"] == 100 && event["consumers"] == 1).then_some(())
    });
    wait_until("it is in `status`", || {
        let shown = scene.start(&format!("status {PLAN}")).finish().exits(0);
        let told = "200 messages and 100 unacknowledged, 1 consumer";
        shown.stdout.contains(told)
    });
    let stopped = run.finish().exits(5);
    let told = "1 consumer has it and takes none, and holds 100 unacknowledged";
    assert!(stopped.stdout.contains(told), "{stopped}");
    let shown = scene.start(&format!("status {PLAN}")).finish().exits(0);
    let told = "200 messages stand still in `sync.storage.url`";
    assert!(shown.stdout.contains(told), "{shown}");
    held.close(200, "done".into()).await.unwrap();
    // Blocked, not lost: the next run waits again.
    let run = scene.start(&format!("run {PLAN}"));
    scene.consume();
    run.finish().exits(0);
    assert_same(&wanted, &scene.shop.redis_content());
}

/// `drain.queues`: what the shop's own consumers hand on has to be taken, too.
#[tokio::test]
async fn queues_behind_the_own_one_have_to_run_empty() {
    let scene = Scene::open("behind").await;
    let wanted = scene.numbered(10);
    scene.plan(", declare: true", ", drain: { queues: [publish.url] }");
    scene.vhost.set_up(&["publish.url"]).await;
    scene.vhost.publish("publish.url", "{}").await;
    let mut run = scene.start(&format!("run {PLAN}"));
    let said = run.says("published, not applied");
    assert!(said.contains("1 message in `publish.url`"), "{said}");
    scene.consume();
    assert_eq!(scene.vhost.depth(QUEUE).await, 0);
    assert!(run.is_at_work());
    assert_eq!(scene.shop.status()["resources"][0]["state"], "published");
    scene.vhost.take("publish.url").await;
    run.finish().exits(0);
    assert_same(&wanted, &scene.shop.redis_content());
}

/// Messages that failed go back as they were, and those that nobody can carry out come back.
#[tokio::test]
async fn messages_that_were_put_aside_are_counted_and_put_back() {
    let scene = Scene::open("replay").await;
    scene.plan("", "");
    scene.vhost.set_up(&[QUEUE]).await;
    let good = r#"{"write":{"key":"url:\/a","value":{ "n" : 1 },"resource":"url","params":[],"store":null}}"#;
    let failed = format!(
        "{},\"errorMessage\":\"redis was down\"}}",
        &good[..good.len() - 1]
    );
    scene.vhost.publish_with(QUEUE, "error", &failed).await;
    scene.vhost.publish_with(QUEUE, "error", "geheim").await;
    let counted = |failed: u64| {
        let listed = scene
            .start(&format!("dead-letters queues {PLAN} --json"))
            .finish()
            .exits(0);
        assert_eq!(
            listed.json(),
            [json!([{ "queue": QUEUE, "failed": failed }])]
        );
    };
    counted(2);
    let replayed = scene
        .start(&format!("dead-letters replay {PLAN}"))
        .finish()
        .exits(0);
    assert!(
        replayed
            .stdout
            .contains("sync.storage.url: 2 messages put back"),
        "{replayed}"
    );
    counted(0);
    let consumed = scene
        .start(&format!("consume {PLAN} --until-empty"))
        .finish()
        .exits(4);
    assert!(
        consumed.stdout.contains("1 written, 0 deleted, 1 failed"),
        "{consumed}"
    );
    assert!(
        consumed.stderr.contains("dead-letters replay"),
        "{consumed}"
    );
    assert_eq!(
        scene.shop.redis.get(b"kv:url:/a"),
        Some(b"{\"n\":1}".to_vec())
    );
    counted(1);
    let refused = scene
        .start(&format!(
            "dead-letters replay {PLAN} --queue sync.storage.urls"
        ))
        .finish()
        .exits(2);
    assert!(
        refused.stderr.contains("did you mean `sync.storage.url`?"),
        "{refused}"
    );
}

/// A publisher that only queues events has done its work when the shop's workers have.
#[tokio::test]
async fn after_a_trigger_the_queues_of_the_shop_are_waited_for() {
    let scene = Scene::open("triggered").await;
    let database = scene.shop.database.0.display().to_string();
    rusqlite::Connection::open(&database)
        .unwrap()
        .execute_batch(
            "CREATE TABLE spy_url (id_url INTEGER PRIMARY KEY); INSERT INTO spy_url VALUES (1);\n\
             INSERT INTO spy_url_storage (fk_url, key, data) VALUES (1, 'url:broken', NULL)",
        )
        .unwrap();
    scene.shop.write_plan(&format!(
        "version: 1\nname: shop\npreset: spryker\nsource: {{ url: \"${{DATABASE_URL}}\" }}\n\
         targets: {{ storage: {{ redis: {{ url: \"${{REDIS_URL}}\" }} }} }}\n\
         broker: {{ url: \"${{RABBITMQ_URL}}\" }}\n\
         resources:\n  - name: url\n    drain: {{ queues: [publish.url], settle: 20ms }}\n    \
         fallback: {{ trigger: url, ids: {{ table: spy_url, column: id_url }}, by: {{ sql: {{ url: \"sqlite:{database}\", \
         statement: \"UPDATE spy_url_storage SET data = '{{}}' WHERE fk_url IN ({{ids}})\" }} }} }}\n"
    ));
    scene.vhost.set_up(&["publish.url"]).await;
    scene.vhost.publish("publish.url", "{}").await;
    let mut run = scene.start(&format!("run {PLAN}"));
    run.says("1 message in `publish.url`, no consumer yet");
    assert_eq!(scene.shop.status()["resources"][0]["state"], "draining");
    assert!(run.is_at_work());
    scene.vhost.take("publish.url").await;
    run.finish().exits(0);
    assert_eq!(scene.shop.redis.get(b"kv:url:broken"), Some(b"[]".to_vec()));
    // By hand it is the same.
    scene.vhost.publish("publish.url", "{}").await;
    let mut trigger = scene.start(&format!("trigger {PLAN} -r url -i 1"));
    trigger.shows("1 message in `publish.url`");
    scene.vhost.take("publish.url").await;
    trigger.finish().exits(0);
}
