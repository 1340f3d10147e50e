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
    engine::{self, Reversing, WayBack, refused_by_journal},
    failure::{Exit, Failure},
    machine::{Ledger, Scope},
    plan::{Plan, StepKind},
    report::human::{counted, printable},
};

/// Reverses the steps of the plan's latest run with anything to reverse.
pub fn undo(command: &Undo, global: &Global, screen: Screen) -> Outcome {
    let plan = connect::load(&command.plan, screen)?.plan;
    let file = StateFile {
        path: connect::state_path(&plan, global),
        plan: connect::typed(&plan.path, &Scope::default(), global),
    };
    let ledger = known(&file)?;
    let actions = cutover::connect(&plan, &file.path, cutover::Purpose::Act)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &file.plan))?;
    let runtime = connect::runtime()?;
    let way = match WayBack::known(&ledger) {
        None if renames(&plan) => {
            let found = runtime.block_on(engine::found_by_tags(&plan, &actions, &ledger));
            found.map_err(|error| engine::refused_by_edge(&error, &plan.name, &file.plan))?
        }
        known => known,
    };
    let Some(way) = way else {
        if screen.json {
            say(&serde_json::json!({"run": null, "steps": []}).to_string());
        } else {
            say_wrapped(&nothing(&plan, &file));
        }
        return Ok(Exit::Done);
    };
    is_meant(&way, &ledger, command, &file)?;
    show(&way, screen);
    let answer = if command.yes {
        Answer::Yes
    } else {
        agreed(&way)
    };
    if answer != Answer::Yes {
        return Err(Stop::Failed(Failure::new(
            Exit::Usage,
            format!(
                "{} would be reversed, and {}",
                counted(way.steps.len() as u64, "step"),
                answer.refusal()
            ),
            "nothing was reversed",
            answer.next(&format!(
                "`rekindle undo {} --yes` reverses them in this order",
                file.plan
            )),
        )));
    }
    let outcome = runtime.block_on(async {
        let mut signals = supervision::listen()?;
        let told = |news: Reversing| {
            let (event, text) = match news {
                Reversing::Waits(text) => ("step_waits", text),
                Reversing::Reversed(text) => ("step_undone", text),
            };
            if screen.json {
                say(&serde_json::json!({"event": event, "text": text}).to_string());
            } else {
                say_wrapped(&printable(&text));
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
            done = engine::undo(&plan, &actions, &file.path, &file.plan, &way, told) => done,
        }
    });
    runtime.shutdown_background();
    outcome?;
    if !screen.json
        && let Some(before) = WayBack::known(&known(&file)?)
    {
        say_wrapped(&format!(
            "{} of run {} before it could be reversed, too: `rekindle undo {} --run {}` shows how",
            counted(before.steps.len() as u64, "step"),
            before.run,
            file.plan,
            before.run
        ));
    }
    Ok(Exit::Done)
}

/// Refuses where another run is named than the one whose turn it is, or an earlier one would be reversed that nobody named.
fn is_meant(
    way: &WayBack,
    ledger: &Ledger,
    command: &Undo,
    file: &StateFile,
) -> Result<(), Failure> {
    let by_name = format!("`rekindle undo {} --run {}`", file.plan, way.run);
    if let Some(named) = &command.run {
        if way.run.as_str().eq_ignore_ascii_case(named) {
            return Ok(());
        }
        return Err(Failure::new(
            Exit::Usage,
            format!("it is not the turn of run {named}"),
            "nothing was reversed",
            format!("{by_name} shows the run whose turn it is"),
        ));
    }
    match way.is_beyond(ledger) {
        Some(reversed) if command.yes => Err(Failure::new(
            Exit::Usage,
            format!("run {reversed} is reversed, and nobody named the one before it"),
            "nothing was reversed",
            format!("{by_name} shows how run {} would be reversed, too", way.run),
        )),
        _ => Ok(()),
    }
}

fn renames(plan: &Plan) -> bool {
    let mut steps = plan.prepare.iter().chain(&plan.finish);
    steps.any(|step| matches!(step.kind, StepKind::RdsRename(_)))
}

/// Returns why there is nothing to reverse: as far as the state file knows, which may not be all there is.
fn nothing(plan: &Plan, file: &StateFile) -> String {
    let path = file.path.display();
    let known = if file.path.exists() {
        format!("state file {path} knows of no step that is left: there is nothing to reverse")
    } else {
        format!("there is no state file {path}, so no step is known: there is nothing to reverse")
    };
    if renames(plan) {
        format!("{known}; and no instance bears a tag of a step that renamed it")
    } else {
        known
    }
}

/// Returns what the state file knows of runs.
fn known(file: &StateFile) -> Result<Ledger, Failure> {
    let Some(view) = file.view()? else {
        return Ok(Ledger::default());
    };
    view.runs()
        .map_err(|error| refused_by_journal(&error, &file.plan))
}

fn show(way: &WayBack, screen: Screen) {
    let WayBack { run, steps, .. } = way;
    if screen.json {
        let steps: Vec<_> = steps
            .iter()
            .map(|one| serde_json::json!({"step": one.number, "name": one.name, "stands": one.stands}))
            .collect();
        say(&serde_json::json!({"run": run, "steps": steps}).to_string());
        return;
    }
    if way.is_found() {
        say_wrapped(
            "no state file here knows of it, and instances bear tags of steps that renamed them. To be reversed, in this order",
        );
    } else {
        say_wrapped(&format!("run {run}: to be reversed, in this order"));
    }
    for one in steps {
        say_wrapped(&format!(
            "  {}: {}",
            printable(&one.name),
            printable(&one.stands)
        ));
    }
    if way.is_found() {
        say_wrapped(
            "its other steps are not known any more: reverse those by hand. Make sure that no run is at work on these instances \
             in another folder or on another machine: nothing here would know",
        );
    }
}

/// Asks on the terminal; nobody there is a no.
fn agreed(way: &WayBack) -> Answer {
    let steps = counted(way.steps.len() as u64, "step");
    ask::agreed(&if way.is_found() {
        format!("{steps} will be reversed. Type `yes` to do it:")
    } else {
        format!(
            "{steps} of run {} will be reversed, and the run is given up. Type `yes` to do it:",
            way.run
        )
    })
}
