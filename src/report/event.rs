//! What a run tells its observers. Serialised as it is for `--json`: fields are a promise, added but never renamed.

use serde::Serialize;

use crate::{
    ids::{ResourceName, RunId, StepNumber},
    machine::StepPlace,
};

/// Something happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins or goes on.
    RunStarted {
        /// Its id.
        run: RunId,
        /// Name of the plan.
        plan: String,
        /// From 1; above 1 it goes on where the one before stopped.
        attempt: u32,
        /// Path of the state file.
        state: String,
        /// Its resources.
        resources: Vec<ResourceStanding>,
    },
    /// A resource's bounds are taken.
    ResourceStarted {
        /// Which.
        resource: ResourceName,
        /// Rows that were compared before, where a comparison goes on; none in a restore.
        rows: u64,
        /// The source's estimate of rows.
        estimated_rows: u64,
        /// How many key ranges are walked side by side.
        partitions: usize,
    },
    /// A chunk is stored and journaled. Totals are the resource's.
    ChunkStored {
        /// Which resource.
        resource: ResourceName,
        /// Which partition.
        partition: u64,
        /// Number of the chunk.
        chunk: u64,
        /// Rows read so far.
        rows: u64,
        /// Bytes stored so far.
        bytes: u64,
        /// Dead letters so far.
        dead_letters: u64,
    },
    /// What lies in a queue that rows of a resource are on their way through.
    Queue {
        /// Which resource.
        resource: ResourceName,
        /// The queue, behind its vhost where there are several.
        queue: String,
        /// Messages that nobody has taken yet.
        ready: u64,
        /// Messages that consumers have and did not acknowledge; `None` where nobody tells.
        unacked: Option<u64>,
        /// How many take them.
        consumers: u32,
    },
    /// Every row of a resource is in its target, or a dead letter.
    ResourceSynced {
        /// Which.
        resource: ResourceName,
        /// Rows read.
        rows: u64,
        /// Bytes stored.
        bytes: u64,
        /// Dead letters.
        dead_letters: u64,
    },
    /// An operation failed and is tried again.
    Waiting {
        /// Which resource, if it is about one.
        resource: Option<ResourceName>,
        /// What failed.
        error: String,
        /// How long until the next try.
        wait_ms: u64,
        /// The source or target it is about.
        place: String,
        /// When the first try in a row failed, milliseconds since 1970.
        since_ms: i64,
        /// How many failed in a row.
        tries: u32,
    },
    /// Nothing is sent to a source or target until a probe gets through; once for each probe that does not.
    Held {
        /// Which.
        place: String,
        /// Which of those that are not done need it.
        resources: Vec<ResourceName>,
        /// What the last try said.
        error: String,
        /// When the first try in a row failed, milliseconds since 1970.
        since_ms: i64,
        /// Until when it is waited for at most, milliseconds since 1970.
        until_ms: i64,
        /// How long ago the first one was.
        waited_ms: u64,
        /// How many failed in a row.
        tries: u32,
    },
    /// A source or target that was waited for works again.
    Recovered {
        /// Which.
        place: String,
        /// How long it was waited for.
        waited_ms: u64,
        /// How many tries failed.
        tries: u32,
    },
    /// Rows of a page or chunks at a time changed.
    Paced {
        /// Which resource.
        resource: ResourceName,
        /// Rows of the next page.
        rows: u32,
        /// Chunks that may be written to its target at a time.
        writers: u32,
        /// Why.
        reason: String,
    },
    /// The plan's `throttle` holds a resource back, or lets it go on.
    Throttled {
        /// Which.
        resource: ResourceName,
        /// Why; `None` when it goes on.
        reason: Option<String>,
    },
    /// A person asked for a pause.
    Paused {
        /// When, milliseconds since 1970.
        since_ms: i64,
        /// User and host.
        by: String,
        /// What to type to go on.
        next: String,
    },
    /// The pause was lifted.
    Unpaused {},
    /// Recorded work is void and done again.
    Redone {
        /// Which resource.
        resource: ResourceName,
        /// One line.
        text: String,
    },
    /// A resource cannot go on without a person.
    ResourceBlocked {
        /// Which.
        resource: ResourceName,
        /// Why.
        reason: String,
    },
    /// A resource goes to its publisher.
    FellBack {
        /// Which.
        resource: ResourceName,
        /// Whether only the entities of its broken rows do.
        rows_only: bool,
        /// `console` or `sql`.
        by: String,
        /// About how many ids.
        ids: u64,
        /// Why.
        reason: String,
    },
    /// The publisher took ids.
    IdsTriggered {
        /// Of which resource.
        resource: ResourceName,
        /// Ids so far.
        ids: u64,
        /// Of about so many.
        of: u64,
        /// Calls so far.
        calls: u64,
    },
    /// Every id is out; the rows are waited for until they stand still.
    Settling {
        /// Of which resource.
        resource: ResourceName,
    },
    /// What was regenerated is compared with the target, differences are copied.
    Comparing {
        /// Which resource.
        resource: ResourceName,
        /// The source's estimate of rows.
        estimated_rows: u64,
        /// How many key ranges are walked side by side.
        partitions: usize,
    },
    /// Every row of a resource was compared with its target.
    ResourceVerified {
        /// Which.
        resource: ResourceName,
        /// Rows read.
        rows: u64,
        /// Rows that the target had nothing of.
        missing: u64,
        /// Rows of which it had something else.
        different: u64,
        /// How many of those were rewritten.
        repaired: u64,
    },
    /// A step is about to be done; that is journaled.
    StepStarted {
        /// Its number in the run.
        step: StepNumber,
        /// `prepare` or `finish`.
        place: StepPlace,
        /// What it is.
        title: String,
        /// How long it took the last time.
        usual_ms: Option<u64>,
    },
    /// A step under way waits for something.
    StepWaits {
        /// Its number in the run.
        step: StepNumber,
        /// For what, in one line.
        text: String,
    },
    /// A step is done, or was found done.
    StepDone {
        /// Its number in the run.
        step: StepNumber,
        /// `prepare` or `finish`.
        place: StepPlace,
        /// What it is.
        title: String,
        /// How that is known.
        how: String,
        /// How long it took; `None` where nothing had to be done.
        took_ms: Option<u64>,
    },
    /// The ids of a run's scope, when it is done.
    IdsAsked {
        /// In which resource.
        resource: ResourceName,
        /// How many different ones were asked for.
        asked: u64,
        /// How many of them no row has.
        without_row: u64,
        /// The first of those, where it is known which they are.
        ids: Vec<String>,
    },
    /// Something worth one line.
    Notice {
        /// The line.
        text: String,
    },
    /// The run ends, for now.
    RunEnded {
        /// Its id.
        run: RunId,
        /// `done`, `interrupted`, `failed`.
        state: String,
        /// Rows read over all resources.
        rows: u64,
        /// Bytes stored.
        bytes: u64,
        /// Dead letters.
        dead_letters: u64,
        /// How long this attempt took.
        elapsed_ms: u64,
    },
}

/// Where a resource stands when a run begins or goes on.
#[derive(Debug, Clone, Serialize)]
pub struct ResourceStanding {
    /// Which.
    pub name: ResourceName,
    /// Label of its state.
    pub state: String,
    /// The source's estimate of rows.
    pub estimated_rows: u64,
    /// Rows read so far.
    pub rows: u64,
}

/// Hears of everything, in order, after it is on disk. Must not block.
pub trait Observer: Send {
    /// Takes note of `event`.
    fn observe(&mut self, event: &Event);
}
