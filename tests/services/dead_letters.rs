//! `dead-letters`: filters, export, retry and drop; and a plan that would drown in them.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    postgres::PgDatabase,
    shop::{DEFAULTS as SMALL, PLAN, Shop, assert_same, resource},
};

const DEFAULTS: &str = "defaults:\n  chunk: { rows: 100 }\n";

/// A shop with a run that is done but for five rows: 17, 4711, 4712 without a value, 900 and 901 without a key.
async fn shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, 5_000).await;
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id IN (17, 4711, 4712); UPDATE url SET `key` = NULL WHERE id IN (900, 901)")
        .await;
    shop.plan(&resource("url"), DEFAULTS);
    let done = shop.rekindle(&format!("run {PLAN}")).exits(4);
    assert!(
        done.stderr
            .contains("then `rekindle dead-letters retry plans/shop.yaml`"),
        "{done}"
    );
    shop
}

/// Returns the cursors that `show` lists with these flags.
fn cursors(shop: &Shop, flags: &str) -> Vec<String> {
    let shown = shop
        .rekindle(&format!("dead-letters show {PLAN} --json {flags}"))
        .exits(0);
    let mut cursors: Vec<String> = shown
        .json()
        .iter()
        .map(|letter| letter["cursor"].as_str().expect("a cursor").to_owned())
        .collect();
    cursors.sort();
    cursors
}

#[tokio::test]
async fn rows_that_were_mended_are_restored_by_a_retry_and_the_others_stay_named() {
    let mut shop = shop("retry").await;
    let still = shop
        .rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(4);
    still.line("5 dead letters retried: 0 restored or gone from the source, 5 left");
    assert_eq!(cursors(&shop, ""), ["17", "4711", "4712", "900", "901"]);

    // One is mended, one is gone.
    shop.database
        .execute("UPDATE url SET data = 'mended' WHERE id = 17; DELETE FROM url WHERE id = 900")
        .await;
    let some = shop
        .rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(4);
    some.line("5 dead letters retried: 2 restored or gone from the source, 3 left");
    assert_eq!(cursors(&shop, ""), ["4711", "4712", "901"]);
    assert_eq!(
        shop.redis.get(b"kv:url:17").as_deref(),
        Some(&b"mended"[..])
    );

    shop.database
        .execute("UPDATE url SET data = 'late' WHERE id IN (4711, 4712)")
        .await;
    let one = shop
        .rekindle(&format!("dead-letters retry {PLAN} --key-prefix url:4711"))
        .exits(0);
    one.line("1 dead letter retried: 1 restored or gone from the source, 0 left");
    assert_eq!(cursors(&shop, ""), ["4712", "901"]);
    let read = shop
        .database
        .number("SELECT COUNT(*) FROM url WHERE data = 'late'")
        .await;
    assert_eq!(read, 2);
    shop.rekindle(&format!("dead-letters retry {PLAN} --kind row_broken"))
        .exits(4);
    shop.database
        .execute("UPDATE url SET `key` = 'url:901' WHERE id = 901")
        .await;
    shop.rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(0);
    shop.assert_redis_equals(&["url"]).await;
    let none = shop.rekindle(&format!("dead-letters list {PLAN}")).exits(0);
    assert_eq!(none.stdout, "no dead letters\n");
    // The journal still adds up, and a new run begins.
    shop.rekindle(&format!("run {PLAN}")).exits(0);
}

#[tokio::test]
async fn a_retry_that_is_killed_goes_on_and_settles_what_it_mended() {
    let mut shop = shop("retry_killed").await;
    shop.database
        .execute("UPDATE url SET data = 'mended' WHERE data IS NULL; UPDATE url SET `key` = CONCAT('url:', id) WHERE `key` IS NULL")
        .await;
    let held = shop.start_failing(
        &format!("dead-letters retry {PLAN}"),
        "before_forget:1:sleep",
    );
    crate::shop::wait_until("the retry is finishing", || {
        shop.status()["state"] == "finishing"
    });
    held.kill_group();
    assert_eq!(cursors(&shop, "").len(), 5, "nothing is settled yet");
    shop.rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(0);
    assert!(cursors(&shop, "").is_empty());
    shop.assert_redis_equals(&["url"]).await;
}

/// A resource whose cursor has two columns, and whose publisher mends rows of even entities.
const OF_TWO: &str = "  - name: page
    from: { table: page, cursor: [store, id], key: key, value: data, entity: fk }
    to: storage
";

const MENDING: &str = "    fallback: { ids: { table: entity, column: id }, by: { sql: { url: \"${DATABASE_URL}\", statement: \"UPDATE page SET data = 'mended' WHERE fk % 2 = 0 AND fk IN ({ids})\" } } }
";

#[tokio::test]
async fn rows_of_a_cursor_of_two_columns_are_retried_and_mended_by_their_places() {
    let mut shop = Shop::open("two_columns").await;
    shop.database
        .execute(
            "CREATE TABLE page (store VARCHAR(5), id INT, fk INT, `key` VARCHAR(50), data TEXT, PRIMARY KEY (store, id)); \
             INSERT INTO page SELECT IF(seq % 2, 'DE', 'AT'), seq, seq, CONCAT('page:', seq), MD5(seq) FROM seq_1_to_4000; \
             UPDATE page SET data = NULL WHERE id IN (7, 8, 3999); \
             CREATE TABLE entity (id INT PRIMARY KEY); INSERT INTO entity SELECT id FROM page",
        )
        .await;
    shop.plan(OF_TWO, SMALL);
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    shop.database
        .execute("UPDATE page SET data = 'late' WHERE id = 7")
        .await;
    let one = shop
        .rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(4);
    one.line("3 dead letters retried: 1 restored or gone from the source, 2 left");
    assert_eq!(shop.redis.get(b"kv:page:7"), Some(b"late".to_vec()));
    shop.database
        .execute("UPDATE page SET data = NULL WHERE id = 7")
        .await;
    shop.plan(&format!("{OF_TWO}{MENDING}"), SMALL);
    let mended = shop.rekindle(&format!("run {PLAN}")).exits(4);
    assert!(
        mended
            .line("broken rows go to its publisher")
            .contains("3 of its rows are broken"),
        "{mended}"
    );
    assert_eq!(cursors(&shop, ""), ["('DE', 3999)", "('DE', 7)"]);
    assert_eq!(shop.redis.get(b"kv:page:8"), Some(b"mended".to_vec()));
}

#[tokio::test]
async fn rows_of_a_cursor_of_two_columns_in_postgres_are_retried_by_their_places() {
    let mut shop = Shop::<PgDatabase>::open_postgres("two_columns").await;
    shop.database
        .execute(
            "CREATE TABLE page (store TEXT, id INT, fk INT, key TEXT, data TEXT, PRIMARY KEY (store, id)); \
             INSERT INTO page SELECT CASE id % 2 WHEN 1 THEN 'DE' ELSE 'AT' END, id, id, 'page:' || id, md5(id::text) \
             FROM generate_series(1, 4000) id; UPDATE page SET data = NULL WHERE id IN (7, 8)",
        )
        .await;
    shop.plan(OF_TWO, SMALL);
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    shop.database
        .execute("UPDATE page SET data = 'late' WHERE data IS NULL")
        .await;
    let both = shop
        .rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(0);
    both.line("2 dead letters retried: 2 restored or gone from the source, 0 left");
    assert_same(&shop.wanted(&["page"], "kv:").await, &shop.redis_content());
}

#[tokio::test]
async fn rows_of_a_cursor_of_two_columns_in_postgres_are_mended_by_their_places_and_their_entities()
{
    let mut shop = Shop::<PgDatabase>::open_postgres("two_mended").await;
    shop.database
        .execute(
            "CREATE TABLE page (store TEXT, id INT, fk INT, key TEXT, data TEXT, PRIMARY KEY (store, id)); \
             CREATE TABLE entity (id INT PRIMARY KEY); \
             INSERT INTO page SELECT CASE id % 2 WHEN 1 THEN 'DE' ELSE 'AT' END, id, id, 'page:' || id, md5(id::text) \
             FROM generate_series(1, 4000) id; INSERT INTO entity SELECT id FROM page; \
             UPDATE page SET data = NULL WHERE id IN (7, 8, 3999)",
        )
        .await;
    // One row is mended where it is, one gets another key, one stays broken.
    let mending = "UPDATE page SET data = 'mended' WHERE fk = 7 AND fk IN ({ids}); \
                   UPDATE page SET data = 'moved', store = 'AA', id = 9000 WHERE fk = 8 AND fk IN ({ids})";
    shop.plan(
        &format!(
            "{OF_TWO}    fallback: {{ ids: {{ table: entity, column: id }}, by: {{ sql: {{ url: \"${{DATABASE_URL}}\", \
             statement: \"{mending}\" }} }} }}\n"
        ),
        SMALL,
    );
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    assert_eq!(shop.redis.get(b"kv:page:7"), Some(b"mended".to_vec()));
    assert_eq!(shop.redis.get(b"kv:page:8"), Some(b"moved".to_vec()));
    let shown = shop
        .rekindle(&format!("dead-letters show {PLAN} --json"))
        .exits(0)
        .json();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(
        (&shown[0]["cursor"], &shown[0]["entity"]),
        (&"('DE', 3999)".into(), &"3999".into())
    );
    // A row that got another key in the meantime is found by a retry as well.
    shop.database
        .execute("UPDATE page SET data = 'late', id = 9001 WHERE fk = 3999")
        .await;
    shop.rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(0);
    assert_same(&shop.wanted(&["page"], "kv:").await, &shop.redis_content());
}

#[tokio::test]
async fn rows_are_let_go_by_a_person_only() {
    let shop = shop("drop").await;
    let asked = shop
        .rekindle(&format!("dead-letters drop {PLAN} --key-prefix url:47"))
        .exits(2);
    assert!(
        asked.stderr.contains("2 dead letters would be let go"),
        "{asked}"
    );
    assert_eq!(cursors(&shop, "").len(), 5);
    let dropped = shop
        .rekindle(&format!(
            "dead-letters drop {PLAN} --key-prefix url:47 --yes"
        ))
        .exits(0);
    assert_eq!(
        dropped.stdout,
        "2 dead letters dropped: what the targets hold of those rows stays as it is, missing or old, until a run reads the \
         resource anew\n"
    );
    assert_eq!(cursors(&shop, ""), ["17", "900", "901"]);
    let status = shop.status();
    assert_eq!(status["dead_letters"], 5, "{status}");
    assert_eq!(status["dead_letters_left"], 3, "{status}");

    let file = shop.path("letters.ndjson");
    shop.rekindle(&format!(
        "dead-letters show {PLAN} --export {}",
        file.display()
    ))
    .exits(0);
    let text = fs::read_to_string(&file).expect("the file");
    assert_eq!(text.lines().count(), 3);
    for line in text.lines() {
        let letter: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(letter["kind"], "row_broken");
    }
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    shop.rekindle(&format!(
        "dead-letters show {PLAN} --export {}",
        file.display()
    ))
    .exits(2);

    shop.rekindle(&format!("dead-letters drop {PLAN} --yes -r url"))
        .exits(0);
    let retried = shop
        .rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(0);
    assert_eq!(retried.stdout, "no dead letters\n");
}

#[tokio::test]
async fn a_wrong_value_column_blocks_after_the_limit() {
    let mut shop = Shop::open("drown").await;
    shop.table("url").await;
    shop.database
        .execute("INSERT INTO url SELECT seq, 0, CONCAT('url:', seq), NULL FROM seq_1_to_300000")
        .await;
    shop.plan(&resource("url"), "");
    let blocked = shop.rekindle(&format!("run {PLAN}")).exits(5);
    assert!(
        blocked.stderr.contains("1 % of `dead_letters.percent`"),
        "{blocked}"
    );
    let left = shop.status()["dead_letters_left"]
        .as_u64()
        .expect("a number");
    println!("{left} dead letters of 300,000 rows");
    // A partition that has more than the limit by itself waits for its block: two chunks of each.
    assert!((1_000..=4_000).contains(&left), "{left}");
    let content = shop.redis_content();
    let rows = content.keys().filter(|key| key.starts_with(b"kv:")).count();
    assert_eq!(rows, 0);
}
