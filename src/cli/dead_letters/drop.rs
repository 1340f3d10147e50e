//! `dead-letters drop`: a person lets rows go.

use std::collections::{BTreeMap, BTreeSet};

use super::letters::Letters;
use crate::{
    cli::{
        Outcome, Stop,
        args::{DeadLettersDrop, Global},
        ask::{self, Answer},
        connect,
        render::{Screen, say},
        wrap::say_wrapped,
    },
    engine::refused_by_journal,
    failure::{Exit, Failure},
    ids::ResourceName,
    journal::{Journal, JournalError, OpenMode},
    report::human::counted,
};

/// Records that the chosen dead letters are let go.
pub(super) fn drop_letters(command: &DeadLettersDrop, global: &Global, screen: Screen) -> Outcome {
    let Some(letters) = Letters::of(&command.of, global, screen)? else {
        return Ok(told(0, screen));
    };
    let mut chosen: BTreeMap<ResourceName, BTreeSet<String>> = BTreeMap::new();
    letters.each(|row| {
        let cursors = chosen.entry(row.resource.clone()).or_default();
        cursors.insert(row.letter.cursor.exact());
        true
    })?;
    let number: usize = chosen.values().map(BTreeSet::len).sum();
    if number == 0 {
        return Ok(told(0, screen));
    }
    let answer = if command.yes {
        Answer::Yes
    } else {
        agreed(number as u64)
    };
    if answer != Answer::Yes {
        return Err(Stop::Failed(Failure::new(
            Exit::Usage,
            format!(
                "{} would be let go, and {}",
                counted(number as u64, "dead letter"),
                answer.refusal()
            ),
            "nothing was written; the dead letters are where they were",
            answer.next(&format!(
                "`rekindle dead-letters drop {} --yes` with the same filters lets them go",
                letters.file.plan
            )),
        )));
    }
    let (path, plan) = (letters.file.path.clone(), letters.file.plan.clone());
    // It holds a copy of the state file open.
    drop(letters);
    let runtime = connect::runtime()?;
    let dropped = runtime
        .block_on(async {
            let (journal, _, _) = Journal::open(&path, OpenMode::Normal)?;
            let mut events = Vec::new();
            let mut dropped = 0;
            for (resource, cursors) in chosen {
                let how = "dropped by a person".to_owned();
                let settled = journal.settled(resource, cursors, None, how).await?;
                dropped += settled.as_ref().map_or(0, |settled| settled.count);
                events.extend(settled.map(|settled| settled.event));
            }
            if !events.is_empty() {
                journal.record(events).await?;
            }
            journal.close().await?;
            Ok::<_, JournalError>(dropped)
        })
        .map_err(|error| refused_by_journal(&error, &plan))?;
    Ok(told(dropped, screen))
}

fn told(dropped: u64, screen: Screen) -> Exit {
    if screen.json {
        say(&serde_json::json!({ "dropped": dropped }).to_string());
    } else if dropped == 0 {
        say("no dead letters");
    } else {
        say_wrapped(&format!(
            "{} dropped: what the targets hold of {} stays as it is, missing or old, until a run reads the resource anew",
            counted(dropped, "dead letter"),
            if dropped == 1 {
                "that row"
            } else {
                "those rows"
            },
        ));
    }
    Exit::Done
}

/// Asks on the terminal; nobody there is a no.
fn agreed(number: u64) -> Answer {
    ask::agreed(&format!(
        "{} will no longer be named anywhere, and what the targets hold of them stays as it is, missing or old, until a run reads \
         the resource anew. Type `yes` to let them go:",
        counted(number, "row")
    ))
}
