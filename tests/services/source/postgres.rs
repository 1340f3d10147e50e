//! The PostgreSQL source against a real server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rekindle::{
    cursor::{Cursor, KeyRange, KeyValue},
    error::{EdgeError, ErrorKind},
    plan::{RowSource, SourceConfig, SourceKind},
    source::{self, Patience, RowQuery, ScanError, Source, postgres::PostgresSource},
};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::net::TcpListener;

use super::{
    all,
    rows::{Got, Line, Rows, Trouble},
    scattered, url_table, walk,
};
use crate::postgres::PgDatabase;

fn config(url: impl Into<String>) -> SourceConfig {
    SourceConfig {
        kind: SourceKind::Postgres,
        url: SecretString::from(url.into()),
        tls: None,
    }
}

pub async fn connect(database: &PgDatabase) -> Arc<dyn Source> {
    source::connect(&config(database.url()))
        .await
        .expect("connects")
}

async fn refusal(url: String) -> EdgeError {
    let Err(error) = source::connect(&config(url)).await else {
        panic!("connected")
    };
    assert!(!error.message.contains('\n'), "{error}");
    assert!(
        !error.message.contains("app-pw") && !error.message.contains("wrong-pw"),
        "{error}"
    );
    error
}

fn filtered(table: &str, condition: &str) -> RowQuery {
    RowQuery {
        since: None,
        from: RowSource {
            condition: Some(condition.to_owned()),
            ..url_table(table)
        },
        ids: None,
    }
}

/// Makes a table with these ids. `kind` is the type of the key column.
async fn table_of(
    database: &mut PgDatabase,
    table: &str,
    kind: &str,
    ids: impl IntoIterator<Item = i128>,
) {
    let ids: Vec<String> = ids
        .into_iter()
        .map(|id| format!("({id},'key:{id}','{{}}')"))
        .collect();
    database
        .execute(format!(
            "CREATE TABLE {table} (id {kind} NOT NULL PRIMARY KEY, key VARCHAR(255), data TEXT); \
             INSERT INTO {table} VALUES {}",
            ids.join(",")
        ))
        .await;
}

/// Returns the process that serves the scan which reads `id` of some table in this database.
async fn backend(admin: &mut PgConnection, database: &str) -> i32 {
    sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND query LIKE 'SELECT \"id\"%'",
    )
    .bind(database)
    .fetch_one(admin)
    .await
    .expect("the scan is running")
}

#[tokio::test]
async fn pages_cover_a_table_once_in_order() {
    let mut database = PgDatabase::create("cover").await;
    let signed: Vec<i128> = [i128::from(i64::MIN), -7, 0]
        .into_iter()
        .chain(scattered())
        .chain([i128::from(i64::MAX)])
        .collect();
    table_of(&mut database, "s", "BIGINT", signed.iter().copied()).await;
    table_of(&mut database, "i", "INT", -100..100).await;
    table_of(&mut database, "tiny", "SMALLINT", -128..128).await;
    table_of(&mut database, "one", "INT", [7]).await;
    database
        .execute("CREATE TABLE none (id INT NOT NULL PRIMARY KEY, key TEXT, data TEXT)")
        .await;
    let source = connect(&database).await;
    for (table, ids) in [
        ("s", signed),
        ("i", (-100..100).collect()),
        ("tiny", (-128..128).collect()),
        ("one", vec![7]),
        ("none", vec![]),
    ] {
        for (page_rows, chunk_rows) in [
            (1, 1),
            (2, 5),
            (7, 7),
            (10, 3),
            (93, 93),
            (94, 1_000),
            (1_000, 50),
        ] {
            let mut rows = Rows::new(page_rows, chunk_rows);
            walk(&*source, &all(table), 4, &mut rows).await;
            assert_eq!(rows.keys(), ids, "{table}, pages of {page_rows}");
            assert!(
                rows.kept
                    .iter()
                    .all(|(id, key, _)| { key.as_deref() == Some(format!("key:{id}").as_bytes()) })
            );
        }
        assert_eq!(
            source.count(&all(table)).await.expect("counts"),
            ids.len() as u64
        );
    }

    let mut rows = Rows::new(7, 3);
    let cursor = |id| Cursor::single(KeyValue::Int(id));
    let range = KeyRange {
        after: Some(cursor(10)),
        until: cursor(31),
    };
    source
        .scan(&all("tiny"), &range, &mut rows)
        .await
        .expect("scans");
    assert_eq!(rows.keys(), (11..=31).collect::<Vec<i128>>());
}

#[tokio::test]
async fn ranges_are_even_and_rows_are_read_at_most_twice() {
    let mut database = PgDatabase::create("reads").await;
    // No ANALYZE, as after a restore; and an indexed column beside the key that must not tempt the planner.
    database
        .execute(
            "CREATE TABLE t (id BIGINT NOT NULL PRIMARY KEY, store CHAR(2), key VARCHAR(255), data TEXT); \
             ALTER TABLE t SET (autovacuum_enabled = off); CREATE INDEX ON t (store); \
             INSERT INTO t SELECT seq, 'DE', 'k' || seq, REPEAT('x', 200) FROM generate_series(100, 30000) seq \
             WHERE seq NOT BETWEEN 9000 AND 14000; \
             INSERT INTO t SELECT seq * 100000, 'AT', 's' || seq, REPEAT('x', 200) FROM generate_series(1, 1000) seq; \
             INSERT INTO t SELECT 4611686018427387904 + seq, 'DE', 'f' || seq, REPEAT('x', 200) FROM generate_series(1, 20000) seq",
        )
        .await;
    let present = database.number("SELECT COUNT(*) FROM t").await;

    for analyzed in [false, true] {
        if analyzed {
            database.execute("ANALYZE t").await;
        }
        for parts in [2, 4] {
            let before = database.rows_read("t").await;
            let source = connect(&database).await;
            let ranges = source
                .partition(&all("t"), parts)
                .await
                .expect("partitions");
            drop(source);
            let probed = database.rows_read("t").await - before;
            assert!(
                probed < present / 4,
                "{probed} rows read to find {parts} ranges"
            );
            let source = connect(&database).await;
            let mut sizes = Vec::new();
            for range in &ranges {
                let mut rows = Rows::new(1_000, 1_000);
                source
                    .scan(&all("t"), range, &mut rows)
                    .await
                    .expect("scans");
                sizes.push(rows.kept.len() as u64);
            }
            assert_eq!(sizes.iter().sum::<u64>(), present);
            assert_eq!(sizes.len(), parts as usize);
            let most = sizes.iter().max().copied().unwrap_or(0);
            assert!(most * u64::from(parts) < present * 8 / 5, "{sizes:?}");
        }

        for (query, expected) in [
            (all("t"), present),
            (filtered("t", "store = 'DE'"), present - 1_000),
        ] {
            let source = connect(&database).await;
            let range = source
                .partition(&query, 1)
                .await
                .expect("partitions")
                .remove(0);
            drop(source);
            let before = database.rows_read("t").await;
            let source = connect(&database).await;
            let mut rows = Rows::new(500, 500);
            source.scan(&query, &range, &mut rows).await.expect("scans");
            drop(source);
            let read = database.rows_read("t").await - before;
            assert_eq!(rows.kept.len() as u64, expected);
            assert!(
                (expected..=expected * 2).contains(&read),
                "{read} rows read for {expected}, analyzed: {analyzed}"
            );
        }
    }

    // A few ids of some sixty thousand rows: found by an index, not by a walk.
    database
        .execute("ALTER TABLE t ADD fk INT; UPDATE t SET fk = id % 10000; CREATE INDEX ON t (fk); ANALYZE t")
        .await;
    let before = database.rows_read("t").await;
    let source = connect(&database).await;
    let query = RowQuery {
        since: None,
        from: RowSource {
            entity: Some("fk".into()),
            ..url_table("t")
        },
        ids: Some(vec!["17".into()]),
    };
    let mut rows = Rows::new(500, 500);
    walk(&*source, &query, 2, &mut rows).await;
    drop(source);
    let read = database.rows_read("t").await - before;
    let found = rows.kept.len() as u64;
    assert!(
        found > 0 && read <= found * 2 + 2,
        "{read} read for {found}"
    );
}

#[tokio::test]
async fn values_come_as_the_columns_bytes() {
    let mut database = PgDatabase::create("values").await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, key TEXT, data BYTEA); \
             INSERT INTO t VALUES (1, 'null', NULL), (2, 'empty', ''), (3, 'schlüssel 😀', convert_to('😀', 'UTF8')), \
             (4, 'latin1', '\\xE4F6FCDF00FF'), (5, '1mb', convert_to(REPEAT('a', 1048576), 'UTF8')), \
             (6, '20mb', convert_to(REPEAT('b', 20971520), 'UTF8')), (7, NULL, 'x'); \
             CREATE DOMAIN words AS TEXT; \
             CREATE TYPE mood AS ENUM ('happy'); \
             CREATE TABLE o (id INT NOT NULL PRIMARY KEY, key BYTEA, a TEXT, b VARCHAR(20), c CHAR(4), d JSON, e JSONB, \
               f NUMERIC(10,2), g BIGINT, h UUID, i TIMESTAMPTZ, j DOUBLE PRECISION, k BOOLEAN, l words, m mood, n TEXT[], \
               o DATE, p TIMESTAMP, q INTERVAL); \
             INSERT INTO o VALUES (1, '\\x00ff0a', 'größe', 'x', 'ab', '{ \"b\": 1,  \"a\":2 }', '{ \"b\": 1,  \"a\":2 }', \
               12.5, -4000000000, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '2026-01-02 03:04:05.000006+02', 0.1::float8 + 0.2, true, \
               'w', 'happy', '{1,2}', '2026-01-02', 'infinity', '1 day 2 hours')",
        )
        .await;
    let source = connect(&database).await;
    let mut rows = Rows::new(100, 2);
    walk(&*source, &all("t"), 1, &mut rows).await;
    let got: BTreeMap<String, Got> = rows
        .kept
        .into_iter()
        .map(|(id, key, got)| {
            (
                key.map_or(id.to_string(), |key| String::from_utf8(key).expect("UTF-8")),
                got,
            )
        })
        .collect();
    assert_eq!(got["null"], Got::Null);
    assert_eq!(got["empty"], Got::Bytes(vec![]));
    assert_eq!(got["schlüssel 😀"], Got::Bytes("😀".into()));
    assert_eq!(
        got["latin1"],
        Got::Bytes(vec![0xE4, 0xF6, 0xFC, 0xDF, 0, 0xFF])
    );
    assert!(got["1mb"] == Got::Bytes(vec![b'a'; 1 << 20]));
    assert!(got["20mb"] == Got::Bytes(vec![b'b'; 20 << 20]));
    assert_eq!(
        got["7"],
        Got::Bytes(b"x".to_vec()),
        "a NULL key is handed over as none"
    );

    for (column, value) in [
        ("a", "größe"),
        ("b", "x"),
        ("c", "ab  "),
        ("d", "{ \"b\": 1,  \"a\":2 }"),
        ("e", "{\"a\": 2, \"b\": 1}"),
        ("f", "12.50"),
        ("g", "-4000000000"),
        ("h", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("i", "2026-01-02 01:04:05.000006+00"),
        ("j", "0.30000000000000004"),
        ("k", "true"),
        ("l", "w"),
        ("m", "happy"),
        ("n", "{1,2}"),
        ("o", "2026-01-02"),
        ("p", "infinity"),
        ("q", "1 day 02:00:00"),
    ] {
        let query = RowQuery {
            since: None,
            from: RowSource {
                value: column.into(),
                store: Some("c".into()),
                ..url_table("o")
            },
            ids: None,
        };
        let mut rows = Rows::new(100, 100);
        walk(&*source, &query, 1, &mut rows).await;
        assert_eq!(rows.kept[0].1.as_deref(), Some(&b"\0\xff\n"[..]));
        assert_eq!(rows.kept[0].2, Got::Bytes(value.into()), "column {column}");
        // Its length is that of the bytes that would come.
        let mut rows = Rows::new(100, 100);
        rows.row_bytes = value.len() as u64 - 1;
        walk(&*source, &query, 1, &mut rows).await;
        assert_eq!(
            rows.kept[0].2,
            Got::TooLarge(value.len() as u64),
            "{column}"
        );
    }
}

#[tokio::test]
async fn a_database_of_another_encoding_is_read_in_utf8() {
    let mut server = PgDatabase::create("encodings").await;
    let name = format!("{}_latin", server.name);
    server
        .execute(format!("DROP DATABASE IF EXISTS {name}"))
        .await;
    server
        .execute(format!(
            "CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        ))
        .await;
    let url = server.url_with(|url| url.set_path(&name));
    let mut direct = PgConnection::connect(&url).await.expect("connects");
    direct
        .execute("CREATE TABLE t (id INT NOT NULL PRIMARY KEY, key VARCHAR(20), data TEXT); INSERT INTO t VALUES (1, 'ä', 'größe')")
        .await
        .expect("a table");
    let source = source::connect(&config(url)).await.expect("connects");
    let mut rows = Rows::new(100, 100);
    walk(&*source, &all("t"), 1, &mut rows).await;
    assert_eq!(rows.kept[0].1.as_deref(), Some("ä".as_bytes()));
    assert_eq!(rows.kept[0].2, Got::Bytes("größe".into()));
    let mut rows = Rows::new(100, 100);
    rows.row_bytes = 6;
    walk(&*source, &all("t"), 1, &mut rows).await;
    assert_eq!(rows.kept[0].2, Got::TooLarge(7), "as it would be sent");
    server
        .execute(format!("DROP DATABASE {name} WITH (FORCE)"))
        .await;
}

#[tokio::test]
async fn a_value_over_the_limit_is_not_sent() {
    let mut database = PgDatabase::create("large").await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, key VARCHAR(255), data TEXT); \
             ALTER TABLE t ALTER data SET STORAGE EXTERNAL; \
             INSERT INTO t VALUES (1, 'a', REPEAT('a', 1000)), (2, 'b', REPEAT('b', 20971520)), (3, 'c', REPEAT('c', 1001)), (4, 'd', NULL)",
        )
        .await;
    let before = database.toast_pages("t").await;
    let server = url::Url::parse(&database.url()).expect("a URL");
    let (line, port) = Line::to(format!(
        "{}:{}",
        server.host_str().expect("a host"),
        server.port().unwrap_or(5432)
    ))
    .await;
    let url = database.url_with(|url| {
        url.set_host(Some("127.0.0.1")).expect("set");
        url.set_port(Some(port)).expect("set");
    });
    let source = source::connect(&config(url)).await.expect("connects");
    let mut rows = Rows::new(100, 100);
    rows.row_bytes = 1_000;
    walk(&*source, &all("t"), 1, &mut rows).await;
    let got: Vec<Got> = rows.kept.into_iter().map(|(.., got)| got).collect();
    assert_eq!(
        got,
        [
            Got::Bytes(vec![b'a'; 1_000]),
            Got::TooLarge(20_971_520),
            Got::TooLarge(1_001),
            Got::Null
        ]
    );
    let carried = line.carried();
    assert!((1..100_000).contains(&carried), "{carried} bytes came");
    // Nor was it read: its length is known without its pages.
    drop(source);
    let touched = database.toast_pages("t").await - before;
    assert!(touched < 100, "{touched} pages of values touched");
}

#[tokio::test]
async fn a_server_that_refuses_says_why() {
    let mut database = PgDatabase::create("refuses").await;
    let error =
        refusal(database.url_with(|url| url.set_password(Some("wrong-pw")).expect("set"))).await;
    assert_eq!(error.kind, ErrorKind::Credentials);
    assert!(
        error
            .message
            .contains("password authentication failed for user \"app\""),
        "{error}"
    );
    let error = refusal(database.url_with(|url| url.set_username("nobody").expect("set"))).await;
    assert_eq!(error.kind, ErrorKind::Credentials, "{error}");

    let error =
        refusal(database.url_with(|url| url.set_host(Some("no-such-host.invalid")).expect("set")))
            .await;
    assert!(
        matches!(error.kind, ErrorKind::Missing | ErrorKind::Connection),
        "{error:?}"
    );
    assert!(error.message.contains("no-such-host.invalid"), "{error}");

    let error = refusal(database.url_with(|url| url.set_path("no_such_database"))).await;
    assert_eq!(error.kind, ErrorKind::Missing);
    assert!(error.message.contains("does not exist"), "{error}");

    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("bound")
        .port();
    let error = refusal(database.url_with(|url| url.set_port(Some(free)).expect("set"))).await;
    assert_eq!(error.kind, ErrorKind::Connection);
    assert!(error.message.contains(&free.to_string()), "{error}");

    let error = refusal(database.url_with(|url| url.set_query(Some("sslmode=require")))).await;
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.message.contains("does not speak TLS"), "{error}");

    for url in [
        "postgres://user:secret@host",
        "postgres://user:secret@host:port/d",
        "postgres://user@host/d?pasword=secret",
    ] {
        let error = refusal(url.into()).await;
        assert_eq!(
            (error.kind, error.message.contains("secret")),
            (ErrorKind::Refused, false)
        );
    }

    let name = database.name.clone();
    database
        .execute(format!(
            "ALTER DATABASE {name} CONNECTION LIMIT 0; CREATE ROLE {name} LOGIN PASSWORD 'u-pw'"
        ))
        .await;
    let error = refusal(database.url_of_role()).await;
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
}

#[tokio::test]
async fn describe_checks_every_name() {
    let mut database = PgDatabase::create("describe").await;
    database
        .execute(
            "CREATE TABLE spy_url_storage (id BIGINT NOT NULL PRIMARY KEY, key VARCHAR(255), data TEXT, store CHAR(2), \
               part VARCHAR(255) NOT NULL); \
             CREATE VIEW v AS SELECT * FROM spy_url_storage; \
             INSERT INTO spy_url_storage SELECT seq, seq, repeat('x', 100), 'DE', seq FROM generate_series(1, 5000) seq; \
             ANALYZE spy_url_storage",
        )
        .await;
    let source = connect(&database).await;
    let good = url_table("spy_url_storage");
    let shape = source.describe(&good).await.expect("describes");
    assert_eq!(
        shape.fingerprint,
        "id bigint not null; key character varying(255); data text"
    );
    assert_eq!(shape.estimated_rows, 5_000);
    assert!(
        shape
            .estimated_bytes
            .is_some_and(|bytes| (500_000..5_000_000).contains(&bytes)),
        "{shape:?}"
    );

    for (from, kind, says) in [
        (
            url_table("url_storage"),
            ErrorKind::Missing,
            "did you mean `spy_url_storage`?",
        ),
        (
            url_table("SPY_URL_STORAGE"),
            ErrorKind::Missing,
            "did you mean `spy_url_storage`?",
        ),
        (
            RowSource {
                value: "dat".into(),
                ..good.clone()
            },
            ErrorKind::Missing,
            "no column `dat`; did you mean `data`?",
        ),
        (
            RowSource {
                value: "ctid".into(),
                ..good.clone()
            },
            ErrorKind::Missing,
            "no column `ctid`",
        ),
        (url_table("v"), ErrorKind::Refused, "it may be NULL"),
    ] {
        let error = source.describe(&from).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    for (condition, kind, says) in [
        ("id > ", ErrorKind::Refused, "syntax error"),
        ("missing = 1", ErrorKind::Missing, "missing"),
        ("id > 1) OR (id > 0", ErrorKind::Refused, "syntax error"),
        ("id > 1 LIMIT 5", ErrorKind::Refused, "syntax error"),
        ("id = 1; DROP TABLE spy_url_storage", ErrorKind::Refused, ""),
        ("id = $1", ErrorKind::Refused, "placeholder"),
        ("store = $7", ErrorKind::Refused, "placeholder"),
        ("data = 'geheim'::int::text", ErrorKind::Refused, "left out"),
    ] {
        let from = filtered("spy_url_storage", condition).from;
        let error = source.describe(&from).await.expect_err(condition);
        assert_eq!(error.kind, kind, "{condition}: {error}");
        assert!(error.message.contains(says), "{condition}: {error}");
        assert!(!error.message.contains("geheim"), "{error}");
    }
    let comment = filtered("spy_url_storage", "id > 1 OR key = '?' -- a remark").from;
    source.describe(&comment).await.expect("a condition");
    let query = filtered("spy_url_storage", "key = '?' OR id <= 3 -- a remark");
    assert_eq!(source.count(&query).await.expect("counts"), 3);
}

#[tokio::test]
async fn only_an_index_over_every_row_makes_a_cursor() {
    let mut database = PgDatabase::create("unique").await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL, partial INT NOT NULL, expression INT NOT NULL, deferred INT NOT NULL, \
               plain INT NOT NULL, nothing INT, hashed INT NOT NULL, included INT NOT NULL, several INT NOT NULL, \
               downwards INT NOT NULL, nulls_first INT NOT NULL, invalid INT NOT NULL, key TEXT, data TEXT, \
               UNIQUE (deferred) DEFERRABLE INITIALLY DEFERRED); \
             CREATE UNIQUE INDEX ON t (id) NULLS NOT DISTINCT; \
             CREATE UNIQUE INDEX ON t (partial) WHERE partial > 0; \
             CREATE UNIQUE INDEX ON t ((expression + 0)); \
             CREATE INDEX ON t (plain); \
             CREATE UNIQUE INDEX ON t (nothing) NULLS NOT DISTINCT; \
             CREATE INDEX ON t USING hash (hashed); \
             CREATE UNIQUE INDEX ON t (included) INCLUDE (key); \
             CREATE UNIQUE INDEX ON t (several, id); \
             CREATE UNIQUE INDEX ON t (downwards DESC); \
             CREATE UNIQUE INDEX ON t (nulls_first NULLS FIRST); \
             CREATE UNIQUE INDEX invalid_index ON t (invalid); \
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'invalid_index'::regclass; \
             CREATE TABLE parent (id INT NOT NULL PRIMARY KEY, key TEXT, data TEXT); \
             CREATE TABLE child () INHERITS (parent); \
             CREATE TABLE parts (id INT NOT NULL PRIMARY KEY, key TEXT, data TEXT) PARTITION BY RANGE (id); \
             CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (500); \
             CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (500) TO (9000); \
             INSERT INTO parts SELECT seq, seq, '{}' FROM generate_series(1, 6000) seq; \
             INSERT INTO t SELECT s, s, s, s, s, s, s, s, s, s, s, s, s, '{}' FROM generate_series(1, 100) s",
        )
        .await;
    let source = connect(&database).await;
    let cursor = |table: &str, column: &str| RowQuery {
        since: None,
        from: RowSource {
            cursor: vec![column.into()],
            ..url_table(table)
        },
        ids: None,
    };
    for good in ["id", "included", "downwards"] {
        let mut rows = Rows::new(7, 7);
        walk(&*source, &cursor("t", good), 2, &mut rows).await;
        assert_eq!(rows.keys(), (1..=100).collect::<Vec<i128>>(), "{good}");
    }
    for (column, says) in [
        ("partial", "no unique index of its own"),
        ("expression", "no unique index of its own"),
        ("deferred", "no unique index of its own"),
        ("plain", "no unique index of its own"),
        ("nothing", "it may be NULL"),
        ("hashed", "no unique index of its own"),
        ("several", "no unique index of its own"),
        ("nulls_first", "no unique index of its own"),
        ("invalid", "no unique index of its own"),
    ] {
        let from = cursor("t", column).from;
        let error = source.describe(&from).await.expect_err(column);
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    let error = source
        .describe(&url_table("parent"))
        .await
        .expect_err("rows of the child are in no index of the parent");
    assert!(
        error.message.contains("no unique index of its own"),
        "{error}"
    );

    let mut rows = Rows::new(1_000, 100);
    walk(&*source, &all("parts"), 2, &mut rows).await;
    assert_eq!(rows.keys(), (1..=6_000).collect::<Vec<i128>>());
    let shape = source
        .describe(&url_table("parts"))
        .await
        .expect("described");
    assert!(shape.estimated_bytes > Some(100_000), "{shape:?}");
    assert_eq!(
        source.tables().await.expect("lists"),
        ["child", "parent", "parts", "t"],
        "a partition is no table of its own"
    );
}

#[tokio::test]
async fn names_are_found_as_the_session_finds_them() {
    let mut database = PgDatabase::create("names").await;
    database
        .execute(format!(
            "CREATE TABLE \"odd\"\"; drop table x\" (\"i\"\"d\" INT NOT NULL PRIMARY KEY, key TEXT, data TEXT); \
             INSERT INTO \"odd\"\"; drop table x\" VALUES (1, 'k', 'v'); CREATE TABLE x (y INT); \
             CREATE SCHEMA \"Shop\"; CREATE SCHEMA front; \
             CREATE TABLE \"Shop\".t (id INT NOT NULL PRIMARY KEY, key TEXT, data TEXT); \
             INSERT INTO \"Shop\".t VALUES (1, 'shop', ''); \
             CREATE TABLE front.t (id INT NOT NULL PRIMARY KEY, key TEXT, data TEXT); \
             INSERT INTO front.t VALUES (1, 'front', ''); \
             CREATE TABLE \"front.dotted\" (id INT NOT NULL PRIMARY KEY, key TEXT, data TEXT); \
             INSERT INTO \"front.dotted\" VALUES (1, 'dotted', ''); \
             ALTER DATABASE {} SET search_path = front, public",
            database.name
        ))
        .await;
    let source = connect(&database).await;
    let odd = RowSource {
        cursor: vec!["i\"d".into()],
        ..url_table("odd\"; drop table x")
    };
    source.describe(&odd).await.expect("an odd name is a name");
    let mut rows = Rows::new(10, 10);
    let query = RowQuery {
        since: None,
        from: odd,
        ids: None,
    };
    walk(&*source, &query, 2, &mut rows).await;
    assert_eq!(rows.kept.len(), 1);

    for (table, key) in [
        ("t", "front"),
        ("front.t", "front"),
        ("Shop.t", "shop"),
        ("front.dotted", "dotted"),
    ] {
        let mut rows = Rows::new(10, 10);
        walk(&*source, &all(table), 2, &mut rows).await;
        assert_eq!(rows.kept[0].1.as_deref(), Some(key.as_bytes()), "{table}");
    }
    let error = source
        .describe(&url_table("shop.t"))
        .await
        .expect_err("case");
    assert!(error.message.ends_with("did you mean `Shop.t`?"), "{error}");
    assert_eq!(
        source.tables().await.expect("lists"),
        ["Shop.t", "front.dotted", "odd\"; drop table x", "t", "x"]
    );
}

#[tokio::test]
async fn ids_restrict_a_scan_to_their_rows() {
    let mut database = PgDatabase::create("ids").await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, fk SMALLINT NOT NULL, sku VARCHAR(20), key TEXT, data TEXT); \
             CREATE INDEX ON t (fk); \
             INSERT INTO t SELECT seq, seq / 10, 'sku-' || seq % 7, seq, '{}' FROM generate_series(1, 1000) seq",
        )
        .await;
    let source = connect(&database).await;
    let query = |entity: Option<&str>, ids: &[&str]| RowQuery {
        since: None,
        from: RowSource {
            entity: entity.map(str::to_owned),
            ..url_table("t")
        },
        ids: Some(ids.iter().map(|&id| id.to_owned()).collect()),
    };
    for (query, expected) in [
        (
            query(None, &["5", "999", "77777", "99999999999"]),
            vec![5, 999],
        ),
        (query(Some("fk"), &["3"]), (30..40).collect()),
        (
            query(Some("sku"), &["sku-0"]),
            (1..=1_000).filter(|id| id % 7 == 0).collect(),
        ),
        (query(None, &[]), vec![]),
    ] {
        let mut rows = Rows::new(4, 4);
        walk(&*source, &query, 4, &mut rows).await;
        assert_eq!(rows.keys(), expected);
        assert_eq!(
            source.count(&query).await.expect("counts"),
            expected.len() as u64
        );
    }
    let error = source
        .count(&query(Some("fk"), &["x"]))
        .await
        .expect_err("no number");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert_eq!(
        source.sample_row_bytes(&all("t")).await.expect("samples"),
        Some(3)
    );
}

/// A table of more rows than the sockets' buffers hold, so that what happens to the server is noticed while rows are
/// still to come, and the range of all of them.
async fn long_table(database: &mut PgDatabase, source: &dyn Source) -> KeyRange {
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, key VARCHAR(20), data TEXT); \
             INSERT INTO t SELECT seq, seq, REPEAT('x', 2000) FROM generate_series(1, 20000) seq",
        )
        .await;
    source
        .partition(&all("t"), 1)
        .await
        .expect("partitions")
        .remove(0)
}

/// Scans into `rows`, expects trouble, and scans on to the end.
async fn scan_through(source: &dyn Source, mut range: KeyRange, rows: &mut Rows) -> EdgeError {
    let Err(ScanError::Source(error)) = source.scan(&all("t"), &range, rows).await else {
        panic!("the scan did not notice")
    };
    assert!(rows.kept.len() < 20_000);
    rows.open.clear();
    range.after = rows
        .kept
        .last()
        .map(|(key, ..)| Cursor::single(key.clone()));
    source
        .scan(&all("t"), &range, rows)
        .await
        .expect("scans on");
    assert_eq!(rows.keys(), (1..=20_000).collect::<Vec<i128>>());
    error
}

#[tokio::test]
async fn a_terminated_backend_loses_no_row() {
    let mut database = PgDatabase::create("killed").await;
    let source = connect(&database).await;
    let range = long_table(&mut database, &*source).await;
    let mut rows = Rows::new(20_000, 100);
    let (mut admin, name) = (database.another().await, database.name.clone());
    rows.trouble = Trouble::Act(Box::pin(async move {
        let pid = backend(&mut admin, &name).await;
        admin
            .execute(AssertSqlSafe(format!("SELECT pg_terminate_backend({pid})")))
            .await
            .expect("terminated");
    }));
    let error = scan_through(&*source, range, &mut rows).await;
    assert_eq!(error.kind, ErrorKind::Connection, "{error}");
}

#[tokio::test]
async fn a_server_that_restarts_loses_no_row() {
    let mut database = PgDatabase::create("restarts").await;
    let source = connect(&database).await;
    let range = long_table(&mut database, &*source).await;
    let mut rows = Rows::new(20_000, 100);
    rows.trouble = Trouble::Act(Box::pin(async {
        tokio::task::spawn_blocking(crate::postgres::restart_server)
            .await
            .expect("restarted");
    }));
    let error = scan_through(&*source, range, &mut rows).await;
    assert_eq!(error.kind, ErrorKind::Connection, "{error}");
    database.reconnect().await;
}

#[tokio::test]
async fn a_backend_that_hangs_is_a_timeout_and_loses_no_row() {
    let mut database = PgDatabase::create("hangs").await;
    let patience = Patience {
        read: Duration::from_millis(500),
        ..Patience::default()
    };
    let source = PostgresSource::connect(&SecretString::from(database.url()), None, patience)
        .await
        .expect("connects");
    let range = long_table(&mut database, &source).await;
    let mut rows = Rows::new(20_000, 100);
    let (mut admin, name) = (database.another().await, database.name.clone());
    let (told, hanging) = tokio::sync::oneshot::channel();
    rows.trouble = Trouble::Act(Box::pin(async move {
        let pid = backend(&mut admin, &name).await;
        let pid = Pid::from_raw(pid).expect("a process");
        kill_process(pid, Signal::STOP).expect("stopped");
        told.send(pid).expect("waited for");
    }));
    let error = scan_through(&source, range, &mut rows).await;
    kill_process(hanging.await.expect("it was stopped"), Signal::CONT).expect("goes on");
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert!(
        error
            .message
            .contains("sent nothing for the rows of `t` within 500ms"),
        "{error}"
    );
    // The one that hung finds nobody there and ends.
    drop(source);
    database.wait_until_alone().await;
}

#[tokio::test]
async fn what_takes_too_long_is_cut_by_the_server() {
    let mut database = PgDatabase::create("slow").await;
    table_of(&mut database, "t", "INT", 1..=3).await;
    let patience = Patience {
        statement: Duration::from_secs(1),
        ..Patience::default()
    };
    let source = PostgresSource::connect(&SecretString::from(database.url()), None, patience)
        .await
        .expect("connects");
    let slow = filtered("t", "pg_sleep(20) IS NOT NULL");
    let error = source.count(&slow).await.expect_err("cut by the server");
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert!(error.message.contains("statement timeout"), "{error}");
}

#[tokio::test]
async fn sessions_are_pinned_and_cannot_write() {
    let mut database = PgDatabase::create("pinned").await;
    table_of(&mut database, "t", "INT", 1..=3).await;
    database
        .execute(format!(
            "CREATE TABLE log (x INT); \
             CREATE FUNCTION write_log() RETURNS INT LANGUAGE sql AS 'INSERT INTO log VALUES (1) RETURNING 1'; \
             CREATE FUNCTION shout(what TEXT) RETURNS BOOL LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'row %', what; END$$; \
             ALTER DATABASE {0} SET DateStyle = 'German'; ALTER DATABASE {0} SET TimeZone = 'Asia/Tokyo'; \
             ALTER DATABASE {0} SET standard_conforming_strings = off; ALTER DATABASE {0} SET jit = on; \
             ALTER DATABASE {0} SET extra_float_digits = 0; ALTER DATABASE {0} SET statement_timeout = 3000; \
             ALTER DATABASE {0} SET default_transaction_isolation = 'serializable'",
            database.name
        ))
        .await;
    let source = connect(&database).await;
    let pinned = [
        ("transaction_isolation", "read committed"),
        ("transaction_read_only", "on"),
        ("statement_timeout", "10min"),
        ("lock_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "10min"),
        ("client_connection_check_interval", "10s"),
        ("client_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, MDY"),
        ("extra_float_digits", "1"),
        ("standard_conforming_strings", "on"),
        ("row_security", "off"),
        ("plan_cache_mode", "force_custom_plan"),
        ("jit", "off"),
        ("application_name", "rekindle"),
    ];
    for (setting, value) in pinned {
        let query = filtered("t", &format!("current_setting('{setting}') = '{value}'"));
        assert_eq!(source.count(&query).await.expect("counts"), 3, "{setting}");
    }

    let error = source
        .count(&filtered("t", "write_log() = 1"))
        .await
        .expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("read-only transaction"), "{error}");
    assert_eq!(database.number("SELECT COUNT(*) FROM log").await, 0);

    let error = source
        .count(&filtered("t", "shout(key)"))
        .await
        .expect_err("raised");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(!error.message.contains("key:"), "{error}");
    // Each reads the row's text as the name of something, and says that it is not there.
    for condition in [
        "('key' || id)::regclass IS NOT NULL",
        "('key' || id)::regtype IS NOT NULL",
        "('key' || id)::regproc IS NOT NULL",
        "('key' || id)::regnamespace IS NOT NULL",
        "current_setting('key' || id) = ''",
    ] {
        let query = filtered("t", condition);
        source.describe(&query.from).await.expect("a condition");
        let range = KeyRange {
            after: None,
            until: Cursor::single(KeyValue::Int(3)),
        };
        let mut rows = Rows::new(10, 10);
        let Err(ScanError::Source(scanned)) = source.scan(&query, &range, &mut rows).await else {
            panic!("{condition} reads rows")
        };
        let counted = source.count(&query).await.expect_err("no such thing");
        let sampled = source
            .sample_row_bytes(&query)
            .await
            .expect_err("no such thing");
        for error in [scanned, counted, sampled] {
            assert!(
                !error.message.contains("key")
                    && error
                        .message
                        .contains("the condition of the plan failed at a row"),
                "{condition}: {error}"
            );
        }
    }
    // What the condition itself says wrong is still told.
    let error = source
        .describe(&filtered("t", "no_such(key)").from)
        .await
        .expect_err("no such function");
    assert!(error.message.contains("no_such"), "{error}");
}

#[tokio::test]
async fn a_user_who_may_only_read_is_enough_and_hidden_rows_are_refused() {
    let mut database = PgDatabase::create("rights").await;
    let name = database.name.clone();
    table_of(&mut database, "t", "INT", 1..=3).await;
    table_of(&mut database, "secret", "INT", 1..=3).await;
    table_of(&mut database, "policed", "INT", 1..=3).await;
    database
        .execute(format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'u-pw' CONNECTION LIMIT 1; GRANT SELECT ON t, policed TO {name}; \
             ALTER TABLE policed ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY own ON policed FOR SELECT TO {name} USING (id = 1)"
        ))
        .await;
    let source = source::connect(&config(database.url_of_role()))
        .await
        .expect("connects");
    // One connection serves call after call.
    source.describe(&url_table("t")).await.expect("describes");
    let mut rows = Rows::new(2, 2);
    walk(&*source, &all("t"), 2, &mut rows).await;
    assert_eq!(rows.keys(), [1, 2, 3]);
    assert_eq!(
        source.identity().await.expect("has one"),
        connect(&database).await.identity().await.expect("has one")
    );
    let error = refusal(database.url_of_role()).await;
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");

    let error = source
        .describe(&url_table("secret"))
        .await
        .expect_err("no rights");
    assert_eq!(error.kind, ErrorKind::Credentials, "{error}");
    assert!(error.message.contains("permission denied"), "{error}");
    database.wait_until_alone().await;
    let source = source::connect(&config(database.url_of_role()))
        .await
        .expect("connects");
    let error = source
        .describe(&url_table("policed"))
        .await
        .expect_err("a policy hides rows");
    assert_eq!(error.kind, ErrorKind::Credentials, "{error}");
    assert!(error.message.contains("row-level security"), "{error}");
}

#[tokio::test]
async fn identity_tells_databases_apart_also_without_rights() {
    let (mut one, two) = (
        PgDatabase::create("id_one").await,
        PgDatabase::create("id_two").await,
    );
    let first = connect(&one).await;
    let again = connect(&one).await.identity().await.expect("has one");
    assert_eq!(first.identity().await.expect("has one"), again);
    assert_ne!(
        connect(&two).await.identity().await.expect("has one"),
        again
    );
    assert!(
        first.place().starts_with("postgres at "),
        "{}",
        first.place()
    );
    assert!(
        first.place().ends_with(&format!("/{}", one.name)),
        "{}",
        first.place()
    );

    let name = one.name.clone();
    one.execute(format!(
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; CREATE ROLE {name} LOGIN PASSWORD 'u-pw'"
    ))
    .await;
    let source = source::connect(&config(one.url_of_role()))
        .await
        .expect("connects");
    let fallback = source.identity().await.expect("has one");
    let oid = one
        .number("SELECT oid FROM pg_database WHERE datname = current_database()")
        .await;
    assert!(
        fallback.ends_with(&format!("#{oid}/{}", one.name)),
        "{fallback}"
    );
    assert!(!fallback.contains("u-pw"), "{fallback}");
    assert_eq!(source.identity().await.expect("has one"), fallback);
}

#[tokio::test]
async fn a_table_altered_under_a_scan_is_asked_for_again() {
    let mut database = PgDatabase::create("altered").await;
    table_of(&mut database, "t", "INT", 1..=100).await;
    let source = connect(&database).await;
    // Both pages by the same statement: that of the first one is another.
    let range = KeyRange {
        after: Some(Cursor::single(KeyValue::Int(0))),
        until: Cursor::single(KeyValue::Int(100)),
    };
    let mut rows = Rows::new(10, 10);
    let mut admin = PgConnection::connect(&database.url())
        .await
        .expect("connects");
    rows.trouble = Trouble::Act(Box::pin(async move {
        admin
            .execute("ALTER TABLE t ALTER data TYPE BYTEA USING convert_to(data, 'UTF8')")
            .await
            .expect("altered");
    }));
    let Err(ScanError::Source(error)) = source.scan(&all("t"), &range, &mut rows).await else {
        panic!("the scan did not notice")
    };
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
    let shape = source.describe(&url_table("t")).await.expect("describes");
    assert!(shape.fingerprint.ends_with("data bytea"), "{shape:?}");
}

#[tokio::test]
async fn a_stopped_scan_leaves_the_source_usable() {
    let mut database = PgDatabase::create("stopped").await;
    table_of(&mut database, "t", "INT", 1..=1_000).await;
    let source = connect(&database).await;
    let range = source
        .partition(&all("t"), 1)
        .await
        .expect("partitions")
        .remove(0);
    let mut rows = Rows::new(1_000, 10);
    rows.trouble = Trouble::Stop;
    let stopped = source.scan(&all("t"), &range, &mut rows).await;
    assert!(matches!(stopped, Err(ScanError::Stopped)));
    assert_eq!(rows.kept.len(), 10);
    assert_eq!(source.count(&all("t")).await.expect("counts"), 1_000);
}
