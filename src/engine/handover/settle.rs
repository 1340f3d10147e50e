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

/// How often a person hears of a wait.
pub const SAY: Duration = Duration::from_secs(10);

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

/// How far the wait is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// How long it has been so far.
    pub elapsed: Duration,
    /// How often two readings in a row were not the same.
    pub changes: u32,
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
    /// How often it says how far it is.
    pub say: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl Settle {
    /// Returns when the rows stand still, or `within` is over.
    pub async fn run(
        self,
        mut told: impl FnMut(&EdgeError, Duration),
        mut waits: impl FnMut(Waited),
    ) -> Result<Settled, EdgeError> {
        if self.still.is_zero() {
            return Ok(Settled::Still);
        }
        let begun = Instant::now();
        let this = &self;
        let mut changes = 0;
        let mut said = begun;
        let mut before = retrying(&self.retry, &mut told, || this.reading()).await?;
        loop {
            let mut left = self.still;
            while !left.is_zero() {
                let step = left.min(self.say);
                tokio::time::sleep(step).await;
                left -= step;
                if said.elapsed() >= self.say {
                    said = Instant::now();
                    let elapsed = begun.elapsed();
                    waits(Waited { elapsed, changes });
                }
            }
            let now = retrying(&self.retry, &mut told, || this.reading()).await?;
            if now == before {
                return Ok(Settled::Still);
            }
            if begun.elapsed() >= self.within {
                return Ok(Settled::Moving);
            }
            changes += 1;
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

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::{
        plan::{MoreKeys, RowSource},
        source::sqlite::SqliteSource,
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn a_long_wait_says_how_far_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sqlite");
        let database = rusqlite::Connection::open(&path).unwrap();
        database
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, data TEXT); INSERT INTO t VALUES (1, 'a')",
            )
            .unwrap();
        let url = SecretString::from(format!("sqlite:{}", path.display()));
        let from = RowSource {
            table: "t".into(),
            cursor: vec!["id".into()],
            key: "id".into(),
            value: "data".into(),
            entity: None,
            store: None,
            more_keys: MoreKeys::default(),
            condition: None,
            reads_ids: false,
        };
        let settle = Settle {
            query: RowQuery {
                from,
                ids: None,
                since: None,
            },
            source: Arc::new(SqliteSource::open(&url).unwrap()),
            still: Duration::from_millis(100),
            within: Duration::from_mins(1),
            say: Duration::from_millis(20),
            retry: RetryPolicy {
                attempts: 1,
                base: Duration::ZERO,
                cap: Duration::ZERO,
                within: Duration::ZERO,
            },
        };
        let mut heard = Vec::new();
        let change = |waited: Waited| {
            if heard.is_empty() {
                database.execute_batch("UPDATE t SET data = 'b'").unwrap();
            }
            heard.push(waited);
        };
        assert_eq!(settle.run(|_, _| {}, change).await.unwrap(), Settled::Still);
        assert!(heard.len() > 2, "{heard:?}");
        assert_eq!((heard[0].changes, heard[heard.len() - 1].changes), (0, 1));
        assert!(heard.windows(2).all(|two| two[0].elapsed < two[1].elapsed));
    }
}
