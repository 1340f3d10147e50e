//! More keys of a row, which its shop keeps in columns beside the value.
//!
//! ```text
//! alias_keys            {"product_abstract:de:de_de:sku:a-1": {"id": 42, "_timestamp": 1.5}}
//! mapping_resource_key  product_abstract:de:de_de:sku:a-1   ->   {"key":"product_abstract:de:de_de:42"}
//! ```

use std::{collections::HashMap, fmt};

use serde::de::{Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Broken, Encoder};
use crate::plan::{Compression, ValueForm};

/// So many characters fit into `VARCHAR(255)`, which is what a shop's schema makes of the column.
const USUAL_COLUMN_CHARS: usize = 255;

/// One more key, and what the target gets under it.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Makes the pairs that a target gets for a row beside its own. Keeps its scratch memory from row to row.
#[derive(Debug)]
pub struct MoreKeys {
    form: Encoder,
    pack: Encoder,
    /// Whether the consumer takes arrays only, as PHP's does.
    arrays: bool,
    pairs: Vec<Pair>,
}

impl MoreKeys {
    /// Returns what makes pairs for a target's `value` and `compress`.
    #[must_use]
    pub fn new(form: ValueForm, compression: Compression) -> Self {
        Self {
            form: Encoder::new(form, Compression::None),
            pack: Encoder::new(ValueForm::Raw, compression),
            arrays: matches!(form, ValueForm::Php | ValueForm::Message),
            pairs: Vec::new(),
        }
    }

    /// Returns the pairs of the row under `key` in the order they stand there: those of `aliases`, a JSON object of keys
    /// and values, then `mapping`, one key whose value names the row's own. Nothing, no text and PHP's empty list `[]`
    /// are no keys.
    ///
    /// # Errors
    ///
    /// [`BrokenKeys`] where a column holds something else.
    pub fn of(
        &mut self,
        key: &[u8],
        aliases: Option<&[u8]>,
        mapping: Option<&[u8]>,
    ) -> Result<&[Pair], BrokenKeys> {
        self.pairs.clear();
        if let Some(column) = aliases.filter(|column| !column.trim_ascii().is_empty()) {
            self.aliases(column)?;
        }
        if let Some(mapping) = mapping.filter(|column| !column.is_empty()) {
            let key = str::from_utf8(key).map_err(|_| BrokenKeys::OwnKey)?;
            let pointer = serde_json::json!({ "key": key }).to_string();
            let value = self.form.encode(pointer.as_bytes());
            let value = value.map_err(|_| BrokenKeys::OwnKey)?;
            let value = self.pack.encode(value).map_err(|_| BrokenKeys::OwnKey)?;
            self.pairs.push((mapping.to_vec(), value.to_vec()));
        }
        Ok(&self.pairs)
    }

    /// Returns the keys alone, also of a row that cannot be restored for what is under them.
    ///
    /// # Errors
    ///
    /// [`BrokenKeys`] where nobody can tell which keys there are.
    pub fn names(
        &mut self,
        aliases: Option<&[u8]>,
        mapping: Option<&[u8]>,
    ) -> Result<Vec<Vec<u8>>, BrokenKeys> {
        let mut names = Vec::new();
        if let Some(column) = aliases.filter(|column| !column.trim_ascii().is_empty()) {
            let found = match self.form.encode(column) {
                Ok(json) => entries(json).ok_or(BrokenKeys::NoObject)?,
                // What PHP would not read may still be JSON.
                Err(broken) => entries(column).ok_or_else(|| of_column(broken, column))?,
            };
            names.extend(found.into_iter().map(|(key, _)| key.into_bytes()));
        }
        let mapping = mapping.filter(|column| !column.is_empty());
        names.extend(mapping.map(<[u8]>::to_vec));
        Ok(names)
    }

    fn aliases(&mut self, column: &[u8]) -> Result<(), BrokenKeys> {
        // As a whole, so that it is read as PHP would: how deep, which of equal keys, which spelling.
        let json = self
            .form
            .encode(column)
            .map_err(|broken| of_column(broken, column))?;
        for (key, value) in entries(json).ok_or(BrokenKeys::NoObject)? {
            let value = value.get().as_bytes();
            if self.arrays && !matches!(value.first(), Some(b'{' | b'[')) {
                return Err(BrokenKeys::Scalar);
            }
            let value = self.pack.encode(value).map_err(BrokenKeys::Json)?;
            self.pairs.push((key.into_bytes(), value.to_vec()));
        }
        Ok(())
    }

    /// Gives back scratch memory that only a long column needed.
    pub fn trim(&mut self) {
        self.form.trim();
        self.pack.trim();
    }
}

/// Why the further keys of a row cannot be restored. Holds places, never bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenKeys {
    /// What PHP could not read.
    Json(Broken),
    /// The column was full, and what it holds is not whole.
    Cut,
    /// No object, so there are no keys.
    NoObject,
    /// A key's value is neither an object nor a list.
    Scalar,
    /// The row's own key, to which another one leads, is no text.
    OwnKey,
}

impl BrokenKeys {
    /// Returns the reason for a person, who calls the column `column`.
    #[must_use]
    pub fn said_of(self, column: &str) -> String {
        match self {
            Self::Json(broken) => format!("`{column}` cannot be read: {broken}"),
            Self::Cut => format!("`{column}` is cut at {USUAL_COLUMN_CHARS} characters"),
            Self::NoObject => format!("`{column}` holds no JSON object of keys and values"),
            Self::Scalar => {
                format!("`{column}` holds a value that is neither an object nor a list")
            }
            Self::OwnKey => "the key is not UTF-8".to_owned(),
        }
    }
}

fn of_column(broken: Broken, column: &[u8]) -> BrokenKeys {
    let full = String::from_utf8_lossy(column).chars().count() == USUAL_COLUMN_CHARS;
    match broken {
        // 255 bytes were taken for a column of another type.
        Broken::Scalar => BrokenKeys::NoObject,
        _ if full => BrokenKeys::Cut,
        broken => BrokenKeys::Json(broken),
    }
}

/// Returns the keys in `json` with the bytes of their values, of equal keys the last value at the first one's place;
/// `None` where it is no JSON object.
fn entries(json: &[u8]) -> Option<Vec<(String, &RawValue)>> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = reader.deserialize_any(Entries).ok()?;
    reader.end().ok().map(|()| found)
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Self::Value = Vec::new();
        let mut places = HashMap::new();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            let place = *places.entry(key.clone()).or_insert(found.len());
            match found.get_mut(place) {
                Some(entry) => entry.1 = value,
                None => found.push((key, value)),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        match seq.next_element::<&RawValue>()? {
            None => Ok(Vec::new()),
            Some(_) => Err(A::Error::custom("a list")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(form: ValueForm, aliases: &str) -> Result<Vec<(String, String)>, BrokenKeys> {
        let mut more = MoreKeys::new(form, Compression::None);
        let pairs = more.of(b"own", Some(aliases.as_bytes()), None)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok(pairs
            .iter()
            .map(|(key, value)| (text(key), text(value)))
            .collect())
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn aliases_come_in_their_order_in_the_form_of_values() {
        let aliases = r#"{"b:sku:\u00fc": {"id":42, "a":1.50}, "a": {}, "b:sku:ü":[1, "\u00fc/"]}"#;
        assert_eq!(
            shown(ValueForm::Php, aliases),
            Ok(vec![pair("b:sku:ü", r#"[1,"\u00fc\/"]"#), pair("a", "[]")])
        );
        assert_eq!(
            shown(ValueForm::Raw, aliases),
            Ok(vec![pair("b:sku:ü", r#"[1, "\u00fc/"]"#), pair("a", "{}")])
        );
        for none in ["", " ", "[]", "{}", " {}\n"] {
            for form in ValueForm::ALL {
                assert_eq!(shown(form, none), Ok(vec![]), "{none}");
            }
        }
    }

    #[test]
    fn what_holds_no_keys_is_named_without_its_text() {
        let cut = format!("{{\"geheim\":\"{}", "ü".repeat(255 - 11));
        for broken in [
            r#"{"geheim":"#,
            r#"["geheim"]"#,
            r#""geheim""#,
            "17",
            r#"{"a":{}} geheim"#,
            "{geheim}",
            &cut,
        ] {
            for form in ValueForm::ALL {
                let why = shown(form, broken).unwrap_err().said_of("alias_keys");
                assert!(
                    why.starts_with("`alias_keys` ") && !why.contains("geheim"),
                    "{why}"
                );
            }
        }
        assert_eq!(shown(ValueForm::Php, &cut), Err(BrokenKeys::Cut));
        assert_eq!(
            shown(ValueForm::Php, r#"{"a":"b"}"#),
            Err(BrokenKeys::Scalar)
        );
        assert_eq!(
            shown(ValueForm::Raw, r#"{"a":"b"}"#),
            Ok(vec![pair("a", "\"b\"")])
        );
    }

    #[test]
    fn a_mapping_leads_to_the_rows_own_key() {
        let mut more = MoreKeys::new(ValueForm::Php, Compression::None);
        let pairs = more.of("ü/\"1\"".as_bytes(), None, Some(b"sku:1")).unwrap();
        let wanted = br#"{"key":"\u00fc\/\"1\""}"#;
        assert_eq!(pairs, [(b"sku:1".to_vec(), wanted.to_vec())]);
        assert_eq!(more.of(b"own", None, Some(b"")), Ok(&[][..]));
        assert_eq!(
            more.of(b"\xff", None, Some(b"sku:1")),
            Err(BrokenKeys::OwnKey)
        );
    }

    #[test]
    fn keys_are_known_also_where_a_row_cannot_be_restored() {
        let mut more = MoreKeys::new(ValueForm::Php, Compression::None);
        let mut names = |aliases: &[u8], mapping: &[u8]| {
            let names = more.names(Some(aliases), Some(mapping))?;
            let text = |name| String::from_utf8_lossy(name).into_owned();
            Ok::<_, BrokenKeys>(names.iter().map(|name| text(name)).collect::<Vec<_>>())
        };
        let aliases = r#"{"a:\u00fc":{"id":1},"b":"scalar"}"#.as_bytes();
        assert_eq!(
            names(aliases, b"m"),
            Ok(vec!["a:ü".into(), "b".into(), "m".into()])
        );
        assert_eq!(names(b" [] ", b""), Ok(vec![]));
        // Two spellings of one key, one value: as it is restored.
        assert_eq!(names(br#"{"a":1,"\u0061":2}"#, b""), Ok(vec!["a".into()]));
        for broken in [&br#"{"a":{"id":1},"b"#[..], b"[1]", b"17", b"\"a\""] {
            assert!(names(broken, b"m").is_err(), "{}", broken.escape_ascii());
        }
    }

    #[test]
    fn long_values_are_packed_and_keys_are_not() {
        let mut more = MoreKeys::new(ValueForm::Php, Compression::Gzip);
        let aliases = format!("{{\"{}\":[\"{}\"]}}", "k".repeat(300), "v".repeat(300));
        let pairs = more.of(b"own", Some(aliases.as_bytes()), None).unwrap();
        assert_eq!(pairs[0].0, b"k".repeat(300));
        assert!(pairs[0].1.starts_with(b"\x1f\x8b\x08"));
    }
}
