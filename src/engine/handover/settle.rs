//! Waits until the rows of a resource stand still.
//!
//! Without a broker there is no queue to look at, so the rows themselves are: they are read and hashed until two readings
//! in a row agree that lie far enough apart. Coming to that end too early does no harm: a row that is regenerated later
//! has changed, and a change is published by the shop itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    chunk::{SourceRow, Value},
    cursor::KeyRange,
    engine::retry::retrying,
    error::EdgeError,
    plan::RetryPolicy,
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
};

/// Values up to this length are hashed; of longer ones only the length is, so that none of them is held in memory.
const VALUE_BYTES: u64 = 256 * 1024;

/// Rows of one query.
const PAGE_ROWS: u32 = 1_000;

/// What became of the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The rows stood still.
    Still,
    /// They still changed when the time was over.
    Moving,
}

/// The wait.
pub struct Settle {
    /// The rows.
    pub query: RowQuery,
    /// Where they are.
    pub source: Arc<dyn Source>,
    /// How long they must not change.
    pub still: Duration,
    /// How long to wait for that.
    pub within: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl Settle {
    /// Returns when the rows stand still, or `within` is over.
    pub async fn run(
        self,
        mut told: impl FnMut(&EdgeError, Duration),
    ) -> Result<Settled, EdgeError> {
        if self.still.is_zero() {
            return Ok(Settled::Still);
        }
        let begun = Instant::now();
        let this = &self;
        let mut before = retrying(&self.retry, &mut told, || this.reading()).await?;
        loop {
            tokio::time::sleep(self.still).await;
            let now = retrying(&self.retry, &mut told, || this.reading()).await?;
            if now == before {
                return Ok(Settled::Still);
            }
            if begun.elapsed() >= self.within {
                return Ok(Settled::Moving);
            }
            before = now;
        }
    }

    /// Returns a hash over every row.
    async fn reading(&self) -> Result<u128, EdgeError> {
        let mut sink = HashSink(Xxh3::new());
        if let Some(last) = self.source.partition(&self.query, 1).await?.pop() {
            let range = KeyRange {
                after: None,
                until: last.until,
            };
            match self.source.scan(&self.query, &range, &mut sink).await {
                Ok(()) | Err(ScanError::Stopped) => {}
                Err(ScanError::Source(error)) => return Err(error),
            }
        }
        Ok(sink.0.digest128())
    }
}

struct HashSink(Xxh3);

impl HashSink {
    fn field(&mut self, bytes: Option<&[u8]>) {
        // NULL and no bytes are not the same.
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        self.0.update(&length.to_le_bytes());
        self.0.update(bytes.unwrap_or_default());
    }
}

#[async_trait]
impl RowSink for HashSink {
    fn page_rows(&self) -> u32 {
        PAGE_ROWS
    }

    fn row_bytes(&self) -> u64 {
        VALUE_BYTES
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        for value in row.cursor {
            // The form for people would cut long ones.
            self.field(Some(format!("{value:?}").as_bytes()));
        }
        self.field(row.key);
        match row.value {
            Value::Bytes(bytes) => self.field(Some(bytes)),
            Value::Null => self.field(None),
            Value::TooLarge(length) => self.field(Some(&length.to_le_bytes())),
        }
        row.beside.iter().for_each(|column| self.field(*column));
        false
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}
