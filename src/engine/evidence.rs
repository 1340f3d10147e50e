//! Compares what the journal says is stored with what the targets can prove.

use crate::{
    ids::{ChunkSeq, PartitionId, ResourceName},
    machine::{PartitionLedger, Progress, ResourceLedger, ResourceState, RunLedger},
    target::{Evidence, Extent, PartitionKey, Recorded},
};

use super::book::{Book, BookError};

/// What has to be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redo {
    /// Nothing of the resource is left: it starts over.
    StartOver {
        /// Which.
        resource: ResourceName,
    },
    /// A partition goes back to what the target holds.
    Rewind {
        /// Whose.
        resource: ResourceName,
        /// Which.
        partition: PartitionId,
        /// Where it stood.
        from: ChunkSeq,
        /// Where it goes back to.
        to: Progress,
    },
}

/// Returns what the journal says is stored of those resources of `run` that `chosen` picks, for the target to prove.
pub fn recorded(run: &RunLedger, chosen: impl Fn(&ResourceName) -> bool) -> Vec<Recorded> {
    let stored = |resource: &ResourceLedger, partition: &PartitionLedger| Recorded {
        partition: partition_key(run, resource, partition),
        chunk: partition.stored(),
        length: partition.state.progress().length,
        incarnation: resource.incarnation.clone(),
    };
    run.resources
        .iter()
        .filter(|resource| chosen(&resource.name) && !is_handed_over(resource))
        .flat_map(|resource| {
            let begun = resource
                .partitions
                .iter()
                .filter(|partition| partition.stored() > ChunkSeq(0));
            begun.map(move |partition| stored(resource, partition))
        })
        .collect()
}

/// Returns whether everything of a resource is compared later, whatever its target holds now.
fn is_handed_over(resource: &ResourceLedger) -> bool {
    let state = match &resource.state {
        ResourceState::Blocked { from, .. } => from,
        state => state,
    };
    !resource.fallback.is_of_rows()
        && matches!(state, ResourceState::Triggering | ResourceState::Draining)
}

/// Returns which rows of its resources a run restores.
#[must_use]
pub fn extent(run: &RunLedger) -> Extent {
    if !run.scope.rows.is_empty() {
        Extent::Retried(run.id.clone())
    } else if run.scope.ids.is_some() {
        Extent::Ids
    } else {
        Extent::Whole
    }
}

/// Returns a partition as targets name it.
#[must_use]
pub fn partition_key(
    run: &RunLedger,
    resource: &ResourceLedger,
    partition: &PartitionLedger,
) -> PartitionKey {
    PartitionKey {
        resource: resource.name.clone(),
        id: partition.id,
        ordinal: partition.ordinal,
        extent: extent(run),
    }
}

/// Returns every partition of a resource as targets name them.
#[must_use]
pub fn partition_keys(run: &RunLedger, resource: &ResourceLedger) -> Vec<PartitionKey> {
    resource
        .partitions
        .iter()
        .map(|partition| partition_key(run, resource, partition))
        .collect()
}

/// Returns what has to be done again, given the evidence for each of `recorded`.
///
/// A resource of which every recorded partition lost everything starts over with fresh bounds; otherwise each
/// partition goes back to what its target holds of it.
pub async fn redo(
    book: &Book,
    recorded: &[Recorded],
    evidence: &[Evidence],
) -> Result<Vec<Redo>, BookError> {
    let mut redo = Vec::new();
    for resource in book.resources() {
        let mine: Vec<_> = recorded
            .iter()
            .zip(evidence)
            .filter(|(had, _)| had.partition.resource == resource.name)
            .collect();
        if mine.is_empty()
            || mine
                .iter()
                .all(|(_, evidence)| **evidence == Evidence::Stands)
        {
            continue;
        }
        let nothing = |evidence: &Evidence| {
            matches!(
                evidence,
                Evidence::UpToChunk(ChunkSeq(0)) | Evidence::UpToLength(0)
            )
        };
        // What was compared, and which rows were read again, says nothing about an older state of the target.
        let handed = resource.fallback.handover.is_some();
        if handed || mine.iter().all(|(_, evidence)| nothing(evidence)) {
            redo.push(Redo::StartOver {
                resource: resource.name.clone(),
            });
            continue;
        }
        for (had, evidence) in mine {
            let id = had.partition.id;
            let known = match *evidence {
                Evidence::Stands => continue,
                Evidence::UpToChunk(chunk) => book.progress_at(id, chunk).await?,
                Evidence::UpToLength(length) => book.progress_by_length(id, length).await?,
            };
            let page_rows = resource
                .partitions
                .iter()
                .find(|one| one.id == id)
                .map_or(1, |one| one.state.progress().page_rows);
            let to = Progress {
                page_rows,
                ..known.unwrap_or_else(|| Progress::begin(page_rows))
            };
            redo.push(Redo::Rewind {
                resource: resource.name.clone(),
                partition: id,
                from: had.chunk,
                to,
            });
        }
    }
    Ok(redo)
}
