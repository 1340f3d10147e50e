//! `--json`: one event a line on stdout.

use std::io::Write;

use super::event::{Event, Observer};

/// Writes each event as one line of JSON.
pub struct JsonLines<W> {
    out: W,
}

impl<W: Write + Send> JsonLines<W> {
    /// Returns an observer that writes to `out`.
    pub const fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write + Send> Observer for JsonLines<W> {
    fn observe(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            // A reader that went away (`| head -1`) must not end a run.
            let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        }
    }
}
