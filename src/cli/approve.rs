//! `approve`: a person's answer to the step that asks.

use super::{
    Outcome, Stop,
    args::{Global, PlanOnly},
    pause::user,
    render::{Screen, say},
    state_files,
    wrap::say_wrapped,
};
use crate::{
    control::{self, Approval},
    engine::refused_by_journal,
    failure::{Exit, Failure},
    ids::StepNumber,
    journal::{host_name, now_ms},
    machine::{RunLedger, Scope, StepState},
    report::human::printable,
};

/// The plan's word for steps that ask.
const ASKS: &str = "approve";

/// Answers the step of the plan's run that asks.
pub fn approve(of: &PlanOnly, global: &Global, screen: Screen) -> Outcome {
    let files = state_files::find(Some(&of.plan), global, screen)?;
    let Some(file) = files.into_iter().next() else {
        return Err(nothing_asks(&of.plan.display().to_string()));
    };
    let view = file.view()?;
    let ledger = view
        .map(|view| view.runs())
        .transpose()
        .map_err(|error| refused_by_journal(&error, &file.plan))?
        .unwrap_or_default();
    let asking = ledger
        .unfinished(Some(&Scope::default()))
        .and_then(|run| Some((run, asks(run)?)));
    let Some((run, step)) = asking else {
        return Err(nothing_asks(&file.plan));
    };
    let approval = Approval {
        run: run.id.clone(),
        step,
        at_ms: now_ms(),
        by: format!("{} on {}", user(), host_name()),
    };
    control::approve(&file.path, &approval).map_err(|error| {
        Failure::new(
            Exit::Refused,
            "the answer cannot be given",
            "the run waits as it did",
            "make the folder of the state file writable, then type it again",
        )
        .because(&error)
    })?;
    if screen.json {
        say(&serde_json::json!({"approved": true, "run": run.id, "step": step}).to_string());
    } else {
        say_wrapped(&format!(
            "approved: {} of run {}",
            printable(&run.steps[step.index()].planned.title),
            run.id
        ));
    }
    Ok(Exit::Done)
}

/// Returns the step of `run` that a person is asked by: it was begun, and is not done.
fn asks(run: &RunLedger) -> Option<StepNumber> {
    let mut steps = run.steps.iter().enumerate();
    steps
        .find(|(_, step)| {
            step.planned.title == ASKS
                && matches!(step.state, StepState::Intent | StepState::Unknown)
        })
        .map(|(index, _)| StepNumber::at(index))
}

fn nothing_asks(plan: &str) -> Stop {
    Stop::Failed(Failure::new(
        Exit::Refused,
        "nothing asks to be approved",
        "nothing was written",
        format!(
            "`rekindle status {plan}` says where the run is; an answer counts once the step has begun"
        ),
    ))
}
