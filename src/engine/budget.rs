//! One byte budget for everything in flight in the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::chunk::Chunk;

/// Bytes of memory a byte of a chunk stands for: itself in the chunk, and once more on its way out (the driver's
/// command and its packed form replace each other).
const COPIES: u64 = 2;

/// One permit stands for this many bytes: a semaphore counts in `u32`, budgets may be larger than 4 GiB.
const UNIT: u64 = 1024;

/// The budget. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total_units: u32,
    /// Chunks that were written, empty, for whoever gets a reservation next: never more than there were reservations
    /// at one time. Allocated anew for each, chunks of 2 MiB left holes in the allocator's heaps: 36 to 44 MiB of
    /// resident memory instead of 21, and a quarter more of the processor's time (60,000 rows of 6 KB).
    spare: Arc<Mutex<Vec<Chunk>>>,
}

/// A reservation; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
}

impl Budget {
    /// Returns a budget of `bytes` (at least 64 KiB).
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let total_units = units(bytes.max(64 * 1024));
        Self {
            units: Arc::new(Semaphore::new(total_units as usize)),
            total_units,
            spare: Arc::default(),
        }
    }

    /// Waits for room for a chunk of `bytes`. More than the whole budget takes the whole budget: that chunk is
    /// alone in flight.
    ///
    /// Nobody who holds a reservation needs another one to get rid of it, so waiting always ends.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let wanted = units(bytes.saturating_mul(COPIES)).min(self.total_units);
        match Arc::clone(&self.units).acquire_many_owned(wanted).await {
            Ok(permit) => Reservation { permit },
            Err(_) => unreachable!("the semaphore is never closed"),
        }
    }

    /// Returns an empty chunk for somebody who just got a reservation.
    pub fn chunk(&self) -> Chunk {
        self.spare().pop().unwrap_or_default()
    }

    /// Takes a chunk that is no longer needed, before its reservation is given back. One with room for more than
    /// `most` bytes held a long row, and its memory is free at once.
    pub fn take_back(&self, mut chunk: Chunk, most: u64) {
        if chunk.room() as u64 <= most {
            chunk.clear();
            self.spare().push(chunk);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Chunk>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Gives back what a chunk of `bytes` does not need.
    pub fn shrink(&mut self, bytes: u64) {
        let needed = units(bytes.saturating_mul(COPIES)) as usize;
        if let Some(spare) = self
            .permit
            .num_permits()
            .checked_sub(needed)
            .filter(|spare| *spare > 0)
        {
            drop(self.permit.split(spare));
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::KeyValue;

    #[tokio::test]
    async fn more_than_everything_is_alone() {
        let budget = Budget::new(1024 * 1024);
        let small = budget.reserve(100 * 1024).await;
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve(u64::MAX).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(small);
        assert!(waiting.await.is_ok());
    }

    #[test]
    fn a_chunk_is_used_again_unless_it_held_a_long_row() {
        let budget = Budget::new(1024 * 1024);
        let mut chunk = budget.chunk();
        chunk.push(&[KeyValue::Uint(1)], b"key", &[0; 1000], &[]);
        let room = chunk.room();
        budget.take_back(chunk, room as u64);
        let again = budget.chunk();
        assert_eq!((again.row_count(), again.byte_count()), (0, 0));
        assert_eq!(again.room(), room);
        budget.take_back(again, room as u64 - 1);
        assert_eq!(budget.chunk().room(), 0);
    }

    #[tokio::test]
    async fn shrinking_gives_back_all_but_the_need() {
        let budget = Budget::new(1024 * 1024);
        let mut reservation = budget.reserve(512 * 1024).await;
        assert_eq!(budget.units.available_permits(), 0);
        reservation.shrink(10 * 1024);
        assert_eq!(budget.units.available_permits(), 1024 - 20);
    }
}
