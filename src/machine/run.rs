//! The life of a run.
//!
//! ```text
//! planned -> preparing -> restoring -> verifying -> finishing -> done
//! any of these -> interrupted | failed -> (resumed) -> where it was;   any -> cancelled
//! ```

use serde::{Deserialize, Serialize};

use super::IllegalTransition;

/// Where a run stands. Written to the journal on every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Journaled, nothing done yet.
    Planned,
    /// Steps before the resources.
    Preparing,
    /// Resources are being copied.
    Restoring,
    /// The targets are compared with the journal and the source.
    Verifying,
    /// Steps after the resources; markers are taken away.
    Finishing,
    /// Everything the scope names is restored.
    Done,
    /// A person stopped it. The next `run` goes on in the phase it came from.
    Interrupted(Phase),
    /// It could not go on. The next `run` goes on in the phase it came from.
    Failed(Phase),
    /// Given up for a new run (`--new`).
    Cancelled,
}

/// A phase that an interrupted run goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// See [`RunState::Planned`].
    Planned,
    /// See [`RunState::Preparing`].
    Preparing,
    /// See [`RunState::Restoring`].
    Restoring,
    /// See [`RunState::Verifying`].
    Verifying,
    /// See [`RunState::Finishing`].
    Finishing,
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// The first step of `prepare:` (or nothing to prepare) is due.
    Prepare,
    /// `prepare:` is through; resources begin.
    Restore,
    /// Every resource is synced or skipped.
    Verify,
    /// Evidence was lost or the plan changed after everything was copied: resources start over.
    RestoreAgain,
    /// The check is through.
    Finish,
    /// Nothing is left to do.
    Complete,
    /// A signal arrived and work in hand is journaled.
    Interrupt,
    /// A resource is blocked and nothing else can go on.
    Fail,
    /// `run` was typed again.
    Resume,
    /// `--new` was typed.
    Cancel,
}

impl RunState {
    /// Returns the state that follows `event`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] when `event` cannot happen in this state: a bug, or a state file edited by hand.
    pub fn apply(self, event: RunEvent) -> Result<Self, IllegalTransition> {
        use {RunEvent as E, RunState as S};
        Ok(match (self, event) {
            (S::Planned, E::Prepare) => S::Preparing,
            (S::Preparing, E::Restore) | (S::Verifying | S::Finishing, E::RestoreAgain) => {
                S::Restoring
            }
            (S::Restoring, E::Verify) => S::Verifying,
            (S::Verifying, E::Finish) => S::Finishing,
            (S::Finishing, E::Complete) => S::Done,
            (S::Interrupted(phase) | S::Failed(phase), E::Resume) => phase.state(),
            (S::Interrupted(_) | S::Failed(_), E::Cancel) => S::Cancelled,
            (from, E::Interrupt | E::Fail | E::Cancel) => match (from.phase(), event) {
                (Some(phase), E::Interrupt) => S::Interrupted(phase),
                (Some(phase), E::Fail) => S::Failed(phase),
                (Some(_), _) => S::Cancelled,
                (None, _) => {
                    return Err(IllegalTransition::new("run", from.label(), event.label()));
                }
            },
            (from, event) => {
                return Err(IllegalTransition::new("run", from.label(), event.label()));
            }
        })
    }

    /// Returns the phase a working run is in; `None` for one that stopped.
    #[must_use]
    pub const fn phase(self) -> Option<Phase> {
        Some(match self {
            Self::Planned => Phase::Planned,
            Self::Preparing => Phase::Preparing,
            Self::Restoring => Phase::Restoring,
            Self::Verifying => Phase::Verifying,
            Self::Finishing => Phase::Finishing,
            Self::Done | Self::Interrupted(_) | Self::Failed(_) | Self::Cancelled => return None,
        })
    }

    /// Returns whether nothing can happen to the run any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }

    /// Returns the word under which the state is stored and shown.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Preparing => "preparing",
            Self::Restoring => "restoring",
            Self::Verifying => "verifying",
            Self::Finishing => "finishing",
            Self::Done => "done",
            Self::Interrupted(_) => "interrupted",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// One value of every variant, for the transition table.
    pub const SAMPLES: [Self; 9] = [
        Self::Planned,
        Self::Preparing,
        Self::Restoring,
        Self::Verifying,
        Self::Finishing,
        Self::Done,
        Self::Interrupted(Phase::Restoring),
        Self::Failed(Phase::Verifying),
        Self::Cancelled,
    ];
}

impl Phase {
    const fn state(self) -> RunState {
        match self {
            Self::Planned => RunState::Planned,
            Self::Preparing => RunState::Preparing,
            Self::Restoring => RunState::Restoring,
            Self::Verifying => RunState::Verifying,
            Self::Finishing => RunState::Finishing,
        }
    }
}

impl RunEvent {
    /// Returns the word for the event.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::RestoreAgain => "restore_again",
            Self::Finish => "finish",
            Self::Complete => "complete",
            Self::Interrupt => "interrupt",
            Self::Fail => "fail",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }

    /// Every event, for the transition table.
    pub const ALL: [Self; 10] = [
        Self::Prepare,
        Self::Restore,
        Self::Verify,
        Self::RestoreAgain,
        Self::Finish,
        Self::Complete,
        Self::Interrupt,
        Self::Fail,
        Self::Resume,
        Self::Cancel,
    ];
}
