//! `rds_snapshot`: a snapshot with a name of the plan's choice, waited for until it can be restored.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    super::{Action, Observed, Reversed, Scene, Told},
    AVAILABLE, Looks, Request, again, asked, before_again, fact, first, grace, missing, refused,
    tags::{TAKEN, is_of_run, run_of, token},
    unavailable,
};
use crate::{
    error::EdgeError,
    ids::RunId,
    machine::Facts,
    plan::{RdsSnapshot, filled_name},
    remote::rds::{Rds, Snapshot},
};

/// What `{date}` becomes, and how long that is.
const DATE: &str = "%Y%m%d-%H%M";
const DATE_LEN: usize = "20261122-0803".len();

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
        // Its name had a time in it that nobody knows any more. Steps may have moved since, so it is known by what it is of
        // and by its name; of several, the one with this step in its tag.
        let mut all = self.rds.snapshots(None).await?;
        all.retain(|one| is_of_run(scene, &one.tags, TAKEN) && self.is_meant(one));
        let step = format!(".{}", scene.step);
        let exact = all
            .iter()
            .position(|one| one.tags[TAKEN].ends_with(&step))
            .unwrap_or_default();
        Ok(all.into_iter().nth(exact))
    }

    /// Returns whether a snapshot that a step took is what this one would take.
    fn is_meant(&self, snapshot: &Snapshot) -> bool {
        let run = run_of(&snapshot.tags, TAKEN);
        let run = run.as_ref().map(RunId::as_str).unwrap_or_default();
        snapshot.instance.eq_ignore_ascii_case(&self.plan.instance)
            && has_name(&snapshot.name, &self.plan.name, run)
    }

    /// Refuses a name that is taken by something else.
    async fn is_free(&self, scene: &Scene, name: &str) -> Result<(), EdgeError> {
        match self.rds.snapshot(name).await? {
            Some(taken) if !is_of_run(scene, &taken.tags, TAKEN) => Err(is_taken(&taken)),
            _ => Ok(()),
        }
    }
}

fn is_taken(by: &Snapshot) -> EdgeError {
    refused(format!(
        "the name is taken: {}, of instance `{}`",
        standing(by),
        by.instance
    ))
}

/// Returns whether `name` is what `template` became for `run`, whatever the date was.
fn has_name(name: &str, template: &str, run: &str) -> bool {
    let marked = filled_name(template, "\0", run);
    let mut parts = marked.split('\0');
    let Some(mut rest) = parts.next().and_then(|begin| name.strip_prefix(begin)) else {
        return false;
    };
    for part in parts {
        let Some((date, after)) = rest.split_at_checked(DATE_LEN) else {
            return false;
        };
        let is_date = date
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
        match after.strip_prefix(part) {
            Some(after) if is_date => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
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
            Some(snapshot) if !is_of_run(scene, &snapshot.tags, TAKEN) => Observed::NotDone(
                format!("snapshot `{}` is there, and not this run's", snapshot.name),
            ),
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
        let date = chrono::Utc::now().format(DATE).to_string();
        let name = filled_name(&self.plan.name, &date, scene.run.as_str());
        // Also by another step of this run.
        if let Some(taken) = self.rds.snapshot(&name).await? {
            return Err(is_taken(&taken));
        }
        Ok(first(scene, Facts::from([(NAME.to_owned(), name)])))
    }

    async fn is_possible(&self, scene: &Scene) -> Result<(), EdgeError> {
        if !self.plan.name.contains("{date}") {
            let name = filled_name(&self.plan.name, "", scene.run.as_str());
            self.is_free(scene, &name).await?;
        }
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
                Some(snapshot) if !is_of_run(scene, &snapshot.tags, TAKEN) => {
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
                None if !is_asked && (!begun || looks.elapsed() >= before_again()) => {
                    is_asked = true;
                    self.request.is_made();
                    let tag = token(scene);
                    self.rds
                        .take_snapshot(&self.plan.instance, name, (TAKEN, &tag))
                        .await?;
                    asked()?;
                    looks = Looks::new();
                }
                None if looks.elapsed() > grace() => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_by_the_template_that_made_it() {
        let is = |name, template| has_name(name, template, "8PDQC3");
        assert!(is("before-8pdqc3", "before-{run}"));
        assert!(is("before-20261122-0803-x", "before-{date}-x"));
        assert!(is("fixed", "fixed"));
        assert!(!is("before-other1", "before-{run}"));
        assert!(!is("before-20261122-0803-y", "before-{date}-x"));
        assert!(!is("before-yesterday-xx", "before-{date}"));
        assert!(!is("fixed-too", "fixed"));
    }
}
