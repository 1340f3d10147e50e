//! Where the rows of dead letters are found again: at their old places, and as rows of the same entities. A publisher may
//! delete a row and insert another one in its place, and it may write several rows of an entity at once.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::ids::id_text;
use crate::{
    chunk::SourceRow,
    cursor::Cursor,
    error::EdgeError,
    plan::{MoreKeys, RowSource},
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
};

/// Places that one query asks for: half of what a key of several columns allows.
const PLACES: u32 = 500;

/// Returns the rows at these places ([`Cursor::exact`]) and those of these entities, as `from` reads them.
#[must_use]
pub fn letters_query(from: &RowSource, places_and_entities: Vec<String>) -> RowQuery {
    RowQuery {
        since: None,
        // The columns are the same as ever: a walk looks whether they change.
        from: from.clone(),
        ids: Some(places_and_entities),
    }
}

/// Returns the entities to which the rows at `places` belong, by place. A row that is gone, or belongs to nothing, has none.
pub async fn entities_at(
    source: &dyn Source,
    from: &RowSource,
    entity: &str,
    places: &[String],
) -> Result<BTreeMap<String, String>, EdgeError> {
    let mut sink = EntitySink::default();
    for places in places.chunks(PLACES as usize) {
        let mut query = letters_query(from, places.to_vec());
        // As key and value, so that the row's own value is not read.
        query.from.reads_ids = true;
        query.from.key = entity.to_owned();
        query.from.value = entity.to_owned();
        query.from.store = None;
        query.from.more_keys = MoreKeys::default();
        for range in source.partition(&query, 1).await? {
            match source.scan(&query, &range, &mut sink).await {
                Ok(()) | Err(ScanError::Stopped) => {}
                Err(ScanError::Source(error)) => return Err(error),
            }
        }
    }
    match sink.refused {
        Some(error) => Err(error),
        None => Ok(sink.found),
    }
}

/// Takes the key column of each row, by its place.
#[derive(Default)]
struct EntitySink {
    found: BTreeMap<String, String>,
    refused: Option<EdgeError>,
}

#[async_trait]
impl RowSink for EntitySink {
    fn page_rows(&self) -> u32 {
        PLACES
    }

    fn row_bytes(&self) -> u64 {
        0
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        match row.key.map(id_text) {
            Some(Ok(entity)) => {
                self.found
                    .insert(Cursor(row.cursor.to_vec()).exact(), entity);
            }
            Some(Err(error)) => self.refused = Some(error),
            None => {}
        }
        false
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}
