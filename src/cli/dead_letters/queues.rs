//! `dead-letters queues` and `replay`: messages that consumers put aside. Needs no state file.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    broker::{self, Broker},
    cli::{
        Outcome,
        args::DeadLettersQueues,
        connect, consume,
        render::{Screen, say},
        table::table,
        wrap::say_wrapped,
    },
    engine,
    error::{EdgeError, chain},
    failure::{Exit, Failure},
    plan::Plan,
    report::human::{count, counted},
};

/// A queue of a plan, in one vhost.
struct Place {
    broker: Arc<Broker>,
    queue: String,
    label: String,
}

/// Counts the messages that were put aside.
pub fn list(of: &DeadLettersQueues, screen: Screen) -> Outcome {
    let plan = connect::load(&of.plan, screen)?.plan;
    let places = places(&plan, of)?;
    let path = of.plan.display().to_string();
    let runtime = connect::runtime()?;
    let found: Result<BTreeMap<String, Option<u64>>, EdgeError> = runtime.block_on(async {
        let mut found = BTreeMap::new();
        for place in places {
            let failed = place.broker.failed(&place.queue).await?;
            found.insert(place.label, failed);
        }
        Ok(found)
    });
    runtime.shutdown_background();
    let found = found.map_err(|error| engine::refused_by_edge(&error, &plan.name, &path))?;
    if screen.json {
        let listed: Vec<_> = found
            .iter()
            .map(|(queue, failed)| serde_json::json!({"queue": queue, "failed": failed}))
            .collect();
        say(&serde_json::Value::from(listed).to_string());
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = found
        .into_iter()
        .filter(|(_, failed)| *failed != Some(0))
        .map(|(queue, failed)| {
            vec![
                queue,
                failed.map_or_else(|| "no `.error` queue".into(), count),
            ]
        })
        .collect();
    if rows.is_empty() {
        say("no message was put aside");
    } else {
        say(&table(&["queue", "put aside"], &rows, &[1]));
    }
    Ok(Exit::Done)
}

/// Puts them back.
pub fn replay(of: &DeadLettersQueues, screen: Screen) -> Outcome {
    let plan = connect::load(&of.plan, screen)?.plan;
    let places = places(&plan, of)?;
    let path = of.plan.display();
    let runtime = connect::runtime()?;
    let outcome = runtime.block_on(async {
        let mut total = 0;
        for place in &places {
            let done = place.broker.replay(&place.queue).await.map_err(|error| Failure {
                why: chain(&error),
                ..Failure::new(
                    Exit::Stopped,
                    format!("messages cannot be put back into `{}`", place.label),
                    format!(
                        "{} are back in their queues; the others are where they were, a few may be in both",
                        counted(total, "message")
                    ),
                    format!("mend the cause, then `rekindle dead-letters replay {path}`"),
                )
            })?;
            total += done;
            if screen.json {
                let object = serde_json::json!({"event": "replayed", "queue": place.label, "messages": done});
                say(&object.to_string());
            } else if done > 0 {
                say_wrapped(&format!("{}: {} put back", place.label, counted(done, "message")));
            }
        }
        if total == 0 && !screen.json {
            say("no message was put aside");
        }
        Ok(Exit::Done)
    });
    runtime.shutdown_background();
    outcome.map_err(|failure: Failure| failure.into())
}

/// Returns the queues that were typed, or all of the plan, in every vhost.
fn places(plan: &Plan, of: &DeadLettersQueues) -> Result<Vec<Place>, Failure> {
    let path = of.plan.display().to_string();
    let Some(config) = &plan.broker else {
        return Err(Failure::new(
            Exit::Refused,
            format!("plan {path} has no queues"),
            "nothing was done",
            "add `broker: { url: \"${RABBITMQ_URL}\" }`",
        )
        .why("it names no `broker`"));
    };
    let queues = consume::chosen(plan, &of.queue)?;
    let vhosts = broker::connect(config)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &path))?;
    Ok(queues
        .iter()
        .flat_map(|queue| {
            vhosts.each().map(|vhost| Place {
                broker: Arc::clone(&vhost.broker),
                queue: queue.clone(),
                label: vhosts.label(vhost, queue),
            })
        })
        .collect())
}
