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
        run, status,
    },
    engine::{RunChoice, next_of_blocked},
    failure::{Exit, Failure, quoted},
    ids::{ResourceName, RunId},
    journal::DeadLetterRow,
    machine::{Ledger, Scope},
    plan::Plan,
    report::human::counted,
    source::MOST_PLACES,
    supervisor::CHILD_VARIABLE,
};

/// Rows of one resource that one retry reads: what fits one query.
const MOST_ROWS: usize = 10_000;

/// The rows that are read again.
#[derive(Default)]
struct Chosen {
    cursors: BTreeMap<ResourceName, BTreeSet<String>>,
    /// Whoever mended a row may have given it another cursor.
    entities: BTreeMap<ResourceName, BTreeSet<String>>,
    /// Letters that do not say whose row it was, though the plan could.
    without_entity: u64,
}

impl Chosen {
    /// Takes one in, whose entity is one of the plan's own column if it `is_same`; returns whether there was room.
    fn take(&mut self, plan: &Plan, row: &DeadLetterRow, is_same: bool) -> bool {
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
        let is_new = cursors.insert(cursor);
        let names_entities = plan
            .resource(&row.resource)
            .is_some_and(|one| one.from.entity.is_some());
        match row.letter.entity.clone().filter(|_| is_same) {
            Some(entity) if names_entities => {
                let entities = self.entities.entry(row.resource.clone()).or_default();
                entities.insert(entity);
            }
            _ => self.without_entity += u64::from(names_entities && is_new),
        }
        true
    }

    /// Returns the scope of the retry.
    fn scope(self) -> Scope {
        let lists = |of: BTreeMap<ResourceName, BTreeSet<String>>| {
            of.into_iter()
                .map(|(name, texts)| (name, texts.into_iter().collect()))
                .collect()
        };
        Scope {
            only: self.cursors.keys().cloned().collect(),
            rows: lists(self.cursors),
            entities: lists(self.entities),
            ..Scope::default()
        }
        .sorted()
    }
}

/// Whether the entities in the letters of a run and a resource are those that the plan means now.
#[derive(Default)]
struct EntityColumns(BTreeMap<(RunId, ResourceName), bool>);

impl EntityColumns {
    fn are_same(&mut self, plan: &Plan, ledger: &Ledger, row: &DeadLetterRow) -> bool {
        let of = (row.run.clone(), row.resource.clone());
        let compare = || {
            let now = plan.resource(&row.resource)?.from.entity.as_deref();
            let had = &ledger.run(&row.run)?.resource(&row.resource)?.definition;
            let had: serde_json::Value = serde_json::from_str(had).ok()?;
            Some(had["from"]["entity"].as_str() == now)
        };
        *self
            .0
            .entry(of)
            .or_insert_with(|| compare().unwrap_or(false))
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
    let goes_on = goes_on.filter(|run| !run.scope.rows.is_empty() && !command.new);
    let mut columns = EntityColumns::default();
    letters.each(|row| {
        // A retry that was killed goes on with what it began with: what did not pass again is its own.
        if goes_on.is_some_and(|run| run.id == row.run) {
            return true;
        }
        if plan.resource(&row.resource).is_none() {
            refused = Some(unknown(&plan, &row.resource));
            return false;
        }
        let is_same = columns.are_same(&plan, &letters.ledger, row);
        left_over += u64::from(!chosen.take(&plan, row, is_same));
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
        let is_same = columns.are_same(&plan, &letters.ledger, row);
        chosen.take(&plan, row, is_same);
        true
    })?;
    // The process that watches says it once, however often the working one begins.
    let is_first = std::env::var_os(CHILD_VARIABLE).is_none();
    if left_over > 0 && is_first {
        complain(&format!(
            "{} more are left for the next `dead-letters retry`",
            counted(left_over, "dead letter")
        ));
    }
    let without_entity = chosen.without_entity;
    let scope = chosen.scope();
    if let Some(failure) = unfinished(&letters, &scope, command.new) {
        return Err(Stop::Failed(failure));
    }
    if without_entity > 0 && is_first {
        complain(&format!(
            "{} of these letters know no entity as the plan names it now: of them only rows that are still in their old places \
             are found; `rekindle run {}` reads every row",
            without_entity, letters.file.plan
        ));
    }
    let typed = letters.file.plan.clone();
    drop(letters);
    run::restore(
        plan,
        scope,
        if command.new {
            RunChoice::New
        } else {
            RunChoice::Continue
        },
        false,
        command.worker,
        global,
        screen,
    )
    .map_err(|stop| match stop {
        Stop::Failed(mut failure) => {
            // What goes on with a retry is a retry, and its few rows are quickly read again.
            failure.next = if failure.next.contains("--accept-plan-change") {
                format!("`rekindle dead-letters retry --new {typed}` gives that retry up and begins anew")
            } else {
                failure
                    .next
                    .replace("rekindle run ", "rekindle dead-letters retry ")
            };
            Stop::Failed(failure)
        }
        told @ Stop::Told(_) => told,
    })
}

/// Refuses to begin while another run is not finished: two runs that write to one target in turns void each other's evidence.
fn unfinished(letters: &Letters, scope: &Scope, gives_up: bool) -> Option<Failure> {
    let waits = letters.ledger.unfinished(None)?;
    let is_retry = !waits.scope.rows.is_empty();
    if waits.scope == *scope || (gives_up && is_retry) {
        return None;
    }
    if let Some(reasons) = status::blocked_for_letters(waits) {
        let plan = &letters.file.plan;
        let run = format!("{plan}{}", connect::scope_flags(&waits.scope));
        return Some(Failure::new(
            Exit::Refused,
            format!(
                "run {} is not finished: it is blocked by too many dead letters",
                waits.id
            ),
            "nothing was written; the dead letters are where they were",
            next_of_blocked(reasons, &run, plan),
        ));
    }
    let or = if is_retry {
        "; or give it up: the same `dead-letters retry` with `--new`"
    } else {
        ""
    };
    Some(Failure::new(
        Exit::Refused,
        format!("run {} is not finished", waits.id),
        "nothing was written; the dead letters are where they were",
        format!(
            "`rekindle resume {}` finishes it; then retry its dead letters{or}",
            letters.file.plan
        ),
    ))
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
            quoted(&plan.path)
        ),
    )
    .why("the plan has no such resource any more")
}
