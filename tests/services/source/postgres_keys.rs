//! Keys of every type on PostgreSQL: each row once, in the server's own order, by the index.

use async_trait::async_trait;
use rekindle::{
    chunk::SourceRow,
    cursor::{Cursor, KeyRange},
    error::ErrorKind,
    plan::RowSource,
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
};

use super::{postgres::connect, url_table};
use crate::postgres::PgDatabase;

/// How keys are made: the columns of the table's only unique index, and what gives them for each number `n` of
/// 1..=3000.
struct Keys {
    table: &'static str,
    columns: &'static [(&'static str, &'static str, &'static str)],
}

/// Types whose text sorts otherwise than they do, or whose values have more digits than a careless type keeps.
const KEYS: [Keys; 13] = [
    Keys {
        table: "texts",
        columns: &[(
            "k",
            "text",
            "chr(97 + n % 26) || 'ä€😀' || n || repeat('x', n % 5)",
        )],
    },
    Keys {
        table: "varchars",
        columns: &[(
            "k",
            "varchar(40) COLLATE \"en-x-icu\"",
            "CASE n % 3 WHEN 0 THEN 'É' WHEN 1 THEN 'e' ELSE 'E ' END || n",
        )],
    },
    Keys {
        table: "chars",
        columns: &[(
            "k",
            "char(9)",
            "CASE n % 2 WHEN 0 THEN 'a' ELSE 'A' END || n",
        )],
    },
    Keys {
        table: "caseless",
        columns: &[(
            "k",
            "text COLLATE caseless",
            "CASE n % 3 WHEN 0 THEN 'ärger' WHEN 1 THEN 'Arger' ELSE 'ÄRGER' END || n",
        )],
    },
    Keys {
        table: "binaries",
        columns: &[(
            "k",
            "bytea",
            "decode(md5(n::text), 'hex') || '\\x00'::bytea",
        )],
    },
    Keys {
        table: "numerics",
        columns: &[(
            "k",
            "numeric",
            "CASE n WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' ELSE (n - 1500) * 10 ^ 30 + n / 7.0 END",
        )],
    },
    Keys {
        table: "uuids",
        columns: &[("k", "uuid", "md5(n::text)::uuid")],
    },
    Keys {
        table: "days",
        columns: &[(
            "k",
            "date",
            "CASE n WHEN 1 THEN '-infinity' ELSE '0010-01-01 BC'::date + n * 7 END",
        )],
    },
    Keys {
        table: "moments",
        columns: &[(
            "k",
            "timestamp",
            "CASE n WHEN 1 THEN 'infinity' ELSE timestamp '2026-03-29 02:00' + n * interval '1 microsecond' END",
        )],
    },
    Keys {
        table: "zoned",
        columns: &[(
            "k",
            "timestamptz",
            "timestamptz '1969-12-31 23:59:59.9985+00' + n * interval '1 microsecond'",
        )],
    },
    Keys {
        table: "domains",
        columns: &[("k", "sku", "n / 10.0")],
    },
    Keys {
        table: "two",
        columns: &[
            ("a", "int", "n % 7"),
            (
                "b",
                "char(2) COLLATE \"en-x-icu\"",
                "CASE n % 5 WHEN 0 THEN 'é' ELSE chr(97 + n % 5) END",
            ),
            ("c", "bigint", "n"),
        ],
    },
    Keys {
        table: "three",
        columns: &[
            ("a", "text", "'s' || n % 3"),
            ("b", "numeric(20, 3)", "(n % 400) / 8.0"),
            ("c", "uuid", "md5(n::text)::uuid"),
        ],
    },
];

async fn made(database: &mut PgDatabase, keys: &Keys) -> RowQuery {
    let list = |part: fn(&(&str, &str, &str)) -> String| {
        keys.columns.iter().map(part).collect::<Vec<_>>().join(", ")
    };
    let table = keys.table;
    database
        .execute(format!(
            "CREATE TABLE {table} ({}, n INT, store CHAR(2), key TEXT, data TEXT, PRIMARY KEY ({})); \
             INSERT INTO {table} SELECT {}, n, 'DE', n, repeat('x', 300) FROM generate_series(1, 3000) n; \
             CREATE INDEX ON {table} (store); ANALYZE {table}",
            list(|(name, kind, _)| format!("{name} {kind}")),
            list(|(name, ..)| (*name).to_owned()),
            list(|(.., value)| (*value).to_owned()),
        ))
        .await;
    RowQuery {
        since: None,
        from: RowSource {
            cursor: keys
                .columns
                .iter()
                .map(|(name, ..)| (*name).into())
                .collect(),
            ..url_table(table)
        },
        ids: None,
    }
}

/// Keeps cursors and keys of what was flushed.
struct Sink {
    page_rows: u32,
    chunk_rows: usize,
    /// Stops the scan after so many chunks, again and again.
    stop_after: usize,
    chunks: usize,
    open: Vec<(Cursor, String)>,
    kept: Vec<(Cursor, String)>,
}

impl Sink {
    fn new(page_rows: u32, chunk_rows: usize, stop_after: usize) -> Self {
        Self {
            page_rows,
            chunk_rows,
            stop_after,
            chunks: 0,
            open: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.kept.iter().map(|(_, name)| name.as_str()).collect()
    }
}

#[async_trait]
impl RowSink for Sink {
    fn page_rows(&self) -> u32 {
        self.page_rows
    }
    fn row_bytes(&self) -> u64 {
        u64::MAX
    }
    fn push(&mut self, row: SourceRow<'_>) -> bool {
        let name = String::from_utf8(row.key.expect("a key").to_vec()).expect("UTF-8");
        self.open.push((Cursor(row.cursor.to_vec()), name));
        self.open.len() >= self.chunk_rows
    }
    async fn flush(&mut self) -> Result<(), Stopped> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.kept.append(&mut self.open);
        self.chunks += 1;
        if self.chunks.is_multiple_of(self.stop_after) {
            return Err(Stopped);
        }
        Ok(())
    }
}

async fn in_order(database: &mut PgDatabase, keys: &Keys) -> Vec<String> {
    let order: Vec<&str> = keys.columns.iter().map(|(name, ..)| *name).collect();
    let sql = format!(
        "SELECT key FROM {} ORDER BY {}",
        keys.table,
        order.join(", ")
    );
    database.texts(sql).await
}

/// Reads all of `query`; where the sink stops it, from the last kept row on.
async fn read(source: &dyn Source, query: &RowQuery, sink: &mut Sink) {
    for mut range in source.partition(query, 3).await.expect("partitions") {
        loop {
            match source.scan(query, &range, sink).await {
                Ok(()) => break,
                Err(ScanError::Stopped) => sink.open.clear(),
                Err(ScanError::Source(error)) => panic!("{error}"),
            }
            range.after = sink.kept.last().map(|(cursor, _)| cursor.clone());
        }
    }
}

#[tokio::test]
async fn s5_keys_of_every_type_give_each_row_once_in_the_servers_order() {
    let mut database = PgDatabase::create("keys").await;
    database
        .execute(
            "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
             CREATE DOMAIN sku AS numeric(10, 2) NOT NULL",
        )
        .await;
    for keys in &KEYS {
        let query = made(&mut database, keys).await;
        let wanted = in_order(&mut database, keys).await;
        assert_eq!(wanted.len(), 3_000);
        let mut whole = Sink::new(997, 1_000, usize::MAX);
        for page_rows in [1, 7, 997] {
            let before = database.rows_read(keys.table).await;
            let source = connect(&database).await;
            whole = Sink::new(page_rows, 1_000, usize::MAX);
            read(&*source, &query, &mut whole).await;
            assert_eq!(whole.names(), wanted, "{}", keys.table);
            drop(source);
            let read_rows = database.rows_read(keys.table).await - before;
            assert!(
                read_rows <= 6_000,
                "{read_rows} rows of {} read for 3000 in pages of {page_rows}",
                keys.table
            );
        }

        let source = connect(&database).await;
        let mut stopped = Sink::new(100, 33, 7);
        read(&*source, &query, &mut stopped).await;
        assert_eq!(stopped.names(), wanted, "{}", keys.table);

        // Begun again after a row, the scan goes on with the next one, also from what the journal holds.
        for at in [0, 1, 2, 1_499, 2_997, 2_998, 2_999] {
            let cursor = &whole.kept[at].0;
            let text = serde_json::to_string(cursor).expect("text");
            let after: Cursor = serde_json::from_str(&text).expect("the same");
            assert_eq!(after, *cursor);
            let range = KeyRange {
                after: Some(after),
                until: whole.kept[2_999].0.clone(),
            };
            let mut rest = Sink::new(500, 500, usize::MAX);
            source.scan(&query, &range, &mut rest).await.expect("scans");
            assert_eq!(
                rest.names(),
                wanted[at + 1..],
                "{} after {text}",
                keys.table
            );
        }
    }
}

#[tokio::test]
async fn s5_keys_that_are_not_exact_are_refused() {
    let mut database = PgDatabase::create("inexact").await;
    database
        .execute(
            "CREATE TYPE mood AS ENUM ('happy'); \
             CREATE TABLE t (a real NOT NULL UNIQUE, b double precision NOT NULL UNIQUE, c interval NOT NULL UNIQUE, \
               d mood NOT NULL UNIQUE, e jsonb NOT NULL UNIQUE, f boolean NOT NULL UNIQUE, g timetz NOT NULL UNIQUE, \
               h int[] NOT NULL UNIQUE, i text NOT NULL, key text, data text); \
             CREATE UNIQUE INDEX ON t (i text_pattern_ops); CREATE UNIQUE INDEX ON t (i COLLATE \"de-x-icu\"); \
             CREATE UNIQUE INDEX ON t (i, a DESC)",
        )
        .await;
    let source = connect(&database).await;
    for (column, says) in [
        ("a", "the type of it is real"),
        ("b", "double precision"),
        ("c", "interval"),
        ("d", "mood"),
        ("e", "jsonb"),
        ("f", "boolean"),
        ("g", "time with time zone"),
        ("h", "integer[]"),
        ("i", "no unique index of its own"),
    ] {
        let from = RowSource {
            cursor: vec![column.into()],
            ..url_table("t")
        };
        let error = source.describe(&from).await.expect_err(column);
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
}
