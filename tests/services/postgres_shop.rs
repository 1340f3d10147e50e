//! The program against PostgreSQL: every row arrives, whatever is killed meanwhile.

use std::{collections::HashMap, fs};

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::{
    postgres::{PgDatabase, restart_server},
    redis_server::RedisServer,
    shop::{DEFAULTS, Named, PLAN, Running, Shop, assert_same, chunks_stored, resource},
};

/// Retries that outlast a restart, and chunks small enough for many moments.
const CHUNKS: &str = "\
defaults:
  chunk: { rows: 500 }
  parallel: { resources: 1, partitions: 2 }
  retry: { attempts: 60, base: 20ms, cap: 500ms }
";

/// A folder of RESP files beside Redis: the same tables, under other names.
const DUMPED: &str = "  - name: dumped
    after: [url]
    from: { table: url, cursor: [id], key: key, value: data }
    to: dump
";

impl Shop<PgDatabase> {
    pub async fn open_postgres(name: &str) -> Self {
        Self::of(PgDatabase::create(name).await, RedisServer::start())
    }

    /// Makes an empty table like those that plans are written for.
    pub async fn table(&mut self, table: &str) {
        self.database
            .execute(format!(
                "CREATE TABLE {table} (id BIGINT NOT NULL PRIMARY KEY, fk INT, key TEXT, data TEXT)"
            ))
            .await;
    }

    /// Adds rows with the ids `first..=last`: a key of many alphabets, a value of some 60 bytes.
    pub async fn rows(&mut self, table: &str, first: u64, last: u64) {
        self.database
            .execute(format!(
                "INSERT INTO {table} SELECT id, id % 1000, '{table}:größe:鍵🛒:' || id, \
                 '{{\"id\":' || id || ',\"hash\":\"' || md5(id::text) || '\"}}' FROM generate_series({first}, {last}) id"
            ))
            .await;
    }

    /// Returns what the tables say a target should hold. Reads by itself: the program under test plays no part.
    pub async fn wanted(&self, tables: &[&str], prefix: &str) -> HashMap<Vec<u8>, Vec<u8>> {
        let mut connection = PgConnection::connect(&self.database.url())
            .await
            .expect("PostgreSQL answers");
        let mut wanted = HashMap::new();
        for table in tables {
            let sql = format!(
                "SELECT '{prefix}'::bytea || convert_to(key, 'UTF8'), convert_to(data, 'UTF8') FROM {table} \
                 WHERE key IS NOT NULL AND data IS NOT NULL"
            );
            let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut connection);
            while let Some(row) = rows.try_next().await.expect("a row") {
                let before = wanted.insert(row.get(0), row.get(1));
                assert!(before.is_none(), "a key given twice");
            }
        }
        wanted
    }
}

impl<D: Named> Shop<D> {
    /// Returns the pairs of all `SET` commands in the files of a folder.
    pub fn dumped(&self, folder: &str) -> HashMap<Vec<u8>, Vec<u8>> {
        let mut found = HashMap::new();
        for entry in fs::read_dir(self.path(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension() != Some("resp".as_ref()) {
                continue;
            }
            let bytes = fs::read(path).expect("a file");
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                assert!(
                    rest.starts_with(b"*3\r\n$3\r\nSET\r\n"),
                    "a command of its own"
                );
                rest = &rest[13..];
                let key = bulk(&mut rest);
                let before = found.insert(key, bulk(&mut rest));
                assert!(before.is_none(), "a key written twice");
            }
        }
        found
    }
}

/// Takes one `$length\r\nbytes\r\n`.
fn bulk(rest: &mut &[u8]) -> Vec<u8> {
    let end = rest.iter().position(|byte| *byte == b'\r').expect("a line");
    let length: usize = str::from_utf8(&rest[1..end])
        .expect("digits")
        .parse()
        .expect("a length");
    let bytes = rest[end + 2..end + 2 + length].to_vec();
    *rest = &rest[end + 2 + length + 2..];
    bytes
}

#[tokio::test]
async fn three_hundred_thousand_rows_arrive_in_redis_and_files_through_five_kills() {
    let mut shop = Shop::open_postgres("pg_restore").await;
    shop.table("url").await;
    // The first 100 ids are missing, then 5,000 more; the rest lies around 2^31 and 2^62.
    for (first, last) in [
        (101, 100_100),
        (105_101, 230_100),
        ((1 << 31) - 25_000, (1 << 31) + 24_999),
        (1 << 62, (1 << 62) + 24_999),
    ] {
        shop.rows("url", first, last).await;
    }
    assert_eq!(
        shop.database.number("SELECT COUNT(*) FROM url").await,
        300_000
    );
    shop.database
        .execute(
            "UPDATE url SET data = repeat(chr(64 + (id % 20)::int), 1048576) WHERE id BETWEEN 101 AND 110; \
             UPDATE url SET data = repeat('😀', 262144) WHERE id = 4611686018427387910; \
             UPDATE url SET data = NULL WHERE id IN (111, 100100, 2147483649, 4611686018427412903); \
             UPDATE url SET key = NULL WHERE id IN (112, 4611686018427387904); \
             UPDATE url SET data = '' WHERE id = 113",
        )
        .await;
    shop.table("nothing").await;
    shop.plan(
        &[&resource("url"), &resource("nothing"), DUMPED].concat(),
        CHUNKS,
    );
    let plan = fs::read_to_string(shop.path(PLAN)).expect("the plan");
    shop.write_plan(&plan.replacen(
        "resources:",
        "  dump: { file: { path: ../out/ } }\nresources:",
        1,
    ));

    let mut stored_before = 0;
    for (resource, moment) in [
        ("url", 60_000),
        ("url", 150_000),
        ("url", 240_000),
        ("dumped", 100_000),
        ("dumped", 200_000),
    ] {
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
    let done = shop.rekindle(&format!("run {PLAN}")).exits(4);
    assert!(
        done.stderr
            .contains("done, but 12 rows could not be restored"),
        "{done}"
    );
    let wanted = shop.wanted(&["url"], "kv:").await;
    assert_eq!(wanted.len(), 300_000 - 6);
    assert_same(&wanted, &shop.redis_content());
    assert_same(&shop.wanted(&["url"], "").await, &shop.dumped("out"));
}

#[tokio::test]
async fn a_run_outlasts_terminated_sessions_and_a_restart_of_the_server() {
    let mut shop = Shop::open_postgres("pg_away").await;
    shop.table("url").await;
    shop.rows("url", 1, 60_000).await;
    shop.plan(&resource("url"), CHUNKS);
    let mut running = shop.start(&format!("run {PLAN} --json"));
    stored(&mut running, 10_000);
    let mut admin = shop.database.another().await;
    for rows in [15_000, 20_000] {
        admin
            .execute(AssertSqlSafe(format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'rekindle'",
                shop.database.name
            )))
            .await
            .expect("terminated");
        stored(&mut running, rows);
    }
    drop(admin);
    tokio::task::spawn_blocking(restart_server)
        .await
        .expect("restarted");
    running.finish().exits(0);
    shop.database.reconnect().await;
    assert_same(&shop.wanted(&["url"], "kv:").await, &shop.redis_content());
}

fn stored(running: &mut Running, wanted: u64) {
    running.event("rows are stored", |event| {
        let rows = event["rows"].as_u64()?;
        (event["event"] == "chunk_stored" && rows >= wanted).then_some(())
    });
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_before_the_first_write() {
    let mut shop = Shop::open_postgres("pg_refused").await;
    shop.table("url").await;
    shop.rows("url", 1, 10).await;
    shop.plan(&resource("url"), DEFAULTS);
    let shown = shop.rekindle(&format!("validate {PLAN}")).exits(0);
    assert!(!shown.stderr.contains("app-pw"), "{shown}");
    let shown = shop.rekindle(&format!("run {PLAN} --dry-run")).exits(0);
    assert!(
        shown.stdout.contains("source: postgres at 127.0.0.1:"),
        "{shown}"
    );
    for (change, says) in [
        (("app-pw", "wrong-pw"), "password authentication failed"),
        (
            (shop.database.name.as_str(), "no_such_db"),
            "does not exist",
        ),
    ] {
        let mut command = shop.command(&format!("run {PLAN}"));
        command.env(
            "DATABASE_URL",
            shop.database.url().replace(change.0, change.1),
        );
        let refused = Running::start(command).finish().exits(3);
        assert!(refused.stderr.contains(says), "{refused}");
        assert!(!refused.stderr.contains("-pw"), "{refused}");
    }
    assert_eq!(shop.key_count(), 0);
}
