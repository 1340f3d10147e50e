//! Resources that start over although their targets hold what was recorded: what was recorded is not all that is needed.

use std::{collections::BTreeMap, sync::Arc};

use super::{Coordinator, Job, waiting::Passage};
use crate::{
    engine::{book::BookError, breaker::Side, evidence},
    error::EdgeError,
    ids::ResourceName,
    machine::{Handover, ResourceEvent, ResourceState},
    report,
    target::Target,
};

/// Why a resource starts over whose publisher an older release called.
const FORGOT: &str = "a release that did not keep for which entities called its publisher, so nobody knows where that put rows";

impl Coordinator {
    /// Returns the resources of the run whose rows may lie where nobody looks for them, and why.
    pub(super) fn of_older_releases(&self) -> BTreeMap<ResourceName, String> {
        let resources = self.book.resources().iter();
        let forgot = resources.filter(|one| {
            let handover = one.fallback.handover.as_ref();
            one.fallback.is_of_rows()
                && handover.is_some_and(Handover::forgot_entities)
                && !matches!(one.state, ResourceState::Done | ResourceState::Skipped)
        });
        forgot
            .map(|one| (one.name.clone(), FORGOT.to_owned()))
            .collect()
    }

    /// Starts over what has to, as soon as its target is proven; returns whether nothing is left to.
    pub(super) async fn start_anew(&mut self) -> Result<bool, BookError> {
        let can = |name: &ResourceName| {
            let busy = self.jobs.values().any(
                |job| matches!(job, Job::Walk(of, _) | Job::Hand(of, _) | Job::Bind(of) if of == name),
            );
            !busy && self.is_proven(name) && self.passage(name, &[Side::Target]) != Passage::Closed
        };
        let due: Vec<(ResourceName, String)> = self
            .anew
            .iter()
            .filter(|(name, _)| can(name))
            .map(|(name, reason)| (name.clone(), reason.clone()))
            .collect();
        for (name, reason) in due {
            let target = self.plan.resource(&name).and_then(|one| {
                let leased = self.targets.get(&one.to)?;
                Some(Arc::clone(&leased.target))
            });
            let Some(target) = target else {
                self.anew.remove(&name);
                continue;
            };
            if let Err(error) = self.clear_rows(&name, &*target).await {
                self.failed(&name, Side::Target, &error).await?;
                let blocked =
                    |state: &ResourceState| matches!(state, ResourceState::Blocked { .. });
                if self
                    .book
                    .resource(&name)
                    .is_none_or(|one| blocked(&one.state))
                {
                    // The next `run` finds it again.
                    self.anew.remove(&name);
                }
                continue;
            }
            self.anew.remove(&name);
            let event = ResourceEvent::StartedOver {
                reason: reason.clone(),
                void: false,
            };
            self.book.resource_moved(&name, event).await?;
            self.emit(&report::Event::Redone {
                text: format!("`{name}` starts over: {reason}"),
                resource: name,
            });
        }
        Ok(self.anew.is_empty())
    }

    /// Takes away what a target would keep of a resource that starts over, its evidence last: a death in between finds none,
    /// and starts over again.
    pub(super) async fn clear_rows(
        &self,
        name: &ResourceName,
        target: &dyn Target,
    ) -> Result<(), EdgeError> {
        let Ok(run) = self.book.run() else {
            return Ok(());
        };
        let keys = run
            .resource(name)
            .map_or_else(Vec::new, |one| evidence::partition_keys(run, one));
        target.clear(name, &evidence::extent(run)).await?;
        target.forget(&run.id, &keys).await
    }
}
