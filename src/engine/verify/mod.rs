//! Compares targets with their source, row by row, and rewrites what differs where it is asked to.
//!
//! ```text
//! walking    reader -> chunk -> comparer -> scratch: how far, which rows are doubted
//! settling   each doubted stretch: read again, compared again -> sure | in order by now | still moving
//!                                  sure -> written (repair) -> read and compared once more
//! settled    counted, first keys kept
//! ```
//!
//! A difference counts when both sides were read twice and the row was the same both times: a shop that is open changes
//! rows while they are compared, and publishes them a moment later. Everything is noted in a file of its own
//! ([`Scratch`]), chunk by chunk, so that a comparison goes on where it was stopped.

mod findings;
mod orphans;
mod repair;
mod settle;
mod shared_keys;
mod walk;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, watch};

use self::walk::Walker;
pub use self::{
    findings::{Broken, Findings, ResourceFindings, Sample, Unlisted},
    orphans::Orphans,
    repair::{Repair, RepairTargets},
};
use super::{
    budget::Budget,
    copy::Report,
    preflight::{Checked, is_skipped, preflight},
};
use crate::{
    error::{EdgeError, ErrorKind, chain},
    failure::Failure,
    ids::ResourceName,
    machine::Scope,
    plan::{Level, Plan, Resource},
    report,
    scratch::{Phase, Scratch, ScratchError},
    source::{Since, Source, TableShape},
    target::{Depth, Target},
};

/// Returns how closely a comparison of `level` looks at a row.
const fn depth(level: Level) -> Depth {
    match level {
        Level::Presence => Depth::Presence,
        Level::Sample | Level::Full => Depth::Content,
    }
}

/// What a comparison needs.
pub struct Verify {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Which of its resources.
    pub scope: Scope,
    /// How much of their rows.
    pub level: Level,
    /// Resources of which only rows that changed are compared.
    pub since: BTreeMap<ResourceName, Since>,
    /// What the edges said about it.
    pub asked: Asked,
    /// The source.
    pub source: Arc<dyn Source>,
    /// The targets by plan name.
    pub targets: BTreeMap<String, Arc<dyn Target>>,
    /// Where it is noted.
    pub scratch: Arc<Scratch>,
    /// Who rewrites what differs; `None` only to look.
    pub repair: Option<Arc<Repair>>,
    /// Where names that no row owns are looked for, too.
    pub orphans: Vec<Arc<Orphans>>,
    /// Becomes true when it is to stop.
    pub stop: watch::Receiver<bool>,
}

/// Why a comparison ended without a result.
#[derive(Debug)]
pub enum VerifyEnd {
    /// It was told to stop; it goes on there.
    Interrupted,
    /// Its file cannot be used.
    Scratch(ScratchError),
    /// A target or the source failed while names were removed.
    Edge(EdgeError),
    /// What was done could not be told in the history.
    Failed(Failure),
}

impl From<ScratchError> for VerifyEnd {
    fn from(error: ScratchError) -> Self {
        Self::Scratch(error)
    }
}

impl From<EdgeError> for VerifyEnd {
    fn from(error: EdgeError) -> Self {
        Self::Edge(error)
    }
}

impl From<Trouble> for VerifyEnd {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Stopped => Self::Interrupted,
            Trouble::Edge(error) => Self::Edge(error),
            Trouble::Scratch(error) => Self::Scratch(error),
        }
    }
}

/// Why a part of it ended early.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was told to stop.
    Stopped,
    /// Source or target failed, for longer than the plan's retries.
    Edge(EdgeError),
    /// The file cannot be used.
    Scratch(ScratchError),
}

impl From<EdgeError> for Trouble {
    fn from(error: EdgeError) -> Self {
        Self::Edge(error)
    }
}

impl From<ScratchError> for Trouble {
    fn from(error: ScratchError) -> Self {
        Self::Scratch(error)
    }
}

/// What all parts of a comparison share.
struct Context {
    verify: Verify,
    /// Decides which rows a sample has.
    seed: u64,
    budget: Budget,
    reports: mpsc::Sender<Report>,
    observer: Mutex<Box<dyn report::Observer>>,
}

impl Context {
    fn emit(&self, event: &report::Event) {
        self.observer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .observe(event);
    }
}

/// What the edges said before a comparison.
pub struct Asked {
    checked: Checked,
    /// Tells one comparison from another: what is compared, and with what.
    pub about: String,
}

/// Asks source and targets what they are. Writes nothing.
///
/// # Errors
///
/// Exit code 3 where one of them cannot be asked.
pub async fn ask(
    plan: &Plan,
    scope: &Scope,
    level: Level,
    source: &dyn Source,
    targets: &BTreeMap<String, Arc<dyn Target>>,
    typed: &str,
) -> Result<Asked, Failure> {
    let checked = preflight(plan, scope, source, targets, typed).await?;
    let definitions: Vec<_> = chosen(plan, scope)
        .map(|resource| plan.definition(resource))
        .collect();
    let about = serde_json::json!({
        "plan": plan.name, "level": level.label(), "source": checked.source, "targets": checked.targets,
        "resources": definitions,
        // Not part of a definition: a run does not care. What was noted as an orphan under other keys is none.
        "keys": chosen(plan, scope).map(|one| plan.own_keys(one).ok()).collect::<Vec<_>>(),
        "hidden": chosen(plan, scope).map(Resource::hides_keys).collect::<Vec<_>>(),
    });
    Ok(Asked {
        checked,
        about: about.to_string(),
    })
}

fn chosen<'a>(plan: &'a Plan, scope: &Scope) -> impl Iterator<Item = &'a Resource> {
    plan.resources
        .iter()
        .filter(move |one| !is_skipped(scope, &one.name))
}

/// Compares what `verify` names and returns what was found. `observer` hears how far it is.
///
/// # Errors
///
/// [`VerifyEnd`]. A resource that cannot be compared is no error of the whole: its findings say why.
pub async fn verify(
    verify: Verify,
    observer: Box<dyn report::Observer>,
) -> Result<Findings, VerifyEnd> {
    let plan = Arc::clone(&verify.plan);
    let scratch = Arc::clone(&verify.scratch);
    let seed = seed(&scratch)?;
    // Only for people: reports are told as they come.
    let (reports, mut heard) = mpsc::channel(8);
    let context = Arc::new(Context {
        budget: Budget::new(plan.defaults.in_flight_bytes),
        seed,
        verify,
        reports,
        observer: Mutex::new(observer),
    });
    let telling = {
        let context = Arc::downgrade(&context);
        tokio::spawn(async move {
            while let Some(report) = heard.recv().await {
                if let (Report::Waiting { error, .. }, Some(context)) = (report, context.upgrade())
                {
                    context.emit(&report::Event::Notice { text: error });
                }
            }
        })
    };
    let resources: Vec<_> = chosen(&plan, &context.verify.scope).cloned().collect();
    let side_by_side = plan.defaults.parallel_resources.max(1) as usize;
    let passes: Vec<_> = resources
        .iter()
        .cloned()
        .map(|resource| {
            let shape = context.verify.asked.checked.shapes.get(&resource.name);
            pass(Arc::clone(&context), shape.cloned(), resource)
        })
        .collect();
    let ended: Vec<_> = stream::iter(passes)
        .buffer_unordered(side_by_side)
        .collect()
        .await;
    telling.abort();
    let mut troubles = BTreeMap::new();
    for (name, outcome) in ended {
        match outcome {
            Ok(()) => {}
            Err(Trouble::Stopped) => return Err(VerifyEnd::Interrupted),
            Err(Trouble::Scratch(error)) => return Err(error.into()),
            // Nothing that is found in another's target says anything.
            Err(Trouble::Edge(error)) if error.kind == ErrorKind::LeaseLost => {
                return Err(VerifyEnd::Edge(error));
            }
            Err(Trouble::Edge(error)) => {
                troubles.insert(name, chain(&error).join(": "));
            }
        }
    }
    let unlisted = unlisted(&context).await?;
    Ok(findings::collect(
        &context.verify,
        &resources,
        &troubles,
        &unlisted,
    )?)
}

/// Looks for names that no row owns; returns why those of some resources could not be told.
async fn unlisted(context: &Context) -> Result<BTreeMap<ResourceName, Unlisted>, VerifyEnd> {
    let mut unlisted = BTreeMap::new();
    for orphans in &context.verify.orphans {
        let name = &orphans.name;
        if !orphans.wanted.is_empty() {
            context.emit(&report::Event::Notice {
                text: format!("`{name}` is listed, and compared with the keys of its rows"),
            });
        }
        match orphans.find().await {
            Ok(alone) => unlisted.extend(
                alone
                    .into_iter()
                    .map(|(name, why)| (name, Unlisted { why, failed: false })),
            ),
            Err(Trouble::Edge(error)) => {
                let why = chain(&error).join(": ");
                let all = orphans.wanted.iter();
                let failed = |one: &ResourceName| {
                    let why = why.clone();
                    (one.clone(), Unlisted { why, failed: true })
                };
                unlisted.extend(all.map(failed));
            }
            Err(trouble) => return Err(trouble.into()),
        }
    }
    Ok(unlisted)
}

fn seed(scratch: &Scratch) -> Result<u64, ScratchError> {
    if let Some(text) = scratch.note("seed")?
        && let Ok(seed) = text.parse()
    {
        return Ok(seed);
    }
    let seed = crate::ids::randomness().u64(..);
    scratch.set_note("seed", &seed.to_string())?;
    Ok(seed)
}

/// Compares one resource to its end.
async fn pass(
    context: Arc<Context>,
    shape: Option<TableShape>,
    resource: Resource,
) -> (ResourceName, Result<(), Trouble>) {
    let name = resource.name.clone();
    let Some(shape) = shape else {
        return (name, Ok(()));
    };
    let outcome = async {
        let Some(walker) = Walker::new(context, resource, &shape).await? else {
            // Nothing that can be asked: its findings say so.
            return Ok(());
        };
        let walker = Arc::new(walker);
        if walker.begin(&shape).await? == Phase::Walking {
            walk::walk_all(&walker).await?;
        }
        walker.find_shared_keys().await?;
        settle::settle_all(&walker).await?;
        walker.finished()
    };
    let outcome = outcome.await;
    (name, outcome)
}
