//! What of a run is still to be reversed, and which runs another one answers for.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    ledger::{Ledger, RunLedger},
    run::RunState,
    step::{StepLedger, StepState},
};
use crate::ids::RunId;

/// How many runs one answers for at most: nobody loses more state files in the course of one cutover.
const MOST: usize = 16;

/// Runs in whose place another one came, the latest first. Stored as one text, as the id of a single one was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Predecessors(Vec<RunId>);

impl Predecessors {
    /// Returns `run` and those in whose place it came.
    #[must_use]
    pub fn of(run: &RunId, before: &Self) -> Self {
        let all = std::iter::once(run).chain(&before.0);
        Self(all.take(MOST).cloned().collect())
    }

    /// Returns whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns their ids, the latest first.
    #[must_use]
    pub fn to_vec(&self) -> Vec<RunId> {
        self.0.clone()
    }
}

impl FromIterator<RunId> for Predecessors {
    fn from_iter<I: IntoIterator<Item = RunId>>(runs: I) -> Self {
        Self(runs.into_iter().take(MOST).collect())
    }
}

impl From<String> for Predecessors {
    fn from(text: String) -> Self {
        Self(text.split_whitespace().map(RunId::from_text).collect())
    }
}

impl From<Predecessors> for String {
    fn from(runs: Predecessors) -> Self {
        runs.to_string()
    }
}

impl fmt::Display for Predecessors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.0.iter().map(RunId::as_str).collect();
        f.write_str(&ids.join(" "))
    }
}

impl RunLedger {
    /// Returns whether `step` of this run is the run's to reverse: it is done, or nobody knows, and it was not so before the
    /// run came. What a lost state file did counts as its own.
    #[must_use]
    pub fn has_to_reverse(&self, step: &StepLedger) -> bool {
        let may_be_done = matches!(
            step.state,
            StepState::Done | StepState::Intent | StepState::Unknown
        );
        may_be_done && (step.began_ms.is_some() || !self.instead_of.is_empty())
    }

    /// Returns whether a person had the run reversed, if only in part.
    #[must_use]
    pub fn is_being_reversed(&self) -> bool {
        let mut steps = self.steps.iter();
        let is_over = self.state == RunState::Done;
        // Of a run that is done, every step was.
        steps.any(|step| match step.state {
            StepState::Undone => true,
            state => is_over && state != StepState::Done,
        })
    }

    /// Returns whether a person had the run reversed, and nothing of it is left.
    #[must_use]
    pub fn is_reversed(&self) -> bool {
        let mut steps = self.steps.iter();
        self.is_being_reversed() && !steps.any(|step| self.has_to_reverse(step))
    }
}

impl Ledger {
    /// Returns the runs for which another one answers that comes in the place of this state file: its latest run of the
    /// whole plan, and those in whose place that one came. What was reversed is nobody's any more.
    #[must_use]
    pub fn lineage(&self) -> Predecessors {
        let mut latest = self.runs.iter().rev();
        match latest.find(|run| run.scope.is_whole()) {
            Some(run) if run.is_reversed() => Predecessors::default(),
            Some(run) => Predecessors::of(&run.id, &run.instead_of),
            None => self
                .runs
                .iter()
                .rev()
                .find(|run| !run.instead_of.is_empty())
                .map(|run| run.instead_of.clone())
                .unwrap_or_default(),
        }
    }

    /// Returns the runs for which a new run of this state file answers: those of lost state files in whose place an
    /// earlier one came that never got to its end.
    #[must_use]
    pub fn left_behind(&self) -> Predecessors {
        let mut latest = self.runs.iter().rev();
        match latest.find(|run| run.scope.is_whole()) {
            Some(run) if run.state == RunState::Done || run.instead_of.is_empty() => {
                Predecessors::default()
            }
            _ => self.lineage(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StepNumber;
    use crate::machine::{Event, PlannedStep, Scope, StepEvent, StepPlace};

    fn planned(run: &str, before: &str) -> Event {
        Event::RunPlanned {
            run: RunId::from_text(run),
            scope: Scope::default(),
            resources: Vec::new(),
            steps: vec![PlannedStep {
                place: StepPlace::Prepare,
                title: "rds_rename a -> b".to_owned(),
                definition: "{}".to_owned(),
                id: None,
            }],
            instead_of: Predecessors::from(before.to_owned()),
        }
    }

    fn moved(run: &str, event: StepEvent) -> Event {
        Event::Step {
            run: RunId::from_text(run),
            step: StepNumber::at(0),
            event,
        }
    }

    fn ledger(events: &[Event]) -> Ledger {
        let mut ledger = Ledger::default();
        for event in events {
            ledger.apply(5, event).unwrap();
        }
        ledger
    }

    fn done() -> StepEvent {
        StepEvent::Done { how: String::new() }
    }

    #[test]
    fn a_state_file_that_is_lost_twice_leaves_both_runs_to_the_next() {
        let second = ledger(&[planned("SECOND", "FIRST2")]);
        assert_eq!(second.lineage().to_string(), "SECOND FIRST2");
        assert_eq!(second.left_behind().to_string(), "SECOND FIRST2");
        let alone = ledger(&[planned("ALONE2", "")]);
        assert_eq!(alone.lineage().to_string(), "ALONE2");
        assert!(alone.left_behind().is_empty());
    }

    #[test]
    fn what_was_reversed_is_left_to_nobody() {
        let undone = || StepEvent::Undone { how: String::new() };
        let found = ledger(&[planned("SECOND", "FIRST2"), moved("SECOND", done())]);
        assert!(found.runs[0].has_to_reverse(&found.runs[0].steps[0]));
        let found = ledger(&[
            planned("SECOND", "FIRST2"),
            moved("SECOND", done()),
            moved("SECOND", undone()),
        ]);
        assert!(found.runs[0].is_reversed());
        assert!(found.lineage().is_empty() && found.left_behind().is_empty());
        // What was so before the run came is not its own.
        let found = ledger(&[planned("ALONE2", ""), moved("ALONE2", done())]);
        assert!(!found.runs[0].has_to_reverse(&found.runs[0].steps[0]));
    }

    #[test]
    fn a_single_run_is_stored_as_before() {
        let one = Predecessors::from("LOST22".to_owned());
        assert_eq!(serde_json::to_string(&one).unwrap(), "\"LOST22\"");
        assert_eq!(
            serde_json::from_str::<Predecessors>("\"A B\"")
                .unwrap()
                .to_vec(),
            [RunId::from_text("A"), RunId::from_text("B")]
        );
    }
}
