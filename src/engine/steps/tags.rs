//! The way back where no journal knows of it: what took a name bears a tag that says which run did.

use std::sync::Arc;

use super::{
    super::{open::planned_resources, retry::retrying},
    planned_steps,
    undo::WayBack,
};
use crate::{
    cutover::Action,
    error::EdgeError,
    ids::{RunId, StepNumber},
    journal::now_ms,
    machine::{Event, Ledger, Predecessors, RunEvent, Scope, StepEvent},
    plan::Plan,
};

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
    for action in actions {
        let marked = retrying(&plan.defaults.retry, |_, _| {}, || action.left_by()).await?;
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
    let mut events = vec![
        Event::RunPlanned {
            run: run.clone(),
            resources: planned_resources(plan, &scope),
            steps: planned_steps(plan, &scope),
            instead_of,
            scope,
        },
        Event::Run {
            run: run.clone(),
            event: RunEvent::Cancel,
        },
    ];
    let about_names = actions.iter().enumerate();
    events.extend(
        about_names
            .filter(|(_, action)| action.is_irreversible())
            .map(|(index, _)| Event::Step {
                run: run.clone(),
                step: StepNumber::at(index),
                event: StepEvent::Done { how: how.clone() },
            }),
    );
    let mut known = ledger.clone();
    let applied = events
        .iter()
        .try_for_each(|event| known.apply(now_ms(), event));
    Ok(applied
        .ok()
        .and_then(|()| WayBack::known(&known))
        .map(|way| way.found(events)))
}
