//! Work-stealing: where a walker is idle, a partition that is being walked gives it a part of its rest.
//!
//! ```text
//! idle walker -> a walk is asked -> it stops between two pages, asks the source for a key inside its rest
//!   -> the cut is journaled (one event: its end comes nearer, the rest is a partition) -> both are walked
//! ```

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::oneshot;

use super::Coordinator;
use crate::{
    cursor::{Cursor, KeyRange},
    engine::book::BookError,
    failpoint,
    ids::{PartitionId, ResourceName},
    machine::{Event, PartitionPlan, PartitionState, ResourceLedger, ResourceState},
};

/// Rows that a resource must have moved on between two questions: what a question may read is a part of it, so that a
/// restore never reads a table twice for its cuts.
const ROWS_BETWEEN: u64 = 8_000;

/// Who was asked to share.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// What the walks of this attempt look at between two pages.
    flags: BTreeMap<PartitionId, Arc<AtomicBool>>,
    /// Whom each resource waits for, and its rows when it was asked; `None` when it answered.
    asked: BTreeMap<ResourceName, (Option<PartitionId>, u64)>,
    /// Those that have too little left.
    small: Vec<PartitionId>,
}

impl Shares {
    /// Returns what the walk of `partition` looks at between two pages; nobody has asked yet.
    pub(super) fn flag(&mut self, partition: PartitionId) -> Arc<AtomicBool> {
        let flag = Arc::<AtomicBool>::default();
        self.flags.insert(partition, Arc::clone(&flag));
        flag
    }

    /// Forgets a walk that ended: nobody waits for its answer any more.
    pub(super) fn ended(&mut self, resource: &ResourceName, partition: PartitionId) {
        self.flags.remove(&partition);
        if let Some((asked, _)) = self.asked.get_mut(resource)
            && *asked == Some(partition)
        {
            *asked = None;
        }
    }
}

impl Coordinator {
    /// Asks a walk to share its rest, for each resource that has idle walkers and nothing left for them.
    pub(super) fn ask_to_share(&mut self) {
        let most = self.plan.defaults.parallel_partitions as usize;
        let scope_has_ids = self.book.run().is_ok_and(|run| run.scope.ids.is_some());
        let mut due = Vec::new();
        for resource in self.book.resources() {
            let walking = self.walking(&resource.name);
            let cut_before = self
                .shapes
                .get(&resource.name)
                .is_none_or(|shape| shape.single_integer);
            let waits = resource.partitions.iter().any(|one| {
                !walking.contains(&one.id) && !matches!(one.state, PartitionState::Exhausted(_))
            });
            if resource.state != ResourceState::Syncing
                || cut_before
                || scope_has_ids
                || waits
                || walking.len() >= most
            {
                continue;
            }
            let rows = resource.totals().0;
            if let Some((asked, then)) = self.shares.asked.get(&resource.name)
                && (asked.is_some() || rows < then + ROWS_BETWEEN)
            {
                continue;
            }
            // The one that has done least has most left, as far as anybody knows.
            let fullest = resource
                .partitions
                .iter()
                .filter(|one| walking.contains(&one.id) && !self.shares.small.contains(&one.id))
                .min_by_key(|one| one.state.progress().rows);
            due.extend(fullest.map(|one| (resource.name.clone(), one.id, rows)));
        }
        for (resource, partition, rows) in due {
            if let Some(flag) = self.shares.flags.get(&partition) {
                flag.store(true, Ordering::Relaxed);
                self.shares.asked.insert(resource, (Some(partition), rows));
            }
        }
    }

    /// Journals the cut that a walk proposes, and tells it.
    pub(super) async fn share(
        &mut self,
        name: ResourceName,
        partition: PartitionId,
        at: Option<Cursor>,
        done: oneshot::Sender<bool>,
    ) -> Result<(), BookError> {
        let rows = self.book.resource(&name).map_or(0, |one| one.totals().0);
        self.shares.asked.insert(name.clone(), (None, rows));
        let Some(at) = at else {
            self.shares.small.push(partition);
            return Ok(());
        };
        let Some(rest) = self.rest_from(&name, partition, at) else {
            return Ok(());
        };
        failpoint::hit("before_cut")?;
        self.book
            .record(vec![Event::PartitionCut { partition, rest }])
            .await?;
        failpoint::hit("after_cut")?;
        // A walk that is gone meanwhile reads no further either.
        done.send(true).ok();
        Ok(())
    }

    /// Returns what a partition gives away; `None` where it is no longer walked on.
    fn rest_from(
        &self,
        name: &ResourceName,
        partition: PartitionId,
        at: Cursor,
    ) -> Option<PartitionPlan> {
        let resource: &ResourceLedger = self.book.resource(name)?;
        let cut = resource.partitions.iter().find(|one| one.id == partition)?;
        let open = matches!(cut.state, PartitionState::Open(_));
        if resource.state != ResourceState::Syncing || !open || self.interrupted.is_some() {
            return None;
        }
        Some(PartitionPlan {
            id: PartitionId(self.book.next_partition()),
            ordinal: resource.partitions.iter().map(|one| one.ordinal).max()? + 1,
            range: KeyRange {
                after: Some(at),
                until: cut.range.until.clone(),
            },
            page_rows: cut.state.progress().page_rows,
        })
    }
}
