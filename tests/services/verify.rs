//! `verify` finds every difference there is, mends nothing else, and is clean then.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};

use crate::{
    redis_server::RedisServer,
    search_server::SearchServer,
    shop::{Finished, PLAN, Shop, assert_same, resource, told},
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
        of("url", "storage", "    keys: \"url:\"\n"),
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

/// Returns keys in their order: a report has them in the order in which its parts came upon them.
fn sorted(keys: &Value) -> Vec<&str> {
    let keys = keys.as_array().expect("a list of keys").iter();
    let mut keys: Vec<&str> = keys.map(|key| key.as_str().expect("a key")).collect();
    keys.sort_unstable();
    keys
}

/// Plants one missing key, one extra, one changed byte, one swapped pair, one packed value of before, one stale document and
/// one that is gone.
fn plant(shop: &Shop, server: &SearchServer) {
    shop.redis.run("DEL kv:url:77777");
    shop.redis.run("SET kv:url:0 extra");
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
}

#[tokio::test]
async fn d7_every_planted_difference_in_300_000_rows_is_found_and_mended() {
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

    plant(&shop, &server);

    // Whoever does not look finds nothing: this test would pass by luck.
    let mut blind = shop.command(&verify);
    blind.env("RK_MUTANT", "compare_off");
    let blind = crate::shop::Running::start(blind).finish();
    let blind = report(blind, 0);
    assert_eq!(blind["different"], json!(0));
    told(&format!("nobody looks: {}", blind["verdict"]));

    let there = report(shop.rekindle(&format!("{verify} --level presence")), 7);
    assert_eq!(
        [&there["missing"], &there["different"]],
        [&json!(2), &json!(0)]
    );

    let found = report(shop.rekindle(&format!("{verify} --orphans")), 7);
    for name in ["url", "price", "page"] {
        let one = of(&found, name);
        told(&format!(
            "{name}: missing {}, different {}, extra {}",
            one["missing_keys"], one["different_keys"], one["extra_keys"]
        ));
    }
    assert_eq!(numbers(of(&found, "url")), [1, 3, 0]);
    assert_eq!(of(&found, "url")["extra_keys"], json!(["kv:url:0"]));
    assert_eq!(of(&found, "url")["missing_keys"], json!(["kv:url:77777"]));
    assert_eq!(
        sorted(&of(&found, "url")["different_keys"]),
        ["kv:url:11", "kv:url:150001", "kv:url:200011"]
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

    let mended = report(
        shop.rekindle(&format!("{verify} --repair --prune --yes")),
        0,
    );
    told(&format!(
        "mended: {}, {} removed",
        mended["verdict"], mended["pruned"]
    ));
    assert_eq!(numbers(of(&mended, "url")), [1, 3, 4]);
    assert_eq!(
        [&mended["repaired"], &mended["pruned"]],
        [&json!(7), &json!(1)]
    );
    let clean = report(shop.rekindle(&format!("{verify} --orphans")), 0);
    told(&format!("again: {}", clean["verdict"]));
    assert_eq!(
        [&clean["compared"], &clean["extra"]],
        [&json!(300_000), &json!(0)]
    );
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
    assert!(story.stdout.contains("verify rewrote 7 keys"), "{story}");
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
        sorted(&of(&found, "url")["missing_keys"]),
        ["kv:url:19999", "kv:url:3"]
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
    // One that broke since: nobody but a comparison names it, and its old value is in the target still.
    shop.database
        .execute(
            "UPDATE url SET `key` = NULL WHERE id = 9; UPDATE url SET data = NULL WHERE id = 8",
        )
        .await;
    let found = report(shop.rekindle(&format!("verify {PLAN} --json")), 4);
    assert_eq!(
        [&found["rows"], &found["compared"]],
        [&json!(10), &json!(7)]
    );
    let url = of(&found, "url");
    assert_eq!(
        url["broken"],
        json!([{ "reason": "the value is NULL", "rows": 2 }, { "reason": "the key is NULL", "rows": 1 }])
    );
    assert_eq!(
        sorted(&url["broken_keys"]),
        [
            "kv:url:4: the value is NULL",
            "kv:url:8: the value is NULL",
            "the row at 9: the key is NULL"
        ]
    );
    let shown = shop.rekindle(&format!("verify {PLAN}")).exits(4);
    assert!(
        shown
            .stdout
            .contains("url: broken in the source: 2 rows: the value is NULL")
            && shown.stdout.contains("3 rows broken in the source"),
        "{shown}"
    );
    // A key of another type is no value.
    shop.redis.run("DEL kv:url:7");
    shop.redis.run("LPUSH kv:url:7 x");
    let found = report(shop.rekindle(&format!("verify {PLAN} --json --repair")), 4);
    assert_eq!(numbers(of(&found, "url")), [0, 1, 1]);
}

/// A resource whose keys all begin as its table's name says.
fn listed(name: &str) -> String {
    format!("{}    keys: \"{name}:\"\n", resource(name))
}

#[tokio::test]
async fn keys_of_other_columns_are_owned_wherever_they_begin() {
    let mut shop = Shop::open("aliased").await;
    for table in ["store", "page"] {
        shop.table(table).await;
        shop.rows(table, 1, 100).await;
    }
    shop.database
        .execute("ALTER TABLE page ADD more TEXT NULL")
        .await;
    shop.database
        .execute("UPDATE page SET more = '{\"store:alias\":{\"id\":7}}' WHERE id = 7")
        .await;
    let page = resource("page").replace("value: data", "value: data, aliases: more");
    shop.plan(&format!("{}{page}", listed("store")), "");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert_eq!(
        shop.redis.get(b"kv:store:alias").as_deref(),
        Some(&b"{\"id\":7}"[..])
    );
    let before = shop.redis_content();
    // Two keys of one row, each told and mended.
    shop.redis.run("DEL kv:page:7");
    shop.redis.run("SET kv:store:alias other");
    let found = report(shop.rekindle(&format!("verify {PLAN} --json")), 7);
    assert_eq!(numbers(of(&found, "page")), [1, 1, 0]);
    assert_eq!(of(&found, "page")["missing_keys"], json!(["kv:page:7"]));
    assert_eq!(
        of(&found, "page")["different_keys"],
        json!(["kv:store:alias"])
    );
    report(shop.rekindle(&format!("verify {PLAN} --repair --json")), 0);
    assert_same(&before, &shop.redis_content());
    // The alias begins as keys of another resource do, and stays; what has no row goes.
    shop.redis.run("SET kv:store:other x");
    let verify = format!("verify {PLAN} --orphans --prune --yes --json");
    let found = report(shop.rekindle(&verify), 0);
    assert_eq!(of(&found, "store")["extra_keys"], json!(["kv:store:other"]));
    assert_same(&before, &shop.redis_content());
    // A row that does not tell its aliases may own any key.
    shop.database
        .execute("UPDATE page SET more = '{\"store:' WHERE id = 7")
        .await;
    shop.redis.run("SET kv:store:other x");
    let found = report(shop.rekindle(&format!("{verify} --level presence")), 5);
    assert_eq!(of(&found, "store")["extra"], Value::Null);
    let why = of(&found, "store")["extra_unknown"].as_str();
    assert!(
        why.is_some_and(
            |why| why.starts_with("which further keys 1 row of `page` may own is not known")
        ),
        "{why:?}"
    );
    shop.redis.run("DEL kv:store:other");
    assert_same(&before, &shop.redis_content());
}

#[tokio::test]
async fn s8_orphans_are_found_and_removed_and_neighbours_lose_nothing() {
    let mut shop = Shop::open("orphans").await;
    for table in ["store", "store_list", "other"] {
        shop.table(table).await;
        shop.rows(table, 1, 3_000).await;
    }
    // Of `other` nobody said how its keys begin: what its rows own is safe all the same.
    shop.database
        .execute("UPDATE other SET `key` = CONCAT('store:other:', id)")
        .await;
    let resources = [listed("store"), listed("store_list"), resource("other")].concat();
    shop.plan(&resources, "");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let mut kept = shop.redis_content();
    shop.redis
        .run("MSET kv:store:0 x kv:store:other:0 x kv:store_list:0 x");
    // Not ours: another prefix, another beginning, keys of rows that a condition or a value keeps out.
    shop.redis
        .run("MSET store:7 x kv:stores:7 x kv:other:7 x kv:storehouse x");
    for key in ["store:7", "kv:stores:7", "kv:other:7", "kv:storehouse"] {
        kept.insert(key.into(), b"x".to_vec());
    }
    shop.database
        .execute("UPDATE store SET data = NULL WHERE id = 5; DELETE FROM store_list WHERE id = 6")
        .await;
    kept.remove(&b"kv:store_list:6"[..]);

    let verify = format!("verify {PLAN} --level presence --json");
    let found = report(shop.rekindle(&format!("{verify} --orphans")), 7);
    assert_eq!(
        of(&found, "store")["extra_keys"],
        json!(["kv:store:0", "kv:store:other:0"])
    );
    assert_eq!(
        of(&found, "store_list")["extra_keys"],
        json!(["kv:store_list:0", "kv:store_list:6"])
    );
    assert_eq!(of(&found, "other")["extra"], Value::Null);
    assert!(
        of(&found, "other")["extra_unknown"]
            .as_str()
            .is_some_and(|why| why.contains("`keys`")),
        "{found}"
    );
    // Nobody says yes.
    let asked = shop.rekindle(&format!("{verify} --prune")).exits(2);
    assert!(asked.stdout.contains("nobody said yes"), "{asked}");
    assert_eq!(shop.key_count(), kept.len() as u64 + 4);
    // A source that lost its rows says nothing about the target.
    shop.database
        .execute("RENAME TABLE store_list TO store_list_away; CREATE TABLE store_list LIKE store_list_away")
        .await;
    let pruned = report(shop.rekindle(&format!("{verify} --prune --yes")), 4);
    assert_eq!(pruned["pruned"], json!(2));
    assert!(
        of(&pruned, "store_list")["extra_unknown"]
            .as_str()
            .is_some_and(|why| why.contains("no row")),
        "{pruned}"
    );
    shop.database
        .execute("DROP TABLE store_list; RENAME TABLE store_list_away TO store_list")
        .await;
    let pruned = report(shop.rekindle(&format!("{verify} --prune --yes")), 4);
    assert_eq!(pruned["pruned"], json!(2));
    crate::shop::assert_same(&kept, &shop.redis_content());
    let clean = report(shop.rekindle(&format!("{verify} --orphans")), 4);
    assert_eq!(clean["extra"], json!(0));
    let id = shop.status()["run"].as_str().expect("a run").to_owned();
    let story = shop.rekindle(&format!("show {id} {PLAN}")).exits(0);
    assert!(
        story.stdout.contains("verify removed 2 names of `store`"),
        "{story}"
    );
}

/// Prunes 20,000 orphans while a shop inserts rows of some of those keys and publishes each when it is committed. Returns
/// how many of 1,000 such rows lost their key.
async fn lost_while_pruned(name: &str, mutant: &str) -> usize {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, 25_000).await;
    shop.plan(&listed("url"), "");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.database
        .execute("CREATE TABLE away AS SELECT * FROM url WHERE id > 5000; DELETE FROM url WHERE id > 5000")
        .await;
    let mut command = shop.command(&format!("verify {PLAN} --level presence --prune --yes"));
    command.env("RK_MUTANT", mutant);
    let mut pruning = crate::shop::Running::start(command);
    pruning.says("removing 20,000 names");
    pruning.pause();
    // The last in the order of keys: most of the others are still to come.
    for id in 9_001..=10_000 {
        if id == 9_500 {
            pruning.go_on();
        }
        shop.database
            .execute(format!(
                "INSERT INTO url SELECT * FROM away WHERE id = {id}"
            ))
            .await;
        shop.redis.run(&format!("SET kv:url:{id} published"));
    }
    // Names that got a row or a writer meanwhile are none that no row owns.
    pruning.finish().exits(0);
    let content = shop.redis_content();
    assert_eq!(content.len(), 6_000 - lost(&content), "orphans are left");
    lost(&content)
}

fn lost(content: &std::collections::HashMap<Vec<u8>, Vec<u8>>) -> usize {
    (9_001..=10_000)
        .filter(|id| !content.contains_key(format!("kv:url:{id}").as_bytes()))
        .count()
}

#[tokio::test]
async fn rows_inserted_while_orphans_are_removed_keep_their_keys() {
    let lost = lost_while_pruned("prune", "none").await;
    told(&format!(
        "of 1,000 rows inserted meanwhile {lost} lost their keys"
    ));
    assert_eq!(lost, 0);
    // Whoever does not look again removes them.
    let lost = lost_while_pruned("prune_blind", "prune_unchecked").await;
    told(&format!("where nobody looks again, {lost}"));
    assert!(lost > 0);
}

#[tokio::test]
async fn documents_without_a_row_are_removed_from_every_index() {
    for product in crate::search::BOTH {
        let server = SearchServer::shared(product);
        let mut shop = Shop::open("orphans_search").await;
        for table in ["page", "store"] {
            shop.table(table).await;
            shop.rows(table, 1, 2_500).await;
        }
        server.create("t_all");
        let entry = |name: &str| {
            format!(
                "  - name: {name}\n    from: {{ table: {name}, cursor: [id], key: key, value: data }}\n    \
                 keys: \"{name}:\"\n"
            )
        };
        shop.write_plan(&format!(
            "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
             search: {{ elasticsearch: {{ url: \"{}\", index: t_all }} }}\nresources:\n{}{}",
            server.url(),
            entry("page"),
            entry("store")
        ));
        shop.rekindle(&format!("run {PLAN}")).exits(0);
        shop.database
            .execute("DELETE FROM page WHERE id > 2000")
            .await;
        server.must("PUT", "/t_all/_doc/store_list:1", &json!({ "id": 1 }));
        let verify = format!("verify {PLAN} --json");
        let found = report(shop.rekindle(&format!("{verify} --orphans")), 7);
        let extra = ["page", "store"].map(|name| self::of(&found, name)["extra"].clone());
        assert_eq!(extra, [json!(500), json!(0)], "{product}");
        let pruned = report(shop.rekindle(&format!("{verify} --prune --yes")), 0);
        assert_eq!(pruned["pruned"], json!(500), "{product}");
        server.must("POST", "/t_all/_refresh", &Value::Null);
        let left = server.documents("t_all");
        assert_eq!(left.len(), 4_501, "{product}");
        assert!(left.contains_key("store_list:1"), "{product}");
    }
}

#[tokio::test]
async fn s7_what_changed_all_through_a_run_is_caught_up_with() {
    let mut shop = Shop::open("catch_up").await;
    shop.table("url").await;
    shop.rows("url", 101, 20_000).await;
    shop.plan(&listed("url"), crate::shop::DEFAULTS);
    let name = shop.database.name.clone();
    // A transaction that begins before the run and is committed after it, behind every cursor.
    let mut late = shop.database.another().await;
    for sql in [
        format!("USE {name}"),
        "START TRANSACTION".to_owned(),
        "INSERT INTO url VALUES (7, 7, 'url:7', 'late'), (8, 8, 'url:8', 'late')".to_owned(),
        "UPDATE url SET data = 'late' WHERE id = 150".to_owned(),
    ] {
        late.execute(AssertSqlSafe(sql)).await.expect("it obeys");
    }
    let mut running = shop.start(&format!("run {PLAN}"));
    // So that some of it happens behind a cursor.
    shop.wait_for_chunks(8);
    let mut changes = 0;
    for id in (200..20_000).step_by(60) {
        shop.database
            .execute(format!(
                "UPDATE url SET data = 'new' WHERE id = {id}; DELETE FROM url WHERE id = {id} + 1; \
                 INSERT INTO url VALUES ({id} + 100000, 1, 'url:{id}-new', 'inserted')"
            ))
            .await;
        changes += u64::from(running.is_at_work());
    }
    running.finish().exits(0);
    assert!(changes > 0, "the run was over before anything changed");
    late.execute("COMMIT").await.expect("it obeys");
    let caught = shop.rekindle(&format!("verify {PLAN} --json --repair --prune --yes"));
    let caught = report(caught, 0);
    told(&format!(
        "{changes} changes while the run was at work; then {}, {} removed",
        caught["verdict"], caught["pruned"]
    ));
    assert!(caught["missing"].as_u64() >= Some(2), "{caught}");
    assert!(caught["pruned"].as_u64() > Some(0), "{caught}");
    shop.assert_redis_equals(&["url"]).await;
    // The same for the second time, with nothing to do.
    let clean = report(shop.rekindle(&format!("verify {PLAN} --json --orphans")), 0);
    assert_eq!(clean["extra"], json!(0));
}

#[tokio::test]
async fn a_plan_has_its_targets_compared_before_a_run_is_done() {
    let mut shop = Shop::open("verify_in_run").await;
    shop.table("url").await;
    shop.rows("url", 1, 5_000).await;
    shop.plan(
        &resource("url"),
        "defaults: { verify: full, chunk: { rows: 100 } }\n",
    );
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(
        done.stdout.contains("no difference in 5,000 rows"),
        "{done}"
    );
    // Killed while it compares, it goes on with the same run.
    let run = format!("run {PLAN} --single-process");
    let killed = shop.start_failing(&run, "before_compare:20:kill").finish();
    assert_eq!(killed.signal, Some(9), "{killed}");
    shop.redis.run("SETRANGE kv:url:4000 3 X");
    let went_on = shop.rekindle(&format!("run {PLAN}")).exits(7);
    assert!(went_on.stderr.contains("goes on (attempt 2)"), "{went_on}");
    assert!(
        went_on.stdout.contains("url: different: kv:url:4000"),
        "{went_on}"
    );
    assert_eq!(shop.status()["state"], "done");
    let story = shop.status()["run"].as_str().expect("a run").to_owned();
    let story = shop.rekindle(&format!("show {story} {PLAN}")).exits(0);
    assert!(story.stdout.contains("0 missing, 1 different"), "{story}");
}

#[tokio::test]
async fn s8_a_run_catches_up_with_rows_that_changed_behind_it() {
    let mut shop = Shop::open("catch_up_run").await;
    shop.table("url").await;
    shop.rows("url", 11, 5_000).await;
    let resources = format!("{}    catch_up: {{}}\n", resource("url"));
    shop.plan(&resources, crate::shop::DEFAULTS);
    // Held when half of the rows are journaled, and killed: what changes before the next run does so behind its cursors.
    shop.half_done(10);
    shop.database
        .execute(
            "UPDATE url SET data = 'new' WHERE id < 50; UPDATE url SET data = 'new' WHERE id > 4990; \
             INSERT INTO url VALUES (1, 1, 'url:1', 'late'), (9000, 1, 'url:9000', 'late')",
        )
        .await;
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    let told = done.line("url: caught up:");
    assert!(told.contains("41 keys rewritten"), "{told}");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_difference_keeps_the_shop_from_being_brought_back() {
    let mut shop = Shop::open("step_gate").await;
    shop.table("url").await;
    shop.rows("url", 1, 200).await;
    let steps = "finish: [{ shell: { run: \"echo x >> back\", repeatable: true } }]\n";
    let defaults = format!("defaults: {{ verify: full, parallel: {{ partitions: 1 }} }}\n{steps}");
    shop.plan(&resource("url"), &defaults);
    // Between the last chunk and its comparison somebody else writes a key.
    let run = format!("run {PLAN} --single-process");
    let killed = shop.start_failing(&run, "before_compare:1:kill").finish();
    assert_eq!(killed.code, None, "{killed}");
    shop.redis.run("SET kv:url:7 another");
    let stopped = shop.rekindle(&format!("run {PLAN}")).exits(7);
    let said = &stopped.stderr;
    assert!(said.contains("no step of `finish` is begun"), "{stopped}");
    assert!(said.contains("0 rows missing, 1 different"), "{stopped}");
    assert!(!shop.path("plans/back").exists());
    shop.rekindle(&format!("verify {PLAN} --repair")).exits(0);
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    let back = std::fs::read_to_string(shop.path("plans/back"));
    assert_eq!(back.ok().as_deref(), Some("x\n"), "{stopped} {done}");
}
