//! Tables that no resource covers: found on every database, counted, and an error with `--strict`.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    postgres::PgDatabase,
    redis_server::RedisServer,
    shop::{DEFAULTS, Named, PLAN, Shop, resource},
};

/// What `--json` lists: tables that end as read models do or have `key` and `data`, nothing else.
fn wanted() -> Value {
    json!([
        { "table": "spy_card_search", "rows": 1 },
        { "table": "spy_card_storage", "rows": 3 },
        { "table": "wallet", "rows": 2 },
    ])
}

/// The tables, in SQL that all three databases know but for the quotes of `key`.
fn tables(quote: &str) -> String {
    let mut sql = format!(
        "CREATE TABLE url (id BIGINT NOT NULL PRIMARY KEY, fk INT, {quote}key{quote} VARCHAR(99), data TEXT);
         CREATE TABLE wallet (id BIGINT NOT NULL PRIMARY KEY, {quote}key{quote} VARCHAR(99), data TEXT);
         CREATE TABLE spy_card_storage (id BIGINT NOT NULL PRIMARY KEY, other INT);
         CREATE TABLE spy_card_search (id BIGINT NOT NULL PRIMARY KEY, other INT);
         CREATE TABLE onlykey (id BIGINT NOT NULL PRIMARY KEY, {quote}key{quote} INT);
         CREATE TABLE storage_of_data (id BIGINT NOT NULL PRIMARY KEY, data INT);
         CREATE TABLE myxstorage (id BIGINT NOT NULL PRIMARY KEY, data INT);
         CREATE VIEW seen_storage AS SELECT * FROM url;"
    );
    let with_key = format!("id, data, {quote}key{quote}");
    for (table, columns, rows) in [
        ("url", &*with_key, 4),
        ("wallet", &*with_key, 2),
        ("spy_card_storage", "id, other", 3),
        ("spy_card_search", "id, other", 1),
    ] {
        for row in 0..rows {
            let key = if columns == with_key { ", 'k'" } else { "" };
            sql += &format!("INSERT INTO {table} ({columns}) VALUES ({row}, '7'{key});");
        }
    }
    sql
}

fn plan<D: Named>(shop: &Shop<D>) {
    shop.plan(&resource("url"), DEFAULTS);
}

/// Asserts what the four ways to ask say.
fn assert_told<D: Named>(shop: &Shop<D>) {
    for command in [format!("validate {PLAN}"), format!("run {PLAN} --dry-run")] {
        let told = shop.rekindle(&format!("{command} --json")).exits(0);
        assert_eq!(told.json()[0]["uncovered"], wanted(), "{told}");
        let told = shop.rekindle(&command).exits(0);
        for line in [
            "  warning: no resource of the plan covers `spy_card_search` (about 1 row)",
            "  warning: no resource of the plan covers `spy_card_storage` (about 3 rows)",
            "  warning: no resource of the plan covers `wallet` (about 2 rows)",
        ] {
            assert!(told.stdout.lines().any(|one| one == line), "{told}");
        }
        let strict = shop.rekindle(&format!("{command} --strict")).exits(3);
        strict.line("cause: no resource of the plan covers `wallet` (about 2 rows)");
        strict.line("cause: 3 warnings count as errors with `--strict`");
        strict.line("safe:");
        strict.line("next:");
    }
    shop.rekindle(&format!("validate {PLAN} --offline --strict"))
        .exits(0);
}

/// Asserts that a plan with a resource for each table passes.
fn assert_silent<D: Named>(shop: &Shop<D>) {
    let resources: String = ["spy_card_storage", "spy_card_search"]
        .map(|table| {
            format!(
                "  - name: {table}\n    from: {{ table: {table}, cursor: [id], key: other, value: other }}\n    to: storage\n"
            )
        })
        .concat();
    let wallet = "  - name: wallet\n    from: { table: wallet, cursor: [id], key: key, value: data }\n    to: storage\n";
    shop.plan(&[&resource("url"), &*resources, wallet].concat(), DEFAULTS);
    for command in [
        format!("validate {PLAN} --strict"),
        format!("run {PLAN} --dry-run --strict"),
    ] {
        let told = shop.rekindle(&command).exits(0);
        assert!(!told.stdout.contains("warning"), "{told}");
    }
}

#[tokio::test]
async fn mariadb_tables_that_no_resource_covers_are_named_with_their_rows() {
    let mut shop = Shop::open("coverage").await;
    shop.database.reads_only().await;
    shop.database.execute(tables("`")).await;
    // The estimates of InnoDB lag behind unless they are asked for.
    shop.database
        .execute("ANALYZE TABLE url, wallet, spy_card_storage, spy_card_search")
        .await;
    plan(&shop);
    assert_told(&shop);
    assert_silent(&shop);
}

#[tokio::test]
async fn postgres_tables_that_no_resource_covers_are_named_with_their_rows() {
    let mut shop = Shop::of(PgDatabase::create("coverage").await, RedisServer::start());
    shop.database.reads_only().await;
    shop.database.execute(tables("\"")).await;
    shop.database.execute("ANALYZE").await;
    plan(&shop);
    assert_told(&shop);
    assert_silent(&shop);
    // A resource may name the schema, too; a table elsewhere is only known by it.
    let text = std::fs::read_to_string(shop.path(PLAN)).expect("the plan");
    shop.write_plan(&text.replace("table: wallet", "table: public.wallet"));
    shop.rekindle(&format!("validate {PLAN} --strict")).exits(0);
    shop.database
        .execute("CREATE SCHEMA apart; CREATE TABLE apart.card_storage (id INT)")
        .await;
    let told = shop.rekindle(&format!("validate {PLAN} --json")).exits(0);
    assert_eq!(
        told.json()[0]["uncovered"][0]["table"],
        "apart.card_storage"
    );
    let text = std::fs::read_to_string(shop.path(PLAN)).expect("the plan");
    shop.write_plan(&format!("{text}ignore_tables: [\"apart.*\"]\n"));
    shop.rekindle(&format!("validate {PLAN} --strict")).exits(0);
}

/// A SQLite file in place of a server.
struct File(String);

impl Named for File {
    fn url(&self) -> String {
        format!("sqlite:{}", self.0)
    }
}

#[tokio::test]
async fn sqlite_tables_that_no_resource_covers_are_named_with_their_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shop.db");
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch(&tables("\"")).expect("tables");
    let path = path.to_str().expect("a path of text").to_owned();
    let shop = Shop::of(File(path), RedisServer::start());
    plan(&shop);
    assert_told(&shop);
    assert_silent(&shop);
}
