//! What a comparison needs to write: the state file, so that no run begins meanwhile, and the leases.

use std::sync::Arc;

use crate::{
    cli::render::complain,
    engine::{self, Repair, VerifyEnd},
    failure::Failure,
    ids::{ResourceName, RunId},
    journal::{Journal, JournalError},
    machine::Event,
    report::human::counted,
};

/// The right to write.
pub(super) struct Rights {
    pub(super) repair: Arc<Repair>,
    pub(super) journal: Journal,
    /// The run in whose history it is told; without any, it stands there by itself.
    pub(super) latest: Option<RunId>,
}

impl Rights {
    async fn note(&self, text: String) -> Result<(), JournalError> {
        let run = self.latest.clone();
        let noted = self.journal.record(vec![Event::Noted { run, text }]);
        noted.await.map(drop)
    }

    /// Tells in the history that names were removed.
    pub(super) async fn note_removed(
        &self,
        resource: &ResourceName,
        removed: u64,
        typed: &str,
    ) -> Result<(), VerifyEnd> {
        if removed == 0 {
            return Ok(());
        }
        let noted = self.note(format!(
            "verify removed {} of `{resource}` that no row owned",
            counted(removed, "name")
        ));
        let failed = |error| VerifyEnd::Failed(engine::refused_by_journal(&error, typed));
        noted.await.map_err(failed)
    }

    /// Gives everything back, and tells in the history what was written.
    pub(super) async fn end(self, repaired: u64, typed: &str) -> Result<(), Failure> {
        for line in self.repair.end().await {
            complain(&line);
        }
        let failed = |error| engine::refused_by_journal(&error, typed);
        if repaired > 0 {
            let text = format!("verify rewrote {}", counted(repaired, "key"));
            self.note(text).await.map_err(failed)?;
        }
        self.journal.close().await.map_err(failed)
    }
}
