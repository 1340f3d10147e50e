//! How fast rows go: rows of a page, and how many chunks are written to one target at a time.
//!
//! The plan's numbers are where a run begins and the most it ever uses. Deaths, slow chunks and a target that pushes back
//! make them smaller; quick chunks bring them back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Chunks that must be stored one after the other before the page doubles again: after a death the next ones are
/// the most likely to meet the same row.
const STREAK: u32 = 4;

/// A chunk that takes no longer is quick. Two seconds of a shop's Redis or search for one chunk are no time to ask for
/// more.
const QUICK: Duration = Duration::from_secs(2);

/// A chunk that takes this long is slow: the page halves. Far above what a chunk of 2 MiB takes on a slow line.
const SLOW: Duration = Duration::from_secs(10);

/// The page size of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    rows: u32,
    most: u32,
    streak: u32,
}

impl Pace {
    /// Returns a pace that begins at `rows` and never asks for more than `most`; both at least 1.
    #[must_use]
    pub fn new(rows: u32, most: u32) -> Self {
        let most = most.max(1);
        Self {
            rows: rows.clamp(1, most),
            most,
            streak: 0,
        }
    }

    /// Returns the rows the next page may ask for.
    #[must_use]
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// Takes note of a chunk that was stored in `took`. Returns why the page changed, if it did.
    pub fn stored(&mut self, took: Duration) -> Option<&'static str> {
        if took >= SLOW {
            return self.fall().then_some("a chunk took longer than 10 s");
        }
        if took > QUICK {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        if self.streak < STREAK || self.rows >= self.most {
            return None;
        }
        self.streak = 0;
        self.rows = self.rows.saturating_mul(2).min(self.most);
        Some("chunks are quick")
    }

    /// Halves the page, down to an eighth of the plan's: what asks for patience counts requests, and smaller ones are more
    /// of them. Returns whether that changed it.
    pub fn ease(&mut self) -> bool {
        let least = (self.most / 8).max(1);
        if self.rows <= least {
            self.streak = 0;
            return false;
        }
        let fell = self.fall();
        self.rows = self.rows.max(least);
        fell
    }

    /// Halves the page. Returns whether that changed it.
    pub fn fall(&mut self) -> bool {
        let before = self.rows;
        self.rows = after_death(self.rows);
        self.streak = 0;
        self.rows != before
    }
}

/// Returns the page size after a death: half, at least one row.
#[must_use]
pub const fn after_death(rows: u32) -> u32 {
    if rows > 1 { rows / 2 } else { 1 }
}

/// Chunks that must be stored before one more may be written at a time: long enough to see whether the target bears it.
const WIDEN_AFTER: u32 = 32;

/// How many chunks may be written to one target at a time. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    shared: Arc<Width>,
}

#[derive(Debug)]
struct Width {
    most: u32,
    now: AtomicU32,
    /// Permits that are to be taken away as soon as they come back.
    owed: AtomicU32,
    streak: AtomicU32,
}

/// The right to write one chunk.
#[derive(Debug)]
pub struct Pass {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Width>,
}

impl Gate {
    /// Returns a gate for `most` chunks at a time, at least 1.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            permits: Arc::new(Semaphore::new(most as usize)),
            shared: Arc::new(Width {
                most,
                now: AtomicU32::new(most),
                owed: AtomicU32::new(0),
                streak: AtomicU32::new(0),
            }),
        }
    }

    /// Waits until one more chunk may be written.
    pub async fn enter(&self) -> Pass {
        Pass {
            permit: Arc::clone(&self.permits).acquire_owned().await.ok(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Returns how many chunks may be written at a time.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.shared.now.load(Ordering::Relaxed)
    }

    /// Takes note of a target that pushed back: one less from here on. Returns whether that changed anything.
    pub fn narrow(&self) -> bool {
        self.shared.streak.store(0, Ordering::Relaxed);
        let narrower = |now: u32| (now > 1).then(|| now - 1);
        let changed = self
            .shared
            .now
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, narrower)
            .is_ok();
        if changed {
            self.shared.owed.fetch_add(1, Ordering::Relaxed);
        }
        changed
    }

    /// Takes note of a stored chunk: after many, one more again. Returns whether that changed anything.
    pub fn stored(&self) -> bool {
        let shared = &self.shared;
        if shared.now.load(Ordering::Relaxed) >= shared.most
            || shared.streak.fetch_add(1, Ordering::Relaxed) + 1 < WIDEN_AFTER
        {
            return false;
        }
        shared.streak.store(0, Ordering::Relaxed);
        let wider = |now: u32| (now < shared.most).then(|| now + 1);
        let changed = shared
            .now
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, wider)
            .is_ok();
        if changed && !shared.pay() {
            self.permits.add_permits(1);
        }
        changed
    }
}

impl Width {
    /// Takes one off what is owed, if anything is.
    fn pay(&self) -> bool {
        self.owed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| {
                owed.checked_sub(1)
            })
            .is_ok()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.shared.pay()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(3);

    #[test]
    fn deaths_halve_down_to_one_row_and_success_brings_the_page_back() {
        let mut rows = 1000;
        for _ in 0..20 {
            rows = after_death(rows);
        }
        assert_eq!(rows, 1);
        let mut pace = Pace::new(rows, 1000);
        let mut chunks = 0;
        while pace.rows() < 1000 {
            pace.stored(MOMENT);
            chunks += 1;
        }
        assert_eq!(chunks, 40);
    }

    #[test]
    fn never_above_the_plan() {
        let mut pace = Pace::new(5000, 300);
        assert_eq!(pace.rows(), 300);
        for _ in 0..100 {
            pace.stored(MOMENT);
        }
        assert_eq!(pace.rows(), 300);
    }

    #[test]
    fn a_target_that_asks_for_patience_gets_no_more_requests_than_eight_times_as_many() {
        let mut pace = Pace::new(1000, 1000);
        assert!(pace.ease() && pace.ease() && pace.ease() && !pace.ease());
        assert_eq!(pace.rows(), 125);
        // What a death left smaller stays as it is.
        let mut small = Pace::new(3, 1000);
        assert!(!small.ease());
        assert_eq!(small.rows(), 3);
    }

    #[test]
    fn slow_chunks_make_small_pages_and_middling_ones_leave_them() {
        let mut pace = Pace::new(1000, 1000);
        assert!(pace.stored(SLOW).is_some());
        assert_eq!(pace.rows(), 500);
        for _ in 0..100 {
            assert_eq!(pace.stored(QUICK * 2), None);
        }
        assert_eq!(pace.rows(), 500);
        for _ in 0..STREAK {
            pace.stored(QUICK);
        }
        assert_eq!(pace.rows(), 1000);
    }

    #[tokio::test]
    async fn a_gate_narrows_to_one_and_widens_again_whoever_holds_a_pass() {
        let gate = Gate::new(3);
        let held = [gate.enter().await, gate.enter().await, gate.enter().await];
        assert!(gate.narrow() && gate.narrow() && !gate.narrow());
        assert_eq!(gate.width(), 1);
        drop(held);
        assert_eq!(gate.permits.available_permits(), 1);
        let only = gate.enter().await;
        for _ in 0..2 * WIDEN_AFTER {
            gate.stored();
        }
        assert_eq!((gate.width(), gate.permits.available_permits()), (3, 2));
        drop(only);
        assert!(gate.narrow());
        let one = gate.enter().await;
        for _ in 0..WIDEN_AFTER {
            gate.stored();
        }
        drop(one);
        assert_eq!((gate.width(), gate.permits.available_permits()), (3, 3));
    }
}
