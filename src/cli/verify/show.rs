//! What a comparison found, for people and for programs.

use super::Found;
use crate::{
    cli::{render::say, table::table},
    engine::{Findings, ResourceFindings},
    failure::{Exit, Failure},
    plan::{Level, Plan},
    report::human::{count, counted, printable},
};

/// Prints the table, the first keys, and the verdict.
pub fn tell(findings: &Findings, level: Level) {
    let rows: Vec<_> = findings
        .resources
        .iter()
        .map(|one| {
            vec![
                printable(one.name.as_str()),
                printable(&one.to),
                count(one.counts.rows),
                count(one.counts.missing),
                count(one.counts.different),
                one.extra.map_or_else(|| "-".to_owned(), count),
                count(one.counts.repaired),
                count(one.counts.dead_letters),
                verdict(one, level),
            ]
        })
        .collect();
    let header = [
        "resource",
        "to",
        "rows",
        "missing",
        "different",
        "extra",
        "rewritten",
        "dead letters",
        "verdict",
    ];
    say(&table(&header, &rows, &[2, 3, 4, 5, 6, 7]));
    for one in &findings.resources {
        for (kind, number, keys) in [
            ("missing", one.counts.missing, &one.missing),
            ("different", one.counts.different, &one.different),
            ("extra", one.extra.unwrap_or(0), &one.extra_keys),
        ] {
            let name = printable(one.name.as_str());
            for key in keys {
                say(&format!("  {name}: {kind}: {}", printable(key)));
            }
            let more = number.saturating_sub(keys.len() as u64);
            if more > 0 {
                say(&format!("  {name}: {kind}: and {} more", count(more)));
            }
        }
    }
    for one in &findings.resources {
        if let Some(why) = &one.unlisted {
            let name = printable(one.name.as_str());
            say(&format!(
                "  {name}: extra: not looked for: {}",
                printable(why)
            ));
        }
    }
    say(&whole(findings, level));
}

/// Returns what is to be said about one resource.
fn verdict(one: &ResourceFindings, level: Level) -> String {
    let counts = &one.counts;
    if let Some(trouble) = &one.trouble {
        return format!("not compared: {}", printable(trouble));
    }
    if counts.rows == 0 {
        return "no rows in the source".to_owned();
    }
    let mut parts = Vec::new();
    if one.left() > 0 {
        parts.push("differs".to_owned());
    }
    if counts.moving > 0 {
        parts.push(format!("{} kept changing", counted(counts.moving, "row")));
    }
    if one.extra.is_some_and(|extra| extra > 0) {
        parts.push("holds what no row owns".to_owned());
    }
    if parts.is_empty() {
        parts.push(
            match level {
                Level::Presence => "every row is there; contents were not compared",
                Level::Sample | Level::Full => "equal",
            }
            .to_owned(),
        );
    }
    if let Some(sample) = &one.sample {
        parts.push(format!(
            "{} of {} compared: with 95 % confidence at most {:.3} % of all differ",
            count(counts.compared),
            counted(counts.rows, "row"),
            sample.at_most_percent
        ));
    }
    parts.join("; ")
}

/// Returns the verdict over everything, in one line.
fn whole(findings: &Findings, level: Level) -> String {
    let total = findings.total();
    let uncompared = findings
        .resources
        .iter()
        .filter(|one| one.trouble.is_some())
        .count() as u64;
    let mut parts = Vec::new();
    let found = total.missing + total.different;
    if total.rows == 0 {
        parts.push("nothing was compared: the source has no rows".to_owned());
    } else if found == 0 {
        parts.push(match level {
            Level::Presence => format!("every one of {} is there", counted(total.rows, "row")),
            Level::Sample => format!(
                "no difference among the {} that were drawn",
                counted(total.compared, "row")
            ),
            Level::Full => format!("no difference in {}", counted(total.compared, "row")),
        });
    } else {
        parts.push(format!(
            "{} of {} missing, {} different",
            count(total.missing),
            counted(total.compared, "row"),
            count(total.different)
        ));
    }
    if findings.extra() > 0 {
        parts.push(format!(
            "{} that no row owns",
            counted(findings.extra(), "name")
        ));
    }
    if total.repaired > 0 {
        parts.push(format!("{} rewritten", count(total.repaired)));
    }
    if total.moving > 0 {
        parts.push(format!(
            "{} changed each time they were looked at",
            count(total.moving)
        ));
    }
    if total.dead_letters > 0 {
        parts.push(format!(
            "{} cannot be restored as they are",
            counted(total.dead_letters, "row")
        ));
    }
    if uncompared > 0 {
        parts.push(format!("{} not compared", counted(uncompared, "resource")));
    }
    parts.join("; ")
}

/// Returns the findings as one object.
pub fn json(plan: &Plan, level: Level, found: &Found) -> serde_json::Value {
    let findings = &found.findings;
    let resources: Vec<_> = findings
        .resources
        .iter()
        .map(|one| {
            serde_json::json!({
                "resource": one.name, "to": one.to, "rows": one.counts.rows, "compared": one.counts.compared,
                "missing": one.counts.missing, "different": one.counts.different, "repaired": one.counts.repaired,
                "moving": one.counts.moving, "dead_letters": one.counts.dead_letters,
                "extra": one.extra, "missing_keys": one.missing, "different_keys": one.different,
                "extra_keys": one.extra_keys, "extra_unknown": one.unlisted, "not_compared": one.trouble,
                "sample": one.sample.map(|sample| serde_json::json!({
                    "one_in": sample.one_in, "confidence": 0.95, "at_most_percent": sample.at_most_percent,
                })),
                "verdict": verdict(one, level),
            })
        })
        .collect();
    let total = findings.total();
    serde_json::json!({
        "plan": plan.name, "level": level.label(), "rows": total.rows, "compared": total.compared,
        "missing": total.missing, "different": total.different, "repaired": total.repaired, "moving": total.moving,
        "dead_letters": total.dead_letters, "extra": findings.extra(), "pruned": found.pruned, "resources": resources, "verdict": whole(findings, level),
    })
}

/// Returns why the command does not end with 0, if it does not.
pub fn failure(found: &Found, typed: &str, repaired: bool) -> Option<Failure> {
    let findings = &found.findings;
    let (total, left) = (findings.total(), findings.left());
    let extra = findings.extra().saturating_sub(found.pruned);
    let troubles: Vec<String> = findings
        .resources
        .iter()
        .filter_map(|one| Some(format!("`{}`: {}", one.name, one.trouble.as_ref()?)))
        .collect();
    let safe = match (repaired, found.pruned > 0) {
        (false, false) => "nothing was written",
        (true, false) => {
            "rows that differed were rewritten from the source; nothing else was written"
        }
        (false, true) => "what no row owned was removed; nothing else was written",
        (true, true) => "rows that differed were rewritten, and what no row owned was removed",
    };
    if left > 0 || total.moving > 0 || extra > 0 {
        let next = if left == 0 && extra > 0 {
            format!("`rekindle verify {typed} --prune` removes what no row owns, after it asked")
        } else if repaired {
            format!(
                "`rekindle dead-letters show {typed}` may say why rows are refused; then repeat this command"
            )
        } else {
            format!("`rekindle verify {typed} --repair` rewrites these rows and no others")
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
                "{} changed each time they were looked at",
                counted(total.moving, "row")
            ));
        }
        why.extend(troubles);
        let what = match left {
            0 => "the targets are not what the source says".to_owned(),
            1 => "1 row is not what the source says".to_owned(),
            left => format!("{} are not what the source says", counted(left, "row")),
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
                format!(
                    "mend the causes, then `rekindle verify {typed}` goes on from there; `--skip` leaves resources out"
                ),
            )
        });
    }
    (total.dead_letters > 0).then(|| {
        Failure::new(
            Exit::DeadLetters,
            format!(
                "{} cannot be restored as they are",
                counted(total.dead_letters, "row")
            ),
            "no difference was found in any other row",
            format!("mend them in the source; `rekindle dead-letters show {typed}` names those of the last run"),
        )
    })
}
