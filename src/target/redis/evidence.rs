//! Markers: what proves that a chunk is still there.

use super::{keys::Keys, lease, server::Server};
use crate::{
    error::EdgeError,
    ids::{ChunkSeq, RunId},
    target::{Evidence, PartitionKey, Recorded},
};

/// Keys asked for at once.
const BATCH: usize = 500;

/// Returns the chunk that a marker `7 K3F9QA` names if it was written under the claim with `token`.
pub(super) fn chunk_of(marker: &[u8], token: &str) -> Option<u64> {
    let (chunk, under) = std::str::from_utf8(marker).ok()?.split_once(' ')?;
    (under == token).then(|| chunk.parse().ok()).flatten()
}

/// Returns how far the markers go for each of `recorded`. None counts when another run wrote here since.
pub(super) async fn read(
    server: &Server,
    keys: &Keys,
    run: &RunId,
    recorded: &[Recorded],
) -> Result<Vec<Evidence>, EdgeError> {
    let mut evidence = Vec::with_capacity(recorded.len());
    for batch in recorded.chunks(BATCH) {
        let mut mget = ::redis::cmd("MGET");
        // Together with the markers, so that both are of one moment.
        mget.arg(keys.writer());
        for one in batch {
            mget.arg(keys.marker(run, one.partition.id));
        }
        let found: Vec<Option<Vec<u8>>> = server.ask("to show its markers", &mget).await?;
        let mut found = found.into_iter();
        let claim = found.next().flatten();
        let token = claim.and_then(|claim| lease::token_of_run(&claim, run));
        evidence.extend(batch.iter().zip(found).map(|(one, marker)| {
            let chunk = marker
                .zip(token.as_deref())
                .and_then(|(marker, token)| chunk_of(&marker, token))
                .map_or(ChunkSeq(0), ChunkSeq);
            if chunk >= one.chunk {
                Evidence::Stands
            } else {
                Evidence::UpToChunk(chunk)
            }
        }));
    }
    Ok(evidence)
}

/// Returns the one that goes less far: rows are spread over servers, and each proves its own.
pub(super) fn lesser(a: Evidence, b: Evidence) -> Evidence {
    match (a, b) {
        (Evidence::UpToChunk(a), Evidence::UpToChunk(b)) => Evidence::UpToChunk(a.min(b)),
        (Evidence::Stands, other) | (other, _) => other,
    }
}

/// Removes the markers of `partitions`.
pub(super) async fn forget(
    server: &Server,
    keys: &Keys,
    run: &RunId,
    partitions: &[PartitionKey],
) -> Result<(), EdgeError> {
    for batch in partitions.chunks(BATCH) {
        let mut del = ::redis::cmd("DEL");
        for one in batch {
            del.arg(keys.marker(run, one.id));
        }
        let _removed: u64 = server.ask("to remove markers", &del).await?;
    }
    Ok(())
}
