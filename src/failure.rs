//! What a person reads when something stopped: what, why, what is safe, what to type next.

use std::{error::Error as StdError, fmt, path::Path};

use crate::error::chain;

/// The public table of exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything the command names is done.
    Done = 0,
    /// A bug in rekindle.
    Bug = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The plan is invalid, or the run was refused before its first write.
    Refused = 3,
    /// Done, but some rows are dead letters.
    DeadLetters = 4,
    /// Stopped or blocked; `run` goes on from there.
    Stopped = 5,
    /// The state file or a target is in use by another run.
    InUse = 6,
    /// `verify` found differences.
    Differences = 7,
    /// Interrupted by a signal; `run` goes on from there.
    Interrupted = 130,
}

impl Exit {
    /// Every code, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Bug,
        Self::Usage,
        Self::Refused,
        Self::DeadLetters,
        Self::Stopped,
        Self::InUse,
        Self::Differences,
        Self::Interrupted,
    ];

    /// Returns the process exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// An error for a person, in four parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The process exit code.
    pub exit: Exit,
    /// What stopped.
    pub what: String,
    /// Why, outermost cause first.
    pub why: Vec<String>,
    /// What is safe.
    pub safe: String,
    /// What to type next.
    pub next: String,
}

impl Failure {
    /// Returns a failure without causes.
    #[must_use]
    pub fn new(
        exit: Exit,
        what: impl Into<String>,
        safe: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            what: what.into(),
            why: Vec::new(),
            safe: safe.into(),
            next: next.into(),
        }
    }

    /// Returns the failure with `error` and its causes as the reason.
    #[must_use]
    pub fn because(mut self, error: &(dyn StdError + 'static)) -> Self {
        self.why.extend(chain(error));
        self
    }

    /// Returns the failure with one more line of reason.
    #[must_use]
    pub fn why(mut self, reason: impl Into<String>) -> Self {
        self.why.push(reason.into());
        self
    }
}

/// Returns what was typed without the flags that say which rows: for commands that look at a plan as a whole.
///
/// `plans/shop.yaml --state s.sqlite --only url` becomes `plans/shop.yaml --state s.sqlite`.
#[must_use]
pub fn without_scope(typed: &str) -> &str {
    let flags = [" --only ", " --skip ", " --ids ", " --dry-run"];
    let first = flags.iter().filter_map(|flag| typed.find(flag)).min();
    first.map_or(typed, |at| &typed[..at])
}

/// Returns `path` as a shell takes it for one word.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |one: char| one.is_alphanumeric() || "_-./@%+=:,".contains(one);
    if !path.is_empty() && path.chars().all(is_plain) {
        return path;
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_typed_as_one_word() {
        let typed = |path| quoted(Path::new(path));
        assert_eq!(typed("plans/shop-2.yaml"), "plans/shop-2.yaml");
        assert_eq!(typed("my shop.yaml"), "'my shop.yaml'");
        assert_eq!(typed("it's.yaml"), r"'it'\''s.yaml'");
        assert_eq!(typed("a;b"), "'a;b'");
        assert_eq!(typed("~/a"), "'~/a'");
    }
}
