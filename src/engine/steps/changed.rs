//! What a changed plan says of steps that a run has begun: what may change, and what has to be put back first.

use crate::{
    failure::{Exit, Failure, without_scope},
    machine::{Phase, PlannedStep, RunLedger, RunState, StepLedger, StepPlace, StepState},
};

/// Returns what differs between the run's steps and the plan's, and how far those that go were.
pub(in crate::engine) fn changed_steps(run: &RunLedger, steps: &[PlannedStep]) -> Vec<String> {
    let carried = run.carried_over(steps);
    let mut changes = Vec::new();
    for (step, number) in steps.iter().zip(&carried) {
        let place = step.place.label();
        match number.and_then(|number| run.steps.get(number.index())) {
            None => changes.push(format!(
                "step {} of `{place}` is new, or changed",
                step.title
            )),
            Some(had) if !step.is_same(&had.planned) => changes.push(format!(
                "step {} of `{place}`, {}, has other commands now",
                had.planned.title,
                stands(had)
            )),
            Some(_) => {}
        }
    }
    let gone = run.steps.iter().enumerate().filter(|(index, _)| {
        let mut numbers = carried.iter().flatten();
        !numbers.any(|number| number.index() == *index)
    });
    changes.extend(gone.map(|(_, had)| {
        let lost = if run.has_to_reverse(had) {
            ": `undo` will not reverse it"
        } else {
            ""
        };
        let (title, place) = (&had.planned.title, had.planned.place.label());
        format!(
            "step {title} of `{place}`, {}, is no longer so in the plan{lost}",
            stands(had)
        )
    }));
    if !carried.iter().flatten().is_sorted() {
        changes.push("the steps stand in another order".to_owned());
    }
    changes
}

fn stands(step: &StepLedger) -> &'static str {
    match step.state {
        StepState::Waiting => "which was not begun",
        StepState::Intent | StepState::Unknown => "which was begun",
        StepState::Done | StepState::Undone => "which was done",
    }
}

/// Refuses a plan whose steps of `prepare:` changed in a run that is past them, whatever was accepted: they would come
/// after the rows that they are to come before.
pub(in crate::engine) fn check_prepared(
    run: &RunLedger,
    steps: &[PlannedStep],
    typed: &str,
) -> Result<(), Failure> {
    let phase = match run.state {
        RunState::Interrupted(phase) | RunState::Failed(phase) => Some(phase),
        state => state.phase(),
    };
    if matches!(phase, None | Some(Phase::Planned | Phase::Preparing)) {
        return Ok(());
    }
    let new: Vec<_> = steps
        .iter()
        .zip(run.carried_over(steps))
        .filter(|(step, carried)| step.place == StepPlace::Prepare && carried.is_none())
        .map(|(step, _)| format!("step {} of `prepare` is new, or changed", step.title))
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    // What has a name that has to be given back is not begun anew.
    let next = if super::half_done::renamed(run).is_some() {
        put_back(typed)
    } else {
        format!(
            "put those steps back as they were, or begin anew with `rekindle run --new {typed}`"
        )
    };
    Err(Failure {
        why: new,
        ..Failure::new(
            Exit::Refused,
            format!("run {} is past the steps of `prepare`", run.id),
            "nothing was written; the run's progress is kept",
            next,
        )
    })
}

/// Refuses a plan that lost, changed or moved steps that left something behind, whatever was accepted: what they made would
/// count as another's, or nobody could take it back.
pub(in crate::engine) fn check_begun(
    run: &RunLedger,
    steps: &[PlannedStep],
    typed: &str,
) -> Result<(), Failure> {
    let carried = run.carried_over(steps);
    let begun = run.steps.iter().enumerate();
    let begun: Vec<_> = begun
        .filter(|(_, had)| leaves_behind(run, had))
        .map(|(index, had)| {
            let mut numbers = carried.iter().flatten();
            (had, numbers.position(|number| number.index() == index))
        })
        .collect();
    let name = |had: &StepLedger| {
        let (title, place) = (&had.planned.title, had.planned.place.label());
        format!("step {title} of `{place}`, {}", stands(had))
    };
    let gone = begun.iter().filter(|(_, place)| place.is_none());
    let mut why: Vec<_> = gone
        .map(|(had, _)| format!("{}, is no longer so in the plan", name(had)))
        .collect();
    let there = || begun.iter().filter(|(_, place)| place.is_some());
    let moved = there().zip(there().skip(1));
    why.extend(
        moved
            .filter(|(one, next)| one.1 > next.1)
            .map(|(one, next)| {
                format!(
                    "{}, comes before step {}",
                    name(next.0),
                    one.0.planned.title
                )
            }),
    );
    if why.is_empty() {
        return Ok(());
    }
    Err(Failure {
        why,
        ..Failure::new(
            Exit::Refused,
            format!(
                "run {} left something behind that the plan no longer says",
                run.id
            ),
            "nothing was written; the run's progress is kept",
            put_back(typed),
        )
    })
}

/// Returns whether `had` made something that outlives it, and that the run goes on to count on or has to take back. A command
/// that is still at work is waited for, whatever the plan says by then.
fn leaves_behind(run: &RunLedger, had: &StepLedger) -> bool {
    let may_be_done = !matches!(had.state, StepState::Waiting | StepState::Undone);
    let is_its_own = had.began_ms.is_some() || run.has_to_reverse(had);
    may_be_done
        && is_its_own
        && match had.planned.kind() {
            "rds_snapshot" | "rds_rename" | "rds_restore" | "maintenance" => true,
            // It may be at work.
            "jenkins_build" => !had.is_done() && had.reason.is_none(),
            _ => false,
        }
}

fn put_back(typed: &str) -> String {
    format!(
        "put those steps back as they were; then `rekindle run {typed}` goes on, or `rekindle undo {}` takes them back",
        without_scope(typed)
    )
}
