//! What the coordinator does about each thing that happened.

use std::time::Instant;

use tokio::task::{Id, JoinError};

use super::{Coordinator, Finished, Job, PANICKED, mending::STILL};
use crate::{
    control::Paced,
    engine::{
        bind::Bound,
        book::BookError,
        breaker::Side,
        copy::{Ended, Report},
        too_many,
    },
    error::{Disposition, EdgeError, ErrorKind, chain},
    failpoint,
    ids::{PartitionId, ResourceName},
    journal::now_ms,
    machine::{
        ChunkEvent, ChunkState, DeadLetter, Event, PartitionEvent, PartitionPlan, PartitionState,
        Progress, ResourceEvent, ResourceLedger, ResourceState,
    },
    report,
};

impl Coordinator {
    pub(super) async fn heard(&mut self, report: Report) -> Result<(), BookError> {
        match report {
            Report::Stored {
                resource,
                partition,
                progress,
                dead_letters,
                state,
            } => {
                self.stored(resource, partition, progress, dead_letters, state)
                    .await
            }
            Report::Share {
                resource,
                partition,
                at,
                done,
            } => self.share(resource, partition, at, done).await,
            Report::Waiting {
                resource,
                side,
                error,
                wait,
            } => {
                self.tries_again(resource, side, error, wait);
                Ok(())
            }
            Report::Told(event) => {
                self.hear_step(&event);
                self.emit(&event);
                Ok(())
            }
            Report::Paced {
                resource,
                rows,
                writers,
                reason,
            } => {
                let at_ms = now_ms();
                self.paced(Paced {
                    resource,
                    rows,
                    writers,
                    reason,
                    at_ms,
                });
                Ok(())
            }
        }
    }

    pub(super) async fn stored(
        &mut self,
        name: ResourceName,
        partition: PartitionId,
        progress: Progress,
        mut dead_letters: Vec<DeadLetter>,
        state: ChunkState,
    ) -> Result<(), BookError> {
        // Refuses a chunk that is recorded before the target acknowledged it.
        state.apply(ChunkEvent::Recorded)?;
        let chunk = progress.chunk.0;
        if !dead_letters.is_empty() {
            let reasons = self.letter_reasons.entry(name.clone()).or_default();
            for letter in &dead_letters {
                reasons.add(&letter.reason);
            }
        }
        let published = self.book.resource(&name).is_some_and(|one| {
            let ids = one.fallback.handover.as_ref().map_or(0, |had| had.ids);
            one.state == ResourceState::Comparing && ids > 0
        });
        if published {
            for letter in &mut dead_letters {
                letter.reason.push_str(STILL);
            }
        }
        self.book
            .record(vec![Event::Chunk {
                partition,
                progress,
                dead_letters,
            }])
            .await?;
        failpoint::hit("after_commit")?;
        let Some((rows, bytes, dead)) = self.book.resource(&name).map(ResourceLedger::totals)
        else {
            return Ok(());
        };
        self.emit(&report::Event::ChunkStored {
            resource: name.clone(),
            partition: partition.0,
            chunk,
            rows,
            bytes,
            dead_letters: dead,
        });
        self.edges_work(&name).await?;
        self.data_failures.remove(&name);
        // Chunks may still come in when the resource is with its publisher already.
        let counts = self
            .book
            .resource(&name)
            .is_some_and(|one| match one.state {
                ResourceState::Syncing => true,
                ResourceState::Comparing => !one.fallback.is_of_rows(),
                _ => false,
            });
        if counts && let Some(reason) = self.drowning(&name) {
            self.drown(&name, reason).await?;
        }
        Ok(())
    }

    /// Returns why a resource has too many dead letters, if it has.
    pub(super) fn drowning(&self, name: &ResourceName) -> Option<String> {
        // A retry reads nothing but rows that did not pass.
        self.book
            .run()
            .ok()
            .filter(|run| run.scope.rows.is_empty())?;
        let limit = self.plan.resource(name)?.dead_letters;
        let (rows, _, dead) = self.book.resource(name)?.totals();
        let reason = too_many::reason(limit, dead, rows)?;
        let reasons = self.letter_reasons.get(name);
        let commonest = reasons.map_or_else(String::new, too_many::Reasons::commonest);
        Some(reason + &commonest)
    }

    /// Hands a resource with too many dead letters to its publisher; blocks it where those that the target refused make them too
    /// many: what the source holds is in order, and would be written once more as it is.
    pub(super) async fn drown(
        &mut self,
        name: &ResourceName,
        reason: String,
    ) -> Result<(), BookError> {
        let (Some(resource), Some(ledger)) = (self.plan.resource(name), self.book.resource(name))
        else {
            return Ok(());
        };
        let (limit, (rows, ..)) = (resource.dead_letters, ledger.totals());
        let raise = too_many::advice(rows.max(ledger.estimated_rows).max(limit.max), &reason);
        let most = u32::try_from(limit.max)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let mut of_the_source = 0;
        for kind in [ErrorKind::RowBroken, ErrorKind::RowTooLarge] {
            let letters = self.letters_of(name, Some(kind), 0, most).await?;
            of_the_source += letters.len() as u64;
        }
        if too_many::past(limit, of_the_source, rows).is_some() || resource.fallback.is_none() {
            return self.fall_back(name, reason, &raise).await;
        }
        let why = format!(
            "{reason}; without those that the target refused they are not too many, so its publisher is not called{raise}"
        );
        self.block(name, why).await
    }

    pub(super) async fn joined(
        &mut self,
        joined: Result<(Id, Finished), JoinError>,
    ) -> Result<(), BookError> {
        // A task's reports are all sent before it ends: they come first.
        while let Ok(report) = self.reports.1.try_recv() {
            self.heard(report).await?;
        }
        let (id, finished) = match joined {
            Ok((id, finished)) => (id, Some(finished)),
            Err(error) => {
                self.bug |= error.is_panic();
                (error.id(), None)
            }
        };
        self.probes.remove(&id);
        let Some(job) = self.jobs.remove(&id) else {
            return Ok(());
        };
        if let Job::Walk(name, partition) = &job {
            self.shares.ended(name, *partition);
        }
        match (job, finished) {
            (Job::Bind(name), Some(Finished::Bound(bound))) => self.bound(name, *bound).await,
            (Job::Walk(name, partition), Some(Finished::Walked(ended))) => {
                self.walked(&name, partition, ended).await
            }
            (Job::Check(target), Some(Finished::Checked(recorded, evidence))) => {
                self.checked(&target, &recorded, evidence);
                Ok(())
            }
            (Job::Prove(target), Some(Finished::Checked(recorded, evidence))) => {
                self.proven(&target, &recorded, evidence).await
            }
            (Job::Ask, Some(Finished::Asked(answer))) => self.asked(answer).await,
            (Job::Measure(name), Some(Finished::Measured(measured))) => {
                self.measured(&name, measured);
                Ok(())
            }
            (Job::Prove(target), _) if self.interrupted.is_none() => {
                self.unproven.remove(&target);
                for name in self.working_on(&target) {
                    self.block(&name, PANICKED.to_owned()).await?;
                }
                Ok(())
            }
            (Job::Verify, Some(Finished::Verified(outcome))) => {
                self.verify_ended(*outcome);
                Ok(())
            }
            (Job::Watch(name), Some(Finished::Watched(found))) => {
                self.watched(&name, found);
                Ok(())
            }
            (Job::Drain(name), Some(Finished::Drained(outcome))) => {
                self.drained(&name, outcome).await
            }
            (Job::Look(name), Some(Finished::Looked(outcome))) => {
                self.looked(&name, *outcome).await
            }
            (Job::Verify, None) if self.interrupted.is_none() && self.lease_lost.is_none() => {
                self.not_compared(PANICKED.to_owned());
                Ok(())
            }
            (Job::Step(number), Some(Finished::Step(stepped))) => {
                self.stepped(number, stepped).await
            }
            (Job::Step(number), None) => self.step_dropped(number).await,
            (Job::Hand(name, _), Some(Finished::Handed(handed))) => {
                self.handed(&name, handed).await
            }
            // Those that only look are dropped where the lease was lost, too.
            (Job::Drain(name) | Job::Look(name), _)
                if self.interrupted.is_none() && self.lease_lost.is_none() =>
            {
                self.block(&name, PANICKED.to_owned()).await
            }
            (Job::Bind(name) | Job::Walk(name, _) | Job::Hand(name, _), _)
                if self.interrupted.is_none() =>
            {
                self.block(&name, PANICKED.to_owned()).await
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn bound(
        &mut self,
        name: ResourceName,
        bound: Result<Bound, (Side, EdgeError)>,
    ) -> Result<(), BookError> {
        if self.interrupted.is_some() {
            return Ok(());
        }
        let Bound {
            shape,
            ranges,
            incarnation,
            watermark,
        } = match bound {
            Ok(bound) => bound,
            Err((side, error)) => return self.failed(&name, side, &error).await,
        };
        let rows = self
            .plan
            .resource(&name)
            .map_or(1, |resource| resource.chunk.rows);
        let first = self.book.next_partition();
        let partitions: Vec<_> = (1u32..)
            .zip(ranges)
            .map(|(ordinal, range)| PartitionPlan {
                id: PartitionId(first + u64::from(ordinal) - 1),
                ordinal,
                range,
                page_rows: rows,
            })
            .collect();
        let count = partitions.len();
        self.book
            .record(vec![Event::ResourceBound {
                run: self.book.run_id().clone(),
                resource: name.clone(),
                columns: shape.fingerprint.clone(),
                estimated_rows: shape.estimated_rows,
                partitions,
                incarnation,
                watermark,
            }])
            .await?;
        self.emit(&report::Event::ResourceStarted {
            resource: name.clone(),
            rows: 0,
            estimated_rows: shape.estimated_rows,
            partitions: count,
        });
        self.shapes.insert(name, shape);
        Ok(())
    }

    pub(super) async fn walked(
        &mut self,
        name: &ResourceName,
        partition: PartitionId,
        ended: Ended,
    ) -> Result<(), BookError> {
        match ended {
            Ended::Exhausted => {
                let open = self
                    .book
                    .ledger()
                    .partition(partition)
                    .is_some_and(|(_, _, one)| {
                        matches!(
                            one.state,
                            PartitionState::Open(_) | PartitionState::Suspect(_)
                        )
                    });
                if open {
                    self.book
                        .partition_moved(partition, PartitionEvent::Exhausted)
                        .await?;
                }
                Ok(())
            }
            Ended::Stopped | Ended::Quota => Ok(()),
            Ended::Failed(side, error) => self.failed(name, side, &error).await,
        }
    }

    pub(super) async fn failed(
        &mut self,
        name: &ResourceName,
        side: Side,
        error: &EdgeError,
    ) -> Result<(), BookError> {
        if self.interrupted.is_some() && error.kind.disposition().is_tried_again() {
            return Ok(());
        }
        let edge = self.edge(name, side);
        match error.kind.disposition() {
            Disposition::Recheck => {
                if let Some(target) = self.plan.resource(name).map(|resource| resource.to.clone()) {
                    self.doubt(&target);
                }
                Ok(())
            }
            Disposition::Stop => {
                self.lost_lease(error);
                Ok(())
            }
            Disposition::Retry | Disposition::Throttle | Disposition::Shrink => {
                self.open_breaker(&edge, error).await
            }
            // Of what is waited for already, it is the same trouble in other words.
            Disposition::Try if self.breakers.is_open(&edge) => {
                self.open_breaker(&edge, error).await
            }
            Disposition::DeadLetter => self.data_failed(name, chain(error).join(": ")).await,
            Disposition::Try | Disposition::Block => {
                if side == Side::Publisher {
                    // Nobody waits for it any more; sources and targets are others' as well.
                    self.breakers.closed(&edge);
                }
                self.block(name, chain(error).join(": ")).await
            }
        }
    }

    pub(super) async fn block(
        &mut self,
        name: &ResourceName,
        reason: String,
    ) -> Result<(), BookError> {
        if self
            .book
            .resource(name)
            .is_none_or(|resource| !resource.state.is_working())
        {
            return Ok(());
        }
        self.stop(name);
        self.book
            .resource_moved(
                name,
                ResourceEvent::Blocked {
                    reason: reason.clone(),
                },
            )
            .await?;
        self.emit(&report::Event::ResourceBlocked {
            resource: name.clone(),
            reason,
        });
        Ok(())
    }

    pub(super) fn interrupt(&mut self) {
        self.interrupted = Some(Instant::now());
        self.stop_all();
        for probe in self.probes.values() {
            probe.abort();
        }
        let text =
            "stopping: chunks in flight are finished and journaled; a second signal ends at once"
                .to_owned();
        self.emit(&report::Event::Notice { text });
    }

    pub(super) fn stop(&mut self, name: &ResourceName) {
        if let Some(stop) = self.stops.remove(name) {
            stop.send_replace(true);
        }
    }

    pub(super) fn stop_all(&mut self) {
        for stop in std::mem::take(&mut self.stops).into_values() {
            stop.send_replace(true);
        }
    }
}
