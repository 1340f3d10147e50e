//! `undo`: shows the way back, then goes it, step by step, the last one first.

use super::{
    Outcome, Stop,
    args::{Global, Undo},
    ask::{self, Answer},
    connect,
    render::{Screen, say},
    state_files::StateFile,
    supervision,
};
use crate::{
    cutover,
    engine::{self, ToUndo, refused_by_journal},
    failure::{Exit, Failure},
    ids::RunId,
    machine::Scope,
    plan::{Plan, StepKind},
    report::human::{counted, printable},
};

/// Reverses the steps of the plan's latest run.
pub fn undo(command: &Undo, global: &Global, screen: Screen) -> Outcome {
    let plan = connect::load(&command.plan, screen)?.plan;
    let file = StateFile {
        path: connect::state_path(&plan, global),
        plan: connect::typed(&plan.path, &Scope::default(), global),
    };
    let Some((run, steps)) = found(&file)? else {
        if screen.json {
            say(&serde_json::json!({"run": null, "steps": []}).to_string());
        } else {
            say(&nothing(&plan, &file));
        }
        return Ok(Exit::Done);
    };
    show(&run, &steps, screen);
    let answer = if command.yes {
        Answer::Yes
    } else {
        agreed(&run, steps.len())
    };
    if answer != Answer::Yes {
        return Err(Stop::Failed(Failure::new(
            Exit::Usage,
            format!(
                "{} would be reversed, and {}",
                counted(steps.len() as u64, "step"),
                answer.refusal()
            ),
            "nothing was reversed",
            answer.next(&format!(
                "`rekindle undo {} --yes` reverses them in this order",
                file.plan
            )),
        )));
    }
    let actions = cutover::connect(&plan, &file.path, cutover::Purpose::Act)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &file.plan))?;
    let runtime = connect::runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = supervision::listen()?;
        let told = |text: &str| {
            if screen.json {
                say(&serde_json::json!({"event": "step_undone", "text": text}).to_string());
            } else {
                say(&printable(text));
            }
        };
        tokio::select! {
            biased;
            Some(()) = signals.recv() => Err(Failure::new(
                Exit::Interrupted,
                "interrupted",
                "steps that are reversed are journaled; the one at work is looked at first",
                format!("`rekindle undo {}` goes on from there", file.plan),
            )),
            done = engine::undo(&plan, &actions, &file.path, &file.plan, (&run, steps.as_slice()), told) => done,
        }
    });
    runtime.shutdown_background();
    outcome?;
    if !screen.json
        && let Some((before, left)) = found(&file)?
    {
        say(&format!(
            "{} of run {before} before it could be reversed, too: `rekindle undo {}` shows how",
            counted(left.len() as u64, "step"),
            file.plan
        ));
    }
    Ok(Exit::Done)
}

/// Returns why there is nothing to reverse: as far as the state file knows, which may not be all there is.
fn nothing(plan: &Plan, file: &StateFile) -> String {
    let renames = plan
        .prepare
        .iter()
        .chain(&plan.finish)
        .any(|step| matches!(step.kind, StepKind::RdsRename(_)));
    let path = file.path.display();
    let known = if file.path.exists() {
        format!("state file {path} knows of no step that is left: there is nothing to reverse")
    } else {
        format!("there is no state file {path}, so no step is known: there is nothing to reverse")
    };
    if renames {
        let plan = &file.plan;
        format!("{known}; `rekindle run {plan} --dry-run` shows which instance has which name")
    } else {
        known
    }
}

/// Returns the run and what would be reversed of it.
fn found(file: &StateFile) -> Result<Option<(RunId, Vec<ToUndo>)>, Failure> {
    let Some(view) = file.view()? else {
        return Ok(None);
    };
    let ledger = view
        .runs()
        .map_err(|error| refused_by_journal(&error, &file.plan))?;
    Ok(engine::to_undo(&ledger).map(|(run, steps)| (run.id.clone(), steps)))
}

fn show(run: &RunId, steps: &[ToUndo], screen: Screen) {
    if screen.json {
        let steps: Vec<_> = steps
            .iter()
            .map(|one| serde_json::json!({"step": one.number, "name": one.name, "stands": one.stands}))
            .collect();
        say(&serde_json::json!({"run": run, "steps": steps}).to_string());
        return;
    }
    say(&format!("run {run}: to be reversed, in this order"));
    for one in steps {
        say(&format!(
            "  {}: {}",
            printable(&one.name),
            printable(&one.stands)
        ));
    }
}

/// Asks on the terminal; nobody there is a no.
fn agreed(run: &RunId, steps: usize) -> Answer {
    ask::agreed(&format!(
        "{} of run {run} will be reversed, and the run is given up. Type `yes` to do it:",
        counted(steps as u64, "step")
    ))
}
