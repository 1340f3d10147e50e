//! What a plan says about database instances of RDS.

use std::time::Duration;

use serde_json::{Value, json};

use super::TablePattern;

/// `aws:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsConfig {
    /// Where the instances are.
    pub region: String,
    /// Another address of RDS than the region's own.
    pub endpoint: Option<String>,
    /// What the names of hourly snapshots look like.
    pub hourly: Option<TablePattern>,
}

/// `rds_snapshot:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdsSnapshot {
    /// The instance.
    pub instance: String,
    /// The snapshot's name, with `{date}` and `{run}` still in it.
    pub name: String,
}

/// `rds_rename:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdsRename {
    /// The instance's name before.
    pub instance: String,
    /// And from then on.
    pub to: String,
    /// Whether RDS does it in the instance's own maintenance window, which may be a week away.
    pub in_window: bool,
}

/// `rds_restore:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdsRestore {
    /// The name of what is restored.
    pub instance: String,
    /// What it is restored from.
    pub from: RestoreFrom,
    /// The instance whose settings it gets.
    pub settings_of: String,
}

/// `rds_restore.from:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreFrom {
    /// The snapshot of this name.
    Snapshot(String),
    /// The newest snapshot of a kind.
    Latest(SnapshotKind),
    /// A point in time, since 1970.
    Time(Duration),
}

/// Who takes snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnapshotKind {
    /// RDS itself, once a day; they expire with the instance's retention.
    Automated,
    /// Something that names them as `aws.hourly` says.
    Hourly,
    /// A person, or a step.
    Manual,
}

impl SnapshotKind {
    /// Returns the plan's word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Automated => "automated",
            Self::Hourly => "hourly",
            Self::Manual => "manual",
        }
    }

    /// Returns the kind that a plan calls `word`.
    pub(super) fn of(word: &str) -> Option<Self> {
        [Self::Automated, Self::Hourly, Self::Manual]
            .into_iter()
            .find(|kind| kind.label() == word)
    }
}

impl RdsSnapshot {
    pub(super) fn definition(&self) -> Value {
        json!({ "instance": self.instance, "name": self.name })
    }
}

impl RdsRename {
    pub(super) fn definition(&self) -> Value {
        json!({ "instance": self.instance, "to": self.to, "in_window": self.in_window })
    }
}

impl RdsRestore {
    pub(super) fn definition(&self) -> Value {
        let from = match &self.from {
            RestoreFrom::Snapshot(name) => json!({ "snapshot": name }),
            RestoreFrom::Latest(kind) => json!({ "latest": kind.label() }),
            RestoreFrom::Time(time) => json!({ "time": time.as_secs() }),
        };
        json!({ "instance": self.instance, "from": from, "settings_of": self.settings_of })
    }
}

/// Returns a snapshot's name with `{date}` and `{run}` filled in.
#[must_use]
pub fn filled_name(template: &str, date: &str, run: &str) -> String {
    template
        .replace("{date}", date)
        .replace("{run}", run)
        .to_ascii_lowercase()
}
