//! Why a value cannot be restored as it is.

use std::fmt;

/// What is wrong with a value that had to be a JSON object or list. Holds places, never bytes of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Nothing, or nothing but white space.
    Empty,
    /// A number, a string, `true`, `false` or `null` by itself: there is no read model in it.
    Scalar,
    /// Broken JSON of exactly the length at which a column of this type ends.
    Cut(Column),
    /// The document stops before it is complete, after this many bytes.
    Ended(usize),
    /// This byte cannot stand here; a byte order mark and text after the end among them.
    Syntax(usize),
    /// A control character in a string.
    Control(usize),
    /// No UTF-8.
    Utf8(usize),
    /// `\ud800` without its other half.
    Surrogate(usize),
    /// Objects and lists within each other beyond [`DEEPEST`](super::php::DEEPEST).
    TooDeep(usize),
}

/// A column type of MariaDB and MySQL that cuts what is longer, if the server is not strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// 255 bytes.
    TinyText,
    /// 65,535 bytes.
    Text,
    /// 16,777,215 bytes.
    MediumText,
    /// 4,294,967,295 bytes.
    LongText,
}

impl Column {
    /// Returns the type that ends after `bytes`.
    #[must_use]
    pub const fn ending_at(bytes: usize) -> Option<Self> {
        Some(match bytes {
            0xff => Self::TinyText,
            0xffff => Self::Text,
            0xff_ffff => Self::MediumText,
            0xffff_ffff => Self::LongText,
            _ => return None,
        })
    }
}

impl Broken {
    /// Returns the reason, knowing how long the value is: broken JSON that fills its column was cut by it.
    ///
    /// A scalar is whole, so it was not cut.
    #[must_use]
    pub(super) fn of_length(self, bytes: usize) -> Self {
        match Column::ending_at(bytes) {
            Some(column) if self != Self::Scalar => Self::Cut(column),
            _ => self,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, at) = match *self {
            Self::Empty => return f.write_str("the value is empty"),
            Self::Scalar => {
                return f.write_str("the value is JSON, but neither an object nor a list");
            }
            Self::Cut(column) => {
                let (bytes, name) = match column {
                    Column::TinyText => ("255", "TINYTEXT"),
                    Column::Text => ("65,535", "TEXT"),
                    Column::MediumText => ("16,777,215", "MEDIUMTEXT"),
                    Column::LongText => ("4,294,967,295", "LONGTEXT"),
                };
                return write!(f, "the value is cut at {bytes} bytes: the column is {name}");
            }
            Self::Ended(bytes) => {
                return write!(f, "the value is broken JSON: it ends after {bytes} bytes");
            }
            Self::Syntax(at) => ("a syntax error", at),
            Self::Control(at) => ("a control character in a string", at),
            Self::Utf8(at) => ("no UTF-8", at),
            Self::Surrogate(at) => ("half a surrogate pair", at),
            Self::TooDeep(at) => ("nested deeper than PHP reads", at),
        };
        write!(f, "the value is broken JSON: {what} at byte {at}")
    }
}
