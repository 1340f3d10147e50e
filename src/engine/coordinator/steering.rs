//! What steers a run from outside: the plan's `throttle`, a pause, and what `status` is told.

use std::{sync::Arc, time::Duration};

use super::{Coordinator, Finished, Job, schedule::is_walked};
use crate::{
    control::{self, Held, Live, MemoryFound, Paced, Waiting},
    engine::{
        book::BookError,
        throttle::{self, Measured},
    },
    error::EdgeError,
    failure::quoted,
    ids::ResourceName,
    journal::now_ms,
    report,
    source::Lag,
    supervisor,
};

/// A run that is over by then needs no file that only says what memory it has.
const SHORT_RUN: Duration = Duration::from_secs(2);

impl Coordinator {
    /// Takes note of a change of pace.
    pub(super) fn paced(&mut self, paced: Paced) {
        let had = self.paces.get(&paced.resource);
        if had.is_some_and(|had| had.says_as(&paced)) {
            return;
        }
        self.emit(&report::Event::Paced {
            resource: paced.resource.clone(),
            rows: paced.rows,
            writers: paced.writers,
            reason: paced.reason.clone(),
        });
        self.paces.insert(paced.resource.clone(), paced);
    }

    /// Measures what the `throttle` of a resource that is being restored asks for.
    pub(super) fn measure(&mut self) {
        let due: Vec<ResourceName> = self
            .plan
            .resources
            .iter()
            .filter(|one| one.throttle.measures())
            .filter(|one| self.book.resource(&one.name).is_some_and(is_walked))
            .map(|one| one.name.clone())
            .filter(|name| {
                let measuring = |job: &Job| matches!(job, Job::Measure(other) if other == name);
                !self.jobs.values().any(measuring)
            })
            .collect();
        for name in due {
            let Some(resource) = self.plan.resource(&name) else {
                continue;
            };
            let (wants, source) = (resource.throttle, Arc::clone(&self.source));
            let Some(target) = self
                .targets
                .get(&resource.to)
                .map(|leased| Arc::clone(&leased.target))
            else {
                continue;
            };
            let task = self.tasks.spawn(async move {
                let lag = match wants.replica_lag {
                    Some(_) => source.replica_lag().await,
                    None => Ok(Lag::None),
                };
                let used_percent = match wants.redis_used_percent {
                    Some(_) => target.used_percent().await,
                    None => Ok(None),
                };
                Finished::Measured(lag.and_then(|lag| {
                    used_percent.map(|used_percent| Measured { lag, used_percent })
                }))
            });
            self.probes.insert(task.id(), task.clone());
            self.jobs.insert(task.id(), Job::Measure(name));
        }
    }

    pub(super) fn measured(&mut self, name: &ResourceName, measured: Result<Measured, EdgeError>) {
        let reason = match measured {
            Ok(measured) => self
                .plan
                .resource(name)
                .and_then(|resource| throttle::reason(&resource.throttle, &measured)),
            Err(error) if error.kind.disposition().passes() => {
                // The walks meet the same trouble and wait for it to pass.
                tracing::debug!(resource = %name, %error, "throttle not measured");
                return;
            }
            // What cannot be measured is not exceeded in silence either.
            Err(error) => Some(format!("its `throttle` cannot be measured: {error}")),
        };
        self.hold(name, reason);
    }

    fn hold(&mut self, name: &ResourceName, reason: Option<String>) {
        let had = self.held.get(name).map(|held| held.reason.clone());
        match &reason {
            Some(reason) => {
                let since_ms = self
                    .held
                    .get(name)
                    .map_or_else(now_ms, |held| held.since_ms);
                let held = Held {
                    resource: name.clone(),
                    reason: reason.clone(),
                    since_ms,
                };
                self.held.insert(name.clone(), held);
            }
            None => {
                self.held.remove(name);
            }
        }
        if had.is_some() != reason.is_some() {
            self.holding(name).send_replace(reason.is_some());
            self.emit(&report::Event::Throttled {
                resource: name.clone(),
                reason,
            });
        }
    }

    /// Looks for a pause that was asked for or lifted, and tells `status` what there is to tell.
    pub(super) async fn look_around(&mut self) -> Result<(), BookError> {
        let asked = control::asked(&self.state_path);
        match (self.paused.take(), asked) {
            (None, Some(pause)) => {
                self.stop_all();
                self.note(format!("paused by {}", pause.by)).await?;
                let next = self.typed("unpause");
                self.emit(&report::Event::Paused {
                    since_ms: pause.at_ms,
                    by: pause.by.clone(),
                    next,
                });
                self.paused = Some(pause);
            }
            (Some(_), None) => {
                self.note("goes on after a pause".to_owned()).await?;
                self.emit(&report::Event::Unpaused {});
            }
            (_, asked) => self.paused = asked,
        }
        // A comparison is no walk of a resource: it hears of a pause itself.
        self.pause.send_replace(self.is_paused());
        self.tell_status();
        Ok(())
    }

    /// Returns what a person types to have `command` for this run's plan.
    fn typed(&self, command: &str) -> String {
        format!("rekindle {command} {}", self.plan_typed())
    }

    /// Returns plan and state file as a person types them.
    pub(super) fn plan_typed(&self) -> String {
        let plan = quoted(&self.plan.path);
        if self.state_path == self.plan.state_path() {
            plan
        } else {
            format!("{plan} --state {}", quoted(&self.state_path))
        }
    }

    fn tell_status(&mut self) {
        let waiting = self.breakers.waited_for().map(|trouble| Waiting {
            place: trouble.place.clone(),
            error: trouble.error.clone(),
            since_ms: trouble.since_ms,
            until_ms: Some(self.breakers.until_ms(trouble)),
            tries: trouble.tries,
        });
        let live = Live {
            pid: std::process::id(),
            run: self.book.run_id().clone(),
            waiting: waiting.collect(),
            held: self.held.values().cloned().collect(),
            paces: self.paces.values().cloned().collect(),
            queues: self.queued(),
            memory: self.memory_found.clone(),
            step: self.at_step.clone(),
        };
        let is_news = !(live.waiting.is_empty()
            && live.held.is_empty()
            && live.paces.is_empty()
            && live.queues.is_empty())
            || live.step.is_some();
        if self.live.is_none() && !is_news && self.started.elapsed() < SHORT_RUN {
            return;
        }
        if self.live.as_ref() != Some(&live) {
            // A folder that takes no more files is the journal's to complain about.
            if let Err(error) = live.write(&self.state_path) {
                tracing::debug!(%error, "the file for `status` cannot be written");
            }
            self.live = Some(live);
        }
    }
}

/// Returns what bounds the memory of this process.
pub(super) fn memory_found() -> Option<MemoryFound> {
    supervisor::memory_limit().map(|limit| MemoryFound {
        limit_bytes: limit.bytes,
        set_by: limit.set_by.to_owned(),
    })
}
