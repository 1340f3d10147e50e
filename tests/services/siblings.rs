//! Rows that others share, where the target can be read: a table of two resources, a key of two rows. And entities that are
//! bytes.

use crate::shop::{PLAN, Shop};

const DEFAULTS: &str =
    "defaults: { chunk: { rows: 500 }, retry: { attempts: 3, base: 10ms, cap: 50ms } }\n";

fn sql(statement: &str) -> String {
    format!("{{ sql: {{ url: \"${{DATABASE_URL}}\", statement: \"{statement}\" }} }}")
}

#[tokio::test]
async fn rows_that_the_publisher_of_another_resource_wrote_are_compared_before_the_end() {
    let mut shop = Shop::open("sib").await;
    shop.table("url").await;
    shop.rows("url", 1, 600).await;
    // An even row and the odd one before it are one entity's.
    shop.database
        .execute(
            "UPDATE url SET fk = CEIL(id / 2); CREATE INDEX of_entity ON url (fk); \
             UPDATE url SET data = NULL WHERE id IN (8, 300); \
             CREATE TABLE entity (id INT NOT NULL PRIMARY KEY); INSERT INTO entity SELECT DISTINCT fk FROM url",
        )
        .await;
    let from =
        "from: { table: url, cursor: [id], key: key, value: data, entity: fk, where: \"id % 2 =";
    let by = sql("UPDATE url SET data = CONCAT('new ', id) WHERE fk IN ({ids})");
    shop.plan(
        &format!(
            "  - name: odd\n    {from} 1\" }}\n    to: storage\n\
             \x20 - name: even\n    after: [odd]\n    {from} 0\" }}\n    to: storage\n    \
             fallback: {{ trigger: url, ids: {{ table: entity, column: id }}, by: {by} }}\n    \
             drain: {{ settle: 1ms, within: 20s }}\n"
        ),
        DEFAULTS,
    );
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(
        done.stderr.contains("odd: caught up: 2 keys rewritten"),
        "{done}"
    );
    shop.assert_redis_equals(&["url"]).await;
    assert_eq!(shop.redis.get(b"kv:url:7"), Some(b"new 7".to_vec()));
}

#[tokio::test]
async fn a_run_that_compares_ends_as_a_comparison_by_itself_where_rows_share_a_key() {
    let mut shop = Shop::open("sib_key").await;
    shop.table("url").await;
    shop.rows("url", 1, 300).await;
    shop.database
        .execute(
            "ALTER TABLE url DROP INDEX IF EXISTS `key`; UPDATE url SET `key` = 'url:7' WHERE id = 290",
        )
        .await;
    shop.plan(
        "  - name: url\n    from: { table: url, cursor: [id], key: key, value: data }\n    to: storage\n    catch_up: {}\n",
        "defaults: { verify: full, chunk: { rows: 50 } }\n",
    );
    let why = "1 key written by several rows, of which only the last one can stand";
    let run = shop.rekindle(&format!("run {PLAN}"));
    let verify = shop.rekindle(&format!("verify {PLAN} --level full"));
    for ended in [run, verify] {
        let ended = ended.exits(4);
        assert!(ended.stderr.contains(why), "{ended}");
    }
}

#[tokio::test]
async fn rows_are_found_by_entities_that_are_bytes() {
    let mut shop = Shop::open("sib_bytes").await;
    shop.table("url").await;
    shop.rows("url", 1, 300).await;
    shop.database
        .execute(
            "ALTER TABLE url ADD COLUMN fk_url BINARY(16), ADD INDEX of_entity (fk_url); \
             UPDATE url SET fk_url = UNHEX(MD5(CEIL(id / 2))); UPDATE url SET data = NULL WHERE id IN (8, 150); \
             CREATE TABLE entity (id BINARY(16) NOT NULL PRIMARY KEY); INSERT INTO entity SELECT DISTINCT fk_url FROM url",
        )
        .await;
    let moving = "INSERT INTO url SELECT id + 1000, fk, `key`, CONCAT('new ', id), fk_url FROM url WHERE id < 1000 AND fk_url IN ({ids}); \
                  DELETE FROM url WHERE id < 1000 AND fk_url IN ({ids})";
    let plan = |by: &str| {
        format!(
            "  - name: url\n    from: {{ table: url, cursor: [id], key: key, value: data, entity: fk_url }}\n    to: storage\n{by}"
        )
    };
    let by = sql(moving);
    shop.plan(
        &plan(&format!(
            "    fallback: {{ trigger: url, ids: {{ table: entity, column: id }}, by: {by} }}\n    \
             drain: {{ settle: 1ms, within: 20s }}\n"
        )),
        DEFAULTS,
    );
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
    let moved = "SELECT COUNT(*) FROM url WHERE id > 1000";
    assert_eq!(shop.database.number(moved).await, 4);

    // What a retry finds again after somebody moved it.
    shop.plan(&plan(""), DEFAULTS);
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id = 20")
        .await;
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    shop.database
        .execute("UPDATE url SET id = id + 1000, data = 'moved' WHERE id = 20")
        .await;
    shop.rekindle(&format!("dead-letters retry {PLAN}"))
        .exits(0);
    shop.assert_redis_equals(&["url"]).await;

    // Floating-point numbers find nothing again, and that is said before the first row.
    shop.database
        .execute("ALTER TABLE url ADD COLUMN fk_float DOUBLE, ADD COLUMN fk_bit BIT(8)")
        .await;
    for column in ["fk_float", "fk_bit"] {
        shop.plan(
            &plan("").replace("entity: fk_url", &format!("entity: {column}")),
            DEFAULTS,
        );
        for command in ["validate", "run --new"] {
            let refused = shop.rekindle(&format!("{command} {PLAN}")).exits(3);
            let why = format!("`{column}` of table `url` at ");
            // A drawn problem is broken into lines.
            let said = refused.stderr.replace("\n  | ", " ");
            assert!(
                said.contains(&why) && said.contains("cannot be the entity"),
                "{refused}"
            );
        }
    }
}
