//! What the modelled edges share: one seed, one list of what goes wrong, and the moment at which the process dies.

use std::sync::{Arc, Mutex, MutexGuard};

use rekindle::error::{EdgeError, ErrorKind};
use tokio::sync::Notify;

/// A row of the source: key and value, `None` for NULL.
pub type Row = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Draws what happens, and counts it.
pub struct World {
    random: Mutex<fastrand::Rng>,
    /// Calls of edges that are left before the process dies; none: it lives.
    left: Mutex<Option<u32>>,
    killed: Notify,
    /// One call in so many goes wrong; 0 for none.
    trouble: u32,
    /// What went wrong, by name, in order.
    happened: Mutex<Vec<&'static str>>,
}

impl World {
    pub fn new(seed: u64, trouble: u32) -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            left: Mutex::new(None),
            killed: Notify::new(),
            trouble,
            happened: Mutex::new(Vec::new()),
        })
    }

    /// Returns a number below `below`.
    pub fn draw(&self, below: u32) -> u32 {
        locked(&self.random).u32(0..below.max(1))
    }

    /// Lets the next attempt die at its n-th call of an edge, or live.
    pub fn dies_after(&self, calls: Option<u32>) {
        *locked(&self.left) = calls;
    }

    /// Waits for the death of the process.
    pub async fn death(&self) {
        self.killed.notified().await;
    }

    /// Notes what happened.
    pub fn note(&self, what: &'static str) {
        locked(&self.happened).push(what);
    }

    /// Returns how often it happened.
    pub fn count(&self, what: &str) -> usize {
        locked(&self.happened)
            .iter()
            .filter(|one| **one == what)
            .count()
    }

    /// A call of an edge: whoever died says nothing any more.
    pub async fn call(&self) {
        let dies = match &mut *locked(&self.left) {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if dies {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Returns whether this call goes wrong.
    pub fn is_troubled(&self) -> bool {
        self.trouble > 0 && self.draw(self.trouble) == 0
    }

    /// Returns an error that passes by itself.
    pub fn error(&self, place: &str) -> EdgeError {
        const KINDS: [ErrorKind; 5] = [
            ErrorKind::Connection,
            ErrorKind::Timeout,
            ErrorKind::Busy,
            ErrorKind::TargetMemory,
            ErrorKind::TargetDisk,
        ];
        let kind = KINDS[self.draw(5) as usize];
        self.note("error");
        EdgeError::new(kind, format!("{place}: {}", kind.label()))
    }
}

/// Returns what a lock guards; the model has one thread that matters.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
