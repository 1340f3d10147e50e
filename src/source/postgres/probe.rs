//! Asks the cursor's index where keys lie, and a few pages of the table how many there are.

use async_trait::async_trait;
use sqlx::{Executor, PgConnection, Row};

use super::{PostgresSource, catalogue};
use crate::{
    cursor::{Cursor, KeyValue},
    error::EdgeError,
    source::{
        keyset::{self, Statement, Values},
        middle::Halves,
        partition, quote,
        shape::Checked,
    },
};

/// Pages of the table that are looked at to see how its keys are spread. Neighbours on a page have neighbouring keys, so
/// pages count, not rows: with 200 a cut is off by some 3 % of the rows.
const SAMPLED_PAGES: i64 = 200;

/// Pages of `$1`, of all its partitions together.
const PAGES: &str = "SELECT GREATEST(1, pg_catalog.pg_relation_size($1::text::regclass), \
      (SELECT SUM(pg_catalog.pg_relation_size(relid)) FROM pg_catalog.pg_partition_tree($1::text::regclass)))::bigint \
    / current_setting('block_size')::bigint";

/// Asks the cursor's index. Filters play no part: the bounds are those of the whole table.
pub(super) struct Probe<'a> {
    source: &'a PostgresSource,
    connection: &'a mut PgConnection,
    table: &'a Checked,
    sample: Option<Sample>,
}

/// Keys of random pages, and how many rows each stands for.
///
/// Not the planner's estimate of a range: that one rests on what the last ANALYZE saw, and a database that was just restored
/// has seen none.
struct Sample {
    keys: Vec<i128>,
    rows_per_key: u64,
}

impl<'a> Probe<'a> {
    pub(super) const fn new(
        source: &'a PostgresSource,
        connection: &'a mut PgConnection,
        table: &'a Checked,
    ) -> Self {
        Self {
            source,
            connection,
            table,
            sample: None,
        }
    }

    /// Returns the quoted table and the first column of its cursor.
    fn names(&self) -> (&'a str, &'a str) {
        let Checked { table, cursor, .. } = self.table;
        (table, cursor.first().map_or("", |column| &column.quoted))
    }

    /// Runs a query of one row by the text protocol, where every number comes as text, whatever its type.
    async fn keys(&mut self, sql: String) -> Result<[Option<i128>; 2], EdgeError> {
        let limit = self.source.sessions.patience.read;
        self.source
            .sessions
            .within("its key range", limit, async {
                let row = sqlx::raw_sql(quote::statement(&sql.into()))
                    .fetch_one(&mut *self.connection)
                    .await?;
                let mut keys = [None; 2];
                for (column, key) in keys.iter_mut().enumerate() {
                    let text: Option<&str> = row.try_get_unchecked(column)?;
                    *key = text.and_then(|text| text.parse().ok());
                }
                Ok(keys)
            })
            .await
    }

    async fn sampled(&mut self) -> Result<Sample, EdgeError> {
        let (table, cursor) = self.names();
        let limit = self.source.sessions.patience.read;
        self.source
            .sessions
            .within("its key range", limit, async {
                let pages: i64 = sqlx::query_scalar(PAGES)
                    .bind(table)
                    .fetch_one(&mut *self.connection)
                    .await?;
                let one_in = (pages / SAMPLED_PAGES).max(1);
                let sql =
                    format!("SELECT {cursor} FROM {table} TABLESAMPLE SYSTEM (100.0 / {one_in})");
                let rows = self
                    .connection
                    .fetch_all(sqlx::raw_sql(quote::statement(&sql.into())))
                    .await?;
                let mut keys = Vec::with_capacity(rows.len());
                for row in &rows {
                    let text: &str = row.try_get_unchecked(0)?;
                    keys.extend(text.parse::<i128>());
                }
                keys.sort_unstable();
                Ok(Sample {
                    keys,
                    rows_per_key: one_in.unsigned_abs(),
                })
            })
            .await
    }
}

#[async_trait]
impl partition::Probe for Probe<'_> {
    async fn bounds(&mut self) -> Result<Option<(i128, i128)>, EdgeError> {
        let (table, cursor) = self.names();
        let sql = format!("SELECT MIN({cursor}), MAX({cursor}) FROM {table}");
        let [low, high] = self.keys(sql).await?;
        Ok(low.zip(high))
    }

    async fn around(&mut self, middle: i128) -> Result<(Option<i128>, Option<i128>), EdgeError> {
        let (table, cursor) = self.names();
        let sql = format!(
            "SELECT (SELECT MAX({cursor}) FROM {table} WHERE {cursor} <= {middle}), \
             (SELECT MIN({cursor}) FROM {table} WHERE {cursor} > {middle})"
        );
        let [below, above] = self.keys(sql).await?;
        Ok((below, above))
    }

    async fn is_small(&mut self, _: (i128, i128), rows: u64) -> Result<bool, EdgeError> {
        let sql = format!("SELECT FROM {}", self.table.table);
        let limit = self.source.sessions.patience.read;
        let estimate = catalogue::estimate(self.connection, &sql);
        Ok(self
            .source
            .sessions
            .within("its key range", limit, estimate)
            .await?
            < rows)
    }

    async fn estimate(&mut self, low: i128, high: i128) -> Result<u64, EdgeError> {
        let sample = match self.sample.take() {
            Some(sample) => sample,
            None => self.sampled().await?,
        };
        let below = |key: i128| sample.keys.partition_point(|sampled| *sampled <= key);
        let within = below(high) - sample.keys.partition_point(|sampled| *sampled < low);
        let rows = within as u64 * sample.rows_per_key;
        self.sample = Some(sample);
        Ok(rows)
    }

    async fn last(&mut self, first: Option<i128>) -> Result<Option<Cursor>, EdgeError> {
        let sql = keyset::last(self.table, first);
        self.key(&sql, &Values::default()).await
    }
}

impl Probe<'_> {
    async fn key(
        &mut self,
        sql: &Statement,
        values: &Values<'_>,
    ) -> Result<Option<Cursor>, EdgeError> {
        self.source
            .key(self.connection, self.table, sql, values)
            .await
    }
}

#[async_trait]
impl Halves for Probe<'_> {
    async fn least(&mut self) -> Result<Option<Cursor>, EdgeError> {
        self.key(&keyset::least(self.table), &Values::default())
            .await
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
            .await
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
            .await
    }

    /// The planner's estimate, which looks up the ends of the table in the index and the rest in its statistics.
    async fn rows(&mut self, after: Option<&Cursor>, until: &Cursor) -> Result<u64, EdgeError> {
        let values = Values {
            after,
            until: Some(until),
            ..Values::default()
        };
        let sql =
            keyset::rows_of_range(self.table, "EXPLAIN (FORMAT JSON) ", after.is_some(), false);
        let query = super::bind(&sql, &values)?;
        let sessions = &self.source.sessions;
        sessions
            .within("its key range", sessions.patience.read, async {
                let plan = query.fetch_one(&mut *self.connection).await?;
                Ok(catalogue::planned_rows(plan.try_get_unchecked(0)?))
            })
            .await
    }
}
