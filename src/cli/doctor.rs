//! `doctor`: looks at everything a run depends on, and says what to type about what is found.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Outcome, Stop,
    args::{Doctor, Global},
    blocked, connect,
    dead_letters::Standing,
    problems,
    render::{self, Screen, say},
    state_files::{self, StateFile},
    status,
    wrap::say_wrapped,
};
use crate::{
    control,
    engine::{self, Preview},
    error::chain,
    failure::{Exit, Failure},
    journal::View,
    machine::{Ledger, Scope},
    plan::{Diagnostic, Loaded, PlanText, ProblemEntry, Severity},
    report::human::{counted, moment, printable},
    scratch::Scratch,
    target::{Leftover, Target},
};

/// One thing that was looked at.
struct Finding {
    /// What it is about: `journal`, `lease`.
    about: String,
    /// What was found.
    text: String,
    /// What to type about it; `None` where all is well.
    next: Option<String>,
    /// The problem of the plan that it is, if it is one.
    problem: Option<ProblemEntry>,
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn well(&mut self, about: &str, text: impl Into<String>) {
        self.0.push(Finding {
            about: about.to_owned(),
            text: text.into(),
            next: None,
            problem: None,
        });
    }

    fn ill(&mut self, about: &str, text: impl Into<String>, next: impl Into<String>) {
        self.0.push(Finding {
            about: about.to_owned(),
            text: text.into(),
            next: Some(next.into()),
            problem: None,
        });
    }

    /// Notes what is wrong with the plan.
    fn problems(&mut self, text: &PlanText, problems: &[Diagnostic]) {
        for (problem, entry) in problems.iter().zip(text.entries(problems)) {
            let help = problem.help.as_deref().unwrap_or("see `rekindle explain`");
            self.0.push(Finding {
                about: entry.severity.to_owned(),
                text: format!("{}{}", problem.message, problems::place(text, problem)),
                next: Some(format!("{help} ({})", problem.code)),
                problem: Some(entry),
            });
        }
    }

    fn failure(&mut self, about: &str, failure: &Failure) {
        let mut text = vec![failure.what.clone()];
        text.extend(failure.why.iter().cloned());
        self.ill(about, text.join(": "), failure.next.clone());
    }
}

/// Looks at a plan and all it names; without one, at every state file in `./state`.
pub fn doctor(command: &Doctor, global: &Global, screen: Screen) -> Outcome {
    let mut found = Findings::default();
    if let Some(path) = &command.plan {
        let loaded = connect::load(path, screen)?;
        let plan = &loaded.plan;
        found.well("plan", format!("`{}` is valid", plan.name));
        let file = StateFile {
            path: connect::state_path(plan, global),
            plan: connect::typed(&plan.path, &Scope::default(), global),
        };
        let (ledger, running) = journal(&file, &mut found).unwrap_or_default();
        servers(&loaded, &file, &ledger, running, &mut found)?;
    } else {
        for file in state_files::find(None, global, screen)? {
            journal(&file, &mut found);
        }
    }
    let ill = found.0.iter().filter(|one| one.next.is_some()).count();
    if screen.json {
        let findings = found.0.iter().map(|one| {
            serde_json::json!({
                "about": one.about, "text": one.text, "next": one.next, "ok": one.next.is_none(), "problem": one.problem,
            })
        });
        let object =
            serde_json::json!({ "findings": findings.collect::<Vec<_>>(), "problems": ill });
        say(&object.to_string());
    } else {
        for one in &found.0 {
            let mark = match one.next {
                None => screen.paint("ok  ", "32"),
                Some(_) => screen.paint("look", "1;33"),
            };
            say_wrapped(&format!("{mark} {}: {}", one.about, printable(&one.text)));
            if let Some(next) = &one.next {
                say_wrapped(&format!("       next: {}", printable(next)));
            }
        }
        say(&match ill {
            0 => "nothing to do".to_owned(),
            ill => format!("{} to look at", counted(ill as u64, "finding")),
        });
    }
    if ill == 0 {
        Ok(Exit::Done)
    } else {
        Err(Stop::Told(Exit::Stopped))
    }
}

/// Looks at a state file and the files beside it; returns what it adds up to, and whether somebody works with it.
fn journal(file: &StateFile, found: &mut Findings) -> Option<(Ledger, bool)> {
    let plan = &file.plan;
    let path = file.path.display();
    let view = match file.view() {
        Ok(Some(view)) => view,
        Ok(None) => {
            found.well("journal", format!("there is no run yet: {path}"));
            return None;
        }
        Err(failure) => {
            found.failure("journal", &failure);
            return None;
        }
    };
    let (ledger, notice) = match view.ledger() {
        Ok(read) => read,
        Err(error) => {
            found.failure("journal", &engine::refused_by_journal(&error, plan));
            return None;
        }
    };
    found.well(
        "journal",
        format!(
            "{path} is whole: pages, chain, replay and marker file agree, {}",
            counted(ledger.runs.len() as u64, "run")
        ),
    );
    if let Some(notice) = notice {
        found.well("marker file", notice.to_string());
    }
    runs(&view, &ledger, file, found);
    if let Some(pause) = control::asked(&file.path) {
        found.ill(
            "pause",
            format!("paused since {} by {}", moment(pause.at_ms), pause.by),
            format!("`rekindle unpause {plan}` lets it go on"),
        );
    }
    if view.running().is_none() && Scratch::path_of(&file.path).exists() {
        found.ill(
            "verify",
            "a comparison was interrupted",
            format!("`rekindle verify {plan}` goes on with it"),
        );
    }
    let running = view.running().is_some();
    Some((ledger, running))
}

fn runs(view: &View, ledger: &Ledger, file: &StateFile, found: &mut Findings) {
    let plan = &file.plan;
    if let Some(owner) = view.running() {
        found.well("run", format!("{} works with it", owner.describe()));
    } else if let Some(run) = ledger.unfinished(None) {
        let died = match run.open_attempt() {
            Some(_) => "; its last process died without a word",
            None => "",
        };
        found.ill(
            "run",
            format!("run {} is {} and waits{died}", run.id, run.state.label()),
            match control::asked(&file.path) {
                // Started again, it would stay paused.
                Some(_) => format!(
                    "`rekindle unpause {plan}`, then `rekindle resume {plan}` goes on with it"
                ),
                None => match status::blocked_for_letters(run) {
                    Some(reasons) => engine::next_of_blocked(
                        reasons,
                        &format!("{plan}{}", connect::scope_flags(&run.scope)),
                        plan,
                    ),
                    None => format!("`rekindle resume {plan}` goes on with it"),
                },
            },
        );
    }
    let Some(run) = ledger.runs.last() else {
        return;
    };
    for one in blocked::of(run) {
        found.ill(
            "run",
            one.sentence(),
            engine::next_of_blocked(
                [one.reason],
                &format!("{plan}{}", connect::scope_flags(&run.scope)),
                plan,
            ),
        );
    }
    let left = Standing::of(ledger).left(view).unwrap_or_default();
    if !left.is_empty() && view.running().is_none() {
        let of: Vec<String> = left
            .iter()
            .map(|(run, rows)| format!("{} of run {run}", counted(*rows, "row")))
            .collect();
        let is = if left.values().sum::<u64>() == 1 {
            "is"
        } else {
            "are"
        };
        found.ill(
            "dead letters",
            format!("{} {is} not restored", of.join(", ")),
            format!("`rekindle dead-letters show {plan}` names them"),
        );
    }
}

/// Looks at the source and the targets.
fn servers(
    loaded: &Loaded,
    file: &StateFile,
    ledger: &Ledger,
    running: bool,
    found: &mut Findings,
) -> Result<(), Failure> {
    let plan = &loaded.plan;
    let targets = connect::ways(plan)?;
    let typed = &file.plan;
    let runtime = connect::runtime()?;
    let scope = ledger
        .unfinished(None)
        .map(|run| run.scope.clone())
        .unwrap_or_default();
    let (answers, mut problems) = runtime.block_on(connect::checked(loaded, &scope, &targets));
    problems.splice(..0, loaded.warnings.iter().cloned());
    let is_sound = problems.iter().all(|one| one.severity != Severity::Error);
    let (preview, leftovers) = runtime.block_on(async {
        let preview = async {
            let source = connect::source(plan).await?;
            engine::preview(plan, &scope, ledger, &*source, &targets, typed, false).await
        };
        // Where the plan cannot be run, its problems say more than what a run would stumble over first.
        let preview = if is_sound { Some(preview.await) } else { None };
        (preview, leftovers(&targets).await)
    });
    runtime.shutdown_background();
    match preview {
        Some(Err(failure)) => found.failure("servers", &failure),
        Some(Ok(preview)) => {
            let typed = format!("{typed}{}", connect::scope_flags(&scope));
            asked(preview, &typed, running, found);
        }
        None => {}
    }
    if let Some(ignored) = render::ignored(&answers.coverage.ignored) {
        found.well("tables", ignored);
    }
    found.problems(&loaded.text, &problems);
    for (name, left) in leftovers {
        match left {
            // Why it does not answer is among the problems.
            Err(_) if !is_sound => {}
            Err(error) => found.ill(
                &format!("target `{name}`"),
                error,
                "check that the server is up and the URL right",
            ),
            Ok(left) => {
                for one in left {
                    leftover(&name, one, ledger, typed, found);
                }
            }
        }
    }
    Ok(())
}

async fn leftovers(
    targets: &BTreeMap<String, Arc<dyn Target>>,
) -> Vec<(String, Result<Vec<Leftover>, String>)> {
    let mut all = Vec::new();
    for (name, target) in targets {
        let left = target.leftovers().await;
        all.push((name.clone(), left.map_err(|error| chain(&error).join(": "))));
    }
    all
}

fn asked(preview: Preview, typed: &str, running: bool, found: &mut Findings) {
    for (name, value) in preview.facts {
        found.well(&name, value);
    }
    let is_refused = !preview.refusals.is_empty();
    for refusal in preview.refusals {
        let next = if preview.plan_changes.contains(&refusal) {
            format!(
                "`rekindle run {typed} --accept-plan-change` starts the changed resources over; with `--dry-run`, too, it says \
                 what that would be"
            )
        } else {
            format!("`rekindle run {typed} --dry-run` says more")
        };
        found.ill("run", refusal, next);
    }
    // The run at work looks for itself, and is ahead of what was read of its journal. One that is refused does nothing again: in
    // the place of another target, every chunk would be missing.
    let looks = !running && !is_refused;
    for redo in preview.redo.into_iter().filter(|_| looks) {
        found.ill(
            "evidence",
            redo,
            format!("`rekindle run {typed}` does it again by itself"),
        );
    }
    for warning in preview.warnings {
        found.ill(
            "warning",
            warning,
            format!("`rekindle run {typed} --dry-run` shows it in its place"),
        );
    }
}

/// Says whether something that a run left in a target is still needed.
fn leftover(name: &str, left: Leftover, ledger: &Ledger, typed: &str, found: &mut Findings) {
    let about = format!("target `{name}`");
    let run = left.run.as_ref().and_then(|id| ledger.run(id));
    let of = match &left.run {
        Some(id) => format!("run {id}: {}", left.what),
        None => left.what.clone(),
    };
    match run {
        Some(run) if !run.state.is_over() => {
            found.well(&about, format!("{of}, which it needs to go on"));
        }
        Some(_) => found.ill(
            &about,
            format!("{of} stayed behind, though it is over"),
            format!(
                "the next `rekindle run {typed}` removes them; by hand: {}",
                left.by_hand
            ),
        ),
        None if left.run.is_some() => found.ill(
            &about,
            format!("{of}; this state file does not know that run"),
            format!(
                "leave it to the state file that does; if there is none any more: {}",
                left.by_hand
            ),
        ),
        None => found.ill(&about, of, left.by_hand),
    }
}
