//! Looks for the rows of names by their keys.

use std::collections::{BTreeMap, BTreeSet};

use super::{NAMES, Orphans, owners::Owner, scan};
use crate::{
    cursor::Cursor,
    error::{EdgeError, ErrorKind},
    ids::StoredName,
    plan::RowSource,
    source::RowQuery,
    target::Inventory,
};

/// What was found.
#[derive(Default)]
pub(super) struct LookedUp {
    /// What a row owns now.
    pub(super) owned: Vec<StoredName>,
    /// What the source cannot look for: no row of it has such a key, as far as can be told.
    pub(super) odd: Vec<StoredName>,
}

impl Orphans {
    /// Looks for the rows of `owner` that own `names` by their keys.
    ///
    /// Anybody may have written a key that the column cannot hold: a letter in a column of numbers, a character that its
    /// character set lacks. A server refuses the whole statement for one of them, so a refused list is cut in halves until
    /// the odd keys stand alone.
    pub(super) async fn looked_up(
        &self,
        inventory: &dyn Inventory,
        owner: &Owner,
        names: &[StoredName],
    ) -> Result<LookedUp, EdgeError> {
        let mut by_key: BTreeMap<String, Vec<StoredName>> = BTreeMap::new();
        let mut found = LookedUp::default();
        for name in names {
            let Some(key) = owner.wanted(name) else {
                continue;
            };
            match std::str::from_utf8(&key) {
                // Read as the place of a row.
                Ok(text) if Cursor::from_exact(text).is_some() => found.odd.push(name.clone()),
                Ok(text) => by_key
                    .entry(text.to_owned())
                    .or_default()
                    .push(name.clone()),
                Err(_) => found.odd.push(name.clone()),
            }
            // How the bytes of a binary column are asked for; a text that looks like it stands for others there.
            if !key.is_ascii() || key.starts_with(b"0x") {
                by_key.entry(hexadecimal(&key)).or_default();
            }
        }
        let keys: Vec<String> = by_key.keys().cloned().collect();
        let mut odd = BTreeSet::new();
        let mut left: Vec<&[String]> = keys.chunks(NAMES).collect();
        let mut readable = false;
        while let Some(some) = left.pop() {
            let query = |keys: &[String]| RowQuery {
                since: None,
                from: RowSource {
                    entity: Some(owner.from.key.clone()),
                    ..owner.from.clone()
                },
                ids: Some(keys.to_vec()),
            };
            match scan::found(&*self.source, &query(some), owner, inventory).await {
                Ok(mut rows) => found.owned.append(&mut rows),
                Err(error) if error.kind != ErrorKind::Refused => return Err(error),
                Err(error) => {
                    if !readable {
                        // Refused for whatever else: then nothing is known of any key.
                        let none = query(&[]);
                        let asked = scan::found(&*self.source, &none, owner, inventory).await;
                        asked.map_err(|_| error)?;
                        readable = true;
                    }
                    if let [key] = some {
                        odd.insert(key.clone());
                    } else {
                        let (one, other) = some.split_at(some.len() / 2);
                        left.extend([one, other]);
                    }
                }
            }
        }
        for key in odd {
            found
                .odd
                .append(&mut by_key.remove(&key).unwrap_or_default());
        }
        Ok(found)
    }
}

fn hexadecimal(key: &[u8]) -> String {
    use std::fmt::Write as _;
    key.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
