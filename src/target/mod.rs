//! Where rows go. Edges name the kind of their errors and never retry.

mod bulk;
mod file;
mod redis;
mod resp;
mod search;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    chunk::Chunk,
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, PartitionId, ResourceName, RunId, StoredName},
    plan::TargetConfig,
};

pub use self::bulk::NOT_IN_STORES;
pub use self::{file::FileTarget, redis::RedisTarget, search::SearchTarget};

/// Ways in for `tests/fuzz`: what writers make of an answer, whoever gave it. Not in a release.
#[cfg(feature = "failpoints")]
pub mod answers {
    pub use super::{
        redis::answered,
        search::{Sifted, sifted},
    };
}

/// Returns the target that the plan calls `name`. Connects to nothing and creates nothing.
///
/// # Errors
///
/// `Refused` for settings that cannot be used.
pub fn connect(name: &str, config: &TargetConfig) -> Result<Arc<dyn Target>, EdgeError> {
    Ok(match config {
        TargetConfig::Redis(config) => Arc::new(RedisTarget::new(name, config)?),
        TargetConfig::Search(config) => Arc::new(SearchTarget::new(name, config)?),
        TargetConfig::File(config) => Arc::new(FileTarget::new(config)),
    })
}

/// Returns `bytes` for people: `3.0 MiB`.
fn bytes_text(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                unit => format!("{size:.1} {unit}"),
            };
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

/// Who writes to a target. Kept in the lease so that a second writer can name the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseOwner {
    /// Random id of the state file: the same state file may take its own lease over at once.
    pub state: String,
    /// Path of the state file, for people.
    pub state_path: String,
    /// Host name of the process.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// The run it carries out.
    pub run: RunId,
}

impl LeaseOwner {
    /// Returns the error of a run that finds `self` in its place at `place`.
    #[must_use]
    pub fn lease_lost(&self, place: &str) -> EdgeError {
        EdgeError::new(
            ErrorKind::LeaseLost,
            format!(
                "{place} now belongs to run {} of pid {} on {} ({})",
                self.run, self.pid, self.host, self.state_path
            ),
        )
    }
}

/// What became of an attempt to take or renew a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// It is ours until `renew_lease` is due again.
    Held,
    /// Another state file holds it.
    TakenBy(LeaseOwner),
}

/// Identifies a partition to a target: for its marker or its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionKey {
    /// The resource it belongs to.
    pub resource: ResourceName,
    /// Unique within the state file.
    pub id: PartitionId,
    /// Place among the partitions of its resource, from 1.
    pub ordinal: u32,
    /// Which rows of the resource the run restores.
    pub extent: Extent,
}

/// Which rows of a resource a run restores: files keep what is not all of them apart from a whole dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// All of them.
    Whole,
    /// Those of `--ids`.
    Ids,
    /// Dead letters that this run retries. What an earlier retry restored is not in a later one.
    Retried(RunId),
}

/// What the journal says a target holds of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Whose chunks.
    pub partition: PartitionKey,
    /// The last chunk that was journaled as stored; never 0.
    pub chunk: ChunkSeq,
    /// For targets that grow by length: the length after that chunk.
    pub length: Option<u64>,
    /// What [`Target::incarnation`] said when the resource began.
    pub incarnation: Option<String>,
}

/// How far the target's own evidence goes for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// At least what was recorded is there.
    Stands,
    /// Chunks up to this one are there; 0 for none.
    UpToChunk(ChunkSeq),
    /// Chunks that ended at or below this length are there; 0 for none.
    UpToLength(u64),
}

/// A row the target will never accept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Index of the row in the chunk, from 0.
    pub row: usize,
    /// Why, without any value in it.
    pub reason: String,
}

/// A chunk that the target acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Rows that were refused for good; all others are in the target.
    pub rejected: Vec<Rejected>,
    /// The length after the chunk, for targets whose evidence is a length.
    pub length: Option<u64>,
}

/// What a target holds in the place of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The bytes that the writer would have stored.
    Same,
    /// Something else.
    Differs,
    /// Nothing.
    Missing,
    /// The writer would refuse the row: it is a dead letter.
    Unwritable,
}

/// What speaks against a restore into a target, as the target itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It drops keys when its memory is full, and the plan does not say that this may be.
    Evicts {
        /// Which server, where there are several.
        place: String,
        /// `maxmemory-policy`.
        policy: String,
    },
    /// It copies another server and takes no writes.
    Replica {
        /// `host:port`
        master: String,
    },
    /// The plan's database is empty, and another one of the same server holds keys with the plan's prefix.
    OtherDatabase {
        /// That of the plan.
        ours: i64,
        /// The other one.
        theirs: i64,
    },
    /// The memory that is left below its limit, in bytes. Speaks against nothing by itself.
    Free(u64),
    /// An index that rows go to is not there.
    IndexMissing {
        /// Its name.
        index: String,
        /// Some indexes that are there, and whose names end in `_` and its own: a prefix stands before it.
        prefixed: Vec<String>,
    },
    /// An index guesses the types of fields that it does not know.
    IndexDynamic {
        /// Its name.
        index: String,
    },
    /// An index takes no writes.
    IndexBlocked {
        /// Its name.
        index: String,
        /// The setting that says so: `index.blocks.read_only`.
        setting: String,
    },
}

/// How closely a target is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Whether anything is there.
    Presence,
    /// Whether it is what the writer would have stored.
    Content,
}

/// Says what a target holds in the place of rows, over a connection of its own. Changes nothing.
#[async_trait]
pub trait Comparer: Send {
    /// Returns for each row of `chunk` what is there. A row that owns several names is the same only where all of them
    /// are. Holds no more of the target's content at a time than the chunk itself is long, as far as the server lets it.
    async fn compare(&mut self, chunk: &Chunk, depth: Depth) -> Result<Vec<Stored>, EdgeError>;
}

/// Something of rekindle's own that lies in a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The run that left it, if that is known.
    pub run: Option<RunId>,
    /// What it is, in words.
    pub what: String,
    /// What a person types to remove it.
    pub by_hand: String,
}

/// A queue between a writer that only hands rows over and the target itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// The queue's name, behind that of its vhost where there are several.
    pub queue: String,
    /// Messages that nobody has taken yet.
    pub ready: u64,
    /// Messages that consumers have and did not acknowledge; `None` where nobody tells.
    pub unacked: Option<u64>,
    /// How many take them.
    pub consumers: u32,
}

/// What becomes of one key, as a message of the shop says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The resource whose place in the target it goes to.
    pub resource: ResourceName,
    /// The key, without the target's prefix.
    pub key: String,
    /// What is stored there, in the target's own form; `None` takes the key away.
    pub value: Option<Vec<u8>>,
    /// The store it is of; `None` for all.
    pub store: Option<String>,
}

/// Carries out what messages say, over a connection of its own: without a lease and without evidence, because a message
/// that was not acknowledged comes again.
#[async_trait]
pub trait Applier: Send {
    /// Carries out `changes`, of which no two are of one key, in any order. Returns those that the target will never accept.
    ///
    /// `Err`: nothing is known about any of them; doing them again leaves the same content.
    async fn apply(&mut self, changes: &[Change]) -> Result<Vec<Rejected>, EdgeError>;
}

/// Lists what a target holds, and removes what nobody owns.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Returns some more names, of whichever rows; `None` after the last. A name may come twice, and whatever was there from
    /// the first call to the last comes once at least. None of rekindle's own is among them.
    async fn next(&mut self) -> Result<Option<Vec<StoredName>>, EdgeError>;

    /// Returns the names that a row of `resource` owns, whatever its value is: for `beside`, see
    /// [`RowSource::beside`](crate::plan::RowSource::beside).
    fn owned(
        &self,
        resource: &ResourceName,
        key: &[u8],
        beside: &[Option<&[u8]>],
    ) -> Vec<StoredName>;

    /// Returns `names` in groups that can be watched and removed together.
    async fn groups(&mut self, names: Vec<StoredName>) -> Result<Vec<Vec<StoredName>>, EdgeError>;

    /// Returns those of the names of one group that are not there any more. Watches none of them.
    async fn gone(&mut self, names: &[StoredName]) -> Result<Vec<StoredName>, EdgeError>;

    /// Takes note of the names of one group as they are from now on.
    async fn watch(&mut self, names: &[StoredName]) -> Result<(), EdgeError>;

    /// Removes `names`, which are some of those watched last, if nobody wrote them since. Returns how many are gone;
    /// `None` when somebody did and nothing was removed. Watches none any more.
    async fn remove(&mut self, names: &[StoredName]) -> Result<Option<u64>, EdgeError>;
}

/// Writes the chunks of one partition, one at a time, over a connection of its own.
#[async_trait]
pub trait ChunkWriter: Send {
    /// Writes `chunk` as number `seq` of the partition, together with the evidence for it.
    ///
    /// `Ok`: the target acknowledged every row that is not in `rejected`. `Err`: nothing is known about any row; the
    /// engine repeats the chunk after `Err` and after a crash, so writing it twice must leave the same content as
    /// writing it once. `EvidenceLost`: the target no longer holds chunk `seq - 1`.
    async fn write(&mut self, seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError>;
}

/// A store that a plan fills.
#[async_trait]
pub trait Target: Send + Sync {
    /// Returns what errors and reports call this target, for example `redis at cache.test:6379/0`.
    fn place(&self) -> &str;

    /// Connects, checks that the target may be written to, and returns a text that is equal for the same target and
    /// differs for another one (no secrets in it).
    ///
    /// # Errors
    ///
    /// `Refused` for an eviction policy that drops keys without `allow_eviction`, `Credentials`, `Connection`.
    async fn identity(&self) -> Result<String, EdgeError>;

    /// Returns facts for a dry run, as name and value, in the order to show them (memory, policy, version).
    async fn facts(&self) -> Result<Vec<(String, String)>, EdgeError>;

    /// Returns what speaks against a restore into it, each once; nothing for a target that could take one. Changes nothing.
    ///
    /// # Errors
    ///
    /// Only where the target cannot be asked.
    async fn conditions(&self) -> Result<Vec<Condition>, EdgeError> {
        Ok(Vec::new())
    }

    /// Returns used memory in percent of the target's limit; `None` for a target without one.
    async fn used_percent(&self) -> Result<Option<f64>, EdgeError> {
        Ok(None)
    }

    /// Takes the lease for `owner`, or takes it over when `owner.state` already holds it. The engine renews it
    /// well within its time to live. When another state file or run wrote to the target since, no evidence from before
    /// stands any more.
    async fn take_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError>;

    /// Renews the lease, taking it again when it vanished and nobody else has it or wrote meanwhile.
    async fn renew_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError>;

    /// Gives the lease back. Does nothing when it is not ours.
    async fn release_lease(&self, owner: &LeaseOwner) -> Result<(), EdgeError>;

    /// Returns the owner of the lease if there is one, without touching it.
    async fn lease_owner(&self) -> Result<Option<LeaseOwner>, EdgeError>;

    /// Returns a text about whatever the rows of `resource` go to, where that has an identity of its own that is gone when
    /// it is made anew, as an index has; it is journaled when the resource begins. Asked before a run begins, too.
    ///
    /// # Errors
    ///
    /// `Missing` where rows have nothing to go to.
    async fn incarnation(&self, _resource: &ResourceName) -> Result<Option<String>, EdgeError> {
        Ok(None)
    }

    /// Returns the evidence for each of `recorded`, in their order. Changes nothing.
    async fn evidence(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError>;

    /// Opens a writer that goes on after `stored` (the last journaled chunk and, for files, its length; 0 and `None`
    /// for a fresh partition). A file is cut back to that length.
    async fn writer(
        &self,
        run: &RunId,
        partition: &PartitionKey,
        stored: ChunkSeq,
        length: Option<u64>,
    ) -> Result<Box<dyn ChunkWriter>, EdgeError>;

    /// Returns what says which rows of `resource` the target holds as its writer would store them; connects with the
    /// first question.
    ///
    /// `None` for files, which cannot be asked: a row lies somewhere in them, and a later one stands for it.
    async fn comparer(
        &self,
        _resource: &ResourceName,
    ) -> Result<Option<Box<dyn Comparer>>, EdgeError> {
        Ok(None)
    }

    /// Returns what carries out single changes; connects with the first. `None` for files.
    async fn applier(&self) -> Result<Option<Box<dyn Applier>>, EdgeError> {
        Ok(None)
    }

    /// Returns the queues between what was written of `resource` and the target; none where what is written is there.
    async fn backlog(&self, _resource: &ResourceName) -> Result<Vec<Backlog>, EdgeError> {
        Ok(Vec::new())
    }

    /// Begins a list of what the target holds where rows of `resources` go; `None` for a target that cannot be listed.
    async fn inventory(
        &self,
        _resources: &[ResourceName],
    ) -> Result<Option<Box<dyn Inventory>>, EdgeError> {
        Ok(None)
    }

    /// Returns what runs left in the target beside rows, whether it is still needed or not. Changes nothing.
    async fn leftovers(&self) -> Result<Vec<Leftover>, EdgeError> {
        Ok(Vec::new())
    }

    /// Removes the markers of these partitions: their work was given up.
    async fn forget(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError>;

    /// Removes the markers of these partitions, which are all of the run's, and whatever else says that the run wrote
    /// here: it is done.
    async fn retire(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        self.forget(run, partitions).await
    }

    /// Gets ready for a resource that begins: removes content that belongs to it alone, as files do, and of that what is
    /// of the same extent; what was retried of it goes with the whole. Rows in a store that others share stay.
    async fn clear(&self, resource: &ResourceName, extent: &Extent) -> Result<(), EdgeError>;

    /// Puts back what was changed for writing `resources`, and makes their rows visible. The run is not done before; may be
    /// called again.
    async fn settle(&self, _resources: &[ResourceName]) -> Result<(), EdgeError> {
        Ok(())
    }
}
