//! Finds what targets hold of the plan's resources although no row owns it, and removes it where that is asked for.
//!
//! ```text
//! list     every name of the target (one SCAN, one scroll)  ->  those that begin as a resource's `keys` say: candidates
//! match    every row of every resource of that target       ->  what it owns is no candidate
//! recheck  the candidates' keys are looked for in the source ->  what has a row by now is no candidate
//! remove   watch 500 names -> look for their keys in the source once more -> remove those without a row, if nobody wrote them
//! ```
//!
//! The target is listed before the source is read: a row that is inserted meanwhile is read, and a key that is written
//! meanwhile was not listed. What is removed was watched before the source was asked, so a row that is inserted and published
//! at any moment keeps its key: either the source shows it, or the write is noticed, or it comes after the removal.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Repair, Trouble, VerifyEnd, walk::pause};
use crate::{
    chunk::SourceRow,
    engine::{
        retry::{Waits, passes, retrying},
        sink::{shown_key, told},
    },
    error::EdgeError,
    failpoint,
    ids::{ResourceName, StoredName},
    plan::{Plan, Resource, RowSource, TargetConfig},
    scratch::Scratch,
    source::{RowQuery, RowSink, ScanError, Source, Stopped},
    target::{Inventory, Target},
};

/// Rows of one query for keys alone.
const PAGE_ROWS: u32 = 5_000;

/// Names that are looked for in the source, and removed, at a time: one statement with as many parameters, one transaction.
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

impl Orphans {
    /// Finds them and notes them as candidates. A resource that the source has no row of is left alone: returns those.
    pub(super) async fn find(&self) -> Result<Vec<ResourceName>, Trouble> {
        let done = format!("orphans:{}", self.name);
        if let Some(empty) = self.scratch.note(&done)? {
            return Ok(empty
                .split('\n')
                .filter(|name| !name.is_empty())
                .map(Into::into)
                .collect());
        }
        let inventory = self.list().await?;
        let mut empty = Vec::new();
        for resource in self.of_target() {
            if self.disown(&*inventory, resource).await? == 0 {
                self.scratch.drop_candidates(&self.name, &resource.name)?;
                empty.push(resource.name.clone());
            }
        }
        for name in &self.wanted {
            let mut after = None;
            loop {
                let names = self
                    .scratch
                    .candidates(&self.name, name, after.as_ref(), NAMES)?;
                let Some(last) = names.last().cloned() else {
                    break;
                };
                let owned = self.owned_now(&*inventory, &names).await?;
                self.scratch.drop_names(&self.name, &owned)?;
                after = Some(last);
            }
            let first =
                self.scratch
                    .candidates(&self.name, name, None, crate::scratch::FIRST_KEYS)?;
            let shown: Vec<_> = first.iter().map(|one| self.shown(one)).collect();
            self.scratch.add_extra(name, &shown)?;
        }
        let text: Vec<_> = empty.iter().map(ResourceName::as_str).collect();
        self.scratch.set_note(&done, &text.join("\n"))?;
        Ok(empty)
    }

    /// Removes the candidates that no row owns now. `told` hears of each chunk: how many names were gone of how many.
    pub async fn remove(
        &self,
        rights: &Repair,
        mut told: impl AsyncFnMut(&ResourceName, u64) -> Result<(), VerifyEnd>,
    ) -> Result<(), VerifyEnd> {
        let mut inventory = self.open().await?;
        for resource in &self.wanted {
            if self.is_without_rows(resource).await? {
                // It had some when they were listed, or nothing of it would be a candidate.
                self.scratch.drop_candidates(&self.name, resource)?;
                continue;
            }
            let mut after = None;
            loop {
                let names = self
                    .scratch
                    .candidates(&self.name, resource, after.as_ref(), NAMES)?;
                let Some(last) = names.last().cloned() else {
                    break;
                };
                after = Some(last);
                let mut groups = self
                    .again(&mut inventory, async |inventory| {
                        inventory.groups(names.clone()).await
                    })
                    .await?;
                while let Some(group) = groups.pop() {
                    failpoint::hit("before_prune")
                        .map_err(|error| crate::engine::copy::fail_point(&error))?;
                    rights.ensure(&self.name).await?;
                    let removed = self
                        .again(&mut inventory, async |inventory| {
                            self.remove_group(inventory, &group).await
                        })
                        .await?;
                    match removed {
                        Some(count) => {
                            self.scratch.drop_names(&self.name, &group)?;
                            told(resource, count).await?;
                        }
                        // Somebody writes one of them: the others go without it.
                        None if group.len() > 1 => {
                            let (one, other) = group.split_at(group.len() / 2);
                            groups.push(one.to_vec());
                            groups.push(other.to_vec());
                        }
                        None => self.scratch.drop_names(&self.name, &group)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns whether the source has no row of `name`: then something happened to the source.
    async fn is_without_rows(&self, name: &ResourceName) -> Result<bool, Trouble> {
        let Some(resource) = self.plan.resource(name) else {
            return Ok(true);
        };
        let query = RowQuery {
            from: every_row(&resource.from),
            ids: None,
        };
        let retry = &self.plan.defaults.retry;
        let ranges = retrying(retry, |_, _| {}, || self.source.partition(&query, 1)).await?;
        Ok(ranges.is_empty())
    }

    /// Watches the names, looks for their rows, and removes those without one.
    async fn remove_group(
        &self,
        inventory: &mut dyn Inventory,
        group: &[StoredName],
    ) -> Result<Option<u64>, EdgeError> {
        inventory.watch(group).await?;
        let owned = if failpoint::mutant("prune_unchecked") {
            // A deliberate defect: what had no row when it was listed has none for ever.
            Vec::new()
        } else {
            self.rows_of(inventory, group).await?
        };
        failpoint::hit("before_remove").map_err(|error| crate::engine::copy::fail_point(&error))?;
        let owned: BTreeSet<_> = owned.into_iter().collect();
        let gone: Vec<_> = group
            .iter()
            .filter(|name| !owned.contains(*name))
            .cloned()
            .collect();
        if gone.is_empty() {
            return Ok(Some(0));
        }
        inventory.remove(&gone).await
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
            let Some(wait) = waits.next().filter(|_| passes(&error)) else {
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
                if let Some(owner) = wanted.iter().find(|one| could_own(one, &name.key)) {
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
                crate::error::ErrorKind::Refused,
                format!("{} cannot be listed", self.target.place()),
            )),
        }
    }

    fn of_target(&self) -> impl Iterator<Item = &Resource> {
        self.plan.resources.iter().filter(|one| one.to == self.name)
    }

    /// Takes what the rows of `resource` own from the candidates; returns how many rows there are.
    async fn disown(&self, inventory: &dyn Inventory, resource: &Resource) -> Result<u64, Trouble> {
        let query = RowQuery {
            from: every_row(&resource.from),
            ids: None,
        };
        let mut waits = Waits::new(&self.plan.defaults.retry);
        let mut stop = self.stop.clone();
        loop {
            let mut sink = OwnedNames::new(self, inventory, &resource.name);
            let scanned = tokio::select! {
                biased;
                () = told(&mut stop) => return Err(Trouble::Stopped),
                scanned = scan(&*self.source, &query, &mut sink) => scanned,
            };
            if let Some(error) = sink.failed {
                return Err(error);
            }
            let error = match scanned {
                Ok(()) => return Ok(sink.rows),
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| passes(&error)) else {
                return Err(error.into());
            };
            pause(&mut stop, wait).await?;
        }
    }

    /// As [`Self::rows_of`], again and again while errors pass by themselves.
    async fn owned_now(
        &self,
        inventory: &dyn Inventory,
        names: &[StoredName],
    ) -> Result<Vec<StoredName>, Trouble> {
        let mut waits = Waits::new(&self.plan.defaults.retry);
        let mut stop = self.stop.clone();
        loop {
            let error = match self.rows_of(inventory, names).await {
                Ok(owned) => return Ok(owned),
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| passes(&error)) else {
                return Err(error.into());
            };
            pause(&mut stop, wait).await?;
        }
    }

    /// Returns those of `names` that a row of the target's resources owns now.
    async fn rows_of(
        &self,
        inventory: &dyn Inventory,
        names: &[StoredName],
    ) -> Result<Vec<StoredName>, EdgeError> {
        let mut owned = Vec::new();
        for resource in self.of_target() {
            let mut keys = Vec::new();
            for name in names
                .iter()
                .filter(|name| could_own_at_all(resource, &name.key))
            {
                match std::str::from_utf8(&name.key) {
                    // In a binary column it would be read as hexadecimal.
                    Ok(key) if !key.starts_with("0x") => keys.push(key.to_owned()),
                    // It cannot be looked for, so it is not removed.
                    _ => owned.push(name.clone()),
                }
            }
            if keys.is_empty() {
                continue;
            }
            keys.sort();
            keys.dedup();
            let query = RowQuery {
                from: RowSource {
                    entity: Some(resource.from.key.clone()),
                    ..every_row(&resource.from)
                },
                ids: Some(keys),
            };
            let mut sink = FoundNames {
                inventory,
                resource: &resource.name,
                found: Vec::new(),
            };
            scan(&*self.source, &query, &mut sink).await?;
            owned.append(&mut sink.found);
        }
        Ok(owned)
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
            let Some(wait) = waits.next().filter(|_| passes(&error)) else {
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

/// Returns whether `key` is one that only a row of `resource` can own.
fn could_own(resource: &Resource, key: &[u8]) -> bool {
    resource
        .keys
        .as_ref()
        .is_some_and(|begin| key.starts_with(begin.as_bytes()))
}

/// Returns whether a row of `resource` may have the key `key`.
fn could_own_at_all(resource: &Resource, key: &[u8]) -> bool {
    resource.keys.is_none() || could_own(resource, key)
}

/// A row owns its key also where a condition of the plan leaves it out.
fn every_row(from: &RowSource) -> RowSource {
    RowSource {
        condition: None,
        ..from.clone()
    }
}

/// Reads the rows of `query` that are there now.
async fn scan(
    source: &dyn Source,
    query: &RowQuery,
    sink: &mut dyn RowSink,
) -> Result<(), EdgeError> {
    for range in source.partition(query, 1).await? {
        match source.scan(query, &range, sink).await {
            Ok(()) | Err(ScanError::Stopped) => {}
            Err(ScanError::Source(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Takes what rows own from the candidates. Values are not read.
struct OwnedNames<'a> {
    orphans: &'a Orphans,
    inventory: &'a dyn Inventory,
    resource: &'a ResourceName,
    names: Vec<StoredName>,
    rows: u64,
    failed: Option<Trouble>,
}

impl<'a> OwnedNames<'a> {
    fn new(orphans: &'a Orphans, inventory: &'a dyn Inventory, resource: &'a ResourceName) -> Self {
        Self {
            orphans,
            inventory,
            resource,
            names: Vec::new(),
            rows: 0,
            failed: None,
        }
    }
}

#[async_trait]
impl RowSink for OwnedNames<'_> {
    fn page_rows(&self) -> u32 {
        PAGE_ROWS
    }

    fn row_bytes(&self) -> u64 {
        0
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        self.rows += 1;
        if let Some(key) = row.key {
            self.names
                .extend(self.inventory.owned(self.resource, key, row.beside));
        }
        self.names.len() >= PAGE_ROWS as usize
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        let names = std::mem::take(&mut self.names);
        self.orphans
            .scratch
            .drop_names(&self.orphans.name, &names)
            .map_err(|error| {
                self.failed = Some(error.into());
                Stopped
            })
    }
}

/// Keeps what rows own. Values are not read.
struct FoundNames<'a> {
    inventory: &'a dyn Inventory,
    resource: &'a ResourceName,
    found: Vec<StoredName>,
}

#[async_trait]
impl RowSink for FoundNames<'_> {
    fn page_rows(&self) -> u32 {
        PAGE_ROWS
    }

    fn row_bytes(&self) -> u64 {
        0
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        if let Some(key) = row.key {
            self.found
                .extend(self.inventory.owned(self.resource, key, row.beside));
        }
        false
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}
