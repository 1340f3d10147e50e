//! `rds_restore`: a new instance under the old name, with every setting of the original.

mod asked;
mod back;
mod equal;
mod origin;
mod place;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

use self::equal::in_words;
use super::{
    super::{Action, Observed, Reversed, Scene, Told},
    AVAILABLE, Looks, RENAMED_TO, RESOURCE_ID, Request, SETTINGS, again, asked, before_again, fact,
    first, grace, kept, missing,
    names::{holders, shown},
    refused,
    tags::{RESTORED, RESTORED_FROM, is_of_run, token},
    whereabouts,
};
use crate::{
    error::{EdgeError, ErrorKind},
    machine::Facts,
    plan::{RdsRestore, RestoreFrom},
    remote::rds::{Instance, Origin, Rds, Settings},
};

/// Facts: what it is restored from.
const SNAPSHOT: &str = "snapshot";
const TIME: &str = "time";

pub(in crate::cutover) struct Restore {
    rds: Arc<Rds>,
    request: Request,
    plan: RdsRestore,
    /// What the instance under `settings_of` is called before the steps before this one.
    original: String,
    log: PathBuf,
    /// How long the way back may wait.
    within: Duration,
}

impl Restore {
    pub(in crate::cutover) const fn new(
        rds: Arc<Rds>,
        plan: RdsRestore,
        original: String,
        log: PathBuf,
        within: Duration,
    ) -> Self {
        Self {
            rds,
            request: Request::new(),
            plan,
            original,
            log,
            within,
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

    /// Adds what to restore from to `facts`, which is there and whole.
    async fn choose(&self, original: &Instance, facts: &mut Facts) -> Result<(), EdgeError> {
        let (key, value) = match self.origin(original).await? {
            Origin::Snapshot(snapshot) => (SNAPSHOT, snapshot),
            Origin::Time { seconds, .. } => (TIME, seconds.to_string()),
        };
        facts.insert(key.to_owned(), value);
        Ok(())
    }

    /// Returns the instance that made way, or whose settings are wanted where none did.
    async fn made_way(&self, scene: &Scene) -> Result<Instance, EdgeError> {
        if let Some(renamed) = renamed_before(scene, &self.plan.settings_of) {
            let id = fact(renamed, RESOURCE_ID)?;
            if let Some(original) = self.rds.instance_with(id).await? {
                return Ok(original);
            }
        }
        self.model().await
    }

    /// Refuses what this run restored from something else than is wanted now: the plan was edited, and nobody knew what was done.
    fn is_meant(&self, found: &Instance, facts: Option<&Facts>) -> Result<(), EdgeError> {
        // One of an earlier release does not say.
        let Some(had) = found.tags.get(RESTORED_FROM) else {
            return Ok(());
        };
        let wanted = facts.and_then(|facts| self.chosen(facts).ok());
        let is_so = match (&wanted, &self.plan.from) {
            (Some(origin), _) => *had == said(origin),
            (None, RestoreFrom::Snapshot(name)) => *had == format!("snapshot/{name}"),
            (None, RestoreFrom::Latest(_)) => had.starts_with("snapshot/"),
            (None, RestoreFrom::Time(time)) => *had == format!("time/{}", time.as_secs()),
        };
        if is_so {
            return Ok(());
        }
        Err(refused(format!(
            "`{}` was restored from {had} by this run or the one before it, and the plan says something else: put the plan back, or reverse that first",
            found.name
        )))
    }
}

/// Returns what says on an instance what it was restored from.
fn said(origin: &Origin) -> String {
    match origin {
        Origin::Snapshot(name) => format!("snapshot/{name}"),
        Origin::Time { seconds, .. } => format!("time/{seconds}"),
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
        if !is_of_run(scene, &found.tags, RESTORED) {
            return Ok(Observed::NotDone(format!(
                "`{name}` is {}, which this run did not restore",
                shown(&found)
            )));
        }
        if let Err(other) = self.is_meant(&found, facts) {
            return Ok(Observed::NotDone(other.to_string()));
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
        let name = &self.plan.instance;
        let there = self.rds.instance(name).await?;
        if let Some(had) = had {
            let mut facts = again(had);
            if there.is_none() && !facts.contains_key(SNAPSHOT) && !facts.contains_key(TIME) {
                // What was found begun is gone, and nobody knows any more what it was restored from.
                let original = self.made_way(scene).await?;
                self.choose(&original, &mut facts).await?;
            }
            return Ok(facts);
        }
        let begun = there
            .as_ref()
            .filter(|found| is_of_run(scene, &found.tags, RESTORED));
        if there.is_some() && begun.is_none() {
            let names = holders(&self.rds, &[name, &self.plan.settings_of]).await?;
            return Err(refused(format!("the name `{name}` is taken: {names}")));
        }
        let settings = kept(&self.recorded(scene).await?)?;
        let mut facts = Facts::from([(SETTINGS.to_owned(), settings)]);
        if let Some(begun) = begun {
            self.is_meant(begun, None)?;
            whereabouts::note(&mut facts, begun);
            return Ok(again(&facts));
        }
        let original = self.made_way(scene).await?;
        whereabouts::note(&mut facts, &original);
        self.choose(&original, &mut facts).await?;
        Ok(first(scene, facts))
    }

    async fn is_possible(&self, scene: &Scene) -> Result<(), EdgeError> {
        let name = &self.plan.instance;
        let holder = self.rds.instance(name).await?;
        if let Some(holder) = &holder
            && is_of_run(scene, &holder.tags, RESTORED)
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
        let found = loop {
            match self.rds.instance(name).await? {
                Some(found) if is_of_run(scene, &found.tags, RESTORED) => break found,
                Some(_) => {
                    let names = holders(&self.rds, &[name, &self.plan.settings_of]).await?;
                    return Err(refused(format!("the name `{name}` is taken: {names}")));
                }
                None if !is_asked && (!begun || looks.elapsed() >= before_again()) => {
                    is_asked = true;
                    self.request.is_made();
                    let tag = token(scene);
                    let origin = self.chosen(facts)?;
                    let is_first = self.note_asking(&tag).await?;
                    let from = said(&origin);
                    let own_tags = [(RESTORED, tag.as_str()), (RESTORED_FROM, from.as_str())];
                    let answer = self.rds.restore(name, &origin, &settings, &own_tags).await;
                    if let Err(error) = answer {
                        if is_first && !error.kind.disposition().passes() {
                            // Left behind, it makes an `undo` look longer, and does no other harm.
                            self.note_answered().await.ok();
                        }
                        return Err(error);
                    }
                    asked()?;
                    looks = Looks::new();
                }
                None if looks.elapsed() > grace() => {
                    return Err(refused(format!(
                        "RDS took the request for `{name}`, and no instance is called so"
                    )));
                }
                None => told(format!("`{name}` is not there yet")),
            }
            looks.pause().await;
        };
        self.note_answered().await?;
        self.is_meant(&found, Some(facts))?;
        let restored = self.made_equal(&found.resource_id, &settings, told).await?;
        self.leads_there(&restored, told).await?;
        Ok(done(&restored))
    }

    async fn undo(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        self.made_undone(scene, facts, told).await
    }

    async fn is_reversible(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<(), EdgeError> {
        self.can_make_way(scene, facts, told).await
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
