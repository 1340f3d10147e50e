//! The life of one resource of a run.
//!
//! ```text
//! pending -> syncing -> synced -> verified -> done
//! syncing -> published -> drained -> synced                      (executor queue)
//! syncing -> triggering -> draining -> comparing -> synced       (fallback)
//! any working state -> blocked -> (unblocked) -> where it was;   pending -> skipped
//! synced | verified -> (the target lost chunks) syncing
//! any but done and skipped -> (started over) -> pending
//! ```

use serde::{Deserialize, Serialize};

use super::IllegalTransition;

/// Where one resource of a run stands. Cursors and counters live in its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceState {
    /// Nothing read or written yet.
    Pending,
    /// Its partitions are being walked.
    Syncing,
    /// Every message is confirmed by the broker; nothing is known about the target.
    Published,
    /// The queues ran empty.
    Drained,
    /// Entity ids are handed to the shop's own publisher.
    Triggering,
    /// The publisher's queues are waited for.
    Draining,
    /// Every row is compared with the target, differences are copied.
    Comparing,
    /// Every row is in the target, or a dead letter.
    Synced,
    /// The target was compared with the journal or the source.
    Verified,
    /// Nothing is left to do.
    Done,
    /// Waits for a person; goes on in `from`.
    Blocked {
        /// The state it goes back to.
        from: Box<ResourceState>,
        /// Why, in one line without row values.
        reason: String,
    },
    /// The run's scope leaves it out.
    Skipped,
}

/// What can happen to a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceEvent {
    /// Bounds are taken, partitions cut.
    Started,
    /// Every partition is exhausted (direct copy).
    Copied,
    /// Every message is confirmed (executor queue).
    Published,
    /// The queues ran empty.
    Drained,
    /// The resource is handed to the publisher.
    FellBack,
    /// Every entity id is out.
    Triggered,
    /// Every row is compared.
    Compared,
    /// The check is through.
    Verified,
    /// The run lets go of it.
    Finished,
    /// It cannot go on without a person.
    Blocked {
        /// Why, in one line without row values.
        reason: String,
    },
    /// `run` was typed again after a block.
    Unblocked,
    /// The scope leaves it out.
    Skipped,
    /// Partitions of it went back: they are walked again.
    Reopened,
    /// What was stored is void; it starts over.
    StartedOver {
        /// Why, in one line.
        reason: String,
        /// Whether it counts towards the three voids that block a resource.
        void: bool,
    },
}

impl ResourceState {
    /// Returns the state that follows `event`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] when `event` cannot happen in this state: a bug, or a state file edited by hand.
    #[expect(clippy::match_same_arms, reason = "in the order of the diagram above")]
    pub fn apply(&self, event: &ResourceEvent) -> Result<Self, IllegalTransition> {
        use {ResourceEvent as E, ResourceState as S};
        Ok(match (self, event) {
            (S::Pending, E::Started) => S::Syncing,
            (S::Syncing | S::Drained, E::Copied) => S::Synced,
            (S::Syncing, E::Published) => S::Published,
            (S::Published, E::Drained) => S::Drained,
            (S::Syncing, E::FellBack) => S::Triggering,
            (S::Triggering, E::Triggered) => S::Draining,
            (S::Draining, E::Drained) => S::Comparing,
            (S::Comparing, E::Compared) => S::Synced,
            (S::Synced, E::Verified) => S::Verified,
            (S::Synced | S::Verified, E::Finished) => S::Done,
            (S::Blocked { from, .. }, E::Unblocked) => (**from).clone(),
            (S::Pending, E::Skipped) => S::Skipped,
            (S::Syncing | S::Synced | S::Verified, E::Reopened) => S::Syncing,
            (S::Blocked { from, reason }, E::Reopened) => S::Blocked {
                from: Box::new(from.apply(event)?),
                reason: reason.clone(),
            },
            (from, E::Blocked { reason }) if from.is_working() => S::Blocked {
                from: Box::new(from.clone()),
                reason: reason.clone(),
            },
            (from, E::StartedOver { .. }) if !matches!(from, S::Done | S::Skipped) => S::Pending,
            (from, event) => {
                return Err(IllegalTransition::new(
                    "resource",
                    from.label(),
                    event.label(),
                ));
            }
        })
    }

    /// Returns whether something is still to be done without a person.
    #[must_use]
    pub const fn is_working(&self) -> bool {
        !matches!(self, Self::Blocked { .. } | Self::Done | Self::Skipped)
    }

    /// Returns whether resources that come `after` this one may begin.
    #[must_use]
    pub const fn is_restored(&self) -> bool {
        matches!(
            self,
            Self::Synced | Self::Verified | Self::Done | Self::Skipped
        )
    }

    /// Returns the word under which the state is stored and shown.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Syncing => "syncing",
            Self::Published => "published",
            Self::Drained => "drained",
            Self::Triggering => "triggering",
            Self::Draining => "draining",
            Self::Comparing => "comparing",
            Self::Synced => "synced",
            Self::Verified => "verified",
            Self::Done => "done",
            Self::Blocked { .. } => "blocked",
            Self::Skipped => "skipped",
        }
    }

    /// Returns one value of every variant, for the transition table.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        use ResourceState as S;
        let blocked = S::Blocked {
            from: Box::new(S::Syncing),
            reason: "r".into(),
        };
        vec![
            S::Pending,
            S::Syncing,
            S::Published,
            S::Drained,
            S::Triggering,
            S::Draining,
            S::Comparing,
            S::Synced,
            S::Verified,
            S::Done,
            blocked,
            S::Skipped,
        ]
    }
}

impl ResourceEvent {
    /// Returns the word for the event.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Copied => "copied",
            Self::Published => "published",
            Self::Drained => "drained",
            Self::FellBack => "fell_back",
            Self::Triggered => "triggered",
            Self::Compared => "compared",
            Self::Verified => "verified",
            Self::Finished => "finished",
            Self::Blocked { .. } => "blocked",
            Self::Unblocked => "unblocked",
            Self::Skipped => "skipped",
            Self::Reopened => "reopened",
            Self::StartedOver { .. } => "started_over",
        }
    }

    /// Returns one value of every variant, for the transition table.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        use ResourceEvent as E;
        vec![
            E::Started,
            E::Copied,
            E::Published,
            E::Drained,
            E::FellBack,
            E::Triggered,
            E::Compared,
            E::Verified,
            E::Finished,
            E::Blocked { reason: "r".into() },
            E::Unblocked,
            E::Skipped,
            E::Reopened,
            E::StartedOver {
                reason: "r".into(),
                void: true,
            },
        ]
    }
}
