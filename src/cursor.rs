//! Typed, exact positions in a table's key order.
//!
//! Rust never compares cursors: only the source's own collation knows the order. Equality is byte equality and
//! serves tests and the journal's checks alone.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One column of a key, exactly as the source holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValue {
    /// A signed integer column.
    Int(i64),
    /// An unsigned integer column.
    Uint(u64),
}

impl KeyValue {
    /// Returns the value as a wide integer, for arithmetic on key ranges.
    #[must_use]
    pub const fn as_i128(&self) -> i128 {
        match *self {
            Self::Int(v) => v as i128,
            Self::Uint(v) => v as i128,
        }
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => write!(f, "{v}"),
            Self::Uint(v) => write!(f, "{v}"),
        }
    }
}

/// The key columns of one row, in cursor order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub Vec<KeyValue>);

impl Cursor {
    /// Returns the cursor of a single-column key.
    #[must_use]
    pub fn single(value: KeyValue) -> Self {
        Self(vec![value])
    }
}

impl fmt::Display for Cursor {
    /// Prints `642000`, or `(7, 12)` for a composite key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "{only}");
        }
        f.write_str("(")?;
        for (i, value) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{value}")?;
        }
        f.write_str(")")
    }
}

/// The rows with `after < key <= until`; without `after`, from the first row on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// Exclusive start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
    /// Inclusive end.
    pub until: Cursor,
}
