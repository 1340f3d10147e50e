//! Reads the names that rows own. Values are not read.

use async_trait::async_trait;

use super::{
    Orphans,
    owners::{NameReader, Owner},
};
use crate::{
    chunk::SourceRow,
    engine::{
        retry::{Waits, is_tried_again},
        sink::told,
        verify::{Trouble, walk::pause},
    },
    error::EdgeError,
    ids::StoredName,
    scratch::ScratchError,
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
    target::Inventory,
};

/// Rows of one query for keys alone.
const PAGE_ROWS: u32 = 5_000;

/// What was read of the rows of a resource.
#[derive(Debug, Default, Clone)]
pub(super) struct Scanned {
    /// How many there are.
    pub(super) rows: u64,
    /// How many own keys that nobody can tell.
    pub(super) unknown: u64,
    /// The first key that begins otherwise than `keys` of the resource says of all of them.
    pub(super) other: Option<Vec<u8>>,
}

/// Takes names as they are read.
type Take<'a> = dyn FnMut(&[StoredName]) -> Result<(), ScratchError> + Send + 'a;

impl Orphans {
    /// Hands the names that the rows of `owner` own to `take`, again from the first one while errors pass by themselves.
    pub(super) async fn walk(
        &self,
        inventory: &dyn Inventory,
        owner: &Owner,
        take: &mut Take<'_>,
    ) -> Result<Scanned, Trouble> {
        let query = RowQuery {
            since: None,
            from: owner.from.clone(),
            ids: None,
        };
        let mut waits = Waits::new(&self.plan.defaults.retry);
        let mut stop = self.stop.clone();
        loop {
            let scanned = tokio::select! {
                biased;
                () = told(&mut stop) => return Err(Trouble::Stopped),
                scanned = scan(&*self.source, &query, owner, inventory, take) => scanned,
            };
            let error = match scanned {
                Err(Trouble::Edge(error)) => error,
                ended => return ended,
            };
            let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                return Err(error.into());
            };
            pause(&mut stop, wait).await?;
        }
    }
}

/// Hands the names that the rows of `query` own now to `take`.
pub(super) async fn scan(
    source: &dyn Source,
    query: &RowQuery,
    owner: &Owner,
    inventory: &dyn Inventory,
    take: &mut Take<'_>,
) -> Result<Scanned, Trouble> {
    let mut sink = NameSink {
        reader: owner.reader(),
        inventory,
        names: Vec::new(),
        scanned: Scanned::default(),
        take,
        failed: None,
    };
    for range in source.partition(query, 1).await? {
        match source.scan(query, &range, &mut sink).await {
            Ok(()) => {}
            Err(ScanError::Source(error)) => return Err(error.into()),
            Err(ScanError::Stopped) => {
                return Err(sink.failed.map_or(Trouble::Stopped, Into::into));
            }
        }
    }
    Ok(sink.scanned)
}

/// Returns those of the keys that the rows of `query` own now.
pub(super) async fn found(
    source: &dyn Source,
    query: &RowQuery,
    owner: &Owner,
    inventory: &dyn Inventory,
) -> Result<Vec<StoredName>, EdgeError> {
    let mut found = Vec::new();
    let mut take = |names: &[StoredName]| {
        found.extend_from_slice(names);
        Ok(())
    };
    match scan(source, query, owner, inventory, &mut take).await {
        Err(Trouble::Edge(error)) => Err(error),
        // Nobody says stop, and nothing is noted.
        Ok(_) | Err(Trouble::Stopped | Trouble::Scratch(_)) => Ok(found),
    }
}

struct NameSink<'a, 't> {
    reader: NameReader<'a>,
    inventory: &'a dyn Inventory,
    names: Vec<StoredName>,
    scanned: Scanned,
    take: &'a mut Take<'t>,
    failed: Option<ScratchError>,
}

#[async_trait]
impl RowSink for NameSink<'_, '_> {
    fn page_rows(&self) -> u32 {
        PAGE_ROWS
    }

    fn row_bytes(&self) -> u64 {
        0
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        let (names, all) = self.reader.of(self.inventory, &row);
        self.scanned.rows += 1;
        self.scanned.unknown += u64::from(!all);
        if self.scanned.other.is_none() {
            let other = row.key.filter(|key| self.reader.is_other(key));
            self.scanned.other = other.map(<[u8]>::to_vec);
        }
        self.names.extend(names);
        self.names.len() >= PAGE_ROWS as usize
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        let taken = (self.take)(&self.names);
        self.names.clear();
        taken.map_err(|error| {
            self.failed = Some(error);
            Stopped
        })
    }
}
