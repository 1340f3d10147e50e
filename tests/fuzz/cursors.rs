//! Looks for cursors that the journal would give back otherwise than it got them, and for text that is taken for one.

use std::collections::HashMap;

use rekindle::cursor::{Cursor, KeyValue};

use crate::driver::fuzz;

const TOKENS: &[&str] = &[
    "[{",
    "}]",
    "},{",
    "{\"int\":",
    "{\"uint\":",
    "{\"text\":\"",
    "{\"bytes\":\"",
    "{\"decimal\":\"",
    "{\"timestamp\":\"",
    "{\"date\":\"",
    "{\"time\":\"",
    "{\"uuid\":\"",
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d",
    "-",
    "0",
    "-0",
    "1e3",
    "18446744073709551615",
    "-9223372036854775808",
    "00fF",
    "null",
    "é",
];

/// Returns what kind of value each column has.
fn kinds(cursor: &Cursor) -> Vec<u8> {
    let kind = |value: &KeyValue| match value {
        KeyValue::Int(_) => 0,
        KeyValue::Uint(_) => 1,
        KeyValue::Text(_) => 2,
        KeyValue::Bytes(_) => 3,
        KeyValue::Decimal(_) => 4,
        KeyValue::Timestamp(_) => 5,
        KeyValue::Date(_) => 6,
        KeyValue::Time(_) => 7,
        KeyValue::Uuid(_) => 8,
    };
    cursor.0.iter().take(6).map(kind).collect()
}

#[test]
fn no_cursor_comes_back_as_another_one() {
    let mut written: HashMap<String, Cursor> = HashMap::new();
    fuzz("cursors", TOKENS, 40_000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Some(cursor) = Cursor::from_exact(&text) else {
            return Ok((Vec::new(), false));
        };
        let exact = cursor.exact();
        if Cursor::from_exact(&exact).as_ref() != Some(&cursor) {
            return Err(format!("{exact} is read as another cursor"));
        }
        // Columns turned round, and what looks the same to people, are other cursors.
        let turned = Cursor(cursor.0.iter().rev().cloned().collect());
        if turned != cursor && turned.exact() == exact {
            return Err(format!("{exact} is two cursors"));
        }
        if let [KeyValue::Int(number)] = cursor.0.as_slice() {
            let other = Cursor::single(KeyValue::Text(number.to_string()));
            if other.exact() == exact {
                return Err(format!("{exact} is a number and a text"));
            }
        }
        let shown = cursor.to_string();
        if shown.contains(char::is_control) {
            return Err("a terminal would obey it".to_owned());
        }
        let kinds = kinds(&cursor);
        if written.len() < 10_000 {
            let before = written.entry(exact).or_insert_with(|| cursor.clone());
            if *before != cursor {
                return Err("two cursors are written as one".to_owned());
            }
        }
        Ok((kinds, true))
    });
}
