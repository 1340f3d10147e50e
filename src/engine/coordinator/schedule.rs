//! What to start next.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;

use super::{
    Coordinator, Finished, Job,
    waiting::{BOTH, Passage},
};
use crate::{
    engine::{
        bind::Bind,
        book::BookError,
        copy::{Report, Walk},
        evidence::{extent, partition_key},
        preflight::row_query,
    },
    error::EdgeError,
    ids::{PartitionId, ResourceName},
    machine::{PartitionState, ResourceEvent, ResourceLedger, ResourceState, RunState},
    plan::{Executor, Resource},
    report,
};

/// A chunk limit never takes more than this part of the memory budget per partition that may be walked.
const CHUNKS_PER_PARTITION: u64 = 4;

impl Coordinator {
    pub(super) async fn schedule(&mut self) -> Result<(), BookError> {
        let state = self.book.run()?.state;
        if self.interrupted.is_some() || self.lease_lost.is_some() || self.is_paused() {
            return Ok(());
        }
        if matches!(
            state,
            RunState::Restoring | RunState::Verifying | RunState::Finishing
        ) {
            self.prove_next();
            if !self.start_anew().await? {
                return Ok(());
            }
        }
        self.drop_step()?;
        if state != RunState::Restoring {
            return Ok(());
        }
        self.finish_copied().await?;
        self.follow_published();
        self.ask_source();
        self.convict().await?;
        self.load_mends().await?;
        self.delegate_next().await?;
        if let Some((resource, partition)) = self.suspect() {
            // Alone: whatever killed the last process is met by one small chunk at a time.
            if self.is_proven(&resource)
                && self.passage(&resource, BOTH) != Passage::Closed
                && !self.jobs.values().any(Job::works)
            {
                self.walk(&resource, partition, Some(1));
            }
            return Ok(());
        }
        self.hand_next().await?;
        self.walk_open();
        self.ask_to_share();
        self.bind_next();
        Ok(())
    }

    /// Returns whether the rows of a resource go through a queue.
    fn is_sent(&self, name: &ResourceName) -> bool {
        self.plan
            .resource(name)
            .is_some_and(|one| one.executor == Executor::Queue)
    }

    /// Returns whether the target of a resource has proven what it holds. Until then nothing is written to it.
    pub(super) fn is_proven(&self, name: &ResourceName) -> bool {
        self.plan
            .resource(name)
            .is_some_and(|resource| !self.unproven.contains(&resource.to))
    }

    /// Asks targets for their evidence as soon as nothing writes to them any more; others go on meanwhile.
    fn prove_next(&mut self) {
        let is_used = |target: &String| {
            self.jobs.values().any(|job| match job {
                Job::Bind(name) | Job::Walk(name, _) | Job::Hand(name, _) => self
                    .plan
                    .resource(name)
                    .is_some_and(|one| one.to == *target),
                Job::Prove(name) => name == target,
                // It may write, and what it compares must not go back meanwhile.
                Job::Verify => true,
                Job::Check(_)
                | Job::Ask
                | Job::Measure(_)
                | Job::Step(_)
                | Job::Drain(_)
                | Job::Watch(_)
                | Job::Look(_) => false,
            })
        };
        let due: Vec<_> = self
            .unproven
            .iter()
            .filter(|target| !is_used(target))
            .cloned()
            .collect();
        for target in due {
            self.prove(&target);
        }
    }

    /// Moves resources whose last partition is exhausted.
    pub(super) async fn finish_copied(&mut self) -> Result<(), BookError> {
        let copied: Vec<ResourceName> = self
            .book
            .resources()
            .iter()
            .filter(|resource| is_walked(resource) && resource.is_exhausted())
            .map(|resource| resource.name.clone())
            .collect();
        for name in copied {
            let Some(ledger) = self.book.resource(&name) else {
                continue;
            };
            let copied = ledger.state == ResourceState::Syncing;
            if !ledger.fallback.is_of_rows()
                && let Some(reason) = self.drowning(&name)
            {
                // Also when it was blocked for it, unblocked by another `run`, and had nothing left to read.
                self.drown(&name, reason).await?;
                continue;
            }
            if copied {
                if self.mends(&name).await? {
                    continue;
                }
                if self.is_sent(&name) {
                    // Confirmed by the broker, which says nothing about the target.
                    self.book
                        .resource_moved(&name, ResourceEvent::Published)
                        .await?;
                    self.stops.remove(&name);
                    continue;
                }
                self.book
                    .resource_moved(&name, ResourceEvent::Copied)
                    .await?;
            } else {
                self.finish_compared(&name).await?;
            }
            self.stops.remove(&name);
            if let Some((rows, bytes, dead_letters)) =
                self.book.resource(&name).map(ResourceLedger::totals)
            {
                self.emit(&report::Event::ResourceSynced {
                    resource: name,
                    rows,
                    bytes,
                    dead_letters,
                });
            }
        }
        Ok(())
    }

    pub(super) fn suspect(&self) -> Option<(ResourceName, PartitionId)> {
        let syncing = self
            .book
            .resources()
            .iter()
            .filter(|resource| is_walked(resource));
        syncing
            .flat_map(|resource| resource.partitions.iter().map(move |one| (resource, one)))
            .find_map(|(resource, partition)| {
                matches!(partition.state, PartitionState::Suspect(_))
                    .then(|| (resource.name.clone(), partition.id))
            })
    }

    pub(super) fn walk_open(&mut self) {
        let most = self.plan.defaults.parallel_partitions as usize;
        let mut due = Vec::new();
        for resource in self.book.resources() {
            if !is_walked(resource) || !self.is_proven(&resource.name) {
                continue;
            }
            let walking = self.walking(&resource.name);
            let open = resource.partitions.iter().filter(|partition| {
                matches!(partition.state, PartitionState::Open(_))
                    && !walking.contains(&partition.id)
            });
            due.extend(
                open.take(most.saturating_sub(walking.len()))
                    .map(|one| (resource.name.clone(), one.id)),
            );
        }
        for (resource, partition) in due {
            // Asked anew for each: the one chunk of a trial is one for all resources.
            match self.passage(&resource, BOTH) {
                Passage::Open => self.walk(&resource, partition, None),
                Passage::OneChunk => self.walk(&resource, partition, Some(1)),
                Passage::Closed => {}
            }
        }
    }

    pub(super) fn bind_next(&mut self) {
        let most = self.plan.defaults.parallel_resources as usize;
        let binding: BTreeSet<ResourceName> = self
            .jobs
            .values()
            .filter_map(|job| match job {
                Job::Bind(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        let syncing = self
            .book
            .resources()
            .iter()
            .filter(|one| is_walked(one))
            .count();
        let room = most.saturating_sub(syncing + binding.len());
        let due: Vec<Resource> = self
            .plan
            .resources
            .iter()
            .filter(|resource| !binding.contains(&resource.name) && self.is_due(resource))
            .take(room)
            .cloned()
            .collect();
        for resource in due {
            self.bind(&resource);
        }
    }

    pub(super) fn is_due(&self, resource: &Resource) -> bool {
        if !self.is_proven(&resource.name) || self.passage(&resource.name, BOTH) == Passage::Closed
        {
            return false;
        }
        self.book
            .resource(&resource.name)
            .is_some_and(|ledger| ledger.state == ResourceState::Pending)
            && resource.after.iter().all(|name| {
                self.book
                    .resource(name)
                    .is_none_or(|one| one.state.is_restored())
            })
    }

    pub(super) fn bind(&mut self, resource: &Resource) {
        let (Some(leased), Ok(run)) = (self.targets.get(&resource.to), self.book.run()) else {
            return;
        };
        let bind = Bind {
            resource: resource.name.clone(),
            query: row_query(resource, &run.scope),
            source: Arc::clone(&self.source),
            target: Arc::clone(&leased.target),
            extent: extent(run),
            partitions: self.plan.defaults.parallel_partitions,
            changes: resource
                .catch_up
                .as_ref()
                .and_then(|catch_up| catch_up.column().cloned()),
            retry: self.plan.defaults.retry.clone(),
        };
        let reports = self.reports.0.clone();
        let name = resource.name.clone();
        let task = self.tasks.spawn(async move {
            let told = |side, error: &EdgeError, wait| {
                // Only for people: a report that finds no room is not worth waiting for.
                let waiting = Report::Waiting {
                    resource: name.clone(),
                    side,
                    error: error.to_string(),
                    wait,
                };
                reports.try_send(waiting).ok();
            };
            Finished::Bound(Box::new(bind.run(told).await))
        });
        self.jobs
            .insert(task.id(), Job::Bind(resource.name.clone()));
    }

    pub(super) fn walk(&mut self, name: &ResourceName, id: PartitionId, quota: Option<u32>) {
        let hold = self.holding(name).subscribe();
        let Some(resource) = self.plan.resource(name) else {
            return;
        };
        let Some(leased) = self.targets.get(&resource.to) else {
            return;
        };
        let Ok(run) = self.book.run() else { return };
        let Some(ledger) = run.resource(name) else {
            return;
        };
        let Some(partition) = ledger.partitions.iter().find(|one| one.id == id) else {
            return;
        };
        let Some(query) = self.walk_query(resource, id) else {
            return;
        };
        let defaults = &self.plan.defaults;
        let resources = run
            .resources
            .iter()
            .filter(|one| one.state != ResourceState::Skipped);
        let side_by_side = u64::from(defaults.parallel_resources).min(resources.count() as u64);
        let walkers = side_by_side * u64::from(defaults.parallel_partitions);
        let share =
            (self.memory.in_flight_bytes / (CHUNKS_PER_PARTITION * walkers.max(1))).max(16 * 1024);
        let stop = self
            .stops
            .entry(name.clone())
            .or_insert_with(|| watch::channel(false).0)
            .subscribe();
        let gate = leased.gate.clone();
        let mut retry = self.plan.defaults.retry.clone();
        if self.passage(name, BOTH) != Passage::Open {
            // A trial: one try, and the breaker decides what comes next.
            retry.attempts = 1;
        }
        let most_dead_letters = if run.scope.rows.is_empty() {
            resource.dead_letters.max
        } else {
            u64::MAX
        };
        let wanted = self.shares.flag(id);
        let walk = Walk {
            run: self.book.run_id().clone(),
            partition: partition_key(run, ledger, partition),
            range: partition.remaining(),
            progress: partition.state.progress().clone(),
            compares: ledger.state == ResourceState::Comparing,
            query,
            entity: resource.from.entity.clone(),
            source: Arc::clone(&self.source),
            target: Arc::clone(&leased.target),
            encoding: self.plan.sent_form(resource),
            lease: Arc::clone(&leased.lease),
            budget: self.budget.clone(),
            chunk_bytes: resource.chunk.bytes.min(share),
            chunk_rows: resource.chunk.rows,
            longest_row: self.memory.longest_row_bytes,
            most_dead_letters,
            retry,
            quota,
            gate,
            rate: self.rates.get(name).cloned(),
            hold,
            stop,
            share: wanted,
            columns: ledger.columns.clone().unwrap_or_default(),
            reports: self.reports.0.clone(),
        };
        let task = self
            .tasks
            .spawn(async move { Finished::Walked(walk.run().await) });
        self.jobs.insert(task.id(), Job::Walk(name.clone(), id));
    }

    /// Returns the switch that holds the writers of a resource.
    pub(super) fn holding(&mut self, name: &ResourceName) -> &watch::Sender<bool> {
        self.holds
            .entry(name.clone())
            .or_insert_with(|| watch::channel(false).0)
    }

    pub(super) fn walking(&self, resource: &ResourceName) -> BTreeSet<PartitionId> {
        let walks = self.jobs.values().filter_map(|job| match job {
            Job::Walk(name, id) if name == resource => Some(*id),
            _ => None,
        });
        walks.collect()
    }
}

/// Returns whether partitions of the resource are walked: copied, or compared.
pub(super) fn is_walked(resource: &ResourceLedger) -> bool {
    matches!(
        resource.state,
        ResourceState::Syncing | ResourceState::Comparing
    )
}
