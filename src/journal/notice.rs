//! What a person is told about a state file that could be opened all the same.

use std::{fmt, path::PathBuf};

use crate::{ids::RunId, machine::Predecessors};

/// Something unusual that the opening of a state file found and dealt with. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The end of the write-ahead log is lost.
    Behind {
        /// How many events at least.
        events: u64,
    },
    /// There was no marker file beside a state file with events.
    MarkerMissing,
    /// The marker file could not be read.
    MarkerUnreadable,
    /// Damaged files were moved aside and a new state file begun.
    StartedAnew {
        /// Why the old one was refused, in one line.
        refused: String,
        /// The run that the old marker names.
        old_run: Option<RunId>,
        /// The runs that it leaves to the next: steps are observed by their tags before they are done.
        left: Predecessors,
        /// Random id of the old state file, where its marker could be read.
        old_state: Option<String>,
        /// Where the old files lie now.
        moved_to: PathBuf,
    },
    /// An earlier process had begun the state file anew, and ended before its run began.
    NotBegun {
        /// The runs that the state file before it left to the next.
        left: Predecessors,
    },
    /// The state file was brought up to date.
    Migrated {
        /// Its format before.
        from: u32,
        /// Its format now.
        to: u32,
        /// A copy of it as it was.
        backup: PathBuf,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind { events: 1 } => f.write_str(
                "journal is 1 event behind its marker; the chunks after it are repeated",
            ),
            Self::Behind { events } => write!(
                f,
                "journal is {events} events behind its marker; the chunks after it are repeated"
            ),
            Self::MarkerMissing => {
                f.write_str("marker file was missing; written again, for the events are whole")
            }
            Self::MarkerUnreadable => {
                f.write_str("marker file was not readable; written again, for the events are whole")
            }
            Self::StartedAnew {
                refused,
                old_run,
                moved_to,
                ..
            } => {
                write!(
                    f,
                    "{refused}; moved to `{}` and begun anew",
                    moved_to.display()
                )?;
                match old_run {
                    Some(run) => write!(f, " (it held run {run})"),
                    None => Ok(()),
                }
            }
            Self::NotBegun { left } => write!(
                f,
                "the state file was begun anew and holds no run yet; what is left of these is looked for: {left}"
            ),
            Self::Migrated { from, to, backup } => write!(
                f,
                "state file brought from format {from} to {to}; the old one is kept as `{}`",
                backup.display()
            ),
        }
    }
}
