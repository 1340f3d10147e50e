//! `rds_restore`: a new instance under the old name, with every setting of the original.

mod asked;
mod equal;
mod origin;
mod place;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;

use self::equal::in_words;
use super::{
    super::{Action, Observed, Reversed, Scene, Told},
    AGAIN, AVAILABLE, GRACE, Looks, RENAMED_TO, RESOURCE_ID, Request, SETTINGS, again, asked, fact,
    first, has_failed, is_ours, kept, missing,
    names::{holders, shown},
    refused, renamed, token,
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::RunId,
    machine::Facts,
    plan::RdsRestore,
    remote::rds::{Instance, Origin, Rds, Settings},
};

/// The tag of an instance that a step restored.
const RESTORED: &str = "rekindle:restored";

/// Facts: what it is restored from.
const SNAPSHOT: &str = "snapshot";
const TIME: &str = "time";

/// Longest name of an instance.
const NAME: usize = 63;

pub(in crate::cutover) struct Restore {
    rds: Arc<Rds>,
    request: Request,
    plan: RdsRestore,
    /// What the instance under `settings_of` is called before the steps before this one.
    original: String,
    log: PathBuf,
}

impl Restore {
    pub(in crate::cutover) const fn new(
        rds: Arc<Rds>,
        plan: RdsRestore,
        original: String,
        log: PathBuf,
    ) -> Self {
        Self {
            rds,
            request: Request::new(),
            plan,
            original,
            log,
        }
    }

    /// Returns the settings as they were recorded before the rename, or as they are.
    async fn recorded(&self, scene: &Scene) -> Result<Settings, EdgeError> {
        match renamed_before(scene, &self.plan.settings_of) {
            Some(facts) => read(facts),
            None => Ok(self.model().await?.settings),
        }
    }

    /// Returns the instance whose settings are wanted.
    async fn model(&self) -> Result<Instance, EdgeError> {
        let name = &self.plan.settings_of;
        self.rds.instance(name).await?.ok_or_else(|| {
            EdgeError::new(
                ErrorKind::Missing,
                format!("no instance is called `{name}`, whose settings are wanted"),
            )
        })
    }

    /// Returns what was chosen to restore from.
    fn chosen(&self, facts: &Facts) -> Result<Origin, EdgeError> {
        if let Some(seconds) = facts.get(TIME) {
            return Ok(Origin::Time {
                instance: self.plan.settings_of.clone(),
                seconds: seconds.parse().unwrap_or(0),
            });
        }
        fact(facts, SNAPSHOT).map(|name| Origin::Snapshot(name.to_owned()))
    }
}

/// Returns what a step that renamed an instance to `name` recorded.
fn renamed_before<'a>(scene: &'a Scene, name: &str) -> Option<&'a Facts> {
    let earlier = scene.earlier.iter();
    earlier
        .filter(|facts| facts.get(RENAMED_TO).is_some_and(|to| to == name))
        .find(|facts| facts.contains_key(SETTINGS))
}

fn read(facts: &Facts) -> Result<Settings, EdgeError> {
    serde_json::from_str(fact(facts, SETTINGS)?).map_err(|error| {
        EdgeError::new(ErrorKind::Internal, "recorded settings cannot be read").because(error)
    })
}

#[async_trait]
impl Action for Restore {
    fn is_irreversible(&self) -> bool {
        true
    }

    /// An instance that is being made is neither done nor not there.
    fn can_tell(&self) -> bool {
        false
    }

    async fn observe(&self, scene: &Scene, facts: Option<&Facts>) -> Result<Observed, EdgeError> {
        let name = &self.plan.instance;
        let Some(found) = self.rds.instance(name).await? else {
            return Ok(Observed::NotDone(format!("no instance is called `{name}`")));
        };
        if !is_ours(scene, &found.tags, RESTORED) {
            return Ok(Observed::NotDone(format!(
                "`{name}` is {}, which this run did not restore",
                shown(&found)
            )));
        }
        if found.status != AVAILABLE || found.has_pending || found.needs_reboot {
            return Ok(Observed::NotDone(format!(
                "`{name}` is {}",
                in_words(&found)
            )));
        }
        let wanted = match facts {
            Some(facts) => read(facts)?,
            None => self.recorded(scene).await?,
        };
        let differences = wanted.differences(&found.settings);
        if differences.is_empty() {
            return Ok(Observed::Done(done(&found)));
        }
        let names: Vec<_> = differences.iter().map(|one| one.name.as_str()).collect();
        Ok(Observed::NotDone(format!(
            "`{name}` is restored, and differs in {}",
            names.join(", ")
        )))
    }

    async fn intend(&self, scene: &Scene, had: Option<&Facts>) -> Result<Facts, EdgeError> {
        if let Some(had) = had {
            return Ok(again(had));
        }
        let name = &self.plan.instance;
        let there = self.rds.instance(name).await?;
        let is_begun = there
            .as_ref()
            .is_some_and(|found| is_ours(scene, &found.tags, RESTORED));
        if there.is_some() && !is_begun {
            let names = holders(&self.rds, &[name, &self.plan.settings_of]).await?;
            return Err(refused(format!("the name `{name}` is taken: {names}")));
        }
        let settings = kept(&self.recorded(scene).await?)?;
        let mut facts = Facts::from([(SETTINGS.to_owned(), settings)]);
        if is_begun {
            return Ok(again(&facts));
        }
        let original = match renamed_before(scene, &self.plan.settings_of) {
            Some(renamed) => {
                let id = fact(renamed, RESOURCE_ID)?;
                self.rds.instance_with(id).await?
            }
            None => None,
        };
        let original = match original {
            Some(original) => original,
            None => self.model().await?,
        };
        let (key, value) = match self.origin(&original).await? {
            Origin::Snapshot(snapshot) => (SNAPSHOT, snapshot),
            Origin::Time { seconds, .. } => (TIME, seconds.to_string()),
        };
        facts.insert(key.to_owned(), value);
        Ok(first(scene, facts))
    }

    async fn is_possible(&self, scene: &Scene) -> Result<(), EdgeError> {
        let name = &self.plan.instance;
        let holder = self.rds.instance(name).await?;
        if let Some(holder) = &holder
            && is_ours(scene, &holder.tags, RESTORED)
        {
            return Ok(());
        }
        let mut original = self.rds.instance(&self.plan.settings_of).await?;
        if original.is_none() {
            // Before the steps that rename it.
            original = self.rds.instance(&self.original).await?;
        }
        let original = original.ok_or_else(|| missing(&self.original))?;
        if let Some(holder) = holder
            && holder.resource_id != original.resource_id
        {
            return Err(refused(format!(
                "the name `{name}` is taken by {}",
                shown(&holder)
            )));
        }
        self.origin(&original).await.map(drop)
    }

    async fn perform(
        &self,
        scene: &Scene,
        facts: &Facts,
        told: Told<'_>,
    ) -> Result<String, EdgeError> {
        let name = &self.plan.instance;
        let settings = read(facts)?;
        let begun = self.request.may_be_made(facts);
        let mut looks = Looks::new();
        let mut is_asked = false;
        loop {
            match self.rds.instance(name).await? {
                Some(found) if is_ours(scene, &found.tags, RESTORED) => break,
                Some(_) => {
                    let names = holders(&self.rds, &[name, &self.plan.settings_of]).await?;
                    return Err(refused(format!("the name `{name}` is taken: {names}")));
                }
                None if !is_asked && (!begun || looks.elapsed() >= AGAIN) => {
                    is_asked = true;
                    self.request.is_made();
                    let tag = token(scene, &scene.run);
                    let origin = self.chosen(facts)?;
                    self.note_asking(&tag).await?;
                    let answer = self
                        .rds
                        .restore(name, &origin, &settings, (RESTORED, &tag))
                        .await;
                    if let Err(error) = answer {
                        if !begun && !error.kind.disposition().passes() {
                            // Left behind, it makes an `undo` look longer, and does no other harm.
                            self.note_answered().await.ok();
                        }
                        return Err(error);
                    }
                    asked()?;
                    looks = Looks::new();
                }
                None if looks.elapsed() > GRACE => {
                    return Err(refused(format!(
                        "RDS took the request for `{name}`, and no instance is called so"
                    )));
                }
                None => told(format!("`{name}` is not there yet")),
            }
            looks.pause().await;
        }
        self.note_answered().await?;
        let restored = self.made_equal(&settings, told).await?;
        self.leads_there(&restored, told).await?;
        Ok(done(&restored))
    }

    async fn undo(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        let name = &self.plan.instance;
        let aside = aside(name, &scene.run);
        let may_come = self.may_come(scene, facts).await?;
        let mut looks = Looks::new();
        let mut is_asked = false;
        loop {
            match self.rds.instance(name).await? {
                None => {
                    // Renamed by an earlier try, or by this one; or never there.
                    let reversed = match self.rds.instance(&aside).await? {
                        Some(kept) => Reversed::Undone(format!(
                            "what was restored is called `{}` now, and is kept: delete it by hand",
                            kept.name
                        )),
                        None if is_asked && looks.elapsed() < GRACE
                            || !is_asked && looks.elapsed() < may_come =>
                        {
                            let what = if is_asked {
                                "is being renamed"
                            } else {
                                "may have been asked for"
                            };
                            told(format!("`{name}` {what}, and is nowhere to be seen yet"));
                            looks.pause().await;
                            continue;
                        }
                        None => Reversed::Undone(format!("no instance is called `{name}`")),
                    };
                    self.note_answered().await?;
                    return Ok(reversed);
                }
                Some(found) if !is_ours(scene, &found.tags, RESTORED) => {
                    return Ok(Reversed::Nothing(format!(
                        "`{name}` is {}, which this run did not restore",
                        shown(&found)
                    )));
                }
                Some(found) if found.status == AVAILABLE && !is_asked => {
                    self.has_heir(scene, &found).await?;
                    is_asked = true;
                    renamed(self.rds.rename(name, &aside, true).await)?;
                    asked()?;
                    looks = Looks::new();
                }
                Some(found) if has_failed(&found.status) => {
                    return Err(refused(format!(
                        "`{name}` is {}: delete it by hand, then the old name is free",
                        shown(&found)
                    )));
                }
                Some(_) if is_asked && looks.elapsed() > GRACE => {
                    return Err(refused(format!(
                        "RDS took the request, and the instance is still called `{name}`"
                    )));
                }
                Some(found) => told(format!("`{name}` is {}", found.status)),
            }
            looks.pause().await;
        }
    }
}

fn done(instance: &Instance) -> String {
    let place = instance
        .endpoint
        .as_ref()
        .map_or_else(String::new, |(host, port)| format!(" at {host}:{port}"));
    format!(
        "`{}` is {}{place}, with {} settings equal",
        instance.name,
        shown(instance),
        instance.settings.count()
    )
}

/// Returns the name that makes way for the original: `shop-db-undone-8pdqc3`. It ends with the run that is reversed: that of
/// an earlier one may be taken.
fn aside(name: &str, run: &RunId) -> String {
    let end = format!("-undone-{}", run.as_str().to_ascii_lowercase());
    let begin: String = name.chars().take(NAME.saturating_sub(end.len())).collect();
    format!("{}{end}", begin.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_makes_way_is_one_that_rds_takes() {
        let run = RunId::from_text("8PDQC3");
        assert_eq!(aside("shop-db", &run), "shop-db-undone-8pdqc3");
        let long = aside(&format!("{}-x", "a".repeat(48)), &run);
        assert!(long.len() <= NAME && !long.contains("--"), "{long}");
    }
}
