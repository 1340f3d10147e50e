//! Looks at the cursor's index for `partition` and `middle`.

use async_trait::async_trait;
use sqlx::{Column as _, MySqlConnection, Row, TypeInfo};

use super::{MySqlSource, bind};
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

/// Asks the cursor's index. Filters play no part: the bounds are those of the whole table.
pub(super) struct Probe<'a> {
    pub source: &'a MySqlSource,
    pub connection: &'a mut MySqlConnection,
    pub table: &'a Checked,
}

impl Probe<'_> {
    /// Runs a query by the text protocol, where every number comes as text, whatever its type.
    async fn texts(
        &mut self,
        sql: String,
        columns: &[&str],
    ) -> Result<Vec<Option<String>>, EdgeError> {
        let sessions = &self.source.sessions;
        sessions
            .within("its key range", sessions.patience.read, async {
                let row = sqlx::raw_sql(quote::statement(&sql.into()))
                    .fetch_one(&mut *self.connection)
                    .await?;
                columns
                    .iter()
                    .map(|column| row.try_get_unchecked(*column))
                    .collect()
            })
            .await
    }

    async fn keys(&mut self, sql: String) -> Result<[Option<i128>; 2], EdgeError> {
        let texts = self.texts(sql, &["a", "b"]).await?;
        let mut keys = [None; 2];
        for (key, text) in keys.iter_mut().zip(texts) {
            *key = text.and_then(|text| text.parse().ok());
        }
        Ok(keys)
    }
}

impl Probe<'_> {
    /// Returns the quoted table, the hint that forces the cursor's index, and its first column.
    fn names(&self) -> (&str, &str, &str) {
        let Checked {
            table,
            hint,
            cursor,
            ..
        } = self.table;
        let first = cursor.first().map_or("", |column| &column.quoted);
        (table, hint, first)
    }
}

#[async_trait]
impl partition::Probe for Probe<'_> {
    async fn bounds(&mut self) -> Result<Option<(i128, i128)>, EdgeError> {
        let (table, hint, cursor) = self.names();
        let sql = format!(
            "SELECT (SELECT MIN({cursor}) FROM {table} {hint}) AS a, (SELECT MAX({cursor}) FROM {table} {hint}) AS b"
        );
        let [low, high] = self.keys(sql).await?;
        Ok(low.zip(high))
    }

    async fn around(&mut self, middle: i128) -> Result<(Option<i128>, Option<i128>), EdgeError> {
        let (table, hint, cursor) = self.names();
        let sql = format!(
            "SELECT (SELECT {cursor} FROM {table} {hint} WHERE {cursor} <= {middle} ORDER BY {cursor} DESC LIMIT 1) AS a, \
             (SELECT {cursor} FROM {table} {hint} WHERE {cursor} > {middle} ORDER BY {cursor} LIMIT 1) AS b"
        );
        let [below, above] = self.keys(sql).await?;
        Ok((below, above))
    }

    async fn is_small(&mut self, keys: (i128, i128), rows: u64) -> Result<bool, EdgeError> {
        Ok(self.estimate(keys.0, keys.1).await? < rows)
    }

    /// The optimizer's dives into the index: two descents, exact for a few pages, extrapolated beyond.
    async fn estimate(&mut self, low: i128, high: i128) -> Result<u64, EdgeError> {
        let (table, hint, cursor) = self.names();
        let sql = format!(
            "EXPLAIN SELECT {cursor} FROM {table} {hint} WHERE {cursor} >= {low} AND {cursor} <= {high}"
        );
        let rows = self.texts(sql, &["rows"]).await?;
        Ok(rows
            .into_iter()
            .flatten()
            .find_map(|rows| rows.parse().ok())
            .unwrap_or(0))
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

    /// The optimizer's dives, as for whole numbers.
    async fn rows(&mut self, after: Option<&Cursor>, until: &Cursor) -> Result<u64, EdgeError> {
        let values = Values {
            after,
            until: Some(until),
            ..Values::default()
        };
        let sql = keyset::rows_of_range(self.table, "EXPLAIN ", after.is_some(), false);
        let query = bind(&sql, &values)?;
        let sessions = &self.source.sessions;
        sessions
            .within("its key range", sessions.patience.read, async {
                let row = query.fetch_one(&mut *self.connection).await?;
                // MariaDB sends it as text, MySQL as a number; a query without rows has NULL.
                if row.column("rows").type_info().name().contains("INT") {
                    return Ok(row
                        .try_get_unchecked::<Option<u64>, _>("rows")?
                        .unwrap_or(0));
                }
                let text: Option<String> = row.try_get_unchecked("rows")?;
                Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
            })
            .await
    }
}
