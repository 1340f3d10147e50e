//! Tells rows that write one key from rows that differ.
//!
//! Of two rows with one key a target can hold only one, so the other one looks different, and rewriting it would only make the
//! first look different the next time. So where rows are doubted, all are read once more, in order, and of those that write a
//! doubted key with different content the last one stands: it alone is compared and rewritten.
//!
//! Those of other resources of the same target count, too, unless the plan's `keys` say that theirs are others: the resources
//! write in the order of the plan, one after those in its `after`.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::Xxh3;

use super::{
    Trouble,
    walk::{Walker, pair},
};
use crate::{
    chunk::Row,
    engine::retry::retrying,
    ids::ResourceName,
    plan::{MoreKeys, Plan, Resource, Routing, TargetConfig},
    report,
    scratch::Writer,
    source::RowQuery,
};

/// Bits of the filter that keeps keys out which nobody doubts: 1 MiB. With a million doubts it lets an eighth of the other
/// keys through, which costs time and nothing else.
const BITS: usize = 1 << 23;

/// Which keys are doubted, and now and then some others.
struct Doubted(Vec<u64>);

impl Doubted {
    fn new() -> Self {
        Self(vec![0; BITS / 64])
    }

    const fn place(hash: u128) -> (usize, u64) {
        let bit = hash as usize % BITS;
        (bit / 64, 1 << (bit % 64))
    }

    fn add(&mut self, hash: u128) {
        let (word, bit) = Self::place(hash);
        self.0[word] |= bit;
    }

    fn has(&self, hash: u128) -> bool {
        let (word, bit) = Self::place(hash);
        self.0[word] & bit != 0
    }
}

/// The place of a row among those that write its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Writes {
    /// Another one comes later; of which resource, where it is one of another.
    Before(Option<String>),
    /// It stands.
    Last,
}

impl Walker {
    /// Finds out which doubted keys several rows write, unless that is known already or an index forbids it.
    pub(super) async fn find_shared_keys(&self) -> Result<(), Trouble> {
        let name = &self.resource.name;
        let done = format!("writers:{name}");
        let (before, after) = self.rivals();
        let alone = before.is_empty() && after.is_empty();
        if (self.unique_keys && alone) || self.scratch().note(&done)?.is_some() {
            return Ok(());
        }
        let mut doubted = Doubted::new();
        let mut any = false;
        self.scratch().each_suspect(name, |pair| {
            // Place and key, the key as 32 digits.
            let key = pair.rsplit(' ').next();
            if let Some(key) = key.and_then(|key| u128::from_str_radix(key, 16).ok()) {
                doubted.add(key);
                any = true;
            }
        })?;
        if any {
            self.scratch().clear_writers(name)?;
            let others = before.iter().chain(&after).map(|one| one.name.as_str());
            let others: Vec<_> = others.collect();
            let whose = if alone {
                "several of them write one key".to_owned()
            } else {
                format!("rows of {} write the same key", others.join(", "))
            };
            self.context.emit(&report::Event::Notice {
                text: format!("{name}: some keys are missing, or hold something else than their rows; its rows are read once more, to see which row's \
                     content is due where {whose}"),
            });
            for rival in &before {
                self.rows_of(rival, &doubted).await?;
            }
            // Also rows that did not change: of two with one key, such a one may be the last.
            self.add_writers(self, &doubted).await?;
            for rival in &after {
                self.rows_of(rival, &doubted).await?;
            }
            self.scratch().keep_shared_keys(name)?;
        }
        Ok(self.scratch().set_note(&done, "")?)
    }

    /// Returns the other resources whose rows may write its keys: those that write before it, and those after it.
    fn rivals(&self) -> (Vec<Resource>, Vec<Resource>) {
        let plan = &self.context.verify.plan;
        let mine = &self.resource;
        let repair = self.context.verify.repair.as_ref();
        if repair.is_some_and(|repair| repair.catches_up()) {
            // A comparison of everything tells it. To catch up with few rows, nobody reads all of other tables.
            return (Vec::new(), Vec::new());
        }
        // Keys in a column of the source may begin with anything.
        let free = |one: &Resource| {
            let MoreKeys { aliases, mapping } = &one.from.more_keys;
            let mut columns = [aliases, mapping].into_iter().flatten();
            columns.any(|column| !column.optional)
        };
        let is_rival = |one: &&Resource| {
            let keys = mine.keys.as_deref().zip(one.keys.as_deref());
            let may = free(mine)
                || free(one)
                || keys.is_none_or(|(a, b)| a.starts_with(b) || b.starts_with(a));
            one.to == mine.to && one.name != mine.name && may && self.share_an_index(one)
        };
        let at = |name: &ResourceName| plan.resources.iter().position(|one| one.name == *name);
        let rivals = plan.resources.iter().filter(is_rival).cloned();
        rivals.partition(|one| {
            if waits_for(plan, one, mine) {
                return false;
            }
            waits_for(plan, mine, one) || at(&one.name) < at(&mine.name)
        })
    }

    /// Returns whether documents of `other` may lie in an index of this resource; so they do in anything but a search server.
    fn share_an_index(&self, other: &Resource) -> bool {
        let plan = &self.context.verify.plan;
        let Some(TargetConfig::Search(search)) = plan.targets.get(&self.resource.to) else {
            return true;
        };
        let indexes = |of: &ResourceName| search.indexes.get(of).map(Routing::indexes);
        let (Some(mine), Some(theirs)) = (indexes(&self.resource.name), indexes(&other.name))
        else {
            return false;
        };
        let mine: BTreeSet<_> = mine.collect();
        theirs.into_iter().any(|one| mine.contains(one))
    }

    /// Notes the rows of `rival` that write doubted keys.
    async fn rows_of(&self, rival: &Resource, doubted: &Doubted) -> Result<(), Trouble> {
        let verify = &self.context.verify;
        let retry = &verify.plan.defaults.retry;
        let shape = retrying(retry, |_, _| {}, || verify.source.describe(&rival.from)).await?;
        let rival = self.beside(rival, &shape);
        self.add_writers(&rival, doubted).await
    }

    /// Notes the rows of `of` that write doubted keys.
    async fn add_writers(&self, of: &Self, doubted: &Doubted) -> Result<(), Trouble> {
        let verify = &self.context.verify;
        let retry = &verify.plan.defaults.retry;
        let own = of.resource.name == self.resource.name;
        let whole = RowQuery {
            since: None,
            ..of.query.clone()
        };
        let all = || verify.source.partition(&whole, 1);
        for range in retrying(retry, |_, _| {}, all).await? {
            let mut rows = of.read_query(whole.clone(), &range);
            while let Some(filled) = rows.inbox.recv().await {
                let writers: Vec<_> = filled
                    .chunk
                    .rows()
                    .filter(|row| doubted.has(key(row)))
                    .map(|row| Writer {
                        name: self.name(&row),
                        pair: if own {
                            pair(&row)
                        } else {
                            format!("`{}` {}", of.resource.name, pair(&row))
                        },
                        hash: Self::content(&row),
                        own,
                    })
                    .collect();
                let name = &self.resource.name;
                self.scratch().add_writers(name, &writers)?;
                of.done_with(filled);
            }
            rows.ended().await?;
        }
        Ok(())
    }

    /// Returns how a row writes its key where several do so, with different content.
    pub(super) fn writes_shared(&self, row: &Row<'_>) -> Result<Option<Writes>, Trouble> {
        let last = self
            .scratch()
            .last_writer(&self.resource.name, &self.name(row))?;
        Ok(last.map(|last| {
            if last == pair(row) {
                return Writes::Last;
            }
            let other = last
                .strip_prefix('`')
                .and_then(|last| last.split_once("` "));
            Writes::Before(other.map(|(resource, _)| resource.to_owned()))
        }))
    }

    /// Returns a hash of what a row writes to: documents of one key lie in the indexes of their stores.
    fn name(&self, row: &Row<'_>) -> [u8; 16] {
        let plan = &self.context.verify.plan;
        let mut hash = Xxh3::new();
        hash.update(row.key);
        if !matches!(
            plan.targets.get(&self.resource.to),
            Some(TargetConfig::Redis(_))
        ) {
            for column in row.beside() {
                hash.update(b"\0");
                hash.update(column.unwrap_or_default());
            }
        }
        hash.digest128().to_be_bytes()
    }
}

/// Returns whether the rows of `one` are written after those of `other`, as the plan's `after` has it.
fn waits_for(plan: &Plan, one: &Resource, other: &Resource) -> bool {
    // No circle: a plan with one is refused.
    let mut after = one.after.iter();
    after.any(|name| {
        let before = plan.resource(name);
        *name == other.name || before.is_some_and(|before| waits_for(plan, before, other))
    })
}

/// Returns the hash of the key that [`pair`] ends with.
fn key(row: &Row<'_>) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(row.key);
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_forgets_no_key_and_knows_few_others() {
        let hash = |number: u32| {
            let mut hash = Xxh3::new();
            hash.update(&number.to_le_bytes());
            hash.digest128()
        };
        let mut doubted = Doubted::new();
        (0..100_000).for_each(|number| doubted.add(hash(number)));
        assert!((0..100_000).all(|number| doubted.has(hash(number))));
        let others = (100_000..200_000).filter(|number| doubted.has(hash(*number)));
        assert!(others.count() < 2_000, "a filter that filters nothing");
    }
}
