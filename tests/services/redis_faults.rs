//! A Redis that forgets, goes back, fills up or would drop keys: the run notices, says so, and ends whole.

use std::thread;

use crate::{
    redis_server::RedisServer,
    shop::{DEFAULTS, PLAN, Running, Shop, resource, wait_until},
};

const ROWS: u64 = 30_000;

async fn shop(name: &str) -> Shop {
    shop_with(name, RedisServer::start()).await
}

async fn shop_with(name: &str, redis: RedisServer) -> Shop {
    let mut shop = Shop::with_redis(name, redis).await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    shop.plan(&resource("url"), DEFAULTS);
    shop
}

/// Starts a run and holds it when Redis has more than `keys` keys, well before the end.
fn held_at(shop: &Shop, keys: u64) -> Running {
    let running = shop.start(&format!("run {PLAN}"));
    hold_again(shop, &running, keys);
    running
}

/// Holds a run when Redis has more than `keys` keys.
fn hold_again(shop: &Shop, running: &Running, keys: u64) {
    wait_until("the run is on its way", || shop.key_count() > keys);
    running.pause();
    assert!(
        shop.key_count() < ROWS,
        "it was held too late to be in mid-run"
    );
}

/// Asserts that the run ended whole by itself and said in one line that it starts over.
async fn ends_whole_having_started_over(shop: &mut Shop, running: Running) {
    let done = running.finish().exits(0);
    let line = done.line("starts over").to_owned();
    assert!(
        line.starts_with("`url` starts over: redis at 127.0.0.1:"),
        "{line}"
    );
    assert!(
        line.contains("no longer proves that it holds any of the ")
            && line.ends_with(" rows that were stored: it was emptied, or another run wrote to it"),
        "{line}"
    );
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn r1_a_redis_that_was_stopped_without_saving_and_came_back_empty_is_filled_again() {
    let mut shop = shop("empty").await;
    let running = held_at(&shop, 5_000);
    shop.redis.kill();
    shop.redis.launch();
    assert_eq!(shop.key_count(), 0);
    running.go_on();
    ends_whole_having_started_over(&mut shop, running).await;
}

#[tokio::test]
async fn a_redis_that_is_down_for_a_while_is_waited_for() {
    let mut shop = shop("down").await;
    let mut running = held_at(&shop, 5_000);
    shop.redis.kill();
    running.go_on();
    let said = running.says("trying again in");
    assert!(said.starts_with("url: connection "), "{said}");
    shop.redis.launch();
    ends_whole_having_started_over(&mut shop, running).await;
}

#[tokio::test]
async fn r2_a_flush_in_mid_run_is_noticed_and_made_good() {
    let mut shop = shop("flush").await;
    let running = held_at(&shop, 5_000);
    shop.redis.run("FLUSHDB");
    running.go_on();
    ends_whole_having_started_over(&mut shop, running).await;
}

#[tokio::test]
async fn r3_an_older_dump_in_mid_run_takes_each_partition_back_to_what_it_holds() {
    let mut shop = shop("dump").await;
    let running = held_at(&shop, 5_000);
    shop.redis.run("SAVE");
    let saved = shop.key_count();
    running.go_on();
    hold_again(&shop, &running, saved + 5_000);
    shop.redis.kill();
    shop.redis.launch();
    assert_eq!(shop.key_count(), saved);
    running.go_on();

    let done = running.finish().exits(0);
    went_back(&done.stderr);
    assert!(
        !done.stderr.contains("starts over"),
        "what the dump holds is not done again: {done}"
    );
    shop.assert_redis_equals(&["url"]).await;
}

/// Markers are asked for whenever a run goes on, however long it lay; the lease is for those who come meanwhile.
#[tokio::test]
async fn r11_no_key_of_a_run_but_its_lease_has_a_time_to_live() {
    let shop = shop("time_to_live").await;
    let running = shop.held_after(&format!("run {PLAN}"), 20);
    let ours: Vec<String> = shop.redis.ask(0, redis::cmd("KEYS").arg("rekindle:*"));
    let keyspace: String = shop.redis.ask(0, redis::cmd("INFO").arg("keyspace"));
    let left: i64 = shop.redis.ask(0, redis::cmd("PTTL").arg("rekindle:lease"));
    running.kill_group();
    // The lease, the claim, and a marker at least.
    assert!(ours.len() >= 3, "{ours:?}");
    assert!(left > 0, "{left}");
    assert!(keyspace.contains(",expires=1,"), "{keyspace}");
}

/// Asserts that each partition that went back has one line that says so.
fn went_back(stderr: &str) {
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains("goes back"))
        .collect();
    assert!((1..=2).contains(&lines.len()), "{stderr}");
    for line in lines {
        assert!(line.starts_with("`url` goes back in partition "), "{line}");
        assert!(
            line.ends_with("holds an older state than the journal"),
            "{line}"
        );
        let (_, chunks) = line.split_once(" from chunk ").expect("where it stood");
        let mut words = chunks.split([' ', ':']);
        let from: u64 = words.next().expect("a number").parse().expect("a number");
        let to: u64 = words.nth(2).expect("a number").parse().expect("a number");
        assert!(0 < to && to < from, "{line}");
    }
}

#[tokio::test]
async fn what_was_lost_between_two_runs_is_made_good_by_the_next() {
    let mut shop = shop("between").await;
    shop.half_done(40);
    shop.redis.run("FLUSHDB");
    let running = shop.start(&format!("run {PLAN}"));
    ends_whole_having_started_over(&mut shop, running).await;
}

#[tokio::test]
async fn what_was_lost_after_the_last_check_of_a_run_that_died_is_made_good_by_the_next() {
    let mut shop = shop("last_moment").await;
    let held = shop.start_failing(&format!("run {PLAN}"), "before_forget:1:sleep");
    wait_until("the run is finishing", || {
        shop.status()["state"] == "finishing"
    });
    held.kill_group();
    shop.redis.run("FLUSHDB");
    let running = shop.start(&format!("run {PLAN}"));
    ends_whole_having_started_over(&mut shop, running).await;
}

#[tokio::test]
async fn r5_a_policy_that_drops_keys_and_came_in_mid_run_is_not_called_done() {
    let shop = shop("policy").await;
    let mut running = shop.start(&format!("run {PLAN} --json"));
    running.event("a chunk", |event| {
        (event["event"] == "chunk_stored").then_some(())
    });
    shop.redis.run("CONFIG SET maxmemory-policy allkeys-lru");
    let blocked = running.finish().exits(5);
    assert!(blocked.to_string().contains("allkeys-lru"), "{blocked}");
    shop.redis.run("CONFIG SET maxmemory-policy noeviction");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
}

#[tokio::test]
async fn an_older_dump_between_two_runs_is_made_good_by_the_next() {
    let mut shop = shop("between_dump").await;
    shop.half_done(40);
    shop.redis.run("SAVE");
    shop.held_after(&format!("run {PLAN}"), 20).kill_group();
    shop.redis.kill();
    shop.redis.launch();
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    went_back(&done.stderr);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn resources_that_were_complete_are_done_again_too() {
    let mut shop = shop("both").await;
    shop.table("page").await;
    shop.rows("page", 1, 2_000).await;
    let after = "    after: [page]\n";
    shop.plan(
        &format!("{}{}{after}", resource("page"), resource("url")),
        DEFAULTS,
    );
    let running = held_at(&shop, 5_000);
    shop.redis.run("FLUSHDB");
    running.go_on();
    let done = running.finish().exits(0);
    done.line("`page` starts over");
    done.line("`url` starts over");
    shop.assert_redis_equals(&["page", "url"]).await;
}

#[tokio::test]
async fn a_third_loss_blocks_and_a_person_may_let_it_go_on() {
    let mut shop = shop("thrice").await;
    let running = held_at(&shop, 3_000);
    for loss in 1..=3 {
        shop.redis.run("FLUSHDB");
        running.go_on();
        if loss < 3 {
            hold_again(&shop, &running, 3_000);
        }
    }
    let blocked = running.finish().exits(5);
    assert_eq!(
        blocked.stderr.matches("`url` starts over").count(),
        3,
        "{blocked}"
    );
    blocked.line("url: blocked: its stored rows vanished 3 times: something keeps emptying redis at 127.0.0.1:");
    assert!(blocked.stderr.contains("next:"), "{blocked}");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn r4_a_full_redis_is_waited_for_and_said() {
    let mut shop = shop("full").await;
    let mut running = held_at(&shop, 5_000);
    shop.redis.run("CONFIG SET maxmemory 1");
    running.go_on();
    let said = running.says("trying again in");
    assert!(
        said.contains("refused the write: used memory is above maxmemory"),
        "{said}"
    );
    assert!(shop.key_count() < ROWS);
    shop.redis.run("CONFIG SET maxmemory 0");
    let done = running.finish().exits(0);
    assert!(
        !done.stderr.contains("starts over"),
        "nothing was lost: {done}"
    );
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_redis_that_asks_for_patience_at_the_start_is_asked_again() {
    let mut shop = shop("patience").await;
    shop.plan(
        &resource("url"),
        "defaults:\n  retry: { attempts: 40, base: 50ms, cap: 200ms }\n",
    );
    // Loading 3,000 keys takes it about three seconds, in which it answers and refuses.
    let mut fill = redis::cmd("DEBUG");
    fill.arg("POPULATE").arg(3_000).arg("filler").arg(1_024);
    let _answer: redis::Value = shop.redis.ask(9, &fill);
    shop.redis.run("CONFIG SET key-load-delay 1000");
    shop.redis
        .run("CONFIG SET loading-process-events-interval-bytes 1024");
    let client = redis::Client::open(shop.redis.url(9)).expect("a valid URL");
    let loads = thread::spawn(move || {
        let mut connection = client.get_connection().expect("redis-server answers");
        redis::cmd("DEBUG").arg("RELOAD").exec(&mut connection)
    });
    let client = redis::Client::open(shop.redis.url(0)).expect("a valid URL");
    wait_until("redis loads", || {
        let asked = client
            .get_connection()
            .and_then(|mut connection| redis::cmd("DBSIZE").exec(&mut connection));
        asked.is_err_and(|error| error.to_string().contains("loading"))
    });
    let mut running = shop.start(&format!("run {PLAN}"));
    let said = running.says("asked again in");
    assert!(said.contains("loading"), "{said}");
    running.finish().exits(0);
    loads.join().expect("no panic").expect("it loaded");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_redis_that_stays_full_blocks_and_the_next_run_goes_on() {
    let mut shop = shop("stays_full").await;
    shop.plan(
        &resource("url"),
        "defaults:\n  chunk: { rows: 100 }\n  retry: { attempts: 3, base: 5ms, cap: 20ms, within: 500ms }\n",
    );
    let running = held_at(&shop, 5_000);
    shop.redis.run("CONFIG SET maxmemory 1");
    running.go_on();
    let blocked = running.finish().exits(5);
    assert!(
        blocked
            .stderr
            .contains("cause: `url` is blocked: gave up after 5"),
        "{blocked}"
    );
    assert!(
        blocked.stderr.contains("used memory is above maxmemory"),
        "{blocked}"
    );
    // The journal may lag behind the target, never lead: what was refused is not recorded as stored.
    let stored = shop.redis_content();
    let stored = stored.keys().filter(|key| key.starts_with(b"kv:")).count();
    let journaled = shop.status()["rows"].as_u64().expect("rows");
    assert!(
        journaled <= stored as u64,
        "{journaled} rows are journaled, {stored} are stored"
    );

    shop.redis.run("CONFIG SET maxmemory 0");
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(done.stderr.contains("goes on (attempt 2) after"), "{done}");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_redis_that_may_drop_keys_is_refused_unless_the_plan_allows_it() {
    let redis = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let mut shop = shop_with("evict", redis).await;
    let refused = shop.rekindle(&format!("run {PLAN}")).exits(3);
    assert!(
        refused.stderr.contains("maxmemory-policy allkeys-lru"),
        "{refused}"
    );
    assert!(refused.stderr.contains("allow_eviction: true"), "{refused}");
    assert_eq!(shop.key_count(), 0);
    assert!(!shop.path("state").exists());

    let plan = std::fs::read_to_string(shop.path(PLAN)).expect("the plan");
    shop.write_plan(&plan.replace("prefix: \"kv:\"", "prefix: \"kv:\", allow_eviction: true"));
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
}
