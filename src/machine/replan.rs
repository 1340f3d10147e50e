//! What a changed plan makes of the steps of a run: which of them are still the same, and what each is known by.

use serde_json::Value;

use super::{
    ledger::RunLedger,
    step::{PlannedStep, StepLedger, StepState},
};
use crate::ids::{StepId, StepNumber};

/// Kinds whose commands may be mended, while what they did stays theirs to reverse.
const PAGE: &str = "maintenance";
const PAGE_OFF: &str = "maintenance_off";
const SHELL: &str = "shell";

/// More steps than a plan has: ids of steps that come in with an attempt are beyond its number times this.
const PER_ATTEMPT: u32 = 1000;

impl PlannedStep {
    /// Returns the plan's word for what it does: `rds_rename`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.title.split(' ').next().unwrap_or_default()
    }

    /// Returns whether the plan says the same of both.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.place == other.place && self.definition == other.definition
    }

    /// Returns whether it is `had` with other commands. A page that is up stays the one that `on` put up. What was begun and
    /// did not come to its end is looked at, done and reversed with the new commands.
    fn is_mended(&self, had: &StepLedger) -> bool {
        if self.place != had.planned.place || self.kind() != had.planned.kind() {
            return false;
        }
        let is_open = matches!(had.state, StepState::Intent | StepState::Unknown);
        let puts_up = |step: &Self| {
            let definition: Value = serde_json::from_str(&step.definition).unwrap_or_default();
            definition[PAGE]["on"].clone()
        };
        match self.kind() {
            PAGE_OFF => true,
            PAGE => is_open || puts_up(self) == puts_up(&had.planned),
            SHELL => is_open && self.title == had.planned.title,
            _ => false,
        }
    }
}

impl RunLedger {
    /// Returns what step `number` is known by in the world.
    #[must_use]
    pub fn step_id(&self, number: StepNumber) -> StepId {
        let step = self.steps.get(number.index());
        step.and_then(|step| step.planned.id)
            .unwrap_or(StepId(number.0))
    }

    /// Returns which step of this run each of `steps` is: one that is defined the same, or the same with its commands
    /// mended. `None` for one that is new.
    #[must_use]
    pub fn carried_over(&self, steps: &[PlannedStep]) -> Vec<Option<StepNumber>> {
        let mut is_left = vec![true; self.steps.len()];
        let mut found = vec![None; steps.len()];
        let ways: [fn(&PlannedStep, &StepLedger) -> bool; 2] = [
            |step, had| step.is_same(&had.planned),
            PlannedStep::is_mended,
        ];
        for is_it in ways {
            for (step, found) in steps.iter().zip(&mut found) {
                if found.is_some() {
                    continue;
                }
                // Of two equal steps, the first stays the first.
                let mut hads = self.steps.iter().enumerate();
                let index = hads
                    .find(|(index, had)| is_left[*index] && is_it(step, had))
                    .map(|(index, _)| index);
                if let Some(index) = index {
                    is_left[index] = false;
                    *found = Some(StepNumber::at(index));
                }
            }
        }
        found
    }

    /// Returns `steps` of a changed plan with what each is known by: as before where it is carried over, by something new
    /// where it is not. Whoever journals them begins an attempt with it.
    #[must_use]
    pub fn identified(&self, steps: &[PlannedStep]) -> Vec<PlannedStep> {
        let attempts = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        let base = attempts.max(1).saturating_mul(PER_ATTEMPT);
        let carried = self.carried_over(steps);
        let each = steps.iter().zip(carried).enumerate();
        each.map(|(index, (step, carried))| PlannedStep {
            id: Some(match carried {
                Some(number) => self.step_id(number),
                None => StepId(base.saturating_add(StepNumber::at(index).0)),
            }),
            ..step.clone()
        })
        .collect()
    }

    /// Takes over the steps of a changed plan: those that are carried over keep their state, the others begin.
    pub(super) fn replan_steps(&mut self, steps: &[PlannedStep]) {
        let numbers = (0..self.steps.len()).map(StepNumber::at);
        let ids: Vec<_> = numbers.map(|number| self.step_id(number)).collect();
        let mut left: Vec<_> = ids
            .into_iter()
            .zip(std::mem::take(&mut self.steps))
            .collect();
        for planned in steps {
            let kept = left.iter().position(|(id, had)| match planned.id {
                Some(known) => known == *id && planned.place == had.planned.place,
                // As earlier releases journaled it.
                None => planned.is_same(&had.planned),
            });
            // Not swapped: of two equal steps, the first stays the first.
            let step = match kept.map(|index| left.remove(index).1) {
                Some(had) => StepLedger {
                    planned: planned.clone(),
                    ..had
                },
                None => StepLedger::planned(planned),
            };
            self.steps.push(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RunId;
    use crate::machine::{Event, Facts, Ledger, Predecessors, Scope, StepEvent, StepPlace};

    fn step(title: &str, definition: &str) -> PlannedStep {
        PlannedStep {
            place: StepPlace::Prepare,
            title: title.to_owned(),
            definition: definition.to_owned(),
            id: None,
        }
    }

    fn page(on: &str, off: &str) -> PlannedStep {
        let definition = format!("{{\"maintenance\":{{\"off\":\"{off}\",\"on\":\"{on}\"}}}}");
        step(PAGE, &definition)
    }

    fn run(steps: &[PlannedStep]) -> (Ledger, RunId) {
        let id = RunId::from_text("7F3K2M");
        let mut ledger = Ledger::default();
        let planned = Event::RunPlanned {
            run: id.clone(),
            scope: Scope::default(),
            resources: Vec::new(),
            steps: steps.to_vec(),
            instead_of: Predecessors::default(),
        };
        ledger.apply(1, &planned).unwrap();
        (ledger, id)
    }

    fn changed(ledger: &mut Ledger, id: &RunId, steps: &[PlannedStep]) {
        let steps = ledger.run(id).unwrap().identified(steps);
        let event = Event::PlanChanged {
            run: id.clone(),
            resources: Vec::new(),
            steps,
        };
        ledger.apply(2, &event).unwrap();
    }

    fn ids(ledger: &Ledger, id: &RunId) -> Vec<u32> {
        let run = ledger.run(id).unwrap();
        let numbers = (0..run.steps.len()).map(StepNumber::at);
        numbers.map(|number| run.step_id(number).0).collect()
    }

    fn is_done(ledger: &mut Ledger, id: &RunId, number: u32) {
        for event in [
            StepEvent::Intended {
                facts: Facts::new(),
            },
            StepEvent::Done { how: String::new() },
        ] {
            let event = Event::Step {
                run: id.clone(),
                step: StepNumber(number),
                event,
            };
            ledger.apply(3, &event).unwrap();
        }
    }

    #[test]
    fn a_step_is_known_by_the_same_wherever_it_moves() {
        let (a, b, c) = (
            step("shell a", "1"),
            step("shell b", "2"),
            step("shell c", "3"),
        );
        let (mut ledger, id) = run(&[a.clone(), b.clone()]);
        assert_eq!(ids(&ledger, &id), [1, 2]);
        is_done(&mut ledger, &id, 1);
        changed(&mut ledger, &id, &[c.clone(), a.clone(), b.clone()]);
        assert_eq!(ids(&ledger, &id), [1001, 1, 2]);
        let states: Vec<_> = ledger.runs[0].steps.iter().map(|one| one.state).collect();
        assert_eq!(states[1], StepState::Done);
        assert_eq!(states[0], StepState::Waiting);
        // What goes away leaves its id to nobody.
        changed(&mut ledger, &id, &[a, c]);
        assert_eq!(ids(&ledger, &id), [1, 1001]);
    }

    #[test]
    fn a_changed_step_is_another_one() {
        let (mut ledger, id) = run(&[step("rds_restore a", "1")]);
        is_done(&mut ledger, &id, 1);
        changed(&mut ledger, &id, &[step("rds_restore a", "2")]);
        assert_eq!(ids(&ledger, &id), [1001]);
        assert_eq!(ledger.runs[0].steps[0].state, StepState::Waiting);
    }

    #[test]
    fn a_page_that_is_up_stays_its_runs_to_take_away() {
        let (mut ledger, id) = run(&[page("up", "wrong")]);
        is_done(&mut ledger, &id, 1);
        changed(&mut ledger, &id, &[page("up", "right")]);
        let kept = &ledger.runs[0].steps[0];
        assert_eq!((kept.state, ids(&ledger, &id)), (StepState::Done, vec![1]));
        assert!(kept.planned.definition.contains("right"));
        assert!(ledger.runs[0].has_to_reverse(kept));
        // Another page is another step.
        let carried = ledger.runs[0].carried_over(&[page("other", "right")]);
        assert_eq!(carried, [None]);
    }

    #[test]
    fn a_command_that_failed_is_mended_and_one_that_worked_is_another() {
        let (mut ledger, id) = run(&[step("shell `a`", "wrong")]);
        let mended = [step("shell `a`", "right")];
        assert_eq!(ledger.runs[0].carried_over(&mended), [None]);
        for event in [
            StepEvent::Intended {
                facts: Facts::new(),
            },
            StepEvent::Failed {
                reason: String::new(),
            },
        ] {
            let step = StepNumber(1);
            let run = id.clone();
            ledger.apply(3, &Event::Step { run, step, event }).unwrap();
        }
        assert_eq!(ledger.runs[0].carried_over(&mended), [Some(StepNumber(1))]);
        changed(&mut ledger, &id, &mended);
        assert_eq!(ledger.runs[0].steps[0].state, StepState::Unknown);
        assert_eq!(ledger.runs[0].steps[0].planned.definition, "right");
    }

    #[test]
    fn what_an_earlier_release_journaled_is_read_as_it_meant_it() {
        let (mut ledger, id) = run(&[page("up", "wrong"), step("shell a", "1")]);
        is_done(&mut ledger, &id, 2);
        let event = Event::PlanChanged {
            run: id.clone(),
            resources: Vec::new(),
            steps: vec![page("up", "right"), step("shell a", "1")],
        };
        ledger.apply(2, &event).unwrap();
        let states: Vec<_> = ledger.runs[0].steps.iter().map(|one| one.state).collect();
        assert_eq!(states, [StepState::Waiting, StepState::Done]);
    }
}
