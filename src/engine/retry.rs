//! When to try again. Only here: the edges never retry.

use std::{future::Future, time::Duration};

use backon::Retryable;

use crate::{error::EdgeError, plan::RetryPolicy};

/// The waits between the tries of one operation, each drawn uniformly between 0 and a bound that doubles from `base`
/// up to `cap` ("full jitter", AWS Architecture Blog, "Exponential Backoff And Jitter", 2015), so that partitions that
/// failed together do not come back together. Ends when the tries are used up, or never.
#[derive(Debug, Clone)]
pub struct Waits {
    /// `None` for ever.
    left: Option<u32>,
    bound: Duration,
    cap: Duration,
    random: fastrand::Rng,
}

impl Waits {
    /// Returns the waits of `policy`: one less than its attempts.
    #[must_use]
    pub fn new(policy: &RetryPolicy) -> Self {
        Self::seeded(policy, fastrand::u64(..))
    }

    /// Returns waits that do not end.
    #[must_use]
    pub fn endless(policy: &RetryPolicy) -> Self {
        Self {
            left: None,
            ..Self::new(policy)
        }
    }

    /// Returns the same waits for the same seed.
    #[must_use]
    pub fn seeded(policy: &RetryPolicy, seed: u64) -> Self {
        Self {
            left: Some(policy.attempts.saturating_sub(1)),
            bound: policy.base.min(policy.cap),
            cap: policy.cap,
            random: fastrand::Rng::with_seed(seed),
        }
    }
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let wait = self.bound.mul_f64(self.random.f64());
        self.bound = self.bound.saturating_mul(2).min(self.cap);
        Some(wait)
    }
}

/// Returns whether the same again may do.
#[must_use]
pub fn is_tried_again(error: &EdgeError) -> bool {
    error.kind.disposition().is_tried_again()
}

/// Returns what `operation` returns, having repeated it while its errors pass by themselves, or may. `told` hears of each.
pub async fn retrying<T, F, Fut>(
    policy: &RetryPolicy,
    mut told: impl FnMut(&EdgeError, Duration),
    operation: F,
) -> Result<T, EdgeError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, EdgeError>>,
{
    operation
        .retry(Waits::new(policy))
        .sleep(tokio::time::sleep)
        .when(is_tried_again)
        .notify(|error, wait| told(error, wait))
        .await
}

/// Returns what `operation` returns, having repeated it while the server only asked for patience.
pub async fn patiently<T, F, Fut>(policy: &RetryPolicy, operation: F) -> Result<T, EdgeError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, EdgeError>>,
{
    operation
        .retry(Waits::new(policy))
        .sleep(tokio::time::sleep)
        .when(|error: &EdgeError| error.kind.asks_for_patience())
        .notify(|error, wait| tracing::warn!("{error}; asked again in {} ms", wait.as_millis()))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 8,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(3),
            within: Duration::from_mins(15),
        }
    }

    #[test]
    fn waits_stay_below_their_doubling_bound_and_end() {
        for seed in 0..200 {
            let waits: Vec<_> = Waits::seeded(&policy(), seed).collect();
            assert_eq!(waits.len(), 7);
            for (n, wait) in waits.iter().enumerate() {
                let bound = Duration::from_millis(200 << n).min(Duration::from_secs(3));
                assert!(*wait <= bound, "wait {n} is {wait:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_passing_errors_are_repeated() {
        let mut tries = 0;
        let refused = retrying(
            &policy(),
            |_, _| {},
            || {
                tries += 1;
                async { Err::<(), _>(EdgeError::new(ErrorKind::Credentials, "no")) }
            },
        )
        .await;
        assert!(refused.is_err());
        assert_eq!(tries, 1);

        let mut tries = 0;
        let reset = retrying(
            &policy(),
            |_, _| {},
            || {
                tries += 1;
                let result = if tries < 8 {
                    Err(EdgeError::new(ErrorKind::Connection, "reset"))
                } else {
                    Ok(tries)
                };
                async { result }
            },
        )
        .await;
        assert_eq!(reset.ok(), Some(8));
    }
}
