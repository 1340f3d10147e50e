//! What may have been asked for and is not seen yet; and who gets the old name when it is freed.

use std::time::Duration;

use super::{
    super::{
        super::Scene,
        AGAIN, GRACE, RENAMED, RESOURCE_ID, fact, is_of_run, is_ours,
        names::{holders, shown},
        refused,
    },
    Restore, renamed_before,
};
use crate::{error::EdgeError, machine::Facts, remote::rds::Instance};

/// The tag of the original while a restore under its old name is asked for. It comes before the request, and goes once
/// what was restored is there: until then RDS may have said yes to what is nowhere to be seen.
const ASKED: &str = "rekindle:restoring";

impl Restore {
    /// Notes on the original that what is to have its old name is asked for.
    pub(super) async fn note_asking(&self, tag: &str) -> Result<(), EdgeError> {
        match self.rds.instance(&self.plan.settings_of).await? {
            Some(original) if original.tags.get(ASKED).map(String::as_str) != Some(tag) => {
                self.rds.tag(&original.arn, &[(ASKED, tag)]).await
            }
            // A snapshot can be restored without it.
            _ => Ok(()),
        }
    }

    /// Takes that note back: what was asked for is there, or surely never comes.
    pub(super) async fn note_answered(&self) -> Result<(), EdgeError> {
        match self.rds.instance(&self.plan.settings_of).await? {
            Some(original) if original.tags.contains_key(ASKED) => {
                self.rds.untag(&original.arn, &[ASKED]).await
            }
            _ => Ok(()),
        }
    }

    /// Returns for how long what is nowhere to be seen may still come, as it may have been asked for.
    pub(super) async fn may_come(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
    ) -> Result<Duration, EdgeError> {
        let original = self.rds.instance(&self.plan.settings_of).await?;
        let was_asked = original.is_some_and(|original| is_ours(scene, &original.tags, ASKED));
        Ok(match facts {
            _ if was_asked => GRACE,
            Some(_) => AGAIN,
            None => Duration::ZERO,
        })
    }

    /// Refuses to free the old name where nothing is known that would get it: the shop would be left without any
    /// instance of that name.
    pub(super) async fn has_heir(
        &self,
        scene: &Scene,
        restored: &Instance,
    ) -> Result<(), EdgeError> {
        let model = &self.plan.settings_of;
        if self.original == *model {
            // The plan renames nothing to make way for it.
            return Ok(());
        }
        let heir = if let Some(facts) = renamed_before(scene, model) {
            self.rds.instance_with(fact(facts, RESOURCE_ID)?).await?
        } else {
            let found = self.rds.instance(model).await?;
            found.filter(|found| is_of_run(scene, &found.tags, RENAMED))
        };
        if heir.is_some() {
            return Ok(());
        }
        let names = holders(&self.rds, &[&self.plan.instance, model]).await?;
        Err(refused(format!(
            "{} would make way, and this run knows of no instance that would get its name back: {names}",
            shown(restored)
        )))
    }
}
