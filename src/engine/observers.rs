//! Everybody who hears of a run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    failpoint,
    report::{Event, Observer},
};

/// The observers of a run; those that panicked hear no more.
#[derive(Default)]
pub struct Observers(Vec<Box<dyn Observer>>);

impl Observers {
    /// Returns these observers.
    #[must_use]
    pub fn new(observers: Vec<Box<dyn Observer>>) -> Self {
        Self(observers)
    }

    /// Tells all of them what happened.
    pub fn emit(&mut self, event: &Event) {
        // An observer that panics is a bug, and none that a restore has to die of.
        self.0.retain_mut(|observer| {
            let told = catch_unwind(AssertUnwindSafe(|| {
                failpoint::hit("report").ok();
                observer.observe(event);
            }));
            if told.is_err() {
                tracing::error!("a report panicked and is switched off; the run goes on");
            }
            told.is_ok()
        });
    }
}
