//! `consume`: carries messages from the shop's queues to the plan's targets. Writes no state file.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Outcome,
    args::Consume,
    connect,
    render::{Screen, complain_wrapped, say},
    supervision,
    wrap::say_wrapped,
};
use crate::{
    broker::{self, Served},
    engine,
    error::{Disposition, chain},
    failure::{Exit, Failure},
    nearest::nearest,
    plan::{self, Plan},
    report::human::{counted, duration},
};

/// Consumes the queues of a plan.
pub fn consume(command: &Consume, screen: Screen) -> Outcome {
    let plan = connect::load(&command.plan, screen)?.plan;
    let path = command.plan.display().to_string();
    let Some(config) = &plan.broker else {
        return Err(Failure::new(
            Exit::Refused,
            format!("plan {path} has no queues to consume"),
            "nothing was consumed",
            "add `broker: { url: \"${RABBITMQ_URL}\" }`, and a `queue` to resources that are not of the preset",
        )
        .why("it names no `broker`")
        .into());
    };
    let queues = chosen(&plan, &command.queue)?;
    let lasts = command
        .r#for
        .as_deref()
        .map(|typed| {
            plan::duration(typed).map_err(|help| {
                Failure::new(
                    Exit::Usage,
                    format!("`--for {typed}` is no time"),
                    "nothing was consumed",
                    help,
                )
            })
        })
        .transpose()?;
    let vhosts = broker::connect(config)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &path))?;
    let targets = connect::targets(&plan)?;
    let runtime = connect::runtime()?;
    let plan = Arc::new(plan);
    let outcome = runtime.block_on(async {
        let mut signals = supervision::listen()?;
        let (stop, stopped) = watch::channel(false);
        let work = engine::Consume {
            plan: Arc::clone(&plan),
            vhosts,
            targets,
            queues,
            until_empty: command.until_empty,
            until: lasts.map(|lasts| Instant::now() + lasts),
            stop: stopped,
        };
        let told = |error: &crate::error::EdgeError, wait: Duration| tell(error, wait, screen);
        let mut consuming = std::pin::pin!(work.run(told));
        let mut interrupted = false;
        loop {
            tokio::select! {
                biased;
                Some(()) = signals.recv(), if !interrupted => {
                    interrupted = true;
                    stop.send_replace(true);
                }
                done = &mut consuming => return conclude(done, interrupted, &path, screen),
            }
        }
    });
    runtime.shutdown_background();
    Ok(outcome?)
}

/// Returns the queues that were typed, in the order of the plan; all of them where none was.
pub(super) fn chosen(plan: &Plan, typed: &[String]) -> Result<Vec<String>, Failure> {
    let all = engine::queues(plan);
    for name in typed {
        if !all.contains(name) {
            let near = nearest(name, all.iter().map(String::as_str), 1);
            let hint = match near.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => "no resource of the plan has a queue with a name like it".to_owned(),
            };
            return Err(Failure::new(
                Exit::Usage,
                format!("`--queue {name}` names no queue of plan `{}`", plan.name),
                "nothing was done",
                format!("use one of: {}", all.join(", ")),
            )
            .why(hint));
        }
    }
    if all.is_empty() {
        return Err(Failure::new(
            Exit::Refused,
            format!("plan `{}` has no queues to consume", plan.name),
            "nothing was consumed",
            "give resources a `queue`, or the plan `preset: spryker`",
        ));
    }
    let picked = |name: &String| typed.is_empty() || typed.contains(name);
    Ok(all.into_iter().filter(picked).collect())
}

fn tell(error: &crate::error::EdgeError, wait: Duration, screen: Screen) {
    let text = chain(error).join(": ");
    if screen.json {
        let object = serde_json::json!({
            "event": "waiting", "error": text, "wait_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        });
        say(&object.to_string());
    } else {
        complain_wrapped(&format!("{text}; tried again in {}", duration(wait)));
    }
}

type Consumed =
    Result<BTreeMap<String, Served>, (BTreeMap<String, Served>, crate::error::EdgeError)>;

fn conclude(
    done: Consumed,
    interrupted: bool,
    path: &str,
    screen: Screen,
) -> Result<Exit, Failure> {
    let (served, error) = match done {
        Ok(served) => (served, None),
        Err((served, error)) => (served, Some(error)),
    };
    let mut total = Served::default();
    for (queue, of) in &served {
        total.add(*of);
        if screen.json {
            let object = serde_json::json!({
                "event": "consumed", "queue": queue, "written": of.written, "deleted": of.deleted, "failed": of.failed,
            });
            say(&object.to_string());
        } else {
            say_wrapped(&format!(
                "{queue}: {}: {} written, {} deleted, {} failed",
                counted(of.messages(), "message"),
                of.written,
                of.deleted,
                of.failed
            ));
        }
    }
    if let Some(error) = error {
        let exit = match error.kind.disposition() {
            Disposition::Block if served.is_empty() => Exit::Refused,
            _ => Exit::Stopped,
        };
        return Err(Failure {
            why: chain(&error),
            ..Failure::new(
                exit,
                "messages cannot be consumed any further",
                "what was not acknowledged is in its queue, at its old place",
                format!("mend the cause, then `rekindle consume {path}`"),
            )
        });
    }
    if interrupted {
        return Err(Failure::new(
            Exit::Interrupted,
            "interrupted",
            "what was not acknowledged is in its queue, at its old place",
            format!("`rekindle consume {path}` goes on from there"),
        ));
    }
    if total.failed > 0 {
        return Err(Failure::new(
            Exit::DeadLetters,
            format!(
                "{} could not be carried out",
                counted(total.failed, "message")
            ),
            "they lie in the `.error` queues, each with its `errorMessage`; all others are in their targets",
            format!(
                "look at them there, mend the cause, then `rekindle dead-letters replay {path}`"
            ),
        ));
    }
    if served.is_empty() && !screen.json {
        say("every queue was empty");
    }
    Ok(Exit::Done)
}
