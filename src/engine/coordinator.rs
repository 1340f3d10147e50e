//! Owns the state of a run and takes messages one at a time: chunk stored, walk ended, check done, tick, signal.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::{Id, JoinError, JoinSet},
};

use super::{
    bind::{Bind, Bound},
    book::{Book, BookError},
    budget::Budget,
    copy::{Ended, Report, Walk},
    evidence::{self, Redo, partition_key, partition_keys},
    lease::LeaseKeeper,
    open::{OpenedRun, row_query},
    retry::retrying,
};
use crate::{
    error::{Disposition, EdgeError, ErrorKind, chain},
    failpoint,
    ids::{PartitionId, ResourceName},
    machine::{
        AttemptEnd, ChunkEvent, ChunkState, DeadLetter, Event, PartitionEvent, PartitionPlan,
        PartitionState, Progress, ResourceEvent, ResourceLedger, ResourceState, RunEvent, RunState,
    },
    plan::{Plan, Resource},
    report,
    source::{Source, TableShape},
    target::{Evidence, Recorded, Target},
};

/// How often leases, evidence and the journal's marker are looked at. Short enough that a flushed target costs seconds
/// of work, long enough that an idle run costs nothing.
const TICK: Duration = Duration::from_secs(3);

/// How long chunks in flight may take after a signal before they are dropped; they are repeated by the next run.
const GRACE: Duration = Duration::from_secs(10);

/// Voids of one resource that block it: something keeps emptying the target.
const MOST_VOIDS: u32 = 3;

/// Times one attempt may rewind partitions of one resource before it blocks, for the same reason.
const MOST_REWINDS: u32 = 10;

/// Rows a resource must have before its dead letters are judged in percent.
const PERCENT_FROM_ROWS: u64 = 1000;

/// A chunk limit never takes more than this part of the memory budget per partition that may be walked.
const CHUNKS_PER_PARTITION: u64 = 4;

/// How a run ended, for now.
#[derive(Debug)]
pub enum Ending {
    /// Everything the scope names is restored; so many rows are dead letters.
    Done {
        /// Rows that did not pass.
        dead_letters: u64,
    },
    /// Resources wait for a person; everything else is restored.
    Blocked {
        /// Which, and why.
        resources: Vec<(ResourceName, String)>,
        /// Whether a task panicked.
        bug: bool,
    },
    /// A signal asked for it.
    Interrupted,
    /// Somebody else writes to a target.
    LeaseLost(String),
    /// The journal could not be written, or a bug showed.
    Broken(BookError),
}

struct Leased {
    target: Arc<dyn Target>,
    lease: Arc<LeaseKeeper>,
}

/// What a background task of the coordinator returns.
enum Finished {
    Bound(Box<Result<Bound, EdgeError>>),
    Walked(Ended),
    Checked(Vec<Recorded>, Result<Vec<Evidence>, EdgeError>),
}

/// What a background task is about.
#[derive(Debug, Clone)]
enum Job {
    Bind(ResourceName),
    Walk(ResourceName, PartitionId),
    Check(String),
}

/// Carries out one attempt at a run.
pub struct Coordinator {
    plan: Arc<Plan>,
    book: Book,
    shapes: BTreeMap<ResourceName, TableShape>,
    source: Arc<dyn Source>,
    targets: BTreeMap<String, Leased>,
    budget: Budget,
    in_flight_bytes: u64,
    observers: Vec<Box<dyn report::Observer>>,
    signals: mpsc::Receiver<()>,
    tasks: JoinSet<Finished>,
    jobs: HashMap<Id, Job>,
    stops: BTreeMap<ResourceName, watch::Sender<bool>>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// Targets whose evidence has to be compared before anything is written to them.
    unproven: BTreeSet<String>,
    rewinds: BTreeMap<ResourceName, u32>,
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
        source: Arc<dyn Source>,
        targets: &BTreeMap<String, Arc<dyn Target>>,
        in_flight_bytes: u64,
        observers: Vec<Box<dyn report::Observer>>,
        signals: mpsc::Receiver<()>,
    ) -> Self {
        let targets: BTreeMap<_, _> = opened
            .leases
            .into_iter()
            .filter_map(|(name, lease)| {
                let target = Arc::clone(targets.get(&name)?);
                Some((name, Leased { target, lease }))
            })
            .collect();
        let unproven = targets.keys().cloned().collect();
        let mut coordinator = Self {
            plan,
            book: opened.book,
            shapes: opened.shapes,
            source,
            targets,
            budget: Budget::new(in_flight_bytes),
            in_flight_bytes,
            observers,
            signals,
            tasks: JoinSet::new(),
            jobs: HashMap::new(),
            stops: BTreeMap::new(),
            // Each walk reports a chunk or two ahead of the journal, so that no write waits for a commit.
            reports: mpsc::channel(8),
            unproven,
            rewinds: BTreeMap::new(),
            interrupted: None,
            lease_lost: None,
            bug: false,
            started: Instant::now(),
            begun_rows: 0,
        };
        coordinator.begun_rows = coordinator.totals().0;
        coordinator.announce(opened.attempt, &opened.state_path, &opened.notices);
        coordinator
    }

    /// Carries the run to its end, or as far as it goes, and closes the journal.
    pub async fn run(mut self) -> Ending {
        let ending = match self.work().await {
            Ok(ending) => ending,
            Err(error) => Ending::Broken(error),
        };
        self.tasks.shutdown().await;
        for leased in self.targets.values() {
            // A lease that cannot be given back runs out by itself.
            leased.lease.release().await.ok();
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
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.schedule().await?;
            if self.tasks.is_empty() {
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
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    // What to start next.

    async fn schedule(&mut self) -> Result<(), BookError> {
        if self.interrupted.is_some()
            || self.lease_lost.is_some()
            || self.book.run()?.state != RunState::Restoring
        {
            return Ok(());
        }
        self.finish_copied().await?;
        if !self.unproven.is_empty() {
            // Nothing new until the target has proven what it holds; the walks under way were told to stop.
            return Ok(());
        }
        if let Some((resource, partition)) = self.suspect() {
            // Alone: whatever killed the last process is met by one small chunk at a time.
            if self.tasks.is_empty() {
                self.walk(&resource, partition, Some(1));
            }
            return Ok(());
        }
        self.walk_open();
        self.bind_next();
        Ok(())
    }

    /// Moves resources whose last partition is exhausted.
    async fn finish_copied(&mut self) -> Result<(), BookError> {
        let copied: Vec<ResourceName> = self
            .book
            .resources()
            .iter()
            .filter(|resource| resource.state == ResourceState::Syncing && resource.is_exhausted())
            .map(|resource| resource.name.clone())
            .collect();
        for name in copied {
            self.book
                .resource_moved(&name, ResourceEvent::Copied)
                .await?;
            self.stops.remove(&name);
            if let Some((rows, bytes, dead_letters)) =
                self.book.resource(&name).map(ResourceLedger::totals)
            {
                self.emit(&report::Event::ResourceSynced {
                    resource: name,
                    rows,
                    bytes,
                    dead_letters,
                });
            }
        }
        Ok(())
    }

    fn suspect(&self) -> Option<(ResourceName, PartitionId)> {
        let syncing = self
            .book
            .resources()
            .iter()
            .filter(|resource| resource.state == ResourceState::Syncing);
        syncing
            .flat_map(|resource| resource.partitions.iter().map(move |one| (resource, one)))
            .find_map(|(resource, partition)| {
                matches!(partition.state, PartitionState::Suspect(_))
                    .then(|| (resource.name.clone(), partition.id))
            })
    }

    fn walk_open(&mut self) {
        let most = self.plan.defaults.parallel_partitions as usize;
        let mut due = Vec::new();
        for resource in self.book.resources() {
            if resource.state != ResourceState::Syncing {
                continue;
            }
            let walking = self.walking(&resource.name);
            let open = resource.partitions.iter().filter(|partition| {
                matches!(partition.state, PartitionState::Open(_))
                    && !walking.contains(&partition.id)
            });
            due.extend(
                open.take(most.saturating_sub(walking.len()))
                    .map(|one| (resource.name.clone(), one.id)),
            );
        }
        for (resource, partition) in due {
            self.walk(&resource, partition, None);
        }
    }

    fn bind_next(&mut self) {
        let most = self.plan.defaults.parallel_resources as usize;
        let binding: BTreeSet<ResourceName> = self
            .jobs
            .values()
            .filter_map(|job| match job {
                Job::Bind(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        let syncing = self
            .book
            .resources()
            .iter()
            .filter(|one| one.state == ResourceState::Syncing)
            .count();
        let room = most.saturating_sub(syncing + binding.len());
        let due: Vec<Resource> = self
            .plan
            .resources
            .iter()
            .filter(|resource| !binding.contains(&resource.name) && self.is_due(resource))
            .take(room)
            .cloned()
            .collect();
        for resource in due {
            self.bind(&resource);
        }
    }

    fn is_due(&self, resource: &Resource) -> bool {
        self.book
            .resource(&resource.name)
            .is_some_and(|ledger| ledger.state == ResourceState::Pending)
            && resource.after.iter().all(|name| {
                self.book
                    .resource(name)
                    .is_none_or(|one| one.state.is_restored())
            })
    }

    fn bind(&mut self, resource: &Resource) {
        let (Some(leased), Ok(run)) = (self.targets.get(&resource.to), self.book.run()) else {
            return;
        };
        let bind = Bind {
            resource: resource.name.clone(),
            query: row_query(&resource.from, &run.scope),
            source: Arc::clone(&self.source),
            target: Arc::clone(&leased.target),
            partitions: self.plan.defaults.parallel_partitions,
            retry: self.plan.defaults.retry.clone(),
        };
        let reports = self.reports.0.clone();
        let name = resource.name.clone();
        let task = self.tasks.spawn(async move {
            let told = |error: &EdgeError, wait| {
                // Only for people: a report that finds no room is not worth waiting for.
                let waiting = Report::Waiting {
                    resource: name.clone(),
                    error: error.to_string(),
                    wait,
                };
                reports.try_send(waiting).ok();
            };
            Finished::Bound(Box::new(bind.run(told).await))
        });
        self.jobs
            .insert(task.id(), Job::Bind(resource.name.clone()));
    }

    fn walk(&mut self, name: &ResourceName, id: PartitionId, quota: Option<u32>) {
        let Some(resource) = self.plan.resource(name) else {
            return;
        };
        let Some(leased) = self.targets.get(&resource.to) else {
            return;
        };
        let Some(ledger) = self.book.resource(name) else {
            return;
        };
        let Some(partition) = ledger.partitions.iter().find(|one| one.id == id) else {
            return;
        };
        let scope = self.book.run().map_or_else(
            |_| crate::machine::Scope::default(),
            |run| run.scope.clone(),
        );
        let defaults = &self.plan.defaults;
        let walkers =
            u64::from(defaults.parallel_resources) * u64::from(defaults.parallel_partitions);
        let share = (self.in_flight_bytes / (CHUNKS_PER_PARTITION * walkers.max(1))).max(16 * 1024);
        let stop = self
            .stops
            .entry(name.clone())
            .or_insert_with(|| watch::channel(false).0);
        let walk = Walk {
            run: self.book.run_id().clone(),
            partition: partition_key(ledger, partition),
            range: partition.remaining(),
            progress: partition.state.progress().clone(),
            query: row_query(&resource.from, &scope),
            source: Arc::clone(&self.source),
            target: Arc::clone(&leased.target),
            lease: Arc::clone(&leased.lease),
            budget: self.budget.clone(),
            chunk_bytes: resource.chunk.bytes.min(share),
            chunk_rows: resource.chunk.rows,
            longest_row: self.in_flight_bytes,
            retry: defaults.retry.clone(),
            quota,
            stop: stop.subscribe(),
            reports: self.reports.0.clone(),
        };
        let task = self
            .tasks
            .spawn(async move { Finished::Walked(walk.run().await) });
        self.jobs.insert(task.id(), Job::Walk(name.clone(), id));
    }

    fn walking(&self, resource: &ResourceName) -> BTreeSet<PartitionId> {
        let walks = self.jobs.values().filter_map(|job| match job {
            Job::Walk(name, id) if name == resource => Some(*id),
            _ => None,
        });
        walks.collect()
    }

    // What happened.

    async fn heard(&mut self, report: Report) -> Result<(), BookError> {
        match report {
            Report::Stored {
                resource,
                partition,
                progress,
                dead_letters,
                state,
            } => {
                self.stored(resource, partition, progress, dead_letters, state)
                    .await
            }
            Report::Waiting {
                resource,
                error,
                wait,
            } => {
                self.emit(&report::Event::Waiting {
                    resource: Some(resource),
                    error,
                    wait_ms: millis(wait),
                });
                Ok(())
            }
        }
    }

    async fn stored(
        &mut self,
        name: ResourceName,
        partition: PartitionId,
        progress: Progress,
        dead_letters: Vec<DeadLetter>,
        state: ChunkState,
    ) -> Result<(), BookError> {
        // Refuses a chunk that is recorded before the target acknowledged it.
        state.apply(ChunkEvent::Recorded)?;
        let chunk = progress.chunk.0;
        self.book
            .record(vec![Event::Chunk {
                partition,
                progress,
                dead_letters,
            }])
            .await?;
        failpoint::hit("after_commit")?;
        let Some((rows, bytes, dead)) = self.book.resource(&name).map(ResourceLedger::totals)
        else {
            return Ok(());
        };
        self.emit(&report::Event::ChunkStored {
            resource: name.clone(),
            partition: partition.0,
            chunk,
            rows,
            bytes,
            dead_letters: dead,
        });
        let limit = self
            .plan
            .resource(&name)
            .map(|resource| resource.dead_letters);
        if let Some(limit) = limit {
            let percent = dead as f64 * 100.0 / rows.max(1) as f64;
            let drowning =
                dead > limit.max || (rows >= PERCENT_FROM_ROWS && percent > limit.percent);
            if drowning
                && self
                    .book
                    .resource(&name)
                    .is_some_and(|one| one.state.is_working())
            {
                let reason = format!(
                    "{dead} of {rows} rows are dead letters, above the limit of {} or {} %",
                    limit.max, limit.percent
                );
                self.block(&name, reason).await?;
            }
        }
        Ok(())
    }

    async fn joined(&mut self, joined: Result<(Id, Finished), JoinError>) -> Result<(), BookError> {
        // A task's reports are all sent before it ends: they come first.
        while let Ok(report) = self.reports.1.try_recv() {
            self.heard(report).await?;
        }
        let (id, finished) = match joined {
            Ok((id, finished)) => (id, Some(finished)),
            Err(error) => {
                self.bug |= error.is_panic();
                (error.id(), None)
            }
        };
        let Some(job) = self.jobs.remove(&id) else {
            return Ok(());
        };
        match (job, finished) {
            (Job::Bind(name), Some(Finished::Bound(bound))) => self.bound(name, *bound).await,
            (Job::Walk(name, partition), Some(Finished::Walked(ended))) => {
                self.walked(&name, partition, ended).await
            }
            (Job::Check(target), Some(Finished::Checked(recorded, evidence))) => {
                self.checked(&target, &recorded, evidence);
                Ok(())
            }
            (Job::Bind(name) | Job::Walk(name, _), _) if self.interrupted.is_none() => {
                self.block(
                    &name,
                    "a task of rekindle panicked: this is a bug".to_owned(),
                )
                .await
            }
            _ => Ok(()),
        }
    }

    async fn bound(
        &mut self,
        name: ResourceName,
        bound: Result<Bound, EdgeError>,
    ) -> Result<(), BookError> {
        if self.interrupted.is_some() {
            return Ok(());
        }
        let Bound { shape, ranges } = match bound {
            Ok(bound) => bound,
            Err(error) => return self.failed(&name, &error).await,
        };
        let rows = self
            .plan
            .resource(&name)
            .map_or(1, |resource| resource.chunk.rows);
        let first = self.book.next_partition();
        let partitions: Vec<_> = (1u32..)
            .zip(ranges)
            .map(|(ordinal, range)| PartitionPlan {
                id: PartitionId(first + u64::from(ordinal) - 1),
                ordinal,
                range,
                page_rows: rows,
            })
            .collect();
        let count = partitions.len();
        self.book
            .record(vec![Event::ResourceBound {
                run: self.book.run_id().clone(),
                resource: name.clone(),
                columns: shape.fingerprint.clone(),
                estimated_rows: shape.estimated_rows,
                partitions,
            }])
            .await?;
        self.emit(&report::Event::ResourceStarted {
            resource: name.clone(),
            estimated_rows: shape.estimated_rows,
            partitions: count,
        });
        self.shapes.insert(name, shape);
        Ok(())
    }

    async fn walked(
        &mut self,
        name: &ResourceName,
        partition: PartitionId,
        ended: Ended,
    ) -> Result<(), BookError> {
        match ended {
            Ended::Exhausted => {
                let open = self
                    .book
                    .ledger()
                    .partition(partition)
                    .is_some_and(|(_, _, one)| {
                        matches!(
                            one.state,
                            PartitionState::Open(_) | PartitionState::Suspect(_)
                        )
                    });
                if open {
                    self.book
                        .partition_moved(partition, PartitionEvent::Exhausted)
                        .await?;
                }
                Ok(())
            }
            Ended::Stopped | Ended::Quota => Ok(()),
            Ended::Failed(error) => self.failed(name, &error).await,
        }
    }

    async fn failed(&mut self, name: &ResourceName, error: &EdgeError) -> Result<(), BookError> {
        match error.kind.disposition() {
            Disposition::Recheck => {
                if let Some(target) = self.plan.resource(name).map(|resource| resource.to.clone()) {
                    self.doubt(&target);
                }
                Ok(())
            }
            Disposition::Stop => {
                self.lease_lost = Some(error.to_string());
                self.stop_all();
                Ok(())
            }
            Disposition::Retry => {
                let tries = self.plan.defaults.retry.attempts;
                self.block(
                    name,
                    format!("gave up after {tries} tries: {}", chain(error).join(": ")),
                )
                .await
            }
            Disposition::DeadLetter | Disposition::Block => {
                self.block(name, chain(error).join(": ")).await
            }
        }
    }

    async fn block(&mut self, name: &ResourceName, reason: String) -> Result<(), BookError> {
        if self
            .book
            .resource(name)
            .is_none_or(|resource| !resource.state.is_working())
        {
            return Ok(());
        }
        self.stop(name);
        self.book
            .resource_moved(
                name,
                ResourceEvent::Blocked {
                    reason: reason.clone(),
                },
            )
            .await?;
        self.emit(&report::Event::ResourceBlocked {
            resource: name.clone(),
            reason,
        });
        Ok(())
    }

    fn interrupt(&mut self) {
        self.interrupted = Some(Instant::now());
        self.stop_all();
        let text =
            "stopping: chunks in flight are finished and journaled; a second signal ends at once"
                .to_owned();
        self.emit(&report::Event::Notice { text });
    }

    fn stop(&mut self, name: &ResourceName) {
        if let Some(stop) = self.stops.remove(name) {
            stop.send_replace(true);
        }
    }

    fn stop_all(&mut self) {
        for stop in std::mem::take(&mut self.stops).into_values() {
            stop.send_replace(true);
        }
    }

    // Evidence.

    async fn tick(&mut self) -> Result<(), BookError> {
        self.book.journal().write_marker().await?;
        for name in self.targets.keys().cloned().collect::<Vec<_>>() {
            let checking = self
                .jobs
                .values()
                .any(|job| matches!(job, Job::Check(target) if *target == name));
            if !checking && !self.unproven.contains(&name) && self.interrupted.is_none() {
                self.check(&name);
            }
        }
        Ok(())
    }

    /// Compares the evidence of a target with the journal in the background, and renews its lease.
    fn check(&mut self, name: &str) {
        let Some(leased) = self.targets.get(name) else {
            return;
        };
        let recorded = self.recorded(name);
        let (target, lease, run) = (
            Arc::clone(&leased.target),
            Arc::clone(&leased.lease),
            self.book.run_id().clone(),
        );
        let task = self.tasks.spawn(async move {
            let evidence = match lease.ensure().await {
                Ok(()) => target.evidence(&run, &recorded).await,
                Err(error) => Err(error),
            };
            Finished::Checked(recorded, evidence)
        });
        self.jobs.insert(task.id(), Job::Check(name.to_owned()));
    }

    fn checked(
        &mut self,
        target: &str,
        recorded: &[Recorded],
        evidence: Result<Vec<Evidence>, EdgeError>,
    ) {
        match evidence {
            Ok(evidence) if evidence.iter().all(|one| *one == Evidence::Stands) => {}
            Ok(evidence) => {
                // A resource that started over meanwhile has other partitions now: what was asked about is history.
                let lost = recorded.iter().zip(evidence).any(|(had, one)| {
                    one != Evidence::Stands
                        && self.book.ledger().partition(had.partition.id).is_some()
                });
                if lost {
                    self.doubt(target);
                }
            }
            Err(error) if error.kind == ErrorKind::LeaseLost => {
                self.lease_lost = Some(error.to_string());
                self.stop_all();
            }
            // The walks meet the same trouble and wait for it to pass.
            Err(error) => tracing::debug!(target, %error, "evidence not read"),
        }
    }

    /// Stops everything that writes to `target` until its evidence is compared with the journal.
    fn doubt(&mut self, target: &str) {
        self.unproven.insert(target.to_owned());
        let writing: Vec<_> = self
            .plan
            .resources
            .iter()
            .filter(|one| one.to == target)
            .map(|one| one.name.clone())
            .collect();
        for name in writing {
            self.stop(&name);
        }
    }

    fn recorded(&self, target: &str) -> Vec<Recorded> {
        evidence::recorded(&self.book, |name| {
            self.plan.resource(name).is_some_and(|one| one.to == target)
        })
    }

    /// Compares the evidence of `name` with the journal and records what has to be done again. Nothing may write to
    /// the target meanwhile. Returns whether anything has to be.
    async fn prove(&mut self, name: &str) -> Result<bool, BookError> {
        let Some(leased) = self.targets.get(name) else {
            return Ok(false);
        };
        let (target, lease) = (Arc::clone(&leased.target), Arc::clone(&leased.lease));
        let recorded = self.recorded(name);
        let run = self.book.run_id().clone();
        let retry = self.plan.defaults.retry.clone();
        let (target_ref, lease_ref, recorded_ref, run_ref) = (&target, &lease, &recorded, &run);
        let mut waits = Vec::new();
        let asked = retrying(
            &retry,
            |error, wait| waits.push((error.to_string(), wait)),
            || async move {
                lease_ref.ensure().await?;
                target_ref.evidence(run_ref, recorded_ref).await
            },
        )
        .await;
        for (error, wait) in waits {
            self.emit(&report::Event::Waiting {
                resource: None,
                error,
                wait_ms: millis(wait),
            });
        }
        let found = match asked {
            Ok(found) => found,
            Err(error) if error.kind == ErrorKind::LeaseLost => {
                self.lease_lost = Some(error.to_string());
                return Ok(false);
            }
            Err(error) => {
                self.unproven.remove(name);
                let users: Vec<_> = self
                    .plan
                    .resources
                    .iter()
                    .filter(|one| one.to == name)
                    .collect();
                for user in users
                    .into_iter()
                    .map(|one| one.name.clone())
                    .collect::<Vec<_>>()
                {
                    self.failed(&user, &error).await?;
                }
                return Ok(false);
            }
        };
        let redo = evidence::redo(&self.book, &recorded, &found).await?;
        let any = !redo.is_empty();
        let place = target.place().to_owned();
        for one in redo {
            match one {
                Redo::StartOver { resource, .. } => {
                    self.start_over(&resource, &place, &*target).await?;
                }
                Redo::Rewind {
                    resource,
                    partition,
                    from,
                    to,
                } => {
                    let text = format!(
                        "`{resource}` goes back in partition {partition} from chunk {from} to chunk {}: {place} holds an \
                         older state than the journal",
                        to.chunk
                    );
                    self.rewind(&resource, partition, to, text).await?;
                }
            }
        }
        self.unproven.remove(name);
        Ok(any)
    }

    async fn start_over(
        &mut self,
        name: &ResourceName,
        place: &str,
        target: &dyn Target,
    ) -> Result<(), BookError> {
        let rows = self
            .book
            .resource(name)
            .map_or(0, |resource| resource.totals().0);
        let reason = format!("{place} no longer holds any of the {rows} rows that were stored");
        // Content first: a crash in between finds no evidence and starts over again.
        if let Err(error) = target.clear(name).await {
            return self.failed(name, &error).await;
        }
        let event = ResourceEvent::StartedOver {
            reason: reason.clone(),
            void: true,
        };
        self.book.resource_moved(name, event).await?;
        self.emit(&report::Event::Redone {
            resource: name.clone(),
            text: format!("`{name}` starts over: {reason}"),
        });
        let voids = self
            .book
            .resource(name)
            .map_or(0, |resource| resource.voids);
        if voids >= MOST_VOIDS {
            self.block(
                name,
                format!("its stored rows vanished {voids} times: something keeps emptying {place}"),
            )
            .await?;
        }
        Ok(())
    }

    async fn rewind(
        &mut self,
        name: &ResourceName,
        partition: PartitionId,
        to: Progress,
        text: String,
    ) -> Result<(), BookError> {
        let run = self.book.run_id().clone();
        let mut events = vec![Event::Partition {
            partition,
            event: PartitionEvent::Rewound(to),
        }];
        let state = self
            .book
            .resource(name)
            .map(|resource| resource.state.clone());
        if matches!(
            state,
            Some(ResourceState::Syncing | ResourceState::Synced | ResourceState::Verified)
        ) {
            events.push(Event::Resource {
                run,
                resource: name.clone(),
                event: ResourceEvent::Reopened,
            });
        }
        self.book.record(events).await?;
        self.emit(&report::Event::Redone {
            resource: name.clone(),
            text,
        });
        let rewinds = self.rewinds.entry(name.clone()).or_default();
        *rewinds += 1;
        if *rewinds > MOST_REWINDS {
            self.block(
                name,
                "the target went back to an older state too often".to_owned(),
            )
            .await?;
        }
        Ok(())
    }

    // Nothing is running.

    /// Decides what comes after the last task ended; `None` to go on.
    async fn idle(&mut self) -> Result<Option<Ending>, BookError> {
        if let Some(lost) = self.lease_lost.clone() {
            self.book
                .attempt_ended(
                    AttemptEnd::Failed {
                        reason: lost.clone(),
                    },
                    Some(RunEvent::Fail),
                )
                .await?;
            return Ok(Some(Ending::LeaseLost(lost)));
        }
        if self.interrupted.is_some() || self.signals.try_recv().is_ok() {
            self.book
                .attempt_ended(AttemptEnd::Interrupted, Some(RunEvent::Interrupt))
                .await?;
            return Ok(Some(Ending::Interrupted));
        }
        let state = self.book.run()?.state;
        if state == RunState::Finishing {
            // Markers may be gone already, so there is no evidence to ask for.
            return self.finish().await.map(Some);
        }
        if let Some(name) = self.unproven.first().cloned() {
            self.drift().await?;
            let again = self.prove(&name).await?;
            if again && state == RunState::Verifying {
                self.book.run_moved(RunEvent::RestoreAgain).await?;
            }
            return Ok(None);
        }
        let blocked: Vec<_> = self
            .book
            .resources()
            .iter()
            .filter_map(|resource| match &resource.state {
                ResourceState::Blocked { reason, .. } => {
                    Some((resource.name.clone(), reason.clone()))
                }
                _ => None,
            })
            .collect();
        if !blocked.is_empty() {
            let reason = format!("{} blocked", count(blocked.len() as u64, "resource"));
            self.book
                .attempt_ended(AttemptEnd::Failed { reason }, Some(RunEvent::Fail))
                .await?;
            return Ok(Some(Ending::Blocked {
                resources: blocked,
                bug: self.bug,
            }));
        }
        match state {
            RunState::Restoring => {
                if self
                    .book
                    .resources()
                    .iter()
                    .any(|resource| !resource.state.is_restored())
                {
                    return Err(crate::machine::IllegalTransition::new(
                        "run",
                        "restoring",
                        "nothing left to start",
                    )
                    .into());
                }
                self.book.run_moved(RunEvent::Verify).await?;
                self.unproven = self.targets.keys().cloned().collect();
                Ok(None)
            }
            RunState::Verifying => {
                let run = self.book.run_id().clone();
                let verified = self
                    .book
                    .resources()
                    .iter()
                    .filter(|one| one.state == ResourceState::Synced);
                let mut events: Vec<_> = verified
                    .map(|one| Event::Resource {
                        run: run.clone(),
                        resource: one.name.clone(),
                        event: ResourceEvent::Verified,
                    })
                    .collect();
                events.push(Event::Run {
                    run,
                    event: RunEvent::Finish,
                });
                self.book.record(events).await?;
                Ok(None)
            }
            other => {
                Err(crate::machine::IllegalTransition::new("run", other.label(), "finish").into())
            }
        }
    }

    /// Blocks resources whose columns changed since they were bound (once per attempt, before anything is written).
    async fn drift(&mut self) -> Result<(), BookError> {
        let drifted: Vec<_> = self
            .book
            .resources()
            .iter()
            .filter(|resource| resource.state == ResourceState::Syncing)
            .filter_map(|resource| {
                let (had, now) = (
                    resource.columns.as_ref()?,
                    &self.shapes.get(&resource.name)?.fingerprint,
                );
                (had != now).then(|| {
                    (
                        resource.name.clone(),
                        format!("its columns changed from {had} to {now}"),
                    )
                })
            })
            .collect();
        for (name, reason) in drifted {
            self.block(&name, reason).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<Ending, BookError> {
        failpoint::hit("before_forget")?;
        let run = self.book.run_id().clone();
        for (name, leased) in &self.targets {
            let of_target = |one: &&ResourceLedger| {
                self.plan
                    .resource(&one.name)
                    .is_some_and(|plan| plan.to == *name)
            };
            let keys: Vec<_> = self
                .book
                .resources()
                .iter()
                .filter(of_target)
                .flat_map(partition_keys)
                .collect();
            if let Err(error) = leased.target.forget(&run, &keys).await {
                let text = format!(
                    "markers of the run stay behind in {}: {error}",
                    leased.target.place()
                );
                for observer in &mut self.observers {
                    observer.observe(&report::Event::Notice { text: text.clone() });
                }
            }
        }
        failpoint::hit("after_forget")?;
        let finished = self
            .book
            .resources()
            .iter()
            .filter(|one| one.state == ResourceState::Verified);
        let mut events: Vec<_> = finished
            .map(|one| Event::Resource {
                run: run.clone(),
                resource: one.name.clone(),
                event: ResourceEvent::Finished,
            })
            .collect();
        events.push(Event::Run {
            run: run.clone(),
            event: RunEvent::Complete,
        });
        events.push(Event::AttemptEnded {
            run,
            end: AttemptEnd::Done,
        });
        self.book.record(events).await?;
        Ok(Ending::Done {
            dead_letters: self.totals().2,
        })
    }

    // Telling.

    fn announce(&mut self, attempt: u32, state_path: &Path, notices: &[String]) {
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
        for text in notices {
            self.emit(&report::Event::Notice { text: text.clone() });
        }
    }

    fn emit(&mut self, event: &report::Event) {
        for observer in &mut self.observers {
            observer.observe(event);
        }
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
