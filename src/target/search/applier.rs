//! Carries out what messages say: documents stored and taken away, by one `_bulk` for many.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use elasticsearch::http::Method;

use super::{
    Shared,
    answer::{Bulk, Cause, Verdict},
    node::Request,
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::ResourceName,
    plan::Routing,
    target::{
        Applier, Change, Rejected,
        bulk::{self, Lines},
    },
};

/// What is asked of an answer: a status for each action, in their order, and why for those that did not pass.
const PARTS: &str = "items.*.status,items.*.error.type,items.*.error.reason";

/// Most bytes of one request, unless a single document is larger.
const BYTES: usize = 4 << 20;

/// Applies changes to the indexes of a cluster.
pub(super) struct SearchApplier {
    shared: Arc<Shared>,
    lines: BTreeMap<ResourceName, Lines>,
}

impl SearchApplier {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            lines: BTreeMap::new(),
        }
    }

    /// Makes sure that the indexes of `resource` are there: a load into one that is not would create it, with a mapping that
    /// is guessed.
    async fn ready(&mut self, resource: &ResourceName) -> Result<(), EdgeError> {
        self.shared.incarnation(resource).await?;
        if !self.lines.contains_key(resource) {
            let routing = match self.shared.routing(resource)? {
                // A message says its store, whether the table has a column for it or not.
                Routing::ByStore { indexes, .. } => Routing::ByStore {
                    column: true,
                    indexes: indexes.clone(),
                },
                one @ Routing::One(_) => one.clone(),
            };
            self.lines.insert(resource.clone(), Lines::new(&routing));
        }
        Ok(())
    }

    /// Sends `body`, whose actions are of the changes at `rows`.
    async fn send(
        &self,
        body: Vec<u8>,
        rows: &[usize],
        changes: &[Change],
        rejected: &mut BTreeMap<usize, String>,
    ) -> Result<(), EdgeError> {
        let cluster = &self.shared.cluster;
        let query = [("filter_path", PARTS)];
        let request = Request::new(Method::Post, "/_bulk")
            .query(&query)
            .documents(body.into());
        let answer = cluster.send(request).await?;
        if !answer.is_success() {
            return Err(answer.refusal(&cluster.place, "a load of documents"));
        }
        let bulk = answer.json::<Bulk<'_>>(&cluster.place)?;
        if bulk.items.len() != rows.len() {
            return Err(EdgeError::new(
                ErrorKind::Timeout,
                format!(
                    "{} answered for {} of {} documents",
                    cluster.place,
                    bulk.items.len(),
                    rows.len()
                ),
            ));
        }
        for (item, row) in bulk.items.iter().zip(rows) {
            let outcome = &item.index;
            let gone = changes[*row].value.is_none() && outcome.status == 404;
            if (200..300).contains(&outcome.status) || gone && outcome.error.is_none() {
                continue;
            }
            let cause = outcome.error.as_ref();
            match Verdict::of(outcome.status, cause.unwrap_or(&Cause::default())) {
                Verdict::Rejected(reason) => {
                    rejected.entry(*row).or_insert(reason);
                }
                // All of them again: doing them twice leaves the same content.
                Verdict::Trouble(kind, why) => {
                    return Err(EdgeError::new(kind, format!("{} {why}", cluster.place)));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Applier for SearchApplier {
    async fn apply(&mut self, changes: &[Change]) -> Result<Vec<Rejected>, EdgeError> {
        let mut resources: Vec<_> = changes.iter().map(|one| &one.resource).collect();
        resources.dedup();
        for resource in resources {
            self.ready(resource).await?;
        }
        let mut rejected = BTreeMap::new();
        let (mut body, mut rows) = (Vec::new(), Vec::new());
        for (row, change) in changes.iter().enumerate() {
            let Some(lines) = self.lines.get(&change.resource) else {
                continue;
            };
            let value = change.value.as_deref();
            let places = bulk::sound(change.key.as_bytes(), value.unwrap_or(b"{}"))
                .map_err(Into::into)
                .and_then(|()| lines.places(change.store.as_deref().map(str::as_bytes)));
            let places = match places {
                Ok(places) => places,
                Err(reason) => {
                    rejected.insert(row, reason.into_owned());
                    continue;
                }
            };
            for place in places {
                match value {
                    Some(value) => lines.document(&mut body, &change.key, value, place),
                    None => lines.removal(&mut body, &change.key, place),
                }
                rows.push(row);
            }
            if body.len() >= BYTES {
                let body = std::mem::take(&mut body);
                self.send(body, &rows, changes, &mut rejected).await?;
                rows.clear();
            }
        }
        if !rows.is_empty() {
            self.send(body, &rows, changes, &mut rejected).await?;
        }
        Ok(rejected
            .into_iter()
            .map(|(row, reason)| Rejected { row, reason })
            .collect())
    }
}
