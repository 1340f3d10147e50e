//! A database in memory, read in pages that may break anywhere.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use rekindle::{
    chunk::{SourceRow, Value},
    cursor::{Cursor, KeyRange, KeyValue},
    error::{EdgeError, ErrorKind},
    plan::{ChangeColumn, RowSource},
    source::{Changes, ReadModel, RowQuery, RowSink, ScanError, Source, TableShape},
};

use super::world::{Row, World};

pub type Table = BTreeMap<i64, Row>;

pub struct ModelSource {
    pub world: Arc<World>,
    pub tables: BTreeMap<String, Table>,
}

fn place(id: i64) -> Cursor {
    Cursor::single(KeyValue::Int(id))
}

fn id(cursor: &Cursor) -> i64 {
    match cursor.0.as_slice() {
        [KeyValue::Int(id)] => *id,
        other => panic!("not a cursor of this table: {other:?}"),
    }
}

impl ModelSource {
    fn table(&self, from: &RowSource) -> Result<&Table, EdgeError> {
        self.tables
            .get(&from.table)
            .ok_or_else(|| EdgeError::new(ErrorKind::Missing, "no such table"))
    }

    /// The rows of a range, in order.
    fn rows<'a>(
        &'a self,
        query: &RowQuery,
        range: &KeyRange,
    ) -> Result<impl Iterator<Item = (&'a i64, &'a Row)> + use<'a>, EdgeError> {
        let until = id(&range.until);
        let after = range.after.as_ref().map(id);
        let rows = self.table(&query.from)?.range(..=until);
        Ok(rows.filter(move |(id, _)| after.is_none_or(|after| **id > after)))
    }
}

#[async_trait]
impl Source for ModelSource {
    fn place(&self) -> &'static str {
        "the model's database"
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        Ok("model".to_owned())
    }

    async fn describe(&self, from: &RowSource) -> Result<TableShape, EdgeError> {
        Ok(TableShape {
            fingerprint: "id key data".to_owned(),
            estimated_rows: self.table(from)?.len() as u64,
            estimated_bytes: None,
            single_integer: true,
            absent: Vec::new(),
            unique_keys: false,
        })
    }

    async fn tables(&self) -> Result<Vec<String>, EdgeError> {
        Ok(self.tables.keys().cloned().collect())
    }

    async fn read_models(&self) -> Result<Vec<ReadModel>, EdgeError> {
        Ok(Vec::new())
    }

    /// Ranges of any sizes, also empty ones.
    async fn partition(&self, query: &RowQuery, wanted: u32) -> Result<Vec<KeyRange>, EdgeError> {
        self.world.call().await;
        if self.world.is_troubled() {
            return Err(self.world.error("the cut"));
        }
        let table = self.table(&query.from)?;
        let (Some((first, _)), Some((last, _))) = (table.first_key_value(), table.last_key_value())
        else {
            return Ok(Vec::new());
        };
        let span = u32::try_from(last - first).unwrap_or(u32::MAX);
        let mut ends: Vec<i64> = (1..wanted)
            .map(|_| first + i64::from(self.world.draw(span)))
            .chain([*last])
            .collect();
        ends.sort_unstable();
        ends.dedup();
        let mut after = None;
        let ranges = ends.into_iter().map(|end| KeyRange {
            after: after.replace(place(end)),
            until: place(end),
        });
        Ok(ranges.collect())
    }

    async fn scan(
        &self,
        query: &RowQuery,
        range: &KeyRange,
        sink: &mut dyn RowSink,
    ) -> Result<(), ScanError> {
        let mut rows = self.rows(query, range)?.peekable();
        while rows.peek().is_some() {
            self.world.call().await;
            // A connection breaks before its page, or with half of it read.
            let breaks = self
                .world
                .is_troubled()
                .then(|| self.world.draw(sink.page_rows()));
            for (at, (id, (key, value))) in (0..sink.page_rows()).zip(&mut rows) {
                if breaks.is_some_and(|breaks| at >= breaks) {
                    break;
                }
                let row = SourceRow {
                    cursor: &[KeyValue::Int(*id)],
                    key: key.as_deref(),
                    value: value.as_deref().map_or(Value::Null, Value::Bytes),
                    beside: &[],
                };
                if sink.push(row) {
                    sink.flush().await?;
                }
            }
            if breaks.is_some() {
                return Err(self.world.error("the page").into());
            }
            sink.flush().await?;
            if rows.peek().is_some() {
                sink.page_ended()?;
            }
        }
        Ok(())
    }

    async fn changes(&self, _: &RowSource, _: &ChangeColumn) -> Result<Option<Changes>, EdgeError> {
        Ok(None)
    }

    async fn watermark(
        &self,
        _: &RowSource,
        _: &ChangeColumn,
    ) -> Result<Option<KeyValue>, EdgeError> {
        Ok(None)
    }

    async fn count(&self, query: &RowQuery) -> Result<u64, EdgeError> {
        Ok(self.table(&query.from)?.len() as u64)
    }

    async fn sample_row_bytes(&self, _: &RowQuery) -> Result<Option<u64>, EdgeError> {
        Ok(Some(20))
    }
}
