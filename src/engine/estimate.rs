//! What the rows of a resource come to in their target, by a sample that is made into what would be stored: in its form, packed,
//! with all the keys that a row carries.

use async_trait::async_trait;

use super::pairs::Pairs;
use crate::{
    chunk::{SourceRow, Value},
    error::EdgeError,
    plan::{Plan, Resource, TargetConfig},
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
};

/// Places of the table that are looked at: rows that were written together are alike.
const PLACES: u32 = 4;

/// Rows that are read at each of them.
const ROWS: u32 = 50;

/// Longest value that is read; of a longer one, its length has to do.
const LONGEST: u64 = 1 << 20;

/// Mean sizes of a resource's rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowEstimate {
    /// Bytes of keys and values that are stored for a row.
    pub bytes: f64,
    /// Bytes of memory that they take in a Redis; 0 for other targets.
    pub memory: f64,
}

/// What a sample says of a resource's rows.
#[derive(Debug, Clone, Copy)]
pub struct Sampled {
    /// Rows that were looked at.
    pub rows: u64,
    /// Mean sizes over all of them; `None` where none can be stored, as each is broken or lacks its key or value.
    pub row: Option<RowEstimate>,
}

/// Returns what a sample says of the rows of `query`.
pub async fn row_estimate(
    plan: &Plan,
    resource: &Resource,
    query: &RowQuery,
    source: &dyn Source,
) -> Result<Sampled, EdgeError> {
    let prefix = match plan.targets.get(&resource.to) {
        Some(TargetConfig::Redis(redis)) => Some(redis.prefix.len()),
        _ => None,
    };
    let mut sample = Sample {
        pairs: Pairs::new(&query.from, plan.encoding(resource)),
        prefix,
        left: 0,
        rows: 0,
        bytes: 0,
        memory: 0,
    };
    for range in source.partition(query, PLACES).await? {
        sample.left = ROWS;
        match source.scan(query, &range, &mut sample).await {
            Ok(()) | Err(ScanError::Stopped) => {}
            Err(ScanError::Source(error)) => return Err(error),
        }
    }
    Ok(Sampled {
        rows: sample.rows,
        row: (sample.bytes > 0).then(|| RowEstimate {
            bytes: sample.bytes as f64 / sample.rows as f64,
            memory: sample.memory as f64 / sample.rows as f64,
        }),
    })
}

/// Adds up what rows would be.
struct Sample {
    pairs: Pairs,
    /// Length of what the target puts before its keys; `None` where it is no Redis.
    prefix: Option<usize>,
    /// Rows that are still wanted at this place.
    left: u32,
    rows: u64,
    bytes: usize,
    memory: usize,
}

impl Sample {
    fn add(&mut self, key: usize, value: usize) {
        self.bytes += key + value;
        if let Some(prefix) = self.prefix {
            self.memory += redis_memory(prefix + key, value);
        }
    }
}

#[async_trait]
impl RowSink for Sample {
    fn page_rows(&self) -> u32 {
        ROWS
    }

    fn row_bytes(&self) -> u64 {
        LONGEST
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        if self.left == 0 {
            return true;
        }
        self.left -= 1;
        self.rows += 1;
        let Some(key) = row.key else { return false };
        match row.value {
            Value::Bytes(value) => {
                let made = self.pairs.of(key, value, row.beside);
                // A row that is broken is stored nowhere.
                if let Ok(made) = made {
                    let value = made.value.len();
                    let more = made
                        .more
                        .iter()
                        .map(|(key, value)| (key.len(), value.len()));
                    let more: Vec<_> = more.collect();
                    self.add(key.len(), value);
                    for (key, value) in more {
                        self.add(key, value);
                    }
                }
            }
            Value::TooLarge(length) => {
                self.add(key.len(), usize::try_from(length).unwrap_or(usize::MAX / 2));
            }
            Value::Null => {}
        }
        false
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }

    fn page_ended(&mut self) -> Result<(), Stopped> {
        // One page of each place is enough.
        Err(Stopped)
    }
}

/// Returns the memory that a Redis 7 takes for a key and its value.
///
/// The entry of the dictionary and its place in the table (24 + 8 to 16 bytes), the key as a string of its own (up to 5 bytes
/// before and 1 behind), the value's object of 16 bytes, into which a value of up to 44 bytes fits; each rounded up as jemalloc
/// does.
fn redis_memory(key: usize, value: usize) -> usize {
    const ENTRY: usize = 24 + 12;
    let key = allocated(string(key));
    let value = if value <= 44 {
        allocated(16 + 4 + value)
    } else {
        16 + allocated(string(value))
    };
    ENTRY + key + value
}

/// Returns the length of a string with its header and its end.
const fn string(length: usize) -> usize {
    let header = match length {
        0..32 => 1,
        32..256 => 3,
        256..65_536 => 5,
        _ => 9,
    };
    length + header + 1
}

/// Returns what jemalloc hands out for so many bytes: multiples of 8 up to 64, then four sizes for each doubling.
fn allocated(bytes: usize) -> usize {
    if bytes <= 64 {
        return bytes.next_multiple_of(8);
    }
    let step = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_jemalloc() {
        for (bytes, size) in [
            (1, 8),
            (64, 64),
            (65, 80),
            (81, 96),
            (128, 128),
            (129, 160),
            (1025, 1280),
            (5000, 5120),
        ] {
            assert_eq!(allocated(bytes), size, "{bytes}");
        }
    }
}
