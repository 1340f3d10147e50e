//! `dead-letters retry`: reads those rows again, by their cursors and by their entities, and writes them, in a run of their
//! own.

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
    journal::DeadLetterRow,
    machine::Scope,
    plan::Plan,
    report::human::counted,
    source::MOST_PLACES,
};

/// Rows of one resource that one retry reads: what fits one query.
const MOST_ROWS: usize = 10_000;

/// The rows that are read again.
#[derive(Default)]
struct Chosen {
    cursors: BTreeMap<ResourceName, BTreeSet<String>>,
    /// Whoever mended a row may have given it another cursor.
    entities: BTreeMap<ResourceName, BTreeSet<String>>,
}

impl Chosen {
    /// Takes one in; returns whether there was room.
    fn take(&mut self, plan: &Plan, row: &DeadLetterRow) -> bool {
        let cursor = &row.letter.cursor;
        let most = if cursor.0.len() > 1 {
            MOST_PLACES
        } else {
            MOST_ROWS
        };
        let cursors = self.cursors.entry(row.resource.clone()).or_default();
        let cursor = cursor.exact();
        if cursors.len() >= most && !cursors.contains(&cursor) {
            return false;
        }
        cursors.insert(cursor);
        let names_entities = plan
            .resource(&row.resource)
            .is_some_and(|one| one.from.entity.is_some());
        if let Some(entity) = row.letter.entity.clone().filter(|_| names_entities) {
            self.entities
                .entry(row.resource.clone())
                .or_default()
                .insert(entity);
        }
        true
    }
}

/// Restores the rows of the chosen dead letters, and whatever rows their entities have, as they are in the source now.
pub(super) fn retry(command: &DeadLettersRetry, global: &Global, screen: Screen) -> Outcome {
    let loaded = connect::load(&command.of.plan, screen)?;
    let plan = loaded.plan;
    let Some(letters) = Letters::of(&command.of, global, screen)? else {
        return Ok(nothing(screen));
    };
    let mut chosen = Chosen::default();
    let mut refused = None;
    let mut left_over = 0u64;
    let goes_on = letters.ledger.unfinished(None);
    let goes_on = goes_on.filter(|run| !run.scope.rows.is_empty());
    letters.each(|row| {
        // A retry that was killed goes on with what it began with: what did not pass again is its own.
        if goes_on.is_some_and(|run| run.id == row.run) {
            return true;
        }
        if plan.resource(&row.resource).is_none() {
            refused = Some(unknown(&plan, &row.resource));
            return false;
        }
        left_over += u64::from(!chosen.take(&plan, row));
        true
    })?;
    if let Some(failure) = refused {
        return Err(Stop::Failed(failure));
    }
    if chosen.cursors.is_empty() {
        return Ok(nothing(screen));
    }
    // Every row of their entities is read, so those that did not pass are retried with them.
    let entities = chosen.entities.clone();
    let is_sibling = |row: &DeadLetterRow| {
        let of = entities.get(&row.resource).zip(row.letter.entity.as_ref());
        of.is_some_and(|(entities, entity)| entities.contains(entity))
            && goes_on.is_none_or(|run| run.id != row.run)
    };
    letters.each_that(is_sibling, |row| {
        chosen.take(&plan, row);
        true
    })?;
    if left_over > 0 {
        complain(&format!(
            "{} more are left for the next `dead-letters retry`",
            counted(left_over, "dead letter")
        ));
    }
    let lists = |of: BTreeMap<ResourceName, BTreeSet<String>>| {
        of.into_iter()
            .map(|(name, texts)| (name, texts.into_iter().collect()))
            .collect()
    };
    let scope = Scope {
        only: chosen.cursors.keys().cloned().collect(),
        rows: lists(chosen.cursors),
        entities: lists(chosen.entities),
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
