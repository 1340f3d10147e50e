//! The runtime that a command waits with.

use std::{future::Future, pin::Pin};

/// A runtime of two threads: reading, writing and the journal keep two busy, reading SQLite blocks the one it runs on, and more
/// would only add stacks and allocator arenas.
pub struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// Starts one; fails where the system has no threads to give.
    pub fn start() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map(Self)
    }

    /// Waits for `work`, and returns what it returns.
    ///
    /// Boxed: otherwise all that a command does would become machine code four times, for each of the runtime's ways to wait, and
    /// take a sixth of the memory of a whole run.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let work: Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(work);
        self.0.block_on(work)
    }

    /// Ends it without waiting for threads that block.
    pub fn shutdown_background(self) {
        self.0.shutdown_background();
    }
}
