//! Which entity ids go to the publisher: all of a table, or those of broken rows.

use async_trait::async_trait;

use crate::{
    chunk::SourceRow,
    cursor::{Cursor, KeyRange},
    error::EdgeError,
    fallback::IDS_PER_CALL,
    machine::Scope,
    plan::{FallbackConfig, RowSource},
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
};

/// Longest id that is read.
const ID_BYTES: u64 = 1024;

/// Ids that one query asks for.
const PAGE_ROWS: u32 = 500;

/// The ids of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPage {
    /// As the publisher takes them.
    pub ids: Vec<String>,
    /// The last place among them.
    pub until: Cursor,
}

/// Returns the table of the entities as something that is walked like any other table.
pub fn ids_source(config: &FallbackConfig) -> RowSource {
    RowSource {
        table: config.table.clone(),
        cursor: vec![config.column.clone()],
        key: config.column.clone(),
        value: config.column.clone(),
        entity: None,
        store: None,
        condition: None,
    }
}

/// Returns the ids that `scope` covers.
pub fn ids_query(config: &FallbackConfig, scope: &Scope) -> RowQuery {
    RowQuery {
        from: ids_source(config),
        ids: scope.ids.clone(),
    }
}

/// Returns the next ids of `config`'s table after `after`, as many as go into one call; `None` when there are no more.
pub async fn all_ids(
    source: &dyn Source,
    config: &FallbackConfig,
    after: Option<Cursor>,
) -> Result<Option<IdPage>, EdgeError> {
    let query = ids_query(config, &Scope::default());
    next_ids(source, &query, after, IDS_PER_CALL).await
}

/// Returns the rows at these places, as `from` reads them.
pub fn letters_query(from: &RowSource, places: Vec<String>) -> RowQuery {
    RowQuery {
        // The columns are the same as ever: a walk looks whether they change.
        from: from.clone(),
        ids: Some(places),
    }
}

/// Returns at most `limit` ids after `after`, in their order; `None` when there are no more.
pub async fn next_ids(
    source: &dyn Source,
    query: &RowQuery,
    after: Option<Cursor>,
    limit: u32,
) -> Result<Option<IdPage>, EdgeError> {
    let sink = walk(source, query, after, Some(limit)).await?;
    let ids = sink.ids;
    Ok(sink.last.map(|until| IdPage { ids, until }))
}

/// Returns the ids of the entities to which the rows at `places` belong, each once.
pub async fn entities(
    source: &dyn Source,
    from: &RowSource,
    entity: &str,
    places: Vec<String>,
) -> Result<Vec<String>, EdgeError> {
    let mut query = letters_query(from, places);
    query.from.key = entity.to_owned();
    query.from.value = entity.to_owned();
    query.from.store = None;
    let mut ids = walk(source, &query, None, None).await?.ids;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

async fn walk(
    source: &dyn Source,
    query: &RowQuery,
    after: Option<Cursor>,
    limit: Option<u32>,
) -> Result<IdSink, EdgeError> {
    let mut sink = IdSink {
        ids: Vec::new(),
        last: None,
        limit: limit.map(|limit| limit as usize),
    };
    // Entities that come later belong to the shop's own publishing.
    let Some(last) = source.partition(query, 1).await?.pop() else {
        return Ok(sink);
    };
    let range = KeyRange {
        after,
        until: last.until,
    };
    match source.scan(query, &range, &mut sink).await {
        Ok(()) | Err(ScanError::Stopped) => Ok(sink),
        Err(ScanError::Source(error)) => Err(error),
    }
}

/// Takes the key column of each row.
struct IdSink {
    ids: Vec<String>,
    last: Option<Cursor>,
    limit: Option<usize>,
}

impl IdSink {
    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.ids.len() >= limit)
    }
}

#[async_trait]
impl RowSink for IdSink {
    fn page_rows(&self) -> u32 {
        PAGE_ROWS
    }

    fn row_bytes(&self) -> u64 {
        ID_BYTES
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        // Rows after the last one that fits are read again by the next call.
        if !self.is_full() {
            if let Some(id) = row.key {
                self.ids.push(String::from_utf8_lossy(id).into_owned());
            }
            self.last = Some(Cursor(row.cursor.to_vec()));
        }
        self.is_full()
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        if self.is_full() { Err(Stopped) } else { Ok(()) }
    }
}
