use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::{
    cursor::Cursor,
    plan::Overlap,
    source::{Stopped, connect},
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Bytes(Vec<u8>),
    Null,
    TooLarge(u64),
}

struct Rows {
    page_limit: u32,
    chunk_limit: usize,
    row_bytes: u64,
    stop_at: usize,
    open: usize,
    seen: Vec<(i128, Option<Vec<u8>>, Got)>,
    /// The keys as a person sees them.
    shown: Vec<String>,
}

impl Rows {
    fn new(page_limit: u32, chunk_limit: usize) -> Self {
        Self {
            page_limit,
            chunk_limit,
            row_bytes: u64::MAX,
            stop_at: usize::MAX,
            open: 0,
            seen: Vec::new(),
            shown: Vec::new(),
        }
    }

    fn keys(&self) -> Vec<i128> {
        self.seen.iter().map(|(key, ..)| *key).collect()
    }
}

#[async_trait]
impl RowSink for Rows {
    fn page_rows(&self) -> u32 {
        self.page_limit
    }
    fn row_bytes(&self) -> u64 {
        self.row_bytes
    }
    fn push(&mut self, row: SourceRow<'_>) -> bool {
        let got = match row.value {
            Value::Bytes(bytes) => Got::Bytes(bytes.to_vec()),
            Value::Null => Got::Null,
            Value::TooLarge(length) => Got::TooLarge(length),
        };
        self.shown.push(row.cursor[0].to_string());
        self.seen.push((
            row.cursor[0].as_i128().unwrap_or(i128::MAX),
            row.key.map(<[u8]>::to_vec),
            got,
        ));
        self.open += 1;
        self.open >= self.chunk_limit
    }
    async fn flush(&mut self) -> Result<(), Stopped> {
        assert!(
            self.open <= self.chunk_limit,
            "a row was pushed into a full chunk"
        );
        self.open = 0;
        // The flush of a real sink waits for others; a runtime that cannot do that shows here.
        tokio::task::yield_now().await;
        if self.seen.len() >= self.stop_at {
            Err(Stopped)
        } else {
            Ok(())
        }
    }
}

struct Shop {
    folder: TempDir,
    db: Connection,
}

impl Shop {
    fn new(sql: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let db = Connection::open(folder.path().join("shop.db")).expect("a database");
        db.execute_batch(sql).expect(sql);
        Self { folder, db }
    }

    fn with_ids(ids: impl IntoIterator<Item = i128>) -> Self {
        let shop = Self::new("CREATE TABLE t (id INTEGER PRIMARY KEY, key TEXT, data TEXT); BEGIN");
        let mut insert = shop
            .db
            .prepare("INSERT INTO t VALUES (?1, 'k' || ?1, '{}')")
            .expect("prepares");
        for id in ids {
            insert
                .execute([i64::try_from(id).expect("fits")])
                .expect("inserts");
        }
        drop(insert);
        shop.db.execute_batch("COMMIT").expect("commits");
        shop
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("shop.db")
    }

    fn source(&self) -> SqliteSource {
        open(&self.path()).expect("opens")
    }
}

fn open(path: &Path) -> Result<SqliteSource, EdgeError> {
    SqliteSource::open(&SecretString::from(format!("sqlite:{}", path.display())))
}

fn from(cursor: &str) -> RowSource {
    RowSource {
        table: "t".into(),
        cursor: vec![cursor.into()],
        key: "key".into(),
        value: "data".into(),
        entity: None,
        store: None,
        more_keys: crate::plan::MoreKeys::default(),
        condition: None,
        reads_ids: false,
    }
}

fn all() -> RowQuery {
    RowQuery {
        since: None,
        from: from("id"),
        ids: None,
    }
}

async fn walk(source: &SqliteSource, query: &RowQuery, parts: u32, rows: &mut Rows) -> Vec<usize> {
    let mut sizes = Vec::new();
    for range in source.partition(query, parts).await.expect("partitions") {
        let before = rows.seen.len();
        source.scan(query, &range, rows).await.expect("scans");
        sizes.push(rows.seen.len() - before);
    }
    sizes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pages_cover_a_table_once_in_order() {
    let ids: Vec<i128> = [i128::from(i64::MIN), -3, 0, 1]
        .into_iter()
        .chain(101..140)
        .chain((1 << 62)..(1 << 62) + 5)
        .chain([i128::from(i64::MAX)])
        .collect();
    let shop = Shop::with_ids(ids.iter().copied());
    let source = shop.source();
    for (page_rows, chunk_rows) in [(1, 1), (2, 5), (7, 7), (10, 3), (49, 49), (1_000, 1_000)] {
        let mut rows = Rows::new(page_rows, chunk_rows);
        walk(&source, &all(), 4, &mut rows).await;
        assert_eq!(rows.keys(), ids, "pages of {page_rows}");
    }
    assert_eq!(
        source.count(&all()).await.expect("counts"),
        ids.len() as u64
    );
    let mut rows = Rows::new(4, 4);
    walk(&Shop::with_ids([]).source(), &all(), 4, &mut rows).await;
    assert_eq!(rows.keys(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ranges_are_even_for_voids_and_crowds() {
    let crowd = (0..400)
        .map(|id| id * 10_000)
        .chain((2_030_001..2_070_001).filter(|id| id % 10_000 != 0));
    let voids = (1..=20_000).chain((1_i128 << 62)..(1 << 62) + 20_000);
    for (name, ids) in [
        ("crowd", crowd.collect::<Vec<i128>>()),
        ("voids", voids.collect()),
    ] {
        let rows_present = ids.len();
        let source = Shop::with_ids(ids);
        let source = source.source();
        for parts in [2, 4] {
            let mut rows = Rows::new(10_000, 10_000);
            let sizes = walk(&source, &all(), parts, &mut rows).await;
            assert_eq!(sizes.iter().sum::<usize>(), rows_present);
            assert_eq!(sizes.len(), parts as usize, "{name}");
            let most = sizes.iter().max().copied().unwrap_or(0);
            assert!(
                most * (parts as usize) < rows_present * 8 / 5,
                "{name}: {sizes:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn values_come_as_their_bytes_and_numbers_as_text() {
    let shop = Shop::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, key, data);
         INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', ''), (3, 'schlüssel 😀', '😀'), (4, x'00FF', x'E4F600'),
         (5, 12, 34), (6, NULL, 1.0), (7, 'large', zeroblob(1001)), (8, 'fits', zeroblob(1000))",
    );
    let mut rows = Rows::new(3, 3);
    rows.row_bytes = 1_000;
    walk(&shop.source(), &all(), 1, &mut rows).await;
    let got: Vec<(Option<Vec<u8>>, Got)> = rows
        .seen
        .into_iter()
        .map(|(_, key, got)| (key, got))
        .collect();
    let row = |key: &str, value: &[u8]| (Some(key.into()), Got::Bytes(value.into()));
    assert_eq!(
        got,
        [
            (Some(b"a".to_vec()), Got::Null),
            row("b", b""),
            row("schlüssel 😀", "😀".as_bytes()),
            (Some(vec![0, 0xFF]), Got::Bytes(vec![0xE4, 0xF6, 0])),
            row("12", b"34"),
            (None, Got::Bytes(b"1.0".to_vec())),
            (Some(b"large".to_vec()), Got::TooLarge(1_001)),
            row("fits", &[0; 1_000]),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_scan_stops_and_goes_on_after_the_cursor() {
    let shop = Shop::with_ids(1..=100);
    let source = shop.source();
    let mut range = source
        .partition(&all(), 1)
        .await
        .expect("partitions")
        .remove(0);
    let mut rows = Rows::new(20, 7);
    rows.stop_at = 30;
    let stopped = source.scan(&all(), &range, &mut rows).await;
    assert!(matches!(stopped, Err(ScanError::Stopped)));
    assert_eq!(
        rows.seen.len(),
        34,
        "20 of the first page, then two chunks of 7"
    );
    rows.stop_at = usize::MAX;
    range.after = Some(Cursor::single(KeyValue::Int(34)));
    source
        .scan(&all(), &range, &mut rows)
        .await
        .expect("scans on");
    assert_eq!(rows.keys(), (1..=100).collect::<Vec<i128>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[expect(clippy::too_many_lines, reason = "a table of refusals")]
async fn describe_tells_usable_cursors() {
    let shop = Shop::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT NOT NULL UNIQUE, maybe INT UNIQUE, part INT NOT NULL, key TEXT, data TEXT,
                         weight DOUBLE PRECISION NOT NULL UNIQUE, mixed TEXT NOT NULL COLLATE NOCASE,
                         made TEXT AS (key || 1) STORED NOT NULL, UNIQUE (n, made DESC));
         CREATE UNIQUE INDEX partial ON t (part) WHERE part > 0;
         CREATE UNIQUE INDEX otherwise ON t (mixed COLLATE BINARY);
         CREATE UNIQUE INDEX generated ON t (made, n);
         CREATE TABLE loose (id INT PRIMARY KEY, key TEXT, data TEXT);
         CREATE TABLE tight (id INT PRIMARY KEY, key TEXT, data TEXT) WITHOUT ROWID;
         INSERT INTO t VALUES (1, 5, 5, 5, 'k', 'v', 1, 'a'), (2, 3, 4, 4, 'l', 'w', 2, 'b')",
    );
    let source = shop.source();
    let shape = source.describe(&from("id")).await.expect("describes");
    assert_eq!(
        shape.fingerprint,
        "id INTEGER not null; key TEXT; data TEXT"
    );
    assert_eq!((shape.estimated_rows, shape.single_integer), (2, true));
    source
        .describe(&from("n"))
        .await
        .expect("unique and not null");
    source
        .describe(&RowSource {
            table: "tight".into(),
            ..from("id")
        })
        .await
        .expect("its table is the index");
    for (from, kind, says) in [
        (
            from("maybe"),
            ErrorKind::Refused,
            "it may be NULL; `id` or `made, n` or `n` would do",
        ),
        (
            from("part"),
            ErrorKind::Refused,
            "no unique index of its own",
        ),
        (from("key"), ErrorKind::Refused, "it may be NULL"),
        (
            from("weight"),
            ErrorKind::Refused,
            "the type of it is DOUBLE PRECISION",
        ),
        (
            from("mixed"),
            ErrorKind::Refused,
            "no unique index of its own",
        ),
        (
            RowSource {
                table: "loose".into(),
                ..from("id")
            },
            ErrorKind::Refused,
            "it may be NULL; no index",
        ),
        (
            RowSource {
                table: "tigt".into(),
                ..from("id")
            },
            ErrorKind::Missing,
            "did you mean `tight`?",
        ),
        (
            RowSource {
                value: "dta".into(),
                ..from("id")
            },
            ErrorKind::Missing,
            "did you mean `data`?",
        ),
        (
            RowSource {
                condition: Some("n = ".into()),
                ..from("id")
            },
            ErrorKind::Refused,
            "syntax error",
        ),
        (
            RowSource {
                condition: Some("1) OR (1".into()),
                ..from("id")
            },
            ErrorKind::Refused,
            "syntax error",
        ),
        (
            RowSource {
                condition: Some("n = ?".into()),
                ..from("id")
            },
            ErrorKind::Refused,
            "placeholder",
        ),
    ] {
        let error = source.describe(&from).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rows_come_in_the_order_of_the_cursor_not_of_the_table() {
    let shop = Shop::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT NOT NULL UNIQUE, key TEXT, data TEXT);
         INSERT INTO t VALUES (1, 5, 'k', 'v'), (2, 3, 'l', 'w')",
    );
    let source = shop.source();
    let mut rows = Rows::new(1, 1);
    walk(
        &source,
        &RowQuery {
            since: None,
            from: from("n"),
            ids: None,
        },
        1,
        &mut rows,
    )
    .await;
    assert_eq!(rows.keys(), [3, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn conditions_and_ids_restrict_a_scan() {
    let shop = Shop::with_ids(1..=50);
    let source = shop.source();
    let query = |condition: Option<&str>, entity: Option<&str>, ids: &[&str]| RowQuery {
        since: None,
        from: RowSource {
            condition: condition.map(str::to_owned),
            entity: entity.map(str::to_owned),
            ..from("id")
        },
        ids: (!ids.is_empty()).then(|| ids.iter().map(|&id| id.to_owned()).collect()),
    };
    for (query, expected) in [
        (
            query(Some("id % 10 = 0 OR id = 1 -- few"), None, &[]),
            vec![1, 10, 20, 30, 40, 50],
        ),
        (query(None, None, &["7", "-1", "50"]), vec![7, 50]),
        (query(Some("id > 7"), Some("key"), &["k7", "k8"]), vec![8]),
    ] {
        let mut rows = Rows::new(2, 2);
        walk(&source, &query, 3, &mut rows).await;
        assert_eq!(rows.keys(), expected);
        assert_eq!(
            source.count(&query).await.expect("counts"),
            expected.len() as u64
        );
    }
    assert_eq!(
        source.sample_row_bytes(&all()).await.expect("samples"),
        Some(4)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys_of_any_type_but_real_are_read_in_the_order_of_the_index() {
    let shop = Shop::new(
        "CREATE TABLE t (id INT NOT NULL UNIQUE, key TEXT, data TEXT);
         INSERT INTO t VALUES (1, 'a', 'b'), ('x', 'c', 'd'), (x'00', 'e', 'f'), (-1, 'g', 'h')",
    );
    let source = shop.source();
    let mut rows = Rows::new(1, 1);
    walk(&source, &all(), 4, &mut rows).await;
    assert_eq!(rows.shown, ["-1", "1", "'x'", "0x00"]);

    for bad in ["1.5", "x'ff'"] {
        let cast = if bad == "1.5" {
            "1.5"
        } else {
            "CAST(x'ff' AS TEXT)"
        };
        shop.db
            .execute_batch(&format!("INSERT INTO t VALUES ({cast}, 'bad', '')"))
            .expect("inserts");
        let ranges = source.partition(&all(), 1).await.expect("partitions");
        let error = source
            .scan(&all(), &ranges[0], &mut Rows::new(9, 9))
            .await
            .expect_err("refused");
        let ScanError::Source(error) = error else {
            panic!("{error}")
        };
        assert_eq!(error.kind, ErrorKind::Refused);
        let says = match bad {
            "1.5" => "a row holds a floating-point number",
            _ => "a row holds text that is not UTF-8",
        };
        assert!(error.message.contains(says), "{error}");
        shop.db
            .execute_batch("DELETE FROM t WHERE key = 'bad'")
            .expect("deletes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_file_is_only_read() {
    let shop = Shop::with_ids(1..=3);
    let source = shop.source();
    let before = std::fs::read(shop.path()).expect("reads");
    walk(&source, &all(), 2, &mut Rows::new(2, 2)).await;
    assert_eq!(std::fs::read(shop.path()).expect("reads"), before);
    let error = source
        .connect()
        .expect("opens")
        .execute("DELETE FROM t", [])
        .expect_err("read-only");
    assert!(error.to_string().contains("readonly"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_writer_in_the_way_is_busy_not_broken() {
    let shop = Shop::with_ids(1..=3);
    let source = shop.source();
    shop.db.execute_batch("BEGIN EXCLUSIVE").expect("locks");
    let connection = source.connect().expect("opens");
    connection.busy_timeout(Duration::ZERO).expect("sets");
    let error = source
        .checked(&connection, &from("id"))
        .expect_err("locked");
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_is_missing_or_no_database_says_so() {
    let folder = TempDir::new().expect("a folder");
    let error = open(&folder.path().join("none.db")).expect_err("missing");
    assert_eq!(error.kind, ErrorKind::Missing);
    let text = folder.path().join("text.db");
    std::fs::write(
        &text,
        "this is not a database, however long it is ".repeat(40),
    )
    .expect("writes");
    let error = open(&text).expect_err("no database");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("file is not a database"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn urls_name_the_file_in_every_usual_form() {
    let shop = Shop::with_ids([1]);
    // Letters that mean something in other URLs mean themselves in a file name.
    let path = shop.path().with_file_name("50%41 of it?.db");
    std::fs::rename(shop.path(), &path).expect("renames");
    let path = path.display();
    let mut identities = Vec::new();
    for url in [format!("sqlite:{path}"), format!("sqlite://{path}")] {
        let config = crate::plan::SourceConfig {
            kind: crate::plan::SourceKind::Sqlite,
            url: SecretString::from(url),
            tls: None,
        };
        identities.push(
            connect(&config)
                .await
                .expect("opens")
                .identity()
                .await
                .expect("has one"),
        );
    }
    identities.dedup();
    assert_eq!(identities.len(), 1);
}

#[tokio::test]
async fn a_runtime_of_one_thread_is_an_error_not_a_panic() {
    let shop = Shop::with_ids([1]);
    assert_eq!(
        shop.source().count(&all()).await.expect_err("refused").kind,
        ErrorKind::Internal
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rows_that_changed_are_found_in_whatever_spelling_the_moment_is() {
    let shop = Shop::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, key TEXT, data TEXT, at DATETIME, day DATE, n INT, word TEXT);
         INSERT INTO t (id, key, data, at, n) VALUES
           (1, 'a', '', datetime('now', '-10 minutes'), 10), (2, 'b', '', NULL, NULL),
           (3, 'c', '', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-4 minutes'), 5500), (4, 'd', '', datetime('now'), 6000),
           (5, 'e', '', unixepoch('now', '-3 minutes'), 5000), (6, 'f', '', 'yesterday', 'many'),
           (7, 'g', '', strftime('%Y-%m-%d %H:%M:%S+02:00', 'now', '-10 minutes', '+2 hours'), 7);
         UPDATE t SET day = date('now', '-' || id || ' days')",
    );
    let source = shop.source();
    let column = |name: &str, overlap| ChangeColumn {
        name: name.into(),
        overlap,
    };
    let found = async |by: ChangeColumn| {
        let watermark = source.watermark(&from("id"), &by).await.expect("asked")?;
        let since = Some(crate::source::Since {
            column: by.name,
            watermark,
            rows: None,
        });
        let query = RowQuery { since, ..all() };
        let mut rows = Rows::new(2, 2);
        walk(&source, &query, 2, &mut rows).await;
        let count = source.count(&query).await.expect("counts");
        assert_eq!(count, rows.keys().len() as u64);
        Some(rows.keys())
    };
    let zero = Some(Overlap::Time(Duration::ZERO));
    assert_eq!(found(column("at", None)).await, Some(vec![2, 3, 4, 5, 6]));
    assert_eq!(found(column("at", zero)).await, Some(vec![2, 4, 6]));
    let days = Some(Overlap::Time(Duration::from_hours(48)));
    assert_eq!(found(column("day", days)).await, Some(vec![1, 2, 3]));
    // Not all of them are numbers: nothing can be said.
    assert_eq!(found(column("n", None)).await, None);
    shop.db
        .execute_batch("UPDATE t SET n = NULL WHERE id = 6")
        .expect("updates");
    assert_eq!(found(column("n", None)).await, Some(vec![2, 3, 4, 5, 6]));
    // A text comes after all numbers, and so is never left out.
    let since = Some(crate::source::Since {
        column: "n".into(),
        watermark: KeyValue::Int(6_000),
        rows: Some(3),
    });
    shop.db
        .execute_batch("UPDATE t SET n = 'many' WHERE id = 1")
        .expect("updates");
    let query = RowQuery { since, ..all() };
    assert_eq!(source.count(&query).await.expect("counts"), 4);

    shop.db
        .execute_batch("UPDATE t SET at = '2999-01-01' WHERE id = 4")
        .expect("updates");
    // Ahead of the clock: whatever changed in the last half day.
    let ahead = found(column("at", zero)).await.expect("a watermark");
    assert_eq!(ahead, [1, 2, 3, 4, 5, 6, 7]);

    for (by, says) in [
        (
            column("word", None),
            "cannot tell which rows changed: its type is TEXT",
        ),
        (column("n", zero), "has to be a whole number"),
        (column("at", Some(Overlap::Number(1))), "has to be a time"),
    ] {
        let error = source.changes(&from("id"), &by).await.expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.message.contains(says), "{error}");
    }
    let gone = column("gone", None);
    assert_eq!(
        source.changes(&from("id"), &gone).await.expect("asked"),
        None
    );
    assert_eq!(
        source.watermark(&from("id"), &gone).await.expect("asked"),
        None
    );
}
