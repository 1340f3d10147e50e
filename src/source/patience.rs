//! How long a server may keep us waiting.

use std::time::Duration;

/// How long the source may stay silent.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection, its log-in and its settings.
    pub connect: Duration,
    /// Between two rows of a page. Shorter, and a disk under load looks like a dead server; longer, and a server
    /// that hangs without a reset goes unnoticed.
    pub read: Duration,
    /// What the server is told as the limit of one statement; also how long a page with a condition may search for
    /// its first row. A page waits for its target while it is read, so this must outlast a slow one.
    pub statement: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_mins(1),
            statement: Duration::from_mins(10),
        }
    }
}

impl Patience {
    /// Returns how long to wait for a statement that may use all its time: the server is to say so first.
    pub(super) fn whole_statement(&self) -> Duration {
        self.read.max(self.statement + Duration::from_secs(5))
    }
}
