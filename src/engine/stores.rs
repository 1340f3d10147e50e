//! Which stores the rows of a table name, by a sample.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::{
    chunk::SourceRow,
    error::EdgeError,
    plan::{MoreKeys, RowSource, is_store_name},
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
};

/// Places of the table that are looked at: rows of one store may have been written one after the other.
const PLACES: u32 = 16;

/// Rows that are read at each of them. Without their values that is a matter of milliseconds; smaller tables are read whole.
const ROWS: u32 = 1000;

/// No shop has more stores. Where a column holds more, it holds something else, and its values are nobody's business.
const MOST: usize = 50;

/// Returns the stores that rows of `from` name, in their order, by a sample of a large table: only what stores are called, and none
/// where the column holds something else.
///
/// # Errors
///
/// As [`Source::scan`].
pub async fn stores(source: &dyn Source, from: &RowSource) -> Result<Vec<String>, EdgeError> {
    if from.store.is_none() {
        return Ok(Vec::new());
    }
    let query = RowQuery {
        from: RowSource {
            more_keys: MoreKeys::default(),
            ..from.clone()
        },
        ids: None,
        since: None,
    };
    let mut found = Found::default();
    for range in source.partition(&query, PLACES).await? {
        match source.scan(&query, &range, &mut found).await {
            Ok(()) | Err(ScanError::Stopped) => {}
            Err(ScanError::Source(error)) => return Err(error),
        }
    }
    if found.0.len() > MOST {
        return Ok(Vec::new());
    }
    let names = found.0.into_iter();
    Ok(names
        .filter_map(|name| String::from_utf8(name).ok())
        .filter(|name| is_store_name(name))
        .collect())
}

/// The stores that were found.
#[derive(Default)]
struct Found(BTreeSet<Vec<u8>>);

#[async_trait]
impl RowSink for Found {
    fn page_rows(&self) -> u32 {
        ROWS
    }

    fn row_bytes(&self) -> u64 {
        0
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        let store = row.beside.first().copied().flatten().unwrap_or_default();
        if !store.is_empty() && !self.0.contains(store) && self.0.len() <= MOST {
            self.0.insert(store.to_vec());
        }
        false
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }

    fn page_ended(&mut self) -> Result<(), Stopped> {
        // One page of each place is enough.
        Err(Stopped)
    }
}
