//! What a comparison of targets with their source remembers: how far it is, what it doubts, what it found.
//!
//! A file of its own beside the state file, `X.sqlite.verify`. It holds keys and places, never values, and nothing that
//! a run needs: without it, a comparison begins anew. It survives the death of the process, not that of the machine.

mod candidates;
mod schema;
mod writers;

use std::{
    collections::{BTreeMap, HashMap},
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};

pub use self::writers::Writer;
use crate::{
    cursor::{Cursor, KeyRange},
    ids::ResourceName,
};

/// First keys of each kind of difference that are kept for each resource: enough to see a pattern.
pub const FIRST_KEYS: usize = 20;

/// The file.
pub struct Scratch {
    connection: Mutex<Connection>,
    path: PathBuf,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// Another process compares for the same plan.
    #[error("{0} is in use by another comparison")]
    InUse(PathBuf),
    /// It cannot be opened, read or written.
    #[error("{path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How far the comparison of a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its rows are compared.
    Walking,
    /// Every row was; doubts are looked at again.
    Settling,
    /// Nothing is left to do.
    Settled,
}

/// What is known about a resource so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows read from the source.
    pub rows: u64,
    /// Rows that the target was asked about; fewer than `rows` in a sample.
    pub compared: u64,
    /// Keys of those rows: a row may own several.
    pub keys: u64,
    /// Rows that cannot be restored as they are.
    pub dead_letters: u64,
    /// Keys that the target has nothing of.
    pub missing: u64,
    /// Keys under which it has something else.
    pub different: u64,
    /// How many of those were rewritten.
    pub repaired: u64,
    /// Keys whose rows changed each time they were looked at.
    pub moving: u64,
}

/// A resource of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How far it is.
    pub phase: Phase,
    /// What its columns were when it began.
    pub columns: String,
    /// The source's estimate of its rows.
    pub estimated_rows: u64,
    /// What was found.
    pub counts: Counts,
}

/// A key range of a resource that is compared on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Unique in the file.
    pub id: i64,
    /// Its rows that are still to be compared.
    pub range: KeyRange,
}

/// A stretch of rows in which some were not what they should be, to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Unique in the file.
    pub id: i64,
    /// The rows.
    pub range: KeyRange,
}

/// What one chunk adds to a resource.
#[derive(Debug)]
pub struct ChunkCompared {
    /// The last row.
    pub until: Cursor,
    /// Rows read, those the target was asked about, dead letters.
    pub counts: Counts,
    /// Why rows cannot be restored as they are, and how many.
    pub broken: BTreeMap<String, u64>,
    /// Their keys, as they are shown.
    pub broken_keys: Vec<String>,
    /// Where doubts lie, and the pairs of key and value they are about: place of the row and key, and a hash of what was
    /// expected.
    pub doubt: Option<(KeyRange, Vec<(String, u64)>)>,
}

/// What became of a doubt.
#[derive(Debug, Default)]
pub struct Settlement {
    /// `missing`, `different`, `repaired` and `moving` of it.
    pub counts: Counts,
    /// Keys that are missing, as they are shown.
    pub missing: Vec<String>,
    /// Keys with something else, as they are shown.
    pub different: Vec<String>,
    /// Keys that several rows write with different content, as they are shown.
    pub shared: Vec<String>,
}

impl Scratch {
    /// Returns where the file of the state at `state` lies.
    #[must_use]
    pub fn path_of(state: &Path) -> PathBuf {
        let mut name = state.as_os_str().to_owned();
        name.push(".verify");
        name.into()
    }

    /// Opens the file for the comparison called `about`; returns whether an unfinished one of that name goes on. Any other
    /// content is removed.
    ///
    /// # Errors
    ///
    /// `InUse` while another process has it open.
    pub fn open(path: &Path, about: &str, anew: bool) -> Result<(Self, bool), ScratchError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ScratchError::File {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| failed(e.into()))?;
        }
        // It holds keys: for the owner alone, as the state file is.
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e.into())),
            _ => {}
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| failed(e.into()))?;
        // Whoever has it has it for as long as it compares.
        connection
            .busy_timeout(Duration::from_millis(500))
            .map_err(|e| failed(e.into()))?;
        let scratch = Self {
            connection: Mutex::new(connection),
            path: path.to_owned(),
        };
        let goes_on = scratch.with(|connection| schema::prepare(connection, about, anew))?;
        Ok((scratch, goes_on))
    }

    /// Removes the file: the comparison is over and told.
    pub fn remove(self) {
        let path = self.path;
        drop(self.connection);
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            // What stays is removed by the next comparison.
            std::fs::remove_file(PathBuf::from(name)).ok();
        }
    }

    /// Returns what is noted under `key`.
    pub fn note(&self, key: &str) -> Result<Option<String>, ScratchError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    /// Notes `value` under `key`.
    pub fn set_note(&self, key: &str, value: &str) -> Result<(), ScratchError> {
        self.with(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
                .execute([key, value])
                .map(drop)
        })
    }

    /// Returns where a resource stands; `None` before it began.
    pub fn resource(&self, name: &ResourceName) -> Result<Option<Standing>, ScratchError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT phase, columns, estimated_rows, rows, compared, dead_letters, missing, different, repaired, \
                     moving, keys FROM resource WHERE name = ?1",
                )?
                .query_row([name.as_str()], |row| {
                    Ok(Standing {
                        phase: schema::phase(row.get_ref(0)?.as_str()?),
                        columns: row.get(1)?,
                        estimated_rows: number(row, 2)?,
                        counts: Counts {
                            rows: number(row, 3)?,
                            compared: number(row, 4)?,
                            dead_letters: number(row, 5)?,
                            missing: number(row, 6)?,
                            different: number(row, 7)?,
                            repaired: number(row, 8)?,
                            moving: number(row, 9)?,
                            keys: number(row, 10)?,
                        },
                    })
                })
                .optional()
        })
    }

    /// Begins a resource, forgetting what was known about it.
    pub fn begin(
        &self,
        name: &ResourceName,
        columns: &str,
        estimated_rows: u64,
        ranges: &[KeyRange],
    ) -> Result<(), ScratchError> {
        self.change(|change| {
            let name = name.as_str();
            for sql in [
                "DELETE FROM resource WHERE name = ?1",
                "DELETE FROM part WHERE resource = ?1",
                "DELETE FROM suspect WHERE doubt IN (SELECT id FROM doubt WHERE resource = ?1)",
                "DELETE FROM doubt WHERE resource = ?1",
                "DELETE FROM finding WHERE resource = ?1",
                "DELETE FROM broken WHERE resource = ?1",
                "DELETE FROM writer WHERE resource = ?1",
                "DELETE FROM meta WHERE key = 'writers:' || ?1",
            ] {
                change.execute(sql, [name])?;
            }
            change.execute(
                "INSERT INTO resource (name, phase, columns, estimated_rows) VALUES (?1, 'walking', ?2, ?3)",
                params![name, columns, signed(estimated_rows)],
            )?;
            for range in ranges {
                change.execute(
                    "INSERT INTO part (resource, after, until) VALUES (?1, ?2, ?3)",
                    params![name, text(&range.after), text(&range.until)],
                )?;
            }
            Ok(())
        })
    }

    /// Returns the ranges of a resource that are not compared to their ends.
    pub fn parts(&self, name: &ResourceName) -> Result<Vec<Part>, ScratchError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, after, until FROM part WHERE resource = ?1 AND done = 0 ORDER BY id",
            )?;
            let parts = query.query_map([name.as_str()], |row| {
                Ok(Part {
                    id: row.get(0)?,
                    range: range(row, 1)?,
                })
            })?;
            parts.collect()
        })
    }

    /// Notes that a chunk of a part was compared.
    pub fn chunk_compared(
        &self,
        name: &ResourceName,
        part: i64,
        chunk: &ChunkCompared,
    ) -> Result<(), ScratchError> {
        self.change(|change| {
            change
                .prepare_cached("UPDATE part SET after = ?2 WHERE id = ?1")?
                .execute(params![part, text(&chunk.until)])?;
            add(change, name, &chunk.counts)?;
            for (reason, count) in &chunk.broken {
                change
                    .prepare_cached(
                        "INSERT INTO broken (resource, reason, count) VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET count = count + excluded.count",
                    )?
                    .execute(params![name.as_str(), reason, signed(*count)])?;
            }
            add_findings(change, name, "broken", &chunk.broken_keys)?;
            let Some((range, suspects)) = &chunk.doubt else {
                return Ok(());
            };
            change
                .prepare_cached("INSERT INTO doubt (resource, after, until) VALUES (?1, ?2, ?3)")?
                .execute(params![
                    name.as_str(),
                    text(&range.after),
                    text(&range.until)
                ])?;
            let doubt = change.last_insert_rowid();
            let mut insert = change.prepare_cached(
                "INSERT OR REPLACE INTO suspect (doubt, pair, hash) VALUES (?1, ?2, ?3)",
            )?;
            for (pair, hash) in suspects {
                insert.execute(params![doubt, pair, hash.cast_signed()])?;
            }
            Ok(())
        })
    }

    /// Notes that a part was compared to its end.
    pub fn part_done(&self, part: i64) -> Result<(), ScratchError> {
        self.with(|connection| {
            connection
                .execute("UPDATE part SET done = 1 WHERE id = ?1", [part])
                .map(drop)
        })
    }

    /// Notes how far a resource is.
    pub fn set_phase(&self, name: &ResourceName, phase: Phase) -> Result<(), ScratchError> {
        self.with(|connection| {
            connection
                .execute(
                    "UPDATE resource SET phase = ?2 WHERE name = ?1",
                    [name.as_str(), schema::label(phase)],
                )
                .map(drop)
        })
    }

    /// Returns the first doubt of a resource with a greater number than `after`.
    pub fn next_doubt(
        &self,
        name: &ResourceName,
        after: i64,
    ) -> Result<Option<Doubt>, ScratchError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, after, until FROM doubt WHERE resource = ?1 AND id > ?2 ORDER BY id LIMIT 1",
                )?
                .query_row(params![name.as_str(), after], |row| {
                    Ok(Doubt {
                        id: row.get(0)?,
                        range: range(row, 1)?,
                    })
                })
                .optional()
        })
    }

    /// Returns the pairs that a doubt is about: a hash of what was expected, by place and key.
    pub fn suspects(&self, doubt: i64) -> Result<HashMap<String, u64>, ScratchError> {
        self.with(|connection| {
            let mut query =
                connection.prepare_cached("SELECT pair, hash FROM suspect WHERE doubt = ?1")?;
            let rows = query.query_map([doubt], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
            })?;
            rows.collect()
        })
    }

    /// Returns why rows of a resource cannot be restored as they are, and how many, most of them first.
    pub fn broken(&self, name: &ResourceName) -> Result<Vec<(String, u64)>, ScratchError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT reason, count FROM broken WHERE resource = ?1 ORDER BY count DESC, reason",
            )?;
            let reasons =
                query.query_map([name.as_str()], |row| Ok((row.get(0)?, number(row, 1)?)))?;
            reasons.collect()
        })
    }

    /// Notes what became of a doubt, which is none any more.
    pub fn settled(
        &self,
        name: &ResourceName,
        doubt: i64,
        settlement: &Settlement,
    ) -> Result<(), ScratchError> {
        self.change(|change| {
            change.execute("DELETE FROM suspect WHERE doubt = ?1", [doubt])?;
            change.execute("DELETE FROM doubt WHERE id = ?1", [doubt])?;
            add(change, name, &settlement.counts)?;
            for (kind, keys) in [
                ("missing", &settlement.missing),
                ("different", &settlement.different),
                ("shared", &settlement.shared),
            ] {
                add_findings(change, name, kind, keys)?;
            }
            Ok(())
        })
    }

    /// Returns the first keys that were found of a kind: `missing`, `different`, `shared`, `broken`, `extra`.
    pub fn findings(&self, name: &ResourceName, kind: &str) -> Result<Vec<String>, ScratchError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT key FROM finding WHERE resource = ?1 AND kind = ?2 ORDER BY id",
            )?;
            let keys = query.query_map([name.as_str(), kind], |row| row.get(0))?;
            keys.collect()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        ask: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ScratchError> {
        ask(&mut self.lock()).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ScratchError::InUse(self.path.clone())
            }
            _ => ScratchError::File {
                path: self.path.clone(),
                source: error.into(),
            },
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), ScratchError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            change(&transaction)?;
            transaction.commit()
        })
    }
}

fn add(change: &Transaction<'_>, name: &ResourceName, counts: &Counts) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "UPDATE resource SET rows = rows + ?2, compared = compared + ?3, dead_letters = dead_letters + ?4, \
             missing = missing + ?5, different = different + ?6, repaired = repaired + ?7, moving = moving + ?8, \
             keys = keys + ?9 \
             WHERE name = ?1",
        )?
        .execute(params![
            name.as_str(),
            signed(counts.rows),
            signed(counts.compared),
            signed(counts.dead_letters),
            signed(counts.missing),
            signed(counts.different),
            signed(counts.repaired),
            signed(counts.moving),
            signed(counts.keys),
        ])
        .map(drop)
}

/// Keeps the first keys of a kind.
fn add_findings(
    change: &Transaction<'_>,
    name: &ResourceName,
    kind: &str,
    keys: &[String],
) -> rusqlite::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let kept: i64 = change
        .prepare_cached("SELECT COUNT(*) FROM finding WHERE resource = ?1 AND kind = ?2")?
        .query_row([name.as_str(), kind], |row| row.get(0))?;
    let room = FIRST_KEYS.saturating_sub(usize::try_from(kept).unwrap_or(FIRST_KEYS));
    let mut insert = change.prepare_cached(
        "INSERT OR IGNORE INTO finding (resource, kind, key) VALUES (?1, ?2, ?3)",
    )?;
    for key in keys.iter().take(room) {
        insert.execute([name.as_str(), kind, key])?;
    }
    Ok(())
}

/// SQLite's integers have a sign; no count comes near it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(at)?).unwrap_or_default())
}

fn text<T: Serialize>(value: &T) -> String {
    // Strings and numbers only: nothing that cannot be written.
    serde_json::to_string(value).unwrap_or_default()
}

fn read<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(at)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, error.into())
    })
}

fn range(row: &Row<'_>, at: usize) -> rusqlite::Result<KeyRange> {
    Ok(KeyRange {
        after: read(row, at)?,
        until: read(row, at + 1)?,
    })
}
