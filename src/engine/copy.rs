//! Walks one partition: a reader and a writer side by side, each chunk acknowledged before it is reported.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    breaker::Side,
    budget::Budget,
    handover::entities_at,
    lease::LeaseKeeper,
    pace::{Gate, Pace},
    pairs::Pairs,
    read::Reader,
    retry::{Waits, is_tried_again, retrying},
    sink::{ChunkBounds, ChunkSink, FilledChunk, shown_key, told},
    throttle::RateLimit,
};
use crate::{
    compare::ComparingWriter,
    cursor::{Cursor, KeyRange},
    error::{Disposition, EdgeError, ErrorKind},
    failpoint,
    ids::{PartitionId, ResourceName, RunId},
    machine::{ChunkEvent, ChunkState, DeadLetter, Progress},
    plan::{Compression, RetryPolicy, ValueForm},
    source::{RowQuery, Source},
    target::{ChunkWriter, PartitionKey, Target, Written},
};

/// Everything a partition needs to be walked.
pub struct Walk {
    /// The run, for markers.
    pub run: RunId,
    /// Which partition.
    pub partition: PartitionKey,
    /// Its rows that are still to be read.
    pub range: KeyRange,
    /// How far it is.
    pub progress: Progress,
    /// Whether only rows are written that the target does not hold as they are.
    pub compares: bool,
    /// What to read.
    pub query: RowQuery,
    /// The column of the entity to which a row belongs, if the plan names one.
    pub entity: Option<String>,
    /// Where from.
    pub source: Arc<dyn Source>,
    /// Where to.
    pub target: Arc<dyn Target>,
    /// How it wants its values.
    pub encoding: (ValueForm, Compression),
    /// Proves that the target is ours.
    pub lease: Arc<LeaseKeeper>,
    /// Memory.
    pub budget: Budget,
    /// A chunk ends with the row that reaches this many bytes.
    pub chunk_bytes: u64,
    /// Most rows of a chunk.
    pub chunk_rows: u32,
    /// Rows longer than this are dead letters.
    pub longest_row: u64,
    /// Dead letters of the partition beyond which it waits for the coordinator, who blocks the resource.
    pub most_dead_letters: u64,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Stop after so many chunks: 1 for a suspect, which is read without looking ahead.
    pub quota: Option<u32>,
    /// How many chunks may be written to the target at a time.
    pub gate: Gate,
    /// Rows a second of the resource, if the plan bounds them.
    pub rate: Option<Arc<RateLimit>>,
    /// True while nothing is to be written because a throttle of the plan says so.
    pub hold: watch::Receiver<bool>,
    /// Becomes true when the walk is to stop after the chunk in hand.
    pub stop: watch::Receiver<bool>,
    /// Becomes true when somebody else could walk a part of the rest.
    pub share: Arc<AtomicBool>,
    /// What the columns were when the resource was bound.
    pub columns: String,
    /// Where chunks and troubles are reported.
    pub reports: mpsc::Sender<Report>,
}

/// What a walk tells the coordinator, in order.
#[derive(Debug)]
pub enum Report {
    /// The target acknowledged a chunk.
    Stored {
        /// Whose.
        resource: ResourceName,
        /// Which of its partitions.
        partition: PartitionId,
        /// Totals after it.
        progress: Progress,
        /// Its rows that do not pass.
        dead_letters: Vec<DeadLetter>,
        /// Where the chunk stands.
        state: ChunkState,
    },
    /// A walk that was asked to share its rest stands between two pages and waits for the answer.
    Share {
        /// Whose.
        resource: ResourceName,
        /// Which of its partitions.
        partition: PartitionId,
        /// A key beyond all that was read, where the rest is to begin; `None` where too little is left.
        at: Option<Cursor>,
        /// Told `true` once the cut is on disk: the walk ends at the key then. Dropped, it goes on as before.
        done: oneshot::Sender<bool>,
    },
    /// An operation failed and is tried again after a wait.
    Waiting {
        /// Whose.
        resource: ResourceName,
        /// Reading or writing.
        side: Side,
        /// What failed.
        error: String,
        /// How long until the next try.
        wait: Duration,
    },
    /// Something to tell as it is: how far a comparison is.
    Told(crate::report::Event),
    /// Rows of a page or chunks at a time changed.
    Paced {
        /// Whose.
        resource: ResourceName,
        /// Rows of the next page.
        rows: u32,
        /// Chunks that may be written to its target at a time.
        writers: u32,
        /// Why.
        reason: String,
    },
}

/// How a walk ended.
#[derive(Debug)]
pub enum Ended {
    /// Every row of the range is stored.
    Exhausted,
    /// It was told to stop; what was acknowledged is reported.
    Stopped,
    /// It did as many chunks as it was allowed to.
    Quota,
    /// It cannot go on.
    Failed(Side, EdgeError),
}

impl Walk {
    /// Walks the partition to its end, or as far as it goes.
    pub async fn run(self) -> Ended {
        // One chunk waits while one is written and one is read: more would only be memory.
        let (out, inbox) = mpsc::channel(1);
        let page_rows = Arc::new(AtomicU32::new(self.pace().rows()));
        let bounds = ChunkBounds {
            page_rows: Arc::clone(&page_rows),
            bytes: self.chunk_bytes,
            longest_row: self.longest_row,
        };
        let sink = ChunkSink::new(
            bounds,
            Pairs::new(&self.query.from, self.encoding),
            self.budget.clone(),
            out,
            self.stop.clone(),
            self.quota,
            Arc::clone(&self.share),
        );
        let mut reading = tokio::spawn(
            Reader {
                resource: self.partition.resource.clone(),
                partition: self.partition.id,
                columns: self.columns.clone(),
                source: Arc::clone(&self.source),
                query: self.query.clone(),
                range: self.range.clone(),
                sink,
                retry: self.retry.clone(),
                stop: self.stop.clone(),
                reports: self.reports.clone(),
            }
            .run(),
        );
        let written = self.write_all(inbox, &page_rows).await;
        if !matches!(written, Ok(())) {
            // The writer is gone, so the reader has nobody to read for.
            reading.abort();
        }
        let read = match (&mut reading).await {
            Ok(read) => read,
            Err(joined) if joined.is_panic() => std::panic::resume_unwind(joined.into_panic()),
            Err(_) => Ended::Stopped,
        };
        match written {
            Ok(()) => read,
            Err(ended) => ended,
        }
    }

    fn pace(&self) -> Pace {
        let rate = self.rate.as_ref();
        let most = rate.map_or(self.chunk_rows, |rate| rate.chunk_rows(self.chunk_rows));
        Pace::new(self.progress.page_rows, most)
    }

    async fn write_all(
        self,
        mut inbox: mpsc::Receiver<FilledChunk>,
        page_rows: &AtomicU32,
    ) -> Result<(), Ended> {
        let mut progress = self.progress.clone();
        let mut pace = self.pace();
        let mut writer = None;
        let mut stop = self.stop.clone();
        loop {
            let mut filled = tokio::select! {
                biased;
                () = told(&mut stop) => return Err(Ended::Stopped),
                filled = inbox.recv() => match filled {
                    Some(filled) => filled,
                    None if writer.is_none() => return self.cut(&progress, &mut stop).await,
                    None => return Ok(()),
                },
            };
            self.throttled(filled.rows, &mut stop).await?;
            filled.state = filled.state.apply(ChunkEvent::Sent).map_err(internal)?;
            let mut next = Progress {
                chunk: progress.chunk.next(),
                after: Some(reported_end(&filled.until)),
                rows: progress.rows + filled.rows,
                bytes: progress.bytes + filled.chunk.byte_count() as u64,
                dead_letters: progress.dead_letters,
                length: progress.length,
                page_rows: pace.rows(),
            };
            if failpoint::mutant("journal_first") {
                // A deliberate defect: the journal hears of the chunk before the target does, and has it on disk by then.
                let state = ChunkState::Acknowledged;
                let dead_letters = std::mem::take(&mut filled.dead_letters);
                next.dead_letters += dead_letters.len() as u64;
                self.stored(next.clone(), dead_letters, state).await?;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            failpoint::hit("before_write").map_err(|error| not_written(fail_point(&error)))?;
            let written = self
                .write(&mut writer, &progress, &filled, &mut pace, &mut stop)
                .await?;
            failpoint::hit("after_ack").map_err(|error| not_written(fail_point(&error)))?;
            filled.state = filled
                .state
                .apply(ChunkEvent::Acknowledged)
                .map_err(internal)?;
            let mut dead_letters = dead_letters(&mut filled, &written);
            self.name_entities(&mut dead_letters, &mut stop).await?;
            next.dead_letters += dead_letters.len() as u64;
            next.length = written.length;
            next.page_rows = pace.rows();
            page_rows.store(pace.rows(), Ordering::Relaxed);
            progress = next.clone();
            let state = filled.state;
            // Its memory is free before the journal is waited for.
            self.budget.take_back(filled.chunk, 2 * self.chunk_bytes);
            drop(filled.reservation);
            let drowning = next.dead_letters > self.most_dead_letters;
            if !failpoint::mutant("journal_first") {
                self.stored(next, dead_letters, state).await?;
            }
            if drowning {
                // The journal is behind; until it has said so, this would go on to write dead letters.
                told(&mut stop).await;
            }
        }
    }

    /// Names the entities of rows that do not pass: whoever mends one may give it another place.
    async fn name_entities(
        &self,
        letters: &mut [DeadLetter],
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Ended> {
        let Some(entity) = self.entity.as_ref().filter(|_| !letters.is_empty()) else {
            return Ok(());
        };
        let places: Vec<String> = letters.iter().map(|one| one.cursor.exact()).collect();
        let mut waits = Waits::new(&self.retry);
        let mut entities = loop {
            // The chunk is in the target: it is worth one question, also when this is to stop.
            let asked = entities_at(&*self.source, &self.query.from, entity, &places).await;
            let error = match asked {
                Ok(entities) => break entities,
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                return Err(Ended::Failed(Side::Source, error));
            };
            self.wait_out(Side::Source, &error, wait, stop).await?;
        };
        for (letter, place) in letters.iter_mut().zip(&places) {
            letter.entity = entities.remove(place);
        }
        Ok(())
    }

    /// Cuts off what a dead process may have left after the last journaled chunk, for a partition that turned out to have
    /// no row to write.
    async fn cut(&self, stored: &Progress, stop: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        let open = || {
            self.target
                .writer(&self.run, &self.partition, stored.chunk, stored.length)
        };
        tokio::select! {
            biased;
            () = told(stop) => Err(Ended::Stopped),
            opened = retrying(&self.retry, |_, _| {}, open) => opened.map(drop).map_err(not_written),
        }
    }

    /// Waits until the plan's `throttle` lets the next rows through.
    async fn throttled(&self, rows: u64, stop: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        let mut hold = self.hold.clone();
        let through = async {
            // Nobody left to say so: the run is ending.
            hold.wait_for(|hold| !*hold).await.ok();
            if let Some(rate) = &self.rate {
                tokio::time::sleep_until(rate.take(rows)).await;
            }
        };
        tokio::select! {
            biased;
            () = told(stop) => Err(Ended::Stopped),
            () = through => Ok(()),
        }
    }

    /// Writes one chunk, trying again while errors pass by themselves.
    async fn write(
        &self,
        writer: &mut Option<Box<dyn ChunkWriter>>,
        stored: &Progress,
        filled: &FilledChunk,
        pace: &mut Pace,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Written, Ended> {
        let mut waits = Waits::new(&self.retry);
        let mut pushed_back = false;
        loop {
            let pass = tokio::select! {
                biased;
                () = told(stop) => return Err(Ended::Stopped),
                pass = self.gate.enter() => pass,
            };
            let begun = Instant::now();
            let tried = self.try_write(writer, stored, filled).await;
            drop(pass);
            match tried {
                Ok(written) => {
                    let faster = pace.stored(begun.elapsed());
                    let wider = self.gate.stored().then_some("the target keeps up");
                    if let Some(reason) = faster.or(wider) {
                        self.paced(*pace, reason.to_owned()).await?;
                    }
                    return Ok(written);
                }
                // A deliberate defect: what the target answers does not matter.
                Err(_) if failpoint::mutant("ack_ignored") => return Ok(Written::default()),
                Err(error) if is_tried_again(&error) => {
                    // Once for a chunk, however often it is refused: eight halvings would be far too many.
                    if !std::mem::replace(&mut pushed_back, true) {
                        self.pushed_back(pace, &error).await?;
                    }
                    let Some(wait) = waits.next() else {
                        return Err(not_written(error));
                    };
                    // What the target asked for, as far as the plan lets anything wait.
                    let asked = error.not_before.unwrap_or_default();
                    let wait = wait.max(asked.min(self.retry.cap));
                    self.wait_out(Side::Target, &error, wait, stop).await?;
                }
                Err(error) => return Err(not_written(error)),
            }
        }
    }

    /// Says why nothing goes on, and waits before the next try.
    async fn wait_out(
        &self,
        side: Side,
        error: &EdgeError,
        wait: Duration,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Ended> {
        self.report(Report::Waiting {
            resource: self.partition.resource.clone(),
            side,
            error: error.to_string(),
            wait,
        })
        .await?;
        tokio::select! {
            biased;
            () = told(stop) => Err(Ended::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Slows down where the target asks for it.
    async fn pushed_back(&self, pace: &mut Pace, error: &EdgeError) -> Result<(), Ended> {
        let changed = match error.kind.disposition() {
            // Fewer at a time first; smaller ones only where one at a time is too much.
            Disposition::Throttle => self.gate.narrow() || pace.ease(),
            Disposition::Shrink => pace.fall(),
            _ => false,
        };
        if changed {
            self.paced(*pace, error.to_string()).await?;
        }
        Ok(())
    }

    async fn paced(&self, pace: Pace, reason: String) -> Result<(), Ended> {
        self.report(Report::Paced {
            resource: self.partition.resource.clone(),
            rows: pace.rows(),
            writers: self.gate.width(),
            reason,
        })
        .await
    }

    async fn try_write(
        &self,
        writer: &mut Option<Box<dyn ChunkWriter>>,
        stored: &Progress,
        filled: &FilledChunk,
    ) -> Result<Written, EdgeError> {
        self.lease.ensure().await?;
        let open = if let Some(open) = writer {
            open
        } else {
            let opened = self
                .target
                .writer(&self.run, &self.partition, stored.chunk, stored.length)
                .await?;
            writer.insert(if self.compares {
                Box::new(ComparingWriter::new(
                    Arc::clone(&self.target),
                    self.partition.resource.clone(),
                    opened,
                ))
            } else {
                opened
            })
        };
        open.write(stored.chunk.next(), &filled.chunk).await
    }

    async fn stored(
        &self,
        progress: Progress,
        dead_letters: Vec<DeadLetter>,
        state: ChunkState,
    ) -> Result<(), Ended> {
        let resource = self.partition.resource.clone();
        self.report(Report::Stored {
            resource,
            partition: self.partition.id,
            progress,
            dead_letters,
            state,
        })
        .await
    }

    async fn report(&self, report: Report) -> Result<(), Ended> {
        // The coordinator only goes away when the whole run ends.
        self.reports.send(report).await.map_err(|_| Ended::Stopped)
    }
}

/// Returns the cursor to report for a chunk that ends at `until`.
fn reported_end(until: &Cursor) -> Cursor {
    if failpoint::mutant("cursor_off_by_one") {
        // A deliberate defect: the row after the chunk counts as done.
        use crate::cursor::KeyValue;
        return Cursor(
            until
                .0
                .iter()
                .map(|value| match value {
                    KeyValue::Int(id) => KeyValue::Int(id + 1),
                    KeyValue::Uint(id) => KeyValue::Uint(id + 1),
                    other => other.clone(),
                })
                .collect(),
        );
    }
    until.clone()
}

/// Returns the dead letters of a chunk: those found while reading and those the target rejected, one for each row.
fn dead_letters(filled: &mut FilledChunk, written: &Written) -> Vec<DeadLetter> {
    let mut letters = std::mem::take(&mut filled.dead_letters);
    if written.rejected.is_empty() {
        return letters;
    }
    let rows: Vec<_> = filled.chunk.rows().collect();
    let mut last = None;
    for rejected in &written.rejected {
        let Some(row) = rows.get(rejected.row) else {
            continue;
        };
        // Another key of the row that was named just now.
        if last.replace(row.cursor) == Some(row.cursor) {
            continue;
        }
        letters.push(DeadLetter {
            cursor: Cursor(row.cursor.to_vec()),
            key: Some(shown_key(row.key)),
            kind: ErrorKind::Refused.label().to_owned(),
            reason: rejected.reason.clone(),
            entity: None,
        });
    }
    letters
}

fn internal(error: crate::machine::IllegalTransition) -> Ended {
    not_written(
        EdgeError::new(ErrorKind::Internal, "the chunk's state machine was left").because(error),
    )
}

const fn not_written(error: EdgeError) -> Ended {
    Ended::Failed(Side::Target, error)
}

pub(super) fn fail_point(error: &std::io::Error) -> EdgeError {
    EdgeError::new(ErrorKind::Connection, error.to_string())
}
