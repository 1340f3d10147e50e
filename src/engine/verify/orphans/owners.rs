//! Whose rows own which names of a target, and how they are looked for.

use std::borrow::Cow;

use crate::{
    chunk::SourceRow,
    error::EdgeError,
    ids::StoredName,
    plan::{
        Compression, MoreKeys as KeyColumns, Plan, Resource, RowSource, SourceKind, TargetConfig,
        ValueForm,
    },
    source::Source,
    spryker,
    target::Inventory,
    value::MoreKeys,
};

/// A resource whose rows may own names of a target.
pub(super) struct Owner {
    pub(super) resource: Resource,
    /// What is read of its rows.
    pub(super) from: RowSource,
    /// Whether its rows can be looked for by nothing but reading all of them: they own keys beside the one in their `key`
    /// column, or SQLite keeps that one as text in one row and as bytes in the next.
    pub(super) is_walked: bool,
    /// Whether the table has no column that tells of further keys, although the shop makes some.
    pub(super) lacks_aliases: bool,
    form: (ValueForm, Compression),
    names: Names,
}

/// What its keys are in the target.
enum Names {
    /// It goes there.
    Own,
    /// It goes to another target of the same kind, which may be the same server: a key there is one here where it begins
    /// with what is put before the keys here, in any place.
    Other {
        theirs: Vec<u8>,
        ours: Vec<u8>,
        places: Vec<String>,
    },
}

impl Owner {
    /// Returns the resources whose rows may own names of target `to`, in plan order. Asks the source which columns they have.
    pub(super) async fn all(
        plan: &Plan,
        to: &str,
        source: &dyn Source,
    ) -> Result<Vec<Self>, EdgeError> {
        let mut owners = Vec::new();
        for resource in plan.owners(to) {
            let mut from = plan.owned_by(resource);
            let bare = RowSource {
                more_keys: KeyColumns::default(),
                ..from.clone()
            };
            let with = source.describe(&from).await?.fingerprint;
            let without = source.describe(&bare).await?.fingerprint;
            let only_aliases = RowSource {
                more_keys: KeyColumns {
                    mapping: None,
                    ..from.more_keys.clone()
                },
                ..bare.clone()
            };
            let lacks_aliases = resource.has_aliases()
                && source.describe(&only_aliases).await?.fingerprint == without;
            if with == without && !resource.has_aliases() {
                // The table has no such columns.
                from = bare;
            }
            owners.push(Self {
                lacks_aliases,
                is_walked: plan.source.kind == SourceKind::Sqlite
                    || from.more_keys != KeyColumns::default(),
                names: if resource.to == to {
                    Names::Own
                } else {
                    Names::Other {
                        theirs: prefix(plan, &resource.to).to_vec(),
                        ours: prefix(plan, to).to_vec(),
                        places: places(plan, to),
                    }
                },
                form: plan.encoding(resource),
                resource: resource.clone(),
                from,
            });
        }
        Ok(owners)
    }

    /// Returns whether its rows go to the target itself.
    pub(super) const fn is_own(&self) -> bool {
        matches!(self.names, Names::Own)
    }

    /// Returns the key that a row of it would have to own `name`; `None` where none may.
    pub(super) fn wanted<'a>(&self, name: &'a StoredName) -> Option<Cow<'a, [u8]>> {
        let key: Cow<'a, [u8]> = match &self.names {
            Names::Own => name.key.as_slice().into(),
            Names::Other { theirs, ours, .. } => {
                let whole = [ours.as_slice(), &name.key].concat();
                whole.strip_prefix(theirs.as_slice())?.to_vec().into()
            }
        };
        let begins = match &self.resource.keys {
            Some(begin) => key.starts_with(begin.as_bytes()),
            None => true,
        };
        (begins || self.has_free_keys()).then_some(key)
    }

    /// Returns whether its rows may own keys that begin with anything: they stand in a column of the source, and the table is
    /// none whose keys are known, or the plan names the column.
    fn has_free_keys(&self) -> bool {
        let KeyColumns { aliases, mapping } = &self.from.more_keys;
        let mut columns = [aliases, mapping].into_iter().flatten();
        self.from.more_keys != KeyColumns::default()
            && (columns.any(|column| !column.optional)
                || spryker::by_table(&self.from.table).is_none())
    }

    /// Returns the column that tells of further keys.
    pub(super) fn alias_column(&self) -> &str {
        let column = self.from.more_keys.aliases.as_ref();
        column.map_or("aliases", |column| &column.name)
    }

    /// Returns whether keys that nobody can tell may begin with `keys`, which is what those of another resource begin with.
    pub(super) fn may_hide(&self, keys: &str) -> bool {
        match (&self.names, &self.resource.keys) {
            (Names::Own, Some(own)) => {
                self.has_free_keys() || own.starts_with(keys) || keys.starts_with(own.as_str())
            }
            _ => true,
        }
    }

    /// Returns what tells the names of its rows.
    pub(super) fn reader(&self) -> NameReader<'_> {
        NameReader {
            owner: self,
            more: MoreKeys::new(self.form.0, self.form.1),
        }
    }

    /// Returns the names of a row that owns `key` and the keys `more`.
    fn named(
        &self,
        inventory: &dyn Inventory,
        key: Option<&[u8]>,
        more: Vec<Vec<u8>>,
        beside: &[Option<&[u8]>],
    ) -> Vec<StoredName> {
        match &self.names {
            Names::Own => {
                let own = key.map(|key| inventory.owned(&self.resource.name, key, beside));
                let more = more.into_iter().map(|key| StoredName {
                    place: String::new(),
                    key,
                });
                own.into_iter().flatten().chain(more).collect()
            }
            Names::Other {
                theirs,
                ours,
                places,
            } => {
                let all = key.map(<[u8]>::to_vec).into_iter().chain(more);
                let mine = all.filter_map(|key| {
                    let whole = [theirs.as_slice(), &key].concat();
                    Some(whole.strip_prefix(ours.as_slice())?.to_vec())
                });
                let mut names = Vec::new();
                for key in mine {
                    names.extend(places.iter().map(|place| StoredName {
                        place: place.clone(),
                        key: key.clone(),
                    }));
                }
                names
            }
        }
    }
}

/// Tells the names of rows. Keeps its scratch memory from row to row.
pub(super) struct NameReader<'a> {
    owner: &'a Owner,
    more: MoreKeys,
}

impl NameReader<'_> {
    /// Returns whether `key` of a row begins otherwise than all keys of the resource are said to.
    pub(super) fn is_other(&self, key: &[u8]) -> bool {
        let begin = self.owner.resource.keys.as_ref();
        begin.is_some_and(|begin| !key.starts_with(begin.as_bytes()))
    }

    /// Returns the names that a row owns, and whether those are all.
    pub(super) fn of(
        &mut self,
        inventory: &dyn Inventory,
        row: &SourceRow<'_>,
    ) -> (Vec<StoredName>, bool) {
        let KeyColumns { aliases, mapping } = &self.owner.from.more_keys;
        let kept = usize::from(self.owner.from.store.is_some()).min(row.beside.len());
        let (beside, columns) = row.beside.split_at(kept);
        let mut columns = columns.iter().copied();
        let aliases = aliases.as_ref().and_then(|_| columns.next()?);
        let mapping = mapping.as_ref().and_then(|_| columns.next()?);
        let unnoted = aliases.is_none_or(|column| column.trim_ascii().is_empty())
            && self.owner.from.more_keys.aliases.is_some()
            && self.owner.resource.has_aliases();
        let (more, known) = match self.more.names(aliases, mapping) {
            Ok(more) => (more, !unnoted),
            Err(_) => (mapping.map(<[u8]>::to_vec).into_iter().collect(), false),
        };
        let names = self.owner.named(inventory, row.key, more, beside);
        (names, known)
    }
}

/// Returns what a target puts before every key.
fn prefix<'a>(plan: &'a Plan, target: &str) -> &'a [u8] {
    match plan.targets.get(target) {
        Some(TargetConfig::Redis(redis)) => redis.prefix.as_bytes(),
        _ => b"",
    }
}

/// Returns every place that a target has names in, as a list of them calls it.
fn places(plan: &Plan, target: &str) -> Vec<String> {
    match plan.targets.get(target) {
        Some(TargetConfig::Search(search)) => {
            let indexes = search
                .indexes
                .values()
                .flat_map(crate::plan::Routing::indexes);
            indexes.map(str::to_owned).collect()
        }
        _ => vec![String::new()],
    }
}
