//! `status`: where a run stands, from the state file alone.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use super::{
    Outcome,
    args::{Global, Status},
    blocked, connect,
    render::{Screen, say},
    state_files::{self, StateFile},
    table, waiting,
    wrap::say_wrapped,
};
use crate::{
    control::{self, Live, Pause},
    engine,
    failure::Exit,
    journal::{Owner, View, now_ms},
    machine::{
        AttemptEnd, Handover, HandoverScope, Ledger, ResourceLedger, ResourceState, RunLedger,
        RunState, Scope, StepLedger, StepState,
    },
    report::human::{bytes, count, counted, duration, in_queue, moment, printable, rate},
};

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(1);

/// Shows where runs stand.
pub fn status(command: &Status, global: &Global, screen: Screen) -> Outcome {
    let files = state_files::find(command.plan.as_deref(), global, screen)?;
    loop {
        let mut working = false;
        let mut text = String::new();
        let mut damaged = None;
        for file in &files {
            let view = file.view()?;
            let at_work = view.as_ref().is_some_and(|view| view.running().is_some());
            working |= at_work;
            // What is at work checked it when it began, and what it stores meanwhile is read quickly.
            let checked = view.as_ref().filter(|_| !at_work).map(View::ledger);
            if let Some(Err(error)) = checked {
                damaged.get_or_insert(crate::engine::refused_by_journal(&error, &file.plan));
                continue;
            }
            text += &describe(file, view.as_ref(), screen)?;
        }
        if files.is_empty() {
            text += "no state file in ./state";
        }
        if command.watch && !screen.json && std::io::stdout().is_terminal() {
            // Home and clear below: no flicker, and the scroll-back stays as it was.
            let _ = write!(std::io::stdout(), "\u{1b}[H\u{1b}[J");
        }
        match text.trim_end() {
            "" => {}
            text if screen.json => say(text),
            text => say_wrapped(text),
        }
        if !command.watch || !working {
            return damaged.map_or(Ok(Exit::Done), |failure| Err(failure.into()));
        }
        std::thread::sleep(WATCH);
    }
}

fn describe(
    file: &StateFile,
    view: Option<&View>,
    screen: Screen,
) -> Result<String, crate::failure::Failure> {
    let no_run = || {
        if screen.json {
            serde_json::json!({"state_file": file.path, "run": null}).to_string()
        } else {
            format!("{}: no run yet\n", file.path.display())
        }
    };
    let Some(view) = view else {
        return Ok(no_run());
    };
    let ledger = view
        .runs()
        .map_err(|error| crate::engine::refused_by_journal(&error, &file.plan))?;
    // The run at work, else a run of the whole plan that waits, else the last one.
    let shown = view
        .running()
        .and_then(|owner| owner.run.as_ref().and_then(|id| ledger.run(id)))
        .or_else(|| ledger.unfinished(Some(&Scope::default())))
        .or_else(|| ledger.runs.last());
    let Some(run) = shown else {
        // A process that died before its run was planned leaves a state file without one.
        return Ok(no_run());
    };
    let left = view
        .dead_letters_left(&run.id)
        .map_err(|error| crate::engine::refused_by_journal(&error, &file.plan))?;
    let beside = Beside {
        live: view
            .running()
            .and_then(|owner| Live::read(&file.path, owner.pid)),
        paused: control::asked(&file.path).filter(|_| !run.state.is_over()),
        letters_left: left,
        usual_ms: usual(&ledger, run),
        others: others(&ledger, run, &file.plan),
    };
    Ok(if screen.json {
        json(file, run, view.running(), &beside)
    } else {
        text(file, run, view.running(), &beside, screen)
    })
}

/// What is known beside the run's own tables.
struct Beside {
    /// What the process at work says.
    live: Option<Live>,
    paused: Option<Pause>,
    /// Dead letters that nobody mended or dropped.
    letters_left: u64,
    /// How long each step took the last time.
    usual_ms: Vec<Option<i64>>,
    /// What is to be said of other runs of the plan.
    others: Vec<String>,
}

/// Returns what is to be said of runs beside `shown`: those that wait, and the last one of the whole plan.
fn others(ledger: &Ledger, shown: &RunLedger, plan: &str) -> Vec<String> {
    let mut said = waiting::beside(ledger, shown, plan);
    let whole = ledger.runs.iter().rev().find(|run| run.scope.is_whole());
    if let Some(whole) = whole.filter(|run| run.id != shown.id && run.state.is_over()) {
        said.push(format!(
            "the last run of the whole plan, {}, is {} since {}",
            whole.id,
            whole.state.label(),
            moment(whole.last_activity_ms())
        ));
    }
    said
}

/// Returns how long each step of `run` took in the run before it.
fn usual(ledger: &Ledger, run: &RunLedger) -> Vec<Option<i64>> {
    let steps = run.steps.iter();
    let others = |step: &StepLedger| {
        let before = ledger.runs.iter().rev().skip_while(|one| one.id != run.id);
        let steps = before.skip(1).flat_map(|one| &one.steps);
        steps
            .filter(|one| one.planned.definition == step.planned.definition)
            .find_map(StepLedger::took_ms)
    };
    steps.map(others).collect()
}

impl Beside {
    /// Returns lines about what the run waits for and how fast it goes.
    fn lines(&self, file: &StateFile) -> String {
        let mut text = String::new();
        if let Some(pause) = &self.paused {
            text += &format!(
                "  paused since {} by {}: `rekindle unpause {}` goes on\n",
                moment(pause.at_ms),
                printable(&pause.by),
                file.plan
            );
        }
        let Some(live) = &self.live else { return text };
        for waiting in &live.waiting {
            let waited = u64::try_from(now_ms() - waiting.since_ms).unwrap_or_default();
            text += &format!(
                "  waiting for {} since {}{} ({}, {} so far): {}\n",
                printable(&waiting.place),
                moment(waiting.since_ms),
                waiting.until_ms.map_or_else(String::new, |until| format!(
                    ", until {} at most",
                    moment(until)
                )),
                duration(Duration::from_millis(waited)),
                tries(waiting.tries),
                printable(&waiting.error)
            );
        }
        for held in &live.held {
            text += &format!(
                "  {} is held back since {}: {}\n",
                printable(held.resource.as_str()),
                moment(held.since_ms),
                printable(&held.reason)
            );
        }
        for paced in &live.paces {
            text += &format!(
                "  {} goes at {} a page, {} at a time, since {}: {}\n",
                printable(paced.resource.as_str()),
                counted(paced.rows.into(), "row"),
                counted(paced.writers.into(), "chunk"),
                moment(paced.at_ms),
                printable(&paced.reason)
            );
        }
        for queued in &live.queues {
            text += &format!(
                "  {} is on its way through {}: {}, {}, as many since {}\n",
                printable(queued.resource.as_str()),
                printable(&queued.queue),
                in_queue(queued.ready, queued.unacked),
                counted(queued.consumers.into(), "consumer"),
                moment(queued.since_ms)
            );
        }
        if let Some(memory) = &live.memory {
            text += &format!(
                "  memory limit {} ({})\n",
                bytes(memory.limit_bytes),
                memory.set_by
            );
        }
        text
    }
}

fn tries(number: u32) -> String {
    if number == 1 {
        "1 try".to_owned()
    } else {
        format!("{} tries", count(number.into()))
    }
}

/// How long the run has been worked on, over all attempts.
pub fn work_ms(run: &RunLedger, running: bool) -> i64 {
    run.attempts
        .iter()
        .enumerate()
        .map(|(i, attempt)| {
            let last = i + 1 == run.attempts.len();
            let end = attempt.ended_ms.unwrap_or(if last && running {
                now_ms()
            } else {
                run.last_activity_ms()
            });
            (end - attempt.started_ms).max(0)
        })
        .sum()
}

fn totals(run: &RunLedger) -> (u64, u64, u64, u64) {
    run.resources.iter().fold((0, 0, 0, 0), |sum, resource| {
        let (rows, bytes, dead) = resource.totals();
        (
            sum.0 + rows,
            sum.1 + bytes,
            sum.2 + dead,
            // An estimate of the source's may be anything.
            sum.3.saturating_add(resource.estimated_rows),
        )
    })
}

fn headline(run: &RunLedger, running: Option<&Owner>) -> String {
    let state = run.state.label();
    match running {
        Some(owner) => format!("{state}, pid {} on {} works on it", owner.pid, owner.host),
        None if run.state.is_over() => state.to_owned(),
        None => match run.attempts.last().map(|attempt| attempt.end.as_ref()) {
            Some(Some(AttemptEnd::Failed { reason })) => format!("{state}: {reason}"),
            Some(Some(AttemptEnd::Interrupted)) => state.to_owned(),
            Some(Some(end)) => format!("{state}, nobody works on it: {}", end.describe()),
            Some(None) => format!("{state}, nobody works on it: the last process died"),
            None => format!("{state}, nobody works on it"),
        },
    }
}

fn text(
    file: &StateFile,
    run: &RunLedger,
    running: Option<&Owner>,
    beside: &Beside,
    screen: Screen,
) -> String {
    let (rows, stored, dead, _) = totals(run);
    let worked = work_ms(run, running.is_some());
    let mut text = format!(
        "run {}  {}\n  state file {}\n  begun {}, {}, {} read and {} stored in {}, {}\n",
        screen.paint(run.id.as_str(), "1"),
        headline(run, running),
        file.path.display(),
        moment(run.opened_ms),
        counted(run.attempts.len() as u64, "attempt"),
        counted(rows, "row"),
        bytes(stored),
        duration(Duration::from_millis(worked.unsigned_abs())),
        rate(rows, Duration::from_millis(worked.unsigned_abs())),
    );
    if !run.scope.is_whole() {
        text += &format!("  scope {}\n", scope(run));
    }
    text += &beside.lines(file);
    for attempt in run
        .attempts
        .iter()
        .filter(|one| one.end.as_ref().is_some_and(AttemptEnd::is_death))
    {
        let end = attempt
            .end
            .as_ref()
            .map(AttemptEnd::describe)
            .unwrap_or_default();
        text += &format!(
            "  attempt {} {end} at {}\n",
            attempt.number,
            moment(attempt.ended_ms.unwrap_or(attempt.started_ms))
        );
    }
    text += &steps(run, beside);
    let lines: Vec<_> = run.resources.iter().map(line).collect();
    text += &table::set_in(
        2,
        &[
            "resource",
            "state",
            "rows",
            "of about",
            "bytes",
            "dead letters",
            "",
        ],
        &lines,
        &[2, 3, 4, 5],
    );
    text.push('\n');
    for resource in &run.resources {
        if let Some(handover) = &resource.fallback.handover {
            text += &format!("  {}\n", printable(&handed(resource, handover)));
        }
    }
    for one in blocked::of(run) {
        text += &format!("  {}\n", printable(&one.sentence()));
    }
    if dead > beside.letters_left {
        text += &format!(
            "  {} of {} mended or dropped since\n",
            count(dead - beside.letters_left),
            counted(dead, "dead letter")
        );
    }
    let paused = beside.paused.is_some();
    for one in &beside.others {
        text += &format!("  {}\n", printable(one));
    }
    if let Some(next) = next(file, run, running, beside.letters_left, paused) {
        text += &format!("  {}  {next}\n", screen.paint("next:", "1;36"));
    }
    text
}

/// Returns a line for each step: where it stands, what it waits for, since when, and how long that usually takes.
fn steps(run: &RunLedger, beside: &Beside) -> String {
    let time = |ms: i64| duration(Duration::from_millis(ms.max(0).unsigned_abs()));
    let mut text = String::new();
    for (index, step) in run.steps.iter().enumerate() {
        let said = beside.live.as_ref().and_then(|live| live.step.as_ref());
        let said = said.filter(|at| at.number.index() == index);
        let usual = beside.usual_ms.get(index).copied().flatten();
        let usual = usual.map_or_else(String::new, |ms| {
            format!(", took {} the last time", time(ms))
        });
        let stands = match step.state {
            StepState::Waiting => step.reason.as_ref().map_or_else(
                || "waiting".to_owned(),
                |why| format!("could not be done: {why}"),
            ),
            StepState::Intent => {
                let since = step.began_ms.unwrap_or(run.moved_ms);
                let said = said.map_or_else(String::new, |at| format!(": {}", at.said));
                format!(
                    "under way since {} ({} so far{usual}){said}",
                    moment(since),
                    time(now_ms() - since)
                )
            }
            StepState::Unknown => step.reason.as_ref().map_or_else(
                || "begun, looked at first".to_owned(),
                |why| format!("could not be done: {why}"),
            ),
            StepState::Done | StepState::Undone => {
                let word = if step.is_done() { "done" } else { "reversed" };
                let how = step.how.as_deref().unwrap_or_default();
                let took = step.took_ms();
                let took = took.map_or_else(String::new, |ms| format!(" in {}", time(ms)));
                format!("{word}{took}: {how}")
            }
        };
        let (place, title) = (step.planned.place.label(), &step.planned.title);
        text += &format!("  {}\n", printable(&format!("{place}: {title}: {stands}")));
    }
    text
}

/// Returns where a resource is on its way through its publisher.
fn handed(resource: &ResourceLedger, handover: &Handover) -> String {
    let what = match handover.scope {
        HandoverScope::Resource => "all of it",
        HandoverScope::Rows => "its broken rows",
    };
    let last = handover
        .after
        .as_ref()
        .filter(|_| handover.scope == HandoverScope::Resource)
        .map_or_else(String::new, |id| format!(", the last of them {id}"));
    let open = handover.open.as_ref().map_or_else(String::new, |open| {
        format!("; a call with {} is under way", counted(open.ids, "id"))
    });
    let stands = handover.ended_ms.map_or_else(
        || resource.state.label().to_owned(),
        |ended| format!("back since {}", moment(ended)),
    );
    if handover.is_delegated() {
        return format!(
            "{} is carried over by another ({}) since {}: {stands}, {}",
            resource.name,
            handover.by,
            moment(handover.since_ms),
            counted(handover.calls, "call"),
        );
    }
    format!(
        "{} fell back to its publisher ({}, {what}) at {}: {stands}, {} of about {} answered for in {}{last}{open}; why: {}",
        resource.name,
        handover.by,
        moment(handover.since_ms),
        counted(handover.ids, "id"),
        count(handover.of.max(handover.ids)),
        counted(handover.calls, "call"),
        handover.why,
    )
}

fn next(
    file: &StateFile,
    run: &RunLedger,
    running: Option<&Owner>,
    dead: u64,
    paused: bool,
) -> Option<String> {
    let plan = &file.plan;
    if running.is_some() {
        return None;
    }
    let goes_on = next_of_stopped(file, run, dead)?;
    Some(if paused {
        // Started again, it would stay paused.
        format!("`rekindle unpause {plan}` first; then {goes_on}")
    } else {
        goes_on
    })
}

/// Returns what to type about a run that nobody works on, and that nobody paused.
fn next_of_stopped(file: &StateFile, run: &RunLedger, dead: u64) -> Option<String> {
    let plan = &file.plan;
    let scope = connect::scope_flags(&run.scope);
    match run.state {
        RunState::Done if dead > 0 => Some(format!(
            "`rekindle dead-letters show {plan}` names the rows that did not pass; mended ones are restored by `rekindle \
             dead-letters retry {plan}`"
        )),
        RunState::Done | RunState::Cancelled => None,
        _ if !run.scope.rows.is_empty() => {
            Some(format!("`rekindle resume {plan}` goes on from here"))
        }
        _ => Some(match blocked_for_letters(run) {
            Some(reasons) => engine::next_of_blocked(reasons, &format!("{plan}{scope}"), plan),
            None => format!("`rekindle run {plan}{scope}` goes on from here"),
        }),
    }
}

/// Returns why resources of a run are blocked, if one of them has too many dead letters: what goes on stops again then.
pub fn blocked_for_letters(run: &RunLedger) -> Option<Vec<&str>> {
    let resources = run.resources.iter();
    let reasons: Vec<_> = resources
        .filter_map(|one| match &one.state {
            ResourceState::Blocked { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
        .collect();
    let is_one = reasons
        .iter()
        .any(|reason| engine::is_for_dead_letters(reason));
    is_one.then_some(reasons)
}

/// Returns a run's scope in words.
pub fn scope(run: &RunLedger) -> String {
    let names = |names: &[crate::ids::ResourceName]| {
        names
            .iter()
            .map(crate::ids::ResourceName::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut parts = Vec::new();
    if !run.scope.only.is_empty() {
        parts.push(format!("only {}", names(&run.scope.only)));
    }
    if !run.scope.skip.is_empty() {
        parts.push(format!("without {}", names(&run.scope.skip)));
    }
    if let Some(ids) = &run.scope.ids {
        parts.push(counted(ids.len() as u64, "id"));
    }
    if !run.scope.rows.is_empty() {
        let rows: usize = run.scope.rows.values().map(Vec::len).sum();
        parts.push(format!("{} retried", counted(rows as u64, "dead letter")));
    }
    if parts.is_empty() {
        "the whole plan".to_owned()
    } else {
        parts.join(", ")
    }
}

fn line(resource: &ResourceLedger) -> Vec<String> {
    let (rows, stored, dead) = resource.totals();
    let mut remarks = Vec::new();
    if resource.voids > 0 {
        remarks.push(format!(
            "started over {}",
            if resource.voids == 1 {
                "once".to_owned()
            } else {
                format!("{} times", resource.voids)
            }
        ));
    }
    let suspects = resource
        .partitions
        .iter()
        .filter(|one| matches!(one.state, crate::machine::PartitionState::Suspect(_)))
        .count();
    if suspects > 0 {
        remarks.push(format!(
            "{} first done alone",
            counted(suspects as u64, "partition")
        ));
    }
    vec![
        printable(resource.name.as_str()),
        resource.state.label().to_owned(),
        count(rows),
        if resource.estimated_rows > 0 {
            count(resource.estimated_rows.max(rows))
        } else {
            String::new()
        },
        bytes(stored),
        if dead > 0 { count(dead) } else { String::new() },
        remarks.join(", "),
    ]
}

fn json(file: &StateFile, run: &RunLedger, running: Option<&Owner>, beside: &Beside) -> String {
    let (rows, stored, dead, estimated) = totals(run);
    let resources: Vec<_> = run
        .resources
        .iter()
        .map(|resource| {
            let (rows, stored, dead) = resource.totals();
            let reason = match &resource.state {
                ResourceState::Blocked { reason, .. } => Some(reason),
                _ => None,
            };
            let partitions: Vec<_> = resource
                .partitions
                .iter()
                .map(|one| {
                    let at = one.state.progress();
                    serde_json::json!({
                        "partition": one.id, "state": one.state.label(), "chunk": at.chunk, "rows": at.rows,
                        "after": at.after.as_ref().map(ToString::to_string), "page_rows": at.page_rows,
                    })
                })
                .collect();
            serde_json::json!({
                "resource": resource.name, "state": resource.state.label(), "rows": rows, "bytes": stored,
                "dead_letters": dead, "estimated_rows": resource.estimated_rows, "voids": resource.voids,
                "reason": reason, "partitions": partitions, "fallback": resource.fallback.handover,
            })
        })
        .collect();
    let steps: Vec<_> = run
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let said = beside.live.as_ref().and_then(|live| live.step.as_ref());
            serde_json::json!({
                "step": index + 1, "place": step.planned.place, "title": step.planned.title,
                "state": step.state.label(), "how": step.how, "reason": step.reason, "began_ms": step.began_ms,
                "ended_ms": step.ended_ms, "usual_ms": beside.usual_ms.get(index).copied().flatten(),
                "waits_for": said.filter(|at| at.number.index() == index).map(|at| &at.said),
            })
        })
        .collect();
    let attempts: Vec<_> = run
        .attempts
        .iter()
        .map(|attempt| {
            serde_json::json!({
                "attempt": attempt.number, "pid": attempt.pid, "host": attempt.host, "started_ms": attempt.started_ms,
                "ended_ms": attempt.ended_ms, "in_flight_bytes": attempt.in_flight_bytes,
                "end": attempt.end.as_ref().map(AttemptEnd::describe),
            })
        })
        .collect();
    serde_json::json!({
        "state_file": file.path, "run": run.id, "state": run.state.label(), "working": running.is_some(),
        "pid": running.map(|owner| owner.pid), "whole_plan": run.scope.is_whole(), "rows": rows, "bytes": stored,
        "dead_letters": dead, "estimated_rows": estimated, "worked_ms": work_ms(run, running.is_some()),
        "steps": steps, "resources": resources, "attempts": attempts, "dead_letters_left": beside.letters_left,
        "others": beside.others, "paused": beside.paused, "waiting": beside.live.as_ref().map(|live| &live.waiting),
        "held": beside.live.as_ref().map(|live| &live.held),
        "paces": beside.live.as_ref().map(|live| &live.paces),
        "queues": beside.live.as_ref().map(|live| &live.queues),
        "memory": beside.live.as_ref().and_then(|live| live.memory.as_ref()),
    })
    .to_string()
}
