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

/// Most columns that a row may have beside its cursor, key and value.
pub const MOST_BESIDE: usize = 4;

/// One row as a source hands it over.
#[derive(Debug, Clone, Copy)]
pub struct SourceRow<'a> {
    /// The row's place in the source's key order.
    pub cursor: &'a [KeyValue],
    /// The key column's bytes; `None` for NULL.
    pub key: Option<&'a [u8]>,
    /// The value column.
    pub value: Value<'a>,
    /// The columns of [`RowSource::beside`](crate::plan::RowSource::beside) in its order; `None` for NULL.
    pub beside: &'a [Option<&'a [u8]>],
}

/// Rows in key order, held in few buffers: key, value and the columns beside them one after the other in `arena`, key
/// columns in `cursors`.
#[derive(Debug, Default)]
pub struct Chunk {
    arena: Vec<u8>,
    cursors: Vec<KeyValue>,
    /// Where each column beside key and value ends in `arena`, row by row; `None` for NULL.
    beside: Vec<Option<usize>>,
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
    arena: &'a [u8],
    value_end: usize,
    beside: &'a [Option<usize>],
}

impl<'a> Row<'a> {
    /// Returns the columns beside key and value, in the order they were read; `None` for NULL.
    pub fn beside(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let (arena, mut start) = (self.arena, self.value_end);
        self.beside.iter().map(move |end| {
            let end = (*end)?;
            Some(&arena[std::mem::replace(&mut start, end)..end])
        })
    }
}

impl Chunk {
    /// Appends a row. Every row of a chunk has the same number of key columns, at least one, and of columns beside.
    pub fn push(
        &mut self,
        cursor: &[KeyValue],
        key: &[u8],
        value: &[u8],
        beside: &[Option<&[u8]>],
    ) {
        let start = self.arena.len();
        let besides: usize = beside.iter().flatten().map(|bytes| bytes.len()).sum();
        let wanted = key.len() + value.len() + besides;
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
        for column in beside {
            self.beside.push(column.map(|bytes| {
                self.arena.extend_from_slice(bytes);
                self.arena.len()
            }));
        }
        self.cursors.extend_from_slice(cursor);
    }

    /// Forgets the rows and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.cursors.clear();
        self.beside.clear();
        self.rows.clear();
    }

    /// Returns the bytes of its columns that the chunk has memory for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.arena.capacity()
    }

    /// Returns how many rows the chunk holds.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the bytes of all keys, values and columns beside them.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.arena.len()
    }

    /// Returns the rows in key order.
    #[must_use]
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        let width = self.cursors.len().checked_div(self.rows.len()).unwrap_or(0);
        let beside = self.beside.len().checked_div(self.rows.len()).unwrap_or(0);
        self.rows.iter().enumerate().map(move |(i, slot)| Row {
            cursor: &self.cursors[i * width..(i + 1) * width],
            key: &self.arena[slot.start..slot.key_end],
            value: &self.arena[slot.key_end..slot.value_end],
            arena: &self.arena,
            value_end: slot.value_end,
            beside: &self.beside[i * beside..(i + 1) * beside],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_beside_come_back_in_their_order() {
        let mut chunk = Chunk::default();
        let rows: [[Option<&[u8]>; 3]; 3] = [
            [Some(b"DE"), None, Some(b"alias")],
            [None, Some(b""), None],
            [None, None, Some(b"x")],
        ];
        for (id, beside) in (0..).zip(&rows) {
            chunk.push(&[KeyValue::Uint(id)], b"key", b"value", beside);
        }
        let found: Vec<Vec<_>> = chunk.rows().map(|row| row.beside().collect()).collect();
        assert_eq!(found, rows);
        assert!(
            chunk
                .rows()
                .all(|row| (row.key, row.value) == (&b"key"[..], &b"value"[..]))
        );
    }
}
