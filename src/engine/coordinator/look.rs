//! Looks whether rows that went through a queue are in their target.
//!
//! ```text
//! queues are empty -> look at every row -> all there
//!        ^                    `- some are not: wait, as long as more of them appear
//!        `------------------------------'
//! ```
//!
//! Each look reads the source and asks the target about every row. So the waits between them grow while nothing appears, and none
//! is shorter than the look before it took: at most half of the time is spent on looking.

use std::time::{Duration, Instant};

use super::{published::tell, verify::Work};
use crate::{
    engine::{
        drain::{Drain, NotDrained},
        verify::VerifyEnd,
    },
    failpoint,
    machine::Scope,
    plan::Level,
};

/// Whether the target has the rows of a resource.
#[derive(Debug)]
pub(super) enum Looked {
    /// Something of every row.
    All,
    /// Nothing of some.
    Missing {
        /// How many.
        missing: u64,
        /// Of so many that were looked for.
        of: u64,
    },
    /// It could not be told.
    Trouble(String),
}

/// How long rows that are not there are looked for, in milliseconds: a consumer may hold messages that it has not written yet.
const LOOKED_FOR_MS: u32 = 20_000;

/// The wait behind the first look, in milliseconds.
const FIRST_WAIT_MS: u32 = 2_000;

fn looked_for() -> Duration {
    Duration::from_millis(failpoint::number("presence_within_ms", LOOKED_FOR_MS).into())
}

fn first_wait() -> Duration {
    Duration::from_millis(failpoint::number("presence_wait_ms", FIRST_WAIT_MS).into())
}

/// When to look again.
struct Looks {
    /// How long nothing may appear.
    within: Duration,
    /// The fewest rows that were missing so far.
    least: u64,
    /// When that was found.
    appeared: Instant,
    wait: Duration,
}

impl Looks {
    fn new(within: Duration, now: Instant) -> Self {
        Self {
            within,
            least: u64::MAX,
            appeared: now,
            wait: first_wait(),
        }
    }

    /// Takes note that something is on its way.
    fn moved(&mut self, now: Instant) {
        self.appeared = now;
        self.wait = first_wait();
    }

    /// Returns how long to wait after a look that took `took`, ended `now` and found `missing` rows not there; `None` where no more
    /// appeared for too long. So there are two looks at least, and the last one is behind the whole time.
    fn next(&mut self, missing: u64, took: Duration, now: Instant) -> Option<Duration> {
        if missing < self.least {
            self.least = missing;
            self.moved(now);
        }
        let left = (self.appeared + self.within).saturating_duration_since(now);
        if left.is_zero() {
            return None;
        }
        let wait = self.wait.min(left).max(took);
        self.wait *= 2;
        Some(wait)
    }
}

impl Work {
    /// Looks for the rows of a resource in its target, once its queues are empty; again as long as more of them appear within
    /// the time that its queues may stand still.
    pub(super) async fn look_for(self, drain: Drain) -> Result<Looked, VerifyEnd> {
        let scope = Scope {
            only: vec![drain.resource.clone()],
            skip: Vec::new(),
            ..self.scope.clone()
        };
        let mut looks = Looks::new(drain.within.min(looked_for()), Instant::now());
        loop {
            if failpoint::mutant("published_is_done") {
                // The deliberate defect of [`Drain::run`].
                return Ok(Looked::All);
            }
            // What a consumer had in hand when it died lies in its queue again.
            match drain.run(|text| tell(&self.reports, text)).await {
                Ok(false) => {}
                Ok(true) => looks.moved(Instant::now()),
                Err(NotDrained::Still(why)) => return Ok(Looked::Trouble(why)),
                Err(NotDrained::Edge(error)) => return Err(VerifyEnd::Edge(error)),
            }
            let begun = Instant::now();
            let found = self
                .compare(&scope, [].into(), Level::Presence, None)
                .await?;
            if let Some(why) = found.resources.iter().find_map(|one| one.trouble.clone()) {
                return Ok(Looked::Trouble(why));
            }
            let total = found.total();
            let missing = total.missing + total.moving;
            if missing == 0 {
                return Ok(Looked::All);
            }
            let Some(wait) = looks.next(missing, begun.elapsed(), Instant::now()) else {
                let of = total.compared;
                return Ok(Looked::Missing { missing, of });
            };
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Looks that take `took` and find so many rows missing, one after the other; returns the waits between them.
    fn waits(within: u64, took: u64, found: &[u64]) -> Vec<u64> {
        let mut now = Instant::now();
        let mut looks = Looks::new(seconds(within), now);
        let mut waits = Vec::new();
        for missing in found {
            now += seconds(took);
            let Some(wait) = looks.next(*missing, seconds(took), now) else {
                break;
            };
            waits.push(wait.as_secs());
            now += wait;
        }
        waits
    }

    #[test]
    fn looks_become_rare_while_nothing_appears_and_come_to_an_end() {
        assert_eq!(waits(20, 0, &[9; 30]), [2, 4, 8, 6]);
        assert_eq!(waits(1, 0, &[9; 30]), [1]);
        // What appears counts from then on.
        assert_eq!(
            waits(20, 0, &[9, 9, 9, 5, 5, 5, 5, 5]),
            [2, 4, 8, 2, 4, 8, 6]
        );
        // More again than before is nothing that appears.
        assert_eq!(waits(20, 0, &[5, 9, 9, 9, 9]), [2, 4, 8, 6]);
    }

    #[test]
    fn a_look_that_takes_long_is_not_the_last_one_and_is_followed_by_as_long_a_wait() {
        assert_eq!(waits(20, 60, &[9; 30]), [60]);
        assert_eq!(waits(20, 7, &[9; 30]), [7, 7]);
        assert_eq!(waits(20, 60, &[9, 8, 8]), [60, 60]);
    }
}
