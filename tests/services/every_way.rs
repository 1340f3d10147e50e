//! The same 300,000 rows from each source into each target, each way killed five times: equal by a comparison from
//! outside.

use std::{collections::HashMap, fmt::Write as _, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    postgres::PgDatabase,
    redis_server::RedisServer,
    search_server::{Documents, SearchServer},
    shop::{Named, PLAN, Shop, assert_same, chunks_stored},
    support::Database,
};

/// First and last ids: the first 100 are missing, then 5,000 more; the rest lies around 2^31 and 2^62.
const ISLANDS: [(u64, u64); 4] = [
    (101, 100_100),
    (105_101, 230_100),
    ((1 << 31) - 25_000, (1 << 31) + 24_999),
    (1 << 62, (1 << 62) + 24_999),
];

const ROWS: u64 = 300_000;

/// The resources in their order, one for each target.
const WAYS: [&str; 4] = ["to_redis", "to_elasticsearch", "to_opensearch", "to_files"];

/// When the kills strike: when so many rows of a resource are stored.
const MOMENTS: [u64; 5] = [50_000, 100_000, 150_000, 200_000, 250_000];

/// A SQLite file.
struct SqliteFile {
    path: PathBuf,
    /// Removed with the shop.
    _folder: TempDir,
}

impl Named for SqliteFile {
    fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }
}

fn key(id: u64) -> String {
    format!("url:größe:鍵🛒:{id}")
}

fn value(id: u64) -> String {
    format!("{{\"n\":{id},\"hash\":\"wert-{}\"}}", id % 997)
}

fn ids() -> impl Iterator<Item = u64> {
    ISLANDS.into_iter().flat_map(|(first, last)| first..=last)
}

/// Returns the statements that fill the table, the same for every engine.
fn statements() -> Vec<String> {
    let ids: Vec<_> = ids().collect();
    assert_eq!(ids.len() as u64, ROWS);
    let insert = |ids: &[u64]| {
        let mut sql = String::from("INSERT INTO url VALUES ");
        for id in ids {
            let _ = write!(sql, "({id},'{}','{}'),", key(*id), value(*id));
        }
        sql.pop();
        sql
    };
    ids.chunks(2_000).map(insert).collect()
}

fn plan(elasticsearch: &SearchServer, opensearch: &SearchServer) -> String {
    let from = "from: { table: url, cursor: [id], key: key, value: data }";
    format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
         redis: {{ redis: {{ url: \"${{REDIS_URL}}\", prefix: \"kv:\" }} }}\n  \
         elasticsearch: {{ elasticsearch: {{ url: \"{}\", index: t_ways }} }}\n  \
         opensearch: {{ elasticsearch: {{ url: \"{}\", index: t_ways }} }}\n  \
         files: {{ file: {{ path: ../out/ }} }}\nresources:\n  \
         - {{ name: to_redis, {from}, to: redis }}\n  \
         - {{ name: to_elasticsearch, after: [to_redis], {from}, to: elasticsearch }}\n  \
         - {{ name: to_opensearch, after: [to_elasticsearch], {from}, to: opensearch }}\n  \
         - {{ name: to_files, after: [to_opensearch], {from}, to: files }}\n\
         defaults: {{ retry: {{ attempts: 60, base: 20ms, cap: 500ms }} }}\n",
        elasticsearch.url(),
        opensearch.url()
    )
}

/// Restores the table to every target, each time killed five times, and compares all of them with what was put into it.
fn goes_every_way<D: Named>(shop: &Shop<D>) {
    let searches = ["elasticsearch", "opensearch"].map(SearchServer::shared);
    for server in &searches {
        server.create("t_ways");
    }
    shop.write_plan(&plan(&searches[0], &searches[1]));
    let mut stored_before = 0;
    let kills = WAYS
        .iter()
        .flat_map(|way| MOMENTS.map(|moment| (*way, moment)));
    for (resource, moment) in kills {
        let mut running = shop.start(&format!("run {PLAN} --json"));
        running.event("the moment to kill", |event| {
            let rows = event["rows"].as_u64()?;
            (event["event"] == "chunk_stored" && event["resource"] == resource && rows >= moment)
                .then_some(())
        });
        running.kill_group();
        let stored = chunks_stored(&shop.status());
        assert!(
            stored > stored_before,
            "{stored} chunks at {moment} of {resource}"
        );
        stored_before = stored;
    }
    shop.rekindle(&format!("run {PLAN}")).exits(0);

    let pairs = |prefix: &str| -> HashMap<Vec<u8>, Vec<u8>> {
        ids()
            .map(|id| ([prefix, &key(id)].concat().into(), value(id).into()))
            .collect()
    };
    assert_same(&pairs("kv:"), &shop.redis_content());
    assert_same(&pairs(""), &shop.dumped("out"));
    let wanted: Documents = ids()
        .map(|id| {
            let document: Value = serde_json::from_str(&value(id)).expect("JSON");
            (key(id), document)
        })
        .collect();
    for server in &searches {
        crate::search::assert_equal(&wanted, &server.documents("t_ways"));
        server.must("DELETE", "/t_ways", &Value::Null);
    }
}

#[tokio::test]
async fn from_mariadb_every_way_through_five_kills() {
    let mut database = Database::create("ways").await;
    let table = "CREATE TABLE url (id BIGINT NOT NULL PRIMARY KEY, `key` VARCHAR(255), data LONGTEXT) CHARSET utf8mb4";
    database.execute(table).await;
    for statement in statements() {
        database.execute(statement).await;
    }
    goes_every_way(&Shop::of(database, RedisServer::start()));
}

#[tokio::test]
async fn from_postgres_every_way_through_five_kills() {
    let mut database = PgDatabase::create("ways").await;
    database
        .execute("CREATE TABLE url (id BIGINT NOT NULL PRIMARY KEY, key TEXT, data TEXT)")
        .await;
    for statement in statements() {
        database.execute(statement).await;
    }
    goes_every_way(&Shop::of(database, RedisServer::start()));
}

#[tokio::test]
async fn from_sqlite_every_way_through_five_kills() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("shop.sqlite");
    let mut connection = rusqlite::Connection::open(&path).expect("a new file");
    let filling = connection.transaction().expect("a transaction");
    filling
        .execute_batch("CREATE TABLE url (id INTEGER PRIMARY KEY, key TEXT, data TEXT)")
        .expect("a table");
    for statement in statements() {
        filling.execute_batch(&statement).expect("rows");
    }
    filling.commit().expect("written");
    drop(connection);
    let database = SqliteFile {
        path,
        _folder: folder,
    };
    goes_every_way(&Shop::of(database, RedisServer::start()));
}
