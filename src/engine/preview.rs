//! What a run would do, found by reading only.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    asked_ids::{AskedIds, asked_ids},
    estimate::{RowEstimate, Sampled, row_estimate},
    evidence::recorded,
    open::planned_resources,
    others,
    preflight::{Checked, is_skipped, preflight, row_query},
    refuse::{check_definitions, check_identities},
    steps::{check_begun, check_prepared, facts_before, planned_steps},
    too_many,
};
use crate::{
    cutover::{Action, Observed, Scene},
    error::{EdgeError, chain},
    failure::Failure,
    ids::{ChunkSeq, ResourceName, RunId, StepId, StepNumber},
    machine::{Ledger, ResourceLedger, ResourceState, RunLedger, Scope, StepPlace, StepState},
    plan::{Plan, Resource},
    report::human::counted,
    source::Source,
    target::{Evidence, Target},
};

/// A table of at most so many rows and bytes, by the database's own estimate, is counted: that is a matter of milliseconds.
const FEW_ROWS: u64 = 20_000;
const FEW_BYTES: u64 = 32 << 20;

/// What a run would do.
#[derive(Debug, Default)]
pub struct Preview {
    /// The run that would go on; `None` for a new one.
    pub goes_on: Option<RunId>,
    /// Facts about source and targets, by name.
    pub facts: Vec<(String, String)>,
    /// In the order they would be restored.
    pub resources: Vec<ResourcePreview>,
    /// Recorded work that would be done again, and why.
    pub redo: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Why the run would be refused.
    pub refusals: Vec<String>,
    /// Those of them that `--accept-plan-change` takes away.
    pub plan_changes: Vec<String>,
    /// The steps around the resources, in their order.
    pub steps: Vec<StepPreview>,
}

/// What would happen to one step.
#[derive(Debug)]
pub struct StepPreview {
    /// Its list.
    pub place: StepPlace,
    /// What it is.
    pub title: String,
    /// In words: what is journaled of it, and how the world looks now.
    pub standing: String,
    /// How long it took the last time.
    pub usual_ms: Option<u64>,
}

/// Returns what a run of `scope` would do with the plan's steps, given the journal's `ledger`. Writes nothing.
pub async fn preview_steps(
    plan: &Plan,
    scope: &Scope,
    ledger: &Ledger,
    actions: &[Arc<dyn Action>],
) -> Vec<StepPreview> {
    let run = ledger.unfinished(Some(scope));
    // Without a run there is nothing that only its id would find.
    let run_id = run.map_or_else(|| RunId::from_text("none"), |run| run.id.clone());
    let mut previews = Vec::new();
    let mut page_goes_up = false;
    let planned = planned_steps(plan, scope);
    let known = run.map_or_else(Vec::new, |run| run.carried_over(&planned));
    let ids = run.map_or_else(Vec::new, |run| run.identified(&planned));
    for (index, (step, action)) in planned.iter().zip(actions).enumerate() {
        let number = known.get(index).copied().flatten();
        let had = run
            .zip(number)
            .and_then(|(run, number)| run.steps.get(number.index()));
        let id = ids.get(index).and_then(|step| step.id);
        let scene = Scene {
            run: run_id.clone(),
            instead_of: run.map(|run| run.instead_of.to_vec()).unwrap_or_default(),
            earlier: run
                .map(|run| facts_before(run, number.unwrap_or(StepNumber::at(index))))
                .unwrap_or_default(),
            step: id.unwrap_or(StepId(StepNumber::at(index).0)),
        };
        let facts = had.and_then(|had| had.facts.as_ref());
        let now = match action.observe(&scene, facts).await {
            // A page that goes up before it comes down.
            Ok(Observed::Done(how)) if page_goes_up && step.title == "maintenance_off" => {
                format!("done once `maintenance` is; until then {how}")
            }
            Ok(Observed::Done(how)) => format!("is so: {how}"),
            Ok(Observed::NotDone(how)) if step.title == "maintenance" => {
                page_goes_up = true;
                format!("not done: {how}")
            }
            Ok(Observed::NotDone(how)) => match action.is_possible(&scene).await {
                Ok(()) => format!("not done: {how}"),
                Err(error) => format!(
                    "not done: {how}; it could not be done now: {}",
                    one_line(&error)
                ),
            },
            Err(error) => format!("cannot be told: {}", one_line(&error)),
        };
        let standing = match had.map(|had| had.state) {
            Some(StepState::Done) => format!("done, not repeated; now {now}"),
            Some(StepState::Intent | StepState::Unknown) => {
                format!("was begun, looked at first; now {now}")
            }
            _ => now,
        };
        previews.push(StepPreview {
            place: step.place,
            title: step.title.clone(),
            standing,
            usual_ms: ledger.usual_ms(&step.definition).map(i64::unsigned_abs),
        });
    }
    previews
}

/// What would happen to one resource.
#[derive(Debug)]
pub struct ResourcePreview {
    /// Which.
    pub name: ResourceName,
    /// What comes before it.
    pub after: Vec<ResourceName>,
    /// Its target.
    pub to: String,
    /// Rows of the table, as the source estimates them.
    pub rows: u64,
    /// Rows that are left.
    pub rows_left: u64,
    /// Mean sizes of a row in its target, from a sample; `None` where no row of it can be stored.
    pub row: Option<RowEstimate>,
    /// In words.
    pub standing: String,
    /// Why it was blocked, where a run would block it again at once: too many of its rows are dead letters, whatever comes next.
    pub blocks_again: Option<String>,
    /// What its fallback calls; `None` where it has none.
    pub fallback: Option<String>,
    /// The columns whose keys are written, the row's own first.
    pub key_columns: Vec<String>,
    /// The ids of the scope, and those of them that no row has; `None` where it names none.
    pub ids: Option<AskedIds>,
}

/// Returns what `run` would do with `scope`, given the journal's `ledger`; with `accept`, as with `--accept-plan-change`. Writes
/// nothing.
///
/// # Errors
///
/// The same failure as [`super::open`] where source or targets cannot be asked at all.
pub async fn preview(
    plan: &Plan,
    scope: &Scope,
    ledger: &Ledger,
    source: &dyn Source,
    targets: &BTreeMap<String, Arc<dyn Target>>,
    typed: &str,
    accept: bool,
) -> Result<Preview, Failure> {
    let checked = preflight(plan, scope, source, targets, typed).await?;
    let run = ledger.unfinished(Some(scope));
    let mut preview = Preview {
        goes_on: run.map(|run| run.id.clone()),
        ..Preview::default()
    };
    preview
        .facts
        .push(("source".to_owned(), source.place().to_owned()));
    if let Some(run) = run {
        if let Err(failure) = check_identities(run, &checked, typed) {
            preview.refusals.extend(failure.why);
        }
        let (resources, steps) = (planned_resources(plan, scope), planned_steps(plan, scope));
        if let Err(failure) = check_begun(run, &steps, typed) {
            preview.refusals.extend(failure.why);
        } else if let Err(failure) = check_definitions(run, &resources, &steps, typed) {
            if accept {
                let changes = failure.why.into_iter();
                let accepted = changes.map(|change| format!("accepted plan change: {change}"));
                preview.redo.extend(accepted);
                if let Err(failure) = check_prepared(run, &steps, typed) {
                    preview.refusals.extend(failure.why);
                }
            } else {
                preview.refusals.extend(failure.why.iter().cloned());
                preview.plan_changes = failure.why;
            }
        }
    }
    preview
        .warnings
        .extend(others::will_be_restored_again(plan, ledger, scope, typed));
    let mut lost = Lost::new();
    for name in checked.targets.keys() {
        let Some(target) = targets.get(name) else {
            continue;
        };
        ask_target(name, &**target, run, plan, &mut preview, &mut lost).await;
    }
    for resource in in_order(plan, scope) {
        let definition = plan.definition(resource);
        // With another definition it starts over; without leave the whole run is refused anyway.
        let ledger = run
            .and_then(|run| run.resource(&resource.name))
            .filter(|had| !accept || had.definition == definition);
        let mut seen = look(
            plan,
            resource,
            ledger,
            scope,
            &checked,
            source,
            &mut preview.warnings,
        )
        .await;
        if seen.rows_left < seen.rows && lost.get(&resource.name).is_some_and(|lost| lost.all) {
            "starts over: its target proves none of its rows".clone_into(&mut seen.standing);
            seen.rows_left = seen.rows;
            seen.blocks_again = None;
        } else if lost.contains_key(&resource.name) {
            seen.standing += ", further back where its target proves less";
        }
        preview.resources.push(seen);
    }
    Ok(preview)
}

fn one_line(error: &EdgeError) -> String {
    chain(error).join(": ")
}

/// What targets no longer prove of resources of which something is recorded.
type Lost = BTreeMap<ResourceName, LostPart>;

/// How much of a resource is lost.
#[derive(Debug)]
struct LostPart {
    /// Whether no partition has anything left.
    all: bool,
}

async fn ask_target(
    name: &str,
    target: &dyn Target,
    run: Option<&RunLedger>,
    plan: &Plan,
    preview: &mut Preview,
    lost: &mut Lost,
) {
    let place = target.place().to_owned();
    match target.facts().await {
        Ok(facts) => {
            let text: Vec<_> = facts
                .iter()
                .map(|(fact, value)| format!("{fact} {value}"))
                .collect();
            preview.facts.push((
                format!("target `{name}`"),
                format!("{place}: {}", text.join(", ")),
            ));
        }
        Err(error) => preview.warnings.push(one_line(&error)),
    }
    match target.lease_owner().await {
        // The lease of the run that goes on is nobody's who would mind.
        Ok(Some(owner)) if run.is_some_and(|run| run.id == owner.run) => {}
        Ok(Some(owner)) => preview.warnings.push(format!(
            "{place} is leased to run {} of pid {} on {} ({})",
            owner.run, owner.pid, owner.host, owner.state_path
        )),
        Ok(None) => {}
        Err(error) => preview.warnings.push(one_line(&error)),
    }
    let Some(run) = run else { return };
    let recorded = recorded(run, |one| {
        plan.resource(one).is_some_and(|plan| plan.to == name)
    });
    match target.evidence(&run.id, &recorded).await {
        Ok(evidence) => {
            for (had, found) in recorded.iter().zip(&evidence) {
                let is_gone = matches!(
                    found,
                    Evidence::UpToChunk(ChunkSeq(0)) | Evidence::UpToLength(0)
                );
                let part = lost.entry(had.partition.resource.clone());
                part.or_insert(LostPart { all: true }).all &= is_gone;
            }
            let is_whole = |of: &ResourceName| {
                let mut both = recorded.iter().zip(&evidence);
                both.all(|(had, found)| had.partition.resource != *of || *found == Evidence::Stands)
            };
            lost.retain(|resource, _| !is_whole(resource));
            for (had, found) in recorded
                .iter()
                .zip(evidence)
                .filter(|(_, found)| *found != Evidence::Stands)
            {
                let left = match found {
                    Evidence::UpToChunk(ChunkSeq(0)) | Evidence::UpToLength(0) => {
                        "nothing of it".to_owned()
                    }
                    Evidence::UpToChunk(chunk) => format!("chunks up to {chunk}"),
                    Evidence::UpToLength(length) => format!("{length} bytes of it"),
                    Evidence::Stands => continue,
                };
                preview.redo.push(format!(
                    "`{}` partition {} is journaled up to chunk {}, but {place} proves {left}: the rest is done again",
                    had.partition.resource, had.partition.ordinal, had.chunk
                ));
            }
        }
        Err(error) => preview.warnings.push(one_line(&error)),
    }
}

/// Returns the resources of the scope so that each comes after those it names; the plan file's order otherwise.
fn in_order<'a>(plan: &'a Plan, scope: &Scope) -> Vec<&'a Resource> {
    let mut left: Vec<_> = plan
        .resources
        .iter()
        .filter(|one| !is_skipped(scope, &one.name))
        .collect();
    let mut ordered: Vec<&Resource> = Vec::new();
    while !left.is_empty() {
        let ready = left.iter().position(|one| {
            !one.after
                .iter()
                .any(|name| left.iter().any(|other| other.name == *name))
        });
        // A cycle was refused when the plan was checked.
        ordered.push(left.remove(ready.unwrap_or(0)));
    }
    ordered
}

/// Returns why a resource is blocked for its dead letters, where it is blocked again even if every row of its next chunk passes.
fn blocks_again(resource: &Resource, ledger: &ResourceLedger) -> Option<String> {
    let ResourceState::Blocked { reason, .. } = &ledger.state else {
        return None;
    };
    // A publisher may be asked once more.
    if resource.fallback.is_some() || !too_many::is_for_dead_letters(reason) {
        return None;
    }
    let (done, _, dead) = ledger.totals();
    let rows = done + u64::from(resource.chunk.rows);
    too_many::past(resource.dead_letters, dead, rows).map(|_| reason.clone())
}

async fn look(
    plan: &Plan,
    resource: &Resource,
    ledger: Option<&ResourceLedger>,
    scope: &Scope,
    checked: &Checked,
    source: &dyn Source,
    warnings: &mut Vec<String>,
) -> ResourcePreview {
    let query = row_query(resource, scope);
    let shape = checked.shapes.get(&resource.name);
    let mut rows = shape.map_or(0, |shape| shape.estimated_rows);
    let key_columns = resource
        .from
        .key_columns(shape.map_or(&[][..], |shape| &shape.absent[..]))
        .into_iter()
        .map(str::to_owned)
        .collect();
    let ids = asked_ids(source, resource, scope)
        .await
        .unwrap_or_else(|error| {
            warnings.push(one_line(&error));
            None
        });
    let is_small = shape.is_some_and(|shape| {
        shape.estimated_rows <= FEW_ROWS && shape.estimated_bytes.unwrap_or(0) <= FEW_BYTES
    });
    // Few rows, by an index or not: the estimate of the whole table would mislead. So it would for a small table that was just
    // filled, as the databases look at such tables now and then.
    if query.ids.is_some() || is_small {
        match source.count(&query).await {
            Ok(exact) => rows = exact,
            Err(error) => warnings.push(one_line(&error)),
        }
    }
    let sampled = row_estimate(plan, resource, &query, source).await;
    let row = match sampled {
        Ok(Sampled { rows: 0, .. }) => {
            if rows == 0 {
                warnings.push(format!("`{}` has no rows to restore", resource.name));
            }
            None
        }
        Ok(Sampled { rows, row: None }) => {
            warnings.push(format!(
                "`{}`: none of the {} that were looked at can be restored: they are broken, or have no key or value",
                resource.name,
                counted(rows, "row")
            ));
            None
        }
        Ok(Sampled { row, .. }) => row,
        Err(error) => {
            warnings.push(one_line(&error));
            None
        }
    };
    let done = ledger.map_or(0, |ledger| ledger.totals().0);
    let blocks_again = ledger
        .filter(|_| rows > done)
        .and_then(|ledger| blocks_again(resource, ledger));
    let (standing, rows_left) = match ledger.map(|ledger| &ledger.state) {
        None | Some(ResourceState::Pending) => ("restored from its first row".to_owned(), rows),
        Some(ResourceState::Syncing) => (
            format!("goes on after {}", counted(done, "row")),
            rows.saturating_sub(done),
        ),
        Some(ResourceState::Blocked { .. }) if blocks_again.is_some() => (
            format!("blocked again at once, after {}", counted(done, "row")),
            rows.saturating_sub(done),
        ),
        Some(ResourceState::Blocked { reason, .. }) => (
            format!(
                "was blocked ({reason}), tried again after {}",
                counted(done, "row")
            ),
            rows.saturating_sub(done),
        ),
        Some(
            state
            @ (ResourceState::Triggering | ResourceState::Draining | ResourceState::Comparing),
        ) => (
            format!("goes on {}, with its publisher's rows", state.label()),
            rows,
        ),
        Some(state) => (format!("{}, not repeated", state.label()), 0),
    };
    ResourcePreview {
        name: resource.name.clone(),
        after: resource.after.clone(),
        to: resource.to.clone(),
        rows,
        rows_left,
        row,
        standing,
        blocks_again,
        fallback: resource.fallback.as_ref().map(|fallback| {
            let by = fallback.by.label();
            format!("{by}, ids of {}.{}", fallback.table, fallback.column)
        }),
        key_columns,
        ids,
    }
}
