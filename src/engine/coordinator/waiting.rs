//! What the run waits for: an edge that is down, a throttle of the plan, a person.

use std::{sync::Arc, time::Duration};

use super::{Coordinator, Finished, Job, millis};
use crate::{
    control::{self, Held, Live, MemoryFound, Paced, Waiting},
    engine::{
        book::BookError,
        breaker::{Edge, Opened, Recovered, Side},
        throttle::{self, Measured},
    },
    error::{EdgeError, chain},
    ids::ResourceName,
    journal::now_ms,
    machine::{Event, RunState},
    report,
    source::Lag,
    supervisor,
};

/// A run that is over by then needs no file that only says what memory it has.
const SHORT_RUN: Duration = Duration::from_secs(2);

impl Coordinator {
    /// Returns the edge that one side of a resource is.
    pub(super) fn edge(&self, name: &ResourceName, side: Side) -> Edge {
        match (side, self.plan.resource(name)) {
            (Side::Target, Some(resource)) => Edge::Target(resource.to.clone()),
            _ => Edge::Source,
        }
    }

    fn place(&self, edge: &Edge) -> String {
        match edge {
            Edge::Source => self.source.place().to_owned(),
            Edge::Target(name) => self
                .targets
                .get(name)
                .map_or_else(|| name.clone(), |leased| leased.target.place().to_owned()),
        }
    }

    /// Tells observers that something is tried again.
    pub(super) fn tries_again(
        &mut self,
        resource: ResourceName,
        side: Side,
        error: String,
        wait: Duration,
    ) {
        let edge = self.edge(&resource, side);
        let place = self.place(&edge);
        let trouble = self.breakers.failed(&edge, &place, &error, now_ms());
        let (since_ms, tries) = (trouble.since_ms, trouble.tries);
        self.emit(&report::Event::Waiting {
            resource: Some(resource),
            error,
            wait_ms: millis(wait),
            place,
            since_ms,
            tries,
        });
    }

    /// Stops sending anything but a probe to `edge`, whose tries are used up.
    pub(super) async fn open_breaker(
        &mut self,
        edge: &Edge,
        error: &EdgeError,
    ) -> Result<(), BookError> {
        let place = self.place(edge);
        let text = chain(error).join(": ");
        match self.breakers.open(edge, &place, &text, now_ms()) {
            Opened::GaveUp(reason) => return self.give_up(edge, reason).await,
            Opened::Now => {
                self.note(format!("waiting for {place}: {text}")).await?;
            }
            Opened::Still => {}
        }
        match edge {
            // Its evidence is the probe, and is compared before anything is written again.
            Edge::Target(name) => self.doubt(name),
            Edge::Source => self.stop_all(),
        }
        if let Some(trouble) = self.breakers.trouble(edge) {
            let event = report::Event::Held {
                place,
                error: text,
                since_ms: trouble.since_ms,
                waited_ms: u64::try_from(now_ms() - trouble.since_ms).unwrap_or_default(),
                tries: trouble.tries,
            };
            self.emit(&event);
        }
        Ok(())
    }

    async fn give_up(&mut self, edge: &Edge, reason: String) -> Result<(), BookError> {
        let concerned: Vec<ResourceName> = match edge {
            Edge::Target(name) => {
                self.unproven.remove(name);
                self.working_on(name)
            }
            // What is stored needs no source any more.
            Edge::Source => self
                .book
                .resources()
                .iter()
                .filter(|one| one.state.is_working() && !one.state.is_restored())
                .map(|one| one.name.clone())
                .collect(),
        };
        for name in concerned {
            self.block(&name, reason.clone()).await?;
        }
        Ok(())
    }

    /// Takes note of a stored chunk: whatever it went through works.
    pub(super) async fn edges_work(&mut self, name: &ResourceName) -> Result<(), BookError> {
        for side in [Side::Source, Side::Target] {
            let edge = self.edge(name, side);
            if let Some(recovered) = self.breakers.passed(&edge) {
                self.recovered(recovered).await?;
            }
        }
        Ok(())
    }

    /// Takes note of a probe that got an answer from `edge`.
    pub(super) async fn answered(&mut self, edge: &Edge) -> Result<(), BookError> {
        self.breakers.answered(edge);
        if self.book.run()?.state == RunState::Restoring {
            // One chunk is tried first.
            return Ok(());
        }
        match self.breakers.closed(edge) {
            Some(recovered) => self.recovered(recovered).await,
            None => Ok(()),
        }
    }

    async fn recovered(&mut self, recovered: Recovered) -> Result<(), BookError> {
        let Recovered {
            place,
            after,
            tries,
        } = recovered;
        let waited = report::human::duration(after);
        self.note(format!("{place} works again after {waited}"))
            .await?;
        self.emit(&report::Event::Recovered {
            place,
            waited_ms: millis(after),
            tries,
        });
        Ok(())
    }

    /// Writes a line into the run's history.
    pub(super) async fn note(&mut self, text: String) -> Result<(), BookError> {
        let run = self.book.run_id().clone();
        self.book.record(vec![Event::Noted { run, text }]).await
    }

    /// Returns whether a resource may be walked as far as its edges are concerned, and whether it is only one chunk that
    /// may be tried.
    pub(super) fn passage(&self, name: &ResourceName) -> Passage {
        let edges = [Side::Source, Side::Target].map(|side| self.edge(name, side));
        if edges.iter().any(|edge| self.breakers.is_open(edge)) {
            return Passage::Closed;
        }
        let Some(trial) = edges.iter().find(|edge| self.breakers.is_half_open(edge)) else {
            return Passage::Open;
        };
        let tried = self.jobs.values().any(|job| match job {
            Job::Walk(other, _) => [Side::Source, Side::Target]
                .map(|side| self.edge(other, side))
                .contains(trial),
            _ => false,
        });
        if tried {
            Passage::Closed
        } else {
            Passage::OneChunk
        }
    }

    /// Asks the source who it is when it is waited for and nothing reads from it any more.
    pub(super) fn ask_source(&mut self) {
        let is_used = self
            .jobs
            .values()
            .any(|job| matches!(job, Job::Bind(_) | Job::Walk(..) | Job::Ask));
        if is_used || !self.breakers.is_open(&Edge::Source) {
            return;
        }
        let wait = self.breakers.wait(&Edge::Source);
        let source = Arc::clone(&self.source);
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            Finished::Asked(source.identity().await)
        });
        self.probes.insert(task.id(), task.clone());
        self.jobs.insert(task.id(), Job::Ask);
    }

    pub(super) async fn asked(
        &mut self,
        answer: Result<String, EdgeError>,
    ) -> Result<(), BookError> {
        match answer {
            Ok(now) => {
                let had = self.book.run()?.source.clone();
                if let Some(had) = had.filter(|had| *had != now) {
                    let reason = format!("the source was {had}, now {now} answers in its place");
                    self.breakers.closed(&Edge::Source);
                    return self.give_up(&Edge::Source, reason).await;
                }
                self.answered(&Edge::Source).await
            }
            Err(error) if error.kind.disposition().passes() => {
                self.open_breaker(&Edge::Source, &error).await
            }
            Err(error) => {
                self.breakers.closed(&Edge::Source);
                self.give_up(&Edge::Source, chain(&error).join(": ")).await
            }
        }
    }

    /// Takes note of a change of pace.
    pub(super) fn paced(&mut self, paced: Paced) {
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
            .filter(|one| {
                self.book
                    .resource(&one.name)
                    .is_some_and(|ledger| ledger.state == crate::machine::ResourceState::Syncing)
            })
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
        self.tell_status();
        Ok(())
    }

    /// Returns what a person types to have `command` for this run's plan.
    fn typed(&self, command: &str) -> String {
        let plan = self.plan.path.display();
        if self.state_path == self.plan.state_path() {
            format!("rekindle {command} {plan}")
        } else {
            format!(
                "rekindle {command} {plan} --state {}",
                self.state_path.display()
            )
        }
    }

    fn tell_status(&mut self) {
        let waiting = self.breakers.waited_for().map(|trouble| Waiting {
            place: trouble.place.clone(),
            error: trouble.error.clone(),
            since_ms: trouble.since_ms,
            tries: trouble.tries,
        });
        let live = Live {
            pid: std::process::id(),
            run: self.book.run_id().clone(),
            waiting: waiting.collect(),
            held: self.held.values().cloned().collect(),
            paces: self.paces.values().cloned().collect(),
            memory: self.memory_found.clone(),
        };
        let is_news = !(live.waiting.is_empty() && live.held.is_empty() && live.paces.is_empty());
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

/// Whether chunks of a resource may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// As many as the plan allows.
    Open,
    /// One, to see whether it gets through.
    OneChunk,
    /// None: an edge is waited for, or the one chunk is under way.
    Closed,
}
