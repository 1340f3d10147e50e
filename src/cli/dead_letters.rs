//! `dead-letters`: rows that could not be restored.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Outcome, Stop,
    args::{DeadLetters, DeadLettersCommand, DeadLettersOf, Global},
    render::{Screen, say},
    state_files::{self, StateFile},
    table::table,
};
use crate::{
    engine::refused_by_journal,
    failure::{Exit, Failure},
    ids::{ResourceName, RunId},
    journal::{DeadLetterFilter, DeadLetterRow, View},
    machine::{Ledger, RunLedger},
    report::human::{count, printable},
};

/// Dead letters read from the journal at a time.
const PAGE: u32 = 1000;

/// Lists or shows dead letters.
pub fn dead_letters(command: &DeadLetters, global: &Global, screen: Screen) -> Outcome {
    match &command.command {
        DeadLettersCommand::List(of) => list(of, global, screen),
        DeadLettersCommand::Show(of) => show(of, global, screen),
    }
}

/// A run's dead letters, read page by page.
struct Letters {
    view: View,
    file: StateFile,
    filter: DeadLetterFilter,
}

impl Letters {
    /// Returns the letters that `of` names; `None` where there is no run.
    fn of(of: &DeadLettersOf, global: &Global, screen: Screen) -> Result<Option<Self>, Stop> {
        for file in state_files::find(Some(&of.plan), global, screen)? {
            let Some(view) = file.view()? else { continue };
            let ledger = view
                .runs()
                .map_err(|error| refused_by_journal(&error, &file.plan))?;
            let run = match &of.run {
                Some(id) => {
                    let id = RunId::from_text(&id.to_uppercase());
                    if ledger.run(&id).is_none() {
                        return Err(Stop::Failed(Failure::new(
                            Exit::Usage,
                            format!("there is no run {}", printable(id.as_str())),
                            "nothing was written",
                            format!("`rekindle history {}` lists the runs", file.plan),
                        )));
                    }
                    Some(id)
                }
                None => ledger.runs.last().map(|run| run.id.clone()),
            };
            let resource = of.resource.as_deref().map(ResourceName::from);
            let known = |run: &RunLedger| {
                resource
                    .as_ref()
                    .is_none_or(|name| run.resource(name).is_some())
            };
            if !ledger.runs.iter().any(known) && !ledger.runs.is_empty() {
                return Err(Stop::Failed(no_such_resource(of, &ledger)));
            }
            return Ok(Some(Self {
                view,
                file,
                filter: DeadLetterFilter { run, resource },
            }));
        }
        Ok(None)
    }

    fn each(&self, mut take: impl FnMut(&DeadLetterRow) -> bool) -> Result<(), Failure> {
        let mut after = 0;
        loop {
            let page = self
                .view
                .dead_letters(&self.filter, after, PAGE)
                .map_err(|error| refused_by_journal(&error, &self.file.plan))?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id;
            if !page.iter().all(&mut take) {
                return Ok(());
            }
        }
    }
}

fn no_such_resource(of: &DeadLettersOf, ledger: &Ledger) -> Failure {
    let names: BTreeSet<&str> = ledger
        .runs
        .iter()
        .flat_map(|run| run.resources.iter().map(|resource| resource.name.as_str()))
        .collect();
    Failure::new(
        Exit::Usage,
        format!(
            "no run of the plan has a resource `{}`",
            printable(of.resource.as_deref().unwrap_or_default())
        ),
        "nothing was written",
        format!(
            "use one of: {}",
            names.into_iter().collect::<Vec<_>>().join(", ")
        ),
    )
}

fn list(of: &DeadLettersOf, global: &Global, screen: Screen) -> Outcome {
    let mut counts: BTreeMap<(String, String), (u64, String)> = BTreeMap::new();
    if let Some(letters) = Letters::of(of, global, screen)? {
        letters.each(|row| {
            let kind = (row.resource.to_string(), row.letter.kind.clone());
            let entry = counts
                .entry(kind)
                .or_insert_with(|| (0, row.letter.reason.clone()));
            entry.0 += 1;
            true
        })?;
    }
    if screen.json {
        let listed: Vec<_> = counts
            .iter()
            .map(|((resource, kind), (number, reason))| {
                serde_json::json!({"resource": resource, "kind": kind, "count": number, "example": reason})
            })
            .collect();
        say(&serde_json::Value::from(listed).to_string());
    } else if counts.is_empty() {
        say("no dead letters");
    } else {
        let rows: Vec<_> = counts
            .into_iter()
            .map(|((resource, kind), (number, reason))| {
                vec![
                    printable(&resource),
                    kind,
                    count(number),
                    printable(&reason),
                ]
            })
            .collect();
        say(&table(
            &["resource", "kind", "rows", "for example"],
            &rows,
            &[2],
        ));
    }
    Ok(Exit::Done)
}

fn show(of: &DeadLettersOf, global: &Global, screen: Screen) -> Outcome {
    let mut shown = 0;
    let mut more = false;
    let mut rows = Vec::new();
    if let Some(letters) = Letters::of(of, global, screen)? {
        letters.each(|row| {
            if shown == of.limit {
                more = true;
                return false;
            }
            shown += 1;
            let letter = &row.letter;
            if screen.json {
                say(&serde_json::json!({
                    "run": row.run, "resource": row.resource, "cursor": letter.cursor.to_string(), "key": letter.key,
                    "kind": letter.kind, "reason": letter.reason, "partition": row.partition, "chunk": row.chunk,
                    "attempt": row.attempt, "at_ms": row.at_ms,
                })
                .to_string());
            } else {
                rows.push(vec![
                    printable(row.resource.as_str()),
                    letter.cursor.to_string(),
                    letter.key.as_deref().map_or_else(|| "NULL".to_owned(), printable),
                    printable(&letter.reason),
                    row.attempt.to_string(),
                ]);
            }
            true
        })?;
    }
    if screen.json {
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        say("no dead letters");
    } else {
        say(&table(
            &["resource", "cursor", "key", "why", "attempt"],
            &rows,
            &[1, 4],
        ));
        if more {
            say(&format!(
                "only the first {}; `--limit` shows more",
                count(of.limit)
            ));
        }
    }
    Ok(Exit::Done)
}
