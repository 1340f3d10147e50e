//! Bars on a terminal, one per resource under way, with rate and time left; everything else as lines above them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use indicatif::{
    HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use super::{
    event::{Event, Observer},
    human::{bytes, count, counted, printable},
    lines::PlainLines,
    wrap::wrapped,
};
use crate::ids::ResourceName;

/// Redraws a second: smooth for the eye, invisible in a profile.
const REDRAWS: u8 = 8;

/// Columns to draw for where stderr does not say how wide it is.
const USUAL_WIDTH: u16 = 80;

/// The longest time left that is shown: a year is as good as never.
const MOST_SECONDS: f64 = 365.0 * 86_400.0;

/// Draws on stderr.
pub struct ProgressBars {
    /// Columns of the longest name.
    names: usize,
    bars: MultiProgress,
    resources: BTreeMap<ResourceName, ProgressBar>,
    paces: BTreeMap<ResourceName, Pace>,
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
            }
        }
        let (names, pace) = (self.names, self.pace(resource));
        self.resources.entry(resource.clone()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(estimated));
            bar.set_style(style(width(), names, pace));
            bar.set_prefix(printable(resource.as_str()));
            bar
        })
    }

    /// Returns what the rate of a resource is measured from.
    fn pace(&self, resource: &ResourceName) -> Pace {
        let known = self.paces.get(resource).copied();
        known.unwrap_or_else(|| Pace::from(0))
    }

    /// Measures the rate of a resource from here on, where it has `rows`.
    fn begin(&mut self, resource: &ResourceName, rows: u64) {
        let pace = Pace::from(rows);
        self.paces.insert(resource.clone(), pace);
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

/// How fast a bar moves since `rows` at `since`. The library's own estimate takes the rows that were there when a run went on for
/// rows of its first moment.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rows: u64,
    since: Instant,
}

impl Pace {
    /// Returns the pace of a bar that is at `rows` now.
    fn from(rows: u64) -> Self {
        let since = Instant::now();
        Self { rows, since }
    }

    /// Returns rows a second, at least a little.
    fn rate(self, state: &ProgressState) -> f64 {
        let done = state.pos().saturating_sub(self.rows);
        done as f64 / self.since.elapsed().as_secs_f64().max(0.001)
    }
}

/// Returns the look of a bar on `width` columns, with `names` of them for the name where there is room.
fn style(width: usize, names: usize, pace: Pace) -> ProgressStyle {
    ProgressStyle::with_template(&template(width, names))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
        .with_key(
            "rows",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let of = count(state.len().unwrap_or_default());
                let _ = write!(out, "{} of ~{of}", count(state.pos()));
            },
        )
        .with_key(
            "rate",
            move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a float casts to the nearest number there is"
                )]
                let rate = pace.rate(state) as u64;
                let _ = write!(out, "{} rows/s", count(rate));
            },
        )
        .with_key(
            "time_left",
            move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let left = state.len().unwrap_or_default().saturating_sub(state.pos());
                let rate = pace.rate(state);
                // Nothing is known before the first chunk.
                let text = if rate > 0.0 {
                    let left = (left as f64 / rate).min(MOST_SECONDS);
                    format!("{:#}", HumanDuration(Duration::from_secs_f64(left)))
                } else {
                    "-".to_owned()
                };
                let _ = out.write_str(&text);
            },
        )
}

/// Everything has a column of its own, so that bars below each other line up. What a person misses least goes first
/// on a narrow terminal: a line that is too long would be broken, and its rest stay on the screen.
fn template(width: usize, names: usize) -> String {
    let names = names.clamp(1, (width / 4).max(1));
    let rest = match width {
        110.. => "{rows:>23} {rate:>16} {time_left:>4} left  {msg:24!}",
        90..110 => "{rows:>23} {rate:>16} {time_left:>4} left",
        64..90 => "{percent:>3}% {rate:>16} {time_left:>4} left",
        _ => "{percent:>3}% {time_left:>4} left",
    };
    format!("{{prefix:{names}!}} {{wide_bar:.green/dim}} {rest}")
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
            Event::Waiting { .. }
            | Event::Held { .. }
            | Event::Recovered { .. }
            | Event::Paced { .. }
            | Event::Throttled { .. }
            | Event::Paused { .. }
            | Event::Unpaused {}
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
    fn no_terminal_is_too_narrow_to_run_on() {
        // A fresh pseudo-terminal has no size at all.
        for width in 0..40 {
            assert!(ProgressStyle::with_template(&template(width, 40)).is_ok());
        }
    }

    #[test]
    fn a_line_fits_on_its_terminal() {
        for width in [40, 60, 64, 80, 90, 110, 200] {
            let template = template(width, 40);
            let fixed: usize = template
                .split(['{', '}'])
                .map(|part| match part.split_once(':') {
                    Some((_, size)) => size.trim_matches(['>', '!']).parse().unwrap_or(0),
                    None => part.len(),
                })
                .sum();
            assert!(
                fixed + 4 <= width,
                "{fixed} columns without the bar on {width}"
            );
        }
    }
}
