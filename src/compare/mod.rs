//! Compares rows with what a target holds of them, and writes only what is missing or differs.
//!
//! ```text
//! chunk -> comparer -> the rows that are not the same -> writer (with the chunk's evidence, also for none)
//! ```

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    chunk::Chunk,
    error::EdgeError,
    ids::{ChunkSeq, ResourceName},
    target::{ChunkWriter, Comparer, Depth, Rejected, Stored, Target, Written},
};

/// Writes those rows of a chunk that the target does not hold as they are.
pub struct ComparingWriter {
    target: Arc<dyn Target>,
    resource: ResourceName,
    /// Absent before the first chunk and after an error.
    comparer: Option<Box<dyn Comparer>>,
    writer: Box<dyn ChunkWriter>,
}

impl ComparingWriter {
    /// Returns a writer that asks `target` about rows of `resource` first and leaves the rest to `writer`.
    #[must_use]
    pub fn new(
        target: Arc<dyn Target>,
        resource: ResourceName,
        writer: Box<dyn ChunkWriter>,
    ) -> Self {
        Self {
            target,
            resource,
            comparer: None,
            writer,
        }
    }

    /// Returns what the target holds of the rows; `None` where it cannot be asked.
    async fn stored(&mut self, chunk: &Chunk) -> Result<Option<Vec<Stored>>, EdgeError> {
        let comparer = match self.comparer.take() {
            Some(comparer) => Some(comparer),
            None => self.target.comparer(&self.resource).await?,
        };
        let Some(mut comparer) = comparer else {
            return Ok(None);
        };
        let found = comparer.compare(chunk, Depth::Content).await?;
        self.comparer = Some(comparer);
        Ok(Some(found))
    }
}

/// Returns the rows of `chunk` at the places `wanted`, which ascend.
#[must_use]
pub fn subset(chunk: &Chunk, wanted: &[usize]) -> Chunk {
    let mut part = Chunk::default();
    let mut next = wanted.iter().peekable();
    for (index, row) in chunk.rows().enumerate() {
        if next.next_if_eq(&&index).is_some() {
            let beside: Vec<_> = row.beside().collect();
            part.push(row.cursor, row.key, row.value, &beside);
        }
    }
    part
}

#[async_trait]
impl ChunkWriter for ComparingWriter {
    async fn write(&mut self, seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        let Some(found) = self.stored(chunk).await? else {
            return self.writer.write(seq, chunk).await;
        };
        let wanted: Vec<usize> = (0..chunk.row_count())
            .filter(|row| found.get(*row) != Some(&Stored::Same))
            .collect();
        if wanted.len() == chunk.row_count() {
            return self.writer.write(seq, chunk).await;
        }
        let different = subset(chunk, &wanted);
        let written = self.writer.write(seq, &different).await?;
        let rejected = written.rejected.into_iter().filter_map(|rejected| {
            let row = *wanted.get(rejected.row)?;
            Some(Rejected { row, ..rejected })
        });
        Ok(Written {
            rejected: rejected.collect(),
            length: written.length,
        })
    }
}
