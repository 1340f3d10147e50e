//! Markers: what proves that a chunk is still there.

use super::{lease, server::Server};
use crate::{
    error::EdgeError,
    ids::{ChunkSeq, PartitionId, RunId},
    target::{Evidence, PartitionKey, Recorded},
};

/// Keys asked for at once.
const BATCH: usize = 500;

/// Returns the key of a partition's marker, whose value is the number of the last chunk written and the token of the
/// claim that it was written under: `7 K3F9QA`.
pub(super) fn marker_key(run: &RunId, partition: PartitionId) -> String {
    format!("rekindle:{run}:{partition}")
}

/// Returns the chunk that a marker names if it was written under the claim with `token`.
pub(super) fn chunk_of(marker: &[u8], token: &str) -> Option<u64> {
    let (chunk, under) = std::str::from_utf8(marker).ok()?.split_once(' ')?;
    (under == token).then(|| chunk.parse().ok()).flatten()
}

/// Tells whether a row with this key would overwrite a marker of `run`, the lease or the claim.
pub(super) fn is_reserved(run: &RunId, key: &[u8]) -> bool {
    key.strip_prefix(b"rekindle:").is_some_and(|rest| {
        key == lease::KEY.as_bytes()
            || key == lease::WRITER.as_bytes()
            || rest
                .strip_prefix(run.as_str().as_bytes())
                .is_some_and(|rest| rest.first() == Some(&b':'))
    })
}

/// Returns how far the markers go for each of `recorded`. None counts when another run wrote here since.
pub(super) async fn read(
    server: &Server,
    run: &RunId,
    recorded: &[Recorded],
) -> Result<Vec<Evidence>, EdgeError> {
    let mut evidence = Vec::with_capacity(recorded.len());
    for batch in recorded.chunks(BATCH) {
        let mut mget = ::redis::cmd("MGET");
        // Together with the markers, so that both are of one moment.
        mget.arg(lease::WRITER);
        for one in batch {
            mget.arg(marker_key(run, one.partition.id));
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

/// Removes the markers of `partitions`.
pub(super) async fn forget(
    server: &Server,
    run: &RunId,
    partitions: &[PartitionKey],
) -> Result<(), EdgeError> {
    for batch in partitions.chunks(BATCH) {
        let mut del = ::redis::cmd("DEL");
        for one in batch {
            del.arg(marker_key(run, one.id));
        }
        let _removed: u64 = server.ask("to remove markers", &del).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_could_hide_a_loss_are_reserved() {
        let run = RunId::from_text("7F3K2M");
        for (key, reserved) in [
            ("rekindle:lease", true),
            ("rekindle:writer", true),
            ("rekindle:7F3K2M:1", true),
            ("rekindle:7F3K2M:", true),
            ("rekindle:7F3K2MX:1", false),
            ("rekindle:other", false),
            ("kv:rekindle:lease", false),
        ] {
            assert_eq!(is_reserved(&run, key.as_bytes()), reserved, "{key}");
        }
    }
}
