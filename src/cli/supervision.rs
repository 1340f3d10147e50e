//! The command line's side of parent and child, and of signals.

use std::{
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    Outcome, Stop,
    render::{Screen, complain_wrapped, say},
};
use crate::{
    failure::{Exit, Failure},
    plan::Plan,
    report::human,
    supervisor::{self, Death, Watched},
};

/// Two requests to stop that come this close are one: the terminal tells the child as well as its parent.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// Returns a channel that gets a message for each request to stop. The second one ends the process at once.
pub fn listen() -> Result<mpsc::Receiver<()>, Failure> {
    // The first request fills it; the second one never needs the channel.
    let (out, signals) = mpsc::channel(1);
    let (heard, mut requests) = mpsc::unbounded_channel();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut stream =
            signal(kind).map_err(|error| started_nothing("signals cannot be heard", &error))?;
        let heard = heard.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                // Closed only when the process ends.
                heard.send(()).ok();
            }
        });
    }
    supervisor::follow_parent(move |supervisor::ParentLink::Stop| {
        heard.send(()).ok();
    });
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        while requests.recv().await.is_some() {
            match first {
                None => {
                    first = Some(Instant::now());
                    out.try_send(()).ok();
                }
                Some(at) if at.elapsed() > SAME_REQUEST => {
                    std::process::exit(i32::from(Exit::Interrupted.code()))
                }
                Some(_) => {}
            }
        }
    });
    Ok(signals)
}

/// Works in a child that is watched, and says what there is to say about its deaths. `hint` is what to type after
/// `rekindle run`.
pub fn watch_child(plan: &Plan, state_path: &Path, hint: &str, screen: Screen) -> Outcome {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let told = |death: &Death| {
        let then = death.next_budget.map_or_else(
            || "no other is started".to_owned(),
            |budget| {
                format!(
                    "another one starts with a memory budget of {}",
                    human::bytes(budget)
                )
            },
        );
        let line = format!(
            "the working process ended: {} (death {}); {then}",
            death.how, death.number
        );
        if screen.json {
            say(&serde_json::json!({"event": "death", "text": line}).to_string());
        } else {
            complain_wrapped(&line);
        }
    };
    let watched =
        supervisor::supervise(&arguments, state_path, plan.defaults.in_flight_bytes, told)
            .map_err(|error| started_nothing("the working process cannot be started", &error))?;
    match watched {
        // The child has said what there is to say.
        Watched::Ended(code) => std::process::exit(i32::from(code)),
        Watched::Panicked => Err(Stop::Failed(Failure::new(
            Exit::Bug,
            "the working process panicked: this is a bug",
            "every stored chunk is journaled",
            format!("report it with the lines above, then try `rekindle run {hint}`"),
        ))),
        Watched::GaveUp { deaths, how } => Err(Stop::Failed(
            Failure::new(
                Exit::Stopped,
                format!("gave up after {deaths} deaths of the working process"),
                "every stored chunk is journaled",
                format!("find out what ends it (memory limits, an operator), then `rekindle run {hint}` goes on from there"),
            )
            .why(format!("the last one ended like this: {how}")),
        )),
        Watched::Interrupted => Err(Stop::Failed(Failure::new(
            Exit::Interrupted,
            "interrupted",
            "every stored chunk is journaled",
            format!("`rekindle run {hint}` goes on from there"),
        ))),
    }
}

/// Returns the failure for an operating system that gives no process, thread or signal.
pub fn started_nothing(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Bug,
        what,
        "nothing was written",
        "try again; if it stays, report it",
    )
    .because(error)
}
