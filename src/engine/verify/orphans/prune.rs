//! Removes what no row owns.

use std::{collections::BTreeSet, time::Duration};

use super::{NAMES, Orphans, owners::Owner};
use crate::{
    engine::{
        retry::retrying,
        verify::{Repair, Trouble, VerifyEnd, walk::pause},
    },
    error::EdgeError,
    failpoint,
    ids::{ResourceName, StoredName},
    source::RowQuery,
    target::Inventory,
};

/// Names that are watched while all rows are read for them: a server goes through those it has for each one more, so that
/// twice as many cost it four times the work (a few milliseconds for these).
const WALKED_NAMES: usize = 2_000;

/// What became of a group of names.
struct Removed {
    /// How many were removed.
    count: u64,
    /// Those that stay because the source cannot look for them.
    odd: BTreeSet<StoredName>,
}

/// What is known of names before they are removed.
#[derive(Default)]
struct Owned {
    /// Those that a row may own.
    names: BTreeSet<StoredName>,
    /// Those that the source cannot look for.
    odd: BTreeSet<StoredName>,
}

/// How often a name that somebody writes is looked at before it stays.
const LOOKS: u32 = 6;

/// The wait before that.
const PAUSE: Duration = Duration::from_millis(500);

impl Orphans {
    /// Removes the candidates that no row owns now. `told` hears of each chunk: how many names were gone of how many. What
    /// turns out to have a row is no candidate any more.
    pub async fn remove(
        &self,
        rights: &Repair,
        mut told: impl AsyncFnMut(&ResourceName, u64) -> Result<(), VerifyEnd>,
    ) -> Result<(), VerifyEnd> {
        if self.left()? == 0 {
            return Ok(());
        }
        let owners = self.owners().await?;
        let most = if owners.iter().any(|one| one.is_walked) {
            WALKED_NAMES
        } else {
            NAMES
        };
        let mut inventory = self.open().await?;
        for resource in &self.wanted {
            if self.scratch.candidate_count(&self.name, resource)? == 0 {
                continue;
            }
            if self.is_without_rows(&owners, resource).await? {
                // It had some when they were listed, or nothing of it would be a candidate.
                self.scratch.drop_candidates(&self.name, resource)?;
                continue;
            }
            let mut after = None;
            loop {
                let names = self
                    .scratch
                    .candidates(&self.name, resource, after.as_ref(), most)?;
                let Some(last) = names.last().cloned() else {
                    break;
                };
                after = Some(last);
                let groups = self
                    .again(&mut inventory, async |inventory| {
                        inventory.groups(names.clone()).await
                    })
                    .await?;
                for group in groups {
                    self.remove_all(rights, &owners, &mut inventory, group, async |count| {
                        told(resource, count).await
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }

    /// Removes the names of a group; those that somebody writes are tried again, by themselves at last.
    async fn remove_all(
        &self,
        rights: &Repair,
        owners: &[Owner],
        inventory: &mut Box<dyn Inventory>,
        group: Vec<StoredName>,
        mut told: impl AsyncFnMut(u64) -> Result<(), VerifyEnd>,
    ) -> Result<(), VerifyEnd> {
        let mut left = vec![(group, 1)];
        while let Some((group, look)) = left.pop() {
            failpoint::hit("before_prune")
                .map_err(|error| crate::engine::copy::fail_point(&error))?;
            rights.ensure(&self.name).await?;
            let removed = self
                .again(inventory, async |inventory| {
                    self.remove_group(rights, owners, inventory, &group).await
                })
                .await?;
            match removed {
                Some(Removed { count, odd }) => {
                    let settled: Vec<_> =
                        group.into_iter().filter(|one| !odd.contains(one)).collect();
                    self.scratch.drop_names(&self.name, &settled)?;
                    told(count).await?;
                }
                None if group.len() > 1 => {
                    let (one, other) = group.split_at(group.len() / 2);
                    left.push((one.to_vec(), look));
                    left.push((other.to_vec(), look));
                }
                None if look < LOOKS => {
                    // What a shop publishes has its row already: only what has none is waited for.
                    if look > 1 {
                        pause(&mut self.stop.clone(), PAUSE).await?;
                    }
                    left.push((group, look + 1));
                }
                // Somebody writes it again and again, and no row shows it: it stays, and is counted.
                None => {}
            }
        }
        Ok(())
    }

    /// Returns whether the source has no row of `name`: then something happened to the source.
    async fn is_without_rows(
        &self,
        owners: &[Owner],
        name: &ResourceName,
    ) -> Result<bool, Trouble> {
        let Some(owner) = owners.iter().find(|one| one.resource.name == *name) else {
            return Ok(true);
        };
        let query = RowQuery {
            since: None,
            from: owner.from.clone(),
            ids: None,
        };
        let retry = &self.plan.defaults.retry;
        let ranges = retrying(retry, |_, _| {}, || self.source.partition(&query, 1)).await?;
        Ok(ranges.is_empty())
    }

    /// Watches the names, looks for their rows, and removes those without one.
    async fn remove_group(
        &self,
        rights: &Repair,
        owners: &[Owner],
        inventory: &mut dyn Inventory,
        group: &[StoredName],
    ) -> Result<Option<Removed>, EdgeError> {
        inventory.watch(group).await?;
        let owned = if failpoint::mutant("prune_unchecked") {
            // A deliberate defect: what had no row when it was listed has none for ever.
            Some(Owned::default())
        } else {
            self.owned_now(owners, inventory, group).await?
        };
        let Some(Owned { names, odd }) = owned else {
            return Ok(None);
        };
        failpoint::hit("before_remove").map_err(|error| crate::engine::copy::fail_point(&error))?;
        // Reading all rows may have taken longer than a lease lasts.
        rights.ensure(&self.name).await?;
        let gone: Vec<_> = group
            .iter()
            // What cannot be looked for stays: nothing is removed on a guess.
            .filter(|name| !names.contains(*name) && !odd.contains(*name))
            .cloned()
            .collect();
        let count = match gone.as_slice() {
            [] => Some(0),
            gone => inventory.remove(gone).await?,
        };
        Ok(count.map(|count| Removed { count, odd }))
    }

    /// Returns those of `names` that a row may own now: all of them where rows do not tell what they own. `None` where it was
    /// told to stop.
    async fn owned_now(
        &self,
        owners: &[Owner],
        inventory: &dyn Inventory,
        names: &[StoredName],
    ) -> Result<Option<Owned>, EdgeError> {
        let mut odd = BTreeSet::new();
        let mut owned = BTreeSet::new();
        for owner in owners {
            let mine: BTreeSet<_> = names
                .iter()
                .filter(|name| owner.wanted(name).is_some())
                .collect();
            if mine.is_empty() {
                continue;
            }
            if !owner.is_walked {
                let looked_up = self.looked_up(inventory, owner, names).await?;
                owned.extend(looked_up.owned);
                odd.extend(looked_up.odd);
                continue;
            }
            let mut take = |found: &[StoredName]| {
                owned.extend(found.iter().filter(|name| mine.contains(name)).cloned());
                Ok(())
            };
            let read = match self.walk(inventory, owner, &mut take).await {
                Ok(read) => read,
                Err(Trouble::Edge(error)) => return Err(error),
                Err(Trouble::Stopped | Trouble::Scratch(_)) => return Ok(None),
            };
            if read.unknown > 0 {
                owned.extend(mine.into_iter().cloned());
            }
        }
        odd.retain(|name| !owned.contains(name));
        Ok(Some(Owned { names: owned, odd }))
    }
}
