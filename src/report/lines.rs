//! Plain lines for pipes and logs: what happened, and where each resource is every few seconds.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, Instant},
};

use super::{
    event::{Event, Observer},
    human::{bytes, count, counted, duration, printable},
};
use crate::ids::ResourceName;

/// How often a resource under way gets a line: often enough for a log that someone follows, rare enough to keep one.
const EVERY: Duration = Duration::from_secs(5);

/// Writes lines.
pub struct PlainLines<W> {
    out: W,
    begun: Instant,
    rows_before: u64,
    /// Estimated rows, rows at the first event of this attempt, and when the last line was written.
    resources: BTreeMap<ResourceName, (u64, Option<(u64, Instant)>, Instant)>,
}

impl<W: Write + Send> PlainLines<W> {
    /// Returns an observer that writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            begun: Instant::now(),
            rows_before: 0,
            resources: BTreeMap::new(),
        }
    }

    fn line(&mut self, text: &str) {
        // A reader that went away must not end a run.
        let _ = writeln!(self.out, "{}", printable(text));
    }
}

impl<W: Write + Send> Observer for PlainLines<W> {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::RunStarted {
                run,
                attempt,
                resources,
                state,
                ..
            } => {
                self.begun = Instant::now();
                self.rows_before = resources.iter().map(|one| one.rows).sum();
                let goes_on = if *attempt > 1 {
                    format!(
                        "run {run} goes on (attempt {attempt}) after {}",
                        counted(self.rows_before, "row")
                    )
                } else {
                    format!("run {run} begins")
                };
                self.line(&format!("{goes_on}, state file {state}"));
                let now = Instant::now();
                for one in resources {
                    self.resources
                        .insert(one.name.clone(), (one.estimated_rows, None, now));
                }
            }
            Event::ResourceStarted {
                resource,
                estimated_rows,
                partitions,
            } => {
                self.resources
                    .insert(resource.clone(), (*estimated_rows, None, Instant::now()));
                self.line(&format!(
                    "{resource}: about {} in {}",
                    counted(*estimated_rows, "row"),
                    counted(*partitions as u64, "partition")
                ));
            }
            Event::ChunkStored {
                resource,
                rows,
                bytes: stored,
                ..
            } => {
                let now = Instant::now();
                let Some((estimated, first, told)) = self.resources.get_mut(resource) else {
                    return;
                };
                let (rows_at_first, since) = *first.get_or_insert((*rows, now));
                if told.elapsed() < EVERY {
                    return;
                }
                *told = now;
                let rate = (rows - rows_at_first.min(*rows)) as f64
                    / since.elapsed().as_secs_f64().max(0.001);
                let eta = estimated
                    .checked_sub(*rows)
                    .filter(|left| rate >= 1.0 && *left > 0)
                    .map_or_else(String::new, |left| {
                        format!(
                            ", about {} left",
                            duration(Duration::from_secs_f64(left as f64 / rate))
                        )
                    });
                let text = format!(
                    "{resource}: {} of about {} rows, {}, {} rows/s{eta}",
                    count(*rows),
                    count(*estimated),
                    bytes(*stored),
                    count(rate as u64)
                );
                self.line(&text);
            }
            Event::ResourceSynced {
                resource,
                rows,
                bytes: stored,
                dead_letters,
            } => {
                let dead = if *dead_letters > 0 {
                    format!(", {}", counted(*dead_letters, "dead letter"))
                } else {
                    String::new()
                };
                self.line(&format!(
                    "{resource}: synced, {}, {}{dead}",
                    counted(*rows, "row"),
                    bytes(*stored)
                ));
            }
            Event::Waiting {
                resource,
                error,
                wait_ms,
            } => {
                let about = resource
                    .as_ref()
                    .map_or_else(String::new, |name| format!("{name}: "));
                let wait = duration(Duration::from_millis(*wait_ms));
                self.line(&format!("{about}{error}; trying again in {wait}"));
            }
            Event::Redone { text, .. } => self.line(text),
            Event::ResourceBlocked { resource, reason } => {
                self.line(&format!("{resource}: blocked: {reason}"))
            }
            Event::Notice { text } => self.line(text),
            Event::RunEnded {
                run,
                state,
                rows,
                bytes: stored,
                dead_letters,
                elapsed_ms,
            } => {
                let here = rows.saturating_sub(self.rows_before);
                let rate = here as f64 / (*elapsed_ms as f64 / 1000.0).max(0.001);
                let dead = if *dead_letters > 0 {
                    format!(", {}", counted(*dead_letters, "dead letter"))
                } else {
                    String::new()
                };
                self.line(&format!(
                    "run {run} is {state}: {}, {}{dead}; this attempt {} in {} ({} rows/s)",
                    counted(*rows, "row"),
                    bytes(*stored),
                    counted(here, "row"),
                    duration(Duration::from_millis(*elapsed_ms)),
                    count(rate as u64)
                ));
            }
        }
    }
}
