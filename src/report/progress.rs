//! Bars on a terminal, one per resource under way, with rate and time left; everything else as lines above them.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    event::{Event, Observer},
    human::{bytes, counted, printable},
    lines::PlainLines,
};
use crate::ids::ResourceName;

/// Redraws a second: smooth for the eye, invisible in a profile.
const REDRAWS: u8 = 8;

/// Draws on stderr.
pub struct ProgressBars {
    bars: MultiProgress,
    resources: BTreeMap<ResourceName, ProgressBar>,
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
            self.bars.println(String::from_utf8_lossy(&line[..end]))?;
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
            resources: BTreeMap::new(),
            lines: PlainLines::new(above),
        }
    }

    fn bar(&mut self, resource: &ResourceName, estimated: u64) -> &ProgressBar {
        self.resources.entry(resource.clone()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(estimated));
            bar.set_style(style());
            bar.set_prefix(printable(resource.as_str()));
            bar
        })
    }
}

fn style() -> ProgressStyle {
    // The name, a bar that gives way on narrow terminals, rows, rate and time left.
    let template = "{prefix:24!} {wide_bar:.green/dim} {human_pos:>11} of ~{human_len} {per_sec:>14} {eta:>5} {msg}";
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

impl Observer for ProgressBars {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::RunStarted { resources, .. } => {
                self.lines.observe(event);
                for one in resources.iter().filter(|one| one.state == "syncing") {
                    let bar = self.bar(&one.name, one.estimated_rows);
                    bar.set_position(one.rows);
                    bar.reset_eta();
                }
            }
            Event::ResourceStarted {
                resource,
                estimated_rows,
                ..
            } => {
                let bar = self.bar(resource, *estimated_rows);
                bar.set_length(*estimated_rows);
                bar.reset_eta();
            }
            Event::ChunkStored {
                resource,
                rows,
                bytes: stored,
                dead_letters,
                ..
            } => {
                let dead = if *dead_letters > 0 {
                    format!(", {}", counted(*dead_letters, "dead letter"))
                } else {
                    String::new()
                };
                let message = format!("{}{dead}", bytes(*stored));
                let bar = self.bar(resource, *rows);
                // Estimates are often low; a bar beyond its end would look broken.
                if bar.length().is_some_and(|length| length < *rows) {
                    bar.set_length(*rows);
                }
                bar.set_position(*rows);
                bar.set_message(message);
            }
            Event::ResourceSynced { resource, .. } | Event::ResourceBlocked { resource, .. } => {
                if let Some(bar) = self.resources.remove(resource) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
                self.lines.observe(event);
            }
            Event::Redone { resource, .. } => {
                if let Some(bar) = self.resources.get(resource) {
                    bar.reset();
                }
                self.lines.observe(event);
            }
            Event::RunEnded { .. } => {
                for bar in std::mem::take(&mut self.resources).into_values() {
                    bar.finish_and_clear();
                }
                self.above.clear().ok();
                self.lines.observe(event);
            }
            Event::Waiting { .. } | Event::Notice { .. } => self.lines.observe(event),
        }
    }
}
