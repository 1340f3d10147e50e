//! Finds what targets hold of the plan's resources although no row owns it, and removes it where that is asked for.
//!
//! ```text
//! list     every name of the target (one SCAN, one scroll)  ->  those that begin as a resource's `keys` say: candidates
//! match    every row that may own names of that target      ->  what it owns is no candidate, further keys included
//! recheck  the candidates are looked for in source and target ->  what has a row by now, or is gone, is no candidate
//! remove   watch 500 names -> look for their rows once more -> remove those without a row, if nobody wrote them
//! ```
//!
//! The target is listed before the source is read: a row that is inserted meanwhile is read, and a key that is written
//! meanwhile was not listed. What is removed was watched before the source was asked, so a row that is inserted and published
//! at any moment keeps its key: either the source shows it, or the write is noticed, or it comes after the removal.
//!
//! Rows may own more names than the one in their `key` column, and those of other resources and targets may own names here,
//! too (`owners`). Where a row does not tell which keys it owns, nothing is taken for an orphan that could be one of them.

mod lookup;
mod owners;
mod prune;
mod scan;

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use self::owners::Owner;
use super::{Trouble, walk::pause};
use crate::{
    engine::{
        retry::{Waits, is_tried_again},
        sink::{shown_key, told},
    },
    error::{EdgeError, ErrorKind},
    ids::{ResourceName, StoredName},
    plan::{Plan, Resource, TargetConfig},
    report::human::counted,
    scratch::{FIRST_KEYS, Scratch},
    source::Source,
    target::{Inventory, Target},
};

/// Names that are looked for in the source at a time: one statement with as many parameters.
const NAMES: usize = 500;

/// The orphans of one target.
pub struct Orphans {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The target's name.
    pub name: String,
    /// The target.
    pub target: Arc<dyn Target>,
    /// The source.
    pub source: Arc<dyn Source>,
    /// Where candidates are noted.
    pub scratch: Arc<Scratch>,
    /// The resources whose orphans are looked for.
    pub wanted: Vec<ResourceName>,
    /// Becomes true when it is to stop.
    pub stop: watch::Receiver<bool>,
}

/// Why nothing of some resources is taken for an orphan.
pub(super) type Unlisted = BTreeMap<ResourceName, String>;

impl Orphans {
    /// Finds them and notes them as candidates. Returns the resources that are left alone, and why.
    pub(super) async fn find(&self) -> Result<Unlisted, Trouble> {
        if self.wanted.is_empty() {
            return Ok(Unlisted::new());
        }
        let done = format!("orphans:{}", self.name);
        if let Some(text) = self.scratch.note(&done)? {
            // Written by ourselves.
            return Ok(serde_json::from_str(&text).unwrap_or_default());
        }
        let owners = self.owners().await?;
        let mut inventory = self.list().await?;
        let mut unlisted = Unlisted::new();
        for owner in &owners {
            self.disown(&*inventory, owner, &mut unlisted).await?;
        }
        for name in self.wanted.iter().filter(|one| unlisted.contains_key(*one)) {
            self.scratch.drop_candidates(&self.name, name)?;
        }
        // Rows that came meanwhile, or were given another place in the order.
        let left = self.keys_left()?;
        let again = |one: &&Owner| one.is_walked && left.iter().any(|keys| one.may_hide(keys));
        for owner in owners.iter().filter(again) {
            self.disown(&*inventory, owner, &mut unlisted).await?;
        }
        for name in &self.wanted {
            if unlisted.contains_key(name) {
                self.scratch.drop_candidates(&self.name, name)?;
            }
            self.recheck(&mut inventory, &owners, name).await?;
            let first = self
                .scratch
                .candidates(&self.name, name, None, FIRST_KEYS)?;
            let shown: Vec<_> = first.iter().map(|one| self.shown(one)).collect();
            self.scratch.add_extra(name, &shown)?;
        }
        // Strings only: nothing that cannot be written.
        let text = serde_json::to_string(&unlisted).unwrap_or_default();
        self.scratch.set_note(&done, &text)?;
        Ok(unlisted)
    }

    /// Returns how many candidates there are.
    ///
    /// # Errors
    ///
    /// The scratch file cannot be read.
    pub fn left(&self) -> Result<u64, crate::scratch::ScratchError> {
        let mut left = 0;
        for name in &self.wanted {
            left += self.scratch.candidate_count(&self.name, name)?;
        }
        Ok(left)
    }

    /// Returns what the keys of those resources begin with that have candidates.
    fn keys_left(&self) -> Result<Vec<&str>, Trouble> {
        let mut keys = Vec::new();
        for name in &self.wanted {
            if self.scratch.candidate_count(&self.name, name)? > 0 {
                let resource = self.plan.resource(name);
                keys.extend(resource.and_then(|one| one.keys.as_deref()));
            }
        }
        Ok(keys)
    }

    /// Takes the candidates of a resource that have a row by now, or are gone from the target, from the list.
    async fn recheck(
        &self,
        inventory: &mut Box<dyn Inventory>,
        owners: &[Owner],
        name: &ResourceName,
    ) -> Result<(), Trouble> {
        let mut after = None;
        loop {
            let names = self
                .scratch
                .candidates(&self.name, name, after.as_ref(), NAMES)?;
            let Some(last) = names.last().cloned() else {
                return Ok(());
            };
            after = Some(last);
            let mut waits = Waits::new(&self.plan.defaults.retry);
            let none = loop {
                let error = match self.no_orphans(&mut **inventory, owners, &names).await {
                    Ok(none) => break none,
                    Err(error) => error,
                };
                let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                    return Err(error.into());
                };
                pause(&mut self.stop.clone(), wait).await?;
                *inventory = self.open().await?;
            };
            self.scratch.drop_names(&self.name, &none)?;
        }
    }

    /// Returns those of `names` that a row owns now, as far as it can be looked for by its key, or that are gone.
    async fn no_orphans(
        &self,
        inventory: &mut dyn Inventory,
        owners: &[Owner],
        names: &[StoredName],
    ) -> Result<Vec<StoredName>, EdgeError> {
        let mut none = Vec::new();
        for owner in owners.iter().filter(|one| !one.is_walked) {
            // What cannot be looked for has no row either.
            none.append(&mut self.looked_up(inventory, owner, names).await?.owned);
        }
        for group in inventory.groups(names.to_vec()).await? {
            none.append(&mut inventory.gone(&group).await?);
        }
        Ok(none)
    }

    /// Returns whose rows may own names of the target.
    async fn owners(&self) -> Result<Vec<Owner>, Trouble> {
        let mut waits = Waits::new(&self.plan.defaults.retry);
        loop {
            let error = match Owner::all(&self.plan, &self.name, &*self.source).await {
                Ok(owners) => return Ok(owners),
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                return Err(error.into());
            };
            pause(&mut self.stop.clone(), wait).await?;
        }
    }

    /// Takes what the rows of `owner` own from the candidates, and notes whose candidates cannot be told from what they may
    /// own.
    async fn disown(
        &self,
        inventory: &dyn Inventory,
        owner: &Owner,
        unlisted: &mut Unlisted,
    ) -> Result<(), Trouble> {
        let mut take = |names: &[StoredName]| self.scratch.drop_names(&self.name, names);
        let read = self.walk(inventory, owner, &mut take).await?;
        let name = &owner.resource.name;
        if read.rows == 0 && owner.is_own() && self.wanted.contains(name) {
            let why = "the source has no row of it, so nothing is taken for an orphan";
            unlisted
                .entry(name.clone())
                .or_insert_with(|| why.to_owned());
        }
        if let (Some(keys), Some(other)) = (&owner.resource.keys, &read.other) {
            let key = shown_key(other);
            for wanted in &self.wanted {
                let why = if wanted == name {
                    format!(
                        "`keys: \"{keys}\"` is not what all its keys begin with: a row has `{key}`"
                    )
                } else {
                    format!(
                        "`keys: \"{keys}\"` of `{name}` is not what all keys of that begin with: a row has `{key}`, and what \
                         else its rows may own cannot be told from orphans"
                    )
                };
                unlisted.entry(wanted.clone()).or_insert(why);
            }
        }
        let why = if read.unknown > 0 && owner.lacks_aliases {
            format!(
                "the shop makes further keys of each row of `{name}`, and `{}` has no column `{}` that tells which; those \
                 cannot be told from orphans",
                owner.from.table,
                owner.alias_column(),
            )
        } else if read.unknown > 0 {
            format!(
                "which further keys {} of `{name}` may own is not known (`{}` is empty or cannot be read), and those cannot be \
                 told from orphans",
                counted(read.unknown, "row"),
                owner.alias_column(),
            )
        } else if owner.resource.hides_keys() {
            format!(
                "the plan leaves out further keys of `{name}` (`none`), and those cannot be told from orphans"
            )
        } else {
            return Ok(());
        };
        for wanted in &self.wanted {
            let keys = self
                .plan
                .resource(wanted)
                .and_then(|one| one.keys.as_deref());
            if wanted == name || keys.is_none_or(|keys| owner.may_hide(keys)) {
                unlisted
                    .entry(wanted.clone())
                    .or_insert_with(|| why.clone());
            }
        }
        Ok(())
    }

    /// Lists the target and notes every candidate.
    async fn list(&self) -> Result<Box<dyn Inventory>, Trouble> {
        let mut waits = Waits::new(&self.plan.defaults.retry);
        let mut stop = self.stop.clone();
        loop {
            let listed = tokio::select! {
                biased;
                () = told(&mut stop) => return Err(Trouble::Stopped),
                listed = self.try_list() => listed,
            };
            let error = match listed {
                Ok(inventory) => return Ok(inventory),
                Err(Trouble::Edge(error)) => error,
                Err(other) => return Err(other),
            };
            let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                return Err(error.into());
            };
            pause(&mut stop, wait).await?;
        }
    }

    async fn try_list(&self) -> Result<Box<dyn Inventory>, Trouble> {
        self.scratch.clear_candidates(&self.name)?;
        let mut inventory = self.open().await?;
        let wanted: Vec<&Resource> = self
            .of_target()
            .filter(|one| self.wanted.contains(&one.name))
            .collect();
        while let Some(names) = inventory.next().await? {
            let mut of: BTreeMap<&ResourceName, Vec<StoredName>> = BTreeMap::new();
            for name in names {
                if let Some(owner) = wanted.iter().find(|one| begins(one, &name.key)) {
                    of.entry(&owner.name).or_default().push(name);
                }
            }
            for (resource, names) in of {
                self.scratch.add_candidates(&self.name, resource, &names)?;
            }
        }
        Ok(inventory)
    }

    async fn open(&self) -> Result<Box<dyn Inventory>, EdgeError> {
        let names: Vec<_> = self.of_target().map(|one| one.name.clone()).collect();
        match self.target.inventory(&names).await? {
            Some(inventory) => Ok(inventory),
            None => Err(EdgeError::new(
                ErrorKind::Refused,
                format!("{} cannot be listed", self.target.place()),
            )),
        }
    }

    fn of_target(&self) -> impl Iterator<Item = &Resource> {
        self.plan.resources.iter().filter(|one| one.to == self.name)
    }

    /// Does `work` again and again, with a fresh inventory, while its errors pass by themselves.
    async fn again<T>(
        &self,
        inventory: &mut Box<dyn Inventory>,
        mut work: impl AsyncFnMut(&mut dyn Inventory) -> Result<T, EdgeError>,
    ) -> Result<T, Trouble> {
        let mut waits = Waits::new(&self.plan.defaults.retry);
        let mut stop = self.stop.clone();
        loop {
            if *stop.borrow() {
                return Err(Trouble::Stopped);
            }
            let error = match work(&mut **inventory).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                return Err(error.into());
            };
            pause(&mut stop, wait).await?;
            *inventory = self.open().await?;
        }
    }

    /// Returns a name as it is in the target, for people.
    fn shown(&self, name: &StoredName) -> String {
        let key = shown_key(&name.key);
        match self.plan.targets.get(&self.name) {
            Some(TargetConfig::Redis(redis)) => format!("{}{key}", redis.prefix),
            _ => format!("{}/{key}", name.place),
        }
    }
}

/// Returns whether `key` begins as all keys of `resource` do, and no others.
fn begins(resource: &Resource, key: &[u8]) -> bool {
    let keys = resource.keys.as_ref();
    keys.is_some_and(|begin| key.starts_with(begin.as_bytes()))
}
