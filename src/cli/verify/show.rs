//! What a comparison found, for people and for programs.

use super::Found;
use crate::{
    cli::{render::say, table::table, wrap::say_wrapped},
    engine::{Findings, ResourceFindings},
    plan::{Level, Plan},
    report::human::{count, counted, printable},
    scratch::Counts,
};

/// Prints the table, the first keys, and the verdict.
pub fn tell(findings: &Findings, level: Level) {
    // Two that are only now and then asked for would take the verdict's place on a terminal.
    let looked = findings.resources.iter().any(|one| one.extra.is_some());
    let rewrote = findings.resources.iter().any(|one| one.counts.repaired > 0);
    let rows: Vec<_> = findings
        .resources
        .iter()
        .map(|one| {
            let mut cells = vec![
                printable(one.name.as_str()),
                printable(&one.to),
                count(one.counts.rows),
                count(one.counts.dead_letters),
                count(one.counts.keys),
                count(one.counts.missing),
                count(one.counts.different),
            ];
            if looked {
                cells.push(one.extra.map_or_else(|| "-".to_owned(), count));
            }
            if rewrote {
                cells.push(count(one.counts.repaired));
            }
            cells.push(verdict(one, level));
            cells
        })
        .collect();
    let mut header = vec![
        "resource",
        "to",
        "rows",
        "broken rows",
        "keys",
        "missing keys",
        "different keys",
    ];
    header.extend(looked.then_some("extra keys"));
    header.extend(rewrote.then_some("rewritten keys"));
    let numbers: Vec<_> = (2..header.len()).collect();
    header.push("verdict");
    say(&table(&header, &rows, &numbers));
    for one in &findings.resources {
        let name = printable(one.name.as_str());
        for (reason, rows) in &one.broken.reasons {
            say_wrapped(&format!(
                "  {name}: broken in the source: {}: {}",
                counted(*rows, "row"),
                printable(reason)
            ));
        }
        for (kind, number, keys) in [
            ("missing", one.counts.missing, &one.missing),
            ("different", one.counts.different, &one.different),
            ("written by several rows", one.shared, &one.shared_keys),
            ("extra", one.extra.unwrap_or(0), &one.extra_keys),
            ("broken", one.counts.dead_letters, &one.broken.keys),
        ] {
            for key in keys {
                say_wrapped(&format!("  {name}: {kind}: {}", printable(key)));
            }
            let more = number.saturating_sub(keys.len() as u64);
            if more > 0 {
                say_wrapped(&format!("  {name}: {kind}: and {} more", count(more)));
            }
        }
    }
    for one in &findings.resources {
        if let Some(unlisted) = &one.unlisted {
            let name = printable(one.name.as_str());
            say_wrapped(&format!(
                "  {name}: extra: not looked for: {}",
                printable(&unlisted.why)
            ));
        }
    }
    say_wrapped(&whole(findings, level));
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
        parts.push(format!("{} kept changing", counted(counts.moving, "key")));
    }
    if one.extra.is_some_and(|extra| extra > 0) {
        parts.push("holds what no row owns".to_owned());
    }
    if one.shared > 0 {
        parts.push(format!(
            "of rows with one key the last one stands ({})",
            counted(one.shared, "key")
        ));
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
            "{} of {} compared: with 95 % confidence at most {:.3} % of all keys differ",
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
    let (uncompared, in_files) = findings.uncompared();
    let mut parts = Vec::new();
    let found = total.missing + total.different;
    if in_files == findings.resources.len() {
        parts.push("nothing was compared".to_owned());
    } else if total.rows == 0 {
        parts.push("nothing was compared: the source has no rows".to_owned());
    } else if found == 0 {
        parts.push(match level {
            Level::Presence => format!("every one of {} is there", compared(&total)),
            Level::Sample => format!(
                "no difference among the {} that were drawn",
                compared(&total)
            ),
            Level::Full => format!("no difference in {}", compared(&total)),
        });
    } else {
        parts.push(format!(
            "{} of {} missing, {} different",
            count(total.missing),
            counted(total.keys, "key"),
            count(total.different)
        ));
    }
    parts.extend(extra(findings));
    if findings.shared() > 0 {
        parts.push(format!(
            "{} written by several rows",
            counted(findings.shared(), "key")
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
            "{} broken in the source",
            counted(total.dead_letters, "row")
        ));
    }
    if uncompared > 0 {
        let resources = counted(uncompared as u64, "resource");
        parts.push(format!("{resources} not compared"));
    }
    if in_files > 0 {
        let resources = counted(in_files as u64, "resource");
        parts.push(format!("{resources} in files, which are not compared"));
    }
    parts.join("; ")
}

/// Returns how much was compared: in rows, and in keys where that is another number.
fn compared(total: &Counts) -> String {
    let rows = counted(total.compared, "row");
    if total.keys == total.compared {
        return rows;
    }
    format!("{rows} with {}", counted(total.keys, "key"))
}

/// Returns what is said about names that no row owns, where they were to be looked for: never that there are none where
/// nobody looked.
fn extra(findings: &Findings) -> Option<String> {
    let (looked, asked) = findings.looked_for_extra();
    let found = match (findings.extra(), looked) {
        (_, 0) => return (asked > 0).then(|| "orphans were looked for nowhere".to_owned()),
        (0, _) => "no orphans".to_owned(),
        (extra, _) => format!("{} that no row owns", counted(extra, "name")),
    };
    Some(if looked == asked {
        found
    } else {
        format!("{found} in {looked} of {asked} resources, and not looked for in the others")
    })
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
                "keys": one.counts.keys, "missing": one.counts.missing, "different": one.counts.different, "repaired": one.counts.repaired,
                "moving": one.counts.moving, "dead_letters": one.counts.dead_letters,
                "extra": one.extra, "missing_keys": one.missing, "different_keys": one.different,
                "extra_keys": one.extra_keys, "extra_unknown": one.unlisted.as_ref().map(|one| &one.why),
                "not_compared": one.trouble, "shared": one.shared, "shared_keys": one.shared_keys,
                "broken": one.broken.reasons.iter().map(|(reason, rows)| serde_json::json!({ "reason": reason, "rows": rows }))
                    .collect::<Vec<_>>(),
                "broken_keys": one.broken.keys,
                "sample": one.sample.map(|sample| serde_json::json!({
                    "one_in": sample.one_in, "confidence": 0.95, "at_most_percent": sample.at_most_percent,
                })),
                "verdict": verdict(one, level),
            })
        })
        .collect();
    let total = findings.total();
    let (looked, asked) = findings.looked_for_extra();
    let orphans = (asked > 0).then(|| serde_json::json!({ "asked": asked, "looked": looked }));
    serde_json::json!({
        "plan": plan.name, "level": level.label(), "rows": total.rows, "compared": total.compared, "keys": total.keys,
        "missing": total.missing, "different": total.different, "repaired": total.repaired, "moving": total.moving,
        "dead_letters": total.dead_letters, "extra": findings.extra(), "pruned": found.pruned, "extra_left": found.extra_left(), "orphans": orphans,
        "shared": findings.shared(), "resources": resources, "verdict": whole(findings, level),
    })
}
