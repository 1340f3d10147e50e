//! Resources that go through a queue: what is published counts as restored when the queue ran empty and the target has
//! every row.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    Coordinator, Finished, Job,
    look::Looked,
    waiting::{BOTH, Passage},
};
use crate::{
    control::Queued,
    engine::{
        book::BookError,
        breaker::Side,
        copy::Report,
        drain::{Drain, NotDrained},
        verify::VerifyEnd,
    },
    error::{EdgeError, chain},
    ids::ResourceName,
    journal::now_ms,
    machine::{ResourceEvent, ResourceLedger, ResourceState},
    plan::{Executor, Resource},
    report,
    target::Backlog,
};

impl Coordinator {
    /// Starts what comes next for resources whose messages are all confirmed.
    pub(super) fn follow_published(&mut self) {
        let due: Vec<_> = self
            .book
            .resources()
            .iter()
            .filter(|one| matches!(one.state, ResourceState::Published | ResourceState::Drained))
            .map(|one| (one.name.clone(), one.state == ResourceState::Drained))
            .collect();
        for (name, is_drained) in due {
            let is_followed = self.jobs.values().any(|job| match job {
                Job::Drain(of) => *of == name,
                // One comparison at a time: they share a file.
                Job::Look(of) => is_drained || *of == name,
                _ => false,
            });
            let is_open = self.is_proven(&name) && self.passage(&name, BOTH) != Passage::Closed;
            if is_followed || !is_open {
                continue;
            }
            if is_drained {
                self.look_for(name);
            } else {
                self.drain(name);
            }
        }
    }

    fn drain(&mut self, name: ResourceName) {
        let Some(resource) = self.plan.resource(&name) else {
            return;
        };
        let within = resource.queue.as_ref().map(|queue| queue.within);
        let Some(drain) = within.and_then(|within| self.drain_of(resource, within)) else {
            return;
        };
        let reports = self.reports.0.clone();
        let task = self.tasks.spawn(async move {
            Finished::Drained(drain.run(|text| tell(&reports, text)).await.map(drop))
        });
        // Dropped at once when a signal comes: it only looks.
        self.probes.insert(task.id(), task.clone());
        self.jobs.insert(task.id(), Job::Drain(name));
    }

    /// Returns the wait for the queues of a resource; `None` where it has none.
    pub(super) fn drain_of(&self, resource: &Resource, within: Duration) -> Option<Drain> {
        if resource.executor != Executor::Queue && resource.drains.is_empty() {
            return None;
        }
        let leased = self.targets.get(&resource.to)?;
        Some(Drain {
            resource: resource.name.clone(),
            target: Arc::clone(&leased.target),
            within,
            retry: self.plan.defaults.retry.clone(),
        })
    }

    /// Asks how much lies in the queues of resources that are on their way through them.
    pub(super) fn watch_queues(&mut self) {
        let due: Vec<ResourceName> = self
            .plan
            .resources
            .iter()
            .filter(|one| one.executor == Executor::Queue || !one.drains.is_empty())
            .filter(|one| self.is_under_way(&one.name))
            .map(|one| one.name.clone())
            .filter(|name| {
                let watching = |job: &Job| matches!(job, Job::Watch(other) if other == name);
                !self.jobs.values().any(watching)
            })
            .collect();
        for name in due {
            let to = self.plan.resource(&name).map(|one| &one.to);
            let Some(leased) = to.and_then(|to| self.targets.get(to)) else {
                continue;
            };
            let (target, of) = (Arc::clone(&leased.target), name.clone());
            let task = self
                .tasks
                .spawn(async move { Finished::Watched(target.backlog(&of).await) });
            self.probes.insert(task.id(), task.clone());
            self.jobs.insert(task.id(), Job::Watch(name));
        }
    }

    /// Takes note of what lies in the queues of a resource.
    pub(super) fn watched(&mut self, name: &ResourceName, found: Result<Vec<Backlog>, EdgeError>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                // Whoever needs the broker meets the same trouble, and waits for it to pass.
                tracing::debug!(resource = %name, %error, "queues not looked at");
                return;
            }
        };
        for queue in found {
            let place = (name.clone(), queue.queue.clone());
            let had = self.queued.get(&place);
            let stands = had.is_some_and(|had| had.ready == queue.ready);
            let is_told = |had: &Queued| {
                stands && (had.consumers, had.unacked) == (queue.consumers, queue.unacked)
            };
            if had.is_some_and(is_told) {
                continue;
            }
            self.emit(&report::Event::Queue {
                resource: name.clone(),
                queue: queue.queue.clone(),
                ready: queue.ready,
                unacked: queue.unacked,
                consumers: queue.consumers,
            });
            let had = self.queued.get(&place).filter(|_| stands);
            let queued = Queued {
                resource: name.clone(),
                queue: queue.queue,
                ready: queue.ready,
                unacked: queue.unacked,
                consumers: queue.consumers,
                since_ms: had.map_or_else(now_ms, |had| had.since_ms),
            };
            self.queued.insert(place, queued);
        }
    }

    /// Returns what `status` is told of queues: of resources that are on their way through them.
    pub(super) fn queued(&self) -> Vec<Queued> {
        let all = self.queued.values();
        all.filter(|one| self.is_under_way(&one.resource))
            .cloned()
            .collect()
    }

    fn is_under_way(&self, name: &ResourceName) -> bool {
        self.book.resource(name).is_some_and(|one| {
            matches!(
                one.state,
                ResourceState::Syncing
                    | ResourceState::Published
                    | ResourceState::Drained
                    | ResourceState::Draining
            )
        })
    }

    fn look_for(&mut self, name: ResourceName) {
        let resource = self.plan.resource(&name);
        let drain = resource.and_then(|one| self.drain_of(one, one.queue.as_ref()?.within));
        let (Ok(run), Some(drain)) = (self.book.run(), drain) else {
            return;
        };
        let work = self.comparison(run.scope.clone(), Vec::new());
        let task = self
            .tasks
            .spawn(async move { Finished::Looked(Box::new(work.look_for(drain).await)) });
        self.probes.insert(task.id(), task.clone());
        self.jobs.insert(task.id(), Job::Look(name));
    }

    /// Takes note that the queue of a resource ran empty, or why it did not.
    pub(super) async fn drained(
        &mut self,
        name: &ResourceName,
        outcome: Result<(), NotDrained>,
    ) -> Result<(), BookError> {
        if !self.stands_at(name, &ResourceState::Published) {
            return Ok(());
        }
        match outcome {
            Ok(()) => self.book.resource_moved(name, ResourceEvent::Drained).await,
            Err(NotDrained::Still(reason)) => self.block(name, reason).await,
            Err(NotDrained::Edge(error)) => self.failed(name, Side::Target, &error).await,
        }
    }

    /// Takes note of whether the target has the rows of a resource whose queue ran empty.
    pub(super) async fn looked(
        &mut self,
        name: &ResourceName,
        outcome: Result<Looked, VerifyEnd>,
    ) -> Result<(), BookError> {
        if !self.stands_at(name, &ResourceState::Drained) {
            return Ok(());
        }
        match outcome {
            Ok(Looked::All) => {
                self.book
                    .resource_moved(name, ResourceEvent::Copied)
                    .await?;
                let totals = self.book.resource(name).map(ResourceLedger::totals);
                if let Some((rows, bytes, dead_letters)) = totals {
                    self.emit(&report::Event::ResourceSynced {
                        resource: name.clone(),
                        rows,
                        bytes,
                        dead_letters,
                    });
                }
                Ok(())
            }
            Ok(Looked::Missing { missing, of }) => {
                let queue = self.plan.resource(name).and_then(|one| one.queue.as_ref());
                let queue = queue.map_or("", |queue| &queue.name);
                let reason = format!(
                    "published, not applied: the target has nothing of {missing} of {of} rows though `{queue}` is empty: look at \
                     `{queue}.error` and at who consumes the queue; `--new` publishes all rows again"
                );
                self.block(name, reason).await
            }
            Ok(Looked::Trouble(reason)) => self.block(name, reason).await,
            Err(VerifyEnd::Interrupted) => Ok(()),
            Err(VerifyEnd::Edge(error)) => self.failed(name, Side::Target, &error).await,
            Err(VerifyEnd::Scratch(error)) => self.block(name, chain(&error).join(": ")).await,
            Err(VerifyEnd::Failed(failure)) => {
                let mut why = vec![failure.what];
                why.extend(failure.why);
                self.block(name, why.join(": ")).await
            }
        }
    }

    fn stands_at(&self, name: &ResourceName, state: &ResourceState) -> bool {
        self.interrupted.is_none()
            && self
                .book
                .resource(name)
                .is_some_and(|one| one.state == *state)
    }
}

/// Hands a line to the coordinator. One that finds no room is only progress.
pub(super) fn tell(reports: &mpsc::Sender<Report>, text: String) {
    let told = report::Event::Notice { text };
    reports.try_send(Report::Told(told)).ok();
}
