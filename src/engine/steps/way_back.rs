//! Which run would be reversed, and which of its steps: what a person is shown.

use super::name;
use crate::{
    ids::{RunId, StepNumber},
    journal::now_ms,
    machine::{Event, Ledger, RunLedger, RunState, StepLedger, StepState},
};

/// The kind of steps that take a name.
const RENAME: &str = "rds_rename";

/// A step that would be reversed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToUndo {
    /// Its number in the run.
    pub number: StepNumber,
    /// What people call it.
    pub name: String,
    /// How it was done, or why nobody knows whether it was.
    pub stands: String,
    /// Whether it took the name from an instance.
    pub(super) is_rename: bool,
}

/// A run that would be reversed, and how: what a person is shown, and agrees to.
#[derive(Debug, Clone)]
pub struct WayBack {
    /// The run.
    pub run: RunId,
    /// Its steps to reverse, the last one first.
    pub steps: Vec<ToUndo>,
    /// What a journal has to be told of a run that is known by its tags alone.
    pub(super) found: Vec<Event>,
}

impl WayBack {
    /// Returns the way back that `ledger` knows of; `None` where there is nothing to reverse.
    #[must_use]
    pub fn known(ledger: &Ledger) -> Option<Self> {
        to_undo(ledger).map(|(run, steps)| Self {
            run: run.id.clone(),
            steps,
            found: Vec::new(),
        })
    }

    /// Returns the run after this one that was reversed before it, where this one came to its end: whoever agrees to reverse a
    /// cutover does not mean the one before it, too.
    #[must_use]
    pub fn is_beyond(&self, ledger: &Ledger) -> Option<RunId> {
        let is_over = ledger.run(&self.run)?.state == RunState::Done;
        let later = ledger.runs.iter().rev();
        let mut later = later.take_while(|run| run.id != self.run);
        let reversed = later.find(|run| run.is_reversed())?;
        is_over.then(|| reversed.id.clone())
    }

    /// Returns whether it is known by tags alone.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        !self.found.is_empty()
    }

    /// Returns it as one that `events` tell a journal of.
    pub(super) fn found(self, events: Vec<Event>) -> Self {
        Self {
            found: events,
            ..self
        }
    }

    /// Returns the run as it stands by now in `ledger`; `None` where what there is to reverse is no longer this.
    pub(super) fn still(&self, ledger: &Ledger) -> Option<RunLedger> {
        let mut ledger = ledger.clone();
        let mut found = self.found.iter();
        found
            .try_for_each(|event| ledger.apply(now_ms(), event))
            .ok()?;
        let (run, steps) = to_undo(&ledger)?;
        (run.id == self.run && steps == self.steps).then(|| run.clone())
    }
}

/// Returns the latest run of the whole plan with steps to reverse, and those steps, the last one first. Once they are
/// reversed it is the turn of the run before, if there is anything left of it.
fn to_undo(ledger: &Ledger) -> Option<(&RunLedger, Vec<ToUndo>)> {
    let runs = ledger.runs.iter().rev();
    runs.map(|run| (run, steps_to_undo(run)))
        .find(|(_, steps)| !steps.is_empty())
}

fn steps_to_undo(run: &RunLedger) -> Vec<ToUndo> {
    let of = |(index, step): (usize, &StepLedger)| {
        let number = StepNumber::at(index);
        let stands = match step.state {
            StepState::Done => step.how.clone().unwrap_or_default(),
            StepState::Intent | StepState::Unknown => {
                "it was begun, or half reversed, and how that ended is not known: looked at first"
                    .to_owned()
            }
            StepState::Waiting | StepState::Undone => return None,
        };
        run.has_to_reverse(step).then(|| ToUndo {
            number,
            name: name(&run.steps, number, step),
            stands,
            is_rename: step.planned.kind() == RENAME,
        })
    };
    let mut steps: Vec<_> = run.steps.iter().enumerate().filter_map(of).collect();
    steps.reverse();
    steps
}
