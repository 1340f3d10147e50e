//! The one thread that owns the state file, and the handle that everybody else has.

use std::{collections::BTreeSet, path::Path, sync::Arc, thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot};

pub use super::store::Recorded;
use super::{
    error::JournalError,
    letters::{LetterPlace, Settled, WhichLetters},
    notice::Notice,
    open::{self, OpenMode, Settings},
    store::{Bound, Store},
};
use crate::{
    ids::{ChunkSeq, PartitionId, ResourceName, RunId},
    machine::{Event, Ledger, Progress},
};

/// Twice as many records in flight as a run has partitions at most: nobody waits for room, and little is lost with it.
const IN_FLIGHT: usize = 64;

type Reply<T> = oneshot::Sender<Result<T, JournalError>>;

enum Request {
    Record(Vec<Event>, Reply<Recorded>),
    Progress(PartitionId, Bound, Reply<Option<Progress>>),
    DeadLetterCount(RunId, ResourceName, Reply<u64>),
    Settled(SettleRequest, Reply<Option<Settled>>),
    DeadLetters(WhichLetters, Reply<Vec<LetterPlace>>),
    WriteMarker(Reply<()>),
    Close(Reply<()>),
}

/// Which dead letters are settled, and why.
struct SettleRequest {
    resource: ResourceName,
    cursors: BTreeSet<String>,
    but: Option<RunId>,
    how: String,
}

/// A state file in use. Clones share the one thread that writes it; it lets go when the last clone is dropped, or at
/// [`close`](Self::close).
#[derive(Debug, Clone)]
pub struct Journal {
    requests: mpsc::Sender<Request>,
    state: Arc<str>,
}

impl Journal {
    /// Opens the state file at `path`, creating it and its folder for a first run. Returns what its events add up to,
    /// and what a person should be told. Blocks up to two seconds while another process holds it.
    ///
    /// # Errors
    ///
    /// [`JournalError::is_refusal`] for a file that cannot be vouched for; `InUse`, `NewerFormat`, `NotOurs` and
    /// `Symlink` for one that is not to be touched.
    pub fn open(path: &Path, mode: OpenMode) -> Result<(Self, Ledger, Vec<Notice>), JournalError> {
        Self::open_with(path, mode, Settings::default())
    }

    /// Like [`open`](Self::open), with other limits.
    pub fn open_with(
        path: &Path,
        mode: OpenMode,
        settings: Settings,
    ) -> Result<(Self, Ledger, Vec<Notice>), JournalError> {
        let (store, notices) = open::open(path, mode, settings)?;
        let ledger = store.log.ledger.clone();
        let state = store.state.as_str().into();
        let (requests, inbox) = mpsc::channel(IN_FLIGHT);
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || serve(store, inbox))
            .map_err(|error| JournalError::io("start a thread for", path, error))?;
        Ok((Self { requests, state }, ledger, notices))
    }

    /// Returns the random id of the state file: the owner of leases on targets.
    #[must_use]
    pub fn state_id(&self) -> &str {
        &self.state
    }

    /// Stores `events` in one transaction and returns when they are on disk. Events of calls that overlap are stored
    /// in the order the calls began. Dropping the future does not take them back.
    ///
    /// # Errors
    ///
    /// Any error is final: this and every later call fails with it, and what was recorded before stands.
    pub async fn record(&self, events: Vec<Event>) -> Result<Recorded, JournalError> {
        self.ask(|reply| Request::Record(events, reply)).await
    }

    /// Returns the progress after the last recorded chunk of `partition` that is not beyond `at_or_before`; `None`
    /// when there is none, or compaction took it away.
    pub async fn chunk_progress(
        &self,
        partition: PartitionId,
        at_or_before: ChunkSeq,
    ) -> Result<Option<Progress>, JournalError> {
        self.ask(|reply| Request::Progress(partition, Bound::Chunk(at_or_before), reply))
            .await
    }

    /// Returns the progress after the last recorded chunk of `partition` that ended at or below `length`; `None` when
    /// there is none, or compaction took it away.
    pub async fn chunk_by_length(
        &self,
        partition: PartitionId,
        length: u64,
    ) -> Result<Option<Progress>, JournalError> {
        self.ask(|reply| Request::Progress(partition, Bound::Length(length), reply))
            .await
    }

    /// Returns how many dead letters of `resource` stand in `run`.
    pub async fn dead_letter_count(
        &self,
        run: &RunId,
        resource: &ResourceName,
    ) -> Result<u64, JournalError> {
        self.ask(|reply| Request::DeadLetterCount(run.clone(), resource.clone(), reply))
            .await
    }

    /// Returns the event that settles the dead letters of `resource` at `cursors` (their exact texts), those of run `but`
    /// apart; `None` where there are none. Records nothing.
    pub async fn settled(
        &self,
        resource: ResourceName,
        cursors: BTreeSet<String>,
        but: Option<RunId>,
        how: String,
    ) -> Result<Option<Settled>, JournalError> {
        let request = SettleRequest {
            resource,
            cursors,
            but,
            how,
        };
        self.ask(|reply| Request::Settled(request, reply)).await
    }

    /// Returns where the rows of dead letters were, in the order of the letters' numbers.
    pub async fn dead_letters(
        &self,
        which: WhichLetters,
    ) -> Result<Vec<LetterPlace>, JournalError> {
        self.ask(|reply| Request::DeadLetters(which, reply)).await
    }

    /// Writes the marker for everything recorded so far. To be called every few seconds.
    pub async fn write_marker(&self) -> Result<(), JournalError> {
        self.ask(Request::WriteMarker).await
    }

    /// Folds `SQLite`'s log into the file, writes the marker and lets go of the lock. Other clones fail from here on.
    pub async fn close(self) -> Result<(), JournalError> {
        self.ask(Request::Close).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }
}

/// Answers requests one at a time until the journal is closed or nobody is left to ask.
fn serve(mut store: Store, mut inbox: mpsc::Receiver<Request>) {
    // The first failure of a write. After a failed fsync nobody knows what is on disk, and asking again would say
    // that all is well.
    let mut failed: Option<JournalError> = None;
    let mut commits = 0_u64;
    while let Some(request) = inbox.blocking_recv() {
        match request {
            Request::Record(events, reply) => {
                commits += 1;
                answer(reply, once(&mut failed, || store.record(&events)));
            }
            Request::WriteMarker(reply) => {
                answer(reply, once(&mut failed, || store.write_marker()));
            }
            Request::Progress(partition, bound, reply) => {
                answer(reply, store.progress(partition, bound));
            }
            Request::DeadLetterCount(run, resource, reply) => {
                answer(reply, store.dead_letter_count(&run, &resource));
            }
            Request::Settled(asked, reply) => {
                let SettleRequest {
                    resource,
                    cursors,
                    but,
                    how,
                } = asked;
                let settled = store.settled(&resource, &cursors, but.as_ref(), how);
                answer(reply, settled);
            }
            Request::DeadLetters(which, reply) => answer(reply, store.dead_letters(&which)),
            Request::Close(reply) => {
                // Read by `tests/bench/redis`.
                let cpu_ms = processor_time().as_millis();
                tracing::debug!(commits, cpu_ms, "journal closes");
                let closed = match failed {
                    Some(error) => {
                        drop(store);
                        Err(error)
                    }
                    None => store.close(),
                };
                answer(reply, closed);
                return;
            }
        }
    }
    if failed.is_none() {
        // Nobody is left who could be told; the next open finds whatever is missing here.
        let _ = store.close();
    }
}

/// Returns the processor time of this thread so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn once<T>(
    failed: &mut Option<JournalError>,
    act: impl FnOnce() -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    if let Some(error) = failed {
        return Err(error.clone());
    }
    act().inspect_err(|error| *failed = Some(error.clone()))
}

/// Answers a caller who may have stopped waiting.
fn answer<T>(reply: Reply<T>, with: Result<T, JournalError>) {
    let _ = reply.send(with);
}
