//! The way back of a restore: what was restored makes way, where it is known who gets the name.

use super::{
    super::{
        super::{Reversed, Scene, Told},
        AVAILABLE, Looks, RESOURCE_ID, fact, grace,
        names::{holders, shown},
        refused,
        tags::{RENAMED, RESTORED, is_of_run},
        way, whereabouts,
    },
    Restore, renamed_before,
};
use crate::{
    error::{EdgeError, ErrorKind},
    machine::Facts,
    remote::rds::Instance,
    report::human,
};

/// Who gets the old name when it is freed.
enum Heir {
    /// Nobody: the plan renames nothing to make way.
    Nobody,
    /// This one.
    Known(Box<Instance>),
    /// The one with this id, which nothing shows.
    Unseen(String),
    /// The run knows of none.
    Unknown,
}

impl Restore {
    /// Looks, before anything is reversed, whether the original can have its name back.
    pub(super) async fn can_make_way(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<(), EdgeError> {
        let (name, model) = (&self.plan.instance, &self.plan.settings_of);
        whereabouts::check(&self.rds, facts, &[name, model]).await?;
        let holder = self.rds.instance(name).await?;
        let has_name = holder.filter(|found| is_of_run(scene, &found.tags, RESTORED));
        if let Some(restored) = &has_name
            && way::is_stuck(&restored.status)
        {
            return Err(way::stays(restored));
        }
        let mut looks = Looks::new();
        loop {
            match (self.heir(scene).await?, &has_name) {
                (Heir::Known(heir), Some(_)) => return way::takes_a_name(&heir).map(drop),
                (Heir::Unknown, Some(restored)) => return Err(self.no_heir(restored).await),
                (Heir::Unseen(id), _) if looks.elapsed() > grace() => {
                    return Err(self.is_gone(&id).await);
                }
                (Heir::Unseen(id), _) => told(format!("instance {id} is nowhere to be seen")),
                _ => return Ok(()),
            }
            looks.pause().await;
        }
    }

    /// Has what this run restored make way, kept under another name.
    pub(super) async fn made_undone(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        let (name, model) = (&self.plan.instance, &self.plan.settings_of);
        whereabouts::check(&self.rds, facts, &[name, model]).await?;
        let aside = way::aside(name, &scene.run);
        let may_come = self.may_come(scene, facts).await?;
        let mut looks = Looks::new();
        let mut unseen = Looks::new();
        loop {
            if looks.elapsed() > self.within.max(grace()) {
                return Err(refused(format!(
                    "gave up after {}: {}",
                    human::duration(self.within),
                    holders(&self.rds, &[name, model]).await?
                )));
            }
            match self.rds.instance(name).await? {
                None => {
                    // Renamed by an earlier try; or never there.
                    if let Some(kept) = self.rds.instance(&aside).await? {
                        self.note_answered().await?;
                        return Ok(Reversed::Undone(kept_as(&kept.name)));
                    }
                    if unseen.elapsed() >= may_come {
                        // Where its original is not, it is looked for in the wrong place.
                        match self.heir(scene).await? {
                            Heir::Unseen(id) if unseen.elapsed() > grace() => {
                                return Err(self.is_gone(&id).await);
                            }
                            Heir::Unseen(_) => {}
                            _ => {
                                self.note_answered().await?;
                                return Ok(Reversed::Undone(format!(
                                    "no instance is called `{name}`"
                                )));
                            }
                        }
                    }
                    told(format!(
                        "`{name}` may have been asked for, and is nowhere to be seen yet"
                    ));
                }
                Some(found) if !is_of_run(scene, &found.tags, RESTORED) => {
                    return Ok(Reversed::Nothing(format!(
                        "`{name}` is {}, which this run did not restore",
                        shown(&found)
                    )));
                }
                Some(found) if found.status == AVAILABLE => {
                    if self.heir_is_ready(scene, &found, told).await? {
                        let aside = way::make_way(&self.rds, name, scene, told).await?;
                        self.note_answered().await?;
                        return Ok(Reversed::Undone(kept_as(&aside)));
                    }
                }
                Some(found) if way::is_stuck(&found.status) => return Err(way::stays(&found)),
                Some(found) => {
                    told(format!("`{name}` is {}", found.status));
                    unseen = Looks::new();
                }
            }
            looks.pause().await;
        }
    }

    /// Returns whether who gets the old name can take it now. The shop would be left without any instance of that name otherwise.
    async fn heir_is_ready(
        &self,
        scene: &Scene,
        restored: &Instance,
        told: Told<'_>,
    ) -> Result<bool, EdgeError> {
        match self.heir(scene).await? {
            Heir::Nobody => Ok(true),
            Heir::Known(heir) if way::takes_a_name(&heir)? => Ok(true),
            Heir::Known(heir) => {
                told(format!("`{}` is {}", heir.name, heir.status));
                Ok(false)
            }
            Heir::Unseen(id) => {
                told(format!("instance {id} is nowhere to be seen"));
                Ok(false)
            }
            Heir::Unknown => Err(self.no_heir(restored).await),
        }
    }

    async fn heir(&self, scene: &Scene) -> Result<Heir, EdgeError> {
        let model = &self.plan.settings_of;
        if self.original == *model {
            return Ok(Heir::Nobody);
        }
        if let Some(facts) = renamed_before(scene, model) {
            let id = fact(facts, RESOURCE_ID)?;
            let found = self.rds.instance_with(id).await?;
            return Ok(found.map_or_else(
                || Heir::Unseen(id.to_owned()),
                |found| Heir::Known(Box::new(found)),
            ));
        }
        let found = self.rds.instance(model).await?;
        let found = found.filter(|found| is_of_run(scene, &found.tags, RENAMED));
        Ok(found.map_or(Heir::Unknown, |found| Heir::Known(Box::new(found))))
    }

    async fn no_heir(&self, restored: &Instance) -> EdgeError {
        refused(format!(
            "{} would make way, and this run knows of no instance that would get its name back: {}",
            shown(restored),
            self.names().await
        ))
    }

    async fn is_gone(&self, id: &str) -> EdgeError {
        EdgeError::new(
            ErrorKind::Missing,
            format!(
                "instance {id}, which made way, is nowhere in {}: is this the account of that run, or was it deleted? {}",
                self.rds.region(),
                self.names().await
            ),
        )
    }

    async fn names(&self) -> String {
        let names = [self.plan.instance.as_str(), self.plan.settings_of.as_str()];
        let names = holders(&self.rds, &names).await;
        names.unwrap_or_else(|error| error.to_string())
    }
}

fn kept_as(name: &str) -> String {
    format!("what was restored is called `{name}` now, and is kept: delete it by hand")
}
