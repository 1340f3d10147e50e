//! Servers that are down, full or silent for a while: the run waits, says for what, and ends whole by itself.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    postgres::PgDatabase,
    shop::{DEFAULTS, PLAN, Running, Shop, assert_same, resource, wait_until},
};

const ROWS: u64 = 30_000;

/// Breakers open after two tries, and probe often.
const SOON: &str = "\
defaults:
  chunk: { rows: 100 }
  retry: { attempts: 2, base: 10ms, cap: 200ms }
";

/// Longer than a lease lasts and than an answer of Redis is waited for.
const SILENCE: Duration = Duration::from_secs(35);

async fn shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    shop.plan(&resource("url"), SOON);
    shop
}

/// Starts a run and holds it in its middle.
fn held(shop: &Shop) -> Running {
    let running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 3_000);
    running.pause();
    assert!(shop.key_count() < ROWS, "it was held too late");
    running
}

/// Waits until `status` says that the run waits for something, and returns what it says.
fn waiting(shop: &Shop, tries: u64) -> serde_json::Value {
    let mut said = serde_json::Value::Null;
    wait_until("status says what is waited for", || {
        said = shop.status()["waiting"][0].clone();
        said["tries"].as_u64().is_some_and(|had| had >= tries)
    });
    said
}

/// Asserts that the run ended whole and that nothing but waiting and what is in `also` happened.
async fn ends_whole(shop: &mut Shop, running: Running, also: &str) {
    let done = running.finish().exits(0);
    done.line(" works again after ");
    let others = ["starts over", "goes back", "blocked", "the working process"];
    for other in others.into_iter().filter(|other| *other != also) {
        assert!(!done.stderr.contains(other), "{done}");
    }
    shop.assert_redis_equals(&["url"]).await;
    assert_eq!(shop.status()["attempts"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_redis_that_is_full_for_long_is_waited_for_and_nothing_is_called_stored() {
    let mut shop = shop("full_for_long").await;
    let mut running = held(&shop);
    shop.redis.run("CONFIG SET maxmemory 1");
    let before = shop.key_count();
    running.go_on();
    let said = running.says("waiting for redis at 127.0.0.1:");
    assert!(said.contains("used memory is above maxmemory"), "{said}");
    let waiting = waiting(&shop, 12);
    assert!(
        waiting["error"]
            .as_str()
            .is_some_and(|error| error.contains("used memory is above maxmemory")),
        "{waiting}"
    );
    let text = shop.rekindle(&format!("status {PLAN}")).exits(0).stdout;
    assert!(text.contains("waiting for redis at 127.0.0.1:"), "{text}");
    assert!(text.contains(" so far): "), "{text}");
    // The lease may be there or not; rows are not.
    assert!(shop.key_count() <= before + 1, "nothing was written");
    let rows = shop.status()["rows"].as_u64().expect("rows");
    assert!(rows <= before, "{rows} called stored, {before} keys there");
    shop.redis.run("CONFIG SET maxmemory 0");
    ends_whole(&mut shop, running, "").await;
    let status = shop.rekindle(&format!("history {PLAN}")).exits(0);
    assert!(status.stdout.contains("done"), "{status}");
}

#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_later_is_waited_for() {
    let mut shop = shop("away").await;
    let mut running = held(&shop);
    shop.redis.run("SAVE");
    shop.redis.kill();
    running.go_on();
    running.says("waiting for redis at 127.0.0.1:");
    waiting(&shop, 40);
    shop.redis.launch();
    // A chunk that was in the socket when the run was held may be written, and answered, after the dump was made.
    ends_whole(&mut shop, running, "goes back").await;
}

#[tokio::test]
async fn a_redis_that_is_silent_for_longer_than_a_lease_is_waited_for() {
    let mut shop = shop("silent").await;
    let running = held(&shop);
    shop.redis.freeze();
    running.go_on();
    let begun = Instant::now();
    wait_until("time passes", || begun.elapsed() > SILENCE);
    shop.redis.thaw();
    let done = running.finish().exits(0);
    for other in ["starts over", "goes back", "blocked"] {
        assert!(!done.stderr.contains(other), "{done}");
    }
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_target_that_stays_away_is_given_up_in_time_and_a_signal_ends_the_wait_at_once() {
    let mut shop = shop("gone").await;
    let mut running = held(&shop);
    shop.redis.run("SAVE");
    shop.redis.kill();
    running.go_on();
    running.says("waiting for redis at 127.0.0.1:");
    let begun = Instant::now();
    running.signal_group(Signal::INT);
    running.finish().exits(130);
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "the grace of 10 s is for chunks in flight: {:?}",
        begun.elapsed()
    );
    shop.redis.launch();

    shop.plan(
        &resource("url"),
        &SOON.replace("200ms }", "200ms, within: 1s }"),
    );
    let running = shop.start_failing(&format!("run {PLAN}"), "after_commit:5:sleep");
    shop.wait_for_chunks(1);
    running.kill_group();
    let running = held_again(&shop);
    shop.redis.run("SAVE");
    shop.redis.kill();
    running.go_on();
    let blocked = running.finish().exits(5);
    assert!(
        blocked
            .stderr
            .contains("cause: `url` is blocked: gave up after 1."),
        "{blocked}"
    );
    shop.redis.launch();
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

fn held_again(shop: &Shop) -> Running {
    let before = shop.key_count();
    let running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || {
        shop.key_count() > before + 1_000
    });
    running.pause();
    running
}

#[tokio::test]
async fn a_source_whose_connections_are_killed_twenty_times_is_read_to_its_end() {
    let mut shop = shop("kills").await;
    // Slow enough that all kills meet it at work.
    let throttled = format!(
        "{}    throttle: {{ rows_per_second: 6000 }}\n",
        resource("url")
    );
    shop.plan(&throttled, SOON);
    let mut operator = shop.database.another().await;
    let list = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID()",
        shop.database.name
    );
    let keeper = shop.database.number("SELECT CONNECTION_ID()").await;
    let mut running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 1_000);
    let mut killed = 0;
    while killed < 20 {
        assert!(running.is_at_work(), "it ended after {killed} kills");
        let ids: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(list.clone()))
            .fetch_all(&mut operator)
            .await
            .expect("the processes");
        for id in ids.into_iter().filter(|id| id.unsigned_abs() != keeper) {
            let kill = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("KILL {id}")));
            // It may have gone by itself.
            killed += u32::from(kill.execute(&mut operator).await.is_ok());
        }
        let before = shop.key_count();
        wait_until("rows move on", || {
            shop.key_count() > before || !running.is_at_work()
        });
    }
    let done = running.finish().exits(0);
    assert!(!done.stderr.contains("blocked"), "{done}");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_postgres_whose_connections_are_killed_twenty_times_is_read_to_its_end() {
    let mut shop = Shop::<PgDatabase>::open_postgres("kills").await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    let throttled = format!(
        "{}    throttle: {{ rows_per_second: 6000 }}\n",
        resource("url")
    );
    shop.plan(&throttled, SOON);
    let mut running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 1_000);
    let mut killed = 0;
    while killed < 20 {
        assert!(running.is_at_work(), "it ended after {killed} kills");
        killed += shop
            .database
            .number(
                "SELECT COUNT(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND backend_type = 'client backend'",
            )
            .await;
        let before = shop.key_count();
        wait_until("rows move on", || {
            shop.key_count() > before || !running.is_at_work()
        });
    }
    let done = running.finish().exits(0);
    assert!(!done.stderr.contains("blocked"), "{done}");
    assert!(
        !done.stderr.contains("goes to its publisher"),
        "never for a network: {done}"
    );
    assert_same(&shop.wanted(&["url"], "kv:").await, &shop.redis_content());
}

#[tokio::test]
async fn a_redis_that_becomes_slow_gets_smaller_chunks_until_it_is_quick_again() {
    let mut shop = shop("slow").await;
    let throttled = format!(
        "{}    throttle: {{ rows_per_second: 8000 }}\n",
        resource("url")
    );
    shop.plan(&throttled, DEFAULTS);
    let mut running = shop.start(&format!("run {PLAN} --json"));
    wait_until("the run is on its way", || shop.key_count() > 1_000);
    // Whatever writes waits for so long; it is answered in the end, within the time-out.
    shop.redis.run("CLIENT PAUSE 11000 WRITE");
    let mut paced = |reason: &str| {
        running.event(reason, |event| {
            let is_it = event["event"] == "paced" && event["reason"] == reason;
            is_it.then(|| event["rows"].as_u64().expect("rows"))
        })
    };
    assert_eq!(paced("a chunk took longer than 10 s"), 50);
    assert_eq!(paced("chunks are quick"), 100);
    running.finish().exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_panic_is_a_bug_and_not_tried_twelve_times() {
    let mut shop = shop("panics").await;
    let bug = shop
        .start_failing(&format!("run {PLAN}"), "after_commit:3:panic")
        .finish()
        .exits(1);
    assert!(bug.stderr.contains("panicked: this is a bug"), "{bug}");
    let status = shop.status();
    let attempts = status["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 1, "{status}");
    assert_eq!(attempts[0]["end"], "crashed with exit code 101");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_report_that_panics_costs_the_run_nothing_but_its_report() {
    let mut shop = shop("report").await;
    let done = shop
        .start_failing(&format!("run {PLAN} --log error"), "report:4:panic")
        .finish()
        .exits(0);
    assert!(
        done.stderr
            .contains("a report panicked and is switched off"),
        "{done}"
    );
    shop.assert_redis_equals(&["url"]).await;
}
