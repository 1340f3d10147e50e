//! `history` and `show`: what runs there were, and the story of one.

use std::{borrow::Cow, path::Path, time::Duration};

use super::{
    Outcome, Stop,
    args::{Global, History, Show},
    render::{Screen, say},
    state_files::{self, StateFile},
    status,
    table::table,
    wrap::say_wrapped,
};
use crate::{
    engine::refused_by_journal,
    failure::{Exit, Failure},
    ids::{ResourceName, RunId, StepNumber},
    journal::{LoggedEvent, View},
    machine::{
        AttemptEnd, Event, FallbackEvent, HandoverScope, Ledger, PartitionEvent, ResourceEvent,
        RunEvent, RunLedger, SettledGroup, StepEvent, Watermark, is_delegated,
    },
    report::human::{bytes, count, counted, duration, moment, printable},
};

/// Longest fact of a step that is shown: all settings of an instance are one.
const SHORT: usize = 80;

/// Events read from the journal at a time.
const PAGE: u32 = 1000;

/// Lists the runs of the state files.
pub fn history(command: &History, global: &Global, screen: Screen) -> Outcome {
    let mut rows = Vec::new();
    let mut listed = Vec::new();
    let mut notes = Vec::new();
    for file in state_files::find(command.plan.as_deref(), global, screen)? {
        let Some(view) = file.view()? else { continue };
        let ledger = view
            .runs()
            .map_err(|error| refused_by_journal(&error, &file.plan))?;
        for run in &ledger.runs {
            let (stored, bytes_stored, dead) = totals(run);
            let ended = run.attempts.iter().filter_map(|one| one.end.as_ref());
            let unseen = run.open_attempt().is_some() && view.running().is_none();
            let at_work = view.running().and_then(|owner| owner.run.as_ref());
            let worked_ms = status::work_ms(run, at_work == Some(&run.id));
            let for_memory = ended.clone().filter(|end| end.is_for_memory()).count();
            let deaths = ended.filter(|end| end.is_death()).count() + usize::from(unseen);
            if screen.json {
                listed.push(serde_json::json!({
                    "run": run.id, "state": run.state.label(), "scope": status::scope(run), "opened_ms": run.opened_ms,
                    "moved_ms": run.moved_ms, "rows": stored, "bytes": bytes_stored, "dead_letters": dead,
                    "attempts": run.attempts.len(), "deaths": deaths, "deaths_for_memory": for_memory,
                    "state_file": file.path, "worked_ms": worked_ms,
                }));
            }
            rows.push(vec![
                run.id.to_string(),
                run.state.label().to_owned(),
                moment(run.opened_ms),
                duration(Duration::from_millis(worked_ms.unsigned_abs())),
                count(stored),
                count(dead),
                run.attempts.len().to_string(),
                if for_memory > 0 {
                    format!("{deaths}, {for_memory} for memory")
                } else {
                    deaths.to_string()
                },
                status::scope(run),
            ]);
        }
        let beside = view
            .notes()
            .map_err(|error| refused_by_journal(&error, &file.plan))?;
        for logged in beside {
            let Event::Noted { text, .. } = logged.event else {
                continue;
            };
            if screen.json {
                listed.push(serde_json::json!({
                    "run": null, "noted": text, "at_ms": logged.at_ms, "state_file": file.path,
                }));
            } else {
                notes.push(format!("{}  {}", moment(logged.at_ms), printable(&text)));
            }
        }
    }
    if screen.json {
        say(&serde_json::Value::from(listed).to_string());
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        say("no run yet");
    } else {
        let header = [
            "run",
            "state",
            "begun",
            "took",
            "rows",
            "dead letters",
            "attempts",
            "deaths",
            "scope",
        ];
        say(&table(&header, &rows, &[3, 4, 5, 6, 7]));
    }
    for note in notes {
        say_wrapped(&note);
    }
    Ok(Exit::Done)
}

/// Tells the story of one run.
pub fn show(command: &Show, global: &Global, screen: Screen) -> Outcome {
    let Some(typed) = &command.id else {
        return latest(None, global, screen);
    };
    if command.plan.is_none()
        && let Some(plan) = named_plan(typed)
    {
        return latest(Some(plan), global, screen);
    }
    let id = RunId::from_text(&typed.to_uppercase());
    let mut known = Vec::new();
    for file in state_files::find(command.plan.as_deref(), global, screen)? {
        let Some(view) = file.view()? else { continue };
        let ledger = view
            .runs()
            .map_err(|error| refused_by_journal(&error, &file.plan))?;
        if let Some(run) = ledger.run(&id) {
            return story(&file, &view, &ledger, run, screen);
        }
        known.extend(ledger.runs.iter().map(|run| run.id.to_string()));
    }
    Err(Stop::Failed(
        Failure::new(
            Exit::Usage,
            format!("there is no run {}", printable(typed)),
            "nothing was written",
            format!(
                "`rekindle history{}` lists the runs; `rekindle show ID PLAN` shows one",
                command
                    .plan
                    .as_ref()
                    .map_or_else(String::new, |plan| format!(" {}", plan.display()))
            ),
        )
        .why(if known.is_empty() {
            "no state file with a run was found".to_owned()
        } else {
            format!("known runs: {}", known.join(", "))
        }),
    ))
}

/// Returns the plan that was typed in the place of a run's id: an id has neither a dot nor a slash.
fn named_plan(typed: &str) -> Option<&Path> {
    let path = Path::new(typed);
    (typed.contains(['.', '/']) && path.is_file()).then_some(path)
}

/// Tells the story of the latest run of a plan; without one, of the latest run of all.
fn latest(plan: Option<&Path>, global: &Global, screen: Screen) -> Outcome {
    let mut found: Option<(i64, StateFile, View, Ledger)> = None;
    for file in state_files::find(plan, global, screen)? {
        let Some(view) = file.view()? else { continue };
        let ledger = view
            .runs()
            .map_err(|error| refused_by_journal(&error, &file.plan))?;
        let Some(opened_ms) = ledger.runs.last().map(|run| run.opened_ms) else {
            continue;
        };
        if found.as_ref().is_none_or(|(had, ..)| *had < opened_ms) {
            found = Some((opened_ms, file, view, ledger));
        }
    }
    if let Some((_, file, view, ledger)) = &found
        && let Some(run) = ledger.runs.last()
    {
        return story(file, view, ledger, run, screen);
    }
    say("no run yet");
    Ok(Exit::Done)
}

fn totals(run: &RunLedger) -> (u64, u64, u64) {
    run.resources
        .iter()
        .map(crate::machine::ResourceLedger::totals)
        .fold((0, 0, 0), |sum, one| {
            (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2)
        })
}

fn story(
    file: &StateFile,
    view: &View,
    ledger: &Ledger,
    run: &RunLedger,
    screen: Screen,
) -> Outcome {
    if !screen.json {
        let (rows, stored, dead) = totals(run);
        say_wrapped(&format!(
            "run {} is {}: {}, {}, {}, {}",
            run.id,
            run.state.label(),
            counted(rows, "row"),
            bytes(stored),
            counted(dead, "dead letter"),
            counted(run.attempts.len() as u64, "attempt")
        ));
        for resource in &run.resources {
            let (rows, stored, dead) = resource.totals();
            let took = resource
                .started_ms
                .zip(resource.ended_ms)
                .map(|(begun, ended)| {
                    format!(
                        " in {}",
                        duration(Duration::from_millis((ended - begun).max(0).unsigned_abs()))
                    )
                });
            say_wrapped(&format!(
                "  {}: {}, {}, {}, {}{}",
                printable(resource.name.as_str()),
                resource.state.label(),
                counted(rows, "row"),
                bytes(stored),
                counted(dead, "dead letter"),
                took.unwrap_or_default()
            ));
        }
    }
    let mut after = 0;
    let mut chunks = 0u64;
    let mut last_ms = run.opened_ms;
    loop {
        let page = view
            .events(Some(&run.id), after, PAGE)
            .map_err(|error| refused_by_journal(&error, &file.plan))?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for logged in &page {
            let Some(logged) = of_run(logged, ledger, run) else {
                continue;
            };
            let logged = &*logged;
            if screen.json {
                say(&serde_json::json!({"seq": logged.seq, "at_ms": logged.at_ms, "event": logged.event}).to_string());
            } else if matches!(logged.event, Event::Chunk { .. }) {
                // Ten thousand lines of chunks tell nothing; how many came between two other events does.
                chunks += 1;
            } else if let Some(text) = told(logged, ledger) {
                tell_chunks(&mut chunks);
                let at_ms = happened_ms(logged, last_ms);
                say_wrapped(&format!("{}  {}", moment(at_ms), printable(&text)));
            }
            last_ms = logged.at_ms;
        }
    }
    tell_chunks(&mut chunks);
    Ok(Exit::Done)
}

/// Returns what an event says of `run`; `None` where it is about other runs. Dead letters are settled for several runs at once.
fn of_run<'a>(
    logged: &'a LoggedEvent,
    ledger: &Ledger,
    run: &RunLedger,
) -> Option<Cow<'a, LoggedEvent>> {
    match &logged.event {
        Event::DeadLettersSettled {
            resource,
            how,
            groups,
        } => {
            let is_its = |group: &&SettledGroup| {
                let of = ledger.partition(group.partition);
                of.is_some_and(|(of, ..)| of.id == run.id)
            };
            let groups: Vec<_> = groups.iter().filter(is_its).cloned().collect();
            (!groups.is_empty()).then(|| {
                Cow::Owned(LoggedEvent {
                    seq: logged.seq,
                    at_ms: logged.at_ms,
                    event: Event::DeadLettersSettled {
                        resource: resource.clone(),
                        how: how.clone(),
                        groups,
                    },
                })
            })
        }
        // Releases that wrote these did not say of which run.
        Event::DeadLettersDropped { .. } | Event::Compacted { .. }
            if logged.at_ms < run.opened_ms =>
        {
            None
        }
        _ => Some(Cow::Borrowed(logged)),
    }
}

/// Returns when an event happened. The end of an attempt that died without a word is written down by the next one; what is known of
/// it is when it was last heard of, `last_ms`.
fn happened_ms(logged: &LoggedEvent, last_ms: i64) -> i64 {
    match &logged.event {
        Event::AttemptEnded {
            end: AttemptEnd::Unknown,
            ..
        } => last_ms,
        _ => logged.at_ms,
    }
}

fn tell_chunks(chunks: &mut u64) {
    if *chunks > 0 {
        say_wrapped(&format!(
            "{:19}  {} stored",
            "",
            counted(std::mem::take(chunks), "chunk")
        ));
    }
}

/// Returns an event in words; `None` for one that tells a person nothing.
fn told(logged: &LoggedEvent, ledger: &Ledger) -> Option<String> {
    let of = |partition| {
        ledger.partition(partition).map_or_else(
            || format!("partition {partition}"),
            |(_, resource, one)| format!("{}, partition {}", resource.name, one.ordinal),
        )
    };
    Some(match &logged.event {
        Event::RunPlanned { resources, .. } => format!(
            "run opened with {}",
            counted(resources.len() as u64, "resource")
        ),
        Event::PlanChanged { .. } => "a changed plan was accepted".to_owned(),
        Event::AttemptStarted {
            attempt,
            pid,
            host,
            in_flight_bytes,
            version,
            ..
        } => {
            let budget = bytes(*in_flight_bytes);
            format!(
                "attempt {attempt} begins: pid {pid} on {host}, memory budget {budget}, rekindle {version}"
            )
        }
        Event::AttemptEnded { end, .. } => format!("attempt ends: {}", end.describe()),
        Event::Run {
            event: RunEvent::Prepare | RunEvent::Restore,
            ..
        }
        | Event::Chunk { .. } => return None,
        Event::Run { event, .. } => run_moved(*event).to_owned(),
        Event::Step { run, step, event } => stepped(&step_name(ledger, run, *step), event),
        Event::Identified {
            source, targets, ..
        } => {
            let targets = targets.iter();
            let targets: Vec<_> = targets.map(|(name, id)| format!("{name} = {id}")).collect();
            format!("source {source}; {}", targets.join(", "))
        }
        Event::ResourceBound {
            resource,
            estimated_rows,
            partitions,
            watermark,
            ..
        } => {
            let rows = counted(*estimated_rows, "row");
            let partitions = counted(partitions.len() as u64, "partition");
            let again = looked_at_again(watermark.as_ref());
            format!("{resource} begins: about {rows} in {partitions}{again}")
        }
        Event::Resource {
            resource, event, ..
        } => moved(resource, event),
        Event::Fallback {
            resource, event, ..
        } => handed(resource, event),
        Event::PartitionCut { partition, rest } => format!(
            "{} is cut: the rest becomes partition {}",
            of(*partition),
            rest.ordinal
        ),
        Event::Partition { partition, event } => match event {
            PartitionEvent::Suspected { page_rows } => format!(
                "{} was open when the process died: its next chunk of {} is done alone",
                of(*partition),
                counted(u64::from(*page_rows), "row")
            ),
            PartitionEvent::Rewound(to) => {
                format!("{} goes back to chunk {}", of(*partition), to.chunk)
            }
            PartitionEvent::Exhausted | PartitionEvent::ChunkStored(_) => return None,
        },
        Event::DeadLettersDropped { resource, count } => {
            format!("{resource}: {} dropped", counted(*count, "dead letter"))
        }
        Event::DeadLettersSettled {
            resource,
            how,
            groups,
        } => {
            let number: usize = groups.iter().map(|group| group.gone.len()).sum();
            format!(
                "{resource}: {}: {how}",
                counted(number as u64, "dead letter")
            )
        }
        // What belongs to no run is told by `history`.
        Event::Noted { run, text } => {
            run.as_ref()?;
            text.clone()
        }
        Event::Compacted { .. } => "earlier events are summed up".to_owned(),
    })
}

/// Returns what happened to a run in words.
const fn run_moved(event: RunEvent) -> &'static str {
    match event {
        RunEvent::Prepare => "the run prepares",
        RunEvent::Restore => "the run restores",
        RunEvent::Verify => "every row is stored; their evidence is compared once more",
        RunEvent::RestoreAgain => "the run restores again",
        RunEvent::Finish => "the evidence of every row stands",
        RunEvent::Complete => "the run is done",
        RunEvent::Interrupt => "the run is interrupted; what it had in hand is journaled",
        RunEvent::Fail => "the run stops: nothing else can go on",
        RunEvent::Resume => "the run goes on",
        RunEvent::Cancel => "the run is given up",
    }
}

/// Returns a step of a resource in words.
fn moved(resource: &ResourceName, event: &ResourceEvent) -> String {
    match event {
        ResourceEvent::Blocked { reason } => format!("{resource} is blocked: {reason}"),
        // Rows are compared only where the plan says so, and that has a line of its own.
        ResourceEvent::Verified => format!("{resource}: its evidence stands"),
        ResourceEvent::StartedOver { reason, .. } => format!("{resource} starts over: {reason}"),
        event => format!("{resource}: {}", event.label().replace('_', " ")),
    }
}

/// Returns what people call a step; of a plan that changed since, only the number is left.
fn step_name(ledger: &Ledger, run: &RunId, number: StepNumber) -> String {
    let run = ledger.run(run);
    let step = run.and_then(|run| run.steps.get(number.index()));
    step.map_or_else(
        || format!("step {number}"),
        |step| format!("{}: {}", step.planned.place.label(), step.planned.title),
    )
}

/// Returns what happened to a step in words.
fn stepped(name: &str, event: &StepEvent) -> String {
    match event {
        StepEvent::Intended { facts } => {
            let facts: Vec<_> = facts
                .iter()
                .map(|(key, value)| match value.len() {
                    0..=SHORT => format!("{key} {value}"),
                    _ => format!("{key} recorded"),
                })
                .collect();
            let facts = if facts.is_empty() {
                String::new()
            } else {
                format!(" ({})", facts.join(", "))
            };
            format!("{name} begins{facts}")
        }
        StepEvent::Lost => format!("{name} was under way when the process died: looked at first"),
        StepEvent::Failed { reason } => format!("{name} could not be done: {reason}"),
        StepEvent::NotDone => format!("{name} was looked at: not done"),
        StepEvent::Done { how } => format!("{name} done: {how}"),
        StepEvent::Undone { how } => format!("{name} reversed: {how}"),
    }
}

/// Returns which rows are compared again before the run is done, as the end of a sentence.
fn looked_at_again(watermark: Option<&Watermark>) -> String {
    watermark.map_or_else(String::new, |Watermark { column, value }| {
        format!("; rows whose `{column}` is {value} or later are looked at again")
    })
}

/// Returns a step on a resource's way through its publisher in words.
fn handed(resource: &ResourceName, event: &FallbackEvent) -> String {
    match event {
        FallbackEvent::Charged { .. } => format!(
            "{resource}: the process was killed for memory while a single row was read alone"
        ),
        FallbackEvent::Begun { by, .. } if is_delegated(by) => {
            format!("{resource} is carried over by another ({by})")
        }
        FallbackEvent::Begun { scope, why, by, of } => {
            let what = match scope {
                HandoverScope::Resource => format!("{resource} goes"),
                HandoverScope::Rows => format!("{resource}: broken rows go"),
            };
            let of = counted(*of, "id");
            format!("{what} to the publisher ({by}), about {of}: {why}")
        }
        FallbackEvent::Called(chunk) => format!(
            "{resource}: the publisher is called with {}, up to {}",
            counted(chunk.ids, "id"),
            chunk.until
        ),
        FallbackEvent::Acknowledged => format!("{resource}: the publisher answered"),
        FallbackEvent::Bound { partitions, .. } => format!(
            "{resource}: its rows are compared with the target in {}",
            counted(partitions.len() as u64, "partition")
        ),
        FallbackEvent::Mended => format!("{resource}: its broken rows were read again"),
    }
}
