//! Lines for the `_bulk` request of Elasticsearch and OpenSearch, which are also what NDJSON files hold.
//!
//! ```text
//! {"index":{"_index":"shop_de_page","_id":"product:17"}}
//! {"name":"..."}
//! ```

use std::borrow::Cow;

use crate::{
    chunk::Row,
    plan::{Routing, is_store_name},
};

/// Ends the reason of a row whose store the plan does not name; looked for in reasons that were journaled.
pub const NOT_IN_STORES: &str = "is none of the plan's `stores`";

/// The longest `_id`, in bytes. Longer ones make the servers refuse the whole request.
const MOST_ID_BYTES: usize = 512;

/// How the line of a document that is stored begins.
const ACTION: &[u8] = b"{\"index\":";

/// Turns the rows of one resource into lines.
pub(super) struct Lines {
    /// The beginning of an action line for each index, up to the `_id`: `{"index":{"_index":"shop_de_page","_id":`
    heads: Vec<Vec<u8>>,
    /// Store names, in the order of `heads`; none where all rows go to one index.
    stores: Vec<Vec<u8>>,
    /// Whether rows carry their store.
    column: bool,
}

impl Lines {
    /// Returns what turns rows into lines for the indexes of `routing`.
    pub(super) fn new(routing: &Routing) -> Self {
        let heads = routing.indexes().map(|index| {
            let mut head = [ACTION, b"{\"_index\":"].concat();
            text(&mut head, index);
            head.extend_from_slice(b",\"_id\":");
            head
        });
        let (stores, column) = match routing {
            Routing::One(_) => (Vec::new(), false),
            Routing::ByStore { column, indexes } => {
                let names = indexes.iter().map(|(store, _)| store.clone().into_bytes());
                (names.collect(), *column)
            }
        };
        Self {
            heads: heads.collect(),
            stores,
            column,
        }
    }

    /// Returns the indexes that `row` goes to, as places in the order of the routing.
    ///
    /// # Errors
    ///
    /// Why the row can go to none, without any value in it but the name of a store.
    pub(super) fn route(&self, row: &Row<'_>) -> Result<std::ops::Range<usize>, Cow<'static, str>> {
        sound(row.key, row.value)?;
        self.places(row.beside().next().flatten())
    }

    /// Returns the indexes that a row of `store` goes to, as places in the order of the routing.
    ///
    /// # Errors
    ///
    /// Why it can go to none.
    pub(super) fn places(
        &self,
        store: Option<&[u8]>,
    ) -> Result<std::ops::Range<usize>, Cow<'static, str>> {
        let store = store.unwrap_or_default();
        if !self.column || store.is_empty() {
            return Ok(0..self.heads.len());
        }
        let at = self.stores.iter().position(|known| known == store);
        at.map(|at| at..at + 1).ok_or_else(|| {
            // What a store is called is configuration; whatever else the column may hold is not shown.
            let name = std::str::from_utf8(store).ok();
            match name.filter(|name| is_store_name(name)) {
                Some(name) => format!("its store `{name}` {NOT_IN_STORES}").into(),
                None => format!("its store {NOT_IN_STORES}").into(),
            }
        })
    }

    /// Appends the two lines of `row` for the index at place `index`. The row is one that [`Self::route`] let pass.
    pub(super) fn append(&self, out: &mut Vec<u8>, row: &Row<'_>, index: usize) {
        let key = std::str::from_utf8(row.key).unwrap_or_default();
        self.document(out, key, row.value, index);
    }

    /// Appends the two lines of a document that is [`sound`].
    pub(super) fn document(&self, out: &mut Vec<u8>, key: &str, value: &[u8], index: usize) {
        out.extend_from_slice(&self.heads[index]);
        text(out, key);
        out.extend_from_slice(b"}}\n");
        let start = out.len();
        out.extend_from_slice(value);
        // In JSON a line break is white space between two parts. A blank, and not nothing, so that what is no JSON does
        // not become some.
        for byte in &mut out[start..] {
            if *byte == b'\n' {
                *byte = b' ';
            }
        }
        out.push(b'\n');
    }

    /// Appends the line that takes a document away.
    pub(super) fn removal(&self, out: &mut Vec<u8>, key: &str, index: usize) {
        out.extend_from_slice(b"{\"delete\":");
        out.extend_from_slice(&self.heads[index][ACTION.len()..]);
        text(out, key);
        out.extend_from_slice(b"}}\n");
    }
}

/// Refuses what can be no document.
///
/// # Errors
///
/// Why, without any value in it.
pub(super) fn sound(key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    match key {
        [] => return Err("the key is empty, and an `_id` may not be"),
        key if key.len() > MOST_ID_BYTES => {
            return Err("the key is longer than 512 bytes, the most an `_id` may have");
        }
        key if std::str::from_utf8(key).is_err() => return Err("the key is not UTF-8"),
        _ => {}
    }
    check(value)
}

/// Refuses what would break the lines around it, or is clearly no JSON object. Everything else is for the server to say,
/// which parses the document anyway.
fn check(value: &[u8]) -> Result<(), &'static str> {
    match value.trim_ascii() {
        [] => Err("the value is empty, and a document is a JSON object"),
        [b'{', .., b'}'] => {
            if value.contains(&b'\n') && breaks_in_text(value) {
                Err("the value is not JSON: a line break inside a text")
            } else {
                Ok(())
            }
        }
        _ => Err("the value is not a JSON object"),
    }
}

/// Returns whether a line break stands between quotes. There it is no white space, and a blank in its place would be
/// another text.
fn breaks_in_text(value: &[u8]) -> bool {
    let (mut inside, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'\n' if inside => return true,
            _ => {}
        }
    }
    false
}

/// Appends `text` as a JSON string.
fn text(out: &mut Vec<u8>, text: &str) {
    // Only a map with keys that are no strings, or a full disk, could fail here.
    serde_json::to_writer(out, text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chunk::Chunk, cursor::KeyValue};

    fn by_store() -> Lines {
        Lines::new(&Routing::ByStore {
            column: true,
            indexes: vec![("DE".into(), "x_de".into()), ("AT".into(), "x_at".into())],
        })
    }

    fn lines(
        lines: &Lines,
        key: &[u8],
        value: &[u8],
        store: Option<&[u8]>,
    ) -> Result<String, String> {
        let mut chunk = Chunk::default();
        chunk.push(&[KeyValue::Uint(1)], key, value, &[store]);
        let row = chunk.rows().next().unwrap();
        let mut out = Vec::new();
        for index in lines.route(&row)? {
            lines.append(&mut out, &row, index);
        }
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_document_is_two_lines_whatever_its_key_and_layout() {
        let one = Lines::new(&Routing::One("x".into()));
        assert_eq!(
            lines(&one, "a\"\n\u{e9}".as_bytes(), b"{\n \"a\": \"b\\n\",\r\n\"c\": 1\n}", None),
            Ok("{\"index\":{\"_index\":\"x\",\"_id\":\"a\\\"\\n\u{e9}\"}}\n{  \"a\": \"b\\n\",\r \"c\": 1 }\n".into())
        );
    }

    #[test]
    fn rows_go_to_their_store_or_to_all_of_them() {
        let at = "{\"index\":{\"_index\":\"x_at\",\"_id\":\"k\"}}\n{}\n";
        let de = "{\"index\":{\"_index\":\"x_de\",\"_id\":\"k\"}}\n{}\n";
        let routed = |store: Option<&[u8]>| lines(&by_store(), b"k", b"{}", store);
        assert_eq!(routed(Some(b"AT")), Ok(at.into()));
        assert_eq!(routed(None), Ok(format!("{de}{at}")));
        assert_eq!(routed(Some(b"")), Ok(format!("{de}{at}")));
        let refused = |store| routed(Some(store)).unwrap_err();
        assert_eq!(
            refused(b"FR"),
            "its store `FR` is none of the plan's `stores`"
        );
        // Not what stores are called: somebody's address.
        for odd in [&b"geheim@shop.test"[..], b"\xff", b"17"] {
            assert_eq!(refused(odd), "its store is none of the plan's `stores`");
        }
    }

    #[test]
    fn what_would_break_the_lines_is_named_and_not_shown() {
        for (key, value) in [
            (&b""[..], &b"{}"[..]),
            (&[b'k'; 513], b"{}"),
            (b"\xff", b"{}"),
            (b"k", b""),
            (b"k", b" \n "),
            (b"k", b"[1]"),
            (b"k", b"{"),
            (b"k", b"geheim"),
            (b"k", b"{\"a\": \"gehe\nim\"}"),
        ] {
            let reason = lines(&by_store(), key, value, None).unwrap_err();
            assert!(!reason.contains("gehe"), "{reason}");
        }
        assert!(lines(&by_store(), b"k", b"{\"a\\\\\": \"\\\"\"\n}", None).is_ok());
    }
}
