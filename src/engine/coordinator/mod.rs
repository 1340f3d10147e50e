//! Owns the state of a run and takes messages one at a time: chunk stored, walk ended, check done, tick, signal.

mod anew;
mod asked;
mod fallback;
mod handed;
mod handing;
mod happened;
mod idle;
mod look;
mod mending;
mod newer;
mod proof;
mod published;
mod schedule;
mod share;
mod siblings;
mod steering;
mod steps;
mod tasks;
mod verify;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, Id},
};

use self::tasks::Tasks;
use super::{
    bind::Bound,
    book::{Book, BookError},
    breaker::{Breakers, Side},
    budget::Budget,
    copy::{Ended, Report},
    drain::NotDrained,
    handover::{Handed, IdPage},
    lease::LeaseKeeper,
    observers::Observers,
    open::OpenedRun,
    pace::Gate,
    throttle::{Measured, RateLimit},
    too_many,
    verify::VerifyEnd,
};
use crate::{
    control::{AtStep, Held, Live, MemoryFound, Paced, Pause, Queued},
    cutover::Action,
    error::EdgeError,
    failure::Failure,
    ids::{PartitionId, ResourceName, StepNumber},
    machine::ResourceLedger,
    plan::Plan,
    report,
    source::{RowQuery, Source, TableShape},
    target::{Backlog, Evidence, Recorded, Target},
};
pub use verify::Verified;

/// How often leases, evidence and the journal's marker are looked at. Short enough that a flushed target costs seconds
/// of work, long enough that an idle run costs nothing.
const TICK: Duration = Duration::from_secs(3);

/// How often a pause is looked for. A person who typed `pause` should not have to wonder.
const LOOK: Duration = Duration::from_millis(500);

/// How long chunks in flight may take after a signal before they are dropped; they are repeated by the next run.
const GRACE: Duration = Duration::from_secs(10);

/// How long a target may take to take its lease back.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a resource whose task panicked is blocked.
const PANICKED: &str = "a task of rekindle panicked: this is a bug";

/// How a run ended, for now.
#[derive(Debug)]
pub enum Ending {
    /// Everything the scope names is restored; so many rows are dead letters.
    Done {
        /// Rows that did not pass.
        dead_letters: u64,
        /// Those of them whose dead letters are left: the others were let go, or mended, before the run came to its end.
        dead_letters_left: u64,
        /// What was found where the plan asks for a comparison.
        verified: Option<Verified>,
    },
    /// Resources wait for a person; everything else is restored.
    Blocked {
        /// Which, and why.
        resources: Vec<(ResourceName, String)>,
        /// Whether a task panicked.
        bug: bool,
    },
    /// A step could not be done.
    StepFailed(Box<Failure>),
    /// A signal asked for it.
    Interrupted {
        /// Whether the steps of `finish:` had begun.
        in_finish: bool,
    },
    /// Somebody else writes to a target.
    LeaseLost(String),
    /// The journal could not be written, or a bug showed.
    Broken(BookError),
}

/// What an attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// For everything in flight.
    pub in_flight_bytes: u64,
    /// Rows longer than this are dead letters and never read. More than `in_flight_bytes` is alone in flight.
    pub longest_row_bytes: u64,
}

struct Leased {
    target: Arc<dyn Target>,
    lease: Arc<LeaseKeeper>,
    gate: Gate,
}

/// What a background task of the coordinator returns.
enum Finished {
    Bound(Box<Result<Bound, (Side, EdgeError)>>),
    Walked(Ended),
    Checked(Vec<Recorded>, Result<Vec<Evidence>, EdgeError>),
    Asked(Result<String, EdgeError>),
    Measured(Result<Measured, EdgeError>),
    Handed(Handed),
    Verified(Box<Result<Verified, VerifyEnd>>),
    Step(steps::Stepped),
    Drained(Result<(), NotDrained>),
    Watched(Result<Vec<Backlog>, EdgeError>),
    Looked(Box<Result<look::Looked, VerifyEnd>>),
}

/// What a background task is about.
#[derive(Debug, Clone)]
enum Job {
    Bind(ResourceName),
    Walk(ResourceName, PartitionId),
    Check(String),
    Prove(String),
    /// Asks the source whether it is there again.
    Ask,
    /// Measures for the `throttle` of a resource.
    Measure(ResourceName),
    /// The next step of a resource that is with its publisher, and the edges that it goes through.
    Hand(ResourceName, &'static [Side]),
    /// Compares the targets with the source, once every row is stored.
    Verify,
    /// Looks at a step of `finish:`, or carries it out.
    Step(StepNumber),
    /// Waits until the queue of a resource ran empty.
    Drain(ResourceName),
    /// Asks how much lies in the queues of a resource.
    Watch(ResourceName),
    /// Looks whether the target has the rows of a resource whose queue ran empty.
    Look(ResourceName),
}

impl Job {
    /// Returns whether the job moves rows or decides which rows are moved.
    const fn works(&self) -> bool {
        !matches!(
            self,
            Self::Check(_) | Self::Measure(_) | Self::Drain(_) | Self::Watch(_)
        )
    }
}

/// Carries out one attempt at a run.
pub struct Coordinator {
    plan: Arc<Plan>,
    book: Book,
    shapes: BTreeMap<ResourceName, TableShape>,
    source: Arc<dyn Source>,
    targets: BTreeMap<String, Leased>,
    budget: Budget,
    memory: Memory,
    observers: Observers,
    signals: mpsc::Receiver<()>,
    tasks: Tasks,
    jobs: HashMap<Id, Job>,
    /// Jobs that only ask, and are dropped at once when a signal comes: they may be in a long wait.
    probes: HashMap<Id, AbortHandle>,
    stops: BTreeMap<ResourceName, watch::Sender<bool>>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// Targets whose evidence has to be compared before anything is written to them.
    unproven: BTreeSet<String>,
    rewinds: BTreeMap<ResourceName, u32>,
    /// Resources that start over once their targets are proven, and why.
    anew: BTreeMap<ResourceName, String>,
    breakers: Breakers,
    /// One for each resource with `rows_per_second`, shared by its partitions.
    rates: BTreeMap<ResourceName, Arc<RateLimit>>,
    holds: BTreeMap<ResourceName, watch::Sender<bool>>,
    held: BTreeMap<ResourceName, Held>,
    paces: BTreeMap<ResourceName, Paced>,
    /// What was last seen in the queues of each resource.
    queued: BTreeMap<(ResourceName, String), Queued>,
    paused: Option<Pause>,
    /// True while the run stands still because of it.
    pause: watch::Sender<bool>,
    /// What `status` was last told.
    live: Option<Live>,
    memory_found: Option<MemoryFound>,
    state_path: PathBuf,
    /// About how many entities a resource's publisher knows.
    id_counts: BTreeMap<ResourceName, u64>,
    /// Ids whose call is journaled and not answered yet.
    calls: BTreeMap<ResourceName, IdPage>,
    /// Resources whose rows stand still after their publisher was called.
    settled: BTreeSet<ResourceName>,
    /// Places and entities of the dead letters whose rows are read again.
    mends: BTreeMap<ResourceName, Vec<String>>,
    /// Which rows were read again in this attempt, after their publisher was called.
    mended: BTreeMap<ResourceName, RowQuery>,
    /// Why rows became dead letters in this attempt.
    letter_reasons: BTreeMap<ResourceName, too_many::Reasons>,
    /// Failures of the source's data since a resource last stored a chunk.
    data_failures: BTreeMap<ResourceName, u32>,
    shares: share::Shares,
    /// What the comparison before the end found.
    verified: Option<Verified>,
    /// What the plan's steps do, in their order.
    actions: Vec<Arc<dyn Action>>,
    /// The step at work, and what it waits for.
    at_step: Option<AtStep>,
    /// The step that could not be done, and why.
    step_failed: Option<(StepNumber, String)>,
    interrupted: Option<Instant>,
    lease_lost: Option<String>,
    bug: bool,
    started: Instant,
    begun_rows: u64,
}

impl Coordinator {
    /// Returns a coordinator for an opened run. Every message on `signals` asks it to stop.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        opened: OpenedRun,
        targets: &BTreeMap<String, Arc<dyn Target>>,
        memory: Memory,
        observers: Observers,
        signals: mpsc::Receiver<()>,
    ) -> Self {
        let defaults = &plan.defaults;
        let walkers = defaults
            .parallel_resources
            .saturating_mul(defaults.parallel_partitions);
        let targets: BTreeMap<_, _> = opened
            .leases
            .into_iter()
            .filter_map(|(name, lease)| {
                let target = Arc::clone(targets.get(&name)?);
                let gate = Gate::new(walkers);
                let leased = Leased {
                    target,
                    lease,
                    gate,
                };
                Some((name, leased))
            })
            .collect();
        let unproven = targets.keys().cloned().collect();
        let limited = plan
            .resources
            .iter()
            .filter_map(|one| Some((one.name.clone(), one.throttle.rows_per_second?)));
        let rates = limited
            .map(|(name, rows)| (name, Arc::new(RateLimit::new(rows))))
            .collect();
        let mut coordinator = Self {
            breakers: Breakers::new(plan.defaults.retry.clone()),
            rates,
            holds: BTreeMap::new(),
            held: BTreeMap::new(),
            paces: BTreeMap::new(),
            queued: BTreeMap::new(),
            paused: None,
            pause: watch::channel(false).0,
            live: None,
            memory_found: steering::memory_found(),
            state_path: opened.state_path.clone(),
            probes: HashMap::new(),
            plan,
            book: opened.book,
            shapes: opened.shapes,
            source: opened.source,
            actions: opened.actions,
            at_step: None,
            step_failed: None,
            targets,
            budget: Budget::new(memory.in_flight_bytes),
            memory,
            observers,
            signals,
            tasks: Tasks::default(),
            jobs: HashMap::new(),
            stops: BTreeMap::new(),
            // Each walk reports a chunk or two ahead of the journal, so that no write waits for a commit.
            reports: mpsc::channel(8),
            unproven,
            rewinds: BTreeMap::new(),
            anew: BTreeMap::new(),
            id_counts: opened.id_counts,
            calls: BTreeMap::new(),
            settled: BTreeSet::new(),
            mends: BTreeMap::new(),
            mended: BTreeMap::new(),
            letter_reasons: BTreeMap::new(),
            data_failures: BTreeMap::new(),
            shares: share::Shares::default(),
            verified: None,
            interrupted: None,
            lease_lost: None,
            bug: false,
            started: Instant::now(),
            begun_rows: 0,
        };
        coordinator.begun_rows = coordinator.totals().0;
        if !opened.announced {
            coordinator.announce(opened.attempt, &opened.state_path);
        }
        for text in opened.notices {
            coordinator.emit(&report::Event::Notice { text });
        }
        coordinator
    }

    /// Carries the run to its end, or as far as it goes, and closes the journal.
    pub async fn run(mut self) -> Ending {
        let ending = match self.work().await {
            Ok(ending) => ending,
            Err(error) => Ending::Broken(error),
        };
        self.tasks.shutdown().await;
        // Also what a process left that was killed: this one may be too quick to write a file of its own.
        Live::remove(&self.state_path);
        for leased in self.targets.values() {
            // A lease that cannot be given back runs out by itself.
            tokio::time::timeout(FAREWELL, leased.lease.release())
                .await
                .ok();
        }
        if matches!(ending, Ending::Done { .. }) {
            self.tell_asked_ids().await;
            self.tell_newer().await;
        }
        let (rows, bytes, dead_letters) = self.totals();
        self.emit(&report::Event::RunEnded {
            run: self.book.run_id().clone(),
            state: self
                .book
                .run()
                .map_or("unknown", |run| run.state.label())
                .to_owned(),
            rows,
            bytes,
            dead_letters,
            elapsed_ms: millis(self.started.elapsed()),
        });
        match self.book.journal().clone().close().await {
            Err(error) if !matches!(ending, Ending::Broken(_)) => Ending::Broken(error.into()),
            _ => ending,
        }
    }

    async fn work(&mut self) -> Result<Ending, BookError> {
        self.anew = self.of_older_releases();
        self.drift().await?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Before anything is started: a run that was paused when it died stays paused.
        self.look_around().await?;
        loop {
            self.schedule().await?;
            if self.tasks.is_empty() && !self.is_paused() {
                match self.idle().await? {
                    Some(ending) => return Ok(ending),
                    None => continue,
                }
            }
            let grace = self
                .interrupted
                .map_or(GRACE, |since| GRACE.saturating_sub(since.elapsed()));
            tokio::select! {
                biased;
                Some(()) = self.signals.recv(), if self.interrupted.is_none() => self.interrupt(),
                Some(report) = self.reports.1.recv() => self.heard(report).await?,
                Some(joined) = self.tasks.join_next_with_id() => self.joined(joined).await?,
                () = tokio::time::sleep(grace), if self.interrupted.is_some() => self.tasks.abort_all(),
                _ = look.tick() => self.look_around().await?,
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    fn announce(&mut self, attempt: u32, state_path: &Path) {
        let resources = self
            .book
            .resources()
            .iter()
            .map(|resource| report::ResourceStanding {
                name: resource.name.clone(),
                state: resource.state.label().to_owned(),
                estimated_rows: self
                    .shapes
                    .get(&resource.name)
                    .map_or(resource.estimated_rows, |shape| shape.estimated_rows),
                rows: resource.totals().0,
            });
        let started = report::Event::RunStarted {
            run: self.book.run_id().clone(),
            plan: self.plan.name.clone(),
            attempt,
            state: state_path.display().to_string(),
            resources: resources.collect(),
        };
        self.emit(&started);
    }

    /// Returns whether a person asked for a pause, and nothing else ends it.
    const fn is_paused(&self) -> bool {
        self.paused.is_some() && self.interrupted.is_none() && self.lease_lost.is_none()
    }

    fn emit(&mut self, event: &report::Event) {
        self.observers.emit(event);
    }

    fn totals(&self) -> (u64, u64, u64) {
        self.book
            .resources()
            .iter()
            .map(ResourceLedger::totals)
            .fold((0, 0, 0), |sum, one| {
                (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2)
            })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
