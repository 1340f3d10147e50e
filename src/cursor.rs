//! Typed, exact positions in a table's key order.
//!
//! Rust never compares cursors: only the source's own collation knows the order. Equality is byte equality and
//! serves tests and the journal's checks alone.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One column of a key, exactly as the source holds it.
///
/// What has no exact type in Rust is the text that the source itself writes and reads again. The names are journaled:
/// old state files are replayed by later releases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValue {
    /// A signed integer column.
    Int(i64),
    /// An unsigned integer column.
    Uint(u64),
    /// Text, in UTF-8 whatever the column's own character set is.
    Text(String),
    /// Binary; hexadecimal in the journal.
    #[serde(with = "hex")]
    Bytes(Vec<u8>),
    /// An exact number with a fraction: `-12.50`.
    Decimal(String),
    /// A day and a time with microseconds: `2024-02-29 12:00:00.000001`, where the session's time zone is UTC.
    Timestamp(String),
    /// A day: `2024-02-29`.
    Date(String),
    /// A time, or a span of time: `-838:59:59.000000`.
    Time(String),
    /// A UUID with its hyphens.
    Uuid(String),
}

impl KeyValue {
    /// Returns an integer as a wide one, for arithmetic on key ranges; `None` for anything else.
    #[must_use]
    pub const fn as_i128(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(*value as i128),
            Self::Uint(value) => Some(*value as i128),
            _ => None,
        }
    }

    /// Returns how many bytes the value takes beside its slot.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        match self {
            Self::Int(_) | Self::Uint(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Text(text)
            | Self::Decimal(text)
            | Self::Timestamp(text)
            | Self::Date(text)
            | Self::Time(text)
            | Self::Uuid(text) => text.len(),
        }
    }
}

/// Longest part of a text or binary key that is shown to a person, in characters or bytes. A line of a terminal holds
/// it together with what is said about it.
const SHOWN: usize = 48;

impl fmt::Display for KeyValue {
    /// Prints `642000`, `'DE'`, `0x00ff`, `2024-02-29`: one line, without control characters, long ones cut with `…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            Self::Text(text) => {
                f.write_str("'")?;
                shown(f, text)?;
                f.write_str("'")
            }
            Self::Bytes(bytes) => {
                f.write_str("0x")?;
                for byte in bytes.iter().take(SHOWN) {
                    write!(f, "{byte:02x}")?;
                }
                f.write_str(if bytes.len() > SHOWN { "…" } else { "" })
            }
            Self::Decimal(text)
            | Self::Timestamp(text)
            | Self::Date(text)
            | Self::Time(text)
            | Self::Uuid(text) => shown(f, text),
        }
    }
}

fn shown(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN {
            return f.write_str("…");
        }
        // Invisible characters and those that turn the direction of writing would garble the line that names the key.
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        {
            write!(f, "{}", c.escape_unicode())?;
        } else {
            write!(f, "{c}")?;
        }
    }
    Ok(())
}

/// Binary values as hexadecimal text.
mod hex {
    use std::fmt::Write as _;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
        out.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        super::unhex(&text).ok_or_else(|| D::Error::custom("a binary key is not hexadecimal"))
    }
}

/// Returns the bytes that `text` names in hexadecimal, two digits each; `None` for anything else.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok())
        .collect()
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

impl Cursor {
    /// Returns the whole of the cursor as text, which no other cursor has, not even one that looks the same to people:
    /// `[{"uint":642000}]`, `[{"int":7},{"text":"de_DE"}]`.
    #[must_use]
    pub fn exact(&self) -> String {
        // Strings and numbers only: nothing that cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the cursor that [`exact`](Self::exact) wrote; `None` for any other text.
    #[must_use]
    pub fn from_exact(text: &str) -> Option<Self> {
        // Most ids of a scope are plain numbers: not worth a parser.
        if !text.starts_with("[{") {
            return None;
        }
        serde_json::from_str(text).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<KeyValue> {
        vec![
            KeyValue::Int(-1),
            KeyValue::Uint(u64::MAX),
            KeyValue::Text("größe".into()),
            KeyValue::Bytes(vec![0, 255, 16]),
            KeyValue::Decimal("-12.50".into()),
            KeyValue::Timestamp("2024-02-29 12:00:00.000001".into()),
            KeyValue::Date("0000-00-00".into()),
            KeyValue::Time("-838:59:59.000000".into()),
            KeyValue::Uuid("123e4567-e89b-12d3-a456-426614174000".into()),
        ]
    }

    #[test]
    fn the_journaled_form_is_pinned() {
        let cursor = Cursor(all());
        let json = serde_json::to_string(&cursor).expect("serialises");
        assert_eq!(
            json,
            r#"[{"int":-1},{"uint":18446744073709551615},{"text":"größe"},{"bytes":"00ff10"},{"decimal":"-12.50"},"#
                .to_owned()
                + r#"{"timestamp":"2024-02-29 12:00:00.000001"},{"date":"0000-00-00"},{"time":"-838:59:59.000000"},"#
                + r#"{"uuid":"123e4567-e89b-12d3-a456-426614174000"}]"#
        );
        assert_eq!(
            serde_json::from_str::<Cursor>(&json).expect("reads back"),
            cursor
        );
        for bad in [r#"{"bytes":"0"}"#, r#"{"bytes":"0g"}"#, r#"{"bytes":"+1"}"#] {
            assert!(serde_json::from_str::<KeyValue>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_person_sees_one_short_line() {
        let shown: Vec<String> = all().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "-1",
                "18446744073709551615",
                "'größe'",
                "0x00ff10",
                "-12.50",
                "2024-02-29 12:00:00.000001",
                "0000-00-00",
                "-838:59:59.000000",
                "123e4567-e89b-12d3-a456-426614174000",
            ]
        );
        let text = |text: &str| KeyValue::Text(text.to_owned()).to_string();
        assert_eq!(
            text("a\nb\u{1b}[2J\u{202e}"),
            "'a\\u{a}b\\u{1b}[2J\\u{202e}'"
        );
        assert_eq!(text(&"ä".repeat(SHOWN)), format!("'{}'", "ä".repeat(SHOWN)));
        assert_eq!(
            text(&"ä".repeat(SHOWN + 1)),
            format!("'{}…'", "ä".repeat(SHOWN))
        );
        assert_eq!(
            KeyValue::Bytes(vec![1; 10_000]).to_string(),
            format!("0x{}…", "01".repeat(SHOWN))
        );
        assert_eq!(
            Cursor(vec![KeyValue::Text("DE".into()), KeyValue::Int(7)]).to_string(),
            "('DE', 7)"
        );
    }
}
