//! `pause` and `unpause` from another terminal.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::shop::{PLAN, Shop, chunks_stored, resource, wait_until};

const ROWS: u64 = 20_000;

const DEFAULTS: &str = "defaults:\n  chunk: { rows: 100 }\n";

async fn shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    let throttle = "    throttle: { rows_per_second: 8000 }\n";
    shop.plan(&format!("{}{throttle}", resource("url")), DEFAULTS);
    shop
}

/// Asserts that no chunk is stored for a while, after those that were in hand.
fn stands_still(shop: &Shop) {
    let mut stored = 0;
    let mut since = Instant::now();
    wait_until("nothing moves any more", || {
        let now = chunks_stored(&shop.status());
        if now != std::mem::replace(&mut stored, now) {
            since = Instant::now();
        }
        since.elapsed() > Duration::from_millis(1500)
    });
    let status = shop.status();
    assert!(status["paused"]["by"].is_string(), "{status}");
    assert!(status["rows"].as_u64() < Some(ROWS), "{status}");
}

#[tokio::test]
async fn a_run_pauses_within_a_second_keeps_its_lease_and_goes_on() {
    let mut shop = shop("pause").await;
    let mut running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 1_000);
    let asked = shop.rekindle(&format!("pause {PLAN}")).exits(0);
    assert!(asked.stdout.starts_with("paused since "), "{asked}");
    let begun = Instant::now();
    let said = running.says("paused since ");
    // Twice a second it looks; the rest is what a machine under load needs.
    assert!(begun.elapsed() < Duration::from_secs(3), "{said}");
    assert!(
        said.contains("`rekindle unpause plans/shop.yaml` goes on"),
        "{said}"
    );
    stands_still(&shop);
    assert!(
        shop.redis.get(b"rekindle:lease").is_some(),
        "the lease is kept"
    );
    let text = shop.rekindle(&format!("status {PLAN}")).exits(0).stdout;
    assert!(text.contains("  paused since "), "{text}");
    shop.rekindle(&format!("unpause {PLAN}")).exits(0);
    let done = running.finish().exits(0);
    done.line("the pause was lifted");
    shop.assert_redis_equals(&["url"]).await;
    assert_eq!(shop.status()["paused"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_paused_run_stays_paused_when_it_is_started_again_and_can_be_interrupted() {
    let mut shop = shop("pause_restart").await;
    let nothing = shop.rekindle(&format!("pause {PLAN}")).exits(3);
    assert!(nothing.stderr.contains("nothing to pause"), "{nothing}");
    let running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 1_000);
    shop.rekindle(&format!("pause {PLAN}")).exits(0);
    running.kill_group();

    let mut again = shop.start(&format!("run {PLAN}"));
    again.says("paused since ");
    stands_still(&shop);
    let begun = Instant::now();
    again.signal_group(Signal::INT);
    again.finish().exits(130);
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );

    let mut last = shop.start(&format!("run {PLAN}"));
    last.says("paused since ");
    shop.rekindle(&format!("unpause {PLAN}")).exits(0);
    last.finish().exits(0);
    shop.assert_redis_equals(&["url"]).await;
    let again = shop.rekindle(&format!("unpause {PLAN}")).exits(0);
    assert_eq!(again.stdout, "there was no pause\n");
}

#[tokio::test]
async fn a_pause_holds_a_run_that_catches_up() {
    let mut shop = Shop::open("pause_catch").await;
    shop.table("url").await;
    shop.rows("url", 1, 2_000).await;
    let small = "defaults:\n  chunk: { rows: 5 }\n  parallel: { partitions: 1 }\n";
    shop.plan(&format!("{}    catch_up: {{}}\n", resource("url")), small);
    let scratch = shop.path("state/shop.sqlite.verify");
    let mut running = loop {
        let mut running = shop.start(&format!("run {PLAN}"));
        wait_until("it catches up", || {
            scratch.exists() || !running.is_at_work()
        });
        if running.is_at_work() {
            running.pause();
        }
        if scratch.exists() {
            break running;
        }
        // On a busy machine it may be over before it is held.
        running.go_on();
        running.finish().exits(0);
    };
    let held = Instant::now();
    shop.rekindle(&format!("pause {PLAN}")).exits(0);
    shop.database
        .execute("UPDATE url SET data = 'changed' WHERE id > 1990")
        .await;
    // It looks for a pause twice a second: then that is the first thing it does, with the last rows still to be compared.
    wait_until("it is time to look", || {
        held.elapsed() > Duration::from_millis(700)
    });
    running.go_on();
    running.says("paused since ");
    let changed = |shop: &Shop| {
        let content = shop.redis_content();
        content
            .values()
            .filter(|value| *value == b"changed")
            .count()
    };
    let before = changed(&shop);
    let since = Instant::now();
    wait_until("time went by", || {
        assert!(running.is_at_work(), "it does not wait for anybody");
        since.elapsed() > Duration::from_millis(1500)
    });
    assert_eq!((before, changed(&shop)), (0, 0), "nothing was rewritten");
    assert_eq!(shop.status()["state"], "verifying");
    shop.rekindle(&format!("unpause {PLAN}")).exits(0);
    let done = running.finish().exits(0);
    assert!(
        done.stderr.contains("caught up: 10 keys rewritten"),
        "{done}"
    );
    shop.assert_redis_equals(&["url"]).await;
}
