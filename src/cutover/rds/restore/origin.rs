//! What an instance is restored from: a snapshot that is whole, or a moment for which there is a backup.

use super::{
    super::{AVAILABLE, refused, tags::TAKEN},
    Restore,
};
use crate::{
    error::{EdgeError, ErrorKind},
    plan::{RestoreFrom, SnapshotKind},
    remote::rds::{Instance, Origin, Snapshot},
    report::human,
};

impl Restore {
    /// Returns what to restore from, which is there and whole. `original` is the instance that the snapshots are of.
    pub(super) async fn origin(&self, original: &Instance) -> Result<Origin, EdgeError> {
        let snapshot = match &self.plan.from {
            RestoreFrom::Snapshot(name) => {
                let found = self.rds.snapshot(name).await?;
                let found = found.ok_or_else(|| {
                    let text = format!("there is no snapshot `{name}`");
                    EdgeError::new(ErrorKind::Missing, text)
                })?;
                if found.status != AVAILABLE {
                    let percent = found
                        .percent
                        .map_or_else(String::new, |percent| format!(" ({percent} %)"));
                    return Err(refused(format!(
                        "snapshot `{name}` is {}{percent}, not available",
                        found.status
                    )));
                }
                found
            }
            RestoreFrom::Latest(kind) => {
                let all = self.rds.snapshots(Some(&original.resource_id)).await?;
                let latest = all.into_iter().find(|one| is_meant(one, *kind));
                latest.ok_or_else(|| {
                    let text = format!(
                        "there is no {} snapshot of instance {} that is available",
                        kind.label(),
                        original.resource_id
                    );
                    EdgeError::new(ErrorKind::Missing, text)
                })?
            }
            RestoreFrom::Time(time) => {
                let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
                within_window(original, seconds, chrono::Utc::now().timestamp())?;
                return Ok(Origin::Time {
                    instance: self.plan.settings_of.clone(),
                    seconds,
                });
            }
        };
        Ok(Origin::Snapshot(snapshot.name))
    }
}

fn is_meant(snapshot: &Snapshot, kind: SnapshotKind) -> bool {
    snapshot.kind == kind
        && snapshot.status == AVAILABLE
        // Nobody means a copy that a step took a minute ago. Other tags of ours are those of an instance, copied.
        && (kind != SnapshotKind::Manual || !snapshot.tags.contains_key(TAKEN))
}

/// Refuses a moment for which there is no backup.
fn within_window(original: &Instance, seconds: i64, now: i64) -> Result<(), EdgeError> {
    let (from, until) = original.window(now);
    let until = until.ok_or_else(|| {
        refused(format!(
            "instance `{}` keeps no backups: it cannot be restored to a point in time",
            original.name
        ))
    })?;
    if (from..=until).contains(&seconds) {
        return Ok(());
    }
    Err(refused(format!(
        "{} is outside of what can be restored: from about {} to {}",
        human::utc(seconds),
        human::utc(from),
        human::utc(until)
    )))
}
