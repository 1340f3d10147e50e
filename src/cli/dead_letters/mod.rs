//! `dead-letters`: rows that could not be restored.

mod drop;
mod letters;
mod queues;
mod retry;

use std::{
    collections::{BTreeMap, HashSet},
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Outcome,
    args::{DeadLetters, DeadLettersCommand, DeadLettersOf, DeadLettersShow, Global},
    render::{Screen, complain_wrapped, say},
    table::table,
    wrap::say_wrapped,
};
use crate::{
    failure::{Exit, Failure},
    journal::DeadLetterRow,
    report::human::{count, counted, printable},
};
use letters::Letters;
pub(super) use letters::Standing;

/// Carries out a command about dead letters.
pub fn dead_letters(command: &DeadLetters, global: &Global, screen: Screen) -> Outcome {
    match &command.command {
        DeadLettersCommand::List(of) => list(of, global, screen),
        DeadLettersCommand::Show(show) => self::show(show, global, screen),
        DeadLettersCommand::Retry(retry) => retry::retry(retry, global, screen),
        DeadLettersCommand::Drop(drop) => drop::drop_letters(drop, global, screen),
        DeadLettersCommand::Queues(of) => queues::list(of, screen),
        DeadLettersCommand::Replay(of) => queues::replay(of, screen),
    }
}

fn list(of: &DeadLettersOf, global: &Global, screen: Screen) -> Outcome {
    let mut counts: BTreeMap<(String, String), (u64, String)> = BTreeMap::new();
    // A row may be a dead letter of a run of everything, and of one of some ids since.
    let mut rows = HashSet::new();
    let letters = Letters::of(of, global, screen)?;
    if let Some(letters) = &letters {
        letters.each(|row| {
            let place = format!("{} {}", row.resource, row.letter.cursor.exact());
            if !rows.insert(xxh3_64(place.as_bytes())) {
                return true;
            }
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
        if let Some(letters) = &letters {
            let plan = &letters.file.plan;
            tell_next(
                &format!("`rekindle dead-letters show {plan}` names them one by one"),
                screen,
            );
        }
    }
    Ok(Exit::Done)
}

/// Returns a dead letter as `--json` and files have it.
fn object(row: &DeadLetterRow) -> serde_json::Value {
    let letter = &row.letter;
    serde_json::json!({
        "run": row.run, "resource": row.resource, "cursor": letter.cursor.to_string(), "key": letter.key,
        "entity": letter.entity, "kind": letter.kind, "reason": letter.reason, "partition": row.partition, "chunk": row.chunk,
        "attempt": row.attempt, "at_ms": row.at_ms,
    })
}

fn show(command: &DeadLettersShow, global: &Global, screen: Screen) -> Outcome {
    let letters = Letters::of(&command.of, global, screen)?;
    if let Some(path) = &command.export {
        let written = export(letters.as_ref(), path)?;
        if screen.json {
            say(&serde_json::json!({"exported": written, "file": path}).to_string());
        } else {
            let number = counted(written, "dead letter");
            say_wrapped(&format!("{number} written to {}", path.display()));
        }
        return Ok(Exit::Done);
    }
    let mut shown = 0;
    let mut more = false;
    let mut rows = Vec::new();
    if let Some(letters) = &letters {
        letters.each(|row| {
            if shown == command.limit {
                more = true;
                return false;
            }
            shown += 1;
            let letter = &row.letter;
            if screen.json {
                say(&object(row).to_string());
            } else {
                rows.push(vec![
                    printable(row.resource.as_str()),
                    letter.cursor.to_string(),
                    letter
                        .key
                        .as_deref()
                        .map_or_else(|| "NULL".to_owned(), printable),
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
            &["resource", "cursor", "key of the row", "why", "attempt"],
            &rows,
            &[1, 4],
        ));
        if more {
            say_wrapped(&format!(
                "only the first {}; `--limit` shows more, `--export FILE` writes all",
                count(command.limit)
            ));
        }
        if let Some(letters) = &letters {
            tell_next(&letters.next(), screen);
        }
    }
    Ok(Exit::Done)
}

/// Prints what to type next, which is no part of the result.
fn tell_next(next: &str, screen: Screen) {
    complain_wrapped(&format!("  {}  {next}", screen.paint("next:", "1;36")));
}

/// Writes every letter as one line of JSON into a new file for this user alone. Returns how many.
fn export(letters: Option<&Letters>, path: &Path) -> Result<u64, Failure> {
    let fail = |error: &std::io::Error| {
        Failure::new(
            Exit::Usage,
            format!("cannot write {}", path.display()),
            "the dead letters are where they were",
            "name a file that is not there yet, in a folder that can be written to",
        )
        .because(error)
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| fail(&error))?;
    let mut out = std::io::BufWriter::new(file);
    let mut written = 0;
    let mut failed = None;
    if let Some(letters) = letters {
        letters.each(|row| {
            written += 1;
            failed = writeln!(out, "{}", object(row)).err();
            failed.is_none()
        })?;
    }
    match failed.or_else(|| out.flush().err()) {
        Some(error) => Err(fail(&error)),
        None => Ok(written),
    }
}
