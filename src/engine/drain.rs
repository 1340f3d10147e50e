//! Waits until the queues of a resource have run empty, and says what is wrong when they do not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::retry::Waits;
use crate::{
    error::EdgeError,
    failpoint,
    ids::ResourceName,
    plan::RetryPolicy,
    report::human::{count, counted, in_queue},
    target::{Backlog, Target},
};

/// How often the queues are looked at, in milliseconds. It is a question to the broker, and nobody waits for the answer but us.
const LOOK_MS: u32 = 500;

/// How long queues may stand still before somebody is told: consumers come and go, and some poll once a minute.
const STILL: Duration = Duration::from_secs(10);

/// The wait for one resource.
pub struct Drain {
    /// Which.
    pub resource: ResourceName,
    /// What knows its queues.
    pub target: Arc<dyn Target>,
    /// How long they may stand still.
    pub within: Duration,
    /// When to ask again after an error.
    pub retry: RetryPolicy,
}

/// Why queues did not run empty.
#[derive(Debug)]
pub enum NotDrained {
    /// They stand still; what is wrong.
    Still(String),
    /// They cannot be looked at.
    Edge(EdgeError),
}

impl Drain {
    /// Returns when nothing of the resource waits any more, and whether anything did. `told` hears one line when it begins and
    /// when the queues stand still.
    ///
    /// # Errors
    ///
    /// When they stand still for too long, or cannot be looked at.
    pub async fn run(&self, told: impl Fn(String)) -> Result<bool, NotDrained> {
        let mut waits = Waits::endless(&self.retry);
        if failpoint::mutant("published_is_done") {
            // A deliberate defect: what the broker has counts as if the target had it.
            return Ok(false);
        }
        let mut last = None;
        let mut moved = Instant::now();
        let (mut said, mut failing) = (false, false);
        loop {
            match self.target.backlog(&self.resource).await {
                Ok(mut backlog) => {
                    backlog.retain(|one| one.ready > 0);
                    if backlog.is_empty() {
                        return Ok(last.is_some());
                    }
                    waits = Waits::endless(&self.retry);
                    failing = false;
                    if last.is_none() {
                        told(self.shown(&backlog));
                    }
                    let ready: Vec<u64> = backlog.iter().map(|one| one.ready).collect();
                    if last.as_ref() != Some(&ready) {
                        (last, moved, said) = (Some(ready), Instant::now(), false);
                    }
                    let still = moved.elapsed();
                    if still >= self.within {
                        return Err(NotDrained::Still(stalled(&backlog)));
                    }
                    if still >= STILL.min(self.within) && !std::mem::replace(&mut said, true) {
                        told(format!("`{}` waits: {}", self.resource, stalled(&backlog)));
                    }
                    tokio::time::sleep(look()).await;
                }
                Err(error) if error.kind.disposition().passes() => {
                    let wait = waits.next().unwrap_or_else(look);
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

    fn shown(&self, backlog: &[Backlog]) -> String {
        let queues: Vec<_> = backlog.iter().map(shown).collect();
        format!(
            "`{}` is published, not applied: {}",
            self.resource,
            queues.join("; ")
        )
    }
}

fn look() -> Duration {
    Duration::from_millis(failpoint::number("drain_look_ms", LOOK_MS).into())
}

/// `2,050 messages in `sync.storage.url`, no consumer yet`
fn shown(backlog: &Backlog) -> String {
    format!(
        "{} in `{}`, {}",
        in_queue(backlog.ready, backlog.unacked),
        backlog.queue,
        match backlog.consumers {
            0 => "no consumer yet".to_owned(),
            some => counted(u64::from(some), "consumer"),
        }
    )
}

/// Says what is wrong with queues that stand still.
fn stalled(backlog: &[Backlog]) -> String {
    let all: Vec<_> = backlog
        .iter()
        .map(|one| {
            let why = match one.consumers {
                0 => {
                    "nobody consumes it; start the shop's workers, or `rekindle consume`".to_owned()
                }
                some => {
                    let (has, takes, holds, whose) = match some {
                        1 => ("has", "takes", "holds", "its"),
                        _ => ("have", "take", "hold", "their"),
                    };
                    let hold = one.unacked.filter(|unacked| *unacked > 0);
                    let hold = hold.map_or_else(String::new, |unacked| {
                        format!(", and {holds} {} unacknowledged", count(unacked))
                    });
                    let some = counted(u64::from(some), "consumer");
                    format!("{some} {has} it and {takes} none{hold}: look at {whose} logs")
                }
            };
            format!(
                "{} stand still in `{}`: {why}",
                counted(one.ready, "message"),
                one.queue
            )
        })
        .collect();
    format!("published, not applied: {}", all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_stands_still_says_whose_turn_it_is() {
        let queue = |consumers| Backlog {
            queue: "sync.storage.url".into(),
            ready: 2,
            unacked: (consumers > 3).then_some(500),
            consumers,
        };
        let text = stalled(&[queue(0), queue(3), queue(4)]);
        assert!(
            text.contains("2 messages stand still in `sync.storage.url`: nobody consumes it"),
            "{text}"
        );
        for told in [
            "3 consumers have it and take none: look",
            "4 consumers have it and take none, and hold 500 unacknowledged: look",
        ] {
            assert!(text.contains(told), "{text}");
        }
        assert_eq!(
            shown(&queue(4)),
            "2 messages and 500 unacknowledged in `sync.storage.url`, 4 consumers"
        );
    }
}
