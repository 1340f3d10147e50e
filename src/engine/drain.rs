//! Waits until a queue has run empty, and says what is wrong when it does not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::retry::{Waits, passes};
use crate::{
    error::EdgeError,
    ids::ResourceName,
    plan::RetryPolicy,
    report::human::counted,
    target::{Backlog, Target},
};

/// How often the queue is looked at. It is a question to the broker, and nobody waits for the answer but us.
const LOOK: Duration = Duration::from_millis(500);

/// How long a queue may stand still before somebody is told: consumers come and go, and some poll once a minute.
const STILL: Duration = Duration::from_secs(10);

/// The wait for one resource.
pub struct Drain {
    /// Which.
    pub resource: ResourceName,
    /// What knows its queue.
    pub target: Arc<dyn Target>,
    /// How long the queue may stand still.
    pub within: Duration,
    /// When to ask again after an error.
    pub retry: RetryPolicy,
}

/// Why a queue did not run empty.
#[derive(Debug)]
pub enum NotDrained {
    /// It stands still; what is wrong.
    Still(String),
    /// It cannot be looked at.
    Edge(EdgeError),
}

impl Drain {
    /// Returns when nothing of the resource waits any more. `told` hears one line when it begins and when the queue stands
    /// still.
    pub async fn run(self, told: impl Fn(String)) -> Result<(), NotDrained> {
        let mut waits = Waits::endless(&self.retry);
        let mut last = None;
        let mut moved = Instant::now();
        let (mut said, mut failing) = (false, false);
        loop {
            match self.target.backlog(&self.resource).await {
                Ok(backlog) => {
                    let Some(backlog) = backlog.filter(|one| one.ready > 0) else {
                        return Ok(());
                    };
                    waits = Waits::endless(&self.retry);
                    failing = false;
                    if last.is_none() {
                        told(self.shown(&backlog));
                    }
                    if last != Some(backlog.ready) {
                        (last, moved, said) = (Some(backlog.ready), Instant::now(), false);
                    }
                    let still = moved.elapsed();
                    if still >= self.within {
                        return Err(NotDrained::Still(stalled(&backlog)));
                    }
                    if still >= STILL.min(self.within) && !std::mem::replace(&mut said, true) {
                        told(format!("`{}` waits: {}", self.resource, stalled(&backlog)));
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) if passes(&error) => {
                    let wait = waits.next().unwrap_or(LOOK);
                    // Once for all tries in a row.
                    if !std::mem::replace(&mut failing, true) {
                        told(format!("`{}` waits: {error}", self.resource));
                    }
                    tokio::time::sleep(wait).await;
                    // Nobody knows whether it moved meanwhile.
                    moved = Instant::now();
                }
                Err(error) => return Err(NotDrained::Edge(error)),
            }
        }
    }

    fn shown(&self, backlog: &Backlog) -> String {
        format!(
            "`{}` is published, not applied: {} in `{}`, {}",
            self.resource,
            counted(backlog.ready, "message"),
            backlog.queue,
            match backlog.consumers {
                0 => "no consumer yet".to_owned(),
                some => counted(u64::from(some), "consumer"),
            }
        )
    }
}

/// Says what is wrong with a queue that stands still.
fn stalled(backlog: &Backlog) -> String {
    let why = match backlog.consumers {
        0 => "nobody consumes it; start the shop's workers, or `rekindle consume`".to_owned(),
        some => format!(
            "{} have it and take none: look at their logs",
            counted(u64::from(some), "consumer")
        ),
    };
    format!(
        "published, not applied: {} stand still in `{}`: {why}",
        counted(backlog.ready, "message"),
        backlog.queue
    )
}
