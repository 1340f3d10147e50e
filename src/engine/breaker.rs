//! Waits for a source or a target that is down: a circuit breaker for each.
//!
//! ```text
//! closed -- a walk used up its tries --> open -- the probe got an answer --> half-open -- a chunk was stored --> closed
//!                                         ^-------------- the one trial failed ------------'
//! ```
//!
//! While it is open nothing is sent but the probe: the lease and the evidence of a target, the identity of a source.
//! Half-open, one partition writes one chunk: a full Redis answers every probe and refuses every write.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::retry::Waits;
use crate::{ids::ResourceName, plan::RetryPolicy, report::human};

/// A source or a target of the run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// The database.
    Source,
    /// The target with this name in the plan.
    Target(String),
    /// The publisher of a resource.
    Publisher(ResourceName),
}

/// What a failure of one chunk is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It could not be read.
    Source,
    /// It could not be written.
    Target,
    /// It could not be published.
    Publisher,
}

/// Trouble with one edge.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What reports call the edge.
    pub place: String,
    /// What the last try said.
    pub error: String,
    /// When the first try in a row failed, milliseconds since 1970; for people only.
    pub since_ms: i64,
    /// How many failed in a row.
    pub tries: u32,
    since: Instant,
    /// When the last try failed.
    last: Instant,
    state: State,
    waits: Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    HalfOpen,
}

/// What opening a breaker came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// From here on the edge is waited for.
    Now,
    /// It was open, and goes on being so.
    Still,
    /// It was waited for as long as the plan allows. Why, in one line.
    GaveUp(String),
}

/// An edge that works again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// What reports call it.
    pub place: String,
    /// How long it took.
    pub after: Duration,
    /// How many tries failed.
    pub tries: u32,
}

/// The breakers of a run. Knows of no edge that gives no trouble.
#[derive(Debug)]
pub struct Breakers {
    policy: RetryPolicy,
    troubles: BTreeMap<Edge, Trouble>,
}

impl Breakers {
    /// Returns breakers that are all closed.
    #[must_use]
    pub const fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            troubles: BTreeMap::new(),
        }
    }

    /// Takes note of a try that failed, at `now_ms`. It opens nothing: whoever tried tries again.
    pub fn failed(&mut self, edge: &Edge, place: &str, error: &str, now_ms: i64) -> &Trouble {
        let trouble = self
            .troubles
            .entry(edge.clone())
            .or_insert_with(|| Trouble {
                place: place.to_owned(),
                error: String::new(),
                since_ms: now_ms,
                tries: 0,
                since: Instant::now(),
                last: Instant::now(),
                state: State::Closed,
                waits: Waits::endless(&self.policy),
            });
        error.clone_into(&mut trouble.error);
        trouble.tries += 1;
        trouble.last = Instant::now();
        trouble
    }

    /// Opens the breaker of `edge`: its tries are used up, or the probe or the trial failed.
    pub fn open(&mut self, edge: &Edge, place: &str, error: &str, now_ms: i64) -> Opened {
        self.failed(edge, place, error, now_ms);
        let within = self.policy.within;
        let Some(trouble) = self.troubles.get_mut(edge) else {
            return Opened::Now;
        };
        let waited = trouble.since.elapsed();
        if waited >= within {
            let reason = format!(
                "gave up after {} and {}: {}",
                human::duration(waited),
                tries(trouble.tries),
                trouble.error
            );
            self.troubles.remove(edge);
            return Opened::GaveUp(reason);
        }
        match std::mem::replace(&mut trouble.state, State::Open) {
            State::Closed => Opened::Now,
            State::Open | State::HalfOpen => Opened::Still,
        }
    }

    /// Returns how long to wait before the next probe: nothing where the breaker is not open.
    pub fn wait(&mut self, edge: &Edge) -> Duration {
        let within = self.policy.within;
        match self.troubles.get_mut(edge) {
            Some(trouble) if trouble.state == State::Open => {
                // The last probe comes when the time is up, not a long wait later.
                let left = within.saturating_sub(trouble.since.elapsed());
                trouble.waits.next().unwrap_or_default().min(left)
            }
            _ => Duration::ZERO,
        }
    }

    /// Takes note of a probe that got an answer.
    pub fn answered(&mut self, edge: &Edge) {
        if let Some(trouble) = self.troubles.get_mut(edge)
            && trouble.state == State::Open
        {
            trouble.state = State::HalfOpen;
        }
    }

    /// Takes note of a chunk that went through the edge. Returns what there is to say when it closed the breaker.
    ///
    /// A chunk that was under way when the breaker opened closes nothing.
    pub fn passed(&mut self, edge: &Edge) -> Option<Recovered> {
        match self.troubles.get(edge)?.state {
            State::Open => None,
            State::Closed => {
                self.troubles.remove(edge);
                None
            }
            State::HalfOpen => self.closed(edge),
        }
    }

    /// Closes the breaker: a probe is all that was left to do.
    pub fn closed(&mut self, edge: &Edge) -> Option<Recovered> {
        let trouble = self.troubles.remove(edge)?;
        (trouble.state != State::Closed).then(|| Recovered {
            place: trouble.place,
            after: trouble.since.elapsed(),
            tries: trouble.tries,
        })
    }

    /// Returns whether nothing but a probe may be sent.
    #[must_use]
    pub fn is_open(&self, edge: &Edge) -> bool {
        self.is(edge, State::Open)
    }

    /// Returns whether one chunk may be tried.
    #[must_use]
    pub fn is_half_open(&self, edge: &Edge) -> bool {
        self.is(edge, State::HalfOpen)
    }

    /// Returns the trouble with `edge`, if there is any.
    #[must_use]
    pub fn trouble(&self, edge: &Edge) -> Option<&Trouble> {
        self.troubles.get(edge)
    }

    /// Returns until when an edge in trouble is waited for, milliseconds since 1970.
    #[must_use]
    pub fn until_ms(&self, trouble: &Trouble) -> i64 {
        let within = i64::try_from(self.policy.within.as_millis()).unwrap_or(i64::MAX);
        trouble.since_ms.saturating_add(within)
    }

    /// Returns the edges that are waited for. A publisher is from its first failure on: one call may take minutes. What is tried
    /// again is from its second one on, as long as another try is to come.
    pub fn waited_for(&self) -> impl Iterator<Item = &Trouble> {
        let cap = self.policy.cap;
        let waits = move |edge: &Edge, trouble: &Trouble| {
            trouble.state != State::Closed
                || matches!(edge, Edge::Publisher(_))
                || (trouble.tries > 1 && trouble.last.elapsed() <= cap)
        };
        let troubles = self.troubles.iter();
        troubles.filter_map(move |(edge, trouble)| waits(edge, trouble).then_some(trouble))
    }

    fn is(&self, edge: &Edge, state: State) -> bool {
        self.troubles
            .get(edge)
            .is_some_and(|trouble| trouble.state == state)
    }
}

fn tries(number: u32) -> String {
    if number == 1 {
        "1 try".to_owned()
    } else {
        format!("{number} tries")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "redis at cache.test:6379/0";

    fn breakers() -> Breakers {
        Breakers::new(RetryPolicy {
            attempts: 3,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(30),
            within: Duration::from_mins(15),
        })
    }

    fn open(breakers: &mut Breakers) -> Opened {
        breakers.open(&Edge::Source, PLACE, "refused", 7)
    }

    #[tokio::test(start_paused = true)]
    async fn opens_closes_by_a_stored_chunk_and_says_how_long_it_took() {
        let mut breakers = breakers();
        breakers.failed(&Edge::Source, PLACE, "reset", 5);
        assert_eq!(breakers.passed(&Edge::Source), None);
        assert_eq!(open(&mut breakers), Opened::Now);
        assert_eq!(
            breakers.passed(&Edge::Source),
            None,
            "a chunk under way closes nothing"
        );
        assert!(breakers.is_open(&Edge::Source));
        tokio::time::advance(Duration::from_mins(1)).await;
        breakers.answered(&Edge::Source);
        assert!(breakers.is_half_open(&Edge::Source));
        assert_eq!(open(&mut breakers), Opened::Still, "the trial failed");
        breakers.answered(&Edge::Source);
        let recovered = breakers.passed(&Edge::Source).expect("closed");
        assert_eq!(recovered.after, Duration::from_mins(1));
        assert_eq!(recovered.tries, 2);
        assert!(breakers.trouble(&Edge::Source).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_is_waited_for_from_its_first_failure_on() {
        let mut breakers = breakers();
        let publisher = Edge::Publisher("url".into());
        breakers.failed(&Edge::Source, PLACE, "reset", 5);
        assert_eq!(breakers.waited_for().count(), 0);
        breakers.failed(&publisher, PLACE, "ended with exit code 1", 5);
        let errors: Vec<_> = breakers
            .waited_for()
            .map(|one| one.error.as_str())
            .collect();
        assert_eq!(errors, ["ended with exit code 1"]);
        assert_eq!(breakers.passed(&publisher), None);
        assert_eq!(breakers.waited_for().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_tried_again_is_waited_for_as_long_as_a_try_is_to_come() {
        let mut breakers = breakers();
        breakers.failed(&Edge::Source, PLACE, "reset", 5);
        assert_eq!(breakers.waited_for().count(), 0, "once is nothing");
        breakers.failed(&Edge::Source, PLACE, "refused", 9);
        let until: Vec<_> = breakers
            .waited_for()
            .map(|one| (one.tries, breakers.until_ms(one)))
            .collect();
        assert_eq!(until, [(2, 15 * 60_000 + 5)]);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(breakers.waited_for().count(), 0, "nobody tries it any more");
        assert_eq!(open(&mut breakers), Opened::Now);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(breakers.waited_for().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_when_the_time_is_up_and_not_long_after() {
        let mut breakers = breakers();
        let begun = Instant::now();
        let mut probes = 0;
        let reason = loop {
            match open(&mut breakers) {
                Opened::GaveUp(reason) => break reason,
                _ => tokio::time::advance(breakers.wait(&Edge::Source)).await,
            }
            probes += 1;
        };
        assert_eq!(begun.elapsed(), Duration::from_mins(15));
        assert!((30..500).contains(&probes), "{probes}");
        assert!(
            reason.starts_with("gave up after 15 min 0 s and "),
            "{reason}"
        );
        assert!(reason.ends_with(" tries: refused"), "{reason}");
    }
}
