//! The steps of a resource's way through its publisher, each a task of its own: which ids come next, the call, the wait
//! until rows stand still, the bounds of what is compared. The coordinator journals what lies between them.

mod ids;
mod letters;
mod settle;

use std::{sync::Arc, time::Duration};

pub use ids::{IdPage, all_ids, check_ids, id_text, ids_query, ids_source, next_ids};
pub use letters::{entities_at, letters_query};
pub use settle::{SAY, Settle, Settled, Waited};

use super::{bind::Bound, breaker::Side, retry::retrying};
use crate::{
    error::EdgeError,
    ids::{ResourceName, RunId},
    plan::RetryPolicy,
    source::{RowQuery, Source, TableShape},
    target::{Extent, PartitionKey, Target},
};

/// What a step of the handover returns.
pub enum Handed {
    /// The ids of the next call; `None` when every id is out.
    Ids(Result<Option<IdPage>, EdgeError>),
    /// The publisher was called.
    Called(Result<(), EdgeError>),
    /// The queues behind the publisher do not run empty; what is wrong.
    Undrained(String),
    /// Rows stand still, or were waited for long enough.
    Settled(Result<Settled, EdgeError>),
    /// What is to be compared.
    Bound(Box<Result<Bound, (Side, EdgeError)>>),
    /// It was told to stop; nothing is known.
    Stopped,
}

/// Takes the bounds again after the publisher did its work.
pub struct Rebind {
    /// Which resource.
    pub resource: ResourceName,
    /// The run, for markers.
    pub run: RunId,
    /// What will be read.
    pub query: RowQuery,
    /// Where from.
    pub source: Arc<dyn Source>,
    /// Where to.
    pub target: Arc<dyn Target>,
    /// Which rows of the resource the run restores.
    pub extent: Extent,
    /// Most partitions.
    pub partitions: u32,
    /// The partitions that make way, with their evidence; `None` where they stay and others come beside them.
    pub replaced: Option<Vec<PartitionKey>>,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl Rebind {
    /// Returns shape and ranges. What makes way is gone then.
    pub async fn run(
        self,
        mut told: impl FnMut(Side, &EdgeError, Duration),
    ) -> Result<Bound, (Side, EdgeError)> {
        let this = &self;
        let mut reading = |error: &EdgeError, wait| told(Side::Source, error, wait);
        let unread = |error| (Side::Source, error);
        let shape: TableShape = retrying(&self.retry, &mut reading, || {
            this.source.describe(&this.query.from)
        })
        .await
        .map_err(unread)?;
        let ranges = retrying(&self.retry, &mut reading, || {
            this.source.partition(&this.query, this.partitions)
        })
        .await
        .map_err(unread)?;
        let mut writing = |error: &EdgeError, wait| told(Side::Target, error, wait);
        let unwritten = |error| (Side::Target, error);
        if let Some(keys) = &this.replaced {
            // Nobody asks for this evidence while the resource is with its publisher, so that dying here loses nothing.
            retrying(&self.retry, &mut writing, || async {
                this.target.clear(&this.resource, &this.extent).await?;
                this.target.forget(&this.run, keys).await
            })
            .await
            .map_err(unwritten)?;
        }
        let incarnation = retrying(&self.retry, &mut writing, || {
            this.target.incarnation(&this.resource)
        })
        .await
        .map_err(unwritten)?;
        Ok(Bound {
            shape,
            ranges,
            incarnation,
            // That of the first time still holds: what changed since is compared, or was read later.
            watermark: None,
        })
    }
}
