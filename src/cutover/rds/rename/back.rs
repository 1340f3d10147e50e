//! The way back of a rename: whether a name was asked for at all, and the old one given back.

use std::time::Duration;

use super::{
    super::{
        super::{Scene, Told},
        AVAILABLE, Looks, before_again, grace,
        names::{holders, shown},
        refused,
        tags::{RENAMED, RESTORED, is_of_run, token},
        way,
    },
    Rename, Wish,
};
use crate::{
    error::{EdgeError, ErrorKind},
    machine::Facts,
    remote::rds::Instance,
    report::human,
};

/// The tag of an instance that a step gives its old name back. It names what [`RENAMED`] named then: with both, the old
/// name that RDS shows is the one that was given back.
pub(super) const NAMED_BACK: &str = "rekindle:named-back";

impl Rename {
    /// Returns the instance whose name is to be given back, once it is known whether it was asked to change it: what RDS
    /// said yes to shows the old name, or no instance at all, for a while. `None` where none is known.
    pub(super) async fn settled(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<Option<Instance>, EdgeError> {
        let mut looks = Looks::new();
        loop {
            let Some(found) = self.subject(scene, facts).await? else {
                let enough = if facts.is_some() {
                    grace()
                } else {
                    before_again()
                };
                if looks.elapsed() >= enough {
                    return Ok(None);
                }
                told("the instance is nowhere to be seen".to_owned());
                looks.pause().await;
                continue;
            };
            if found.name != self.plan.instance || found.status != AVAILABLE {
                return Ok(Some(found));
            }
            let waits = found.pending_name.as_ref() == Some(&self.plan.to);
            let enough = self.may_be_asked(&found, facts, waits);
            if looks.elapsed() >= enough {
                if waits {
                    return Err(refused(format!(
                        "`{}` waits for its maintenance window to be called `{}`: take that back by hand",
                        found.name, self.plan.to
                    )));
                }
                return Ok(Some(found));
            }
            told(format!(
                "`{}` may have been asked to be called `{}`, and is not yet: looked at for {}",
                found.name,
                self.plan.to,
                human::duration(enough)
            ));
            looks.pause().await;
        }
    }

    /// Returns for how long `found`, which has its old name, is looked at before that name is believed.
    fn may_be_asked(&self, found: &Instance, facts: Option<&Facts>, waits: bool) -> Duration {
        let tag = found.tags.get(RENAMED);
        if tag.is_none() && !waits {
            // The tag comes before the request.
            return if facts.is_some() {
                before_again()
            } else {
                Duration::ZERO
            };
        }
        let is_known = if waits {
            self.plan.in_window
        } else {
            found.tags.get(NAMED_BACK) == tag
        };
        if is_known { Duration::ZERO } else { grace() }
    }

    /// Gives `found` its old name back; what this run restored under it makes way, as it may not have yet.
    pub(super) async fn named_back(
        &self,
        scene: &Scene,
        found: &Instance,
        told: Told<'_>,
    ) -> Result<Instance, EdgeError> {
        let from = &self.plan.instance;
        if found.name != *from
            && let Some(holder) = self.rds.instance(from).await?
            && holder.resource_id != found.resource_id
        {
            if !is_of_run(scene, &holder.tags, RESTORED) {
                return Err(refused(format!(
                    "the name `{from}` is taken by {}; `{}` is {}",
                    shown(&holder),
                    found.name,
                    shown(found)
                )));
            }
            self.is_ready(&found.resource_id, told).await?;
            way::make_way(&self.rds, from, scene, told).await?;
        }
        // An older state file may know of a rename without its tag.
        let by = found.tags.get(RENAMED).cloned();
        let wish = Wish {
            tag: (NAMED_BACK, by.unwrap_or_else(|| token(scene))),
            at_once: true,
            not_before: Duration::ZERO,
        };
        self.called(&found.resource_id, from, wish, told).await
    }

    /// Waits until the instance `id` can take another name.
    async fn is_ready(&self, id: &str, told: Told<'_>) -> Result<(), EdgeError> {
        let mut looks = Looks::new();
        loop {
            match self.rds.instance_with(id).await? {
                Some(found) if way::takes_a_name(&found)? => return Ok(()),
                Some(found) if looks.elapsed() > self.within => {
                    return Err(refused(format!(
                        "gave up after {}: `{}` is {}",
                        human::duration(self.within),
                        found.name,
                        found.status
                    )));
                }
                Some(found) => told(format!("`{}` is {}", found.name, found.status)),
                None if looks.elapsed() > grace() => return Err(self.is_gone(id).await),
                None => told(format!("instance {id} is nowhere to be seen")),
            }
            looks.pause().await;
        }
    }

    /// Returns `why` the old name could not be given back, after what made way for it has it again: unless it may still come.
    pub(super) async fn given_up(
        &self,
        scene: &Scene,
        found: &Instance,
        why: EdgeError,
        told: Told<'_>,
    ) -> EdgeError {
        if why.kind.disposition().passes() {
            return why;
        }
        let from = &self.plan.instance;
        let may_come = match self.rds.instance_with(&found.resource_id).await {
            Ok(Some(now)) => {
                now.name == *from
                    || now.pending_name.is_some()
                    || now.status != AVAILABLE && !way::is_stuck(&now.status)
            }
            Ok(None) | Err(_) => true,
        };
        if may_come {
            return why;
        }
        way::take_back(&self.rds, from, scene, why, told).await
    }

    /// Returns the error for an instance that a step renamed and that is nowhere. It is never taken for reversed: it may be looked
    /// for in the wrong place.
    pub(super) async fn is_gone(&self, id: &str) -> EdgeError {
        let names = [self.plan.instance.as_str(), self.plan.to.as_str()];
        let names = holders(&self.rds, &names).await;
        let names = names.unwrap_or_else(|error| error.to_string());
        EdgeError::new(
            ErrorKind::Missing,
            format!(
                "instance {id}, which was renamed, is nowhere in {}: is this the account of that run, or was it deleted? {names}",
                self.rds.region()
            ),
        )
    }
}
