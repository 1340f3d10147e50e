//! Every setting as it was: put back where the restore could not take it, compared, and shown where it is not so.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::{AVAILABLE, Looks, Told, asked, grace, has_failed, names::shown, refused},
    Restore,
};
use crate::{
    error::{EdgeError, ErrorKind},
    process::keep,
    remote::rds::{Difference, Instance, Settings, table},
};

/// How long a change of settings may leave an instance `available` and as it was.
const SETTLES: Duration = Duration::from_mins(1);

impl Restore {
    /// Puts the settings of the instance `id` back as they were, and returns it once they are. Its name may be taken from it
    /// meanwhile, by a run or an `undo` elsewhere.
    pub(super) async fn made_equal(
        &self,
        id: &str,
        wanted: &Settings,
        told: Told<'_>,
    ) -> Result<Instance, EdgeError> {
        let name = &self.plan.instance;
        let mut looks = Looks::new();
        let mut asked_at: Option<Instant> = None;
        let mut is_restarted = false;
        loop {
            let Some(found) = self.rds.instance(name).await? else {
                if looks.elapsed() > grace() {
                    let text = format!("instance `{name}` is gone");
                    return Err(EdgeError::new(ErrorKind::Missing, text));
                }
                looks.pause().await;
                continue;
            };
            if found.resource_id != *id {
                return Err(refused(format!(
                    "`{name}` was {id}, which this run restored, and is {} by now: somebody else is at work on these instances",
                    shown(&found)
                )));
            }
            if has_failed(&found.status) {
                return Err(refused(format!("`{name}` is {}", shown(&found))));
            }
            if found.status != AVAILABLE || found.has_pending {
                told(format!("`{name}` is {}", in_words(&found)));
                looks.pause().await;
                continue;
            }
            let differences = wanted.differences(&found.settings);
            let (mendable, fixed): (Vec<_>, Vec<_>) =
                differences.into_iter().partition(Difference::can_be_mended);
            if mendable.is_empty() {
                if !fixed.is_empty() {
                    return Err(self.differs(wanted, &found));
                }
                if !found.needs_reboot {
                    return Ok(found);
                }
                if !is_restarted {
                    is_restarted = true;
                    told(format!(
                        "`{name}` is restarted, for its parameters to take hold"
                    ));
                    self.rds.reboot(name).await?;
                    asked()?;
                }
            } else {
                match asked_at {
                    None => {
                        told(format!(
                            "{} settings of `{name}` are put back",
                            mendable.len()
                        ));
                        self.put_back(&found, &mendable, wanted).await?;
                        asked_at = Some(Instant::now());
                        looks = Looks::new();
                    }
                    Some(at) if at.elapsed() > SETTLES => return Err(self.differs(wanted, &found)),
                    Some(_) => told(format!("settings of `{name}` take hold")),
                }
            }
            looks.pause().await;
        }
    }

    async fn put_back(
        &self,
        found: &Instance,
        differences: &[Difference],
        wanted: &Settings,
    ) -> Result<(), EdgeError> {
        let (tags, others): (Vec<_>, Vec<_>) = differences
            .iter()
            .cloned()
            .partition(|one| one.tag().is_some());
        let set: Vec<_> = tags
            .iter()
            .filter_map(|one| Some((one.tag()?, one.wanted.as_deref()?)))
            .collect();
        if !set.is_empty() {
            self.rds.tag(&found.arn, &set).await?;
            asked()?;
        }
        let gone: Vec<_> = tags
            .iter()
            .filter(|one| one.wanted.is_none())
            .filter_map(Difference::tag)
            .collect();
        if !gone.is_empty() {
            self.rds.untag(&found.arn, &gone).await?;
            asked()?;
        }
        if !others.is_empty() {
            self.rds.modify(&found.name, &others, wanted).await?;
            asked()?;
        }
        Ok(())
    }

    /// Returns the error for an instance that is not as the original was. The table is kept beside the state file, too.
    fn differs(&self, wanted: &Settings, found: &Instance) -> EdgeError {
        let differences = wanted.differences(&found.settings);
        let table = table(&differences);
        if let Err(error) = keep(&self.log, &table) {
            tracing::warn!(%error, path = %self.log.display(), "a table of settings is not kept");
        }
        let each = differences.iter().map(|one| {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            format!(
                "{} is {}, not {}",
                one.name,
                shown(&one.found),
                shown(&one.wanted)
            )
        });
        refused(format!(
            "settings of `{}` are not those of `{}`: {}; the table is in {}",
            found.name,
            self.plan.settings_of,
            each.collect::<Vec<_>>().join(", "),
            self.log.display()
        ))
    }
}

/// Returns how an instance stands.
pub(super) fn in_words(instance: &Instance) -> String {
    if instance.has_pending && instance.status == AVAILABLE {
        "available, with changes still to be made".to_owned()
    } else {
        instance.status.clone()
    }
}
