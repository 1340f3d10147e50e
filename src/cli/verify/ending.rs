//! How a comparison ends: the exit code, and what to type next.

use super::Found;
use crate::{
    engine::Findings,
    failure::{Exit, Failure, without_scope},
    report::human::counted,
};

/// Returns why the command does not end with 0, if it does not.
pub fn failure(found: &Found, typed: &str, repaired: bool) -> Option<Failure> {
    let findings = &found.findings;
    let (total, left) = (findings.total(), findings.left());
    let extra = found.extra_left();
    let mut troubles: Vec<String> = findings
        .resources
        .iter()
        .filter_map(|one| Some(format!("`{}`: {}", one.name, one.trouble.as_ref()?)))
        .collect();
    let unlisted = |failed: bool| {
        let resources = findings.resources.iter();
        resources.filter_map(move |one| {
            let unlisted = one.unlisted.as_ref().filter(|one| one.failed == failed)?;
            Some(format!("`{}`: orphans: {}", one.name, unlisted.why))
        })
    };
    troubles.extend(unlisted(true));
    let safe = match (repaired, found.pruned > 0) {
        (false, false) => "nothing was written",
        (true, false) => {
            "rows that differed were rewritten from the source; nothing else was written"
        }
        (false, true) => "what no row owned was removed; nothing else was written",
        (true, true) => "rows that differed were rewritten, and what no row owned was removed",
    };
    if left > 0 || total.moving > 0 || extra > 0 {
        let next = if left == 0 && extra > 0 && found.left.is_some() {
            format!(
                "`rekindle verify {typed} --orphans` names what stays; remove by hand what nobody writes"
            )
        } else if left == 0 && extra > 0 {
            format!("`rekindle verify {typed} --prune` removes what no row owns, after it asked")
        } else if repaired {
            format!(
                "`rekindle dead-letters show {}` may say why rows are refused; then repeat this command",
                without_scope(typed)
            )
        } else {
            format!("`rekindle verify {typed} --repair` rewrites these keys and no others")
        };
        // Names that no row owns are no keys that differ: rewriting leaves them.
        let next = if left + total.moving > 0 && extra > 0 && found.left.is_none() {
            format!(
                "{next}; `rekindle verify {typed} --prune` removes what no row owns, after it asked"
            )
        } else {
            next
        };
        let mut why = Vec::new();
        if extra > 0 {
            why.push(format!(
                "the targets hold {} that no row owns",
                counted(extra, "name")
            ));
        }
        if total.moving > 0 {
            why.push(format!(
                "the rows of {} changed each time they were looked at",
                counted(total.moving, "key")
            ));
        }
        why.extend(troubles);
        let what = match left {
            0 => "the targets are not what the source says".to_owned(),
            1 => "1 key is not what the source says".to_owned(),
            left => format!("{} are not what the source says", counted(left, "key")),
        };
        return Some(Failure {
            why,
            ..Failure::new(Exit::Differences, what, safe, next)
        });
    }
    if !troubles.is_empty() {
        return Some(Failure {
            why: troubles,
            ..Failure::new(
                Exit::Stopped,
                "not everything could be compared",
                safe,
                if findings.uncompared().0 == 0 {
                    format!("`rekindle verify {typed} --skip RESOURCE` leaves those in files out")
                } else {
                    format!(
                        "mend the causes, then `rekindle verify {typed}` goes on from there; `--skip` leaves resources out"
                    )
                },
            )
        });
    }
    if let (0, 1..) = findings.looked_for_extra() {
        return Some(Failure {
            why: unlisted(false).collect(),
            ..Failure::new(
                Exit::Stopped,
                "orphans were looked for nowhere",
                safe,
                "mend what is named above where that can be done, or leave out `--orphans` and `--prune`",
            )
        });
    }
    unrestorable(findings, typed)
}

/// Returns what is said where nothing is left to do but in the source.
fn unrestorable(findings: &Findings, typed: &str) -> Option<Failure> {
    let total = findings.total();
    let mut why = Vec::new();
    if total.dead_letters > 0 {
        let rows = counted(total.dead_letters, "row");
        why.push(format!("{rows} broken in the source"));
    }
    if findings.shared() > 0 {
        why.push(format!(
            "{} written by several rows, of which only the last one can stand",
            counted(findings.shared(), "key")
        ));
    }
    (!why.is_empty()).then(|| Failure {
        why,
        ..Failure::new(
            Exit::DeadLetters,
            "not every row can be in the targets",
            "no difference was found in any other row",
            format!(
                "mend them in the source; `rekindle dead-letters show {}` names broken ones of the last run",
                without_scope(typed)
            ),
        )
    })
}
