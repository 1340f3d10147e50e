//! `pause` and `unpause`: from another terminal, also across a restart.

use super::{
    Outcome, Stop,
    args::{Global, PlanOnly},
    render::{Screen, say},
    state_files::{self, StateFile},
    wrap::say_wrapped,
};
use crate::{
    control::{self, Pause},
    engine::refused_by_journal,
    failure::{Exit, Failure},
    journal::{host_name, now_ms},
    report::human::moment,
};

/// Asks the plan's run to pause.
pub fn pause(of: &PlanOnly, global: &Global, screen: Screen) -> Outcome {
    let file = only(of, global, screen)?;
    let working = running(&file)?;
    if control::asked(&file.path).is_none() {
        let pause = Pause {
            at_ms: now_ms(),
            by: format!("{} on {}", user(), host_name()),
        };
        control::ask(&file.path, &pause).map_err(|error| not_possible("pause", &error))?;
    }
    let pause = control::asked(&file.path);
    let since = pause.as_ref().map(|pause| moment(pause.at_ms));
    if screen.json {
        let object = serde_json::json!({
            "paused": true, "since_ms": pause.as_ref().map(|pause| pause.at_ms),
            "by": pause.as_ref().map(|pause| &pause.by), "working": working,
        });
        say(&object.to_string());
        return Ok(Exit::Done);
    }
    let who = if working {
        "the run at work finishes the chunks in hand and keeps its leases"
    } else {
        "nobody works on the run just now; one that is started waits"
    };
    say_wrapped(&format!(
        "paused since {}: {who}; `rekindle unpause {}` goes on",
        since.unwrap_or_default(),
        file.plan
    ));
    Ok(Exit::Done)
}

/// Takes a pause back.
pub fn unpause(of: &PlanOnly, global: &Global, screen: Screen) -> Outcome {
    let file = only(of, global, screen)?;
    let lifted =
        control::lift(&file.path).map_err(|error| not_possible("lift the pause of", &error))?;
    if screen.json {
        say(&serde_json::json!({"paused": false, "was_paused": lifted}).to_string());
    } else if lifted {
        say("the pause is lifted");
    } else {
        say("there was no pause");
    }
    Ok(Exit::Done)
}

fn only(of: &PlanOnly, global: &Global, screen: Screen) -> Result<StateFile, Stop> {
    let files = state_files::find(Some(&of.plan), global, screen)?;
    files.into_iter().next().ok_or_else(|| {
        Stop::Failed(Failure::new(
            Exit::Usage,
            "no plan was named",
            "nothing was written",
            "name the plan, for example `rekindle pause plans/shop.yaml`",
        ))
    })
}

/// Returns whether a run is at work.
///
/// # Errors
///
/// Where there is no run that could be paused.
fn running(file: &StateFile) -> Result<bool, Failure> {
    let nothing = |why: &str| {
        Failure::new(
            Exit::Refused,
            "there is nothing to pause",
            "nothing was written",
            format!("`rekindle run {}` begins one", file.plan),
        )
        .why(why)
    };
    let Some(view) = file.view()? else {
        return Err(nothing("the plan never had a run"));
    };
    if view.running().is_some() {
        return Ok(true);
    }
    let ledger = view
        .runs()
        .map_err(|error| refused_by_journal(&error, &file.plan))?;
    if ledger.unfinished(None).is_none() {
        return Err(nothing("no run of the plan is unfinished"));
    }
    Ok(false)
}

/// Returns who asks: for people, nothing depends on it.
pub(super) fn user() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}

fn not_possible(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("cannot {what} the run"),
        "the run goes on as it did",
        "make the folder of the state file writable, then type it again",
    )
    .because(error)
}
