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
    machine::{RunLedger, Scope, StepLedger, StepState},
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
    let question = question(&run.steps[step.index()]);
    let known_by = run.step_id(step);
    if let Some(before) = control::approved(&file.path, &run.id, known_by) {
        let text = format!("approved already by {}: {question}", before.by);
        if screen.json {
            let answer = serde_json::json!({
                "approved": true, "already": true, "by": before.by, "run": run.id, "step": step,
                "question": question,
            });
            say(&answer.to_string());
        } else {
            say(&printable(&text));
        }
        return Ok(Exit::Done);
    }
    let approval = Approval {
        run: run.id.clone(),
        step: known_by,
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
        let answer = serde_json::json!({
            "approved": true, "run": run.id, "step": step, "question": question,
        });
        say(&answer.to_string());
    } else {
        say_wrapped(&format!(
            "approved: {} (run {})",
            printable(&question),
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

/// Returns what `step` asks, as the run found it in the plan: the plan file may say something else by now.
fn question(step: &StepLedger) -> String {
    let definition: serde_json::Value =
        serde_json::from_str(&step.planned.definition).unwrap_or_default();
    let question = definition[ASKS]["question"].as_str();
    question.unwrap_or(&step.planned.title).to_owned()
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
