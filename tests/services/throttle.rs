//! What a plan's `throttle` asks for.

use crate::{
    mariadb_server::MariaDbServer,
    redis_server::RedisServer,
    shop::{PLAN, Shop, resource, wait_until},
};

const DEFAULTS: &str = "defaults:\n  chunk: { rows: 100 }\n";

async fn shop(name: &str, rows: u64, throttle: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, rows).await;
    let throttle = format!("    throttle: {{ {throttle} }}\n");
    shop.plan(&format!("{}{throttle}", resource("url")), DEFAULTS);
    shop
}

#[tokio::test]
async fn rows_per_second_is_the_rate_over_all_partitions() {
    const ROWS: u64 = 18_000;
    const RATE: f64 = 3_000.0;
    let mut shop = shop("rate", ROWS, "rows_per_second: 3000").await;
    let done = shop.rekindle(&format!("run {PLAN} --json")).exits(0);
    let events = done.json();
    let ended = events.last().expect("an end");
    let seconds = ended["elapsed_ms"].as_f64().expect("a time") / 1000.0;
    let rate = ROWS as f64 / seconds;
    println!("{rate:.0} rows/s where {RATE} were allowed");
    assert!((0.85..=1.15).contains(&(rate / RATE)), "{rate} rows/s");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_redis_that_fills_up_holds_the_resource_back_until_there_is_room() {
    let mut shop = shop(
        "used",
        20_000,
        "rows_per_second: 4000, redis_used_percent: 50",
    )
    .await;
    let mut running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 500);
    // Far more than half of what it uses already, and room for what is in flight.
    shop.redis.run("CONFIG SET maxmemory 3mb");
    let said = running.says("url: held back: ");
    assert!(said.ends_with("`redis_used_percent` allows 50 %"), "{said}");
    let held = shop.status()["held"][0].clone();
    let mut shown = held;
    wait_until("status says so", || {
        shown = shop.status()["held"][0].clone();
        shown["resource"] == "url"
    });
    shop.redis.run("CONFIG SET maxmemory 0");
    running.says("url: goes on");
    running.finish().exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_replica_that_does_not_follow_holds_the_resource_back() {
    let mut shop = shop("lag", 12_000, "rows_per_second: 2000, replica_lag: 5s").await;
    // A server that is nobody's replica holds nothing back; one that is told of a primary and does not follow does.
    let mut running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 500);
    shop.database
        .execute("CHANGE MASTER 'rk_lag' TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_USER='nobody'")
        .await;
    let said = running.says("url: held back: ");
    shop.database.execute("RESET SLAVE 'rk_lag' ALL").await;
    assert!(said.contains("does not follow its primary"), "{said}");
    running.says("url: goes on");
    running.finish().exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_replica_that_lags_holds_the_resource_back_until_it_has_caught_up() {
    let [primary, replica] =
        MariaDbServer::two([&["--server-id=1", "--log-bin=bin"], &["--server-id=2"]]);
    let follow = format!(
        "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='root', MASTER_USE_GTID=slave_pos; \
         START SLAVE",
        primary.port()
    );
    replica.execute(&follow).await;
    primary
        .execute(
            "CREATE DATABASE shop; USE shop; CREATE TABLE later (id INT PRIMARY KEY); \
             CREATE TABLE url (id BIGINT PRIMARY KEY, fk INT, `key` VARBINARY(255), data LONGBLOB); \
             INSERT INTO url SELECT seq, seq, CONCAT('url:', seq), MD5(seq) FROM seq_1_to_16000",
        )
        .await;
    let begun = std::time::Instant::now();
    while replica.number("SELECT COUNT(*) FROM shop.url").await != Some(16_000) {
        assert!(begun.elapsed().as_secs() < 60, "the replica never follows");
    }
    let shop = Shop::of(replica, RedisServer::start());
    let throttle = "    throttle: { rows_per_second: 2000, replica_lag: 1s }\n";
    let keys = "    keys: \"url:\"\n";
    shop.plan(&format!("{}{throttle}{keys}", resource("url")), DEFAULTS);
    let mut running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 500);
    // It takes the primary's changes, and carries them out an hour later.
    let delay =
        |seconds: u32| format!("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY={seconds}; START SLAVE");
    shop.database.execute(&delay(3600)).await;
    primary.execute("INSERT INTO shop.later VALUES (1)").await;
    let said = running.says("url: held back: ");
    assert!(
        said.contains("the replica that is read is ")
            && said.contains(" behind, `replica_lag` allows 1"),
        "{said}"
    );
    shop.database.execute(&delay(0)).await;
    running.says("url: goes on");
    running.finish().exits(0);
    assert_eq!(shop.key_count(), 16_000);
    // A row that it does not have yet may be published already.
    shop.redis.run("SET kv:url:16001 new");
    let verify = format!("verify {PLAN} --level presence");
    let refused = shop.rekindle(&format!("{verify} --prune --yes")).exits(3);
    assert!(refused.line("error:").contains("is a replica"), "{refused}");
    assert_eq!(shop.key_count(), 16_001);
    shop.rekindle(&format!("{verify} --orphans")).exits(7);
}
