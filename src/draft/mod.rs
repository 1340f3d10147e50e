//! What a database holds -> the text of a plan. Pure; what it writes passes `validate` as it is.

mod pick;
mod write;

pub use pick::{Draft, Drafted, LeftOut, draft};
pub use write::{Heading, text};

/// Whose tables a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// Those of Spryker's own modules.
    Spryker,
}
