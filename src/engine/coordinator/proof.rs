//! Evidence: what the targets can prove, and what is done again when they cannot.

use std::sync::Arc;

use super::{Coordinator, Finished, Job};
use crate::{
    engine::{
        book::BookError,
        breaker::{Edge, Side},
        evidence::{self, Redo},
    },
    error::{EdgeError, ErrorKind},
    ids::{PartitionId, ResourceName},
    machine::{Event, PartitionEvent, Progress, ResourceEvent},
    report::{self, human},
    target::{Evidence, Recorded, Target},
};

/// Voids of one resource that block it: something keeps emptying the target.
const MOST_VOIDS: u32 = 3;

/// Times one attempt may rewind partitions of one resource before it blocks, for the same reason.
const MOST_REWINDS: u32 = 10;

impl Coordinator {
    pub(super) async fn tick(&mut self) -> Result<(), BookError> {
        self.book.journal().write_marker().await?;
        for name in self.targets.keys().cloned().collect::<Vec<_>>() {
            let checking = self
                .jobs
                .values()
                .any(|job| matches!(job, Job::Check(target) if *target == name));
            if !checking && !self.unproven.contains(&name) && self.interrupted.is_none() {
                self.check(&name);
            }
        }
        if self.interrupted.is_none() {
            self.measure();
            self.watch_queues();
        }
        Ok(())
    }

    /// Compares the evidence of a target with the journal in the background, and renews its lease.
    pub(super) fn check(&mut self, name: &str) {
        let Some(leased) = self.targets.get(name) else {
            return;
        };
        let recorded = self.recorded(name);
        let (target, lease, run) = (
            Arc::clone(&leased.target),
            Arc::clone(&leased.lease),
            self.book.run_id().clone(),
        );
        let task = self.tasks.spawn(async move {
            let evidence = match lease.ensure().await {
                Ok(()) => target.evidence(&run, &recorded).await,
                Err(error) => Err(error),
            };
            Finished::Checked(recorded, evidence)
        });
        self.jobs.insert(task.id(), Job::Check(name.to_owned()));
    }

    pub(super) fn checked(
        &mut self,
        target: &str,
        recorded: &[Recorded],
        evidence: Result<Vec<Evidence>, EdgeError>,
    ) {
        match evidence {
            Ok(evidence) if evidence.iter().all(|one| *one == Evidence::Stands) => {}
            Ok(evidence) => {
                // A resource that started over meanwhile has other partitions now: what was asked about is history.
                let lost = recorded.iter().zip(evidence).any(|(had, one)| {
                    one != Evidence::Stands
                        && self.book.ledger().partition(had.partition.id).is_some()
                });
                if lost {
                    self.doubt(target);
                }
            }
            Err(error) if error.kind == ErrorKind::LeaseLost => self.lost_lease(&error),
            // The walks meet the same trouble and wait for it to pass.
            Err(error) => tracing::debug!(target, %error, "evidence not read"),
        }
    }

    /// Stops everything: the targets are another run's now, what they hold says nothing about ours.
    pub(super) fn lost_lease(&mut self, error: &EdgeError) {
        self.lease_lost = Some(error.to_string());
        self.stop_all();
        for (id, job) in &self.jobs {
            // Steps come after rows that another run writes over now.
            if matches!(job, Job::Verify | Job::Step(_))
                && let Some(task) = self.probes.get(id)
            {
                task.abort();
            }
        }
    }

    /// Stops everything that writes to `target` until its evidence is compared with the journal.
    pub(super) fn doubt(&mut self, target: &str) {
        self.unproven.insert(target.to_owned());
        let writing: Vec<_> = self
            .plan
            .resources
            .iter()
            .filter(|one| one.to == target)
            .map(|one| one.name.clone())
            .collect();
        for name in writing {
            self.stop(&name);
        }
    }

    /// Returns the resources that write to `target` and have something left to do.
    pub(super) fn working_on(&self, target: &str) -> Vec<ResourceName> {
        let users = self.plan.resources.iter().filter(|one| one.to == target);
        let working = users.filter(|one| {
            self.book
                .resource(&one.name)
                .is_some_and(|one| one.state.is_working())
        });
        working.map(|one| one.name.clone()).collect()
    }

    pub(super) fn recorded(&self, target: &str) -> Vec<Recorded> {
        let of_target =
            |name: &ResourceName| self.plan.resource(name).is_some_and(|one| one.to == target);
        self.book
            .run()
            .map_or_else(|_| Vec::new(), |run| evidence::recorded(run, of_target))
    }

    /// Asks `name` for its evidence, after a wait where it is down. Nothing writes to it meanwhile.
    pub(super) fn prove(&mut self, name: &str) {
        let Some(leased) = self.targets.get(name) else {
            self.unproven.remove(name);
            return;
        };
        let recorded = self.recorded(name);
        let (target, lease) = (Arc::clone(&leased.target), Arc::clone(&leased.lease));
        let run = self.book.run_id().clone();
        let wait = self.breakers.wait(&Edge::Target(name.to_owned()));
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            let evidence = match lease.ensure().await {
                Ok(()) => target.evidence(&run, &recorded).await,
                Err(error) => Err(error),
            };
            Finished::Checked(recorded, evidence)
        });
        self.probes.insert(task.id(), task.clone());
        self.jobs.insert(task.id(), Job::Prove(name.to_owned()));
    }

    /// Records what has to be done again, given the evidence of a target to which nothing writes.
    pub(super) async fn proven(
        &mut self,
        name: &str,
        recorded: &[Recorded],
        evidence: Result<Vec<Evidence>, EdgeError>,
    ) -> Result<(), BookError> {
        let edge = Edge::Target(name.to_owned());
        if let Err(error) = &evidence
            && error.kind.disposition().passes()
        {
            // It stays unproven, and is asked again.
            return self.open_breaker(&edge, error).await;
        }
        self.unproven.remove(name);
        let Some(target) = self
            .targets
            .get(name)
            .map(|leased| Arc::clone(&leased.target))
        else {
            return Ok(());
        };
        let found = match evidence {
            Ok(found) => found,
            Err(error) if error.kind == ErrorKind::LeaseLost => {
                self.lease_lost = Some(error.to_string());
                return Ok(());
            }
            Err(error) => {
                self.breakers.closed(&edge);
                for user in self.working_on(name) {
                    self.failed(&user, Side::Target, &error).await?;
                }
                return Ok(());
            }
        };
        let redo = evidence::redo(&self.book, recorded, &found).await?;
        let place = target.place().to_owned();
        for one in redo {
            match one {
                Redo::StartOver { resource } => {
                    self.start_over(&resource, &place, &*target).await?;
                }
                Redo::Rewind {
                    resource,
                    partition,
                    from,
                    to,
                } => {
                    let text = format!(
                        "`{resource}` goes back in partition {partition} from chunk {from} to chunk {}: {place} holds an \
                         older state than the journal",
                        to.chunk
                    );
                    self.rewind(&resource, partition, to, text).await?;
                }
            }
        }
        self.answered(&edge).await
    }

    pub(super) async fn start_over(
        &mut self,
        name: &ResourceName,
        place: &str,
        target: &dyn Target,
    ) -> Result<(), BookError> {
        let rows = self
            .book
            .resource(name)
            .map_or(0, |resource| resource.totals().0);
        let reason = format!(
            "{place} no longer proves that it holds any of the {} rows that were stored: it was emptied, or another \
             run wrote to it",
            human::count(rows)
        );
        if let Err(error) = self.clear_rows(name, target).await {
            return self.failed(name, Side::Target, &error).await;
        }
        let event = ResourceEvent::StartedOver {
            reason: reason.clone(),
            void: true,
        };
        self.book.resource_moved(name, event).await?;
        self.emit(&report::Event::Redone {
            resource: name.clone(),
            text: format!("`{name}` starts over: {reason}"),
        });
        let voids = self
            .book
            .resource(name)
            .map_or(0, |resource| resource.voids);
        if voids >= MOST_VOIDS {
            self.block(
                name,
                format!("its stored rows vanished {voids} times: something keeps emptying {place}"),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn rewind(
        &mut self,
        name: &ResourceName,
        partition: PartitionId,
        to: Progress,
        text: String,
    ) -> Result<(), BookError> {
        let run = self.book.run_id().clone();
        let mut events = vec![Event::Partition {
            partition,
            event: PartitionEvent::Rewound(to),
        }];
        let state = self
            .book
            .resource(name)
            .map(|resource| resource.state.clone());
        let reopened = ResourceEvent::Reopened;
        if state.is_some_and(|state| state.apply(&reopened).is_ok()) {
            events.push(Event::Resource {
                run,
                resource: name.clone(),
                event: reopened,
            });
        }
        self.book.record(events).await?;
        self.emit(&report::Event::Redone {
            resource: name.clone(),
            text,
        });
        let rewinds = self.rewinds.entry(name.clone()).or_default();
        *rewinds += 1;
        if *rewinds > MOST_REWINDS {
            self.block(
                name,
                "the target went back to an older state too often".to_owned(),
            )
            .await?;
        }
        Ok(())
    }
}
