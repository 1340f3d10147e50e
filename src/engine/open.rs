//! Finds out which run goes on, and makes the journal say so. Refuses before the first write.
//!
//! Steps of `prepare:` that are left come before source and bounds are looked at (`staged`).

mod staged;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    book::{Book, BookError},
    evidence::{extent, partition_keys},
    lease::LeaseKeeper,
    observers::Observers,
    others,
    pace::after_death,
    preflight::{Checked, is_skipped, preflight},
    refuse::{
        check_definitions, check_identities, in_use, interrupted, refused_by_book, refused_by_edge,
        refused_by_journal,
    },
    retry::patiently,
    steps::{self, check_begun, check_prepared, lost, planned_steps, refuse_half_done},
};
use crate::{
    cutover::{self, Action},
    failpoint,
    failure::{Exit, Failure},
    fallback,
    ids::{PartitionId, ResourceName, RunId},
    journal::{Journal, Notice, OpenMode, View, host_name, now_ms},
    machine::{
        AttemptEnd, Event, FallbackEvent, Ledger, PartitionEvent, PartitionState, PlannedResource,
        PlannedStep, Predecessors, ResourceEvent, ResourceLedger, ResourceState, RunEvent,
        RunLedger, RunState, Scope,
    },
    plan::Plan,
    process::remove_halves,
    source::{self, Source, TableShape},
    target::{LeaseOwner, PartitionKey, Target},
};

/// Which run a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunChoice {
    /// The unfinished run of the same scope, else a new one (`run`).
    Continue,
    /// A new one; the unfinished run of the same scope is given up (`run --new`).
    New,
    /// An unfinished run, whatever its scope (`resume`).
    Resume,
}

/// What opening a run needs.
pub struct OpenRun {
    /// The plan.
    pub plan: Arc<Plan>,
    /// What a person types after `rekindle run` for this run: plan file, state file and scope.
    pub typed: String,
    /// What the command covers.
    pub scope: Scope,
    /// Which run.
    pub choice: RunChoice,
    /// Whether resources that changed may start over.
    pub accept_plan_change: bool,
    /// The state file.
    pub state_path: PathBuf,
    /// The memory budget of this attempt.
    pub in_flight_bytes: u64,
    /// A source that is connected already; `None`: the plan's, once the steps of `prepare` that may bring it are done.
    pub source: Option<Arc<dyn Source>>,
    /// The targets by plan name.
    pub targets: BTreeMap<String, Arc<dyn Target>>,
}

/// A run that is ours to carry out.
pub struct OpenedRun {
    /// Its book.
    pub book: Book,
    /// Its source.
    pub source: Arc<dyn Source>,
    /// What its steps do, in their order.
    pub actions: Vec<Arc<dyn Action>>,
    /// Whether observers have heard that it begins.
    pub announced: bool,
    /// The shapes of its tables.
    pub shapes: BTreeMap<ResourceName, TableShape>,
    /// About how many ids the publishers of resources take.
    pub id_counts: BTreeMap<ResourceName, u64>,
    /// The leases on its targets by plan name.
    pub leases: BTreeMap<String, Arc<LeaseKeeper>>,
    /// What the journal had to say.
    pub notices: Vec<String>,
    /// Number of this attempt.
    pub attempt: u32,
    /// The state file.
    pub state_path: PathBuf,
}

/// Opens the run, having carried out the steps of `prepare:` that were left. When this returns, the attempt is journaled
/// and every target is leased. A message on `signals` ends it early.
///
/// # Errors
///
/// A [`Failure`] with exit code 3 (plan, credentials, another source or target, damaged journal, nothing to resume) or
/// 6 (state file or target in use). Before any of them nothing is written to a target, and none leaves a state file
/// behind that was not there. With 5 where a step could not be done, 130 for a signal.
pub async fn open(
    request: OpenRun,
    observers: &mut Observers,
    signals: &mut mpsc::Receiver<()>,
) -> Result<OpenedRun, Failure> {
    if steps::is_due(&request) {
        return staged::open(&request, observers, signals).await;
    }
    tokio::select! {
        biased;
        Some(()) = signals.recv() => Err(interrupted(&request.typed, None)),
        opened = at_once(&request) => opened,
    }
}

/// Opens a run that has no steps to do before its resources.
async fn at_once(request: &OpenRun) -> Result<OpenedRun, Failure> {
    let typed = request.typed.as_str();
    let (source, healed) = connected(request).await?;
    let checked = preflight(
        &request.plan,
        &request.scope,
        &*source,
        &request.targets,
        typed,
    )
    .await?;
    if is_first(&request.state_path) {
        refuse_first(request, checked.targets.keys()).await?;
    }
    let (journal, ledger, notices) = open_journal(request)?;
    let moved_aside = MovedAside::of(&notices);
    let begun = begin(
        request,
        checked,
        source,
        journal.clone(),
        ledger,
        &moved_aside,
    );
    let mut opened = match begun.await {
        Ok(opened) => opened,
        Err(failure) => {
            journal
                .close()
                .await
                .map_err(|error| refused_by_journal(&error, typed))?;
            return Err(failure);
        }
    };
    let before = healed
        .into_iter()
        .chain(notices.iter().map(Notice::to_string));
    opened.notices.splice(0..0, before);
    Ok(opened)
}

/// What a damaged state file is known to have been, whose place ours took.
#[derive(Debug, Default)]
struct MovedAside {
    /// Its random id.
    state: Option<String>,
    /// The runs that it leaves to the next.
    left: Predecessors,
}

impl MovedAside {
    fn of(notices: &[Notice]) -> Self {
        let moved = notices.iter().find_map(|notice| match notice {
            Notice::StartedAnew {
                left, old_state, ..
            } => Some(Self {
                state: old_state.clone(),
                left: left.clone(),
            }),
            Notice::NotBegun { left } => Some(Self {
                state: None,
                left: left.clone(),
            }),
            _ => None,
        });
        moved.unwrap_or_default()
    }
}

fn open_journal(request: &OpenRun) -> Result<(Journal, Ledger, Vec<Notice>), Failure> {
    let mode = if request.choice == RunChoice::New {
        OpenMode::NewAfterRefusal
    } else {
        OpenMode::Normal
    };
    let opened = Journal::open(&request.state_path, mode)
        .map_err(|error| refused_by_journal(&error, &request.typed))?;
    // Of the step that a process died over, which may be done by now.
    remove_halves(&request.state_path);
    Ok(opened)
}

/// Returns the source, and what had to be taken back in it first.
async fn connected(request: &OpenRun) -> Result<(Arc<dyn Source>, Option<String>), Failure> {
    let healed = fallback::heal(&request.plan).map(|file| {
        format!(
            "a statement was killed half-way in {}: what it had done was taken back",
            file.display()
        )
    });
    if let Some(source) = &request.source {
        return Ok((Arc::clone(source), healed));
    }
    let source = source::connect(&request.plan.source)
        .await
        .map_err(|error| refused_by_edge(&error, &request.plan.name, &request.typed))?;
    Ok((source, healed))
}

/// Returns whether there never was a state file at `path`.
fn is_first(path: &Path) -> bool {
    !path.exists() && matches!(View::open(path), Ok(None))
}

/// Refuses what can be refused before there is a state file, so that none is left behind by a run that never began.
async fn refuse_first(
    request: &OpenRun,
    targets: impl Iterator<Item = &String>,
) -> Result<(), Failure> {
    if request.choice == RunChoice::Resume {
        return Err(nothing_to_resume(&Ledger::default(), &request.typed));
    }
    for name in targets {
        let Some(target) = request.targets.get(name) else {
            continue;
        };
        match patiently(&request.plan.defaults.retry, || target.lease_owner()).await {
            Ok(None) => {}
            Ok(Some(other)) => return Err(in_use(target.place(), &other, &request.typed)),
            Err(error) => return Err(refused_by_edge(&error, &request.plan.name, &request.typed)),
        }
    }
    Ok(())
}

fn nothing_to_resume(ledger: &Ledger, typed: &str) -> Failure {
    Failure::new(
        Exit::Refused,
        "nothing to resume",
        "no run of this plan is unfinished; nothing was written",
        format!("`rekindle run {typed}` starts a new run"),
    )
    .why(last_run(ledger))
}

/// Which run goes on, and what the plan makes of it.
struct Chosen {
    /// The run, if it is not a new one.
    found: Option<RunLedger>,
    run: RunId,
    scope: Scope,
    resources: Vec<PlannedResource>,
    steps: Vec<PlannedStep>,
    /// What was accepted.
    notices: Vec<String>,
}

/// Finds the run, and refuses one that is another plan's by now.
fn choose(request: &OpenRun, ledger: &Ledger) -> Result<Chosen, Failure> {
    let typed = request.typed.as_str();
    let found = match request.choice {
        RunChoice::Resume => ledger.unfinished(None),
        RunChoice::Continue => ledger.unfinished(Some(&request.scope)),
        RunChoice::New => None,
    };
    if request.choice == RunChoice::Resume && found.is_none() {
        return Err(nothing_to_resume(ledger, typed));
    }
    let scope = found.map_or_else(|| request.scope.clone(), |run| run.scope.clone());
    if scope.is_whole() {
        let is_new = request.choice == RunChoice::New;
        refuse_half_done(ledger, found.map(|run| &run.id), is_new, typed)?;
    }
    let resources = planned_resources(&request.plan, &scope);
    let mut steps = planned_steps(&request.plan, &scope);
    let mut notices = Vec::new();
    if let Some(run) = found {
        check_begun(run, &steps, typed)?;
        match check_definitions(run, &resources, &steps, typed) {
            Err(failure) if request.accept_plan_change => {
                check_prepared(run, &steps, typed)?;
                let accepted = failure
                    .why
                    .iter()
                    .map(|change| format!("accepted plan change: {change}"));
                notices.extend(accepted);
            }
            checked => checked?,
        }
        steps = run.identified(&steps);
    }
    let plan = &request.plan;
    if found.is_none() {
        notices.extend(others::will_be_restored_again(plan, ledger, &scope, typed));
    }
    let has_steps = !plan.prepare.is_empty() || !plan.finish.is_empty();
    if has_steps && !scope.is_whole() {
        notices.push(
            "steps of `prepare` and `finish` are part of the whole plan alone: left out".to_owned(),
        );
    }
    Ok(Chosen {
        run: found.map_or_else(|| fresh_id(ledger), |run| run.id.clone()),
        found: found.cloned(),
        scope,
        resources,
        steps,
        notices,
    })
}

/// Returns the events that begin an attempt at the chosen run, and its number. Without `checked`, source and targets are
/// not known yet.
fn opening_events(
    request: &OpenRun,
    chosen: &Chosen,
    ledger: &Ledger,
    left: &Predecessors,
    checked: Option<&Checked>,
) -> Result<(Vec<Event>, u32), Failure> {
    let mut events = Vec::new();
    if request.choice == RunChoice::New {
        events.extend(cancelled(ledger, &request.scope));
    }
    let instead_of = if left.is_empty() {
        ledger.left_behind()
    } else {
        left.clone()
    };
    events.extend(first_events(chosen, instead_of));
    let found = chosen.found.as_ref();
    let attempt = found.map_or(0, |run| run.attempts.len()) + 1;
    let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
    events.push(Event::AttemptStarted {
        run: chosen.run.clone(),
        attempt,
        pid: std::process::id(),
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        in_flight_bytes: request.in_flight_bytes,
    });
    events.extend(checked.map(|checked| identified(&chosen.run, checked)));
    if let Some(had) = found {
        // What the events so far make of it: a changed plan takes resources and their partitions away.
        let mut now = ledger.clone();
        let applied = events
            .iter()
            .try_for_each(|event| now.apply(now_ms(), event));
        applied.map_err(|error| refused_by_book(&error.into(), &request.typed))?;
        if let Some(run) = now.run(&had.id) {
            events.extend(resumed(run, died(had)));
        }
    }
    Ok((events, attempt))
}

fn identified(run: &RunId, checked: &Checked) -> Event {
    Event::Identified {
        run: run.clone(),
        source: checked.source.clone(),
        targets: checked.targets.clone(),
    }
}

async fn begin(
    request: &OpenRun,
    checked: Checked,
    source: Arc<dyn Source>,
    journal: Journal,
    ledger: Ledger,
    moved_aside: &MovedAside,
) -> Result<OpenedRun, Failure> {
    let typed = request.typed.as_str();
    let chosen = choose(request, &ledger)?;
    if let Some(run) = &chosen.found {
        check_identities(run, &checked, typed)?;
    }
    let actions = actions(request)?;
    let leases = take_leases(request, &checked, &journal, &chosen.run, moved_aside).await?;
    let (events, attempt) =
        opening_events(request, &chosen, &ledger, &moved_aside.left, Some(&checked))?;
    let stale = stale_partitions(&ledger, &events);
    let mut book = Book::new(journal, ledger, chosen.run.clone());
    let recorded = async {
        failpoint::hit("before_attempt")?;
        book.record(events).await?;
        let ahead = match book.run()?.state {
            RunState::Planned => vec![RunEvent::Prepare, RunEvent::Restore],
            RunState::Preparing => vec![RunEvent::Restore],
            _ => Vec::new(),
        };
        for event in ahead {
            book.run_moved(event).await?;
        }
        Ok::<_, BookError>(())
    };
    if let Err(error) = recorded.await {
        release(&leases).await;
        return Err(refused_by_book(&error, typed));
    }
    forget(&stale, &leases, &request.targets).await;
    if request.choice == RunChoice::New && !chosen.scope.rows.is_empty() {
        clear_retries(book.ledger(), &leases, &request.targets).await;
    }
    Ok(OpenedRun {
        book,
        source,
        actions,
        announced: false,
        shapes: checked.shapes,
        id_counts: checked.id_counts,
        leases,
        notices: chosen.notices,
        attempt,
        state_path: request.state_path.clone(),
    })
}

/// Gives leases back that were taken for nothing. One that cannot be runs out by itself; the trouble that led here is
/// what the person has to hear about.
async fn release(leases: &Leases) {
    for lease in leases.values() {
        lease.release().await.ok();
    }
}

/// Returns what the plan's steps do.
fn actions(request: &OpenRun) -> Result<Vec<Arc<dyn Action>>, Failure> {
    cutover::connect(&request.plan, &request.state_path, cutover::Purpose::Act)
        .map_err(|error| refused_by_edge(&error, &request.plan.name, &request.typed))
}

fn fresh_id(ledger: &Ledger) -> RunId {
    std::iter::repeat_with(RunId::random)
        .find(|id| ledger.run(id).is_none())
        .unwrap_or_else(RunId::random)
}

/// Returns the resources of a run of `scope` as the journal keeps them.
pub fn planned_resources(plan: &Plan, scope: &Scope) -> Vec<PlannedResource> {
    plan.resources
        .iter()
        .map(|resource| PlannedResource {
            name: resource.name.clone(),
            definition: plan.definition(resource),
            skipped: is_skipped(scope, &resource.name),
        })
        .collect()
}

/// Returns the events that give up unfinished runs of the same scope. Of retries there is one at a time, whatever its rows.
fn cancelled(ledger: &Ledger, scope: &Scope) -> Vec<Event> {
    let mut events = Vec::new();
    for run in ledger.runs.iter().filter(|run| {
        !run.state.is_over() && (run.scope == *scope || are_retries(&run.scope, scope))
    }) {
        if run.open_attempt().is_some() {
            events.push(Event::AttemptEnded {
                run: run.id.clone(),
                end: AttemptEnd::Unknown,
            });
        }
        events.push(Event::Run {
            run: run.id.clone(),
            event: RunEvent::Cancel,
        });
    }
    events
}

fn are_retries(one: &Scope, other: &Scope) -> bool {
    !one.rows.is_empty() && !other.rows.is_empty()
}

/// Returns the partitions that nobody will ask about once `events` are recorded, by run: those of runs that are given up
/// or done, and of resources that start over because their definition changed.
fn stale_partitions(ledger: &Ledger, events: &[Event]) -> Vec<(RunId, Vec<PartitionKey>)> {
    let mut stale = Vec::new();
    for event in events {
        let (run, kept): (_, &[PlannedResource]) = match event {
            Event::Run {
                run,
                event: RunEvent::Cancel,
            } => (run, &[]),
            Event::PlanChanged { run, resources, .. } => (run, resources),
            // A run that died right after it was done has left its markers behind.
            Event::RunPlanned { .. } => match ledger
                .runs
                .iter()
                .rev()
                .find(|run| run.state == RunState::Done)
            {
                Some(done) => (&done.id, &[]),
                None => continue,
            },
            _ => continue,
        };
        let Some(had) = ledger.run(run) else { continue };
        let gone = had.resources.iter().filter(|one| {
            !kept
                .iter()
                .any(|now| now.name == one.name && now.definition == one.definition)
        });
        stale.push((
            run.clone(),
            gone.flat_map(|resource| partition_keys(had, resource))
                .collect(),
        ));
    }
    stale
}

/// Removes markers that nobody asks about any more. What cannot be removed does no harm.
async fn forget(
    stale: &[(RunId, Vec<PartitionKey>)],
    leases: &Leases,
    targets: &BTreeMap<String, Arc<dyn Target>>,
) {
    for (run, partitions) in stale {
        for target in leases.keys().filter_map(|name| targets.get(name)) {
            if let Err(error) = target.forget(run, partitions).await {
                tracing::warn!(%error, target = target.place(), "markers of work that was given up stay behind");
            }
        }
    }
}

/// Removes what retries that were given up keep apart: a dump loads it after what comes from now on. What cannot be removed is
/// named.
async fn clear_retries(
    ledger: &Ledger,
    leases: &BTreeMap<String, Arc<LeaseKeeper>>,
    targets: &BTreeMap<String, Arc<dyn Target>>,
) {
    let given_up = ledger
        .runs
        .iter()
        .filter(|run| run.state == RunState::Cancelled && !run.scope.rows.is_empty());
    for run in given_up {
        for target in leases.keys().filter_map(|name| targets.get(name)) {
            for resource in run.scope.rows.keys() {
                if let Err(error) = target.clear(resource, &extent(run)).await {
                    tracing::warn!(%error, target = target.place(), "rows of a retry that was given up stay behind");
                }
            }
        }
    }
}

/// Returns the events that open the run, or bring a found one up to the plan.
fn first_events(chosen: &Chosen, instead_of: Predecessors) -> Vec<Event> {
    let (resources, steps) = (chosen.resources.clone(), chosen.steps.clone());
    let Some(run) = &chosen.found else {
        return vec![Event::RunPlanned {
            run: chosen.run.clone(),
            scope: chosen.scope.clone(),
            resources,
            steps,
            instead_of,
        }];
    };
    let mut events = Vec::new();
    if run.open_attempt().is_some() {
        events.push(Event::AttemptEnded {
            run: run.id.clone(),
            end: AttemptEnd::Unknown,
        });
    }
    let same = run.resources.len() == resources.len()
        && run
            .resources
            .iter()
            .zip(&resources)
            .all(|(had, now)| had.name == now.name && had.definition == now.definition)
        && run.steps.len() == steps.len()
        && run
            .steps
            .iter()
            .zip(&steps)
            .all(|(had, now)| had.planned.is_same(now));
    if !same {
        events.push(Event::PlanChanged {
            run: run.id.clone(),
            resources,
            steps,
        });
    }
    events
}

/// Returns whether the last process that worked on the run may have left something half done.
fn died(run: &RunLedger) -> bool {
    run.attempts
        .last()
        .is_some_and(|attempt| attempt.end.as_ref().is_none_or(AttemptEnd::is_death))
}

/// Returns the events that set a found run going again: blocks are lifted, and partitions that were open when a
/// process died are suspects.
fn resumed(run: &RunLedger, died: bool) -> Vec<Event> {
    let mut events = Vec::new();
    if matches!(run.state, RunState::Interrupted(_) | RunState::Failed(_)) {
        events.push(Event::Run {
            run: run.id.clone(),
            event: RunEvent::Resume,
        });
    }
    events.extend(lost(run));
    for resource in &run.resources {
        let state = match &resource.state {
            ResourceState::Blocked { from, .. } => {
                let (run, resource) = (run.id.clone(), resource.name.clone());
                events.push(Event::Resource {
                    run,
                    resource,
                    event: ResourceEvent::Unblocked,
                });
                from.as_ref()
            }
            state => state,
        };
        if !died || !matches!(state, ResourceState::Syncing | ResourceState::Comparing) {
            continue;
        }
        if let Some(partition) = charged(run, resource) {
            events.push(Event::Fallback {
                run: run.id.clone(),
                resource: resource.name.clone(),
                event: FallbackEvent::Charged { partition },
            });
        }
        for partition in &resource.partitions {
            if let PartitionState::Open(progress) | PartitionState::Suspect(progress) =
                &partition.state
            {
                let event = PartitionEvent::Suspected {
                    page_rows: after_death(progress.page_rows),
                };
                events.push(Event::Partition {
                    partition: partition.id,
                    event,
                });
            }
        }
    }
    events
}

/// Returns the partition that was walked alone, a single row at a time, when the last process was killed for memory: the
/// first suspect of the run, if it is one of `resource`.
fn charged(run: &RunLedger, resource: &ResourceLedger) -> Option<PartitionId> {
    // The attempt that begins now has no end.
    let end = run.attempts.iter().rev().find_map(|one| one.end.as_ref())?;
    if !end.is_for_memory() {
        return None;
    }
    let walked = |one: &&ResourceLedger| {
        matches!(one.state, ResourceState::Syncing | ResourceState::Comparing)
    };
    let mut suspects = run.resources.iter().filter(walked).flat_map(|one| {
        let partitions = one.partitions.iter();
        partitions.map(move |partition| (&one.name, partition))
    });
    let (name, first) =
        suspects.find(|(_, partition)| matches!(partition.state, PartitionState::Suspect(_)))?;
    (*name == resource.name && first.state.progress().page_rows == 1).then_some(first.id)
}

/// The leases on a run's targets by plan name.
type Leases = BTreeMap<String, Arc<LeaseKeeper>>;

/// Takes the lease of every target. `moved_aside` is the damaged state file whose place ours took: we hold
/// its lock, so whoever took a lease with it is dead, and what `run --new` was typed for need not wait for that lease
/// to run out.
async fn take_leases(
    request: &OpenRun,
    checked: &Checked,
    journal: &Journal,
    run: &RunId,
    moved_aside: &MovedAside,
) -> Result<Leases, Failure> {
    let owner = LeaseOwner {
        state: journal.state_id().to_owned(),
        state_path: absolute(&request.state_path),
        host: host_name(),
        pid: std::process::id(),
        run: run.clone(),
    };
    let mut leases = Leases::new();
    for name in checked.targets.keys() {
        let Some(target) = request.targets.get(name) else {
            continue;
        };
        let take = || LeaseKeeper::take(Arc::clone(target), owner.clone());
        let mut taken = patiently(&request.plan.defaults.retry, take).await;
        if let Ok(Err(dead)) = &taken
            && moved_aside.state.as_ref() == Some(&dead.state)
        {
            taken = match target.release_lease(dead).await {
                Ok(()) => take().await,
                Err(error) => Err(error),
            };
        }
        let failure = match taken {
            Ok(Ok(lease)) => {
                leases.insert(name.clone(), Arc::new(lease));
                continue;
            }
            Ok(Err(other)) => in_use(target.place(), &other, &request.typed),
            Err(error) => refused_by_edge(&error, &request.plan.name, &request.typed),
        };
        release(&leases).await;
        return Err(failure);
    }
    Ok(leases)
}

fn last_run(ledger: &Ledger) -> String {
    ledger.runs.last().map_or_else(
        || "the state file holds no run yet".to_owned(),
        |run| format!("run {} is {}", run.id, run.state.label()),
    )
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}
