//! A chunk: rows on their way from a source to a target, in one allocation.

use crate::cursor::Cursor;

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

/// Rows in key order, held in one buffer: keys and values lie one after the other in `arena`.
#[derive(Debug, Default)]
pub struct Chunk {
    arena: Vec<u8>,
    rows: Vec<RowSlot>,
}

#[derive(Debug)]
struct RowSlot {
    cursor: Cursor,
    start: usize,
    key_end: usize,
    value_end: usize,
}

/// One row of a [`Chunk`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The row's place in the source's key order.
    pub cursor: &'a Cursor,
    /// The key column's bytes, without the target's prefix.
    pub key: &'a [u8],
    /// The value column's bytes.
    pub value: &'a [u8],
}

impl Chunk {
    /// Appends a row.
    pub fn push(&mut self, cursor: Cursor, key: &[u8], value: &[u8]) {
        let start = self.arena.len();
        let wanted = key.len() + value.len();
        if wanted > self.arena.capacity() - start {
            // Exactly what is needed for a row that does not fit: doubling would hold a 20 MB value in 40 MB.
            self.arena.reserve_exact(wanted.max(16 * 1024));
        }
        self.arena.extend_from_slice(key);
        let key_end = self.arena.len();
        self.arena.extend_from_slice(value);
        self.rows.push(RowSlot {
            cursor,
            start,
            key_end,
            value_end: self.arena.len(),
        });
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
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        self.rows.iter().map(|slot| Row {
            cursor: &slot.cursor,
            key: &self.arena[slot.start..slot.key_end],
            value: &self.arena[slot.key_end..slot.value_end],
        })
    }
}
