//! The Jenkins that the last step builds a job on: a fake of our own process, one for each worker.

use std::sync::{Arc, Mutex};

use crate::fake_jenkins::{self, Known};

/// One of them.
#[derive(Clone)]
pub struct Jenkins {
    url: String,
    known: Arc<Mutex<Known>>,
}

impl Jenkins {
    /// Starts one, for as long as this process lives.
    pub fn start() -> Self {
        let (url, known) = fake_jenkins::start();
        Self { url, known }
    }

    /// Returns where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets it forget everything.
    pub fn reset(&self) {
        *self.known.lock().expect("no answer panicked") = Known::new();
    }

    /// Returns how many builds it was asked for.
    pub fn builds(&self) -> usize {
        let known = self.known.lock().expect("no answer panicked");
        let changes = known.changes.iter();
        changes
            .filter(|path| path.ends_with("/buildWithParameters"))
            .count()
    }
}
