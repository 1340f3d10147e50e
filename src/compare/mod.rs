//! Compares rows with what a target holds of them, and writes only what is missing or differs.
//!
//! ```text
//! chunk -> target.compare -> the rows that are not the same -> writer (with the chunk's evidence, also for none)
//! ```

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    chunk::Chunk,
    error::EdgeError,
    ids::ChunkSeq,
    target::{ChunkWriter, Rejected, Stored, Target, Written},
};

/// Writes those rows of a chunk that the target does not hold as they are.
pub struct ComparingWriter {
    target: Arc<dyn Target>,
    writer: Box<dyn ChunkWriter>,
}

impl ComparingWriter {
    /// Returns a writer that asks `target` first and leaves the rest to `writer`.
    #[must_use]
    pub fn new(target: Arc<dyn Target>, writer: Box<dyn ChunkWriter>) -> Self {
        Self { target, writer }
    }
}

#[async_trait]
impl ChunkWriter for ComparingWriter {
    async fn write(&mut self, seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        let found = self.target.compare(chunk).await?;
        let wanted: Vec<usize> = (0..chunk.row_count())
            .filter(|row| found.get(*row) != Some(&Stored::Same))
            .collect();
        if wanted.len() == chunk.row_count() {
            return self.writer.write(seq, chunk).await;
        }
        let mut different = Chunk::default();
        let mut next = wanted.iter().peekable();
        for (index, row) in chunk.rows().enumerate() {
            if next.next_if_eq(&&index).is_some() {
                let beside: Vec<_> = row.beside().collect();
                different.push(row.cursor, row.key, row.value, &beside);
            }
        }
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
