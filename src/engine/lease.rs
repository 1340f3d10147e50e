//! Keeps the lease on one target: renewed well before it runs out, and looked at before a write when it is stale.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::{
    error::EdgeError,
    target::{Lease, LeaseOwner, Target},
};

/// How old a lease may be before it is renewed: a third of its time to live, so that two renewals may fail.
const RENEW_AFTER: Duration = Duration::from_secs(10);

/// The lease on one target.
pub struct LeaseKeeper {
    target: Arc<dyn Target>,
    owner: LeaseOwner,
    renewed: Mutex<Instant>,
}

impl LeaseKeeper {
    /// Takes the lease.
    ///
    /// # Errors
    ///
    /// `Ok(Err(owner))` names the other owner; `Err` is an error of the target.
    pub async fn take(
        target: Arc<dyn Target>,
        owner: LeaseOwner,
    ) -> Result<Result<Self, LeaseOwner>, EdgeError> {
        let before = Instant::now();
        Ok(match target.take_lease(&owner).await? {
            Lease::Held => Ok(Self {
                target,
                owner,
                renewed: Mutex::new(before),
            }),
            Lease::TakenBy(other) => Err(other),
        })
    }

    /// Makes sure that the lease is ours for the next few seconds. Cheap while it is fresh; a process that was
    /// suspended for longer than its lease finds out here, before it writes.
    ///
    /// # Errors
    ///
    /// `LeaseLost` when another state file has it now.
    pub async fn ensure(&self) -> Result<(), EdgeError> {
        let mut renewed = self.renewed.lock().await;
        if renewed.elapsed() < RENEW_AFTER {
            return Ok(());
        }
        let before = Instant::now();
        match self.target.renew_lease(&self.owner).await? {
            Lease::Held => {
                *renewed = before;
                Ok(())
            }
            Lease::TakenBy(other) => Err(other.lease_lost(self.target.place())),
        }
    }

    /// Gives the lease back.
    pub async fn release(&self) -> Result<(), EdgeError> {
        self.target.release_lease(&self.owner).await
    }
}
