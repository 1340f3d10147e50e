//! Compares the rows of one resource, part by part, side by side.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use xxhash_rust::xxh3::Xxh3;

use super::{Context, Trouble, depth};
use crate::{
    chunk::{Chunk, Row},
    compare::subset,
    cursor::{Cursor, KeyRange, KeyValue},
    engine::{
        copy::Ended,
        pairs::Pairs,
        preflight::row_query,
        read::Reader,
        retry::{Waits, is_tried_again, retrying},
        sink::{ChunkBounds, ChunkSink, FilledChunk, told},
    },
    error::{EdgeError, ErrorKind},
    failpoint,
    ids::{PartitionId, ResourceName},
    machine::DeadLetter,
    plan::{Level, Resource, RetryPolicy},
    report,
    scratch::{ChunkCompared, Counts, FIRST_KEYS, Part, Phase, Scratch},
    source::{RowQuery, TableShape},
    target::{Comparer, Depth, Stored, Target},
};

/// Rows that a sample has, about, of each resource. Without a difference among them, at most one row in 3,300 differs,
/// with a confidence of 95 %.
pub(super) const SAMPLE_ROWS: u64 = 10_000;

/// Parts of the memory budget that one chunk of one walk may take at most: as for a restore.
const CHUNKS_PER_PART: u64 = 4;

/// Why a row is broken that only the target would refuse.
const UNWRITABLE: &str = "the target takes no such row";

/// Compares one resource.
pub(super) struct Walker {
    pub(super) context: Arc<Context>,
    pub(super) resource: Resource,
    pub(super) target: Arc<dyn Target>,
    pub(super) query: RowQuery,
    columns: String,
    /// Whether no two rows write one key.
    pub(super) unique_keys: bool,
    /// One row of so many is compared.
    one_in: u64,
    /// What was compared by this process.
    bytes: AtomicU64,
}

/// Rows on their way from the source.
pub(super) struct Rows {
    pub(super) inbox: mpsc::Receiver<FilledChunk>,
    reading: JoinHandle<Ended>,
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Rows {
    /// Returns how the reading ended, after its last chunk was taken.
    pub(super) async fn ended(mut self) -> Result<(), Trouble> {
        match (&mut self.reading).await {
            Ok(Ended::Exhausted) => Ok(()),
            Ok(Ended::Failed(_, error)) => Err(error.into()),
            Err(joined) if joined.is_panic() => std::panic::resume_unwind(joined.into_panic()),
            Ok(Ended::Stopped | Ended::Quota) | Err(_) => Err(Trouble::Stopped),
        }
    }
}

/// Asks a target about rows, again and again while its errors pass by themselves.
pub(super) struct Asker {
    target: Arc<dyn Target>,
    resource: ResourceName,
    retry: RetryPolicy,
    stop: watch::Receiver<bool>,
    /// Absent before the first question and after an error.
    comparer: Option<Box<dyn Comparer>>,
}

impl Asker {
    /// Returns what the target holds of the rows of `chunk`.
    pub(super) async fn ask(
        &mut self,
        chunk: &Chunk,
        depth: Depth,
    ) -> Result<Vec<Stored>, Trouble> {
        if failpoint::mutant("compare_off") {
            // A deliberate defect: nobody looks.
            return Ok(vec![Stored::Same; chunk.row_count()]);
        }
        let mut waits = Waits::new(&self.retry);
        let mut stop = self.stop.clone();
        loop {
            let asked = tokio::select! {
                biased;
                () = told(&mut stop) => return Err(Trouble::Stopped),
                asked = self.try_ask(chunk, depth) => asked,
            };
            let error = match asked {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                return Err(error.into());
            };
            pause(&mut stop, wait).await?;
        }
    }

    async fn try_ask(&mut self, chunk: &Chunk, depth: Depth) -> Result<Vec<Stored>, EdgeError> {
        let comparer = match self.comparer.take() {
            Some(comparer) => Some(comparer),
            None => self.target.comparer(&self.resource).await?,
        };
        let Some(mut comparer) = comparer else {
            return Ok(vec![Stored::Unwritable; chunk.row_count()]);
        };
        let found = comparer.compare(chunk, depth).await?;
        self.comparer = Some(comparer);
        Ok(found)
    }
}

/// Waits, unless it is told to stop.
pub(super) async fn pause(stop: &mut watch::Receiver<bool>, wait: Duration) -> Result<(), Trouble> {
    tokio::select! {
        biased;
        () = told(stop) => Err(Trouble::Stopped),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

impl Walker {
    /// Returns what compares `resource`; `None` where its target cannot be asked.
    pub(super) async fn new(
        context: Arc<Context>,
        resource: Resource,
        shape: &TableShape,
    ) -> Result<Option<Self>, Trouble> {
        let Some(target) = context.verify.targets.get(&resource.to).cloned() else {
            return Ok(None);
        };
        if target.comparer(&resource.name).await?.is_none() {
            return Ok(None);
        }
        let standing = context.verify.scratch.resource(&resource.name)?;
        let estimated = standing.map_or(shape.estimated_rows, |one| one.estimated_rows);
        let since = context.verify.since.get(&resource.name).cloned();
        Ok(Some(Self {
            query: RowQuery {
                since,
                ..row_query(&resource, &context.verify.scope)
            },
            unique_keys: shape.unique_keys,
            columns: shape.fingerprint.clone(),
            one_in: one_in(context.verify.level, estimated),
            bytes: AtomicU64::new(0),
            context,
            resource,
            target,
        }))
    }

    /// Returns what reads the rows of another resource that goes to the same target.
    pub(super) fn beside(&self, resource: &Resource, shape: &TableShape) -> Self {
        Self {
            context: Arc::clone(&self.context),
            resource: resource.clone(),
            target: Arc::clone(&self.target),
            query: RowQuery {
                from: resource.from.clone(),
                ids: None,
                since: None,
            },
            columns: shape.fingerprint.clone(),
            unique_keys: shape.unique_keys,
            one_in: 1,
            bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn scratch(&self) -> &Scratch {
        &self.context.verify.scratch
    }

    pub(super) fn asker(&self) -> Asker {
        Asker {
            target: Arc::clone(&self.target),
            resource: self.resource.name.clone(),
            retry: self.context.verify.plan.defaults.retry.clone(),
            stop: self.context.verify.stop.clone(),
            comparer: None,
        }
    }

    /// Begins the resource, or finds out how far it is.
    pub(super) async fn begin(&self, shape: &TableShape) -> Result<Phase, Trouble> {
        let name = &self.resource.name;
        let standing = self.scratch().resource(name)?;
        let standing = standing.filter(|one| one.columns == self.columns);
        let (phase, rows, estimated) = if let Some(one) = standing {
            (one.phase, one.counts.rows, one.estimated_rows)
        } else {
            let plan = &self.context.verify.plan;
            let partitions = plan.defaults.parallel_partitions;
            let source = &self.context.verify.source;
            let ranges = retrying(
                &plan.defaults.retry,
                |_, _| {},
                || source.partition(&self.query, partitions),
            );
            let counted = self.query.since.as_ref().and_then(|since| since.rows);
            let (ranges, estimated) = (ranges.await?, counted.unwrap_or(shape.estimated_rows));
            self.scratch()
                .begin(name, &self.columns, estimated, &ranges)?;
            (Phase::Walking, 0, estimated)
        };
        if phase == Phase::Walking {
            self.context.emit(&report::Event::ResourceStarted {
                resource: name.clone(),
                rows,
                estimated_rows: estimated.max(rows),
                partitions: self.scratch().parts(name)?.len(),
            });
        }
        Ok(phase)
    }

    /// Notes that nothing is left to do, and tells what was found.
    pub(super) fn finished(&self) -> Result<(), Trouble> {
        let name = &self.resource.name;
        self.scratch().set_phase(name, Phase::Settled)?;
        let counts = self.counts()?;
        self.context.emit(&report::Event::ResourceVerified {
            resource: name.clone(),
            rows: counts.rows,
            missing: counts.missing,
            different: counts.different,
            repaired: counts.repaired,
        });
        Ok(())
    }

    pub(super) fn counts(&self) -> Result<Counts, Trouble> {
        let standing = self.scratch().resource(&self.resource.name)?;
        Ok(standing.map(|one| one.counts).unwrap_or_default())
    }

    /// Reads the rows of `range` that are compared.
    pub(super) fn read(&self, range: &KeyRange) -> Rows {
        self.read_query(self.query.clone(), range)
    }

    /// Reads the rows of `query` in `range`, in chunks that the memory budget has room for.
    pub(super) fn read_query(&self, query: RowQuery, range: &KeyRange) -> Rows {
        // One chunk waits while one is compared and one is read: more would only be memory.
        let (out, inbox) = mpsc::channel(1);
        let verify = &self.context.verify;
        let defaults = &verify.plan.defaults;
        let walks =
            u64::from(defaults.parallel_resources) * u64::from(defaults.parallel_partitions);
        let share = (defaults.in_flight_bytes / (CHUNKS_PER_PART * walks.max(1))).max(16 * 1024);
        let bounds = ChunkBounds {
            page_rows: Arc::new(AtomicU32::new(self.resource.chunk.rows)),
            bytes: self.resource.chunk.bytes.min(share),
            longest_row: defaults.in_flight_bytes,
        };
        let encoding = verify.plan.encoding(&self.resource);
        let sink = ChunkSink::new(
            bounds,
            Pairs::new(&self.query.from, encoding),
            self.context.budget.clone(),
            out,
            verify.stop.clone(),
            None,
            Arc::default(),
        );
        let reader = Reader {
            resource: self.resource.name.clone(),
            partition: PartitionId(0),
            columns: self.columns.clone(),
            source: Arc::clone(&verify.source),
            query,
            range: range.clone(),
            sink,
            retry: defaults.retry.clone(),
            stop: verify.stop.clone(),
            reports: self.context.reports.clone(),
        };
        Rows {
            inbox,
            reading: tokio::spawn(reader.run()),
        }
    }

    /// Gives the memory of a chunk back.
    pub(super) fn done_with(&self, filled: FilledChunk) {
        let most = 2 * self.resource.chunk.bytes;
        self.context.budget.take_back(filled.chunk, most);
        drop(filled.reservation);
    }

    /// Returns the rows of `chunk` that are compared; `None` for all of them.
    pub(super) fn sample(&self, chunk: &Chunk) -> Option<Chunk> {
        if self.one_in == 1 {
            return None;
        }
        let chosen: Vec<usize> = chunk
            .rows()
            .enumerate()
            .filter(|(_, row)| {
                let mut hash = Xxh3::with_seed(self.context.seed);
                hash.update(row.key);
                hash.digest().is_multiple_of(self.one_in)
            })
            .map(|(at, _)| at)
            .collect();
        Some(subset(chunk, &chosen))
    }

    /// Returns a hash of what the target should hold of a row.
    pub(super) fn hash(&self, row: &Row<'_>) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&(row.key.len() as u64).to_le_bytes());
        hash.update(row.key);
        if self.context.verify.level != Level::Presence {
            hash.update(row.value);
        }
        for column in row.beside() {
            // NULL and no bytes are not the same.
            let length = column.map_or(u64::MAX, |bytes| bytes.len() as u64);
            hash.update(&length.to_le_bytes());
            hash.update(column.unwrap_or_default());
        }
        hash.digest()
    }

    /// Returns a hash of all that a row writes.
    pub(super) fn content(row: &Row<'_>) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(row.value);
        for column in row.beside() {
            hash.update(column.unwrap_or_default());
        }
        hash.digest()
    }

    /// Compares the rows of a part that are left.
    async fn walk(&self, part: &Part) -> Result<(), Trouble> {
        let mut rows = self.read(&part.range);
        let mut asker = self.asker();
        let mut after = part.range.after.clone();
        while let Some(filled) = rows.inbox.recv().await {
            failpoint::hit("before_compare")
                .map_err(|error| crate::engine::copy::fail_point(&error))?;
            let compared = self.compared(&mut asker, &filled, after.as_ref()).await?;
            let name = &self.resource.name;
            self.scratch().chunk_compared(name, part.id, &compared)?;
            let counts = self.counts()?;
            let more = filled.chunk.byte_count() as u64;
            self.context.emit(&report::Event::ChunkStored {
                resource: name.clone(),
                partition: part.id.cast_unsigned(),
                chunk: 0,
                rows: counts.rows,
                bytes: self.bytes.fetch_add(more, Ordering::Relaxed) + more,
                dead_letters: counts.dead_letters,
            });
            after = Some(compared.until);
            self.done_with(filled);
        }
        rows.ended().await?;
        Ok(self.scratch().part_done(part.id)?)
    }

    /// Compares one chunk, which begins after `after`.
    async fn compared(
        &self,
        asker: &mut Asker,
        filled: &FilledChunk,
        after: Option<&Cursor>,
    ) -> Result<ChunkCompared, Trouble> {
        let sample = self.sample(&filled.chunk);
        let chunk = sample.as_ref().unwrap_or(&filled.chunk);
        let found = asker.ask(chunk, depth(self.context.verify.level)).await?;
        let mut suspects = Vec::new();
        let mut range: Option<KeyRange> = None;
        let mut broken: BTreeMap<String, u64> = BTreeMap::new();
        let mut broken_keys = Vec::new();
        for letter in &filled.dead_letters {
            let reason = reason(letter);
            // A row without a key is named by its place.
            let row = letter.key.as_ref().map_or_else(
                || format!("the row at {}", letter.cursor),
                |key| self.shown(key.as_bytes()),
            );
            if broken_keys.len() < FIRST_KEYS {
                broken_keys.push(format!("{row}: {reason}"));
            }
            *broken.entry(reason).or_default() += 1;
        }
        let (mut unwritable, mut unwritable_keys, mut rows) = (0, 0, 0);
        let mut refused: Option<&[KeyValue]> = None;
        let mut at = after.map(|cursor| cursor.0.as_slice());
        let mut before = at;
        for (row, stored) in chunk.rows().zip(&found) {
            // A row that owns several keys is one row.
            if at != Some(row.cursor) {
                rows += 1;
                before = at.replace(row.cursor);
            }
            match stored {
                Stored::Same => {}
                Stored::Unwritable => {
                    unwritable_keys += 1;
                    if refused.replace(row.cursor) != Some(row.cursor) {
                        unwritable += 1;
                    }
                    if broken_keys.len() < FIRST_KEYS {
                        broken_keys.push(format!("{}: {UNWRITABLE}", self.shown(row.key)));
                    }
                }
                Stored::Missing | Stored::Differs => {
                    let cursor = Cursor(row.cursor.to_vec());
                    suspects.push((pair(&row), self.hash(&row)));
                    range = Some(KeyRange {
                        after: match range {
                            Some(range) => range.after,
                            None => before.map(|cursor| Cursor(cursor.to_vec())),
                        },
                        until: cursor,
                    });
                }
            }
        }
        if unwritable > 0 {
            broken.insert(UNWRITABLE.to_owned(), unwritable);
        }
        Ok(ChunkCompared {
            broken,
            broken_keys,
            until: filled.until.clone(),
            counts: Counts {
                rows: filled.rows,
                compared: u64::saturating_sub(rows, unwritable),
                keys: (chunk.row_count() as u64).saturating_sub(unwritable_keys),
                dead_letters: filled.dead_letters.len() as u64 + unwritable,
                ..Counts::default()
            },
            doubt: range.map(|range| (range, suspects)),
        })
    }
}

/// Returns the kind of a dead letter's reason: without the place in the value, so that like is counted with like.
fn reason(letter: &DeadLetter) -> String {
    if letter.kind == ErrorKind::RowTooLarge.label() {
        return "the value is longer than the memory budget".to_owned();
    }
    let places = [" at byte ", ": it ends after "];
    let end = places.iter().filter_map(|place| letter.reason.find(place));
    let end = end.min().unwrap_or(letter.reason.len());
    letter.reason[..end].to_owned()
}

/// Compares every part of a resource.
pub(super) async fn walk_all(walker: &Arc<Walker>) -> Result<(), Trouble> {
    let name = &walker.resource.name;
    let mut walks = JoinSet::new();
    for part in walker.scratch().parts(name)? {
        let walker = Arc::clone(walker);
        walks.spawn(async move { walker.walk(&part).await });
    }
    joined(walks).await?;
    Ok(walker.scratch().set_phase(name, Phase::Settling)?)
}

/// Waits for all of `tasks`; the first that fails ends the others.
pub(super) async fn joined(mut tasks: JoinSet<Result<(), Trouble>>) -> Result<(), Trouble> {
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(outcome) => outcome?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(Trouble::Stopped),
        }
    }
    Ok(())
}

/// Returns what tells a pair of key and value from all others of its resource: a row may own several keys.
pub(super) fn pair(row: &Row<'_>) -> String {
    let mut hash = Xxh3::new();
    hash.update(row.key);
    let cursor = Cursor(row.cursor.to_vec()).exact();
    format!("{cursor} {:032x}", hash.digest128())
}

/// Returns of how many rows one is compared.
pub(super) fn one_in(level: Level, estimated_rows: u64) -> u64 {
    match level {
        Level::Sample => (estimated_rows / SAMPLE_ROWS).max(1),
        Level::Presence | Level::Full => 1,
    }
}
