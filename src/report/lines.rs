//! Plain lines for pipes and logs: what happened, and where each resource is every few seconds.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, Instant},
};

use super::{
    event::{Event, Observer, ResourceStanding},
    human::{bytes, count, counted, duration, in_queue, moment, printable, rate},
};
use crate::ids::{ResourceName, RunId};

/// How often a resource under way gets a line: often enough for a log that someone follows, rare enough to keep one.
const EVERY: Duration = Duration::from_secs(5);

/// Writes lines.
pub struct PlainLines<W> {
    out: W,
    /// Rows that this attempt stored, and how many each resource had when it was last heard of.
    here: u64,
    seen: BTreeMap<ResourceName, u64>,
    /// When the last line about an edge that is waited for was written, and about which.
    held: Option<(String, Instant)>,
    /// The same of edges that are tried again.
    tried: BTreeMap<String, Instant>,
    /// When the last line about a queue was written.
    queues: BTreeMap<String, Instant>,
    resources: BTreeMap<ResourceName, UnderWay>,
}

/// A resource that is being restored.
struct UnderWay {
    estimated_rows: u64,
    /// Rows at the first chunk of this attempt, and when that was: what the rate is measured from.
    first: Option<(u64, Instant)>,
    /// When its last line was written.
    told: Instant,
}

impl UnderWay {
    fn new(estimated_rows: u64) -> Self {
        Self {
            estimated_rows,
            first: None,
            told: Instant::now(),
        }
    }
}

impl<W: Write + Send> PlainLines<W> {
    /// Returns an observer that writes to `out`.
    pub const fn new(out: W) -> Self {
        Self {
            out,
            here: 0,
            seen: BTreeMap::new(),
            held: None,
            tried: BTreeMap::new(),
            queues: BTreeMap::new(),
            resources: BTreeMap::new(),
        }
    }

    fn line(&mut self, text: &str) {
        // A reader that went away must not end a run.
        let _ = writeln!(self.out, "{}", printable(text));
    }

    /// Tells what a run waits for, and how fast it goes.
    fn slowed(&mut self, event: &Event) {
        match event {
            Event::Held {
                place,
                error,
                until_ms,
                waited_ms,
                tries,
                ..
            } => self.held(place, error, (*waited_ms, *until_ms), *tries),
            Event::Recovered {
                place, waited_ms, ..
            } => {
                self.held = None;
                let waited = duration(Duration::from_millis(*waited_ms));
                self.line(&format!("{place} works again after {waited}: going on"));
            }
            Event::Paced {
                resource,
                rows,
                writers,
                reason,
            } => {
                let (rows, writers) = (
                    counted((*rows).into(), "row"),
                    counted((*writers).into(), "chunk"),
                );
                self.line(&format!(
                    "{resource}: reads {rows} a page and writes {writers} at a time from now on: {reason}"
                ));
            }
            Event::Throttled { resource, reason } => self.line(&match reason {
                Some(reason) => format!("{resource}: held back: {reason}"),
                None => format!("{resource}: goes on"),
            }),
            Event::Paused { since_ms, by, next } => self.line(&format!(
                "paused since {} by {by}: chunks in hand are finished, leases are kept; `{next}` goes on",
                moment(*since_ms)
            )),
            Event::Unpaused {} => self.line("the pause was lifted: going on"),
            _ => {}
        }
    }

    /// Tells of steps before and after the resources.
    fn step(&mut self, event: &Event) {
        let time = |ms: &u64| duration(Duration::from_millis(*ms));
        match event {
            Event::StepStarted {
                place,
                title,
                usual_ms,
                ..
            } => {
                let usual = usual_ms.as_ref().map(time);
                let usual = usual.map(|usual| format!(", took {usual} the last time"));
                let usual = usual.unwrap_or_default();
                self.line(&format!("{}: {title} begins{usual}", place.label()));
            }
            Event::StepWaits { text, .. } => self.line(&format!("  {text}")),
            Event::StepDone {
                place,
                title,
                how,
                took_ms,
                ..
            } => {
                let took = took_ms.as_ref().map(time);
                let took = took.map_or_else(|| " already".to_owned(), |took| format!(" in {took}"));
                self.line(&format!("{}: {title} done{took}: {how}", place.label()));
            }
            _ => {}
        }
    }

    /// Tells of the first failure in a row, and every few seconds how many there were: each walk tries for itself.
    fn tried(
        &mut self,
        resource: Option<&ResourceName>,
        error: &str,
        wait: &str,
        place: &str,
        tries: u32,
    ) {
        let told = self.tried.get(place);
        if tries > 1 && told.is_some_and(|told| told.elapsed() < EVERY) {
            return;
        }
        self.tried.insert(place.to_owned(), Instant::now());
        let about = resource.map_or_else(String::new, |name| format!("{name}: "));
        let tries = match tries {
            0 | 1 => String::new(),
            tries => format!("{} tries failed, ", count(tries.into())),
        };
        self.line(&format!("{about}{error}; {tries}trying again in {wait}"));
    }

    fn held(&mut self, place: &str, error: &str, (waited_ms, until_ms): (u64, i64), tries: u32) {
        let told = self
            .held
            .as_ref()
            .is_some_and(|(of, at)| of == place && at.elapsed() < EVERY);
        if told {
            return;
        }
        self.held = Some((place.to_owned(), Instant::now()));
        let waited = duration(Duration::from_millis(waited_ms));
        let tries = if tries == 1 {
            "1 try".to_owned()
        } else {
            format!("{tries} tries")
        };
        self.line(&format!(
            "waiting for {place}, for {waited} so far, until {} at most, {tries}: {error}",
            moment(until_ms)
        ));
    }

    fn queued(&mut self, queue: &str, ready: u64, unacked: Option<u64>, consumers: u32) {
        let told = self.queues.get(queue);
        if told.is_some_and(|told| told.elapsed() < EVERY) {
            return;
        }
        self.queues.insert(queue.to_owned(), Instant::now());
        self.line(&format!(
            "{queue}: {}, {}",
            in_queue(ready, unacked),
            counted(consumers.into(), "consumer")
        ));
    }

    fn run_started(
        &mut self,
        run: &RunId,
        attempt: u32,
        state: &str,
        resources: &[ResourceStanding],
    ) {
        self.here = 0;
        self.seen = resources
            .iter()
            .map(|one| (one.name.clone(), one.rows))
            .collect();
        let begins = if attempt > 1 {
            let rows = counted(self.seen.values().sum(), "row");
            format!("run {run} goes on (attempt {attempt}) after {rows}")
        } else {
            format!("run {run} begins")
        };
        self.line(&format!("{begins}, state file {state}"));
        self.resources = resources
            .iter()
            .map(|one| (one.name.clone(), UnderWay::new(one.estimated_rows)))
            .collect();
    }

    /// Takes note that a resource begins at its first row.
    pub(super) fn begun(&mut self, resource: &ResourceName) {
        self.seen.insert(resource.clone(), 0);
    }

    /// Counts the rows that came since a resource was last heard of. One that starts over, or goes back, has fewer than before.
    pub(super) fn count_here(&mut self, resource: &ResourceName, rows: u64) {
        let seen = self.seen.entry(resource.clone()).or_default();
        self.here += rows.saturating_sub(*seen);
        *seen = rows;
    }

    fn chunk_stored(&mut self, resource: &ResourceName, rows: u64, stored: u64) {
        self.count_here(resource, rows);
        let Some(under_way) = self.resources.get_mut(resource) else {
            return;
        };
        let now = Instant::now();
        let (rows_at_first, since) = *under_way.first.get_or_insert((rows, now));
        if under_way.told.elapsed() < EVERY {
            return;
        }
        under_way.told = now;
        let done = rows.saturating_sub(rows_at_first);
        let left = under_way.estimated_rows.saturating_sub(rows);
        let eta = if done > 0 && left > 0 {
            let time_left = since.elapsed().mul_f64(left as f64 / done as f64);
            format!(", about {} left", duration(time_left))
        } else {
            String::new()
        };
        let of = count(under_way.estimated_rows);
        let (rows, stored, rate) = (count(rows), bytes(stored), rate(done, since.elapsed()));
        self.line(&format!(
            "{resource}: {rows} of about {of} rows, {stored}, {rate}{eta}"
        ));
    }
}

/// Returns what a person is told of ids without a row; `None` where each has one.
#[must_use]
pub fn without_row_text(asked: u64, without_row: u64, ids: &[String]) -> Option<String> {
    if without_row == 0 {
        return None;
    }
    let more = without_row.saturating_sub(ids.len() as u64);
    let named = match (ids.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(": {}", ids.join(", ")),
        (false, more) => format!(": {} and {} more", ids.join(", "), count(more)),
    };
    let noun = if asked == 1 { "id" } else { "ids" };
    let (without_row, asked) = (count(without_row), count(asked));
    Some(format!("{without_row} of {asked} {noun} had no row{named}"))
}

fn dead(dead_letters: u64) -> String {
    if dead_letters == 0 {
        return String::new();
    }
    format!(", {}", counted(dead_letters, "dead letter"))
}

impl<W: Write + Send> Observer for PlainLines<W> {
    #[expect(clippy::too_many_lines, reason = "one arm per event")]
    fn observe(&mut self, event: &Event) {
        match event {
            Event::RunStarted {
                run,
                attempt,
                resources,
                state,
                ..
            } => self.run_started(run, *attempt, state, resources),
            Event::ResourceStarted {
                resource,
                estimated_rows,
                partitions,
                ..
            } => {
                let under_way = UnderWay::new(*estimated_rows);
                self.resources.insert(resource.clone(), under_way);
                self.begun(resource);
                let rows = counted(*estimated_rows, "row");
                let partitions = counted(*partitions as u64, "partition");
                self.line(&format!("{resource}: about {rows} in {partitions}"));
            }
            Event::ChunkStored {
                resource,
                rows,
                bytes,
                ..
            } => self.chunk_stored(resource, *rows, *bytes),
            Event::ResourceSynced {
                resource,
                rows,
                bytes: stored,
                dead_letters,
            } => {
                let (rows, stored, dead) =
                    (counted(*rows, "row"), bytes(*stored), dead(*dead_letters));
                self.line(&format!("{resource}: synced, {rows}, {stored}{dead}"));
            }
            Event::Waiting {
                resource,
                error,
                wait_ms,
                place,
                tries,
                ..
            } => {
                let wait = duration(Duration::from_millis(*wait_ms));
                self.tried(resource.as_ref(), error, &wait, place, *tries);
            }
            Event::Held { .. }
            | Event::Recovered { .. }
            | Event::Paced { .. }
            | Event::Throttled { .. }
            | Event::Paused { .. }
            | Event::Unpaused {} => self.slowed(event),
            Event::ResourceBlocked { resource, reason } => {
                self.line(&format!("{resource}: blocked: {reason}"));
            }
            Event::FellBack {
                resource,
                rows_only,
                by,
                ids,
                reason,
            } => {
                let what = if *rows_only { "broken rows go" } else { "goes" };
                let ids = counted(*ids, "id");
                self.line(&format!(
                    "{resource}: {what} to its publisher ({by}, about {ids}): {reason}"
                ));
            }
            Event::IdsTriggered {
                resource,
                ids,
                of,
                calls,
            } => {
                let (ids, calls) = (counted(*ids, "id"), counted(*calls, "call"));
                let of = count(*of);
                self.line(&format!(
                    "{resource}: {ids} of about {of} with the publisher, {calls}"
                ));
            }
            Event::Queue {
                queue,
                ready,
                unacked,
                consumers,
                ..
            } => self.queued(queue, *ready, *unacked, *consumers),
            Event::Settling { resource } => self.line(&format!(
                "{resource}: every id is out; waiting until its rows stand still"
            )),
            Event::Comparing {
                resource,
                estimated_rows,
                partitions,
            } => {
                let rows = counted(*estimated_rows, "row");
                let partitions = counted(*partitions as u64, "partition");
                self.line(&format!(
                    "{resource}: compared with the target, about {rows} in {partitions}"
                ));
            }
            Event::ResourceVerified {
                resource,
                rows,
                missing,
                different,
                repaired,
            } => {
                let rows = counted(*rows, "row");
                let mut found = match (missing, different) {
                    (0, 0) => "no difference".to_owned(),
                    _ => format!(
                        "keys: {} missing, {} different",
                        count(*missing),
                        count(*different)
                    ),
                };
                if *repaired > 0 {
                    found += &format!(", {} rewritten", count(*repaired));
                }
                self.line(&format!("{resource}: compared, {rows}, {found}"));
            }
            Event::StepStarted { .. } | Event::StepWaits { .. } | Event::StepDone { .. } => {
                self.step(event);
            }
            Event::IdsAsked {
                resource,
                asked,
                without_row,
                ids,
            } => {
                if let Some(text) = without_row_text(*asked, *without_row, ids) {
                    self.line(&format!("{resource}: {text}"));
                }
            }
            Event::Redone { text, .. } | Event::Notice { text } => self.line(text),
            Event::RunEnded {
                run,
                state,
                rows,
                bytes: stored,
                dead_letters,
                elapsed_ms,
            } => {
                let elapsed = Duration::from_millis(*elapsed_ms);
                let here = self.here;
                self.line(&format!(
                    "run {run} is {state}: {}, {}{}; this attempt {} in {} ({})",
                    counted(*rows, "row"),
                    bytes(*stored),
                    dead(*dead_letters),
                    counted(here, "row"),
                    duration(elapsed),
                    rate(here, elapsed)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_down_is_told_once_and_until_when_it_is_waited_for() {
        let mut out = Vec::new();
        let mut lines = PlainLines::new(&mut out);
        let place = "redis at cache.test:6379/0".to_owned();
        for tries in 1..=22 {
            lines.observe(&Event::Waiting {
                resource: Some("url".into()),
                error: "connection refused".to_owned(),
                wait_ms: 79,
                place: place.clone(),
                since_ms: 0,
                tries,
            });
        }
        lines.observe(&Event::Held {
            place,
            resources: vec!["url".into()],
            error: "connection refused".to_owned(),
            since_ms: 0,
            until_ms: 900_000,
            waited_ms: 11_900,
            tries: 22,
        });
        let said = String::from_utf8(out).unwrap();
        let wanted = [
            "url: connection refused; trying again in 79 ms".to_owned(),
            format!(
                "waiting for redis at cache.test:6379/0, for 11.9 s so far, until {} at most, 22 tries: connection refused",
                moment(900_000)
            ),
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    }
}
