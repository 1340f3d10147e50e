//! What a target gets of a row: its key and value, and the keys that it carries beside them.

use crate::{
    plan::{Compression, KeyColumn, RowSource, ValueForm},
    value::{Encoder, MoreKeys, Pair},
};

/// The columns of a row beside its cursor, key and value, as a source hands them over.
type Columns<'a> = &'a [Option<&'a [u8]>];

/// Makes the pairs of rows.
#[derive(Debug)]
pub struct Pairs {
    encoder: Encoder,
    more_keys: MoreKeys,
    /// The columns with more keys as the plan names them.
    aliases: Option<String>,
    mapping: Option<String>,
    /// How many columns the target gets as they are; those with more keys come behind them.
    kept: usize,
}

/// What a target gets of one row.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// The row's value.
    pub value: &'a [u8],
    /// More keys and their values.
    pub more: &'a [Pair],
    /// The columns that go to the target beside them.
    pub beside: Columns<'a>,
}

impl Made<'_> {
    /// Returns the bytes of all values and of the keys beside the row's own.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        let more = self.more.iter().map(|(key, value)| key.len() + value.len());
        self.value.len() + more.sum::<usize>()
    }
}

impl Pairs {
    /// Returns what makes pairs of the rows of `from`, in the forms that their target wants.
    #[must_use]
    pub fn new(from: &RowSource, (form, compression): (ValueForm, Compression)) -> Self {
        let name = |column: &Option<KeyColumn>| column.as_ref().map(|column| column.name.clone());
        let more = &from.more_keys;
        Self {
            encoder: Encoder::new(form, compression),
            more_keys: MoreKeys::new(form, compression),
            aliases: name(&more.aliases),
            mapping: name(&more.mapping),
            kept: usize::from(from.store.is_some()),
        }
    }

    /// Returns what the target gets of a row with these columns.
    ///
    /// # Errors
    ///
    /// Why it cannot be restored as it is, without any value in it.
    pub fn of<'a>(
        &'a mut self,
        key: &[u8],
        value: &'a [u8],
        columns: Columns<'a>,
    ) -> Result<Made<'a>, String> {
        let (beside, more) = columns.split_at(self.kept.min(columns.len()));
        let mut more = more.iter().copied();
        let mut next = |name: &Option<String>| name.as_ref().and_then(|_| more.next()?);
        let (aliases, mapping) = (next(&self.aliases), next(&self.mapping));
        let column = self.aliases.as_deref().unwrap_or_default();
        Ok(Made {
            more: self
                .more_keys
                .of(key, aliases, mapping)
                .map_err(|broken| broken.said_of(column))?,
            value: self
                .encoder
                .encode(value)
                .map_err(|broken| broken.to_string())?,
            beside,
        })
    }

    /// Gives back scratch memory that only a long row needed.
    pub fn trim(&mut self) {
        self.encoder.trim();
        self.more_keys.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(store: bool, aliases: bool, mapping: bool) -> RowSource {
        let column = |name: &str| KeyColumn {
            name: name.to_owned(),
            optional: false,
        };
        RowSource {
            table: "t".into(),
            cursor: vec!["id".into()],
            key: "key".into(),
            value: "data".into(),
            entity: None,
            store: store.then(|| "store".into()),
            more_keys: crate::plan::MoreKeys {
                aliases: aliases.then(|| column("aliases")),
                mapping: mapping.then(|| column("mapping")),
            },
            condition: None,
            reads_ids: false,
        }
    }

    #[test]
    fn each_column_is_taken_for_what_the_plan_calls_it() {
        const ALIASES: Option<&[u8]> = Some(br#"{"a":[1]}"#);
        const MAPPING: Option<&[u8]> = Some(b"m");
        const STORE: Option<&[u8]> = Some(b"DE");
        for (store, aliases, mapping) in [
            (false, false, false),
            (false, true, false),
            (false, false, true),
            (true, true, true),
        ] {
            let from = source(store, aliases, mapping);
            let mut pairs = Pairs::new(&from, (ValueForm::Php, Compression::None));
            let columns: Vec<_> = [(store, STORE), (aliases, ALIASES), (mapping, MAPPING)]
                .into_iter()
                .filter_map(|(is_read, column)| is_read.then_some(column))
                .collect();
            assert_eq!(columns.len(), from.beside().count());
            let made = pairs.of(b"k", b"{}", &columns).unwrap();
            assert_eq!((made.value, made.beside.len()), (&b"[]"[..], store.into()));
            let keys: Vec<_> = made.more.iter().map(|(key, _)| key.as_slice()).collect();
            let wanted = [(aliases, &b"a"[..]), (mapping, b"m")];
            let wanted: Vec<_> = wanted.iter().filter(|(is_read, _)| *is_read).collect();
            assert_eq!(keys, wanted.iter().map(|(_, key)| *key).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_row_is_refused_as_a_whole() {
        let from = source(false, true, false);
        let mut pairs = Pairs::new(&from, (ValueForm::Php, Compression::None));
        let refused = pairs.of(b"k", b"{}", &[Some(b"[1]")]).unwrap_err();
        assert_eq!(refused, "`aliases` holds no JSON object of keys and values");
        let made = pairs.of(b"k", b"{}", &[Some(br#"{"ab":[]}"#)]).unwrap();
        assert_eq!(made.byte_count(), 2 + 2 + 2);
    }
}
