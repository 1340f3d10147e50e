//! What a run at work tells `status` beside what the journal holds.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::{beside, put, remove, text};
use crate::ids::{ResourceName, RunId, StepNumber};

const SUFFIX: &str = ".live";

/// What a run is at. Holds no row values and no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// The process that works on the run.
    pub pid: u32,
    /// The run.
    pub run: RunId,
    /// Sources and targets that are waited for.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
    /// Resources that the plan's `throttle` holds back.
    #[serde(default)]
    pub held: Vec<Held>,
    /// The last change of pace of each resource that had one.
    #[serde(default)]
    pub paces: Vec<Paced>,
    /// Queues that rows are on their way through.
    #[serde(default)]
    pub queues: Vec<Queued>,
    /// What bounds the memory of the process.
    #[serde(default)]
    pub memory: Option<MemoryFound>,
    /// The step that is carried out.
    #[serde(default)]
    pub step: Option<AtStep>,
}

/// An edge that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// For example `redis at cache.test:6379/0`.
    pub place: String,
    /// What the last try said.
    pub error: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
    /// Until when at most; `None` where an earlier release wrote this.
    #[serde(default)]
    pub until_ms: Option<i64>,
    /// How many tries failed.
    pub tries: u32,
}

/// A resource that is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub resource: ResourceName,
    /// Why.
    pub reason: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
}

/// A queue that rows of a resource are on their way through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Which resource.
    pub resource: ResourceName,
    /// The queue, behind its vhost where there are several.
    pub queue: String,
    /// Messages that nobody has taken yet.
    pub ready: u64,
    /// Messages that consumers have and did not acknowledge; `None` where nobody tells.
    #[serde(default)]
    pub unacked: Option<u64>,
    /// How many take them.
    pub consumers: u32,
    /// Since when as many lie there, milliseconds since 1970.
    pub since_ms: i64,
}

/// How fast a resource goes, and why it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paced {
    /// Which.
    pub resource: ResourceName,
    /// Rows of a page.
    pub rows: u32,
    /// Chunks written to its target at a time.
    pub writers: u32,
    /// Why it changed last.
    pub reason: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

impl Paced {
    /// Returns whether both say the same: of several partitions, each changes its pace.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        let at_once = Self {
            at_ms: other.at_ms,
            ..self.clone()
        };
        at_once == *other
    }
}

/// A step that is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtStep {
    /// Which.
    pub number: StepNumber,
    /// What it waits for, as it last said.
    pub said: String,
}

/// The least limit on the memory of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFound {
    /// The limit.
    pub limit_bytes: u64,
    /// What sets it: `cgroup v2`.
    pub set_by: String,
}

impl Live {
    /// Returns what the process `pid` last wrote beside the state file at `state`; `None` for nothing, or another's.
    #[must_use]
    pub fn read(state: &Path, pid: u32) -> Option<Self> {
        let live: Self = serde_json::from_str(&text(&beside(state, SUFFIX))?).ok()?;
        (live.pid == pid).then_some(live)
    }

    /// Writes it beside the state file at `state`.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        put(&beside(state, SUFFIX), &serde_json::to_string(self)?)
    }

    /// Removes whatever a run wrote beside the state file at `state`.
    pub fn remove(state: &Path) {
        // Left behind, it counts for nobody: its process is gone.
        remove(&beside(state, SUFFIX)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_at_work_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("shop.sqlite");
        let live = Live {
            pid: 7,
            run: RunId::from_text("7F3K2M"),
            waiting: Vec::new(),
            held: Vec::new(),
            paces: Vec::new(),
            queues: Vec::new(),
            memory: None,
            step: None,
        };
        live.write(&state).unwrap();
        assert_eq!(Live::read(&state, 7), Some(live));
        assert_eq!(Live::read(&state, 8), None);
        Live::remove(&state);
        assert_eq!(Live::read(&state, 7), None);
    }

    #[test]
    fn a_pace_that_several_partitions_come_to_is_one() {
        let pace = |rows, at_ms| Paced {
            resource: ResourceName::from("url"),
            rows,
            writers: 4,
            reason: "chunks are quick".to_owned(),
            at_ms,
        };
        assert!(pace(1000, 1).says_as(&pace(1000, 2)));
        assert!(!pace(1000, 1).says_as(&pace(500, 1)));
    }
}
