//! Asks source and targets what they are before anything is written.

use std::{collections::BTreeMap, sync::Arc};

use super::{handover::ids_source, refuse::refused_by_edge, retry::patiently};
use crate::{
    error::EdgeError,
    failure::Failure,
    ids::ResourceName,
    machine::Scope,
    plan::{CatchUp, Plan, Resource},
    source::{RowQuery, Source, TableShape},
    target::Target,
};

/// What the edges said before anything was written.
pub struct Checked {
    /// The shapes of the tables in the scope.
    pub shapes: BTreeMap<ResourceName, TableShape>,
    /// About how many ids the publishers of resources take, by their tables.
    pub id_counts: BTreeMap<ResourceName, u64>,
    /// Identity of the source.
    pub source: String,
    /// Identities of the targets that the scope writes to.
    pub targets: BTreeMap<String, String>,
}

/// Asks source and targets what they are. Writes nothing.
pub async fn preflight(
    plan: &Plan,
    scope: &Scope,
    source: &dyn Source,
    targets: &BTreeMap<String, Arc<dyn Target>>,
    typed: &str,
) -> Result<Checked, Failure> {
    let refuse = |error: &EdgeError| refused_by_edge(error, &plan.name, typed);
    let retry = &plan.defaults.retry;
    let identity = patiently(retry, || source.identity())
        .await
        .map_err(|error| refuse(&error))?;
    let mut shapes = BTreeMap::new();
    let mut id_counts = BTreeMap::new();
    let chosen = plan
        .resources
        .iter()
        .filter(|one| !is_skipped(scope, &one.name));
    for resource in chosen.clone() {
        let unreadable = |error: EdgeError| {
            let mut failure = refuse(&error);
            failure.what = format!("resource `{}` cannot be read", resource.name);
            failure
        };
        let query = row_query(resource, scope);
        let shape = patiently(retry, || source.describe(&query.from))
            .await
            .map_err(unreadable)?;
        if let Some(by) = resource.catch_up.as_ref().and_then(CatchUp::column) {
            // Found out now, and not when everything is stored. A table without the column is no mistake.
            patiently(retry, || source.changes(&query.from, by))
                .await
                .map_err(unreadable)?;
        }
        if scope.is_partial() {
            // Ids that cannot be ids of this table are found out now, not by a run that can never end.
            patiently(retry, || source.sample_row_bytes(&query))
                .await
                .map_err(unreadable)?;
        }
        shapes.insert(resource.name.clone(), shape);
        if let Some(fallback) = &resource.fallback {
            let from = ids_source(fallback);
            let ids = patiently(retry, || source.describe(&from)).await;
            let ids = ids.map_err(|error| {
                let mut failure = refuse(&error);
                failure.what = format!(
                    "the entity ids for the fallback of resource `{}` cannot be read",
                    resource.name
                );
                if !error.kind.disposition().passes() {
                    failure.next +=
                        "; without the table, give the resource `fallback: { to: none }`";
                }
                failure
            })?;
            id_counts.insert(resource.name.clone(), ids.estimated_rows);
        }
    }
    let mut identities = BTreeMap::new();
    for name in plan.targets_of(chosen.clone()) {
        if let Some(target) = targets.get(&name) {
            identities.insert(
                name,
                patiently(retry, || target.identity())
                    .await
                    .map_err(|error| refuse(&error))?,
            );
        }
    }
    for resource in chosen {
        if let Some(target) = targets.get(&resource.to) {
            patiently(retry, || target.incarnation(&resource.name))
                .await
                .map_err(|error| refuse(&error))?;
        }
    }
    Ok(Checked {
        shapes,
        id_counts,
        source: identity,
        targets: identities,
    })
}

/// Returns whether a scope leaves the resource out.
#[must_use]
pub fn is_skipped(scope: &Scope, name: &ResourceName) -> bool {
    (!scope.only.is_empty() && !scope.only.contains(name)) || scope.skip.contains(name)
}

/// Returns what a resource's walk reads.
#[must_use]
pub fn row_query(resource: &Resource, scope: &Scope) -> RowQuery {
    let from = resource.from.clone();
    let mut ids = scope.ids.clone();
    if let Some(rows) = scope.rows.get(&resource.name) {
        let entities = scope.entities.get(&resource.name).into_iter().flatten();
        ids = Some(rows.iter().chain(entities).cloned().collect());
    }
    RowQuery {
        since: None,
        from,
        ids,
    }
}
