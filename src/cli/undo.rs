//! `undo`: shows the way back, then goes it, step by step, the last one first.

use super::{
    Outcome, Stop,
    args::{Global, Undo},
    ask::{self, Answer},
    connect,
    render::{Screen, say},
    state_files::StateFile,
    supervision,
    wrap::say_wrapped,
};
use crate::{
    cutover,
    engine::{self, ToUndo, refused_by_journal},
    failure::{Exit, Failure},
    ids::RunId,
    machine::Scope,
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
            say("no step of this plan is done: there is nothing to reverse");
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
    let actions = cutover::connect(&plan, &file.path)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &file.plan))?;
    let runtime = connect::runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = supervision::listen()?;
        let told = |text: &str| {
            if screen.json {
                say(&serde_json::json!({"event": "step_undone", "text": text}).to_string());
            } else {
                say_wrapped(&printable(text));
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
            done = engine::undo(&plan, &actions, &file.path, &file.plan, told) => done,
        }
    });
    runtime.shutdown_background();
    outcome?;
    Ok(Exit::Done)
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
    say_wrapped(&format!("run {run}: to be reversed, in this order"));
    for one in steps {
        say_wrapped(&format!(
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
