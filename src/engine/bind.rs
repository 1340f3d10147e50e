//! Takes the bounds of one resource and cuts it into partitions.

use std::{sync::Arc, time::Duration};

use super::{breaker::Side, retry::retrying};
use crate::{
    cursor::KeyRange,
    error::EdgeError,
    ids::ResourceName,
    machine::Watermark,
    plan::{ChangeColumn, RetryPolicy},
    source::{RowQuery, Source, TableShape},
    target::{Extent, Target},
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
    /// From where on its rows count as changed, where the table tells.
    pub watermark: Option<Watermark>,
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
    /// Which rows of the resource the run restores.
    pub extent: Extent,
    /// Most partitions.
    pub partitions: u32,
    /// The column that tells which rows changed, where the plan names one.
    pub changes: Option<ChangeColumn>,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl Bind {
    /// Returns shape and ranges, and leaves nothing of an earlier run in the way. `told` hears of errors that pass.
    pub async fn run(
        self,
        told: impl Fn(Side, &EdgeError, Duration),
    ) -> Result<Bound, (Side, EdgeError)> {
        let this = &self;
        let reading = |error: &EdgeError, wait| told(Side::Source, error, wait);
        let unread = |error| (Side::Source, error);
        let shape = retrying(&self.retry, reading, || {
            this.source.describe(&this.query.from)
        })
        .await
        .map_err(unread)?;
        // Before anything is read: what changes from here on has at least this value.
        let watermark = match &this.changes {
            None => None,
            Some(by) => retrying(&self.retry, reading, || {
                this.source.watermark(&this.query.from, by)
            })
            .await
            .map_err(unread)?
            .map(|value| Watermark {
                column: by.name.clone(),
                value,
            }),
        };
        let ranges = retrying(&self.retry, reading, || {
            this.source.partition(&this.query, this.partitions)
        })
        .await
        .map_err(unread)?;
        let clearing = |error: &EdgeError, wait| told(Side::Target, error, wait);
        retrying(&self.retry, clearing, || {
            this.target.clear(&this.resource, &this.extent)
        })
        .await
        .map_err(|error| (Side::Target, error))?;
        let incarnation = retrying(&self.retry, clearing, || {
            this.target.incarnation(&this.resource)
        })
        .await
        .map_err(|error| (Side::Target, error))?;
        Ok(Bound {
            shape,
            ranges,
            incarnation,
            watermark,
        })
    }
}
