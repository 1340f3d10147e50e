//! Looks at the cursor's index for `partition`.

use async_trait::async_trait;
use rusqlite::{Connection, Row, types::ValueRef};

use super::{SqliteSource, count, read_key};
use crate::{
    cursor::{Cursor, KeyValue},
    error::EdgeError,
    plan::RowSource,
    source::{
        keyset::{self, Statement as Sql, Values},
        middle::{Halves, LEAST_ROWS},
        partition,
        shape::Checked,
    },
};

/// Asks the cursor's index. Filters play no part: the bounds are those of the whole table.
pub(super) struct Probe<'a> {
    pub source: &'a SqliteSource,
    pub connection: Connection,
    pub table: &'a Checked,
    pub from: &'a RowSource,
}

/// Places of a segment at which [`Probe::estimate`] looks. With the eight segments of the first round the grid has 256
/// places, so a crowd in 1 % of the keys is met.
const SAMPLES: i128 = 32;
/// Rows stepped at each place.
const SAMPLE_ROWS: i128 = 16;

impl Probe<'_> {
    fn edge(&self, error: &rusqlite::Error) -> EdgeError {
        self.source.edge("its key range", error)
    }

    /// Returns the quoted table and the first column of its cursor.
    fn names(&self) -> (&str, &str) {
        let first = self.table.cursor.first().map_or("", |one| &one.quoted);
        (&self.table.table, first)
    }

    /// Runs a query of two integers; anything else reads as `None`.
    fn pair(&self, sql: &str, bounds: &[i64]) -> Result<[Option<i128>; 2], EdgeError> {
        let read = |row: &Row<'_>, column: usize| -> rusqlite::Result<Option<i128>> {
            Ok(match row.get_ref(column)? {
                ValueRef::Integer(key) => Some(key.into()),
                _ => None,
            })
        };
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                statement.query_row(rusqlite::params_from_iter(bounds), |row| {
                    Ok([read(row, 0)?, read(row, 1)?])
                })
            })
            .map_err(|error| self.edge(&error))
    }
}

/// Keys come from the column, so they fit; the places between them do too.
fn narrow(key: i128) -> i64 {
    i64::try_from(key).unwrap_or(if key < 0 { i64::MIN } else { i64::MAX })
}

#[async_trait]
impl partition::Probe for Probe<'_> {
    async fn bounds(&mut self) -> Result<Option<(i128, i128)>, EdgeError> {
        let (table, cursor) = self.names();
        let sql = format!(
            "SELECT (SELECT MIN({cursor}) FROM {table}), (SELECT MAX({cursor}) FROM {table})"
        );
        let [low, high] = self.pair(&sql, &[])?;
        Ok(low.zip(high))
    }

    async fn around(&mut self, middle: i128) -> Result<(Option<i128>, Option<i128>), EdgeError> {
        let (table, cursor) = self.names();
        let sql = format!(
            "SELECT (SELECT {cursor} FROM {table} WHERE {cursor} <= ?1 ORDER BY {cursor} DESC LIMIT 1), \
             (SELECT {cursor} FROM {table} WHERE {cursor} > ?1 ORDER BY {cursor} LIMIT 1)"
        );
        let [below, above] = self.pair(&sql, &[narrow(middle)])?;
        Ok((below, above))
    }

    /// Counts as far as the limit: the estimate below may miss a crowd, and here that would end the search.
    async fn is_small(&mut self, _: (i128, i128), rows: u64) -> Result<bool, EdgeError> {
        let sql = format!(
            "SELECT COUNT(*), NULL FROM (SELECT 1 FROM {} LIMIT {rows})",
            self.table.table
        );
        let [counted, _] = self.pair(&sql, &[])?;
        Ok(counted.unwrap_or(0) < i128::from(rows))
    }

    /// SQLite has no estimate of its own: a few rows are stepped at evenly spaced places, and their density is taken
    /// for that of the stretch up to the next place.
    async fn estimate(&mut self, low: i128, high: i128) -> Result<u64, EdgeError> {
        let (table, cursor) = self.names();
        let sql = format!(
            "SELECT COUNT(*), MAX(k) FROM (SELECT {cursor} AS k FROM {table} WHERE {cursor} >= ?1 AND {cursor} <= ?2 \
             ORDER BY {cursor} LIMIT {SAMPLE_ROWS})"
        );
        let span = high - low + 1;
        let mut rows = 0;
        for place in 0..SAMPLES {
            let start = low + span * place / SAMPLES;
            let end = low + span * (place + 1) / SAMPLES - 1;
            if start > end {
                continue;
            }
            let [count, last] = self.pair(&sql, &[narrow(start), narrow(end)])?;
            rows += match (count.unwrap_or(0), last) {
                (SAMPLE_ROWS, Some(last)) => SAMPLE_ROWS * (end - start + 1) / (last - start + 1),
                (count, _) => count,
            };
        }
        Ok(u64::try_from(rows).unwrap_or(u64::MAX))
    }

    async fn last(&mut self, first: Option<i128>) -> Result<Option<Cursor>, EdgeError> {
        self.key(&keyset::last(self.table, first), &Values::default())
    }
}

impl Probe<'_> {
    /// Returns the key of a query of one row, if it has one.
    fn key(&self, sql: &Sql, values: &Values<'_>) -> Result<Option<Cursor>, EdgeError> {
        let bound = sql.bound(values)?;
        let mut statement = self
            .connection
            .prepare(&sql.sql)
            .map_err(|error| self.edge(&error))?;
        let mut rows = statement
            .query(rusqlite::params_from_iter(bound))
            .map_err(|error| self.edge(&error))?;
        let Some(row) = rows.next().map_err(|error| self.edge(&error))? else {
            return Ok(None);
        };
        let mut key = Vec::new();
        read_key(row, self.table.cursor.len(), &mut key)
            .map_err(|unfit| self.source.unfit(self.from, "its key range", unfit))?;
        Ok(Some(Cursor(key)))
    }
}

#[async_trait]
impl Halves for Probe<'_> {
    async fn least(&mut self) -> Result<Option<Cursor>, EdgeError> {
        self.key(&keyset::least(self.table), &Values::default())
    }

    async fn first(
        &mut self,
        low: &Cursor,
        high: &Cursor,
        same: usize,
        from: &KeyValue,
    ) -> Result<Option<Cursor>, EdgeError> {
        let values = Values {
            after: Some(low),
            until: Some(high),
            from: Some(from),
            ..Values::default()
        };
        self.key(&keyset::seek(self.table, same, true), &values)
    }

    async fn last(
        &mut self,
        low: &Cursor,
        high: &Cursor,
        same: usize,
    ) -> Result<Option<Cursor>, EdgeError> {
        let values = Values {
            after: Some(low),
            until: Some(high),
            ..Values::default()
        };
        self.key(&keyset::seek(self.table, same, false), &values)
    }

    /// SQLite has no estimate for keys that are not counted with: whether there are enough rows is counted.
    async fn rows(&mut self, after: Option<&Cursor>, until: &Cursor) -> Result<u64, EdgeError> {
        let values = Values {
            after,
            until: Some(until),
            rows: u32::try_from(LEAST_ROWS).unwrap_or(u32::MAX),
            ..Values::default()
        };
        let before = "SELECT COUNT(*) FROM (";
        let sql = keyset::rows_of_range(self.table, before, after.is_some(), true);
        let bound = sql.bound(&values)?;
        self.connection
            .query_row(&sql.sql, rusqlite::params_from_iter(bound), |row| {
                count(row, 0)
            })
            .map(|rows| rows.unwrap_or(0))
            .map_err(|error| self.edge(&error))
    }
}
