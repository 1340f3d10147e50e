//! The sources against real servers: MariaDB here, the others in files of their own.

mod changes;
mod keys;
mod names;
mod postgres;
mod postgres_keys;
mod rows;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rekindle::{
    cursor::{Cursor, KeyRange, KeyValue},
    error::{EdgeError, ErrorKind},
    plan::{MoreKeys, RowSource, SourceConfig, SourceKind},
    source::{self, Patience, RowQuery, ScanError, Source, mysql::MySqlSource},
};
use rows::{Got, Line, Rows, Trouble};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Executor};
use tokio::net::TcpListener;

use crate::support::Database;

fn url_table(table: &str) -> RowSource {
    RowSource {
        table: table.into(),
        cursor: vec!["id".into()],
        key: "key".into(),
        value: "data".into(),
        entity: None,
        store: None,
        more_keys: MoreKeys::default(),
        condition: None,
        reads_ids: false,
    }
}

fn all(table: &str) -> RowQuery {
    RowQuery {
        since: None,
        from: url_table(table),
        ids: None,
    }
}

fn config(url: impl Into<String>) -> SourceConfig {
    SourceConfig {
        kind: SourceKind::Mysql,
        url: SecretString::from(url.into()),
        tls: None,
    }
}

async fn connect(database: &Database) -> Arc<dyn Source> {
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

async fn walk(source: &dyn Source, query: &RowQuery, parts: u32, rows: &mut Rows) -> Vec<usize> {
    let mut sizes = Vec::new();
    for range in source.partition(query, parts).await.expect("partitions") {
        let before = rows.kept.len();
        source.scan(query, &range, rows).await.expect("scans");
        sizes.push(rows.kept.len() - before);
    }
    sizes
}

/// Makes a table with these ids. `kind` is the type of the key column.
async fn table_of(
    database: &mut Database,
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
            "CREATE TABLE {table} (id {kind} NOT NULL PRIMARY KEY, `key` VARCHAR(255), data LONGTEXT); \
             INSERT INTO {table} VALUES {}",
            ids.join(",")
        ))
        .await;
}

fn scattered() -> Vec<i128> {
    let islands = [
        101..140,
        5_140..5_160,
        (1 << 31) - 10..(1 << 31) + 10,
        (1 << 62) - 5..(1 << 62) + 5,
    ];
    islands.into_iter().flatten().collect()
}

#[tokio::test]
async fn pages_cover_a_table_once_in_order() {
    let mut database = Database::create("cover").await;
    let signed: Vec<i128> = [i128::from(i64::MIN), -7, 0]
        .into_iter()
        .chain(scattered())
        .chain([i128::from(i64::MAX)])
        .collect();
    let unsigned: Vec<i128> = scattered()
        .into_iter()
        .chain((1 << 63) - 3..(1 << 63) + 3)
        .chain([i128::from(u64::MAX)])
        .collect();
    table_of(&mut database, "s", "BIGINT", signed.iter().copied()).await;
    table_of(
        &mut database,
        "u",
        "BIGINT UNSIGNED",
        unsigned.iter().copied(),
    )
    .await;
    table_of(&mut database, "tiny", "TINYINT", -128..128).await;
    table_of(&mut database, "one", "INT UNSIGNED", [7]).await;
    database
        .execute("CREATE TABLE none (id INT NOT NULL PRIMARY KEY, `key` TEXT, data TEXT)")
        .await;
    let source = connect(&database).await;
    for (table, ids) in [
        ("s", signed),
        ("u", unsigned),
        ("tiny", (-128..128).collect()),
        ("one", vec![7]),
        ("none", vec![]),
    ] {
        for (page_rows, chunk_rows) in [
            (1, 1),
            (2, 5),
            (3, 2),
            (7, 7),
            (10, 3),
            (89, 89),
            (90, 1_000),
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
}

#[tokio::test]
async fn a_scan_begins_after_the_cursor_and_ends_at_its_bound() {
    let mut database = Database::create("range").await;
    table_of(&mut database, "t", "BIGINT UNSIGNED", 1..=100).await;
    let source = connect(&database).await;
    let cursor = |id| Cursor::single(KeyValue::Uint(id));
    let mut rows = Rows::new(7, 3);
    let range = KeyRange {
        after: Some(cursor(10)),
        until: cursor(31),
    };
    source
        .scan(&all("t"), &range, &mut rows)
        .await
        .expect("scans");
    assert_eq!(rows.keys(), (11..=31).collect::<Vec<i128>>());
}

#[tokio::test]
async fn ranges_are_even_and_rows_are_read_at_most_twice() {
    let mut database = Database::create("reads").await;
    // The key is also an indexed column's neighbour: the planner must not be tempted by `store`. The holes were never
    // filled: deleted rows count in the server's estimates until they are purged.
    database
        .execute(
            "SET GLOBAL userstat = 1; \
             CREATE TABLE t (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, store CHAR(2), `key` VARCHAR(255), data LONGTEXT, KEY (store)); \
             INSERT INTO t SELECT seq, 'DE', CONCAT('k', seq), REPEAT('x', 200) FROM seq_100_to_30000 \
             WHERE seq NOT BETWEEN 9000 AND 14000; \
             INSERT INTO t SELECT seq * 100000, 'AT', CONCAT('s', seq), REPEAT('x', 200) FROM seq_1_to_1000; \
             INSERT INTO t SELECT 4611686018427387904 + seq, 'DE', CONCAT('f', seq), REPEAT('x', 200) FROM seq_1_to_20000; \
             ANALYZE TABLE t",
        )
        .await;
    let source = connect(&database).await;
    let read = format!(
        "SELECT SUM(rows_read) FROM information_schema.table_statistics WHERE table_schema = '{}' AND table_name = 't'",
        database.name
    );
    let present = database.number("SELECT COUNT(*) FROM t").await;

    for parts in [2, 4] {
        let before = database.number(&read).await;
        let ranges = source
            .partition(&all("t"), parts)
            .await
            .expect("partitions");
        let probed = database.number(&read).await - before;
        assert!(probed < 5_000, "{probed} rows read to find {parts} ranges");
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

    let (whole, filtered) = (
        all("t"),
        RowQuery {
            since: None,
            from: RowSource {
                condition: Some("store = 'DE'".into()),
                ..url_table("t")
            },
            ids: None,
        },
    );
    for (query, expected) in [(whole, present), (filtered, present - 1_000)] {
        let range = source
            .partition(&query, 1)
            .await
            .expect("partitions")
            .remove(0);
        let before = database.number(&read).await;
        let mut rows = Rows::new(500, 500);
        source.scan(&query, &range, &mut rows).await.expect("scans");
        let read = database.number(&read).await - before;
        assert_eq!(rows.kept.len() as u64, expected);
        assert!(read <= expected * 2, "{read} rows read for {expected}");
    }
}

#[tokio::test]
async fn values_come_as_the_columns_bytes() {
    let mut database = Database::create("values").await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, `key` VARCHAR(255), data LONGBLOB); \
             INSERT INTO t VALUES (1, 'null', NULL), (2, 'empty', ''), (3, 'schlüssel 😀', '😀'), \
             (4, 'latin1', x'E4F6FCDF00FF'), (5, '1mb', REPEAT('a', 1048576)), (6, '20mb', REPEAT('b', 20971520)), \
             (7, NULL, 'x'); \
             CREATE TABLE l (id INT NOT NULL PRIMARY KEY, `key` VARCHAR(20) CHARACTER SET latin1, data TEXT CHARACTER SET latin1); \
             INSERT INTO l VALUES (1, 'ä', 'größe'); \
             CREATE TABLE n (id INT NOT NULL PRIMARY KEY, `key` INT UNSIGNED, data DECIMAL(10,2)); \
             INSERT INTO n VALUES (1, 4000000000, 12.50)",
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

    for (table, key, value) in [("l", "ä", "größe"), ("n", "4000000000", "12.50")] {
        let mut rows = Rows::new(100, 100);
        walk(&*source, &all(table), 1, &mut rows).await;
        assert_eq!(rows.kept[0].1.as_deref(), Some(key.as_bytes()));
        assert_eq!(rows.kept[0].2, Got::Bytes(value.into()));
    }
}

#[tokio::test]
async fn d4_a_value_over_the_limit_is_not_sent() {
    let mut database = Database::create("large").await;
    let user = database.name.clone();
    database
        .execute(format!(
            "SET GLOBAL userstat = 1; CREATE USER {user}@'%' IDENTIFIED BY 'u-pw'; GRANT SELECT ON {user}.* TO {user}@'%'; \
             CREATE TABLE t (id INT NOT NULL PRIMARY KEY, `key` VARCHAR(255), data LONGTEXT); \
             INSERT INTO t VALUES (1, 'a', REPEAT('a', 1000)), (2, 'b', REPEAT('b', 20971520)), (3, 'c', REPEAT('c', 1001)), (4, 'd', NULL)"
        ))
        .await;
    let url = database.url_with(|url| {
        url.set_username(&user).expect("a user");
        url.set_password(Some("u-pw")).expect("a password");
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
    let sent = database
        .number(format!(
            "SELECT bytes_sent FROM information_schema.user_statistics WHERE user = '{user}'"
        ))
        .await;
    assert!((1..100_000).contains(&sent), "{sent} bytes sent");
}

#[tokio::test]
async fn a_server_that_refuses_says_why() {
    let database = Database::create("refuses").await;
    let error =
        refusal(database.url_with(|url| url.set_password(Some("wrong-pw")).expect("set"))).await;
    assert_eq!(error.kind, ErrorKind::Credentials);
    assert!(
        error.message.contains("Access denied for user 'app'"),
        "{error}"
    );

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
    assert!(error.message.contains("Unknown database"), "{error}");

    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("bound")
        .port();
    let error = refusal(database.url_with(|url| url.set_port(Some(free)).expect("set"))).await;
    assert_eq!(error.kind, ErrorKind::Connection);
    assert!(error.message.contains(&free.to_string()), "{error}");

    let error = refusal("mysql://user:secret@host".into()).await;
    assert_eq!(
        (error.kind, error.message.contains("secret")),
        (ErrorKind::Refused, false)
    );
}

#[tokio::test]
async fn s6_describe_checks_every_name() {
    let mut database = Database::create("describe").await;
    database
        .execute(
            "CREATE TABLE spy_url_storage (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, `key` VARCHAR(255), data TEXT, \
             store CHAR(2), part VARCHAR(255) NOT NULL, UNIQUE (part), UNIQUE prefixed (data(10)));",
        )
        .await;
    let source = connect(&database).await;
    let good = url_table("spy_url_storage");
    let shape = source.describe(&good).await.expect("describes");
    assert_eq!(
        shape.fingerprint,
        "id bigint(20) unsigned not null; key varchar(255); data text"
    );
    assert!(shape.single_integer);

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
                cursor: vec!["store".into()],
                store: None,
                ..good.clone()
            },
            ErrorKind::Refused,
            "it may be NULL; `id` or `part` would do",
        ),
        (
            RowSource {
                cursor: vec!["part".into(), "id".into()],
                ..good.clone()
            },
            ErrorKind::Refused,
            "no unique index has exactly these columns in this order",
        ),
        (
            RowSource {
                entity: Some("fk".into()),
                store: None,
                ..good.clone()
            },
            ErrorKind::Missing,
            "no column `fk`",
        ),
    ] {
        let error = source.describe(&from).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{error}");
        assert!(error.message.contains(source.place()), "{error}");
    }
}

#[tokio::test]
async fn describe_refuses_what_is_not_one_whole_condition() {
    let mut database = Database::create("condition").await;
    table_of(&mut database, "t", "INT", 1..=3).await;
    let source = connect(&database).await;
    for (condition, kind, says) in [
        ("id = ", ErrorKind::Refused, "error in your SQL syntax"),
        ("1) OR (1", ErrorKind::Refused, "error in your SQL syntax"),
        (
            "1 LIMIT 5 -- ",
            ErrorKind::Refused,
            "error in your SQL syntax",
        ),
        (
            "1; DELETE FROM t",
            ErrorKind::Refused,
            "error in your SQL syntax",
        ),
        ("id = ?", ErrorKind::Refused, "placeholder"),
        ("no = 1", ErrorKind::Missing, "Unknown column 'no'"),
        ("id = no_such(1)", ErrorKind::Missing, "no_such"),
    ] {
        let condition = Some(condition.to_owned());
        let error = source
            .describe(&RowSource {
                condition,
                ..url_table("t")
            })
            .await
            .expect_err("refused");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    let comment = Some("id > 1 OR key = '?' -- a remark".replace("key", "`key`"));
    source
        .describe(&RowSource {
            condition: comment,
            ..url_table("t")
        })
        .await
        .expect("a condition");
}

#[tokio::test]
async fn an_odd_name_is_a_name() {
    let mut database = Database::create("odd").await;
    database
        .execute(
            "CREATE TABLE `odd``; drop table x` (`i``d` INT NOT NULL PRIMARY KEY, `key` TEXT, data TEXT); \
             INSERT INTO `odd``; drop table x` VALUES (1, 'k', 'v'); CREATE TABLE x (y INT)",
        )
        .await;
    let source = connect(&database).await;
    let odd = RowSource {
        cursor: vec!["i`d".into()],
        ..url_table("odd`; drop table x")
    };
    source.describe(&odd).await.expect("an odd name is a name");
    let mut rows = Rows::new(10, 10);
    walk(
        &*source,
        &RowQuery {
            since: None,
            from: odd,
            ids: None,
        },
        2,
        &mut rows,
    )
    .await;
    assert_eq!(rows.kept.len(), 1);
    assert_eq!(
        source.tables().await.expect("lists"),
        ["odd`; drop table x", "x"]
    );
}

#[tokio::test]
async fn ids_restrict_a_scan_to_their_rows() {
    let mut database = Database::create("ids").await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, fk INT NOT NULL, sku VARCHAR(20), `key` TEXT, data TEXT, KEY (fk)); \
             INSERT INTO t SELECT seq, seq DIV 10, CONCAT('sku-', seq MOD 7), seq, '{}' FROM seq_1_to_1000",
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
        (query(None, &["5", "999", "77777"]), vec![5, 999]),
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

#[tokio::test]
async fn a_killed_connection_loses_no_row() {
    let mut database = Database::create("killed").await;
    // More than the sockets' buffers hold, so that the kill is noticed while rows are still to come.
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, `key` VARCHAR(20), data TEXT); \
             INSERT INTO t SELECT seq, seq, REPEAT('x', 2000) FROM seq_1_to_20000",
        )
        .await;
    let source = connect(&database).await;
    let mut range = source
        .partition(&all("t"), 1)
        .await
        .expect("partitions")
        .remove(0);
    let mut rows = Rows::new(20_000, 100);
    let (mut admin, name) = (database.another().await, database.name.clone());
    rows.trouble = Trouble::Act(Box::pin(async move {
        let id: i64 = sqlx::query_scalar(
            "SELECT id FROM processlist WHERE db = ? AND info LIKE 'SELECT `id`%'",
        )
        .bind(name)
        .fetch_one(&mut admin)
        .await
        .expect("the scan is running");
        admin
            .execute(AssertSqlSafe(format!("KILL CONNECTION {id}")))
            .await
            .expect("killed");
    }));
    let Err(ScanError::Source(error)) = source.scan(&all("t"), &range, &mut rows).await else {
        panic!("the scan did not notice")
    };
    assert_eq!(error.kind, ErrorKind::Connection, "{error}");
    assert!(rows.kept.len() < 20_000);

    rows.open.clear();
    range.after = rows
        .kept
        .last()
        .map(|(key, ..)| Cursor::single(key.clone()));
    source
        .scan(&all("t"), &range, &mut rows)
        .await
        .expect("scans on");
    assert_eq!(rows.keys(), (1..=20_000).collect::<Vec<i128>>());
}

#[tokio::test]
async fn s2_a_server_that_falls_silent_is_a_timeout() {
    let mut database = Database::create("silent").await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, `key` VARCHAR(20), data TEXT); \
             INSERT INTO t SELECT seq, seq, REPEAT('x', 2000) FROM seq_1_to_1000",
        )
        .await;
    let server = database.url_with(|_| ());
    let server = url::Url::parse(&server).expect("a URL");
    let address = format!(
        "{}:{}",
        server.host_str().expect("a host"),
        server.port().unwrap_or(3306)
    );
    let (line, port) = Line::to(address).await;
    let url = database.url_with(|url| {
        url.set_host(Some("127.0.0.1")).expect("set");
        url.set_port(Some(port)).expect("set");
    });
    let patience = Patience {
        read: Duration::from_millis(300),
        ..Patience::default()
    };
    let source = MySqlSource::connect(&SecretString::from(url), None, patience)
        .await
        .expect("connects");
    let range = source
        .partition(&all("t"), 1)
        .await
        .expect("partitions")
        .remove(0);
    let mut rows = Rows::new(1_000, 10);
    rows.trouble = Trouble::Silence(line);
    let Err(ScanError::Source(error)) = source.scan(&all("t"), &range, &mut rows).await else {
        panic!("the scan did not notice")
    };
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert!(
        error
            .message
            .contains("sent nothing for the rows of `t` within 300ms"),
        "{error}"
    );
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_a_timeout() {
    let mut database = Database::create("slow").await;
    table_of(&mut database, "t", "INT", 1..=3).await;
    let patience = Patience {
        statement: Duration::from_secs(1),
        ..Patience::default()
    };
    let source = MySqlSource::connect(&SecretString::from(database.url()), None, patience)
        .await
        .expect("connects");
    let slow = RowQuery {
        since: None,
        from: RowSource {
            condition: Some("SLEEP(20) = 0".into()),
            ..url_table("t")
        },
        ids: None,
    };
    let error = source.count(&slow).await.expect_err("cut by the server");
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert!(error.message.contains("max_statement_time"), "{error}");
}

#[tokio::test]
async fn sessions_are_pinned_and_cannot_write() {
    let mut database = Database::create("pinned").await;
    table_of(&mut database, "t", "INT", 1..=3).await;
    database
        .execute(
            "CREATE TABLE log (x INT); \
             CREATE FUNCTION write_log() RETURNS INT BEGIN INSERT INTO log VALUES (1); RETURN 1; END",
        )
        .await;
    let source = connect(&database).await;
    let pinned = "@@sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION' \
        AND @@time_zone = '+00:00' AND @@tx_isolation = 'READ-COMMITTED' AND @@tx_read_only = 1 \
        AND @@character_set_results = 'utf8mb4' AND @@character_set_client = 'utf8mb4' \
        AND @@max_statement_time = 600 AND @@net_write_timeout = 600 AND @@autocommit = 1";
    let with = |condition: &str| RowQuery {
        since: None,
        from: RowSource {
            condition: Some(condition.to_owned()),
            ..url_table("t")
        },
        ids: None,
    };
    assert_eq!(source.count(&with(pinned)).await.expect("counts"), 3);

    let error = source
        .count(&with("write_log() = 1"))
        .await
        .expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("READ ONLY transaction"), "{error}");
    assert_eq!(database.number("SELECT COUNT(*) FROM log").await, 0);
}

#[tokio::test]
async fn identity_tells_databases_apart() {
    let (one, two) = (
        Database::create("id_one").await,
        Database::create("id_two").await,
    );
    let first = connect(&one).await;
    let again = connect(&one).await.identity().await.expect("has one");
    assert_eq!(first.identity().await.expect("has one"), again);
    assert_ne!(
        connect(&two).await.identity().await.expect("has one"),
        again
    );
    assert!(
        first.place().starts_with("mariadb at "),
        "{}",
        first.place()
    );
    assert!(
        first.place().ends_with(&format!("/{}", one.name)),
        "{}",
        first.place()
    );
}

#[tokio::test]
async fn a_server_without_room_for_a_connection_is_busy() {
    let mut database = Database::create("room").await;
    let user = database.name.clone();
    database
        .execute(format!(
            "CREATE USER {user}@'%' IDENTIFIED BY 'u-pw' WITH MAX_USER_CONNECTIONS 1; \
             GRANT SELECT ON {user}.* TO {user}@'%'; CREATE TABLE t (id INT)"
        ))
        .await;
    let url = database.url_with(|url| {
        url.set_username(&user).expect("a user");
        url.set_password(Some("u-pw")).expect("a password");
    });
    let first = source::connect(&config(url.clone()))
        .await
        .expect("connects");
    let error = refusal(url).await;
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
    // One connection serves call after call.
    for _ in 0..3 {
        assert_eq!(first.tables().await.expect("lists"), ["t"]);
    }
}

#[tokio::test]
async fn a_stopped_scan_leaves_the_source_usable() {
    let mut database = Database::create("stopped").await;
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
