//! `rds_snapshot`: a snapshot with a name of the plan's choice, waited for until it can be restored.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    super::{Action, Observed, Reversed, Scene, Told},
    AGAIN, AVAILABLE, GRACE, Looks, Request, again, asked, fact, first, is_ours, missing, refused,
    token, unavailable,
};
use crate::{
    error::EdgeError,
    machine::Facts,
    plan::{RdsSnapshot, filled_name},
    remote::rds::{Rds, Snapshot},
};

/// The tag of a snapshot that a step took.
const TAKEN: &str = "rekindle:taken";

/// The fact with its name.
const NAME: &str = "snapshot";

pub(in crate::cutover) struct TakeSnapshot {
    rds: Arc<Rds>,
    request: Request,
    plan: RdsSnapshot,
}

impl TakeSnapshot {
    pub(in crate::cutover) const fn new(rds: Arc<Rds>, plan: RdsSnapshot) -> Self {
        Self {
            rds,
            request: Request::new(),
            plan,
        }
    }

    /// Returns the snapshot that this step took, or is taking.
    async fn found(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
    ) -> Result<Option<Snapshot>, EdgeError> {
        if let Some(facts) = facts {
            return self.rds.snapshot(fact(facts, NAME)?).await;
        }
        // Its name had a time in it that nobody knows any more.
        let all = self.rds.snapshots(None).await?;
        Ok(all.into_iter().find(|one| is_ours(scene, &one.tags, TAKEN)))
    }
}

fn standing(snapshot: &Snapshot) -> String {
    let percent = snapshot
        .percent
        .filter(|_| snapshot.status != AVAILABLE)
        .map_or_else(String::new, |percent| format!(" ({percent} %)"));
    format!(
        "snapshot `{}` is {}{percent}",
        snapshot.name, snapshot.status
    )
}

#[async_trait]
impl Action for TakeSnapshot {
    async fn observe(&self, scene: &Scene, facts: Option<&Facts>) -> Result<Observed, EdgeError> {
        Ok(match self.found(scene, facts).await? {
            Some(snapshot) if !is_ours(scene, &snapshot.tags, TAKEN) => Observed::NotDone(format!(
                "snapshot `{}` is there, and not this run's",
                snapshot.name
            )),
            Some(snapshot) if snapshot.status == AVAILABLE => Observed::Done(standing(&snapshot)),
            Some(snapshot) => Observed::NotDone(standing(&snapshot)),
            None => Observed::NotDone("no snapshot of this run".to_owned()),
        })
    }

    async fn intend(&self, scene: &Scene, had: Option<&Facts>) -> Result<Facts, EdgeError> {
        if let Some(had) = had {
            return Ok(again(had));
        }
        if let Some(snapshot) = self.found(scene, None).await? {
            return Ok(Facts::from([(NAME.to_owned(), snapshot.name)]));
        }
        self.is_possible(scene).await?;
        let date = chrono::Utc::now().format("%Y%m%d-%H%M").to_string();
        let name = filled_name(&self.plan.name, &date, scene.run.as_str());
        if let Some(taken) = self.rds.snapshot(&name).await? {
            return Err(refused(format!(
                "the name is taken: {}, of instance `{}`",
                standing(&taken),
                taken.instance
            )));
        }
        Ok(first(scene, Facts::from([(NAME.to_owned(), name)])))
    }

    async fn is_possible(&self, _scene: &Scene) -> Result<(), EdgeError> {
        let instance = &self.plan.instance;
        match self.rds.instance(instance).await? {
            Some(found) if found.status == AVAILABLE => Ok(()),
            Some(found) => Err(unavailable(instance, &found.status)),
            None => Err(missing(instance)),
        }
    }

    async fn perform(
        &self,
        scene: &Scene,
        facts: &Facts,
        told: Told<'_>,
    ) -> Result<String, EdgeError> {
        let name = fact(facts, NAME)?;
        let begun = self.request.may_be_made(facts);
        let mut looks = Looks::new();
        let mut is_asked = false;
        loop {
            match self.rds.snapshot(name).await? {
                Some(snapshot) if !is_ours(scene, &snapshot.tags, TAKEN) => {
                    return Err(refused(format!(
                        "the name is taken: {}, and it is not this run's",
                        standing(&snapshot)
                    )));
                }
                Some(snapshot) if snapshot.status == AVAILABLE => return Ok(standing(&snapshot)),
                Some(snapshot) if snapshot.status == "failed" => {
                    return Err(refused(format!(
                        "{}: delete it, or give the step another name",
                        standing(&snapshot)
                    )));
                }
                Some(snapshot) => told(standing(&snapshot)),
                None if !is_asked && (!begun || looks.elapsed() >= AGAIN) => {
                    is_asked = true;
                    self.request.is_made();
                    let tag = token(scene, &scene.run);
                    self.rds
                        .take_snapshot(&self.plan.instance, name, (TAKEN, &tag))
                        .await?;
                    asked()?;
                    looks = Looks::new();
                }
                None if looks.elapsed() > GRACE => {
                    return Err(refused(format!(
                        "RDS took the request for snapshot `{name}`, and there is none"
                    )));
                }
                None => told(format!("snapshot `{name}` is not there yet")),
            }
            looks.pause().await;
        }
    }

    async fn undo(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        _told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        Ok(Reversed::Nothing(match self.found(scene, facts).await? {
            Some(snapshot) => format!(
                "snapshot `{}` is kept: a copy is deleted by hand alone",
                snapshot.name
            ),
            None => "there is no snapshot of this run".to_owned(),
        }))
    }
}
