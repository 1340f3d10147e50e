//! `dead-letters retry`: reads just those rows again and writes them, in a run of their own.

use std::collections::{BTreeMap, BTreeSet};

use super::letters::Letters;
use crate::{
    cli::{
        Outcome, Stop,
        args::{DeadLettersRetry, Global},
        connect,
        render::{Screen, complain, say},
        run,
    },
    engine::RunChoice,
    failure::{Exit, Failure},
    ids::ResourceName,
    machine::Scope,
    plan::Plan,
    report::human::counted,
    source::MOST_PLACES,
};

/// Rows of one resource that one retry reads: what fits one query.
const MOST_ROWS: usize = 10_000;

/// Restores the rows of the chosen dead letters, as they are in the source now.
pub(super) fn retry(command: &DeadLettersRetry, global: &Global, screen: Screen) -> Outcome {
    let loaded = connect::load(&command.of.plan, screen)?;
    let plan = loaded.plan;
    let Some(letters) = Letters::of(&command.of, global, screen)? else {
        return Ok(nothing(screen));
    };
    let mut chosen: BTreeMap<ResourceName, BTreeSet<String>> = BTreeMap::new();
    let mut refused = None;
    let mut left_over = 0u64;
    letters.each(|row| {
        if plan.resource(&row.resource).is_none() {
            refused = Some(unknown(&plan, &row.resource));
            return false;
        }
        let most = if row.letter.cursor.0.len() > 1 {
            MOST_PLACES
        } else {
            MOST_ROWS
        };
        let cursors = chosen.entry(row.resource.clone()).or_default();
        if cursors.len() < most {
            cursors.insert(row.letter.cursor.exact());
        } else {
            left_over += 1;
        }
        true
    })?;
    if let Some(failure) = refused {
        return Err(Stop::Failed(failure));
    }
    if chosen.is_empty() {
        return Ok(nothing(screen));
    }
    if left_over > 0 {
        complain(&format!(
            "{} more are left for the next `dead-letters retry`",
            counted(left_over, "dead letter")
        ));
    }
    let scope = Scope {
        only: chosen.keys().cloned().collect(),
        rows: chosen
            .into_iter()
            .map(|(name, cursors)| (name, cursors.into_iter().collect()))
            .collect(),
        ..Scope::default()
    }
    .sorted();
    if let Some(waits) = letters
        .ledger
        .unfinished(None)
        .filter(|run| run.scope != scope)
    {
        // Two runs that write to one target in turns void each other's evidence.
        return Err(Stop::Failed(Failure::new(
            Exit::Refused,
            format!("run {} is not finished", waits.id),
            "nothing was written; the dead letters are where they were",
            format!(
                "`rekindle resume {}` finishes it; then retry its dead letters",
                letters.file.plan
            ),
        )));
    }
    drop(letters);
    run::restore(
        plan,
        scope,
        RunChoice::Continue,
        false,
        command.worker,
        global,
        screen,
    )
    .map_err(|stop| match stop {
        Stop::Failed(mut failure) => {
            // What goes on with a retry is a retry.
            failure.next = failure
                .next
                .replace("rekindle run ", "rekindle dead-letters retry ");
            Stop::Failed(failure)
        }
        told @ Stop::Told(_) => told,
    })
}

fn nothing(screen: Screen) -> Exit {
    if screen.json {
        say(&serde_json::json!({"retried": 0}).to_string());
    } else {
        say("no dead letters");
    }
    Exit::Done
}

fn unknown(plan: &Plan, name: &ResourceName) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("the dead letters of `{name}` cannot be retried"),
        "nothing was written; the dead letters are where they were",
        format!(
            "`rekindle dead-letters drop -r {name} {}` lets them go",
            plan.path.display()
        ),
    )
    .why("the plan has no such resource any more")
}
