//! The lease: one document that says which state file writes here.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    node::Cluster,
    notes::{self, If, Note},
};
use crate::{
    error::{EdgeError, ErrorKind},
    target::{Lease, LeaseOwner},
};

const ID: &str = "lease";

/// How long a lease outlives its last renewal.
const TTL_MS: i64 = 30_000;

/// How long a lease that seems to have run out is watched before it is taken, where its owner's clock is another one:
/// longer than the time between two renewals.
const WATCH: Duration = Duration::from_secs(15);

/// Times a lease is read again because somebody changed it in between.
const TRIES: u32 = 5;

#[derive(Debug, Serialize, Deserialize)]
struct Held {
    owner: LeaseOwner,
    /// By the owner's clock.
    renewed_ms: i64,
}

impl Held {
    fn is_fresh(&self, now_ms: i64) -> bool {
        (0..TTL_MS).contains(&(now_ms - self.renewed_ms))
    }
}

/// Takes, takes over or renews the lease for `owner`.
pub(super) async fn take(cluster: &Cluster, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
    for _ in 0..TRIES {
        let held: Option<Note<Held>> = notes::read(cluster, ID).await?;
        let condition = match held {
            None => If::Absent,
            Some(held) if held.content.owner.state == owner.state => If::Unchanged(held.version),
            Some(held) if held.content.is_fresh(now_ms()) => {
                return Ok(Lease::TakenBy(held.content.owner));
            }
            Some(held) => {
                // Clocks of two machines may differ by more than a lease lasts; a lease that is alive is renewed.
                if held.content.owner.host != owner.host {
                    tokio::time::sleep(WATCH).await;
                    let now: Option<Note<Held>> = notes::read(cluster, ID).await?;
                    if let Some(now) = now.filter(|now| now.version != held.version) {
                        return Ok(Lease::TakenBy(now.content.owner));
                    }
                }
                If::Unchanged(held.version)
            }
        };
        let content = json!(Held {
            owner: owner.clone(),
            renewed_ms: now_ms(),
        });
        if notes::write(cluster, ID, &content, condition).await? {
            return Ok(Lease::Held);
        }
    }
    Err(EdgeError::new(
        ErrorKind::Busy,
        format!("the lease on {} keeps changing hands", cluster.place),
    ))
}

/// Removes the lease if `owner.state` holds it.
pub(super) async fn release(cluster: &Cluster, owner: &LeaseOwner) -> Result<(), EdgeError> {
    let held: Option<Note<Held>> = notes::read(cluster, ID).await?;
    match held.filter(|held| held.content.owner.state == owner.state) {
        Some(held) => notes::remove(cluster, ID, If::Unchanged(held.version)).await,
        None => Ok(()),
    }
}

/// Returns who holds the lease.
pub(super) async fn owner(cluster: &Cluster) -> Result<Option<LeaseOwner>, EdgeError> {
    let held: Option<Note<Held>> = notes::read(cluster, ID).await?;
    Ok(held
        .filter(|held| held.content.is_fresh(now_ms()))
        .map(|held| held.content.owner))
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
