//! How a chunk is cut into commands, and which rows Redis will never take.

use std::collections::BTreeSet;

use super::{culprits, keys::is_reserved};
use crate::{
    chunk::{Chunk, Row},
    ids::RunId,
    target::Rejected,
};

/// Why a row with such a key goes nowhere.
const RESERVED: &str = "the key is one that rekindle keeps its own record under";

/// Most pairs of one `MSET`. 3,000 were measured 25 % slower, 300 equal.
const PAIRS: usize = 1_000;

/// Most bytes of keys and values of one `MSET`, unless a single row is larger.
const BYTES: usize = 512 * 1024;

/// How a chunk is cut into `MSET`s.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Pairs of each `MSET`, in order. Never empty: the last one carries the marker, if nothing else.
    pub msets: Vec<usize>,
    /// Rows that go into none of them.
    pub rejected: Vec<Rejected>,
}

impl Layout {
    /// Returns the layout of `chunk` as `run` writes it, with `prefix` before each key, to a server that takes keys and values
    /// of up to `longest` bytes: without the keys that a run keeps its record under, and without the rows `forbidden`.
    pub fn for_run(
        chunk: &Chunk,
        run: &RunId,
        prefix: &[u8],
        longest: usize,
        forbidden: &BTreeSet<usize>,
    ) -> Self {
        Self::of(chunk, prefix.len(), longest, |row, key| {
            let forbidden = forbidden.contains(&row).then_some(culprits::REASON);
            forbidden.or_else(|| is_reserved(run, &[prefix, key].concat()).then_some(RESERVED))
        })
    }

    /// Returns the layout of `chunk` for keys that get a prefix of `prefix` bytes, and a server that takes keys and
    /// values of up to `longest` bytes. `refused` says why a row goes nowhere, by its place in the chunk and its key.
    fn of(
        chunk: &Chunk,
        prefix: usize,
        longest: usize,
        refused: impl Fn(usize, &[u8]) -> Option<&'static str>,
    ) -> Self {
        let mut layout = Self {
            msets: Vec::new(),
            rejected: Vec::new(),
        };
        let (mut pairs, mut bytes) = (0, 0);
        for (index, row) in chunk.rows().enumerate() {
            let key = prefix + row.key.len();
            let reason = if row.value.len() > longest {
                Some(format!(
                    "the value has {} bytes; redis takes at most {longest}",
                    row.value.len()
                ))
            } else if key > longest {
                Some(format!(
                    "the key has {key} bytes; redis takes at most {longest}"
                ))
            } else {
                refused(index, row.key).map(str::to_owned)
            };
            if let Some(reason) = reason {
                layout.rejected.push(Rejected { row: index, reason });
                continue;
            }
            let size = key + row.value.len();
            if pairs == PAIRS || (pairs > 0 && bytes + size > BYTES) {
                layout.msets.push(pairs);
                (pairs, bytes) = (0, 0);
            }
            pairs += 1;
            bytes += size;
        }
        layout.msets.push(pairs);
        layout
    }

    /// Returns the rows of `chunk` that are not rejected.
    pub fn accepted<'a>(&'a self, chunk: &'a Chunk) -> impl Iterator<Item = Row<'a>> + Send {
        let mut rejected = self.rejected.as_slice();
        chunk
            .rows()
            .enumerate()
            .filter_map(move |(index, row)| match rejected {
                [next, rest @ ..] if next.row == index => {
                    rejected = rest;
                    None
                }
                _ => Some(row),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Cursor, KeyValue};

    fn chunk(sizes: &[usize]) -> Chunk {
        let mut chunk = Chunk::default();
        for (i, size) in sizes.iter().enumerate() {
            let cursor = Cursor::single(KeyValue::Uint(i as u64));
            chunk.push(&cursor.0, b"k", &vec![b'v'; *size], &[]);
        }
        chunk
    }

    fn msets(sizes: &[usize]) -> Vec<usize> {
        Layout::of(&chunk(sizes), 3, usize::MAX, |_, _| None).msets
    }

    #[test]
    fn an_mset_ends_at_a_thousand_pairs() {
        assert_eq!(msets(&[10; 1_000]), [1_000]);
        assert_eq!(msets(&[10; 2_001]), [1_000, 1_000, 1]);
    }

    #[test]
    fn an_mset_ends_before_it_passes_its_bytes_and_a_larger_value_stands_alone() {
        assert_eq!(msets(&[200_000; 5]), [2, 2, 1]);
        assert_eq!(msets(&[10, 600_000, 10]), [1, 1, 1]);
        assert_eq!(msets(&[600_000]), [1]);
    }

    #[test]
    fn a_chunk_without_rows_still_has_a_place_for_its_marker() {
        assert_eq!(msets(&[]), [0]);
    }

    #[test]
    fn rows_over_the_limit_are_rejected_and_counted_out() {
        let layout = Layout::of(&chunk(&[5, 50, 5]), 3, 20, |_, _| None);
        assert_eq!(layout.msets, [2]);
        assert_eq!(
            layout.rejected,
            [Rejected {
                row: 1,
                reason: "the value has 50 bytes; redis takes at most 20".into()
            }]
        );
    }

    #[test]
    fn rows_with_a_key_of_our_own_are_rejected() {
        let layout = Layout::of(&chunk(&[5]), 0, usize::MAX, |_, key| {
            (key == b"k").then_some("reserved")
        });
        assert_eq!(layout.msets, [0]);
        assert_eq!(layout.rejected.len(), 1);
    }
}
