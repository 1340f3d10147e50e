//! The entity ids that go to the publisher of a whole resource: those of a table.

use async_trait::async_trait;

use crate::{
    chunk::SourceRow,
    cursor::{Cursor, KeyRange},
    error::{EdgeError, ErrorKind},
    fallback::IDS_PER_CALL,
    machine::Scope,
    plan::{FallbackConfig, MoreKeys, RowSource},
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
    /// Those that only the source could tell, because the dead letters know none.
    pub asked: Vec<String>,
}

/// Returns the table of the entities as something that is walked like any other table.
#[must_use]
pub fn ids_source(config: &FallbackConfig) -> RowSource {
    RowSource {
        table: config.table.clone(),
        cursor: vec![config.column.clone()],
        key: config.column.clone(),
        value: config.column.clone(),
        entity: None,
        store: None,
        more_keys: MoreKeys::default(),
        condition: None,
        reads_ids: true,
    }
}

/// Returns the ids that `scope` covers.
pub fn ids_query(config: &FallbackConfig, scope: &Scope) -> RowQuery {
    RowQuery {
        since: None,
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

/// Asks whether `ids`, as a person typed them, can be ids of `config`'s table. Whether they are there is not asked.
///
/// # Errors
///
/// `Refused` for one that is no value of the column's type, else what keeps the source from answering.
pub async fn check_ids(
    source: &dyn Source,
    config: &FallbackConfig,
    ids: &[String],
) -> Result<(), EdgeError> {
    for ids in ids.chunks(PAGE_ROWS as usize) {
        let query = RowQuery {
            since: None,
            from: ids_source(config),
            ids: Some(ids.to_vec()),
        };
        source.sample_row_bytes(&query).await?;
    }
    Ok(())
}

/// Returns at most `limit` ids after `after`, in their order; `None` when there are no more.
pub async fn next_ids(
    source: &dyn Source,
    query: &RowQuery,
    after: Option<Cursor>,
    limit: u32,
) -> Result<Option<IdPage>, EdgeError> {
    let sink = walk(source, query, after, limit).await?;
    let ids = sink.ids;
    Ok(sink.last.map(|until| IdPage {
        ids,
        until,
        asked: Vec::new(),
    }))
}

async fn walk(
    source: &dyn Source,
    query: &RowQuery,
    after: Option<Cursor>,
    limit: u32,
) -> Result<IdSink, EdgeError> {
    let mut sink = IdSink {
        ids: Vec::new(),
        last: None,
        limit: limit as usize,
        refused: None,
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
        Ok(()) | Err(ScanError::Stopped) => match sink.refused.take() {
            Some(error) => Err(error),
            None => Ok(sink),
        },
        Err(ScanError::Source(error)) => Err(error),
    }
}

/// Returns an id as it was read.
///
/// # Errors
///
/// `Refused` for bytes that are no text: replaced, they would be another id.
pub fn id_text(bytes: &[u8]) -> Result<String, EdgeError> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| {
        EdgeError::new(
            ErrorKind::Refused,
            "an entity id is no text in UTF-8, so nothing can be called with it",
        )
    })
}

/// Takes the key column of each row.
struct IdSink {
    ids: Vec<String>,
    last: Option<Cursor>,
    limit: usize,
    refused: Option<EdgeError>,
}

impl IdSink {
    fn is_full(&self) -> bool {
        self.ids.len() >= self.limit
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
            match row.key.map(id_text) {
                Some(Ok(id)) => self.ids.push(id),
                Some(Err(error)) => self.refused = Some(error),
                None => {}
            }
            self.last = Some(Cursor(row.cursor.to_vec()));
        }
        self.is_full()
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        if self.is_full() { Err(Stopped) } else { Ok(()) }
    }
}
