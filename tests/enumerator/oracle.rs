//! What must be true after a blow, and after the run that follows it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    scene::{Ran, Scene, To},
    search::Search,
    shop::Shop,
    tracer::End,
};

/// Something is wrong.
#[derive(Debug)]
pub struct Complaint {
    /// Which rule was broken.
    pub oracle: &'static str,
    /// How.
    pub text: String,
}

/// What an undisturbed run ends in.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Its exit code.
    pub code: i32,
    /// What its target holds.
    pub content: BTreeMap<String, Vec<u8>>,
    /// The files beside its state file.
    pub state_files: Vec<String>,
    /// Rows, bytes and dead letters by its own count.
    totals: [Value; 3],
}

impl Reference {
    /// Returns what a second run ends in: it builds once more, and finds its other steps done.
    pub fn once_more(&self) -> Self {
        let mut twice = self.clone();
        if let Some(builds) = twice.content.get_mut("builds") {
            *builds = b"2".to_vec();
        }
        twice
    }
}

type Verdict = Result<(), Complaint>;

fn complain(oracle: &'static str, text: impl Into<String>) -> Verdict {
    let text = text.into();
    Err(Complaint { oracle, text })
}

/// Runs the plan undisturbed and holds the result against the shop itself.
pub fn reference(shop: &Shop, scene: &Scene, to: &To) -> Reference {
    let ran = scene.run(&[]);
    // One row is NULL.
    assert_eq!(ran.end, End::Code(4), "{}", scene.printed("stderr"));
    let content = scene.content();
    let mut expected = 0;
    for (resource, rows) in shop {
        for row in rows {
            assert!(scene.holds(&content, resource, row), "{resource} {row:?}");
            expected += usize::from(row.value.is_some());
        }
    }
    match to {
        To::Redis(_) | To::Queues(..) => {
            assert_eq!(content.len(), expected, "{:?}", content.keys());
        }
        // One more for the row that is read again after its publisher was called.
        To::Files => assert_eq!(content.len(), shop.len() + 1, "{:?}", content.keys()),
        To::Search(_) => Search::check(&content, expected),
        To::Steps(_) => {
            for index in 0..5 {
                assert!(scene.is_done(&content, index), "step {index}");
            }
            assert_eq!(content["calls"], b"migrate\nwarm\n");
            // Files as above, two folders, and what was called and built.
            assert_eq!(content.len(), shop.len() + 1 + 4, "{:?}", content.keys());
        }
    }
    let status = scene
        .status()
        .expect("status works")
        .expect("there is a run");
    Reference {
        code: 4,
        content,
        state_files: scene.state_files(),
        totals: totals(&status),
    }
}

/// Rule: the journal never leads the target. Holds at every instant, before anything is mended.
pub fn journal_does_not_lead(shop: &Shop, scene: &Scene) -> Verdict {
    let status = match scene.status() {
        Ok(Some(status)) => status,
        Ok(None) => return Ok(()),
        Err(text) => return complain("status", text),
    };
    let content = scene.content();
    let steps = status["steps"].as_array();
    for (index, step) in steps.into_iter().flatten().enumerate() {
        if step["state"] == "done" && !scene.is_done(&content, index) {
            return complain("step", format!("the journal says done of {step}"));
        }
    }
    let run = status["run"].as_str().unwrap_or_default();
    // From `finishing` on the markers may be gone; the rows may not.
    let marked = !matches!(status["state"].as_str(), Some("finishing" | "done"));
    for resource in status["resources"].as_array().into_iter().flatten() {
        let name = resource["resource"].as_str().unwrap_or_default();
        // What is published is not in the target yet, and the journal says no more than that.
        if !scene.is_direct() && resource["state"] != "done" {
            continue;
        }
        let partitions = resource["partitions"].as_array();
        for partition in partitions.into_iter().flatten() {
            let chunk = partition["chunk"].as_u64().unwrap_or_default();
            let Some(number) = partition["partition"].as_u64() else {
                return complain("status", format!("no partition number in {status}"));
            };
            if marked
                && let Some(marker) = scene.marker(&content, run, number)
                && marker < chunk
            {
                return complain(
                    "marker",
                    format!("`{name}`: the journal has chunk {chunk}, the target {marker}"),
                );
            }
            let Some(after) = partition["after"].as_str() else {
                continue;
            };
            let Ok(after) = after.parse::<i64>() else {
                return complain("status", format!("no cursor in {status}"));
            };
            // Tables this small are one partition.
            for row in shop[name].iter().filter(|row| row.id <= after) {
                if !scene.holds(&content, name, row) {
                    return complain(
                        "row",
                        format!(
                            "`{name}`: the journal is at {after}, and {} is not in the target",
                            row.key
                        ),
                    );
                }
            }
        }
    }
    Ok(())
}

/// Rule: the run that follows ends as an undisturbed one, and does nothing over that was recorded.
pub fn ends_as(reference: &Reference, scene: &Scene, ran: &Ran) -> Verdict {
    if ran.end != End::Code(reference.code) {
        return complain(
            "end",
            format!(
                "{:?}: {}{}",
                ran.end,
                scene.printed("stdout"),
                scene.printed("stderr")
            ),
        );
    }
    nothing_redone(ran)?;
    let content = scene.content();
    if content != reference.content {
        return complain("content", difference(&reference.content, &content));
    }
    let files = scene.state_files();
    if files != reference.state_files {
        return complain("left over", format!("beside the state file: {files:?}"));
    }
    match scene.status() {
        Ok(Some(status)) if totals(&status) == reference.totals => Ok(()),
        Ok(status) => complain("totals", format!("{status:?}")),
        Err(text) => complain("status", text),
    }
}

/// Returns whether the run is done by its own journal: the next one is a new run.
pub fn is_done(scene: &Scene) -> bool {
    let status = scene.status().ok().flatten();
    status.is_some_and(|status| status["state"] == "done")
}

/// Rule: nobody touched the target, so work that is void was recorded before it was done.
pub fn nothing_redone(ran: &Ran) -> Verdict {
    match ran.events.iter().find(|event| event["event"] == "redone") {
        Some(event) => complain("redone", event.to_string()),
        None => Ok(()),
    }
}

fn totals(status: &Value) -> [Value; 3] {
    ["rows", "bytes", "dead_letters"].map(|name| status[name].clone())
}

fn difference(wanted: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) -> String {
    let names: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let lines: Vec<String> = names
        .into_iter()
        .filter(|name| wanted.get(*name) != found.get(*name))
        .map(|name| {
            let show = |side: Option<&Vec<u8>>| {
                side.map_or_else(
                    || "nothing".to_owned(),
                    |bytes| format!("{:?}", String::from_utf8_lossy(bytes)),
                )
            };
            format!(
                "{name}: {} instead of {}",
                show(found.get(name)),
                show(wanted.get(name))
            )
        })
        .collect();
    lines.join("\n")
}
