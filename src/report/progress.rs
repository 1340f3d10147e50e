//! Bars on a terminal, one per resource under way, with rate and time left; everything else as lines above them.

use std::collections::{BTreeMap, BTreeSet};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use super::{
    bar::{Pace, named, style},
    event::{Event, Observer},
    human::{bytes, count, counted},
    lines::PlainLines,
    wrap::wrapped,
};
use crate::ids::ResourceName;

/// Redraws a second: smooth for the eye, invisible in a profile.
const REDRAWS: u8 = 8;

/// Columns to draw for where stderr does not say how wide it is.
const USUAL_WIDTH: u16 = 80;

/// Draws on stderr.
pub struct ProgressBars {
    /// Columns of the longest name.
    names: usize,
    bars: MultiProgress,
    resources: BTreeMap<ResourceName, ProgressBar>,
    paces: BTreeMap<ResourceName, Pace>,
    /// Who waits for what works no more, by its name.
    waiting: BTreeMap<String, BTreeSet<ResourceName>>,
    paused: bool,
    lines: PlainLines<Above>,
    above: MultiProgress,
}

/// Writes lines above the bars.
struct Above {
    bars: MultiProgress,
    line: Vec<u8>,
}

impl std::io::Write for Above {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.line.extend_from_slice(text);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            self.bars.println(wrapped(&line, Some(width())))?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Default for ProgressBars {
    fn default() -> Self {
        Self::new()
    }
}

impl ProgressBars {
    /// Returns bars on stderr.
    #[must_use]
    pub fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        let above = Above {
            bars: bars.clone(),
            line: Vec::new(),
        };
        Self {
            above: bars.clone(),
            bars,
            names: 0,
            resources: BTreeMap::new(),
            paces: BTreeMap::new(),
            waiting: BTreeMap::new(),
            paused: false,
            lines: PlainLines::new(above),
        }
    }

    fn bar(&mut self, resource: &ResourceName, estimated: u64) -> &ProgressBar {
        // A comparison has no run that names all of them first.
        let names = resource.as_str().chars().count();
        if names > self.names {
            self.names = names;
            for (resource, bar) in &self.resources {
                bar.set_style(style(width(), names, self.pace(resource)));
                bar.set_prefix(named(resource, width(), names));
            }
        }
        let (names, pace) = (self.names, self.pace(resource));
        self.resources.entry(resource.clone()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(estimated));
            bar.set_style(style(width(), names, pace));
            bar.set_prefix(named(resource, width(), names));
            bar
        })
    }

    /// Returns what the rate of a resource is measured from.
    fn pace(&self, resource: &ResourceName) -> Pace {
        let known = self.paces.get(resource).copied();
        Pace {
            stands: self.stands(resource),
            ..known.unwrap_or_else(|| Pace::from(0))
        }
    }

    fn stands(&self, resource: &ResourceName) -> bool {
        self.paused || self.waiting.values().any(|names| names.contains(resource))
    }

    /// Takes note of what is waited for, or no longer. A rate of before, and what it promised, is shown by no bar that waits; once
    /// it moves, its rate is measured anew.
    fn waits(&mut self, event: &Event) {
        let names: Vec<_> = self.resources.keys().cloned().collect();
        let stood: Vec<_> = names.iter().map(|name| self.stands(name)).collect();
        match event {
            Event::Held {
                place, resources, ..
            } => {
                let who = resources.iter().cloned().collect();
                self.waiting.insert(place.clone(), who);
            }
            Event::Recovered { place, .. } => {
                self.waiting.remove(place);
            }
            Event::Paused { .. } => self.paused = true,
            Event::Unpaused {} => self.paused = false,
            _ => {}
        }
        for (name, stood) in names.iter().zip(stood) {
            if stood != self.stands(name) {
                let rows = self.resources.get(name).map_or(0, ProgressBar::position);
                self.begin(name, rows);
            }
        }
    }

    /// Measures the rate of a resource from here on, where it has `rows`.
    fn begin(&mut self, resource: &ResourceName, rows: u64) {
        self.paces.insert(resource.clone(), Pace::from(rows));
        let pace = self.pace(resource);
        if let Some(bar) = self.resources.get(resource) {
            bar.set_style(style(width(), self.names, pace));
        }
    }
}

/// Returns the columns of the terminal. Asked for each bar: it may have changed since the last one.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(USUAL_WIDTH, |size| size.ws_col).into()
}

impl ProgressBars {
    fn stored(&mut self, resource: &ResourceName, rows: u64, stored: u64, dead_letters: u64) {
        self.lines.count_here(resource, rows);
        let dead = if dead_letters > 0 {
            format!(", {}", counted(dead_letters, "dead letter"))
        } else {
            String::new()
        };
        let bar = self.bar(resource, rows);
        // Estimates are often low; a bar beyond its end would look broken.
        if bar.length().is_some_and(|length| length < rows) {
            bar.set_length(rows);
        }
        bar.set_position(rows);
        bar.set_message(format!("{}{dead}", bytes(stored)));
    }
}

impl Observer for ProgressBars {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::RunStarted { resources, .. } => {
                self.lines.observe(event);
                let names = resources
                    .iter()
                    .map(|one| one.name.as_str().chars().count());
                self.names = names.max().unwrap_or_default();
                for one in resources.iter().filter(|one| one.state == "syncing") {
                    self.begin(&one.name, one.rows);
                    let bar = self.bar(&one.name, one.estimated_rows);
                    bar.set_position(one.rows);
                }
            }
            Event::ResourceStarted {
                resource,
                rows,
                estimated_rows,
                ..
            } => {
                self.lines.begun(resource);
                self.begin(resource, *rows);
                let bar = self.bar(resource, *estimated_rows);
                bar.set_length(*estimated_rows);
                bar.set_position(*rows);
            }
            Event::ChunkStored {
                resource,
                rows,
                bytes: stored,
                dead_letters,
                ..
            } => {
                self.stored(resource, *rows, *stored, *dead_letters);
            }
            Event::ResourceSynced { resource, .. }
            | Event::ResourceVerified { resource, .. }
            | Event::ResourceBlocked { resource, .. } => {
                if let Some(bar) = self.resources.remove(resource) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
                self.lines.observe(event);
            }
            Event::Redone { resource, .. }
            | Event::FellBack { resource, .. }
            | Event::Comparing { resource, .. } => {
                if let Some(bar) = self.resources.get(resource) {
                    bar.reset();
                }
                self.begin(resource, 0);
                self.lines.observe(event);
            }
            Event::RunEnded { .. } => {
                for bar in std::mem::take(&mut self.resources).into_values() {
                    bar.finish_and_clear();
                }
                self.above.clear().ok();
                self.lines.observe(event);
            }
            Event::IdsTriggered {
                resource, ids, of, ..
            } => {
                let message = format!("{} of ~{} ids", count(*ids), count(*of));
                self.bar(resource, 0).set_message(message);
            }
            Event::Settling { resource } => {
                self.bar(resource, 0).set_message("settling");
            }
            Event::Queue {
                resource,
                ready,
                unacked,
                ..
            } => {
                let held = unacked.map_or_else(String::new, |unacked| {
                    format!(", {} unacknowledged", count(unacked))
                });
                self.bar(resource, 0)
                    .set_message(format!("{} in its queue{held}", count(*ready)));
            }
            Event::Held { .. }
            | Event::Recovered { .. }
            | Event::Paused { .. }
            | Event::Unpaused {} => {
                self.waits(event);
                self.lines.observe(event);
            }
            Event::Waiting { .. }
            | Event::Paced { .. }
            | Event::Throttled { .. }
            | Event::StepStarted { .. }
            | Event::StepWaits { .. }
            | Event::StepDone { .. }
            | Event::IdsAsked { .. }
            | Event::Notice { .. } => self.lines.observe(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_that_goes_on_is_measured_from_where_it_was() {
        let mut bars = ProgressBars::new();
        let name = ResourceName::from("url");
        bars.observe(&Event::ResourceStarted {
            resource: name.clone(),
            rows: 40_000,
            estimated_rows: 60_000,
            partitions: 2,
        });
        assert_eq!(bars.pace(&name).rows, 40_000);
        assert_eq!(bars.resources[&name].position(), 40_000);
    }

    #[test]
    fn nothing_is_promised_while_nothing_moves() {
        let mut bars = ProgressBars::new();
        let names = ["url", "page"].map(ResourceName::from);
        for name in &names {
            bars.observe(&Event::ResourceStarted {
                resource: name.clone(),
                rows: 0,
                estimated_rows: 60_000,
                partitions: 2,
            });
        }
        let held = |place: &str, resources: &[ResourceName]| Event::Held {
            place: place.to_owned(),
            resources: resources.to_vec(),
            error: "refused".to_owned(),
            since_ms: 0,
            until_ms: 1,
            waited_ms: 1,
            tries: 3,
        };
        let back = |place: &str| Event::Recovered {
            place: place.to_owned(),
            waited_ms: 1,
            tries: 3,
        };
        let mut stand = |event: &Event| {
            bars.observe(event);
            let [url, page] = &names;
            (bars.pace(url).stands, bars.pace(page).stands)
        };
        // The other one moves.
        assert_eq!(stand(&held("redis", &names[..1])), (true, false));
        assert_eq!(stand(&held("mariadb", &names)), (true, true));
        assert_eq!(stand(&back("mariadb")), (true, false));
        assert_eq!(stand(&back("redis")), (false, false));
        let paused = Event::Paused {
            since_ms: 0,
            by: "somebody".to_owned(),
            next: "unpause".to_owned(),
        };
        assert_eq!(stand(&paused), (true, true));
        assert_eq!(stand(&held("redis", &names[..1])), (true, true));
        assert_eq!(stand(&Event::Unpaused {}), (true, false));
        assert_eq!(stand(&back("redis")), (false, false));
    }

    #[test]
    fn what_stood_is_measured_from_where_it_stood() {
        let mut bars = ProgressBars::new();
        let name = ResourceName::from("url");
        bars.observe(&Event::ResourceStarted {
            resource: name.clone(),
            rows: 0,
            estimated_rows: 60_000,
            partitions: 2,
        });
        bars.stored(&name, 20_000, 1, 0);
        assert_eq!(bars.pace(&name).rows, 0);
        let paused = Event::Paused {
            since_ms: 0,
            by: "somebody".to_owned(),
            next: "unpause".to_owned(),
        };
        bars.observe(&paused);
        bars.observe(&Event::Unpaused {});
        assert_eq!(bars.pace(&name).rows, 20_000);
    }
}
