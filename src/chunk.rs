//! A chunk: rows on their way from a source to a target, in one allocation.

use crate::cursor::KeyValue;

/// What a source found in a value column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// The column's bytes, untouched.
    Bytes(&'a [u8]),
    /// SQL NULL.
    Null,
    /// Longer than the sink's `row_bytes`, so its `n` bytes were never read.
    TooLarge(u64),
}

/// Rows in key order, held in two buffers: keys and values one after the other in `arena`, key columns in `cursors`.
#[derive(Debug, Default)]
pub struct Chunk {
    arena: Vec<u8>,
    cursors: Vec<KeyValue>,
    rows: Vec<RowSlot>,
}

/// The least that a chunk grows by, so that the first rows do not move it again and again.
const LEAST_GROWTH: usize = 16 * 1024;

#[derive(Debug)]
struct RowSlot {
    start: usize,
    key_end: usize,
    value_end: usize,
}

/// One row of a [`Chunk`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The row's place in the source's key order.
    pub cursor: &'a [KeyValue],
    /// The key column's bytes, without the target's prefix.
    pub key: &'a [u8],
    /// The value column's bytes.
    pub value: &'a [u8],
}

impl Chunk {
    /// Appends a row. Every row of a chunk has the same number of key columns, at least one.
    pub fn push(&mut self, cursor: &[KeyValue], key: &[u8], value: &[u8]) {
        let start = self.arena.len();
        let wanted = key.len() + value.len();
        let room = self.arena.capacity() - start;
        if wanted > room {
            // By a quarter, not by doubling: the budget counts what a chunk holds, not what it has room for, and a
            // 20 MB value should not lie in 40 MB.
            self.arena
                .reserve_exact(wanted.max(start / 4).max(LEAST_GROWTH));
        }
        self.arena.extend_from_slice(key);
        let key_end = self.arena.len();
        self.arena.extend_from_slice(value);
        self.rows.push(RowSlot {
            start,
            key_end,
            value_end: self.arena.len(),
        });
        self.cursors.extend_from_slice(cursor);
    }

    /// Forgets the rows and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.cursors.clear();
        self.rows.clear();
    }

    /// Returns the bytes of keys and values that the chunk has memory for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.arena.capacity()
    }

    /// Returns how many rows the chunk holds.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the bytes of all keys and values.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.arena.len()
    }

    /// Returns the rows in key order.
    #[must_use]
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        let width = self.cursors.len().checked_div(self.rows.len()).unwrap_or(0);
        self.rows.iter().enumerate().map(move |(i, slot)| Row {
            cursor: &self.cursors[i * width..(i + 1) * width],
            key: &self.arena[slot.start..slot.key_end],
            value: &self.arena[slot.key_end..slot.value_end],
        })
    }
}
