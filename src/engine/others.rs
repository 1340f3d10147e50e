//! Other runs of the same plan: what a run that writes to their targets takes from them, and which one wrote last.

use super::preflight::is_skipped;
use crate::{
    failure::without_scope,
    ids::ResourceName,
    machine::{Ledger, ResourceLedger, RunLedger, Scope},
    plan::{Plan, Resource, Routing, SearchConfig, TargetConfig},
    report::human::{counted, moment},
};

/// Returns what a person should know before a new run of `scope` writes to targets of runs that are not finished: what those
/// stored there proves nothing any more, and is restored again. Nothing is lost by a run of the whole plan.
pub fn will_be_restored_again(
    plan: &Plan,
    ledger: &Ledger,
    scope: &Scope,
    typed: &str,
) -> Vec<String> {
    if scope.is_whole() || ledger.unfinished(Some(scope)).is_some() {
        return Vec::new();
    }
    let ours = |one: &&Resource| !is_skipped(scope, &one.name);
    let ours: Vec<_> = plan.resources.iter().filter(ours).collect();
    let waiting = ledger.runs.iter().filter(|run| !run.state.is_over());
    waiting
        .filter_map(|run| {
            let voided = run.resources.iter().filter(|had| {
                let had = plan.resource(&had.name);
                had.is_some_and(|had| {
                    ours.iter().any(|one| voids(plan, (scope, one), (&run.scope, had)))
                })
            });
            let rows: u64 = voided.map(stored).sum();
            (rows > 0).then(|| {
                format!(
                    "run {} is unfinished, and this one writes to its targets: {} of it will be restored again; \
                     `rekindle resume {}` finishes it first",
                    run.id,
                    counted(rows, "row"),
                    without_scope(typed)
                )
            })
        })
        .collect()
}

/// Returns whether the rows of `one` take the evidence of the rows of `had`: files are each resource's own, an index and a Redis
/// have one owner.
fn voids(plan: &Plan, one: (&Scope, &Resource), had: (&Scope, &Resource)) -> bool {
    if one.1.to != had.1.to {
        return false;
    }
    let is_of_all = |scope: &Scope| scope.ids.is_none() && scope.rows.is_empty();
    match plan.targets.get(&one.1.to) {
        Some(TargetConfig::File(_)) => {
            one.1.name == had.1.name && is_of_all(one.0) && is_of_all(had.0)
        }
        Some(TargetConfig::Search(config)) => shares_an_index(config, &one.1.name, &had.1.name),
        Some(TargetConfig::Redis(_)) | None => true,
    }
}

fn shares_an_index(config: &SearchConfig, one: &ResourceName, other: &ResourceName) -> bool {
    let of = |name| {
        let routing = config.indexes.get(name).into_iter();
        routing.flat_map(Routing::indexes)
    };
    of(one).any(|index| of(other).any(|same| same == index))
}

/// Returns how many rows of a resource are in its target: those that did not pass are not.
pub fn stored(resource: &ResourceLedger) -> u64 {
    let (rows, _, dead) = resource.totals();
    rows.saturating_sub(dead)
}

/// Returns which other run of the plan wrote to the target of `name` since `run` began with it, as the end of a sentence.
pub fn wrote_since(
    plan: &Plan,
    ledger: &Ledger,
    run: &RunLedger,
    name: &ResourceName,
) -> Option<String> {
    let ours = plan.resource(name)?;
    let since = run.resource(name)?.started_ms?;
    let others = ledger.runs.iter().filter(|other| other.id != run.id);
    let wrote = others.flat_map(|other| {
        let resources = other.resources.iter().filter(|one| {
            let theirs = plan.resource(&one.name);
            stored(one) > 0
                && theirs
                    .is_some_and(|theirs| voids(plan, (&other.scope, theirs), (&run.scope, ours)))
        });
        resources.filter_map(|one| Some((one.started_ms?, &other.id)))
    });
    let (at_ms, id) = wrote
        .filter(|(at_ms, _)| *at_ms >= since)
        .max_by_key(|(at_ms, _)| *at_ms)?;
    Some(format!(
        "run {id} of this plan wrote to it at {}",
        moment(at_ms)
    ))
}
