//! Which keys of a target are a resource's own, so that one without a row is an orphan, and whose rows may own keys there.

use super::{KeyColumn, Plan, Resource, RowSource, TargetConfig, resolved::MoreKeys};
use crate::spryker;

impl Plan {
    /// Returns what every key of `resource` begins with, and no key of anything else does.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    pub fn own_keys<'a>(&self, resource: &'a Resource) -> Result<&'a str, String> {
        let begin = resource.keys.as_deref().ok_or_else(|| {
            let name = resource.name.as_str();
            let about = name.split_once('/').map_or(name, |(about, _)| about);
            format!(
                "`keys` of the resource does not say what all its keys begin with, and no others: perhaps \
                 `keys: \"{about}:\"`"
            )
        })?;
        if matches!(self.targets.get(&resource.to), Some(TargetConfig::File(_))) {
            return Err("files are not read back".to_owned());
        }
        Ok(begin)
    }

    /// Returns the resources whose rows may own names of target `to`: its own, and those of targets of the same kind, which
    /// may be the same server under another name.
    pub fn owners<'a>(&'a self, to: &'a str) -> impl Iterator<Item = &'a Resource> {
        let kind = |name: &str| self.targets.get(name).map(std::mem::discriminant);
        let wanted = kind(to);
        let mine = move |one: &&Resource| one.to == to || kind(&one.to) == wanted;
        self.resources.iter().filter(mine)
    }

    /// Returns what is read to know which keys the rows of `resource` own: rows that a condition leaves out have theirs too,
    /// and so have columns of more keys that the plan leaves out, where they have the names that a shop gives them.
    #[must_use]
    pub fn owned_by(&self, resource: &Resource) -> RowSource {
        let usual = |name: &str| {
            Some(KeyColumn {
                name: name.to_owned(),
                optional: true,
            })
        };
        let more_keys = match self.targets.get(&resource.to) {
            Some(TargetConfig::Redis(_)) => {
                let MoreKeys { aliases, mapping } = resource.from.more_keys.clone();
                MoreKeys {
                    aliases: aliases.or_else(|| usual(spryker::ALIAS_KEYS)),
                    mapping: mapping.or_else(|| usual(spryker::MAPPING_KEY)),
                }
            }
            // A document has one `_id`.
            _ => MoreKeys::default(),
        };
        RowSource {
            more_keys,
            condition: None,
            ..resource.from.clone()
        }
    }
}

impl Resource {
    /// Returns whether rows own keys that no column known here names: the plan leaves them out, and the table is none whose
    /// columns are known.
    #[must_use]
    pub fn hides_keys(&self) -> bool {
        self.leaves_keys_out && spryker::by_table(&self.from.table).is_none()
    }

    /// Returns whether a row without more keys says nothing: a shop makes some of each row of the table, also where it did
    /// not note them.
    #[must_use]
    pub fn has_aliases(&self) -> bool {
        spryker::by_table(&self.from.table).is_some_and(|table| table.mappings.is_some())
    }
}
