//! The state machines of run, resource, partition, chunk and step, and the ledger that the journal's events add up to.
//!
//! Everything here is pure: `apply(state, event)` serves the running engine, the replay of a journal and the tests
//! alike. No clock, no I/O.

pub mod chunk;
pub mod event;
pub mod fallback;
pub mod ledger;
pub mod partition;
mod replan;
pub mod resource;
pub mod reverse;
pub mod run;
pub mod step;

pub use chunk::{ChunkEvent, ChunkState};
pub use event::{
    AttemptEnd, DeadLetter, DeadLetterGroup, Event, PartitionPlan, PlannedResource, Scope,
    SettledGroup, Watermark,
};
pub use fallback::{Fallback, FallbackEvent, Handover, HandoverScope, IdChunk, is_delegated};
pub use ledger::{AttemptLedger, Ledger, PartitionLedger, ResourceLedger, RunLedger};
pub use partition::{PartitionEvent, PartitionState, Progress};
pub use resource::{ResourceEvent, ResourceState};
pub use reverse::Predecessors;
pub use run::{Phase, RunEvent, RunState};
pub use step::{Facts, PlannedStep, StepEvent, StepLedger, StepPlace, StepState};

/// An event that cannot happen in a state: a bug in rekindle, or a state file edited by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{machine} in state `{from}` cannot take event `{event}`")]
pub struct IllegalTransition {
    /// Which machine.
    pub machine: String,
    /// Label of the state.
    pub from: String,
    /// Label of the event.
    pub event: String,
}

impl IllegalTransition {
    /// Returns the error for `event` in state `from` of `machine`.
    #[must_use]
    pub fn new(
        machine: impl Into<String>,
        from: impl Into<String>,
        event: impl Into<String>,
    ) -> Self {
        Self {
            machine: machine.into(),
            from: from.into(),
            event: event.into(),
        }
    }
}
