//! Looking at a state file without changing a byte of it, also while a run goes on.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Row, Transaction, config::DbConfig, params};

use super::{
    chain::Log,
    error::JournalError,
    files::{self, StateFiles, private, with_suffix},
    lock::{self, Holder, Owner},
    marker::{self, Found},
    notice::Notice,
    open, projection,
    schema::{self, Kind},
};
use crate::{
    cursor::Cursor,
    ids::{self, ChunkSeq, PartitionId, ResourceName, RunId},
    machine::{DeadLetter, Event, Ledger},
};

/// A state file as it is now. Where nobody works with it, a private copy is read; else the file itself, read-only.
pub struct View {
    // Before the copy it reads: fields are dropped in this order.
    connection: Connection,
    files: StateFiles,
    marker: Found,
    wal_bytes: u64,
    running: Option<Owner>,
    copy: Option<PrivateCopy>,
}

/// An event with its number and time.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedEvent {
    /// Its number.
    pub seq: u64,
    /// When it was recorded, milliseconds since 1970 by that machine's clock.
    pub at_ms: i64,
    /// What happened.
    pub event: Event,
}

/// Which dead letters to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of this resource.
    pub resource: Option<ResourceName>,
}

/// A row that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// Its number in the list: give the last one to get the next page.
    pub id: i64,
    /// The run.
    pub run: RunId,
    /// The resource.
    pub resource: ResourceName,
    /// The partition.
    pub partition: PartitionId,
    /// The chunk it was in.
    pub chunk: ChunkSeq,
    /// The row, and why it did not pass.
    pub letter: DeadLetter,
    /// The attempt that found it, from 1.
    pub attempt: u32,
    /// When it was found, milliseconds since 1970.
    pub at_ms: i64,
}

/// A run that ends just now takes its log away under a reader; then the file is free and a copy does.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

impl View {
    /// Opens the state file at `path`; `None` where there never was one.
    ///
    /// # Errors
    ///
    /// The same as for [`Journal::open`](super::Journal::open), apart from `InUse`. The content is not checked yet:
    /// [`ledger`](Self::ledger) does that.
    pub fn open(path: &Path) -> Result<Option<Self>, JournalError> {
        let Some(files) = StateFiles::find(path)? else {
            return Ok(None);
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_open(&files) {
                Err(JournalError::Sqlite { .. } | JournalError::Behind { .. })
                    if tries < TRIES && matches!(lock::peek(&files.lock), Ok(Holder::Taken(_))) =>
                {
                    std::thread::sleep(PAUSE);
                }
                // It was let go of in between: once more, on a copy.
                Err(JournalError::Sqlite { .. }) if tries == 1 => {}
                other => return other,
            }
        }
    }

    fn try_open(files: &StateFiles) -> Result<Option<Self>, JournalError> {
        let holder = lock::peek(&files.lock)?;
        let marker = marker::read(files)?;
        let wal_bytes = files::length(&files.wal).unwrap_or(0);
        if files::length(&files.database).unwrap_or(0) == 0 {
            open::refuse_nothing(files, &marker, wal_bytes)?;
            return Ok(None);
        }
        let fail = |error| JournalError::sqlite("read", &files.database, error);
        let (connection, copy, running) = match holder {
            Holder::Free(guard) => {
                let copy = PrivateCopy::take(files)?;
                drop(guard);
                let connection = Connection::open_with_flags(
                    copy.database(),
                    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
                )
                .map_err(fail)?;
                (connection, Some(copy), None)
            }
            Holder::Taken(owner) => (open_live(&files.database).map_err(fail)?, None, owner),
        };
        let view = Self {
            connection,
            files: files.clone(),
            marker,
            wal_bytes,
            running,
            copy,
        };
        match open::kind_of(&view.connection, files, &view.marker)? {
            Kind::Blank => Ok(None),
            Kind::Foreign => Err(JournalError::NotOurs {
                path: files.database.clone(),
            }),
            Kind::State { format } if format > schema::FORMAT => Err(JournalError::NewerFormat {
                path: files.database.clone(),
                found: format,
                known: schema::FORMAT,
            }),
            Kind::State { format } => {
                if format < schema::FORMAT && view.copy.is_some() {
                    view.migrate_copy(format)?;
                }
                Ok(Some(view))
            }
        }
    }

    /// Brings the private copy up to date, so that older files can be looked at without being changed.
    fn migrate_copy(&self, from: u32) -> Result<(), JournalError> {
        for migration in schema::MIGRATIONS {
            if migration.from >= from {
                self.connection
                    .execute_batch(migration.sql)
                    .map_err(|error| self.fail(error))?;
            }
        }
        Ok(())
    }

    /// Returns who works with the state file; `None` when nobody does, or the holder has not said yet.
    #[must_use]
    pub const fn running(&self) -> Option<&Owner> {
        self.running.as_ref()
    }

    /// Returns every run as the tables have it, without a replay: quick, for `status`.
    pub fn runs(&self) -> Result<Ledger, JournalError> {
        let snapshot = self.snapshot()?;
        projection::read(&snapshot).map_err(|fault| fault.at(&self.files.database))
    }

    /// Returns what the events add up to, having checked pages, chain, tables and marker as a run would.
    pub fn ledger(&self) -> Result<(Ledger, Option<Notice>), JournalError> {
        let (log, state) = self.verified()?;
        let notice = open::assess(&self.files, &self.marker, &log, &state, self.wal_bytes)?;
        Ok((log.ledger, notice))
    }

    fn verified(&self) -> Result<(Log, String), JournalError> {
        let snapshot = self.snapshot()?;
        open::verify(&snapshot).map_err(|fault| fault.at(&self.files.database))
    }

    /// Returns one moment of the file, whatever a run writes meanwhile: between two tables lies many a commit.
    fn snapshot(&self) -> Result<Transaction<'_>, JournalError> {
        self.connection
            .unchecked_transaction()
            .map_err(|error| self.fail(error))
    }

    /// Returns the random id of the state file.
    pub fn state_id(&self) -> Result<Option<String>, JournalError> {
        schema::state_id(&self.connection).map_err(|error| self.fail(error))
    }

    /// Returns at most `limit` events after number `after`, oldest first, of one run or of all; summaries belong to
    /// every run.
    pub fn events(
        &self,
        run: Option<&RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<LoggedEvent>, JournalError> {
        self.select_events(
            "SELECT seq, at_ms, body FROM event
             WHERE seq > ?1 AND (?2 IS NULL OR run = ?2 OR run IS NULL) ORDER BY seq LIMIT ?3",
            run,
            after,
            limit,
        )
    }

    /// Returns what stands in the history beside any run, oldest first.
    pub fn notes(&self) -> Result<Vec<LoggedEvent>, JournalError> {
        self.select_events(
            "SELECT seq, at_ms, body FROM event
             WHERE seq > ?1 AND ?2 IS NULL AND label = 'noted' AND run IS NULL ORDER BY seq LIMIT ?3",
            None,
            0,
            u32::MAX,
        )
    }

    /// Returns the last `limit` events of one run or of all, oldest first.
    pub fn last_events(
        &self,
        run: Option<&RunId>,
        limit: u32,
    ) -> Result<Vec<LoggedEvent>, JournalError> {
        self.select_events(
            "SELECT * FROM (
               SELECT seq, at_ms, body FROM event
               WHERE seq > ?1 AND (?2 IS NULL OR run = ?2 OR run IS NULL) ORDER BY seq DESC LIMIT ?3
             ) ORDER BY seq",
            run,
            0,
            limit,
        )
    }

    /// Returns at most `limit` dead letters after the one with number `after` (0 for the first page).
    pub fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetterRow>, JournalError> {
        let read = || {
            self.connection
                .prepare(
                    "SELECT rowid, run, resource, partition, chunk, cursor, key, kind, reason, attempt, at_ms, entity
                     FROM dead_letter
                     WHERE rowid > ?1 AND (?2 IS NULL OR run = ?2) AND (?3 IS NULL OR resource = ?3)
                     ORDER BY rowid LIMIT ?4",
                )?
                .query_map(
                    params![
                        after,
                        filter.run.as_ref().map(RunId::as_str),
                        filter.resource.as_ref().map(ResourceName::as_str),
                        limit
                    ],
                    read_letter,
                )?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.fail(error))
    }

    /// Returns how many dead letters of a run nobody mended or dropped.
    pub fn dead_letters_left(&self, run: &RunId) -> Result<u64, JournalError> {
        self.connection
            .query_row(
                "SELECT COUNT(*) FROM dead_letter WHERE run = ?1",
                [run.as_str()],
                |row| row.get::<_, i64>(0),
            )
            .map(i64::cast_unsigned)
            .map_err(|error| self.fail(error))
    }

    fn select_events(
        &self,
        sql: &str,
        run: Option<&RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<LoggedEvent>, JournalError> {
        let read = || {
            self.connection
                .prepare(sql)?
                .query_map(
                    params![after.cast_signed(), run.map(RunId::as_str), limit],
                    read_event,
                )?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.fail(error))
    }

    fn fail(&self, error: rusqlite::Error) -> JournalError {
        JournalError::sqlite("read", &self.files.database, error)
    }
}

/// Opens a file that another process writes: reads only, and never folds its log in.
fn open_live(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    )?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(PAUSE * TRIES)?;
    Ok(connection)
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<LoggedEvent> {
    Ok(LoggedEvent {
        seq: row.get::<_, i64>(0)?.cast_unsigned(),
        at_ms: row.get(1)?,
        event: parse(row, 2)?,
    })
}

fn read_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetterRow> {
    Ok(DeadLetterRow {
        id: row.get(0)?,
        run: RunId::from_text(&row.get::<_, String>(1)?),
        resource: row.get::<_, String>(2)?.into(),
        partition: PartitionId(row.get::<_, i64>(3)?.cast_unsigned()),
        chunk: ChunkSeq(row.get::<_, i64>(4)?.cast_unsigned()),
        letter: DeadLetter {
            cursor: parse::<Cursor>(row, 5)?,
            key: row.get(6)?,
            kind: row.get(7)?,
            reason: row.get(8)?,
            entity: row.get(11)?,
        },
        attempt: row.get(9)?,
        at_ms: row.get(10)?,
    })
}

fn parse<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(index)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

/// A copy of the state file and its log in a folder that only this user can enter; removed when dropped.
struct PrivateCopy {
    folder: PathBuf,
}

impl PrivateCopy {
    fn take(files: &StateFiles) -> Result<Self, JournalError> {
        let number = ids::randomness().u64(..);
        let folder = std::env::temp_dir().join(format!("rekindle-view-{number:016x}"));
        // Not recursive: whatever is already there under this name is refused.
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| JournalError::io("create folder", &folder, error))?;
        let copy = Self { folder };
        copy_file(&files.database, &copy.database())?;
        for (from, suffix) in [(&files.wal, "-wal"), (&files.rollback, "-journal")] {
            if from.exists() {
                copy_file(from, &with_suffix(&copy.database(), suffix))?;
            }
        }
        Ok(copy)
    }

    fn database(&self) -> PathBuf {
        self.folder.join("copy.sqlite")
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn copy_file(from: &Path, to: &Path) -> Result<(), JournalError> {
    let mut source: File = private()
        .read(true)
        .open(from)
        .map_err(|error| JournalError::io("read", from, error))?;
    let mut copy = private()
        .write(true)
        .create_new(true)
        .open(to)
        .map_err(|error| JournalError::io("create", to, error))?;
    io::copy(&mut source, &mut copy)
        .map(|_| ())
        .map_err(|error| JournalError::io("copy", to, error))
}
