//! What a plan's `throttle` asks for: rows a second, and holding back while a replica lags or a Redis fills up.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{plan::Throttle, report::human, source::Lag};

/// Shares out so many rows a second among the partitions of a resource.
#[derive(Debug)]
pub struct RateLimit {
    rows_per_second: u32,
    /// When the rows that were shared out so far are through. Time that nobody used is not saved up: a burst after a
    /// wait is what the limit is there to prevent.
    next: Mutex<Instant>,
}

impl RateLimit {
    /// Returns a limit of so many rows a second, at least 1.
    #[must_use]
    pub fn new(rows_per_second: u32) -> Self {
        Self {
            rows_per_second: rows_per_second.max(1),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Returns when the next `rows` may be sent. Whoever asks has to take them.
    pub fn take(&self, rows: u64) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = (*next).max(Instant::now());
        *next = due + Duration::from_secs_f64(rows as f64 / f64::from(self.rows_per_second));
        due
    }

    /// Returns the most rows of a chunk: a second's worth, so that a small limit is no long silence.
    #[must_use]
    pub fn chunk_rows(&self, wished: u32) -> u32 {
        wished.min(self.rows_per_second)
    }
}

/// What was measured for a throttle.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measured {
    /// How the source stands to the database it is a replica of.
    pub lag: Lag,
    /// Used memory of the target in percent of its limit; `None` without a limit.
    pub used_percent: Option<f64>,
}

/// Returns why a resource has to hold back, if it has.
#[must_use]
pub fn reason(throttle: &Throttle, measured: &Measured) -> Option<String> {
    if let Some(most) = throttle.replica_lag {
        match measured.lag {
            Lag::Behind(lag) if lag > most => {
                return Some(format!(
                    "the replica that is read is {} behind, `replica_lag` allows {}",
                    human::duration(lag),
                    human::duration(most)
                ));
            }
            Lag::Stopped => {
                return Some(
                    "the replica that is read does not follow its primary at the moment".to_owned(),
                );
            }
            Lag::Behind(_) | Lag::None => {}
        }
    }
    let (most, used) = (throttle.redis_used_percent?, measured.used_percent?);
    (used > f64::from(most)).then(|| {
        format!("{used:.1} % of the memory of redis is used, `redis_used_percent` allows {most} %")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rows_are_shared_out_evenly_and_idle_time_is_not_saved_up() {
        let limit = RateLimit::new(1000);
        let begun = Instant::now();
        for _ in 0..10 {
            tokio::time::sleep_until(limit.take(500)).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_millis(4500));
        tokio::time::advance(Duration::from_mins(1)).await;
        let begun = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep_until(limit.take(500)).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[test]
    fn holds_back_beyond_a_bound_only() {
        let throttle = Throttle {
            rows_per_second: None,
            replica_lag: Some(Duration::from_secs(10)),
            redis_used_percent: Some(80),
        };
        let why = |lag, used_percent| reason(&throttle, &Measured { lag, used_percent });
        assert_eq!(why(Lag::None, None), None);
        assert_eq!(why(Lag::Behind(Duration::from_secs(10)), Some(80.0)), None);
        assert!(why(Lag::Behind(Duration::from_secs(11)), None).is_some());
        assert!(why(Lag::Stopped, None).is_some());
        assert_eq!(
            why(Lag::None, Some(80.5)).as_deref(),
            Some("80.5 % of the memory of redis is used, `redis_used_percent` allows 80 %")
        );
        assert_eq!(
            reason(
                &Throttle::default(),
                &Measured {
                    lag: Lag::Stopped,
                    used_percent: Some(99.0)
                }
            ),
            None
        );
    }
}
