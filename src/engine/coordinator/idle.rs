//! What comes when nothing is running.

use super::{Coordinator, Ending, count};
use crate::{
    engine::{book::BookError, evidence::partition_keys, retry::retrying},
    error::chain,
    failpoint,
    journal::Settled,
    machine::{
        AttemptEnd, Event, IllegalTransition, ResourceEvent, ResourceLedger, ResourceState,
        RunEvent, RunState,
    },
    plan::RetryPolicy,
    report,
    source::schema_changed,
};

/// How often a target is asked to remove what says that the run wrote there.
const TRIES_TO_RETIRE: u32 = 4;

impl Coordinator {
    /// Decides what comes after the last task ended; `None` to go on.
    pub(super) async fn idle(&mut self) -> Result<Option<Ending>, BookError> {
        if let Some(lost) = self.lease_lost.clone() {
            self.book
                .attempt_ended(
                    AttemptEnd::Failed {
                        reason: lost.clone(),
                    },
                    Some(RunEvent::Fail),
                )
                .await?;
            return Ok(Some(Ending::LeaseLost(lost)));
        }
        if self.interrupted.is_some() || self.signals.try_recv().is_ok() {
            let in_finish = self.book.run()?.state == RunState::Finishing;
            self.book
                .attempt_ended(AttemptEnd::Interrupted, Some(RunEvent::Interrupt))
                .await?;
            return Ok(Some(Ending::Interrupted { in_finish }));
        }
        let state = self.book.run()?.state;
        if matches!(state, RunState::Verifying | RunState::Finishing) && self.lacks_resources() {
            // A changed plan brought it in the last moment, or the process died between voiding it and saying so here.
            self.book.run_moved(RunEvent::RestoreAgain).await?;
            self.verified = None;
            return Ok(None);
        }
        if state == RunState::Finishing {
            return self.finishing().await;
        }
        let blocked: Vec<_> = self
            .book
            .resources()
            .iter()
            .filter_map(|resource| match &resource.state {
                ResourceState::Blocked { reason, .. } => {
                    Some((resource.name.clone(), reason.clone()))
                }
                _ => None,
            })
            .collect();
        if !blocked.is_empty() {
            let reason = format!("{} blocked", count(blocked.len() as u64, "resource"));
            self.book
                .attempt_ended(AttemptEnd::Failed { reason }, Some(RunEvent::Fail))
                .await?;
            return Ok(Some(Ending::Blocked {
                resources: blocked,
                bug: self.bug,
            }));
        }
        match state {
            RunState::Restoring => {
                if self.lacks_resources() {
                    return Err(IllegalTransition::new(
                        "run",
                        "restoring",
                        "nothing left to start",
                    )
                    .into());
                }
                self.book.run_moved(RunEvent::Verify).await?;
                self.unproven = self.targets.keys().cloned().collect();
                Ok(None)
            }
            RunState::Verifying => {
                if self.begin_verify()? {
                    return Ok(None);
                }
                if let Some(ending) = self.stop_before_steps().await? {
                    return Ok(Some(ending));
                }
                failpoint::hit("before_finish")?;
                let run = self.book.run_id().clone();
                let verified = self
                    .book
                    .resources()
                    .iter()
                    .filter(|one| one.state == ResourceState::Synced);
                let mut events: Vec<_> = verified
                    .map(|one| Event::Resource {
                        run: run.clone(),
                        resource: one.name.clone(),
                        event: ResourceEvent::Verified,
                    })
                    .collect();
                events.extend(self.verdict().into_iter().map(|text| Event::Noted {
                    run: Some(run.clone()),
                    text,
                }));
                events.push(Event::Run {
                    run,
                    event: RunEvent::Finish,
                });
                self.book.record(events).await?;
                Ok(None)
            }
            other => Err(IllegalTransition::new("run", other.label(), "finish").into()),
        }
    }

    /// Returns whether a resource is neither restored nor left out.
    pub(super) fn lacks_resources(&self) -> bool {
        let mut resources = self.book.resources().iter();
        resources.any(|resource| !resource.state.is_restored())
    }

    /// Blocks resources whose columns changed since they were bound (once per attempt, before anything is written). A retry of
    /// dead letters reads its few rows again instead: an older release recorded other columns for it.
    pub(super) async fn drift(&mut self) -> Result<(), BookError> {
        let drifted: Vec<_> = self
            .book
            .resources()
            .iter()
            .filter(|resource| {
                matches!(
                    resource.state,
                    ResourceState::Syncing | ResourceState::Comparing
                )
            })
            .filter_map(|resource| {
                let (had, now) = (
                    resource.columns.as_ref()?,
                    &self.shapes.get(&resource.name)?.fingerprint,
                );
                let table = &self.plan.resource(&resource.name)?.from.table;
                (had != now).then(|| {
                    let error = schema_changed(table, had, now);
                    (resource.name.clone(), error.to_string())
                })
            })
            .collect();
        let is_retry = !self.book.run()?.scope.rows.is_empty();
        for (name, reason) in drifted {
            if is_retry {
                let reason =
                    "its columns are not those that were recorded, and it is quickly read again";
                self.anew.insert(name, reason.to_owned());
            } else {
                self.block(&name, reason).await?;
            }
        }
        Ok(())
    }

    /// Returns what settles the dead letters that this run retried; those that did not pass again are its own now.
    async fn retried(&self) -> Result<Vec<Settled>, BookError> {
        let run = self.book.run()?;
        let mut settled = Vec::new();
        for (resource, rows) in &run.scope.rows {
            let how = format!("retried by run {}", run.id);
            let cursors = rows.iter().cloned().collect();
            let but = Some(run.id.clone());
            let journal = self.book.journal();
            settled.extend(journal.settled(resource.clone(), cursors, but, how).await?);
        }
        Ok(settled)
    }

    /// Has the targets put back what they changed for the run; the ending where one of them cannot.
    async fn settle(&mut self) -> Result<Option<Ending>, BookError> {
        let mut failed = Vec::new();
        for (name, leased) in &self.targets {
            let mine = self.plan.resources.iter().filter(|one| one.to == *name);
            let restored: Vec<_> = mine
                .map(|one| one.name.clone())
                .filter(|one| {
                    self.book
                        .resource(one)
                        .is_some_and(|one| one.state == ResourceState::Verified)
                })
                .collect();
            let (target, restored) = (&leased.target, &restored);
            let settled = retrying(
                &self.plan.defaults.retry,
                |_, _| {},
                || target.settle(restored),
            )
            .await;
            if let Err(error) = settled {
                let reason = chain(&error).join(": ");
                failed.extend(restored.iter().map(|one| (one.clone(), reason.clone())));
            }
        }
        if failed.is_empty() {
            return Ok(None);
        }
        for (name, reason) in &failed {
            self.block(name, reason.clone()).await?;
        }
        let reason = format!("{} blocked", count(failed.len() as u64, "resource"));
        self.book
            .attempt_ended(AttemptEnd::Failed { reason }, Some(RunEvent::Fail))
            .await?;
        Ok(Some(Ending::Blocked {
            resources: failed,
            bug: self.bug,
        }))
    }

    pub(super) async fn finish(&mut self) -> Result<Ending, BookError> {
        if let Some(ending) = self.settle().await? {
            return Ok(ending);
        }
        failpoint::hit("before_forget")?;
        let run = self.book.run_id().clone();
        let finished = self
            .book
            .resources()
            .iter()
            .filter(|one| one.state == ResourceState::Verified);
        let mut events: Vec<_> = finished
            .map(|one| Event::Resource {
                run: run.clone(),
                resource: one.name.clone(),
                event: ResourceEvent::Finished,
            })
            .collect();
        let retried = self.retried().await?;
        let settled: u64 = retried.iter().map(|one| one.count).sum();
        events.extend(retried.into_iter().map(|one| one.event));
        events.push(Event::Run {
            run: run.clone(),
            event: RunEvent::Complete,
        });
        events.push(Event::AttemptEnded {
            run: run.clone(),
            end: AttemptEnd::Done,
        });
        self.book.record(events).await?;
        if settled > 0 {
            let left = self.totals().2;
            let text = format!(
                "{} retried: {} restored or gone from the source, {left} left",
                count(settled, "dead letter"),
                settled.saturating_sub(left)
            );
            self.emit(&report::Event::Notice { text });
        }
        let mut left_behind = Vec::new();
        // Only now: while markers are there, a run that died before this moment can still prove what it stored.
        for (name, leased) in &self.targets {
            let of_target = |one: &&ResourceLedger| {
                self.plan
                    .resource(&one.name)
                    .is_some_and(|plan| plan.to == *name)
            };
            let ledger = self.book.run()?;
            let keys: Vec<_> = ledger
                .resources
                .iter()
                .filter(of_target)
                .flat_map(|resource| partition_keys(ledger, resource))
                .collect();
            // A lost answer is not worth keys that stay for ever; a target that is gone is not worth a long wait.
            let policy = RetryPolicy {
                attempts: self.plan.defaults.retry.attempts.min(TRIES_TO_RETIRE),
                ..self.plan.defaults.retry.clone()
            };
            let retired = retrying(&policy, |_, _| {}, || leased.target.retire(&run, &keys)).await;
            if let Err(error) = retired {
                let text = format!(
                    "markers of the run stay behind in {}: {error}",
                    leased.target.place()
                );
                left_behind.push(text);
            }
        }
        for text in left_behind {
            self.emit(&report::Event::Notice { text });
        }
        failpoint::hit("after_forget")?;
        let dead_letters = self.totals().2;
        let dead_letters_left = match dead_letters {
            0 => 0,
            _ => self.book.dead_letters_left().await?,
        };
        Ok(Ending::Done {
            dead_letters,
            dead_letters_left,
            verified: self.verified.take(),
        })
    }
}
