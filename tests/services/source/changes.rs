//! Rows that changed since a moment, as real servers tell it by columns of every type that can.

use std::{sync::Arc, time::Duration};

use rekindle::{
    error::ErrorKind,
    plan::{ChangeColumn, Overlap},
    source::{Changes, RowQuery, Since, Source},
};

use super::{all, connect, postgres, rows::Rows, url_table, walk};
use crate::{postgres::PgDatabase, support::Database};

fn by(name: &str, overlap: Option<Overlap>) -> ChangeColumn {
    ChangeColumn {
        name: name.into(),
        overlap,
    }
}

/// Returns the rows that changed since the watermark that the source gives now, looked for as a catch-up does.
async fn changed(source: &dyn Source, by: &ChangeColumn) -> Vec<i128> {
    let from = url_table("t");
    let watermark = source.watermark(&from, by).await.expect("a watermark");
    let since = Since {
        column: by.name.clone(),
        watermark: watermark.expect("a value"),
        rows: None,
    };
    let query = |rows| RowQuery {
        since: Some(Since {
            rows,
            ..since.clone()
        }),
        ..all("t")
    };
    let count = source.count(&query(None)).await.expect("counts");
    let mut found: Vec<Vec<i128>> = Vec::new();
    // Along the key, and by the column's own index where it has one.
    for rows in [None, Some(count)] {
        let mut kept = Rows::new(2, 2);
        walk(source, &query(rows), 2, &mut kept).await;
        found.push(kept.keys());
    }
    assert_eq!(found[0], found[1], "{by:?}");
    assert_eq!(found[0].len() as u64, count, "{by:?}");
    found.remove(0)
}

async fn every_column_tells(source: Arc<dyn Source>, unsigned: &str) {
    let source = &*source;
    let minutes = |minutes| Some(Overlap::Time(Duration::from_mins(minutes)));
    for column in ["plain", "whole", "zoned"] {
        assert_eq!(changed(source, &by(column, None)).await, [2, 4, 5]);
        assert_eq!(changed(source, &by(column, minutes(0))).await, [2, 4]);
        assert_eq!(
            changed(source, &by(column, minutes(30))).await,
            [1, 2, 4, 5]
        );
    }
    assert_eq!(changed(source, &by("day", None)).await, [2, 4, 5]);
    for column in ["number", unsigned] {
        let number = |number| by(column, Some(Overlap::Number(number)));
        assert_eq!(changed(source, &by(column, None)).await, [2, 3, 4, 5]);
        assert_eq!(changed(source, &number(500)).await, [2, 4, 5]);
        assert_eq!(changed(source, &number(0)).await, [2, 4]);
        assert_eq!(changed(source, &number(u64::MAX)).await, [1, 2, 3, 4, 5]);
    }

    // A value of next year says nothing about what happens until then.
    assert_eq!(changed(source, &by("ahead_zoned", None)).await, [2, 3, 4]);
    assert_eq!(changed(source, &by("ahead", None)).await, [1, 2, 3, 4]);

    let from = url_table("t");
    let nothing = by("nothing", None);
    assert_eq!(
        source.watermark(&from, &nothing).await.expect("asked"),
        None
    );
    let absent = by("gone", None);
    assert_eq!(source.changes(&from, &absent).await.expect("asked"), None);
    assert_eq!(source.watermark(&from, &absent).await.expect("asked"), None);
    for (column, indexed) in [("plain", true), ("zoned", false)] {
        let changes = source.changes(&from, &by(column, None)).await;
        assert_eq!(
            changes.expect("asked"),
            Some(Changes { indexed }),
            "{column}"
        );
    }
    for (refused, says) in [
        (by("word", None), "`word` of table `t` at "),
        (by("key", None), "would do"),
        (by("number", minutes(5)), "has to be a whole number"),
        (by("plain", Some(Overlap::Number(5))), "has to be a time"),
    ] {
        let error = source.changes(&from, &refused).await.expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.message.contains(says), "{error}");
    }
}

#[tokio::test]
async fn every_type_of_mariadb_that_can_tells_what_changed() {
    let mut database = Database::create("changes").await;
    database
        .execute(
            "SET time_zone = '+00:00'; CREATE TABLE t (id INT NOT NULL PRIMARY KEY, `key` VARCHAR(99), data TEXT, \
             plain DATETIME(6), whole DATETIME, zoned TIMESTAMP(3) NULL, day DATE, number BIGINT, counted BIGINT UNSIGNED, \
             ahead DATETIME, ahead_zoned TIMESTAMP NULL, nothing DATETIME, word VARCHAR(9), INDEX (plain), INDEX (number)); \
             INSERT INTO t (id, `key`, data, plain, number) VALUES \
             (1, 'a', '1', UTC_TIMESTAMP(6) - INTERVAL 10 MINUTE, -10), (2, 'b', '2', NULL, NULL), \
             (3, 'c', '3', UTC_TIMESTAMP(6) - INTERVAL 1 HOUR, 5000), (4, 'd', '4', UTC_TIMESTAMP(6), 6000), \
             (5, 'e', '5', UTC_TIMESTAMP(6) - INTERVAL 4 MINUTE, 5500); \
             UPDATE t SET whole = plain, zoned = plain, counted = GREATEST(number, 1), \
             day = UTC_DATE() - INTERVAL ELT(id, 10, 0, 5, 0, 1) DAY, \
             ahead = UTC_TIMESTAMP() - INTERVAL ELT(id, 6, 0, 2, -99999, 24) HOUR WHERE id <> 2; \
             UPDATE t SET ahead_zoned = UTC_TIMESTAMP() - INTERVAL ELT(id, 60, 0, 2, -9999, 24) MINUTE WHERE id <> 2",
        )
        .await;
    every_column_tells(connect(&database).await, "counted").await;
}

#[tokio::test]
async fn every_type_of_postgresql_that_can_tells_what_changed() {
    let mut database = PgDatabase::create("changes").await;
    database
        .execute(
            "SET timezone = 'UTC'; CREATE TABLE t (id INT NOT NULL PRIMARY KEY, key VARCHAR(99), data TEXT, \
             plain TIMESTAMP, whole TIMESTAMP(0), zoned TIMESTAMPTZ, day DATE, number BIGINT, counted INT, \
             ahead TIMESTAMP, ahead_zoned TIMESTAMPTZ, nothing TIMESTAMP, word VARCHAR(9)); \
             CREATE INDEX ON t (plain); CREATE INDEX ON t (number); \
             INSERT INTO t (id, key, data, plain, number) VALUES \
             (1, 'a', '1', now() - interval '10 minutes', -10), (2, 'b', '2', NULL, NULL), \
             (3, 'c', '3', now() - interval '1 hour', 5000), (4, 'd', '4', now(), 6000), \
             (5, 'e', '5', now() - interval '4 minutes', 5500); \
             UPDATE t SET whole = date_trunc('second', plain), zoned = plain, counted = greatest(number, 1), \
             day = current_date - (ARRAY[10, 0, 5, 0, 1])[id], \
             ahead = now() - (ARRAY[6, 0, 2, -99999, 24])[id] * interval '1 hour', \
             ahead_zoned = now() - (ARRAY[60, 0, 2, -9999, 24])[id] * interval '1 minute' WHERE id <> 2; \
             UPDATE t SET ahead = 'infinity', ahead_zoned = 'infinity' WHERE id = 4",
        )
        .await;
    every_column_tells(postgres::connect(&database).await, "counted").await;
}

/// Asserts that few of 20,000 rows are read where an index finds those that changed.
async fn reads_few(source: &dyn Source, read: u64, before: u64) {
    assert!(read - before < 2_000, "{} rows read", read - before);
    let by = by("number", Some(Overlap::Number(100)));
    let changes = source.changes(&url_table("t"), &by).await.expect("asked");
    assert_eq!(changes, Some(Changes { indexed: true }));
}

/// Reads the rows that changed, in small pages; returns how many there were.
async fn read_few(source: &dyn Source) -> usize {
    let by = by("number", Some(Overlap::Number(100)));
    let from = url_table("t");
    let watermark = source.watermark(&from, &by).await.expect("a watermark");
    let mut since = Since {
        column: by.name,
        watermark: watermark.expect("a value"),
        rows: None,
    };
    let query = |since: &Since| RowQuery {
        since: Some(since.clone()),
        ..all("t")
    };
    since.rows = Some(source.count(&query(&since)).await.expect("counts"));
    let mut rows = Rows::new(50, 50);
    walk(source, &query(&since), 1, &mut rows).await;
    rows.keys().len()
}

#[tokio::test]
async fn an_index_finds_few_changed_rows_without_the_others() {
    let mut database = Database::create("changes_index").await;
    database.count_rows_read().await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, `key` VARCHAR(99), data TEXT, number BIGINT, INDEX (number)); \
             INSERT INTO t SELECT seq, CONCAT('k', seq), '{}', (seq * 7919) % 20000 FROM seq_1_to_20000; ANALYZE TABLE t",
        )
        .await;
    let source = connect(&database).await;
    let before = database.rows_read("t").await;
    assert_eq!(read_few(&*source).await, 101);
    drop(source);
    database.wait_until_alone().await;
    let read = database.rows_read("t").await;
    reads_few(&*connect(&database).await, read, before).await;

    let mut database = PgDatabase::create("changes_index").await;
    database
        .execute(
            "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, key VARCHAR(99), data TEXT, number BIGINT); \
             CREATE INDEX ON t (number); \
             INSERT INTO t SELECT id, 'k' || id, '{}', (id * 7919) % 20000 FROM generate_series(1, 20000) id",
        )
        .await;
    database.execute("ANALYZE t").await;
    let before = database.rows_read("t").await;
    let source = postgres::connect(&database).await;
    assert_eq!(read_few(&*source).await, 101);
    drop(source);
    let read = database.rows_read("t").await;
    reads_few(&*postgres::connect(&database).await, read, before).await;
}
