//! What the run waits for: a source or a target that is down.

use std::{sync::Arc, time::Duration};

use super::{Coordinator, Finished, Job, millis};
use crate::{
    engine::{
        book::BookError,
        breaker::{Edge, Opened, Recovered, Side},
    },
    error::{EdgeError, chain},
    ids::ResourceName,
    journal::now_ms,
    machine::{Event, RunState},
    report,
};

/// What rows go through.
pub(super) const BOTH: &[Side] = &[Side::Source, Side::Target];

impl Coordinator {
    /// Returns the edge that one side of a resource is.
    pub(super) fn edge(&self, name: &ResourceName, side: Side) -> Edge {
        match (side, self.plan.resource(name)) {
            (Side::Target, Some(resource)) => Edge::Target(resource.to.clone()),
            (Side::Publisher, _) => Edge::Publisher(name.clone()),
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
            Edge::Publisher(name) => format!("the publisher of {name}"),
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
            // The next call is the probe.
            Edge::Publisher(_) => {}
        }
        if let Some(trouble) = self.breakers.trouble(edge) {
            let event = report::Event::Held {
                place,
                resources: self.concerned(edge),
                error: text,
                since_ms: trouble.since_ms,
                until_ms: self.breakers.until_ms(trouble),
                waited_ms: u64::try_from(now_ms() - trouble.since_ms).unwrap_or_default(),
                tries: trouble.tries,
            };
            self.emit(&event);
        }
        Ok(())
    }

    async fn give_up(&mut self, edge: &Edge, reason: String) -> Result<(), BookError> {
        let concerned = self.concerned(edge);
        if let Edge::Target(name) = edge {
            self.unproven.remove(name);
        }
        for name in concerned {
            self.block(&name, reason.clone()).await?;
        }
        Ok(())
    }

    /// Returns which resources of those that are worked on need `edge`.
    fn concerned(&self, edge: &Edge) -> Vec<ResourceName> {
        match edge {
            Edge::Target(name) => self.working_on(name),
            // What is stored needs no source any more.
            Edge::Source => self
                .book
                .resources()
                .iter()
                .filter(|one| one.state.is_working() && !one.state.is_restored())
                .map(|one| one.name.clone())
                .collect(),
            Edge::Publisher(name) => vec![name.clone()],
        }
    }

    /// Takes note of a stored chunk: whatever it went through works.
    pub(super) async fn edges_work(&mut self, name: &ResourceName) -> Result<(), BookError> {
        for side in BOTH {
            self.edge_works(name, *side).await?;
        }
        Ok(())
    }

    /// Takes note of something that went through one edge of a resource.
    pub(super) async fn edge_works(
        &mut self,
        name: &ResourceName,
        side: Side,
    ) -> Result<(), BookError> {
        let edge = self.edge(name, side);
        let recovered = match edge {
            // A call is its own probe.
            Edge::Publisher(_) => self.breakers.closed(&edge),
            Edge::Source | Edge::Target(_) => self.breakers.passed(&edge),
        };
        match recovered {
            Some(recovered) => self.recovered(recovered).await,
            None => Ok(()),
        }
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
        let run = Some(self.book.run_id().clone());
        self.book.record(vec![Event::Noted { run, text }]).await
    }

    /// Returns whether a resource may be worked on as far as its edges are concerned, and whether it is only one chunk that
    /// may be tried, by something that goes through `uses`.
    pub(super) fn passage(&self, name: &ResourceName, uses: &[Side]) -> Passage {
        let closed = [Side::Source, Side::Target].map(|side| self.edge(name, side));
        if closed.iter().any(|edge| self.breakers.is_open(edge)) {
            return Passage::Closed;
        }
        let mut edges = uses.iter().map(|side| self.edge(name, *side));
        let Some(trial) = edges.find(|edge| self.breakers.is_half_open(edge)) else {
            // Also past an edge that is to be tried: what does not go through it proves nothing about it.
            return Passage::Open;
        };
        let tried = self.jobs.values().any(|job| {
            let (other, sides) = match job {
                Job::Walk(other, _) => (other, BOTH),
                Job::Hand(other, sides) => (other, *sides),
                _ => return false,
            };
            sides.iter().any(|side| self.edge(other, *side) == trial)
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
            .any(|job| matches!(job, Job::Bind(_) | Job::Walk(..) | Job::Hand(..) | Job::Ask));
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
