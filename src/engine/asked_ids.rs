//! Which of the ids that somebody asked for (`--ids`) no row has: mistyped, or of an entity that was never published.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::preflight::row_query;
use crate::{
    chunk::SourceRow,
    cursor::KeyRange,
    error::EdgeError,
    machine::Scope,
    plan::{MoreKeys, Resource},
    source::{RowSink, ScanError, Source, Stopped},
};

/// So many ids without a row are named.
const NAMED: usize = 10;

/// Rows that one query asks for.
const PAGE_ROWS: u32 = 1000;

/// Longest id that is read.
const ID_BYTES: u64 = 1024;

/// The ids that a scope asks for, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedIds {
    /// How many different ones were asked for.
    pub asked: u64,
    /// How many of them no row of the resource has.
    pub without_row: u64,
    /// The first of those, where their text tells which they are.
    pub named: Vec<String>,
}

/// Returns what became of the ids of `scope` in `resource`; `None` for a scope without ids. Reads no values.
pub async fn asked_ids(
    source: &dyn Source,
    resource: &Resource,
    scope: &Scope,
) -> Result<Option<AskedIds>, EdgeError> {
    let mut query = row_query(resource, scope);
    let (Some(ids), Some(column)) = (&scope.ids, resource.from.ids_column()) else {
        return Ok(None);
    };
    query.from.reads_ids = true;
    query.from.key = column.to_owned();
    query.from.value = column.to_owned();
    query.from.store = None;
    query.from.more_keys = MoreKeys::default();
    let mut found = Found::default();
    if let Some(last) = source.partition(&query, 1).await?.pop() {
        let range = KeyRange {
            after: None,
            until: last.until,
        };
        match source.scan(&query, &range, &mut found).await {
            Ok(()) | Err(ScanError::Stopped) => {}
            Err(ScanError::Source(error)) => return Err(error),
        }
    }
    Ok(Some(judged(ids, &found.0)))
}

fn judged(ids: &[String], found: &BTreeSet<Vec<u8>>) -> AskedIds {
    let asked: BTreeSet<String> = ids.iter().map(|id| spelling(id)).collect();
    // Counted, because a column may give a value another text than it was asked for by: a time, a UUID, bytes.
    let without_row = asked.len().saturating_sub(found.len());
    let texts: BTreeSet<String> = found
        .iter()
        .map(|id| spelling(&String::from_utf8_lossy(id)))
        .collect();
    let missing: Vec<String> = asked.difference(&texts).cloned().collect();
    AskedIds {
        asked: asked.len() as u64,
        without_row: without_row as u64,
        named: if missing.len() == without_row {
            missing.into_iter().take(NAMED).collect()
        } else {
            Vec::new()
        },
    }
}

/// Returns one spelling for all those that a column may take for the same value: `017` is 17.
fn spelling(id: &str) -> String {
    id.parse::<i128>()
        .map_or_else(|_| id.to_lowercase(), |number| number.to_string())
}

/// The different ids that were found.
#[derive(Default)]
struct Found(BTreeSet<Vec<u8>>);

#[async_trait]
impl RowSink for Found {
    fn page_rows(&self) -> u32 {
        PAGE_ROWS
    }

    fn row_bytes(&self) -> u64 {
        ID_BYTES
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        if let Some(id) = row.key {
            self.0.insert(id.to_vec());
        }
        false
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ids: &[&str], found: &[&[u8]]) -> (u64, u64, Vec<String>) {
        let ids: Vec<_> = ids.iter().map(|&id| id.to_owned()).collect();
        let found = found.iter().map(|id| id.to_vec()).collect();
        let AskedIds {
            asked,
            without_row,
            named,
        } = judged(&ids, &found);
        (asked, without_row, named)
    }

    #[test]
    fn ids_without_a_row_are_counted_and_named_where_their_text_tells() {
        assert_eq!(
            told(&["17", "018", "5000"], &[b"17", b"18"]),
            (3, 1, vec!["5000".to_owned()])
        );
        assert_eq!(told(&["17", "017"], &[b"17"]), (1, 0, vec![]));
        assert_eq!(told(&["7", "8"], &[]).1, 2);
        // A column that does not mind the case may hold both.
        assert_eq!(told(&["de", "DE"], &[b"DE", b"de"]).1, 0);
        // Bytes that are no text, and numbers with other fractions: how many, not which.
        assert_eq!(told(&["0xff", "0xfe"], &[b"\xff"]), (2, 1, vec![]));
        assert_eq!(told(&["1.5", "2"], &[b"1.50"]), (2, 1, vec![]));
        let many: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(told(&many, &[]).2.len(), NAMED);
    }
}
