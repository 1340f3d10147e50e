//! Rows with the key of a later row, where only some rows of a resource were restored: the later one is what should stand in the
//! target, and nobody read it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_64;

use super::Coordinator;
use crate::{
    chunk::{SourceRow, Value},
    cursor::{Cursor, KeyRange},
    engine::{handover::id_text, preflight::row_query},
    error::{EdgeError, ErrorKind, chain},
    failure::quoted,
    ids::ResourceName,
    plan::{MoreKeys, Resource, RowSource},
    report,
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
};

/// How long the source may take. Everything is restored by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keys that one query looks for. Where no index has them each query reads the table, so they are many.
const KEYS: usize = 5_000;

/// Rows of one query.
const PAGE_ROWS: u32 = 1_000;

/// Most rows whose keys are looked for: they are held in memory.
const MOST_ROWS: usize = 100_000;

/// A key, and the store whose index it goes to.
type Name = (String, Option<Vec<u8>>);

impl Coordinator {
    /// Tells of rows that were restored although a later row has their key, which this run did not read.
    pub(super) async fn tell_newer(&mut self) {
        let Ok(run) = self.book.run() else { return };
        let mut queries = Vec::new();
        for resource in &self.plan.resources {
            let is_sure = self
                .shapes
                .get(&resource.name)
                .is_none_or(|shape| shape.unique_keys);
            let mended = self.mended.get(&resource.name);
            if is_sure
                || run
                    .resource(&resource.name)
                    .is_none_or(|one| one.totals().0 == 0)
            {
                continue;
            }
            if run.scope.is_partial() {
                queries.push((resource, row_query(resource, &run.scope)));
            } else if let Some(query) = mended {
                queries.push((resource, query.clone()));
            }
        }
        let source = Arc::clone(&self.source);
        let asking = async {
            let mut found = Vec::new();
            for (resource, query) in &queries {
                let keys = newer(&*source, resource, query).await?;
                found.push((resource.name.clone(), keys));
            }
            Ok::<_, EdgeError>(found)
        };
        let answer = tokio::select! {
            biased;
            Some(()) = self.signals.recv() => return,
            answer = tokio::time::timeout(PATIENCE, asking) => answer,
        };
        let why = match answer {
            Ok(Ok(found)) => return self.tell_found(found).await,
            Ok(Err(error)) => chain(&error).join(": "),
            Err(_) => "the source did not answer in time".to_owned(),
        };
        let text =
            format!("whether later rows have the keys of these rows, too, is not known: {why}");
        self.emit(&report::Event::Notice { text });
    }

    async fn tell_found(&mut self, found: Vec<(ResourceName, u64)>) {
        let plan = quoted(&self.plan.path);
        for (name, keys) in found.into_iter().filter(|(_, keys)| *keys > 0) {
            let text = format!(
                "{name}: {} of the restored rows {} a later row has, too, which this run did not read; the last one should stand: \
                 `rekindle verify {plan} --only {name} --level full --repair` puts it there",
                super::count(keys, "key"),
                if keys == 1 {
                    "is one that"
                } else {
                    "are some that"
                },
            );
            // The run is done: a note that cannot be made is no reason to say otherwise.
            self.note(text.clone()).await.ok();
            self.emit(&report::Event::Notice { text });
        }
    }
}

/// Returns how many keys of the rows of `query` stand, in the order of the cursor, last in a row that is none of them.
async fn newer(
    source: &dyn Source,
    resource: &Resource,
    query: &RowQuery,
) -> Result<u64, EdgeError> {
    let from = RowSource {
        more_keys: MoreKeys::default(),
        reads_ids: true,
        ..resource.from.clone()
    };
    let mut ours = Names::default();
    let read = RowQuery {
        from: from.clone(),
        ids: query.ids.clone(),
        since: None,
    };
    ours.read(source, &read).await?;
    let places: HashSet<u64> = ours.places;
    let names: Vec<Name> = ours.last.into_keys().collect();
    let mut found = 0;
    for names in names.chunks(KEYS) {
        let mut all = Names::default();
        let look = RowQuery {
            from: RowSource {
                entity: Some(from.key.clone()),
                ..from.clone()
            },
            ids: Some(names.iter().map(|(key, _)| key.clone()).collect()),
            since: None,
        };
        all.read(source, &look).await?;
        let is_newer = |name: &&Name| {
            all.last
                .get(*name)
                .is_some_and(|last| !places.contains(last))
        };
        found += names.iter().filter(is_newer).count() as u64;
    }
    Ok(found)
}

/// The keys of rows that have a value, each with the place of the last of its rows.
#[derive(Default)]
struct Names {
    last: BTreeMap<Name, u64>,
    places: HashSet<u64>,
    refused: Option<EdgeError>,
}

impl Names {
    async fn read(&mut self, source: &dyn Source, query: &RowQuery) -> Result<(), EdgeError> {
        let Some(last) = source.partition(query, 1).await?.pop() else {
            return Ok(());
        };
        let range = KeyRange {
            after: None,
            until: last.until,
        };
        match source.scan(query, &range, self).await {
            Ok(()) | Err(ScanError::Stopped) => self.refused.take().map_or(Ok(()), Err),
            Err(ScanError::Source(error)) => Err(error),
        }
    }
}

#[async_trait]
impl RowSink for Names {
    fn page_rows(&self) -> u32 {
        PAGE_ROWS
    }

    fn row_bytes(&self) -> u64 {
        0
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        let Some(key) = row.key.filter(|_| !matches!(row.value, Value::Null)) else {
            return false;
        };
        match id_text(key) {
            Ok(key) => {
                let place = xxh3_64(Cursor(row.cursor.to_vec()).exact().as_bytes());
                let store = row.beside.first().copied().flatten().map(<[u8]>::to_vec);
                self.places.insert(place);
                self.last.insert((key, store), place);
            }
            Err(error) => self.refused = Some(error),
        }
        if self.places.len() > MOST_ROWS {
            let message = format!("they are more than {MOST_ROWS}");
            self.refused = Some(EdgeError::new(ErrorKind::Refused, message));
        }
        false
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        match self.refused {
            Some(_) => Err(Stopped),
            None => Ok(()),
        }
    }
}
