//! `run` and `resume`.

use std::{path::PathBuf, sync::Arc};

use super::{
    Outcome, Stop,
    again::same_again,
    args::{Global, Resume, Run, Worker},
    blocked, connect, dry_run, renames,
    render::{Screen, complain_wrapped, say},
    runtime::Runtime,
    state_files::StateFile,
    status, supervision,
    verify::{Found, ending, show},
    waiting,
};
use crate::{
    control,
    engine::{self, Coordinator, Ending, Memory, Observers, OpenRun, RunChoice, Verified},
    failure::{Exit, Failure},
    machine::Scope,
    plan::{Level, Plan},
    report::{JsonLines, Observer, PlainLines, ProgressBars, human},
    supervisor,
};

/// Restores what the plan names.
pub fn run(command: &Run, global: &Global, screen: Screen) -> Outcome {
    let loaded = connect::load(&command.plan, screen)?;
    let scope = Scope {
        only: connect::chosen(&loaded.plan, "--only", &command.only)?,
        skip: connect::chosen(&loaded.plan, "--skip", &command.skip)?,
        ids: command
            .ids
            .as_deref()
            .map(|ids| parse_ids("--ids", ids))
            .transpose()?,
        ..Scope::default()
    }
    .sorted();
    if scope_is_empty(&loaded.plan, &scope) {
        return Err(Stop::Failed(Failure::new(
            Exit::Usage,
            "`--only` and `--skip` leave nothing to restore",
            "nothing was written",
            "leave out `--skip`, or name other resources",
        )));
    }
    if command.dry_run {
        let how = dry_run::How {
            strict: command.strict,
            accept: command.accept_plan_change,
        };
        return dry_run::dry_run(&loaded, &scope, how, global, screen);
    }
    let choice = if command.new {
        RunChoice::New
    } else {
        RunChoice::Continue
    };
    let asked = renames::Asked {
        choice,
        accept: command.accept_plan_change,
        agreed: &command.renames.agreed,
    };
    renames::agree(&loaded.plan, &scope, &asked, global)?;
    restore(
        loaded.plan,
        scope,
        choice,
        command.accept_plan_change,
        command.worker,
        global,
        screen,
    )
}

/// Goes on with an unfinished run.
pub fn resume(command: &Resume, global: &Global, screen: Screen) -> Outcome {
    let loaded = connect::load(&command.plan, screen)?;
    let (accept, worker) = (command.accept_plan_change, command.worker);
    let (scope, beside) = unfinished(&loaded.plan, global)?;
    // The child says nothing that its parent said.
    if std::env::var_os(supervisor::CHILD_VARIABLE).is_none() {
        for one in beside {
            complain_wrapped(&one);
        }
    }
    let choice = RunChoice::Resume;
    let asked = renames::Asked {
        choice,
        accept,
        agreed: &command.renames.agreed,
    };
    renames::agree(&loaded.plan, &scope, &asked, global)?;
    let path = loaded.plan.path.clone();
    let typed = connect::typed(&path, &scope, global);
    let of_plan = connect::typed(&path, &Scope::default(), global);
    let flag = if accept { " --accept-plan-change" } else { "" };
    let again = format!("resume {of_plan}{flag}");
    let ended = restore(loaded.plan, scope, choice, accept, worker, global, screen);
    ended.map_err(|stop| match stop {
        Stop::Failed(failure) => Stop::Failed(same_again(failure, [&typed, &of_plan], &again)),
        told @ Stop::Told(_) => told,
    })
}

/// Returns the scope of the run that is gone on with, the whole plan where none waits; and what is to be said where others wait,
/// too.
fn unfinished(plan: &Plan, global: &Global) -> Result<(Scope, Vec<String>), Stop> {
    let file = StateFile {
        path: connect::state_path(plan, global),
        plan: connect::typed(&plan.path, &Scope::default(), global),
    };
    let Some(view) = file.view()? else {
        return Ok((Scope::default(), Vec::new()));
    };
    let ledger = view
        .runs()
        .map_err(|error| engine::refused_by_journal(&error, &file.plan))?;
    let Some(run) = ledger.unfinished(None) else {
        return Ok((Scope::default(), Vec::new()));
    };
    let mut said = waiting::beside(&ledger, run, &file.plan);
    if !said.is_empty() {
        let taken = format!(
            "goes on with run {} ({}), the latest that waits; what others stored in the same targets is restored again when they go on",
            run.id,
            status::scope(run)
        );
        said.insert(0, taken);
    }
    Ok((run.scope.clone(), said))
}

fn scope_is_empty(plan: &Plan, scope: &Scope) -> bool {
    plan.resources.iter().all(|resource| {
        (!scope.only.is_empty() && !scope.only.contains(&resource.name))
            || scope.skip.contains(&resource.name)
    })
}

/// Reads `[1,2,"a"]` or `1,2,a`.
pub fn parse_ids(flag: &str, text: &str) -> Result<Vec<String>, Failure> {
    let wrong = |why: String| {
        Failure::new(
            Exit::Usage,
            format!("`{flag}` is neither a JSON array nor a comma list"),
            "nothing was written",
            format!("write `{flag} 17,18,19` or `{flag} '[17,18,19]'`"),
        )
        .why(why)
    };
    let ids: Vec<String> = if text.trim_start().starts_with('[') {
        let values: Vec<serde_json::Value> =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(id) => Ok(id),
                serde_json::Value::Number(id) => Ok(id.to_string()),
                _ => Err(wrong("an id is a number or a string".to_owned())),
            })
            .collect::<Result<_, _>>()?
    } else {
        text.split(',').map(|id| id.trim().to_owned()).collect()
    };
    if ids.is_empty() || ids.iter().any(String::is_empty) {
        return Err(wrong("an id is missing".to_owned()));
    }
    Ok(ids)
}

/// Carries out the run of `scope` in a child process that is watched.
pub(super) fn restore(
    plan: Plan,
    scope: Scope,
    choice: RunChoice,
    accept_plan_change: bool,
    worker: Worker,
    global: &Global,
    screen: Screen,
) -> Outcome {
    let state_path = connect::state_path(&plan, global);
    let is_child = std::env::var_os(supervisor::CHILD_VARIABLE).is_some();
    if !worker.single_process && !is_child {
        let hint = connect::typed(&plan.path, &scope, global);
        return supervision::watch_child(&plan, &state_path, &hint, screen);
    }
    let runtime = Runtime::start()
        .map_err(|error| supervision::started_nothing("the runtime cannot be started", &error))?;
    let budget = plan.defaults.in_flight_bytes;
    let in_flight_bytes = worker.in_flight_bytes.unwrap_or(budget);
    let longest_row_bytes = worker.longest_row_bytes.unwrap_or(budget);
    let outcome: Result<Exit, Failure> = runtime.block_on(async {
        let mut signals = supervision::listen()?;
        let targets = connect::ways(&plan)?;
        let plan = Arc::new(plan);
        let request = OpenRun {
            plan: Arc::clone(&plan),
            typed: connect::typed(&plan.path, &scope, global),
            scope,
            choice,
            accept_plan_change,
            state_path,
            in_flight_bytes,
            source: None,
            targets: targets.clone(),
        };
        let mut observers = Observers::new(vec![observer(screen)]);
        let opened = engine::open(request, &mut observers, &mut signals).await?;
        // A resumed run has a scope of its own.
        let scope = opened
            .book
            .run()
            .map_or_else(|_| Scope::default(), |run| run.scope.clone());
        let hints = Hints {
            plan: connect::typed(&plan.path, &Scope::default(), global),
            run: connect::typed(&plan.path, &scope, global),
            state: connect::state_path(&plan, global),
        };
        let coordinator = Coordinator::new(
            Arc::clone(&plan),
            opened,
            &targets,
            Memory {
                in_flight_bytes,
                longest_row_bytes,
            },
            observers,
            signals,
        );
        conclude(coordinator.run().await, &plan, &hints, screen)
    });
    // Connections that hang must not hold up the end: whatever counts is on disk.
    runtime.shutdown_background();
    outcome.map_err(Stop::Failed)
}

fn observer(screen: Screen) -> Box<dyn Observer> {
    if screen.json {
        Box::new(JsonLines::new(std::io::stdout()))
    } else if screen.bars {
        Box::new(ProgressBars::new())
    } else {
        Box::new(PlainLines::new(std::io::stderr()))
    }
}

/// What to type next, after the command's name.
struct Hints {
    /// Plan and state file.
    plan: String,
    /// The same with the run's scope.
    run: String,
    /// The state file.
    state: PathBuf,
}

/// Shows what the comparison before the end found; the failure where that is not what the source says. Returns what is said
/// where only the source itself keeps rows out of the targets.
fn compared(
    verified: Verified,
    plan: &Plan,
    typed: &str,
    screen: Screen,
) -> Result<Option<Failure>, Failure> {
    let mut unrestorable = None;
    let mut failure = verified.trouble.map(|why| {
        Failure::new(
            Exit::Stopped,
            "every row is restored, and the targets could not be compared with the source",
            "what is restored stays",
            format!("`rekindle verify {typed}` compares them"),
        )
        .why(why)
    });
    let caught_up = verified.caught_up.map(|found| (Level::Full, found, true));
    let found = verified.found.map(|(level, found)| (level, found, false));
    for (level, findings, repaired) in caught_up.into_iter().chain(found) {
        let found = Found {
            findings,
            pruned: 0,
            left: None,
            refused: None,
        };
        if screen.json {
            let mut object = show::json(plan, level, &found);
            object["event"] = if repaired { "caught_up" } else { "verified" }.into();
            for one in object["resources"].as_array_mut().into_iter().flatten() {
                let name = one["resource"].as_str().unwrap_or_default().into();
                if let Some(reached) = verified.reached.get(&name).filter(|_| repaired) {
                    let since = reached.since.as_ref();
                    one["reached"] = serde_json::json!({
                        "at_ms": reached.at_ms, "column": since.map(|one| &one.column),
                        "since": since.map(|one| one.watermark.to_string()), "words": reached.words,
                    });
                }
            }
            say(&object.to_string());
        } else if !repaired {
            show::tell(&found.findings, level);
        }
        // Rows that changed after the moment that was caught up to are no failure of catching up.
        let (uncompared, _) = found.findings.uncompared();
        let only_moved = repaired && found.findings.left() == 0 && uncompared == 0;
        // Nor is it one of the run that nobody reads files back.
        let only_files = |one: &Failure| one.exit == Exit::Stopped && uncompared == 0;
        match ending::failure(&found, typed, repaired) {
            Some(one) if one.exit == Exit::DeadLetters => unrestorable = Some(one),
            Some(one) if only_moved || only_files(&one) => {}
            not_so => failure = failure.or(not_so),
        }
    }
    failure.map_or(Ok(unrestorable), Err)
}

fn conclude(
    mut ending: Ending,
    plan: &Plan,
    hints: &Hints,
    screen: Screen,
) -> Result<Exit, Failure> {
    let Hints {
        plan: typed,
        run,
        state,
    } = hints;
    let mut unrestorable = None;
    if let Ending::Done { verified, .. } = &mut ending
        && let Some(verified) = verified.take()
    {
        unrestorable = compared(verified, plan, typed, screen)?;
    }
    match ending {
        Ending::Done {
            dead_letters: 0, ..
        } => unrestorable.map_or(Ok(Exit::Done), Err),
        Ending::Done {
            dead_letters,
            dead_letters_left: 0,
            ..
        } => Err(Failure::new(
            Exit::DeadLetters,
            format!(
                "done, but {} could not be restored, and the dead letters of all of them were let go",
                human::counted(dead_letters, "row")
            ),
            "every other row is in its target",
            format!(
                "mend them in the source, then `rekindle verify {typed} --repair` restores what differs"
            ),
        )),
        Ending::Done { dead_letters, .. } => Err(Failure::new(
            Exit::DeadLetters,
            format!(
                "done, but {} could not be restored",
                human::counted(dead_letters, "row")
            ),
            "every other row is in its target",
            format!(
                "`rekindle dead-letters show {typed}` names each of them and why; mend them in the source, then \
                 `rekindle dead-letters retry {typed}`"
            ),
        )),
        Ending::StepFailed(failure) => Err(*failure),
        Ending::Interrupted { in_finish } => {
            let paused = control::asked(state).map(|_| typed.as_str());
            let failure = engine::interrupted(run, paused);
            Err(if in_finish {
                engine::interrupted_in_steps(failure, "every row is in its target")
            } else {
                failure
            })
        }
        Ending::Blocked { resources, bug } => Err(Failure {
            why: blocked::grouped(
                resources
                    .iter()
                    .map(|(name, reason)| (name, reason.as_str())),
            )
            .iter()
            .map(blocked::Blocked::sentence)
            .collect(),
            ..Failure::new(
                if bug { Exit::Bug } else { Exit::Stopped },
                format!(
                    "{} of plan `{}` cannot go on",
                    human::counted(resources.len() as u64, "resource"),
                    plan.name
                ),
                "every stored chunk is journaled; resources that do not wait for these are restored",
                if bug {
                    format!(
                        "report it with what `rekindle show` tells of the run, then try `rekindle run {run}`"
                    )
                } else {
                    let reasons = resources.iter().map(|(_, reason)| reason.as_str());
                    engine::next_of_blocked(reasons, run, typed)
                },
            )
        }),
        Ending::LeaseLost(why) => Err(Failure::new(
            Exit::InUse,
            "another run writes to a target",
            "every stored chunk is journaled; nothing was written over the other run's",
            format!("when the other run has ended, `rekindle run {run}` starts its resources over"),
        )
        .why(why)),
        Ending::Broken(error) => Err(engine::refused_by_book(&error, run)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_json_array_or_a_comma_list() {
        assert_eq!(parse_ids("-i", "1, 2,a").unwrap(), ["1", "2", "a"]);
        assert_eq!(
            parse_ids("-i", r#"[1,"x y",18446744073709551615]"#).unwrap(),
            ["1", "x y", "18446744073709551615"]
        );
        for wrong in ["", "1,,2", "[1,", "[null]", "[]"] {
            assert_eq!(
                parse_ids("-i", wrong).unwrap_err().exit,
                Exit::Usage,
                "{wrong}"
            );
        }
    }
}
