//! Everything that listens to a run. Receives events, never calls back.

mod bar;
mod event;
pub mod human;
mod json;
pub mod lines;
mod progress;
mod wrap;

pub use event::{Event, Observer, ResourceStanding};
pub use json::JsonLines;
pub use lines::{PlainLines, without_row_text};
pub use progress::ProgressBars;
pub use wrap::wrapped;
