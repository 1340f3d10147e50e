//! The way back where no journal knows of it: what took a name bears a tag that says which run did.

use std::sync::Arc;

use super::{
    super::{open::planned_resources, retry::retrying},
    planned_steps,
    way_back::WayBack,
};
use crate::{
    cutover::Action,
    error::EdgeError,
    ids::{RunId, StepNumber},
    journal::now_ms,
    machine::{Event, Ledger, Predecessors, RunEvent, Scope, StepEvent},
    plan::Plan,
};

/// The kind of steps whose tag says nothing of whether a name has to be given back.
const RESTORE: &str = "rds_restore";

/// Returns how the names are given back that runs took of which `ledger` has nothing to reverse, if there are any: as steps of
/// a run in their place. Reads only; of their other steps nothing is known.
///
/// # Errors
///
/// Where the world does not say.
pub async fn found_by_tags(
    plan: &Plan,
    actions: &[Arc<dyn Action>],
    ledger: &Ledger,
) -> Result<Option<WayBack>, EdgeError> {
    let mut left: Vec<RunId> = Vec::new();
    let mut is_marked = Vec::new();
    for action in actions {
        let marked = retrying(&plan.defaults.retry, |_, _| {}, || action.left_by()).await?;
        is_marked.push(marked.is_some());
        left.extend(marked.filter(|run| !left.contains(run)));
    }
    if left.is_empty() {
        return Ok(None);
    }
    let instead_of: Predecessors = left.into_iter().collect();
    let run = std::iter::repeat_with(RunId::random)
        .find(|id| ledger.run(id).is_none())
        .unwrap_or_else(RunId::random);
    let scope = Scope::default();
    let how =
        format!("left by run {instead_of}, of which no state file here knows: looked at first");
    let steps = planned_steps(plan, &scope);
    // What was restored bears its tag for good: it is looked at where a name has to be given back.
    let about_names: Vec<_> = is_marked
        .iter()
        .zip(&steps)
        .enumerate()
        .filter(|(_, (is_marked, step))| **is_marked || step.kind() == RESTORE)
        .map(|(index, _)| StepNumber::at(index))
        .collect();
    let mut events = vec![
        Event::RunPlanned {
            run: run.clone(),
            resources: planned_resources(plan, &scope),
            steps,
            instead_of,
            scope,
        },
        Event::Run {
            run: run.clone(),
            event: RunEvent::Cancel,
        },
    ];
    events.extend(about_names.into_iter().map(|step| Event::Step {
        run: run.clone(),
        step,
        event: StepEvent::Done { how: how.clone() },
    }));
    let mut known = ledger.clone();
    let applied = events
        .iter()
        .try_for_each(|event| known.apply(now_ms(), event));
    Ok(applied
        .ok()
        .and_then(|()| WayBack::known(&known))
        .map(|way| way.found(events)))
}
