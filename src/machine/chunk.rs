//! The life of one chunk. Only its end is journaled; before that it is repeated whole.
//!
//! ```text
//! filling -> writing -> acknowledged -> stored
//! writing -> (the target refused it, or did not answer) filling
//! ```

use super::IllegalTransition;

/// Where a chunk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    /// Rows are being read into it.
    Filling,
    /// Sent; the outcome is not known.
    Writing,
    /// The target has every row, or named those it will never take.
    Acknowledged,
    /// Its end is on disk in the journal.
    Stored,
}

/// What can happen to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkEvent {
    /// It is full, or its page ended.
    Sent,
    /// The target answered for every row.
    Acknowledged,
    /// The target refused it or did not answer; it is sent again.
    Failed,
    /// The journal committed its end.
    Recorded,
}

impl ChunkState {
    /// Returns the state that follows `event`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] when `event` cannot happen in this state, above all for a chunk that is recorded before it
    /// is acknowledged.
    pub fn apply(self, event: ChunkEvent) -> Result<Self, IllegalTransition> {
        use {ChunkEvent as E, ChunkState as S};
        Ok(match (self, event) {
            (S::Filling, E::Sent) => S::Writing,
            (S::Writing, E::Acknowledged) => S::Acknowledged,
            (S::Writing, E::Failed) => S::Filling,
            (S::Acknowledged, E::Recorded) => S::Stored,
            (from, event) => {
                return Err(IllegalTransition::new("chunk", from.label(), event.label()));
            }
        })
    }

    /// Returns the word for the state.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Writing => "writing",
            Self::Acknowledged => "acknowledged",
            Self::Stored => "stored",
        }
    }

    /// Every state, for the transition table.
    pub const ALL: [Self; 4] = [
        Self::Filling,
        Self::Writing,
        Self::Acknowledged,
        Self::Stored,
    ];
}

impl ChunkEvent {
    /// Returns the word for the event.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Acknowledged => "acknowledged",
            Self::Failed => "failed",
            Self::Recorded => "recorded",
        }
    }

    /// Every event, for the transition table.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Acknowledged, Self::Failed, Self::Recorded];
}
