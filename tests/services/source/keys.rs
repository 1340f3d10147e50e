//! Pages of any table cover it once, in order, whatever its key is made of. An engine joins by one line in [`engines`].

use std::sync::Arc;

use async_trait::async_trait;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rekindle::{
    chunk::SourceRow,
    cursor::{Cursor, KeyRange, KeyValue},
    plan::{MoreKeys, RowSource, SourceConfig, SourceKind},
    source::{self, RowQuery, RowSink, ScanError, Source, Stopped},
};
use secrecy::SecretString;
use sqlx::Row as _;
use tempfile::TempDir;

use crate::{postgres::PgDatabase, support::Database};

/// The type of a key column, and its values by number as SQL literals. Different numbers may be the same value.
type KeyColumn = (&'static str, fn(u32) -> String);

/// A database that tables of any key are made in.
#[async_trait]
trait Engine: Send {
    fn name(&self) -> &'static str;
    fn columns(&self) -> &'static [KeyColumn];
    /// Makes `t` anew, with the columns `k0`, `k1`, ... as its primary key; rows of equal keys but the first are left out.
    async fn fill(&mut self, columns: &[KeyColumn], rows: &[Vec<u32>]);
    /// Returns column `key` of each row in the order of the key.
    async fn ordered(&mut self, order: &str) -> Vec<String>;
    async fn source(&self) -> Arc<dyn Source>;
    /// Returns how many rows of `t` the server has read by its own count, where it counts.
    async fn rows_read(&mut self) -> Option<u64>;
}

async fn engines() -> Vec<Box<dyn Engine>> {
    vec![
        Box::new(Mariadb(Database::create("keys").await)),
        Box::new(Postgres::create().await),
        Box::new(Sqlite(TempDir::new().expect("a folder"))),
    ]
}

/// Letters that collations disagree about: case, accents, a blank at the end, what sorts between the letters.
fn letters(number: u32) -> String {
    const LETTERS: [&str; 12] = ["a", "A", "b", "B", "ä", "é", "Z", "z", "_", " ", "ß", "0"];
    let mut number = number as usize;
    let mut text = String::new();
    for _ in 0..3 {
        text.push_str(LETTERS[number % LETTERS.len()]);
        number /= LETTERS.len();
    }
    format!("'{text}'")
}

fn letters_and_number(number: u32) -> String {
    letters(number).trim_end_matches('\'').to_owned() + &format!("{number}'")
}

fn days(number: u32) -> String {
    format!("DATE_ADD('2023-12-31', INTERVAL {number} DAY)")
}

fn hex(number: u32) -> String {
    format!("x'{:08x}'", number.wrapping_mul(2_654_435_761))
}

struct Mariadb(Database);

#[async_trait]
impl Engine for Mariadb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn columns(&self) -> &'static [KeyColumn] {
        &[
            ("INT", |n| (i64::from(n) * 7 - 1_000).to_string()),
            ("BIGINT UNSIGNED", |n| {
                (u64::MAX - u64::from(n) * (1 << 53)).to_string()
            }),
            // Digits that a floating-point number cannot tell apart.
            ("DECIMAL(30,10)", |n| {
                format!("-12345678901234567890.{n:010}")
            }),
            ("DATETIME(6)", |n| format!("'2024-02-29 23:59:59.{n:06}'")),
            ("TIMESTAMP(3)", |n| {
                format!("'2024-03-31 0{}:30:00.{n:03}'", n % 6)
            }),
            ("DATE", days),
            ("TIME(6)", |n| format!("'-{:02}:00:00.{n:06}'", n % 60)),
            ("VARCHAR(20) COLLATE utf8mb4_general_ci", letters),
            ("VARCHAR(20) COLLATE utf8mb4_unicode_520_nopad_ci", letters),
            ("VARCHAR(20) COLLATE utf8mb4_bin", letters),
            ("VARCHAR(20) COLLATE utf8mb4_nopad_bin", letters),
            ("VARCHAR(20) CHARACTER SET latin1", letters_and_number),
            ("VARCHAR(20) CHARACTER SET utf8mb3", letters_and_number),
            (
                "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin",
                letters,
            ),
            ("VARCHAR(20) CHARACTER SET ucs2", letters_and_number),
            ("CHAR(8) COLLATE utf8mb4_german2_ci", letters),
            ("VARBINARY(9)", |n| {
                format!("x'{}'", "00".repeat(n as usize % 4) + &format!("{n:04x}"))
            }),
            ("BINARY(6)", hex),
            ("UUID", |n| {
                format!(
                    "'{:08x}-e89b-12d3-a456-4266{n:08x}'",
                    n.wrapping_mul(2_654_435_761)
                )
            }),
        ]
    }

    async fn fill(&mut self, columns: &[KeyColumn], rows: &[Vec<u32>]) {
        self.0
            .execute(table(columns, rows, "INSERT IGNORE", ""))
            .await;
        self.0.count_rows_read().await;
        self.0.execute("ANALYZE TABLE t").await;
    }

    async fn ordered(&mut self, order: &str) -> Vec<String> {
        let mut rows = self.0.rows(format!("SELECT `key` FROM t ORDER BY {order}"));
        let mut keys = Vec::new();
        while let Some(row) = futures_util::StreamExt::next(&mut rows).await {
            keys.push(row.expect("a row").get(0));
        }
        keys
    }

    async fn source(&self) -> Arc<dyn Source> {
        connect(SourceKind::Mysql, self.0.url()).await
    }

    async fn rows_read(&mut self) -> Option<u64> {
        Some(self.0.rows_read("t").await)
    }
}

struct Postgres(PgDatabase);

impl Postgres {
    async fn create() -> Self {
        let mut database = PgDatabase::create("key_types").await;
        database
            .execute(
                "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
            )
            .await;
        Self(database)
    }
}

#[async_trait]
impl Engine for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn columns(&self) -> &'static [KeyColumn] {
        &[
            ("SMALLINT", |n| (i64::from(n) - 1_000).to_string()),
            ("BIGINT", |n| (i64::MIN + (i64::from(n) << 52)).to_string()),
            ("NUMERIC(30,10)", |n| {
                format!("-12345678901234567890.{n:010}")
            }),
            ("TIMESTAMP", |n| format!("'2024-02-29 23:59:59.{n:06}'")),
            ("TIMESTAMPTZ", |n| {
                format!("'2024-03-31 0{}:30:00.{n:06}+01'", n % 6)
            }),
            ("DATE", |n| format!("DATE '2023-12-31' + {n}")),
            ("TIME", |n| format!("'{:02}:00:00.{n:06}'", n % 24)),
            ("VARCHAR(20)", letters),
            ("TEXT COLLATE \"en-x-icu\"", letters),
            ("VARCHAR(20) COLLATE caseless", letters),
            ("CHAR(8) COLLATE \"de-x-icu\"", letters),
            ("BYTEA", |n| {
                format!(
                    "decode('{}', 'hex')",
                    "00".repeat(n as usize % 4) + &format!("{n:04x}")
                )
            }),
            ("UUID", |n| {
                format!(
                    "'{:08x}-e89b-12d3-a456-4266{n:08x}'",
                    n.wrapping_mul(2_654_435_761)
                )
            }),
        ]
    }

    async fn fill(&mut self, columns: &[KeyColumn], rows: &[Vec<u32>]) {
        let mut sql = table(columns, rows, "INSERT", "").replace('`', "");
        if !rows.is_empty() {
            sql += " ON CONFLICT DO NOTHING";
        }
        self.0.execute(sql).await;
        self.0.execute("ANALYZE t").await;
    }

    async fn ordered(&mut self, order: &str) -> Vec<String> {
        self.0
            .texts(format!("SELECT key FROM t ORDER BY {order}"))
            .await
    }

    async fn source(&self) -> Arc<dyn Source> {
        connect(SourceKind::Postgres, self.0.url()).await
    }

    /// Sessions report when they end; `postgres_keys` counts with sessions that do.
    async fn rows_read(&mut self) -> Option<u64> {
        None
    }
}

struct Sqlite(TempDir);

impl Sqlite {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("keys.db")
    }
}

#[async_trait]
impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn columns(&self) -> &'static [KeyColumn] {
        &[
            ("INTEGER", |n| (i64::from(n) * 7 - 1_000).to_string()),
            ("TEXT", letters),
            ("TEXT COLLATE NOCASE", letters),
            ("TEXT COLLATE RTRIM", letters),
            ("BLOB", hex),
            // Each value has its own type.
            ("NUMERIC", |n| {
                [hex, letters, |n: u32| n.to_string()][n as usize % 3](n)
            }),
        ]
    }

    async fn fill(&mut self, columns: &[KeyColumn], rows: &[Vec<u32>]) {
        let db = rusqlite::Connection::open(self.path()).expect("opens");
        let ending = if rows.len().is_multiple_of(2) {
            "WITHOUT ROWID"
        } else {
            ""
        };
        db.execute_batch(&table(columns, rows, "INSERT OR IGNORE", ending))
            .expect("runs");
    }

    async fn ordered(&mut self, order: &str) -> Vec<String> {
        let db = rusqlite::Connection::open(self.path()).expect("opens");
        let mut ordered = db
            .prepare(&format!("SELECT key FROM t ORDER BY {order}"))
            .expect("prepares");
        let keys = ordered.query_map([], |row| row.get(0)).expect("runs");
        keys.collect::<Result<_, _>>().expect("reads")
    }

    async fn source(&self) -> Arc<dyn Source> {
        connect(
            SourceKind::Sqlite,
            format!("sqlite:{}", self.path().display()),
        )
        .await
    }

    async fn rows_read(&mut self) -> Option<u64> {
        None
    }
}

pub(super) async fn connect(kind: SourceKind, url: String) -> Arc<dyn Source> {
    let config = SourceConfig {
        kind,
        url: SecretString::from(url),
        tls: None,
    };
    source::connect(&config).await.expect("connects")
}

/// Returns the statements that make and fill `t`.
fn table(columns: &[KeyColumn], rows: &[Vec<u32>], insert: &str, ending: &str) -> String {
    let names = names(columns.len()).join(", ");
    let types: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, (sql, _))| format!("k{at} {sql} NOT NULL"))
        .collect();
    let values: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(number, row)| {
            let key: Vec<String> = columns.iter().zip(row).map(|((_, of), n)| of(*n)).collect();
            format!("({}, 'row {number}', '{{}}')", key.join(", "))
        })
        .collect();
    let mut sql = format!(
        "DROP TABLE IF EXISTS t; CREATE TABLE t ({}, `key` VARCHAR(20), data TEXT, PRIMARY KEY ({names})) {ending};",
        types.join(", ")
    );
    if !values.is_empty() {
        sql += &format!("{insert} INTO t VALUES {}", values.join(", "));
    }
    sql
}

fn names(columns: usize) -> Vec<String> {
    (0..columns).map(|at| format!("k{at}")).collect()
}

fn query(columns: usize) -> RowQuery {
    RowQuery {
        since: None,
        from: RowSource {
            table: "t".into(),
            cursor: names(columns),
            key: "key".into(),
            value: "data".into(),
            entity: None,
            store: None,
            more_keys: MoreKeys::default(),
            condition: None,
            reads_ids: false,
        },
        ids: None,
    }
}

/// Keeps the key of each row, and stops between pages now and then.
struct Kept {
    page: u32,
    keys: Vec<String>,
    cursor: Option<Cursor>,
    pages: u32,
    /// Stop after so many pages.
    stop: u32,
}

#[async_trait]
impl RowSink for Kept {
    fn page_rows(&self) -> u32 {
        self.page
    }
    fn row_bytes(&self) -> u64 {
        u64::MAX
    }
    fn push(&mut self, row: SourceRow<'_>) -> bool {
        let key = row.key.expect("has a key");
        self.keys.push(String::from_utf8_lossy(key).into_owned());
        self.cursor = Some(Cursor(row.cursor.to_vec()));
        false
    }
    async fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
    fn page_ended(&mut self) -> Result<(), Stopped> {
        self.pages += 1;
        if self.pages.is_multiple_of(self.stop) {
            Err(Stopped)
        } else {
            Ok(())
        }
    }
}

/// Scans `range` to its end. When stopped it goes on as a new process would: from the cursor that the journal kept.
async fn scan_on(source: &dyn Source, query: &RowQuery, range: &KeyRange, kept: &mut Kept) {
    let mut rest = range.clone();
    loop {
        match source.scan(query, &rest, kept).await {
            Ok(()) => return,
            Err(ScanError::Stopped) => {
                let journaled = serde_json::to_string(&kept.cursor).expect("journaled");
                rest.after = serde_json::from_str(&journaled).expect("read back");
            }
            Err(ScanError::Source(error)) => panic!("{error}"),
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    /// Which columns, each by its place among the engine's.
    columns: Vec<usize>,
    rows: Vec<Vec<u32>>,
    page: u32,
    parts: u32,
    stop: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    (1_usize..=4).prop_flat_map(|columns| {
        // The first columns repeat, so that the later ones decide.
        let values: Vec<_> = (1..=columns)
            .map(|at| if at == columns { 0..900_u32 } else { 0..4_u32 })
            .collect();
        (
            prop::collection::vec(0_usize..1_000, columns),
            prop::collection::vec(values, 0..300),
            prop_oneof![Just(1_u32), 2..60_u32],
            1_u32..4,
            1_u32..5,
        )
            .prop_map(|(columns, rows, page, parts, stop)| Case {
                columns,
                rows,
                page,
                parts,
                stop,
            })
    })
}

async fn covers(engine: &mut dyn Engine, case: &Case) {
    let all = engine.columns();
    let columns: Vec<KeyColumn> = case.columns.iter().map(|at| all[at % all.len()]).collect();
    let name = engine.name();
    let types: Vec<&str> = columns.iter().map(|(sql, _)| *sql).collect();
    engine.fill(&columns, &case.rows).await;
    let wanted = engine.ordered(&names(columns.len()).join(", ")).await;
    let source = engine.source().await;
    let query = query(columns.len());

    let before = engine.rows_read().await;
    let mut kept = Kept {
        page: case.page,
        keys: Vec::new(),
        cursor: None,
        pages: 0,
        stop: case.stop,
    };
    let ranges = source
        .partition(&query, case.parts)
        .await
        .unwrap_or_else(|error| panic!("{name} {types:?}: {error}"));
    let probed = engine.rows_read().await;
    for range in &ranges {
        scan_on(&*source, &query, range, &mut kept).await;
    }
    assert_eq!(kept.keys, wanted, "{name} {types:?}");
    assert_eq!(ranges.is_empty(), wanted.is_empty());
    if let (Some(before), Some(probed), Some(after)) = (before, probed, engine.rows_read().await) {
        let (probed, read) = (probed - before, after - probed);
        assert!(
            probed <= 100,
            "{name} {types:?}: {probed} rows read to find the ranges"
        );
        // A scan that is stopped after each page ends in a page of no rows, which still looks where it begins.
        let looks = 2 * columns.len() as u64 * ranges.len() as u64;
        assert!(
            read <= 2 * wanted.len() as u64 + looks,
            "{name} {types:?}: {read} rows read for {} in {} pages of {}",
            wanted.len(),
            kept.pages,
            case.page
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn s3_pages_of_any_key_cover_a_table_once_in_order() {
    let runtime = runtime();
    for mut engine in runtime.block_on(engines()) {
        let config = Config {
            cases: 48,
            failure_persistence: None,
            ..Config::default()
        };
        let engine = std::cell::RefCell::new(&mut engine);
        TestRunner::new(config)
            .run(&cases(), |case| {
                runtime.block_on(covers(&mut ***engine.borrow_mut(), &case));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn s4_every_type_is_a_key_alone_and_first_of_two() {
    let runtime = runtime();
    for mut engine in runtime.block_on(engines()) {
        for column in 0..engine.columns().len() {
            for columns in [vec![column], vec![column, 0]] {
                let rows = (0..400).map(|n| vec![n % 200, n]).collect();
                let case = Case {
                    columns,
                    rows,
                    page: 17,
                    parts: 2,
                    stop: 3,
                };
                runtime.block_on(covers(&mut *engine, &case));
            }
        }
    }
}

#[test]
fn a_range_is_cut_at_a_key_inside_it_without_reading_it() {
    let runtime = runtime();
    for mut engine in runtime.block_on(engines()) {
        let texts: fn(u32) -> String =
            |n| format!("'product:de_de:{}'", n.wrapping_mul(2_654_435_761));
        let shops: fn(u32) -> String = |n| (n % 3).to_string();
        for columns in [
            vec![("VARCHAR(40)", texts)],
            vec![("INT", shops), ("VARCHAR(40)", texts)],
        ] {
            let rows: Vec<_> = (0..9_000).map(|n| vec![n; columns.len()]).collect();
            runtime.block_on(engine.fill(&columns, &rows));
            let whole = runtime.block_on(async {
                let source = engine.source().await;
                let query = query(columns.len());
                let range = source
                    .partition(&query, 1)
                    .await
                    .expect("partitions")
                    .remove(0);
                let before = engine.rows_read().await;
                let at = source.middle(&query, &range).await.expect("searches");
                let read = engine.rows_read().await.zip(before);
                let at = at.expect("has a middle");
                if let Some((after, before)) = read {
                    assert!(
                        after - before < 100,
                        "{} rows read for a cut",
                        after - before
                    );
                }
                let mut kept = Kept {
                    page: 1_000,
                    keys: Vec::new(),
                    cursor: None,
                    pages: 0,
                    stop: 1_000,
                };
                let halves = [
                    KeyRange {
                        after: None,
                        until: at.clone(),
                    },
                    KeyRange {
                        after: Some(at.clone()),
                        until: range.until.clone(),
                    },
                ];
                let mut sizes = Vec::new();
                for half in &halves {
                    let had = kept.keys.len();
                    source.scan(&query, half, &mut kept).await.expect("scans");
                    sizes.push(kept.keys.len() - had);
                    if half.after.is_none() {
                        assert_eq!(kept.cursor.as_ref(), Some(&at), "the key exists");
                    }
                }
                assert!(
                    sizes.iter().all(|rows| *rows >= 1_000),
                    "{}: {sizes:?}",
                    engine.name()
                );
                let few = KeyRange {
                    after: Some(range.until.clone()),
                    until: range.until,
                };
                assert_eq!(source.middle(&query, &few).await.expect("searches"), None);
                kept.keys
            });
            let order = names(columns.len()).join(", ");
            assert_eq!(
                whole,
                runtime.block_on(engine.ordered(&order)),
                "{}",
                engine.name()
            );
        }
    }
}

#[test]
fn ids_filter_a_column_of_any_type() {
    let runtime = runtime();
    for mut engine in runtime.block_on(engines()) {
        let columns = engine.columns();
        let rows: Vec<_> = (0..40).map(|n| vec![n]).collect();
        for (at, column) in columns.iter().enumerate() {
            if column.0 == "NUMERIC" {
                // Of SQLite: values of any type, while an id has one.
                continue;
            }
            runtime.block_on(engine.fill(&[*column], &rows));
            runtime.block_on(async {
                let (source, mut query) = (engine.source().await, query(1));
                let whole = source
                    .partition(&query, 1)
                    .await
                    .expect("partitions")
                    .remove(0);
                let id = match &whole.until.0[0] {
                    KeyValue::Text(text)
                    | KeyValue::Decimal(text)
                    | KeyValue::Timestamp(text)
                    | KeyValue::Date(text)
                    | KeyValue::Time(text)
                    | KeyValue::Uuid(text) => text.clone(),
                    other => other.to_string(),
                };
                query.ids = Some(vec![id.clone()]);
                let found = source.count(&query).await;
                let type_name = columns[at].0;
                assert_eq!(
                    found.expect("counts"),
                    1,
                    "{} {type_name}: {id}",
                    engine.name()
                );
            });
        }
    }
}
