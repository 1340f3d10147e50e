//! What may have been asked for and is not seen yet.

use std::time::Duration;

use super::{
    super::{super::Scene, before_again, grace, tags::is_of_run},
    Restore,
};
use crate::{error::EdgeError, machine::Facts};

/// The tag of the original while a restore under its old name is asked for. It comes before the request, and goes once
/// what was restored is there: until then RDS may have said yes to what is nowhere to be seen.
const ASKED: &str = "rekindle:restoring";

impl Restore {
    /// Notes on the original that what is to have its old name is asked for. Returns whether that was not noted before.
    pub(super) async fn note_asking(&self, tag: &str) -> Result<bool, EdgeError> {
        match self.rds.instance(&self.plan.settings_of).await? {
            Some(original) if !original.tags.contains_key(ASKED) => {
                self.rds.tag(&original.arn, &[(ASKED, tag)]).await?;
                Ok(true)
            }
            Some(original) if original.tags.get(ASKED).map(String::as_str) != Some(tag) => {
                self.rds.tag(&original.arn, &[(ASKED, tag)]).await?;
                Ok(false)
            }
            // A snapshot can be restored without it.
            _ => Ok(false),
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
        let was_asked = original.is_some_and(|original| is_of_run(scene, &original.tags, ASKED));
        Ok(match facts {
            _ if was_asked => grace(),
            Some(_) => before_again(),
            None => Duration::ZERO,
        })
    }
}
