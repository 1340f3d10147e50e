//! Why a run is refused, or cannot go on: the words for a person.

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use super::{book::BookError, preflight::Checked, steps::changed_steps};
use crate::{
    error::{EdgeError, ErrorKind, Subject, chain},
    failure::{Exit, Failure, without_scope},
    journal::{JournalError, host_name},
    machine::{PlannedResource, PlannedStep, ResourceLedger, ResourceState, RunLedger},
    plan::definition_diff,
    target::LeaseOwner,
};

/// Refuses a run that began with another source or target.
pub fn check_identities(run: &RunLedger, checked: &Checked, typed: &str) -> Result<(), Failure> {
    let mut differences = Vec::new();
    if let Some(source) = run
        .source
        .as_ref()
        .filter(|source| **source != checked.source)
    {
        differences.push(format!(
            "the source was {source}, now it is {}",
            checked.source
        ));
    }
    for (name, now) in &checked.targets {
        if let Some(had) = run.targets.get(name).filter(|had| *had != now) {
            differences.push(format!("target `{name}` was {had}, now it is {now}"));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure {
        why: differences,
        ..Failure::new(
            Exit::Refused,
            format!("run {} began with another source or target", run.id),
            "nothing was written; the run's progress is kept",
            format!("put the old URLs back, or begin anew with `rekindle run --new {typed}`"),
        )
    })
}

/// Refuses a run whose resources are defined otherwise now.
pub fn check_definitions(
    run: &RunLedger,
    planned: &[PlannedResource],
    steps: &[PlannedStep],
    typed: &str,
) -> Result<(), Failure> {
    let mut changes = Vec::new();
    // What the scope leaves out is not restored, whatever became of it.
    let is_left_out = |had: &ResourceLedger| had.state == ResourceState::Skipped;
    for now in planned.iter().filter(|now| !now.skipped) {
        match run.resource(&now.name) {
            None => changes.push(format!("`{}` is new", now.name)),
            Some(had) if had.definition != now.definition => {
                for (field, old, new) in definition_diff(&had.definition, &now.definition) {
                    changes.push(format!("`{}`: {field} was {old}, now {new}", now.name));
                }
            }
            Some(_) => {}
        }
    }
    for had in run.resources.iter().filter(|had| !is_left_out(had)) {
        if !planned.iter().any(|now| now.name == had.name) {
            changes.push(format!("`{}` is no longer in the plan", had.name));
        }
    }
    changes.extend(changed_steps(run, steps));
    if changes.is_empty() {
        return Ok(());
    }
    Err(Failure {
        why: changes,
        ..Failure::new(
            Exit::Refused,
            format!("the plan changed since run {} began", run.id),
            "nothing was written; the run's progress is kept",
            format!(
                "`rekindle run --accept-plan-change {typed}` starts the changed resources over and goes on with \
                 the others"
            ),
        )
    })
}

/// Returns the failure for a target that another state file has leased.
pub fn in_use(place: &str, owner: &LeaseOwner, typed: &str) -> Failure {
    let (does, next) = if is_gone(owner) {
        let next =
            format!("wait 30 s: by then that lease has run out, then `rekindle run {typed}`");
        (", which is gone, had it", next)
    } else {
        let next = format!(
            "wait for that run, or end it there with `kill {}` (the lease of a process that died runs out within 30 s), then \
             `rekindle run {typed}`",
            owner.pid
        );
        (" writes to it", next)
    };
    Failure::new(
        Exit::InUse,
        format!("{place} is in use"),
        "nothing was written",
        next,
    )
    .why(format!(
        "run {} of pid {} on {}{does} (state file {})",
        owner.run, owner.pid, owner.host, owner.state_path
    ))
}

/// Returns whether the process was on this host, and is there no more. Of another container with the same name it may be wrong:
/// what is said then costs half a minute.
fn is_gone(owner: &LeaseOwner) -> bool {
    let pid = i32::try_from(owner.pid).ok().and_then(Pid::from_raw);
    owner.host == host_name() && pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Returns the failure for a source or target that cannot be asked.
#[must_use]
pub fn refused_by_edge(error: &EdgeError, plan: &str, typed: &str) -> Failure {
    let queue = match error.subject.as_deref() {
        Some(Subject::Queue { name }) => Some(name),
        _ => None,
    };
    if let Some(queue) = queue {
        let next = if error.kind == ErrorKind::Missing {
            format!("`vendor/bin/console queue:setup` of the shop makes `{queue}`")
        } else {
            format!("remove `declare`, where `{queue}` is as the shop wants it; else delete it")
        };
        return refused(error, plan, &next, typed);
    }
    let is_number = error.subject.as_deref() == Some(&Subject::Database);
    let next = match error.kind {
        ErrorKind::Missing if is_number => {
            "name a database of that Redis at the end of the target's URL (`CONFIG GET databases` there says how many it has, counted \
             from 0)"
        }
        ErrorKind::Credentials => "check user, password and rights in the URL of the plan",
        ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Busy => {
            "check that the server is up and the URL right"
        }
        ErrorKind::Missing => "check the names in the plan against the database",
        _ => "mend what the cause says",
    };
    refused(error, plan, next, typed)
}

fn refused(error: &EdgeError, plan: &str, next: &str, typed: &str) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("plan `{plan}` was refused before the first write"),
        "nothing was written",
        format!("{next}, then `rekindle run {typed}`"),
    )
    .because(error)
}

/// Returns the failure for a journal that cannot be opened.
#[must_use]
pub fn refused_by_journal(error: &JournalError, typed: &str) -> Failure {
    let exit = match error {
        JournalError::InUse { .. } => Exit::InUse,
        JournalError::DiskFull { .. } => Exit::Stopped,
        JournalError::Illegal(_) | JournalError::Encoding(_) => Exit::Bug,
        _ => Exit::Refused,
    };
    journal_failure(exit, error, typed)
}

fn journal_failure(exit: Exit, error: &JournalError, typed: &str) -> Failure {
    // Whoever only looks at the run that is at work says no rows.
    let typed = match error {
        JournalError::InUse { .. } => without_scope(typed),
        _ => typed,
    };
    Failure {
        why: chain(error).into_iter().skip(1).collect(),
        ..Failure::new(
            exit,
            error.to_string(),
            error.safe(),
            error.next().replace("PLAN", typed),
        )
    }
}

/// Returns the failure for a run that a signal ended; `paused` is what to type of the plan alone, where somebody paused it.
#[must_use]
pub fn interrupted(typed: &str, paused: Option<&str>) -> Failure {
    let goes_on = format!("`rekindle run {typed}` goes on from there");
    Failure::new(
        Exit::Interrupted,
        "interrupted",
        "every stored chunk is journaled",
        match paused {
            Some(plan) => format!("it is paused: `rekindle unpause {plan}`, then {goes_on}"),
            None => goes_on,
        },
    )
}

/// Returns the failure for a run that a signal ended among its steps: `rows` says what became of those.
#[must_use]
pub fn interrupted_in_steps(failure: Failure, rows: &str) -> Failure {
    Failure {
        safe: format!(
            "{rows}; the steps that are done are journaled, and the one at work is looked at first"
        ),
        ..failure
    }
}

/// Returns the failure for a change that could not be recorded.
#[must_use]
pub fn refused_by_book(error: &BookError, typed: &str) -> Failure {
    match error {
        BookError::Journal(error @ (JournalError::Illegal(_) | JournalError::Encoding(_))) => {
            journal_failure(Exit::Bug, error, typed)
        }
        BookError::Journal(error) => journal_failure(Exit::Stopped, error, typed),
        bug => Failure::new(
            Exit::Bug,
            "a bug in rekindle stopped the run",
            "what was journaled stays valid",
            format!(
                "report it with the output of `rekindle history`, then try `rekindle run {typed}`"
            ),
        )
        .because(bug),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RunId;

    #[test]
    fn nobody_is_told_to_end_a_process_that_is_gone() {
        let said = |host: String, pid: u32| {
            let owner = LeaseOwner {
                state: "s".to_owned(),
                state_path: "/var/shop.sqlite".to_owned(),
                host,
                pid,
                run: RunId::from_text("7F3K"),
            };
            let failure = in_use("search at db.test:9200", &owner, "p.yaml");
            (failure.why.join("\n"), failure.next)
        };
        // Beyond what any kernel gives out.
        let nobody = 2_000_000_000;
        let (why, next) = said(host_name(), nobody);
        assert!(why.contains("which is gone"), "{why}");
        assert_eq!(
            next,
            "wait 30 s: by then that lease has run out, then `rekindle run p.yaml`"
        );
        let elsewhere = format!("not-{}", host_name());
        for (host, pid) in [(host_name(), std::process::id()), (elsewhere, nobody)] {
            let (why, next) = said(host, pid);
            assert!(
                why.contains(" writes to it (state file /var/shop.sqlite)"),
                "{why}"
            );
            assert!(next.contains(&format!("`kill {pid}`")), "{next}");
        }
    }
}
