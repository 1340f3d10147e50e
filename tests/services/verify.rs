//! `verify` finds every difference there is, mends nothing else, and is clean then.

use serde_json::{Value, json};

use crate::{
    redis_server::RedisServer,
    search_server::SearchServer,
    shop::{Finished, PLAN, Shop, resource},
};

/// A plan of three targets: values as they are, values packed by gzip, documents.
fn three_targets(url: &str) -> String {
    let of = |name: &str, to: &str, more: &str| {
        format!(
            "  - name: {name}\n    from: {{ table: {name}, cursor: [id], key: key, value: data }}\n    to: {to}\n{more}"
        )
    };
    format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
         storage: {{ redis: {{ url: \"${{REDIS_URL}}\", prefix: \"kv:\" }} }}\n  \
         packed: {{ redis: {{ url: \"${{REDIS_URL}}\", prefix: \"gz:\", compress: gzip }} }}\n  \
         search: {{ elasticsearch: {{ url: \"{url}\", index: \"t_{{type}}\" }} }}\nresources:\n{}{}{}",
        of("url", "storage", ""),
        of("price", "packed", ""),
        of("page", "search", "    type: page\n"),
    )
}

/// Returns the report of a comparison that ends with `code`.
#[track_caller]
pub fn report(finished: Finished, code: i32) -> Value {
    finished.exits(code).json().remove(0)
}

/// Returns the resource `name` of a report.
pub fn of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut all = report["resources"].as_array().into_iter().flatten();
    all.find(|one| one["resource"] == name)
        .unwrap_or(&Value::Null)
}

fn numbers(one: &Value) -> [u64; 3] {
    ["missing", "different", "repaired"].map(|name| one[name].as_u64().expect("a number"))
}

#[tokio::test]
async fn every_planted_difference_in_300_000_rows_is_found_and_mended() {
    let server = SearchServer::shared("elasticsearch");
    let mut shop = Shop::open("verify").await;
    for (table, last) in [("url", 220_000), ("price", 50_000), ("page", 30_000)] {
        shop.table(table).await;
        shop.rows(table, 1, last).await;
    }
    // Above 200 bytes, so that they are packed.
    shop.database
        .execute("UPDATE price SET data = CONCAT('{\"id\":', id, ',\"hash\":\"', REPEAT(MD5(id), 10), '\"}')")
        .await;
    server.create("t_page");
    shop.write_plan(&three_targets(&server.url()));
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let verify = format!("verify {PLAN} --json");
    let clean = report(shop.rekindle(&verify), 0);
    assert_eq!(clean["compared"], json!(300_000));
    assert_eq!(clean["missing"], json!(0));

    // One missing, one changed byte, one swapped pair, one packed value of before, one stale document.
    shop.redis.run("DEL kv:url:77777");
    shop.redis.run("SETRANGE kv:url:150001 3 X");
    let (one, other) = (
        shop.redis.get(b"kv:url:11"),
        shop.redis.get(b"kv:url:200011"),
    );
    for (key, value) in [("kv:url:11", other), ("kv:url:200011", one)] {
        let value = value.expect("a value");
        let () = shop.redis.ask(0, redis::cmd("SET").arg(key).arg(value));
    }
    let old = shop.redis.get(b"gz:price:2").expect("a packed value");
    assert_eq!(old[..2], [0x1f, 0x8b], "gzip");
    let () = shop
        .redis
        .ask(0, redis::cmd("SET").arg("gz:price:49999").arg(old));
    server.must(
        "PUT",
        "/t_page/_doc/page:12345",
        &json!({ "id": 12345, "hash": "of yesterday" }),
    );
    server.must("DELETE", "/t_page/_doc/page:30000", &Value::Null);

    // Whoever does not look finds nothing: this test would pass by luck.
    let mut blind = shop.command(&verify);
    blind.env("RK_MUTANT", "compare_off");
    let blind = crate::shop::Running::start(blind).finish();
    assert_eq!(report(blind, 0)["different"], json!(0));

    let there = report(shop.rekindle(&format!("{verify} --level presence")), 7);
    assert_eq!(
        [&there["missing"], &there["different"]],
        [&json!(2), &json!(0)]
    );

    let found = report(shop.rekindle(&verify), 7);
    assert_eq!(numbers(of(&found, "url")), [1, 3, 0]);
    assert_eq!(of(&found, "url")["missing_keys"], json!(["kv:url:77777"]));
    assert_eq!(
        of(&found, "url")["different_keys"],
        json!(["kv:url:11", "kv:url:150001", "kv:url:200011"])
    );
    assert_eq!(
        of(&found, "price")["different_keys"],
        json!(["gz:price:49999"])
    );
    assert_eq!(numbers(of(&found, "page")), [1, 1, 0]);

    let shown = shop.rekindle(&format!("verify {PLAN}")).exits(7);
    assert!(
        shown.stdout.contains("url: missing: kv:url:77777"),
        "{shown}"
    );
    assert!(
        shown.stderr.contains(&format!("verify {PLAN} --repair")),
        "{shown}"
    );

    let mended = report(shop.rekindle(&format!("{verify} --repair")), 0);
    assert_eq!(numbers(of(&mended, "url")), [1, 3, 4]);
    assert_eq!(mended["repaired"], json!(7));
    let clean = report(shop.rekindle(&verify), 0);
    assert_eq!(clean["compared"], json!(300_000));
    assert_eq!(
        shop.redis.get(b"kv:url:150001").as_deref(),
        shop.wanted(&["url"])
            .await
            .get(&b"kv:url:150001"[..])
            .map(Vec::as_slice)
    );
    // Nothing of ours stays, and the history tells it.
    assert_eq!(shop.key_count(), 270_000);
    let id = shop.status()["run"].as_str().expect("a run").to_owned();
    let story = shop.rekindle(&format!("show {id} {PLAN}")).exits(0);
    assert!(story.stdout.contains("verify rewrote 7 rows"), "{story}");
}

#[tokio::test]
async fn an_emptied_redis_is_told_from_a_full_one_by_a_sample_and_refilled() {
    let mut shop = Shop::open("verify_sample").await;
    shop.table("url").await;
    shop.rows("url", 1, 60_000).await;
    shop.plan(&resource("url"), "");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let sample = format!("verify {PLAN} --level sample --json");
    let clean = report(shop.rekindle(&sample), 0);
    let compared = clean["compared"].as_u64().expect("a number");
    assert!((8_000..14_000).contains(&compared), "{clean}");
    let bound = of(&clean, "url")["sample"]["at_most_percent"].as_f64();
    assert!(bound.is_some_and(|bound| bound < 0.05), "{clean}");

    shop.redis.run("FLUSHALL");
    let empty = report(shop.rekindle(&sample), 7);
    assert_eq!(empty["missing"], empty["compared"]);
    let mended = report(shop.rekindle(&format!("verify {PLAN} --json --repair")), 0);
    assert_eq!(mended["repaired"], json!(60_000));
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_killed_comparison_goes_on_where_it_was() {
    let mut shop = Shop::open("verify_kill").await;
    shop.table("url").await;
    shop.rows("url", 1, 20_000).await;
    shop.plan(&resource("url"), crate::shop::DEFAULTS);
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.redis.run("DEL kv:url:3 kv:url:19999");
    let verify = format!("verify {PLAN}");
    let killed = shop
        .start_failing(&verify, "before_compare:100:kill")
        .finish();
    assert_eq!(killed.signal, Some(9), "{killed}");
    let mut held = shop.start_failing(&verify, "before_compare:20:sleep");
    held.says("goes on with the comparison that was interrupted");
    // Another one has to wait.
    shop.rekindle(&verify).exits(6);
    held.kill_group();
    let mut end = shop.start(&format!("{verify} --json"));
    end.says("goes on with the comparison that was interrupted");
    let found = report(end.finish(), 7);
    assert_eq!(found["compared"], json!(20_000), "no row twice");
    assert_eq!(
        of(&found, "url")["missing_keys"],
        json!(["kv:url:3", "kv:url:19999"])
    );
    assert!(!shop.path("state/shop.sqlite.verify").exists());
}

#[tokio::test]
async fn rewriting_waits_for_an_unfinished_run_and_spares_its_evidence() {
    let mut shop = Shop::with_redis("verify_run", RedisServer::start()).await;
    shop.table("url").await;
    shop.rows("url", 1, 3_000).await;
    shop.plan(&resource("url"), crate::shop::DEFAULTS);
    shop.half_done(5);
    let before = shop.redis_content();
    let refused = shop.rekindle(&format!("verify {PLAN} --repair")).exits(3);
    assert!(refused.stderr.contains("is unfinished"), "{refused}");
    assert_eq!(before, shop.redis_content());
    // Looking is free.
    let found = report(
        shop.rekindle(&format!("verify {PLAN} --json --level presence")),
        7,
    );
    assert!(found["missing"].as_u64() > Some(0), "{found}");
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(!done.stderr.contains("starts over"), "{done}");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn rows_that_cannot_be_restored_are_counted_and_nothing_is_said_to_be_equal_without_rows() {
    let mut shop = Shop::open("verify_null").await;
    shop.table("url").await;
    shop.plan(&resource("url"), "");
    let empty = shop.rekindle(&format!("verify {PLAN}")).exits(0);
    assert!(
        empty
            .stdout
            .contains("nothing was compared: the source has no rows"),
        "{empty}"
    );
    shop.rows("url", 1, 10).await;
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id = 4")
        .await;
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    let found = report(shop.rekindle(&format!("verify {PLAN} --json")), 4);
    assert_eq!(
        [&found["rows"], &found["compared"]],
        [&json!(10), &json!(9)]
    );
    // A key of another type is no value.
    shop.redis.run("DEL kv:url:7");
    shop.redis.run("LPUSH kv:url:7 x");
    let found = report(shop.rekindle(&format!("verify {PLAN} --json --repair")), 4);
    assert_eq!(numbers(of(&found, "url")), [0, 1, 1]);
}
