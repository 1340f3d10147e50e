//! Errors of the edges, and the one table that decides what the engine does about them.

use std::{error::Error as StdError, time::Duration};

use serde::{Deserialize, Serialize};

/// What went wrong at an edge, as far as the engine has to tell cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Refused, reset or closed connection; host not reachable.
    Connection,
    /// No answer in time. A write may or may not have happened.
    Timeout,
    /// The server is up but asks for patience: too many connections, lock wait, deadlock, loading, failing over, a
    /// full queue.
    Busy,
    /// The target has no memory for the write (Redis `OOM`, a search node's circuit breaker).
    TargetMemory,
    /// No room on the disk the target writes to, or so little that it takes no writes (a search node's flood stage).
    TargetDisk,
    /// What was recorded as stored is no longer in the target.
    EvidenceLost,
    /// Another owner holds the target.
    LeaseLost,
    /// A row that cannot be restored as it is: NULL, broken, cut.
    RowBroken,
    /// A row longer than the memory budget.
    RowTooLarge,
    /// User, password or rights.
    Credentials,
    /// A host name, database, table or column that is not there.
    Missing,
    /// Columns changed under the run.
    SchemaChanged,
    /// The server refuses the request for good.
    Refused,
    /// A program ended badly, or an answer was none, and nothing tells whether it would be so another time.
    Failed,
    /// A bug in rekindle.
    Internal,
}

/// What the engine does about an [`ErrorKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Repeat the chunk after a pause. When `retry.attempts` are used up, wait for the edge with a probe now and then.
    Retry,
    /// As [`Retry`](Self::Retry), with fewer writers side by side, then smaller pages, until it passes.
    Throttle,
    /// As [`Retry`](Self::Retry), with smaller pages until it passes.
    Shrink,
    /// Repeat it after a pause, `retry.attempts` times in all; then stop the resource until a person acted: nothing says that
    /// waiting helps.
    Try,
    /// Compare the target with the journal, void what is gone, go on.
    Recheck,
    /// Keep the row as a dead letter, go on with the others.
    DeadLetter,
    /// Stop the resource until a person acted.
    Block,
    /// Stop the whole run: somebody else writes to the target.
    Stop,
}

impl Disposition {
    /// Returns whether the trouble passes without anyone acting on rekindle.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Retry | Self::Throttle | Self::Shrink)
    }

    /// Returns whether the same again may do.
    #[must_use]
    pub const fn is_tried_again(self) -> bool {
        self.passes() || matches!(self, Self::Try)
    }
}

impl ErrorKind {
    /// Every kind, for tests and for the table in `ARCHITECTURE.md`.
    pub const ALL: [Self; 15] = [
        Self::Connection,
        Self::Timeout,
        Self::Busy,
        Self::TargetMemory,
        Self::TargetDisk,
        Self::EvidenceLost,
        Self::LeaseLost,
        Self::RowBroken,
        Self::RowTooLarge,
        Self::Credentials,
        Self::Missing,
        Self::SchemaChanged,
        Self::Refused,
        Self::Failed,
        Self::Internal,
    ];

    /// Returns what the engine does about errors of this kind.
    #[must_use]
    pub const fn disposition(self) -> Disposition {
        match self {
            // These pass without anyone acting on rekindle. A target that is down is waited for, never worked around.
            Self::Connection | Self::TargetDisk => Disposition::Retry,
            Self::Busy => Disposition::Throttle,
            // The larger the chunk, the longer it takes and the more memory it needs there.
            Self::Timeout | Self::TargetMemory => Disposition::Shrink,
            Self::Failed => Disposition::Try,
            Self::EvidenceLost => Disposition::Recheck,
            Self::LeaseLost => Disposition::Stop,
            Self::RowBroken | Self::RowTooLarge => Disposition::DeadLetter,
            // Listed one by one, so a new kind does not compile until somebody decides.
            Self::Credentials
            | Self::Missing
            | Self::SchemaChanged
            | Self::Refused
            | Self::Internal => Disposition::Block,
        }
    }

    /// Returns whether the server answered, and asked for patience. Before a run began only such errors are worth a second
    /// try: whoever mistyped a host wants to hear of it at once.
    #[must_use]
    pub const fn asks_for_patience(self) -> bool {
        matches!(self, Self::Busy | Self::TargetMemory)
    }

    /// Returns whether the shop's own publisher may help: only where the source's rows or our own memory are the
    /// trouble. Republishing into a dead target helps nobody.
    #[must_use]
    pub const fn may_fall_back(self) -> bool {
        match self {
            Self::RowBroken | Self::RowTooLarge => true,
            Self::Connection
            | Self::Timeout
            | Self::Busy
            | Self::TargetMemory
            | Self::TargetDisk
            | Self::EvidenceLost
            | Self::LeaseLost
            | Self::Credentials
            | Self::Missing
            | Self::SchemaChanged
            | Self::Refused
            | Self::Failed
            | Self::Internal => false,
        }
    }

    /// Returns the word under which the kind is journaled and shown.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::TargetMemory => "target_memory",
            Self::TargetDisk => "target_disk",
            Self::EvidenceLost => "evidence_lost",
            Self::LeaseLost => "lease_lost",
            Self::RowBroken => "row_broken",
            Self::RowTooLarge => "row_too_large",
            Self::Credentials => "credentials",
            Self::Missing => "missing",
            Self::SchemaChanged => "schema_changed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Internal => "internal",
        }
    }
}

/// What of a plan an [`EdgeError`] is about, where the edge can tell: so that a check of a plan shows the place and the names
/// there are, and reads them in no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A table that is not there, and the nearest of those that are.
    Table {
        /// The likeliest first; may be empty.
        near: Vec<String>,
    },
    /// A column that its table has not, and the nearest of those it has.
    Column {
        /// As the plan names it.
        name: String,
        /// The likeliest first; may be empty.
        near: Vec<String>,
        /// Further columns of the plan that it has not, each with the nearest.
        more: Vec<(String, Vec<String>)>,
    },
    /// Columns that cannot be the cursor.
    Cursor {
        /// Why not, in words.
        why: String,
        /// The indexes that would do, each as its columns: `id, store`; may be empty.
        would_do: Vec<String>,
    },
    /// `where:` of a resource.
    Condition,
    /// A numbered database that the server has not.
    Database,
    /// A queue that is not there, or is there and is another one than was asked for.
    Queue {
        /// Its name.
        name: String,
    },
}

/// An error of a source or a target. `message` says where and what, in one line without row values or secrets.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EdgeError {
    /// Decides what the engine does.
    pub kind: ErrorKind,
    /// For example `redis at cache.test:6379 refused the write`.
    pub message: String,
    /// The chain below, if the driver's own error adds something.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
    /// How long the other side asked us to wait, if it did.
    pub not_before: Option<Duration>,
    /// What of the plan it is about, if the edge knows.
    pub subject: Option<Box<Subject>>,
}

impl EdgeError {
    /// Returns an error without a chain below.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
            not_before: None,
            subject: None,
        }
    }

    /// Returns the error with a wait that the other side asked for.
    #[must_use]
    pub fn not_before(mut self, wait: Duration) -> Self {
        self.not_before = Some(wait);
        self
    }

    /// Returns the error with what of the plan it is about.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        self.subject = Some(Box::new(subject));
        self
    }

    /// Returns the error with `source` as its chain. Only for drivers whose texts hold neither values nor secrets.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Returns `error` and its causes, outermost first, one text each.
#[must_use]
pub fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts
}
