//! The connection and what it is known to hold: one transaction per record.

use std::{collections::BTreeSet, path::Path};

use rusqlite::{
    Connection, OptionalExtension, Transaction, TransactionBehavior, config::DbConfig, params,
};

use super::{
    chain::{AppendError, Line, Log},
    clock, compact,
    error::JournalError,
    files::{FileId, StateFiles, file_id},
    letters::{self, LetterPlace, Settled, WhichLetters},
    lock::Lock,
    marker::{self, Marker},
    open::Settings,
    projection,
};
use crate::{
    failpoint,
    ids::{ChunkSeq, PartitionId, ResourceName, RunId},
    machine::{Event, PartitionEvent, Predecessors, Progress, StepEvent},
};

/// Where the events went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Number of the last of them.
    pub last_seq: u64,
    /// The time they were stored under, milliseconds since 1970: give it to `Ledger::apply`.
    pub at_ms: i64,
}

/// Which chunk of a partition is looked for: the last one that does not go beyond.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    Chunk(ChunkSeq),
    Length(u64),
}

/// The state file while it is in use. Lives on the owner thread.
pub(super) struct Store {
    pub(super) connection: Connection,
    pub(super) files: StateFiles,
    pub(super) settings: Settings,
    pub(super) state: String,
    pub(super) log: Log,
    /// The runs of the state file before, until there is one that answers for them.
    pub(super) left: Predecessors,
    database_id: Option<FileId>,
    wal_id: Option<FileId>,
    lock: Lock,
}

impl Store {
    pub(super) fn new(
        connection: Connection,
        files: StateFiles,
        settings: Settings,
        state: String,
        log: Log,
        lock: Lock,
    ) -> Self {
        let database_id = file_id(&files.database);
        Self {
            connection,
            files,
            settings,
            state,
            log,
            left: Predecessors::default(),
            database_id,
            wal_id: None,
            lock,
        }
    }

    /// Stores `events` in one transaction: after `Ok` they are on disk.
    pub(super) fn record(&mut self, events: &[Event]) -> Result<Recorded, JournalError> {
        self.check_present()?;
        let at_ms = clock::now_ms();
        let path = &self.files.database;
        let fail = |error| JournalError::sqlite("write to", path, error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fail)?;
        for event in events {
            let line = self.log.append(at_ms, event).map_err(|error| match error {
                AppendError::Illegal(error) => JournalError::Illegal(error),
                AppendError::Encoding(error) => JournalError::Encoding(error.into()),
            })?;
            insert(&transaction, at_ms, &line).map_err(fail)?;
            projection::project(&transaction, &self.log.ledger, at_ms, event).map_err(fail)?;
        }
        let hit =
            |name| failpoint::hit(name).map_err(|error| JournalError::io("write", path, error));
        hit("journal_before_commit")?;
        transaction.commit().map_err(fail)?;
        hit("journal_after_commit")?;

        let recorded = Recorded {
            last_seq: self.log.seq,
            at_ms,
        };
        if let Some(run) = events.iter().rev().find_map(begun) {
            self.lock.name_run(run);
        }
        if events.iter().any(moves_marker) {
            self.write_marker()?;
        }
        if self.settings.limits.are_passed_by(&self.log) {
            compact::compact(self)?;
        }
        Ok(recorded)
    }

    /// Returns the event that settles dead letters; see [`letters::settled`].
    pub(super) fn settled(
        &self,
        resource: &ResourceName,
        cursors: &BTreeSet<String>,
        but: Option<&RunId>,
        how: String,
    ) -> Result<Option<Settled>, JournalError> {
        letters::settled(&self.connection, resource, cursors, but, how)
            .map_err(|error| JournalError::sqlite("read", &self.files.database, error))
    }

    /// Writes the marker for what is committed now.
    pub(super) fn write_marker(&mut self) -> Result<(), JournalError> {
        self.check_present()?;
        marker::write(&self.files, &self.marker())
    }

    /// Returns the marker that fits what is committed now.
    pub(super) fn marker(&self) -> Marker {
        let lineage = if self.log.ledger.runs.is_empty() {
            self.left.clone()
        } else {
            self.log.ledger.lineage()
        };
        Marker {
            format: self.settings.format,
            state: self.state.clone(),
            run: self.log.ledger.runs.last().map(|run| run.id.clone()),
            lineage: Some(lineage),
            seq: self.log.seq,
            at_ms: clock::now_ms(),
        }
    }

    /// Returns the progress after the last chunk of `partition` within `bound` that was not rewound since; `None` for
    /// no such chunk, or one that compaction took away.
    pub(super) fn progress(
        &self,
        partition: PartitionId,
        bound: Bound,
    ) -> Result<Option<Progress>, JournalError> {
        let fail = |error| JournalError::sqlite("read", &self.files.database, error);
        // The latest event within the bound, not the greatest: a rewind voids the chunks before it in the log.
        let (condition, limit) = match bound {
            Bound::Chunk(chunk) => ("chunk <= ?2", chunk.0),
            Bound::Length(length) => (
                "chunk IS NOT NULL AND CASE label
                   WHEN 'chunk' THEN json_extract(body, '$.chunk.progress.length')
                   ELSE coalesce(json_extract(body, '$.partition.event.rewound.length'), 0)
                 END <= ?2",
                length,
            ),
        };
        let body: Option<String> = self
            .connection
            .query_row(
                &format!(
                    "SELECT body FROM event WHERE partition = ?1 AND {condition} ORDER BY seq DESC LIMIT 1"
                ),
                [
                    partition.0.cast_signed(),
                    i64::try_from(limit).unwrap_or(i64::MAX),
                ],
                |row| row.get(0),
            )
            .optional()
            .map_err(fail)?;
        let progress = match body {
            Some(body) => progress_of(decode(&body)?),
            None => self.summarised(partition)?.filter(|progress| match bound {
                Bound::Chunk(chunk) => progress.chunk <= chunk,
                Bound::Length(length) => progress.length.is_some_and(|had| had <= length),
            }),
        };
        Ok(progress.filter(|progress| progress.chunk > ChunkSeq(0)))
    }

    /// Returns how far `partition` was when the log was last compacted.
    fn summarised(&self, partition: PartitionId) -> Result<Option<Progress>, JournalError> {
        let body: Option<String> = self
            .connection
            .query_row("SELECT body FROM event WHERE seal IS NOT NULL", [], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|error| JournalError::sqlite("read", &self.files.database, error))?;
        let Some(Event::Compacted { ledger, .. }) = body.as_deref().map(decode).transpose()? else {
            return Ok(None);
        };
        Ok(ledger
            .partition(partition)
            .map(|(_, _, partition)| partition.state.progress().clone()))
    }

    /// Returns how many dead letters of `resource` the run has.
    pub(super) fn dead_letter_count(
        &self,
        run: &RunId,
        resource: &ResourceName,
    ) -> Result<u64, JournalError> {
        self.connection
            .query_row(
                "SELECT count(*) FROM dead_letter WHERE run = ?1 AND resource = ?2",
                [run.as_str(), resource.as_str()],
                |row| row.get::<_, i64>(0),
            )
            .map(i64::cast_unsigned)
            .map_err(|error| JournalError::sqlite("read", &self.files.database, error))
    }

    /// Returns the places of dead letters; see [`letters::places`].
    pub(super) fn dead_letters(
        &self,
        which: &WhichLetters,
    ) -> Result<Vec<LetterPlace>, JournalError> {
        letters::places(&self.connection, which)
            .map_err(|error| JournalError::sqlite("read", &self.files.database, error))
    }

    /// Folds `SQLite`'s log into the file, writes the marker and lets go of everything.
    pub(super) fn close(mut self) -> Result<(), JournalError> {
        self.check_present()?;
        checkpoint(&self.connection)
            .map_err(|error| JournalError::sqlite("write to", &self.files.database, error))?;
        self.write_marker()?;
        // Only now may SQLite remove its log: whoever closes otherwise leaves everything as it is.
        let fail = |error| JournalError::sqlite("close", &self.files.database, error);
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map_err(fail)?;
        self.connection.close().map_err(|(_, error)| fail(error))?;
        drop(self.lock);
        Ok(())
    }

    /// Notices that somebody deleted or replaced the files: `SQLite` would go on writing into nowhere.
    fn check_present(&mut self) -> Result<(), JournalError> {
        if file_id(&self.files.database) != self.database_id {
            return Err(deleted(&self.files.database));
        }
        let wal = file_id(&self.files.wal);
        if self.wal_id.is_some() && wal != self.wal_id {
            return Err(deleted(&self.files.wal));
        }
        self.wal_id = wal;
        Ok(())
    }
}

/// Folds `SQLite`'s log into the file as far as readers allow, and cuts it to nothing if they do.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn insert(transaction: &Transaction<'_>, at_ms: i64, line: &Line) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO event (seq, at_ms, label, run, partition, chunk, body, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            line.seq.cast_signed(),
            at_ms,
            line.label,
            line.place.run.as_ref().map(RunId::as_str),
            line.place.partition.map(|id| id.0.cast_signed()),
            line.place.chunk.map(|chunk| chunk.0.cast_signed()),
            line.body,
            line.hash,
        ])?;
    Ok(())
}

fn decode(body: &str) -> Result<Event, JournalError> {
    serde_json::from_str(body).map_err(|error| JournalError::Encoding(error.into()))
}

fn progress_of(event: Event) -> Option<Progress> {
    match event {
        Event::Chunk { progress, .. }
        | Event::Partition {
            event: PartitionEvent::Rewound(progress),
            ..
        } => Some(progress),
        _ => None,
    }
}

/// Returns the run that an event begins or goes on with.
const fn begun(event: &Event) -> Option<&RunId> {
    match event {
        Event::RunPlanned { run, .. } | Event::AttemptStarted { run, .. } => Some(run),
        _ => None,
    }
}

/// Tells events that the marker has to know at once from those that can be repeated.
const fn moves_marker(event: &Event) -> bool {
    matches!(
        event,
        Event::RunPlanned { .. }
            | Event::AttemptStarted { .. }
            | Event::AttemptEnded { .. }
            | Event::Run { .. }
            | Event::Step {
                event: StepEvent::Intended { .. } | StepEvent::Undone { .. },
                ..
            }
    )
}

fn deleted(path: &Path) -> JournalError {
    JournalError::Deleted {
        path: path.to_owned(),
    }
}
