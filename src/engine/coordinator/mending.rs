//! Broken rows that went to their publisher one by one: which, and what is read again afterwards. Their dead letters say so
//! until the end, by the places of the rows and by the entities they belong to.

use super::Coordinator;
use crate::{
    engine::{book::BookError, handover::letters_query, preflight::row_query},
    error::ErrorKind,
    fallback,
    ids::{PartitionId, ResourceName},
    journal::{LetterPlace, WhichLetters},
    machine::{FallbackEvent, HandoverScope, ResourceEvent, ResourceState},
    plan::Resource,
    report,
    source::{MOST_PLACES, RowQuery},
};

/// Most dead letters of one resource whose rows are read again: their places are one list in a query, their entities
/// another one.
const MOST_MENDED: u32 = 10_000;

/// What a dead letter says whose row is still broken afterwards.
pub(super) const STILL: &str = "; also after its publisher was called";

impl Coordinator {
    /// Hands the broken rows of a resource that is read to its end to its publisher. Returns whether there were any.
    pub(super) async fn mends(&mut self, name: &ResourceName) -> Result<bool, BookError> {
        let Some(resource) = self.plan.resource(name) else {
            return Ok(false);
        };
        let fresh = self
            .book
            .resource(name)
            .is_some_and(|ledger| ledger.fallback.handover.is_none() && ledger.totals().2 > 0);
        let Some(config) = resource.fallback.as_ref().filter(|_| fresh) else {
            return Ok(false);
        };
        let most = if resource.from.cursor.len() > 1 {
            MOST_PLACES
        } else {
            MOST_MENDED as usize
        };
        let broken = self
            .all_letters(name, Some(ErrorKind::RowBroken))
            .await?
            .len();
        let all = self.all_letters(name, None).await?;
        let lacks = if broken == 0 {
            return Ok(false);
        } else if resource.from.entity.is_none() {
            "`from.entity` is not named"
        } else if !config.of_rows {
            "`from.entity` names other ids than it takes"
        } else if all.len() > most {
            "there are too many of them"
        } else {
            let why = format!("{broken} of its rows are broken");
            self.begin(name, HandoverScope::Rows, why, broken as u64)
                .await?;
            return Ok(true);
        };
        let text = format!("{name}: broken rows do not go to the publisher: {lacks}");
        self.emit(&report::Event::Notice { text });
        Ok(false)
    }

    /// Returns the next dead letters of a resource after number `after`, as many as go into one call.
    pub(super) async fn letters(
        &self,
        name: &ResourceName,
        kind: Option<ErrorKind>,
        after: i64,
    ) -> Result<Vec<LetterPlace>, BookError> {
        self.letters_of(name, kind, after, fallback::IDS_PER_CALL)
            .await
    }

    /// Returns the dead letters of a resource, one more than may be mended at most.
    async fn all_letters(
        &self,
        name: &ResourceName,
        kind: Option<ErrorKind>,
    ) -> Result<Vec<LetterPlace>, BookError> {
        self.letters_of(name, kind, 0, MOST_MENDED + 1).await
    }

    pub(super) async fn letters_of(
        &self,
        name: &ResourceName,
        kind: Option<ErrorKind>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<LetterPlace>, BookError> {
        let which = WhichLetters {
            run: self.book.run_id().clone(),
            resource: name.clone(),
            kind,
            // Not those of rows that were read again already: it is theirs to say what is read.
            before: self.handover(name).and_then(|had| had.bound),
            after,
            limit,
        };
        Ok(self.book.journal().dead_letters(which).await?)
    }

    /// Loads the places and entities of rows that are read again, where they are not known yet.
    pub(super) async fn load_mends(&mut self) -> Result<(), BookError> {
        let due: Vec<ResourceName> = self
            .book
            .resources()
            .iter()
            .filter(|one| one.fallback.is_of_rows() && !self.mends.contains_key(&one.name))
            .filter(|one| {
                matches!(
                    one.state,
                    ResourceState::Draining | ResourceState::Comparing
                )
            })
            .map(|one| one.name.clone())
            .collect();
        for name in due {
            let all = self.all_letters(&name, None).await?;
            let broken = self.all_letters(&name, Some(ErrorKind::RowBroken)).await?;
            let places = all.iter().map(|one| one.place.exact());
            // Of these the publisher was called: whatever became of their rows, they have this in common.
            let entities = broken.into_iter().filter_map(|one| one.entity);
            let kept = self.handover(&name).and_then(|had| had.entities.clone());
            let kept = kept.into_iter().flatten();
            let mut found: Vec<String> = places.chain(entities).chain(kept).collect();
            found.sort_unstable();
            found.dedup();
            self.mends.insert(name, found);
        }
        Ok(())
    }

    /// Returns what a walk of `partition` reads.
    pub(super) fn walk_query(
        &self,
        resource: &Resource,
        partition: PartitionId,
    ) -> Option<RowQuery> {
        let run = self.book.run().ok()?;
        let again = run
            .resource(&resource.name)?
            .fallback
            .reads_again(partition);
        Some(if again {
            letters_query(&resource.from, self.mends.get(&resource.name)?.clone())
        } else {
            row_query(resource, &run.scope)
        })
    }

    /// Returns the rows that are compared after the publisher did its work.
    pub(super) fn compared(&self, resource: &Resource) -> Option<RowQuery> {
        let run = self.book.run().ok()?;
        if !run.resource(&resource.name)?.fallback.is_of_rows() {
            return Some(row_query(resource, &run.scope));
        }
        let places = self.mends.get(&resource.name)?.clone();
        Some(letters_query(&resource.from, places))
    }

    /// Ends the comparison of a resource whose last row is compared.
    pub(super) async fn finish_compared(&mut self, name: &ResourceName) -> Result<(), BookError> {
        let of_rows = self
            .book
            .resource(name)
            .is_some_and(|one| one.fallback.is_of_rows());
        if of_rows {
            let query = self.plan.resource(name).and_then(|one| self.compared(one));
            self.mended.extend(query.map(|query| (name.clone(), query)));
            self.mends.remove(name);
            return self.fell(name, FallbackEvent::Mended).await;
        }
        self.book
            .resource_moved(name, ResourceEvent::Compared)
            .await
    }
}
