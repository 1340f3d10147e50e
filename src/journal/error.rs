//! What can be wrong with a state file: what stopped, why, what is safe, what to type next.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::ErrorCode;

use super::lock::Owner;
use crate::{ids::RunId, machine::IllegalTransition};

/// Why the journal cannot be opened, read or written. `Display` says what stopped, `source` why.
///
/// Cloned for every caller of a journal that failed once: it never works again in this process.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Another process holds it.
    #[error("state file `{path}` is in use by {}", describe(owner.as_deref()))]
    InUse {
        /// The state file.
        path: PathBuf,
        /// Who; `None` where the line is not written yet.
        owner: Option<Box<Owner>>,
    },
    /// A symbolic link lies in the place of one of its files.
    #[error("`{path}` is a symbolic link; state files are never reached through one")]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("`{path}` is not a state file of rekindle")]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error("state file `{path}` has format {found}; this release knows formats up to {known}")]
    NewerFormat {
        /// The state file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// An older format could not be brought up to date. The file is as it was.
    #[error("cannot bring state file `{path}` from format {from} to {to}")]
    Migration {
        /// The state file.
        path: PathBuf,
        /// Its format.
        from: u32,
        /// Ours.
        to: u32,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Its content contradicts itself.
    #[error("state file `{path}` is damaged at {row}: {what}")]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// For example ``event 17`` or ``table `partition`, row 3``.
        row: String,
        /// What does not fit.
        what: String,
    },
    /// It holds less than its marker file vouches for.
    #[error("state file `{path}` is behind its marker: {what}")]
    Behind {
        /// The state file.
        path: PathBuf,
        /// For example `the write-ahead log is gone; last event 12, the marker names event 40`.
        what: String,
        /// The run that the marker names.
        run: Option<RunId>,
    },
    /// Its marker file is that of another state file or run.
    #[error("the marker beside state file `{path}` belongs to another one: {what}")]
    ForeignMarker {
        /// The state file.
        path: PathBuf,
        /// What differs.
        what: String,
        /// The run that the marker names.
        run: Option<RunId>,
    },
    /// No room on its disk.
    #[error("no room for state file `{path}`")]
    DiskFull {
        /// The state file.
        path: PathBuf,
        /// What it takes to go on comfortably.
        needed_mb: u64,
    },
    /// It was deleted or replaced while it was in use.
    #[error("`{path}` was deleted or replaced while the run was using it")]
    Deleted {
        /// The file that is gone.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} `{path}`")]
    Io {
        /// For example `create`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// `SQLite` refused.
    #[error("cannot {doing} state file `{path}`")]
    Sqlite {
        /// For example `write to`.
        doing: &'static str,
        /// The state file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The engine recorded what cannot happen: a bug. Nothing of it was written.
    #[error("the journal refused an event")]
    Illegal(#[source] IllegalTransition),
    /// An event could not be put into words: a bug. Nothing of it was written.
    #[error("cannot encode an event")]
    Encoding(#[source] Arc<serde_json::Error>),
    /// The journal was closed, or its thread is gone.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// Returns whether `run --new` may move the files aside and begin anew.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Behind { .. } | Self::ForeignMarker { .. }
        )
    }

    /// Returns what is safe, for the `safe:` line.
    #[must_use]
    pub fn safe(&self) -> String {
        match self {
            Self::InUse { .. } => "nothing was touched; the other process goes on".to_owned(),
            Self::Symlink { .. } | Self::NotOurs { .. } | Self::NewerFormat { .. } => {
                "nothing was changed".to_owned()
            }
            Self::Migration { .. } => {
                "the state file is as it was, and a copy lies beside it".to_owned()
            }
            Self::Damaged { .. } | Self::Behind { .. } | Self::ForeignMarker { .. } => {
                "the targets are untouched, and so are the files; what they record cannot be vouched for"
                    .to_owned()
            }
            Self::DiskFull { .. } => "nothing is lost: every chunk recorded so far stands".to_owned(),
            Self::Deleted { .. } => {
                "rows already written are in the targets; their record is gone".to_owned()
            }
            Self::Io { .. } | Self::Sqlite { .. } | Self::Closed => {
                "every chunk recorded before stands; later ones are repeated".to_owned()
            }
            Self::Illegal(_) | Self::Encoding(_) => {
                "what was recorded before stands; this is a bug in rekindle".to_owned()
            }
        }
    }

    /// Returns what to type or do, for the `next:` line. `PLAN` stands for the plan file.
    #[must_use]
    pub fn next(&self) -> String {
        match self {
            Self::InUse { .. } => {
                "wait for it, or watch it with `rekindle status --watch PLAN`".to_owned()
            }
            Self::Symlink { path } => {
                format!("put a file in place of `{}`, or name another with `--state FILE`", path.display())
            }
            Self::NotOurs { .. } => "name another file with `--state FILE`".to_owned(),
            Self::NewerFormat { .. } => {
                "use the release that wrote it, or name another file with `--state FILE`".to_owned()
            }
            Self::Migration { .. } => "run the release that wrote it, and report this".to_owned(),
            Self::Damaged { .. } | Self::Behind { .. } | Self::ForeignMarker { .. } => {
                "put the files back from a copy, or begin anew with `rekindle run --new PLAN` \
                 (moves these aside, deletes nothing)"
                    .to_owned()
            }
            Self::DiskFull { needed_mb, .. } => {
                format!("free {needed_mb} MB there and run again")
            }
            Self::Deleted { .. } => {
                "put the files back if you can and run again, or begin anew with `rekindle run --new PLAN`"
                    .to_owned()
            }
            Self::Io { path, .. } | Self::Sqlite { path, .. } => {
                format!("check the disk and the rights of `{}`, then run again", path.display())
            }
            Self::Illegal(_) | Self::Encoding(_) => "run again; if it comes back, report it".to_owned(),
            Self::Closed => "run again".to_owned(),
        }
    }

    /// Returns the error for a file operation that failed.
    pub(super) fn io(doing: &'static str, path: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::disk_full(path),
            // What `O_NOFOLLOW` answers for a link that was put there after the check.
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                Self::Symlink {
                    path: path.to_owned(),
                }
            }
            _ => Self::Io {
                doing,
                path: path.to_owned(),
                source: Arc::new(error),
            },
        }
    }

    /// Returns the error for a statement that failed.
    pub(super) fn sqlite(doing: &'static str, path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match (&error, error.sqlite_error_code()) {
            (_, Some(ErrorCode::DiskFull)) => Self::disk_full(path),
            // The shared memory beside the file could not grow: the same want of room in other words.
            (E::SqliteFailure(failure, _), _)
                if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE =>
            {
                Self::disk_full(path)
            }
            (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            | (
                E::FromSqlConversionFailure(..)
                | E::IntegralValueOutOfRange(..)
                | E::InvalidColumnType(..)
                | E::Utf8Error(..)
                | E::QueryReturnedNoRows,
                _,
            ) => Self::Damaged {
                path: path.to_owned(),
                row: "a page of the file".to_owned(),
                what: error.to_string(),
            },
            _ => Self::Sqlite {
                doing,
                path: path.to_owned(),
                source: Arc::new(error),
            },
        }
    }

    fn disk_full(path: &Path) -> Self {
        // Twice the file: compaction and the checkpoint of the log may write it once more.
        let bytes = path.metadata().map_or(0, |found| found.len());
        Self::DiskFull {
            path: path.to_owned(),
            needed_mb: 16 + 2 * bytes.div_ceil(1 << 20),
        }
    }
}

fn describe(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "another process".to_owned(), Owner::describe)
}

/// What a check found, before it is known which file it is about.
#[derive(Debug)]
pub(super) enum Fault {
    /// `SQLite` could not read it.
    Sqlite(rusqlite::Error),
    /// The content contradicts itself.
    Content {
        /// Where.
        row: String,
        /// What.
        what: String,
    },
}

impl Fault {
    pub(super) fn event(seq: u64, what: impl Into<String>) -> Self {
        Self::Content {
            row: format!("event {seq}"),
            what: what.into(),
        }
    }

    pub(super) fn table(table: &str, row: &str, what: impl Into<String>) -> Self {
        Self::Content {
            row: format!("table `{table}`, row {row}"),
            what: what.into(),
        }
    }

    /// Returns the error for the state file at `path`.
    pub(super) fn at(self, path: &Path) -> JournalError {
        match self {
            Self::Sqlite(error) => JournalError::sqlite("read", path, error),
            Self::Content { row, what } => JournalError::Damaged {
                path: path.to_owned(),
                row,
                what,
            },
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
