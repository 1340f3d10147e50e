//! Takes the bounds of one resource and cuts it into partitions.

use std::{sync::Arc, time::Duration};

use super::retry::retrying;
use crate::{
    cursor::KeyRange,
    error::EdgeError,
    ids::ResourceName,
    plan::RetryPolicy,
    source::{RowQuery, Source, TableShape},
    target::Target,
};

/// What binding a resource found.
#[derive(Debug)]
pub struct Bound {
    /// The table as it is now.
    pub shape: TableShape,
    /// Its ranges in key order; none for an empty table.
    pub ranges: Vec<KeyRange>,
    /// What its rows go to, as the target identifies it.
    pub incarnation: Option<String>,
}

/// What binding needs.
pub struct Bind {
    /// Which resource.
    pub resource: ResourceName,
    /// What will be read.
    pub query: RowQuery,
    /// Where from.
    pub source: Arc<dyn Source>,
    /// Where to.
    pub target: Arc<dyn Target>,
    /// Most partitions.
    pub partitions: u32,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl Bind {
    /// Returns shape and ranges, and leaves nothing of an earlier run in the way. `told` hears of errors that pass.
    pub async fn run(self, mut told: impl FnMut(&EdgeError, Duration)) -> Result<Bound, EdgeError> {
        let this = &self;
        let shape = retrying(&self.retry, &mut told, || {
            this.source.describe(&this.query.from)
        })
        .await?;
        let ranges = retrying(&self.retry, &mut told, || {
            this.source.partition(&this.query, this.partitions)
        })
        .await?;
        retrying(&self.retry, &mut told, || {
            this.target.clear(&this.resource, this.query.ids.is_some())
        })
        .await?;
        let incarnation = retrying(&self.retry, &mut told, || {
            this.target.incarnation(&this.resource)
        })
        .await?;
        Ok(Bound {
            shape,
            ranges,
            incarnation,
        })
    }
}
