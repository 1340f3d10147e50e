//! The journal and what it adds up to, moved together: disk first, then memory.

use crate::{
    ids::{ChunkSeq, PartitionId, ResourceName, RunId},
    journal::{Journal, JournalError},
    machine::{
        AttemptEnd, Event, Ledger, PartitionEvent, Progress, ResourceEvent, ResourceLedger,
        RunEvent, RunLedger,
    },
};

/// The one place that changes the state of a run.
pub struct Book {
    journal: Journal,
    ledger: Ledger,
    run: RunId,
}

/// Why a change did not happen. Nothing of it is on disk or in memory.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The state file could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A test asked for it.
    #[error(transparent)]
    FailPoint(#[from] std::io::Error),
    /// A bug: the change is not legal now.
    #[error(transparent)]
    Illegal(#[from] crate::machine::IllegalTransition),
    /// A bug: the run is not in the journal.
    #[error("run {0} is not in the journal")]
    NoRun(RunId),
}

impl Book {
    /// Returns the book of `run`, which `ledger` need not know yet.
    #[must_use]
    pub const fn new(journal: Journal, ledger: Ledger, run: RunId) -> Self {
        Self {
            journal,
            ledger,
            run,
        }
    }

    /// Records `events` in one transaction. When this returns, they are on disk.
    pub async fn record(&mut self, events: Vec<Event>) -> Result<(), BookError> {
        if events.is_empty() {
            return Ok(());
        }
        let recorded = self.journal.record(events.clone()).await?;
        for event in &events {
            self.ledger.apply(recorded.at_ms, event)?;
        }
        Ok(())
    }

    /// Returns how many dead letters of the run nobody settled.
    pub async fn dead_letters_left(&self) -> Result<u64, BookError> {
        let mut left = 0;
        for resource in &self.run()?.resources {
            left += self
                .journal
                .dead_letter_count(&self.run, &resource.name)
                .await?;
        }
        Ok(left)
    }

    /// Records that the run moved.
    pub async fn run_moved(&mut self, event: RunEvent) -> Result<(), BookError> {
        let run = self.run.clone();
        self.record(vec![Event::Run { run, event }]).await
    }

    /// Records that a resource moved.
    pub async fn resource_moved(
        &mut self,
        resource: &ResourceName,
        event: ResourceEvent,
    ) -> Result<(), BookError> {
        let event = Event::Resource {
            run: self.run.clone(),
            resource: resource.clone(),
            event,
        };
        self.record(vec![event]).await
    }

    /// Records that a partition moved.
    pub async fn partition_moved(
        &mut self,
        partition: PartitionId,
        event: PartitionEvent,
    ) -> Result<(), BookError> {
        self.record(vec![Event::Partition { partition, event }])
            .await
    }

    /// Records how this attempt ends, together with what the run becomes.
    pub async fn attempt_ended(
        &mut self,
        end: AttemptEnd,
        moved: Option<RunEvent>,
    ) -> Result<(), BookError> {
        let run = self.run.clone();
        let mut events = vec![Event::AttemptEnded {
            run: run.clone(),
            end,
        }];
        events.extend(moved.map(|event| Event::Run { run, event }));
        self.record(events).await
    }

    /// Returns the run.
    pub fn run(&self) -> Result<&RunLedger, BookError> {
        self.ledger
            .run(&self.run)
            .ok_or_else(|| BookError::NoRun(self.run.clone()))
    }

    /// Returns the run's id.
    #[must_use]
    pub const fn run_id(&self) -> &RunId {
        &self.run
    }

    /// Returns the resources of the run in plan order.
    #[must_use]
    pub fn resources(&self) -> &[ResourceLedger] {
        self.ledger.run(&self.run).map_or(&[], |run| &run.resources)
    }

    /// Returns the resource called `name`.
    #[must_use]
    pub fn resource(&self, name: &ResourceName) -> Option<&ResourceLedger> {
        self.ledger.run(&self.run)?.resource(name)
    }

    /// Returns the whole ledger.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns the journal itself.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Returns the next partition id that was never used.
    #[must_use]
    pub const fn next_partition(&self) -> u64 {
        self.ledger.last_partition + 1
    }

    /// Returns the progress of `partition` right after the last chunk that is still known at or before `chunk`;
    /// `None` when that is its very beginning.
    pub async fn progress_at(
        &self,
        partition: PartitionId,
        chunk: ChunkSeq,
    ) -> Result<Option<Progress>, BookError> {
        Ok(self.journal.chunk_progress(partition, chunk).await?)
    }

    /// Returns the progress of `partition` right after the last chunk that ended at or below `length`.
    pub async fn progress_by_length(
        &self,
        partition: PartitionId,
        length: u64,
    ) -> Result<Option<Progress>, BookError> {
        Ok(self.journal.chunk_by_length(partition, length).await?)
    }
}
