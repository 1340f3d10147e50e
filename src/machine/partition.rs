//! The life of one partition: a key range that is walked on its own.
//!
//! ```text
//! open -> ... -> exhausted;   open -> (crash) suspect -> (one chunk stored) open
//! any -> (the target lost chunks) open, further back
//! ```
//!
//! While it is open its end may come nearer: the rows beyond become a partition of their own.

use serde::{Deserialize, Serialize};

use super::IllegalTransition;
use crate::{cursor::Cursor, ids::ChunkSeq};

/// How far a partition is walked. Every row at or below `after` is in the target or a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last chunk stored; 0 before the first.
    pub chunk: ChunkSeq,
    /// Its last key; `None` before the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
    /// Rows read so far, dead letters included.
    pub rows: u64,
    /// Bytes of keys and values stored so far.
    pub bytes: u64,
    /// Dead letters among the rows.
    pub dead_letters: u64,
    /// The target's length after the last chunk, where length is the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Rows the next page may ask for.
    pub page_rows: u32,
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// To be walked on from its progress.
    Open(Progress),
    /// Was open when the process died: its next chunk is done alone before anything runs side by side.
    Suspect(Progress),
    /// Walked to its end.
    Exhausted(Progress),
}

/// What can happen to a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionEvent {
    /// The target acknowledged the next chunk. Carries the totals after it.
    ChunkStored(Progress),
    /// The process died while it was open; the next page asks for this many rows.
    Suspected {
        /// At least 1.
        page_rows: u32,
    },
    /// Its last row is stored.
    Exhausted,
    /// The target holds less than was recorded: back to what it holds.
    Rewound(Progress),
}

impl PartitionState {
    /// Returns the state that follows `event`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] when `event` cannot happen in this state, also for a chunk that does not follow the last
    /// one: a bug, or a state file edited by hand.
    pub fn apply(&self, event: &PartitionEvent) -> Result<Self, IllegalTransition> {
        use {PartitionEvent as E, PartitionState as S};
        Ok(match (self, event) {
            (S::Open(now) | S::Suspect(now), E::ChunkStored(next))
                if next.chunk == now.chunk.next()
                    && next.rows >= now.rows
                    && next.after.is_some() =>
            {
                S::Open(next.clone())
            }
            (S::Open(now) | S::Suspect(now), E::Suspected { page_rows }) if *page_rows > 0 => {
                S::Suspect(Progress {
                    page_rows: *page_rows,
                    ..now.clone()
                })
            }
            (S::Open(now) | S::Suspect(now), E::Exhausted) => S::Exhausted(now.clone()),
            (_, E::Rewound(to)) if to.chunk <= self.progress().chunk => S::Open(to.clone()),
            (from, event) => {
                return Err(IllegalTransition::new(
                    "partition",
                    from.label(),
                    event.label(),
                ));
            }
        })
    }

    /// Returns how far the partition is walked.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        match self {
            Self::Open(progress) | Self::Suspect(progress) | Self::Exhausted(progress) => progress,
        }
    }

    pub(super) const fn progress_mut(&mut self) -> &mut Progress {
        match self {
            Self::Open(progress) | Self::Suspect(progress) | Self::Exhausted(progress) => progress,
        }
    }

    /// Returns the word under which the state is stored and shown.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Suspect(_) => "suspect",
            Self::Exhausted(_) => "exhausted",
        }
    }

    /// Returns one value of every variant, for the transition table; each stands after chunk 3.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let at = Progress::sample(3);
        vec![
            Self::Open(at.clone()),
            Self::Suspect(at.clone()),
            Self::Exhausted(at),
        ]
    }
}

impl PartitionEvent {
    /// Returns the word for the event.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ChunkStored(_) => "chunk_stored",
            Self::Suspected { .. } => "suspected",
            Self::Exhausted => "exhausted",
            Self::Rewound(_) => "rewound",
        }
    }

    /// Returns one value of every variant (and the chunk that skips one), for the transition table.
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        vec![
            ("next chunk stored", Self::ChunkStored(Progress::sample(4))),
            ("same chunk stored", Self::ChunkStored(Progress::sample(3))),
            (
                "chunk after next stored",
                Self::ChunkStored(Progress::sample(5)),
            ),
            ("suspected", Self::Suspected { page_rows: 500 }),
            ("suspected with no rows", Self::Suspected { page_rows: 0 }),
            ("exhausted", Self::Exhausted),
            (
                "rewound to an earlier chunk",
                Self::Rewound(Progress::sample(1)),
            ),
            (
                "rewound to a later chunk",
                Self::Rewound(Progress::sample(9)),
            ),
        ]
    }
}

impl Progress {
    /// Returns the progress of a partition before its first chunk.
    #[must_use]
    pub const fn begin(page_rows: u32) -> Self {
        Self {
            chunk: ChunkSeq(0),
            after: None,
            rows: 0,
            bytes: 0,
            dead_letters: 0,
            length: None,
            page_rows,
        }
    }

    fn sample(chunk: u64) -> Self {
        let after = Some(Cursor::single(crate::cursor::KeyValue::Uint(chunk * 1000)));
        Self {
            chunk: ChunkSeq(chunk),
            after,
            rows: chunk * 1000,
            ..Self::begin(1000)
        }
    }
}
