//! Results that are wider than the terminal.

use super::{render::say, table};
use crate::report::wrapped;

/// Prints lines to stdout; one that is longer than the terminal goes on below, set in. In a pipe a line stays one.
pub fn say_wrapped(text: &str) {
    say(&wrapped(text, table::terminal_width()));
}
