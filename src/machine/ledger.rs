//! What the journal's events add up to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    IllegalTransition,
    event::{AttemptEnd, Event, PartitionPlan, PlannedResource, Scope, Watermark},
    fallback::{Fallback, FallbackEvent},
    partition::{PartitionEvent, PartitionState, Progress},
    resource::{ResourceEvent, ResourceState},
    reverse::Predecessors,
    run::{RunEvent, RunState},
    step::{StepLedger, StepPlace},
};
use crate::{
    cursor::KeyRange,
    ids::{ChunkSeq, PartitionId, ResourceName, RunId, StepNumber},
};

/// Every run of a state file. Grows with runs, resources and partitions, never with chunks or rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// In the order they were opened.
    pub runs: Vec<RunLedger>,
    /// The greatest partition id handed out.
    pub last_partition: u64,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLedger {
    /// Its id.
    pub id: RunId,
    /// Where it stands.
    pub state: RunState,
    /// What it covers.
    pub scope: Scope,
    /// When it was opened, milliseconds since 1970 by this machine's clock; for people only.
    pub opened_ms: i64,
    /// When it last moved.
    pub moved_ms: i64,
    /// Identity of the source, once connected.
    pub source: Option<String>,
    /// Identities of the targets by plan name.
    pub targets: BTreeMap<String, String>,
    /// In plan order.
    pub resources: Vec<ResourceLedger>,
    /// Processes that worked on it.
    pub attempts: Vec<AttemptLedger>,
    /// Its steps, those of `prepare` before those of `finish`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepLedger>,
    /// The runs of lost state files in whose place it came.
    #[serde(default, skip_serializing_if = "Predecessors::is_empty")]
    pub instead_of: Predecessors,
}

/// One resource of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLedger {
    /// Its name.
    pub name: ResourceName,
    /// Canonical JSON of its resolved definition.
    pub definition: String,
    /// Where it stands.
    pub state: ResourceState,
    /// Fingerprint of its columns, once bound.
    pub columns: Option<String>,
    /// The source's estimate of rows, once bound.
    pub estimated_rows: u64,
    /// How often what was stored turned out void.
    pub voids: u32,
    /// In the order they were made, which is key order for those cut when it was bound; empty until bound.
    pub partitions: Vec<PartitionLedger>,
    /// What its rows go to, once bound, where the target gives that an identity of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// From where on its rows count as changed, once bound, where the plan names a column that tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// When it was last bound, milliseconds since 1970.
    pub started_ms: Option<i64>,
    /// When it was synced.
    pub ended_ms: Option<i64>,
    /// Its way through its publisher, and the deaths that may lead there.
    #[serde(default)]
    pub fallback: Fallback,
}

/// One partition of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLedger {
    /// Unique within the state file.
    pub id: PartitionId,
    /// Place among its siblings, from 1.
    pub ordinal: u32,
    /// Its rows.
    pub range: KeyRange,
    /// Where it stands.
    pub state: PartitionState,
    /// When it last moved, milliseconds since 1970; `None` before its first chunk.
    #[serde(default)]
    pub moved_ms: Option<i64>,
}

/// One process that worked on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLedger {
    /// From 1.
    pub number: u32,
    /// Process id.
    pub pid: u32,
    /// Host name.
    pub host: String,
    /// Version of rekindle.
    pub version: String,
    /// Memory budget for everything in flight.
    pub in_flight_bytes: u64,
    /// When it began, milliseconds since 1970.
    pub started_ms: i64,
    /// How it ended; `None` while it works, or when it died unseen.
    pub end: Option<AttemptEnd>,
    /// When it ended.
    pub ended_ms: Option<i64>,
}

impl Ledger {
    /// Adds `event`, which happened at `at_ms`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] for an event that cannot happen now; the ledger may then be half changed and must not be
    /// used further.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm per event, read top to bottom"
    )]
    pub fn apply(&mut self, at_ms: i64, event: &Event) -> Result<(), IllegalTransition> {
        match event {
            Event::RunPlanned {
                run,
                scope,
                resources,
                steps,
                instead_of,
            } => {
                if self.run(run).is_some() {
                    return Err(IllegalTransition::new(
                        "journal",
                        "run exists",
                        event.label(),
                    ));
                }
                let mut planned = RunLedger::planned(run, scope, resources, at_ms)?;
                planned.steps = steps.iter().map(StepLedger::planned).collect();
                planned.instead_of.clone_from(instead_of);
                self.runs.push(planned);
            }
            Event::PlanChanged {
                run,
                resources,
                steps,
            } => {
                let ledger = self.run_mut(run, event)?;
                ledger.replan(resources)?;
                ledger.replan_steps(steps);
            }
            Event::Step {
                run,
                step,
                event: moved,
            } => {
                let ledger = self.run_mut(run, event)?;
                let found = ledger.steps.get_mut(step.index());
                found
                    .ok_or_else(|| IllegalTransition::new("run", "no such step", event.label()))?
                    .apply(at_ms, moved)?;
                ledger.moved_ms = at_ms;
            }
            Event::AttemptStarted {
                run,
                attempt,
                pid,
                host,
                version,
                in_flight_bytes,
            } => {
                let ledger = self.run_mut(run, event)?;
                if *attempt as usize != ledger.attempts.len() + 1 {
                    return Err(IllegalTransition::new(
                        "run",
                        "another attempt count",
                        event.label(),
                    ));
                }
                ledger.attempts.push(AttemptLedger {
                    number: *attempt,
                    pid: *pid,
                    host: host.clone(),
                    version: version.clone(),
                    in_flight_bytes: *in_flight_bytes,
                    started_ms: at_ms,
                    end: None,
                    ended_ms: None,
                });
            }
            Event::AttemptEnded { run, end } => {
                let ledger = self.run_mut(run, event)?;
                // Nobody saw it die, so it ended with the last thing it recorded.
                let ended_ms = if *end == AttemptEnd::Unknown {
                    ledger.last_activity_ms()
                } else {
                    at_ms
                };
                match ledger
                    .attempts
                    .last_mut()
                    .filter(|attempt| attempt.end.is_none())
                {
                    Some(attempt) => {
                        attempt.end = Some(end.clone());
                        attempt.ended_ms = Some(ended_ms);
                    }
                    None => {
                        return Err(IllegalTransition::new(
                            "run",
                            "no attempt at work",
                            event.label(),
                        ));
                    }
                }
            }
            Event::Run { run, event: moved } => {
                let ledger = self.run_mut(run, event)?;
                let ends = matches!(
                    moved,
                    RunEvent::Verify | RunEvent::Finish | RunEvent::Complete
                );
                if let Some(left) = ledger
                    .resources
                    .iter()
                    .find(|one| ends && !one.state.is_restored())
                {
                    let from = format!("resource {}", left.state.label());
                    return Err(IllegalTransition::new("run", from, moved.label()));
                }
                let left = match moved {
                    RunEvent::Restore => ledger.next_step(StepPlace::Prepare),
                    RunEvent::Complete => ledger.next_step(StepPlace::Finish),
                    _ => None,
                };
                if let Some((number, step)) = left {
                    let from = format!("step {number} {}", step.state.label());
                    return Err(IllegalTransition::new("run", from, moved.label()));
                }
                ledger.state = ledger.state.apply(*moved)?;
                ledger.moved_ms = at_ms;
            }
            Event::Identified {
                run,
                source,
                targets,
            } => {
                let ledger = self.run_mut(run, event)?;
                ledger.source = Some(source.clone());
                ledger.targets = targets.clone();
            }
            Event::ResourceBound {
                run,
                resource,
                columns,
                estimated_rows,
                partitions,
                incarnation,
                watermark,
            } => {
                let mut last = self.last_partition;
                let ledger = self.run_mut(run, event)?.resource_mut(resource, event)?;
                ledger.state = ledger.state.apply(&ResourceEvent::Started)?;
                ledger.columns = Some(columns.clone());
                ledger.estimated_rows = *estimated_rows;
                ledger.started_ms = Some(at_ms);
                ledger.ended_ms = None;
                ledger.incarnation.clone_from(incarnation);
                ledger.watermark.clone_from(watermark);
                ledger.partitions.clear();
                ledger.add(&mut last, partitions, event)?;
                self.last_partition = last;
            }
            Event::Fallback {
                run,
                resource,
                event: moved,
            } => {
                let mut last = self.last_partition;
                let ledger = self.run_mut(run, event)?.resource_mut(resource, event)?;
                ledger.handed(at_ms, moved, &mut last, event)?;
                self.last_partition = last;
            }
            Event::Resource {
                run,
                resource,
                event: moved,
            } => {
                self.run_mut(run, event)?
                    .resource_mut(resource, event)?
                    .moved(at_ms, moved)?;
            }
            Event::Partition {
                partition,
                event: moved,
            } => {
                let ledger = self.partition_mut(*partition, event)?;
                ledger.state = ledger.state.apply(moved)?;
                ledger.moved_ms = Some(at_ms);
            }
            Event::PartitionCut { partition, rest } => {
                if rest.id.0 <= self.last_partition {
                    return Err(IllegalTransition::new(
                        "resource",
                        "partition id used before",
                        event.label(),
                    ));
                }
                self.runs
                    .iter_mut()
                    .rev()
                    .flat_map(|run| run.resources.iter_mut())
                    .find(|one| one.partitions.iter().any(|one| one.id == *partition))
                    .ok_or_else(|| {
                        IllegalTransition::new("journal", "no such partition", event.label())
                    })?
                    .cut(*partition, rest)?;
                self.last_partition = rest.id.0;
            }
            Event::Chunk {
                partition,
                progress,
                ..
            } => {
                let ledger = self.partition_mut(*partition, event)?;
                ledger.state = ledger
                    .state
                    .apply(&PartitionEvent::ChunkStored(progress.clone()))?;
                ledger.moved_ms = Some(at_ms);
            }
            Event::DeadLettersDropped { .. }
            | Event::DeadLettersSettled { .. }
            | Event::Noted { .. } => {}
            Event::Compacted { ledger, .. } => *self = (**ledger).clone(),
        }
        Ok(())
    }

    /// Returns the run with this id.
    #[must_use]
    pub fn run(&self, id: &RunId) -> Option<&RunLedger> {
        self.runs.iter().find(|run| run.id == *id)
    }

    /// Returns the latest run that is neither done nor cancelled, of this scope if one is given.
    #[must_use]
    pub fn unfinished(&self, scope: Option<&Scope>) -> Option<&RunLedger> {
        self.runs
            .iter()
            .rev()
            .find(|run| !run.state.is_over() && scope.is_none_or(|scope| run.scope == *scope))
    }

    /// Returns how long a step that is defined like this took the last time, in milliseconds.
    #[must_use]
    pub fn usual_ms(&self, definition: &str) -> Option<i64> {
        let steps = self.runs.iter().rev().flat_map(|run| &run.steps);
        steps
            .filter(|step| step.planned.definition == definition)
            .find_map(StepLedger::took_ms)
    }

    /// Returns the partition with this id, and the run and resource it belongs to.
    #[must_use]
    pub fn partition(
        &self,
        id: PartitionId,
    ) -> Option<(&RunLedger, &ResourceLedger, &PartitionLedger)> {
        self.runs.iter().rev().find_map(|run| {
            run.resources.iter().find_map(|resource| {
                resource
                    .partitions
                    .iter()
                    .find(|partition| partition.id == id)
                    .map(|found| (run, resource, found))
            })
        })
    }

    fn run_mut(&mut self, id: &RunId, event: &Event) -> Result<&mut RunLedger, IllegalTransition> {
        self.runs
            .iter_mut()
            .find(|run| run.id == *id)
            .ok_or_else(|| IllegalTransition::new("journal", "no such run", event.label()))
    }

    fn partition_mut(
        &mut self,
        id: PartitionId,
        event: &Event,
    ) -> Result<&mut PartitionLedger, IllegalTransition> {
        self.runs
            .iter_mut()
            .rev()
            .flat_map(|run| run.resources.iter_mut())
            .flat_map(|resource| resource.partitions.iter_mut())
            .find(|partition| partition.id == id)
            .ok_or_else(|| IllegalTransition::new("journal", "no such partition", event.label()))
    }
}

impl RunLedger {
    fn planned(
        id: &RunId,
        scope: &Scope,
        resources: &[PlannedResource],
        at_ms: i64,
    ) -> Result<Self, IllegalTransition> {
        Ok(Self {
            id: id.clone(),
            state: RunState::Planned,
            scope: scope.clone(),
            opened_ms: at_ms,
            moved_ms: at_ms,
            source: None,
            targets: BTreeMap::new(),
            resources: resources
                .iter()
                .map(ResourceLedger::planned)
                .collect::<Result<_, _>>()?,
            attempts: Vec::new(),
            steps: Vec::new(),
            instead_of: Predecessors::default(),
        })
    }

    /// Takes over the resources of a changed plan: those whose definition is the same keep their state, those that
    /// changed or are new begin, those that are gone leave.
    fn replan(&mut self, resources: &[PlannedResource]) -> Result<(), IllegalTransition> {
        let mut old = std::mem::take(&mut self.resources);
        for planned in resources {
            let kept = old
                .iter()
                .position(|had| had.name == planned.name && had.definition == planned.definition);
            self.resources.push(match kept {
                Some(index) => old.swap_remove(index),
                None => ResourceLedger::planned(planned)?,
            });
        }
        Ok(())
    }

    /// Returns the first step of `place` that is not done.
    #[must_use]
    pub fn next_step(&self, place: StepPlace) -> Option<(StepNumber, &StepLedger)> {
        let mut steps = self.steps.iter().enumerate();
        steps
            .find(|(_, step)| step.planned.place == place && !step.is_done())
            .map(|(index, step)| (StepNumber::at(index), step))
    }

    /// Returns the resource called `name`.
    #[must_use]
    pub fn resource(&self, name: &ResourceName) -> Option<&ResourceLedger> {
        self.resources
            .iter()
            .find(|resource| resource.name == *name)
    }

    /// Returns the process that works on the run, or died unseen while it did.
    #[must_use]
    pub fn open_attempt(&self) -> Option<&AttemptLedger> {
        self.attempts.last().filter(|attempt| attempt.end.is_none())
    }

    /// Returns when something of the run was last recorded by the process that works on it or died: the end of an
    /// attempt that nobody saw ending.
    #[must_use]
    pub fn last_activity_ms(&self) -> i64 {
        let partitions = self
            .resources
            .iter()
            .flat_map(|resource| &resource.partitions);
        let resources = self
            .resources
            .iter()
            .flat_map(|resource| [resource.started_ms, resource.ended_ms]);
        let begun = self.attempts.last().map(|attempt| attempt.started_ms);
        let moments = partitions
            .map(|partition| partition.moved_ms)
            .chain(resources)
            .chain([begun]);
        moments.flatten().fold(self.moved_ms, i64::max)
    }

    fn resource_mut(
        &mut self,
        name: &ResourceName,
        event: &Event,
    ) -> Result<&mut ResourceLedger, IllegalTransition> {
        self.resources
            .iter_mut()
            .find(|resource| resource.name == *name)
            .ok_or_else(|| IllegalTransition::new("run", "no such resource", event.label()))
    }
}

impl ResourceLedger {
    fn planned(planned: &PlannedResource) -> Result<Self, IllegalTransition> {
        let mut ledger = Self {
            name: planned.name.clone(),
            definition: planned.definition.clone(),
            state: ResourceState::Pending,
            columns: None,
            estimated_rows: 0,
            voids: 0,
            partitions: Vec::new(),
            incarnation: None,
            watermark: None,
            started_ms: None,
            ended_ms: None,
            fallback: Fallback::default(),
        };
        if planned.skipped {
            ledger.state = ledger.state.apply(&ResourceEvent::Skipped)?;
        }
        Ok(ledger)
    }

    fn moved(&mut self, at_ms: i64, event: &ResourceEvent) -> Result<(), IllegalTransition> {
        self.state = self.state.apply(event)?;
        match event {
            ResourceEvent::StartedOver { void, .. } => {
                self.partitions.clear();
                self.columns = None;
                self.incarnation = None;
                self.watermark = None;
                self.started_ms = None;
                self.ended_ms = None;
                self.voids += u32::from(*void);
                self.fallback = Fallback::default();
            }
            ResourceEvent::Copied => self.ended_ms = Some(at_ms),
            ResourceEvent::Compared => {
                self.ended_ms = Some(at_ms);
                if let Some(handover) = &mut self.fallback.handover {
                    handover.ended_ms = Some(at_ms);
                }
            }
            // A person looked at it: the count of voids begins anew.
            ResourceEvent::Unblocked => self.voids = 0,
            _ => {}
        }
        Ok(())
    }

    /// Adds partitions as they were cut, none of whose ids may have been used before.
    fn add(
        &mut self,
        last: &mut u64,
        partitions: &[PartitionPlan],
        event: &Event,
    ) -> Result<(), IllegalTransition> {
        for plan in partitions {
            if plan.id.0 <= *last {
                return Err(IllegalTransition::new(
                    "resource",
                    "partition id used before",
                    event.label(),
                ));
            }
            *last = plan.id.0;
            self.partitions.push(PartitionLedger::planned(plan));
        }
        Ok(())
    }

    /// Moves along with its way through the publisher.
    fn handed(
        &mut self,
        at_ms: i64,
        moved: &FallbackEvent,
        last: &mut u64,
        event: &Event,
    ) -> Result<(), IllegalTransition> {
        let chunk = match moved {
            FallbackEvent::Charged { partition } => self
                .partitions
                .iter()
                .find(|one| one.id == *partition)
                .map_or(ChunkSeq(0), PartitionLedger::stored),
            _ => ChunkSeq(0),
        };
        self.fallback.apply(at_ms, chunk, moved)?;
        match moved {
            FallbackEvent::Begun { .. } => {
                self.state = self.state.apply(&ResourceEvent::FellBack)?;
            }
            FallbackEvent::Bound {
                columns,
                estimated_rows,
                incarnation,
                partitions,
            } => {
                self.state = self.state.apply(&ResourceEvent::Drained)?;
                if !self.fallback.is_of_rows() {
                    self.columns = Some(columns.clone());
                    self.estimated_rows = *estimated_rows;
                    self.incarnation.clone_from(incarnation);
                    self.partitions.clear();
                }
                self.add(last, partitions, event)?;
            }
            FallbackEvent::Mended => {
                self.state = self.state.apply(&ResourceEvent::Compared)?;
                self.ended_ms = Some(at_ms);
                let fallback = &self.fallback;
                for partition in &mut self.partitions {
                    if !fallback.reads_again(partition.id) {
                        partition.state.progress_mut().dead_letters = 0;
                    }
                }
            }
            FallbackEvent::Charged { .. }
            | FallbackEvent::Called(_)
            | FallbackEvent::Acknowledged => {}
        }
        Ok(())
    }

    /// Gives the rows of partition `id` from `rest` on to a partition of their own. That they lie beyond what is stored
    /// cannot be seen here, for only the source compares keys: who asks for the cut vouches for it.
    fn cut(&mut self, id: PartitionId, rest: &PartitionPlan) -> Result<(), IllegalTransition> {
        let refused = |from: &str| Err(IllegalTransition::new("partition", from, "partition_cut"));
        let last = self.partitions.iter().map(|one| one.ordinal).max();
        if last.is_none_or(|last| rest.ordinal != last + 1) {
            return refused("another place");
        }
        if self.state != ResourceState::Syncing {
            return refused(self.state.label());
        }
        let Some(cut) = self.partitions.iter_mut().find(|one| one.id == id) else {
            return refused("another resource");
        };
        let (Some(at), PartitionState::Open(progress)) = (&rest.range.after, &cut.state) else {
            return refused(cut.state.label());
        };
        let had = progress.after.as_ref().or(cut.range.after.as_ref());
        if rest.range.until != cut.range.until || *at == cut.range.until || had == Some(at) {
            return refused("another range");
        }
        cut.range.until = at.clone();
        self.partitions.push(PartitionLedger::planned(rest));
        Ok(())
    }

    /// Returns the totals over the partitions: rows read, bytes stored, dead letters. Rows that are read again count
    /// once.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        self.partitions
            .iter()
            .map(|partition| {
                let again = self.fallback.reads_again(partition.id);
                (partition.state.progress(), !again)
            })
            .fold((0, 0, 0), |sum, (progress, first)| {
                (
                    sum.0 + progress.rows * u64::from(first),
                    sum.1 + progress.bytes,
                    sum.2 + progress.dead_letters,
                )
            })
    }

    /// Returns whether every partition is walked to its end.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.partitions
            .iter()
            .all(|partition| matches!(partition.state, PartitionState::Exhausted(_)))
    }
}

impl PartitionLedger {
    fn planned(plan: &PartitionPlan) -> Self {
        Self {
            id: plan.id,
            ordinal: plan.ordinal,
            range: plan.range.clone(),
            state: PartitionState::Open(Progress::begin(plan.page_rows)),
            moved_ms: None,
        }
    }

    /// Returns the number of the last chunk stored; 0 before the first.
    #[must_use]
    pub const fn stored(&self) -> ChunkSeq {
        self.state.progress().chunk
    }

    /// Returns the rows that are still to be read.
    #[must_use]
    pub fn remaining(&self) -> KeyRange {
        let after = self
            .state
            .progress()
            .after
            .clone()
            .or_else(|| self.range.after.clone());
        KeyRange {
            after,
            until: self.range.until.clone(),
        }
    }
}
