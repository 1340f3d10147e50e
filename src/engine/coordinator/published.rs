//! Resources that go through a queue: what is published counts as restored when the queue ran empty and the target has
//! every row.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    Coordinator, Finished, Job,
    verify::Looked,
    waiting::{BOTH, Passage},
};
use crate::{
    engine::{
        book::BookError,
        breaker::Side,
        copy::Report,
        drain::{Drain, NotDrained},
        verify::VerifyEnd,
    },
    error::chain,
    ids::ResourceName,
    machine::{ResourceEvent, ResourceLedger, ResourceState},
    report,
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
        let (Some(leased), Some(queue)) = (self.targets.get(&resource.to), &resource.queue) else {
            return;
        };
        let drain = Drain {
            resource: name.clone(),
            target: Arc::clone(&leased.target),
            within: queue.within,
            retry: self.plan.defaults.retry.clone(),
        };
        let reports = self.reports.0.clone();
        let task = self
            .tasks
            .spawn(async move { Finished::Drained(drain.run(|text| tell(&reports, text)).await) });
        // Dropped at once when a signal comes: it only looks.
        self.probes.insert(task.id(), task.clone());
        self.jobs.insert(task.id(), Job::Drain(name));
    }

    fn look_for(&mut self, name: ResourceName) {
        let queue = self.plan.resource(&name).and_then(|one| one.queue.as_ref());
        let (Ok(run), Some(queue)) = (self.book.run(), queue) else {
            return;
        };
        let within = queue.within;
        let work = self.comparison(run.scope.clone(), Vec::new());
        let one = name.clone();
        let task = self
            .tasks
            .spawn(async move { Finished::Looked(Box::new(work.look_for(one, within).await)) });
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
fn tell(reports: &mpsc::Sender<Report>, text: String) {
    let told = report::Event::Notice { text };
    reports.try_send(Report::Told(told)).ok();
}
