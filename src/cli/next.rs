//! `rekindle` alone: what there is here, and what to type next. Looks at files only.

use std::path::{Path, PathBuf};

use super::{dead_letters::Standing, status, wrap::say_wrapped};
use crate::{
    control,
    failure::{Exit, quoted},
    journal::View,
    machine::{RunState, Scope},
    plan,
    report::human::{counted, printable},
};

/// Most plans that are named.
pub(super) const MOST_PLANS: usize = 9;

/// Says what to type next.
pub fn next() -> Exit {
    say_wrapped(
        "rekindle restores the Redis and search read models of a shop from its database, and survives being killed \
         anywhere.\n",
    );
    let plans = plans();
    if plans.is_empty() {
        say_wrapped(
            "There is no plan here (plans/*.yaml). Write one from what the database holds:\n",
        );
        say_wrapped("    rekindle init --source '${DATABASE_URL}' -o plans/shop.yaml");
        say_wrapped("\nFor a Spryker shop, add --preset spryker.");
    } else {
        say_wrapped("Plans here, and what comes next:\n");
    }
    for path in plans.iter().take(MOST_PLANS) {
        let (state, command) = step(path);
        say_wrapped(&format!("    rekindle {command}\n        {state}"));
    }
    if plans.len() > MOST_PLANS {
        say_wrapped(&format!("    and {} more", plans.len() - MOST_PLANS));
    }
    say_wrapped(
        "\n`rekindle --help` lists every command, `rekindle COMMAND --help` shows examples.",
    );
    Exit::Done
}

/// Returns the files in `plans/` that may be plans.
pub(super) fn plans() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("plans") else {
        return Vec::new();
    };
    let mut plans: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "yaml" || end == "yml")
        })
        .collect();
    plans.sort();
    plans
}

/// Returns how a plan stands, and the command that comes next.
fn step(path: &Path) -> (String, String) {
    let typed = printable(&quoted(path));
    let validate = format!("validate {typed}");
    let env = |name: &str| std::env::var(name).ok();
    let Ok(state_path) = plan::state_path_of(path, &env) else {
        return ("it has problems".to_owned(), validate);
    };
    let view = match View::open(&state_path) {
        Ok(Some(view)) => view,
        Ok(None) => {
            let command = format!("run {typed} --dry-run");
            return (
                "no run yet: this shows what one would do".to_owned(),
                command,
            );
        }
        Err(_) => {
            return (
                "its state file is damaged, this says how".to_owned(),
                format!("run {typed}"),
            );
        }
    };
    if view.running().is_some() {
        return (
            "a run is at work".to_owned(),
            format!("status {typed} --watch"),
        );
    }
    let Ok(ledger) = view.runs() else {
        return (
            "its state file is damaged, this says how".to_owned(),
            format!("run {typed}"),
        );
    };
    let Some(run) = ledger
        .unfinished(Some(&Scope::default()))
        .or_else(|| ledger.runs.last())
    else {
        return (
            "no run yet: this shows what one would do".to_owned(),
            format!("run {typed} --dry-run"),
        );
    };
    if !run.state.is_over() && control::asked(&state_path).is_some() {
        let state = format!("run {} is {}, and paused", run.id, run.state.label());
        return (state, format!("unpause {typed}"));
    }
    if status::blocked_for_letters(run).is_some() {
        let state = format!(
            "run {} is blocked by too many dead letters: this says what lets it go on",
            run.id
        );
        return (state, format!("status {typed}"));
    }
    if !run.state.is_over() {
        let state = format!("run {} is {}, and goes on", run.id, run.state.label());
        return (state, format!("run {typed}"));
    }
    // Of every run: what the last one left out may still be missing.
    let left = Standing::of(&ledger).left(&view).unwrap_or_default();
    if !left.is_empty() {
        let state = format!(
            "run {} is {}; {} not restored",
            run.id,
            run.state.label(),
            match left.values().sum() {
                1 => "1 row is".to_owned(),
                left => format!("{} are", counted(left, "row")),
            }
        );
        return (state, format!("dead-letters show {typed}"));
    }
    let state = format!("run {} is {}", run.id, run.state.label());
    let command = if matches!(run.state, RunState::Done) {
        format!("history {typed}")
    } else {
        format!("run {typed} --dry-run")
    };
    (state, command)
}
