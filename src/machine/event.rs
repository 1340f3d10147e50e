//! What the journal records. The serialised names are a promise: old state files are replayed by later releases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    fallback::FallbackEvent, ledger::Ledger, partition::PartitionEvent, partition::Progress,
    resource::ResourceEvent, reverse::Predecessors, run::RunEvent, step::PlannedStep,
    step::StepEvent,
};
use crate::{
    cursor::{Cursor, KeyRange, KeyValue},
    ids::{ChunkSeq, PartitionId, ResourceName, RunId, StepNumber},
};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A run was opened.
    RunPlanned {
        /// Its id.
        run: RunId,
        /// What it covers.
        scope: Scope,
        /// Its resources in plan order.
        resources: Vec<PlannedResource>,
        /// Its steps in plan order, `prepare` before `finish`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        steps: Vec<PlannedStep>,
        /// The runs of state files that were lost: what they had begun is found again by their ids.
        #[serde(default, skip_serializing_if = "Predecessors::is_empty")]
        instead_of: Predecessors,
    },
    /// The plan changed between attempts and the change was accepted: the resources as they are now.
    PlanChanged {
        /// The run.
        run: RunId,
        /// Its resources in plan order.
        resources: Vec<PlannedResource>,
        /// Its steps in plan order, `prepare` before `finish`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        steps: Vec<PlannedStep>,
    },
    /// A process began to work on the run.
    AttemptStarted {
        /// The run.
        run: RunId,
        /// From 1.
        attempt: u32,
        /// Process id.
        pid: u32,
        /// Host name.
        host: String,
        /// Version of rekindle.
        version: String,
        /// Memory budget for everything in flight.
        in_flight_bytes: u64,
    },
    /// The process that worked on the run ended.
    AttemptEnded {
        /// The run.
        run: RunId,
        /// How.
        end: AttemptEnd,
    },
    /// The run moved.
    Run {
        /// The run.
        run: RunId,
        /// How.
        event: RunEvent,
    },
    /// A step moved.
    Step {
        /// The run.
        run: RunId,
        /// The step.
        step: StepNumber,
        /// How.
        event: StepEvent,
    },
    /// Which source and targets the run is bound to.
    Identified {
        /// The run.
        run: RunId,
        /// Identity text of the source.
        source: String,
        /// Identity texts of the targets by their plan names.
        targets: BTreeMap<String, String>,
    },
    /// Bounds of a resource were taken and its partitions cut; it is syncing from here on.
    ResourceBound {
        /// The run.
        run: RunId,
        /// The resource.
        resource: ResourceName,
        /// Fingerprint of the columns used.
        columns: String,
        /// The source's own estimate of rows.
        estimated_rows: u64,
        /// Its partitions in key order.
        partitions: Vec<PartitionPlan>,
        /// What its rows go to, where the target gives that an identity of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incarnation: Option<String>,
        /// From where on its rows count as changed, taken before the first of them was read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        watermark: Option<Watermark>,
    },
    /// A resource moved.
    Resource {
        /// The run.
        run: RunId,
        /// The resource.
        resource: ResourceName,
        /// How.
        event: ResourceEvent,
    },
    /// A partition moved.
    Partition {
        /// The partition.
        partition: PartitionId,
        /// How.
        event: PartitionEvent,
    },
    /// A partition that is being walked was cut in two: it now ends where `rest` begins.
    PartitionCut {
        /// The partition that keeps its beginning.
        partition: PartitionId,
        /// The rest of its rows, a partition of its own from here on.
        rest: PartitionPlan,
    },
    /// A chunk is stored, with the rows of it that will never pass.
    Chunk {
        /// The partition.
        partition: PartitionId,
        /// Totals after the chunk.
        progress: Progress,
        /// Rows that will not pass as they are.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dead_letters: Vec<DeadLetter>,
    },
    /// A resource moved on its way through its publisher.
    Fallback {
        /// The run.
        run: RunId,
        /// The resource.
        resource: ResourceName,
        /// How.
        event: FallbackEvent,
    },
    /// Dead letters were dropped by a person.
    DeadLettersDropped {
        /// The resource.
        resource: ResourceName,
        /// How many.
        count: u64,
    },
    /// Dead letters are none any more: their rows were restored since, or a person let them go.
    DeadLettersSettled {
        /// The resource.
        resource: ResourceName,
        /// Why, in one line.
        how: String,
        /// Which, and what is left of their chunks.
        groups: Vec<SettledGroup>,
    },
    /// Something a person should find in the history; changes nothing.
    Noted {
        /// The run it is about; `None` where there was none yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
        /// One line.
        text: String,
    },
    /// Stands for every event before it (compaction).
    Compacted {
        /// What they added up to.
        ledger: Box<Ledger>,
        /// Which dead letters stood then, so that their table can still be checked.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dead_letters: Vec<DeadLetterGroup>,
    },
}

impl Event {
    /// Returns the word under which the event is stored.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::RunPlanned { .. } => "run_planned",
            Self::PlanChanged { .. } => "plan_changed",
            Self::AttemptStarted { .. } => "attempt_started",
            Self::AttemptEnded { .. } => "attempt_ended",
            Self::Run { .. } => "run",
            Self::Step { .. } => "step",
            Self::Identified { .. } => "identified",
            Self::ResourceBound { .. } => "resource_bound",
            Self::Resource { .. } => "resource",
            Self::Partition { .. } => "partition",
            Self::PartitionCut { .. } => "partition_cut",
            Self::Chunk { .. } => "chunk",
            Self::Fallback { .. } => "fallback",
            Self::DeadLettersDropped { .. } => "dead_letters_dropped",
            Self::DeadLettersSettled { .. } => "dead_letters_settled",
            Self::Noted { .. } => "noted",
            Self::Compacted { .. } => "compacted",
        }
    }
}

/// What a run covers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scope {
    /// `--only`; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<ResourceName>,
    /// `--skip`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip: Vec<ResourceName>,
    /// `--ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// Single rows by their cursors, for each resource of `only` (`dead-letters retry`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<ResourceName, Vec<String>>,
    /// The entities of those rows: whoever mended one may have given it another cursor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entities: BTreeMap<ResourceName, Vec<String>>,
}

impl Scope {
    /// Returns the same scope with its names and ids in order and without repetitions, so that two spellings of one scope
    /// are equal.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        for names in [&mut self.only, &mut self.skip] {
            names.sort();
            names.dedup();
        }
        if let Some(ids) = &mut self.ids {
            ids.sort();
            ids.dedup();
        }
        self
    }

    /// Returns whether the scope is the whole plan.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.only.is_empty() && self.skip.is_empty() && !self.is_partial()
    }

    /// Returns whether only some rows of each resource are covered.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.ids.is_some() || !self.rows.is_empty()
    }
}

/// A resource as a run found it in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedResource {
    /// Its name.
    pub name: ResourceName,
    /// Its resolved definition as canonical JSON (no secrets): what "changed plan" compares and shows.
    pub definition: String,
    /// Whether the scope leaves it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// From where on rows count as changed since a resource was bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The column that every change of a row sets.
    pub column: String,
    /// Its least value that counts.
    pub value: KeyValue,
}

/// A partition as it was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPlan {
    /// Unique within the state file.
    pub id: PartitionId,
    /// Place among the partitions of its resource, from 1.
    pub ordinal: u32,
    /// Its rows.
    pub range: KeyRange,
    /// Rows the first page may ask for.
    pub page_rows: u32,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The run is done.
    Done,
    /// A signal asked for it, and work in hand was journaled.
    Interrupted,
    /// The run could not go on.
    Failed {
        /// One line.
        reason: String,
    },
    /// The kernel killed it for memory: the OOM counters rose.
    KilledForMemory,
    /// It was killed by a signal; nobody knows why.
    Signal {
        /// The signal's number.
        number: i32,
    },
    /// It ended by itself with an exit code that no orderly end has (a panic, an abort).
    Crashed {
        /// The exit code.
        code: i32,
    },
    /// It vanished: found without an end by the next attempt.
    Unknown,
}

impl AttemptEnd {
    /// Returns whether work in hand may be half done.
    #[must_use]
    pub const fn is_death(&self) -> bool {
        matches!(
            self,
            Self::KilledForMemory | Self::Signal { .. } | Self::Crashed { .. } | Self::Unknown
        )
    }

    /// Returns whether memory is known to have been the reason: the kernel counted a kill, or an allocation was refused.
    #[must_use]
    pub const fn is_for_memory(&self) -> bool {
        /// What a process sends itself when it cannot get memory.
        const ABORT: i32 = 6;
        matches!(self, Self::KilledForMemory | Self::Signal { number: ABORT })
    }

    /// Returns the end in words, for history and status.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Interrupted => "interrupted".to_owned(),
            Self::Failed { reason } => format!("failed: {reason}"),
            Self::KilledForMemory => "killed by the kernel for memory".to_owned(),
            Self::Signal { number } => format!("killed by signal {number}"),
            Self::Crashed { code } => format!("crashed with exit code {code}"),
            Self::Unknown => "died, cause unknown".to_owned(),
        }
    }
}

/// A row that will not pass as it is. Holds its key and place, never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The row's place in the source.
    pub cursor: Cursor,
    /// The row's target key, if it has one; bytes that are not UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Label of the error kind.
    pub kind: String,
    /// Why, in one line without values.
    pub reason: String,
    /// The entity that the row belongs to, where the plan names its column: whoever mends the row may give it another place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
}

/// The dead letters of one chunk in short: what compaction keeps to check their table against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterGroup {
    /// The run.
    pub run: RunId,
    /// The resource.
    pub resource: ResourceName,
    /// The partition.
    pub partition: PartitionId,
    /// The chunk that had them.
    pub chunk: ChunkSeq,
    /// How many.
    pub count: u64,
    /// Hash over the rows of the dead-letter table.
    pub checksum: u64,
}

/// Dead letters of one chunk that are none any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledGroup {
    /// The partition.
    pub partition: PartitionId,
    /// The chunk that had them.
    pub chunk: ChunkSeq,
    /// Their numbers within the chunk, from 1.
    pub gone: Vec<u64>,
    /// Those of the chunk that stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<DeadLetterGroup>,
}
