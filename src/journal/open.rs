//! Opening: what lies there, whether it can be trusted, and what to do where it cannot.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};

use super::{
    chain::Log,
    compact::{self, Limits},
    error::{Fault, JournalError},
    files::{self, StateFiles, private, with_suffix},
    lock::{self, Lock},
    marker::{self, Found, Marker},
    migrate,
    notice::Notice,
    projection,
    schema::{self, Kind, Migration},
    store::{Store, checkpoint},
};
use crate::ids;

/// How to treat a state file that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Return the refusal.
    Normal,
    /// Move the files of a damaged state aside and begin anew (`run --new`). A sound one is opened as it is.
    NewAfterRefusal,
}

/// Limits and waits; the default is what every command uses, the rest is for tests.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long another process may keep the lock.
    pub lock_wait: Duration,
    /// When the log is compacted.
    pub limits: Limits,
    /// A limit on the pages of the file: how tests fill the disk.
    pub max_page_count: Option<u32>,
    /// The format to write.
    pub format: u32,
    /// How older formats become that one.
    pub migrations: &'static [Migration],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lock_wait: lock::WAIT,
            limits: Limits::default(),
            max_page_count: None,
            format: schema::FORMAT,
            migrations: schema::MIGRATIONS,
        }
    }
}

/// Readers never block a writer, only the cutting of its log; that can wait for the next time.
const BUSY: Duration = Duration::from_millis(250);

/// Opens the state file at `path`, having taken its lock.
pub(super) fn open(
    path: &Path,
    mode: OpenMode,
    settings: Settings,
) -> Result<(Store, Vec<Notice>), JournalError> {
    let files = StateFiles::prepare(path)?;
    let lock = Lock::take(&files, settings.lock_wait)?;
    let before = marker::read(&files)?;
    let (found, mut notices) = match load(&files, before.clone(), &settings) {
        Err(refused) if mode == OpenMode::NewAfterRefusal && refused.is_refusal() => {
            let aside = move_aside(&files, &refused)?;
            let (loaded, mut notices) = load(&files, Found::Nothing, &settings)?;
            notices.insert(0, aside);
            (loaded, notices)
        }
        other => other?,
    };
    let Loaded {
        connection,
        log,
        state,
        marker,
    } = found;
    let mut store = Store::new(connection, files, settings, state, log, lock);
    if store.log.ledger.runs.is_empty() {
        // Nobody answers yet for the runs of the state file before.
        store.left = before.marker().map(Marker::answers_for).unwrap_or_default();
        if marker != Found::Nothing && !store.left.is_empty() {
            let left = store.left.clone();
            notices.push(Notice::NotBegun { left });
        }
    }
    let current = store.marker();
    let stands = marker.marker().is_some_and(|had| {
        (had.format, &had.state, &had.run, had.seq)
            == (current.format, &current.state, &current.run, current.seq)
    });
    if !stands {
        store.write_marker()?;
    }
    if settings.limits.are_passed_by(&store.log) {
        compact::compact(&mut store)?;
    }
    Ok((store, notices))
}

/// A state file whose content was checked.
struct Loaded {
    connection: Connection,
    log: Log,
    state: String,
    marker: Found,
}

fn load(
    files: &StateFiles,
    marker: Found,
    settings: &Settings,
) -> Result<(Loaded, Vec<Notice>), JournalError> {
    // Before SQLite is let near it: opening an empty file deletes the log beside it.
    let wal_bytes = check_files(files, &marker)?;
    let mut connection = connect(&files.database)?;
    let fail = |error| JournalError::sqlite("open", &files.database, error);
    let mut notices = Vec::new();
    // Nothing is changed, not even a mode, before the file is known to be ours to write.
    match kind_of(&connection, files, &marker)? {
        Kind::Foreign => {
            return Err(JournalError::NotOurs {
                path: files.database.clone(),
            });
        }
        Kind::State { format } if format > settings.format => {
            return Err(JournalError::NewerFormat {
                path: files.database.clone(),
                found: format,
                known: settings.format,
            });
        }
        Kind::Blank => {
            configure(&connection, files, settings)?;
            create(&mut connection, settings).map_err(fail)?;
            files.sync_folder()?;
        }
        Kind::State { format } => {
            configure(&connection, files, settings)?;
            if format < settings.format {
                notices.push(migrate::migrate(
                    &mut connection,
                    files,
                    format,
                    settings.format,
                    settings.migrations,
                )?);
            }
        }
    }
    files.tighten()?;
    let (log, state) = verify(&connection).map_err(|fault| fault.at(&files.database))?;
    notices.extend(assess(files, &marker, &log, &state, wal_bytes)?);
    Ok((
        Loaded {
            connection,
            log,
            state,
            marker,
        },
        notices,
    ))
}

/// Refuses a state file that is missing or empty while something says there was one; else makes sure there is a
/// file. Returns the bytes of `SQLite`'s log.
fn check_files(files: &StateFiles, marker: &Found) -> Result<u64, JournalError> {
    let wal_bytes = files::length(&files.wal).unwrap_or(0);
    let length = files::length(&files.database);
    if length.is_some_and(|length| length > 0) {
        return Ok(wal_bytes);
    }
    refuse_nothing(files, marker, wal_bytes)?;
    private()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&files.database)
        .map_err(|error| JournalError::io("create", &files.database, error))?;
    Ok(0)
}

/// Refuses a state file that is missing or empty, unless it never was anything else.
pub(super) fn refuse_nothing(
    files: &StateFiles,
    marker: &Found,
    wal_bytes: u64,
) -> Result<(), JournalError> {
    let what = if files.database.exists() {
        "the state file is empty"
    } else {
        "the state file is missing"
    };
    match marker {
        Found::Nothing if wal_bytes == 0 => Ok(()),
        Found::Nothing => Err(behind(files, marker, format!("{what}, its log is not"))),
        Found::Unreadable => Err(behind(files, marker, what.to_owned())),
        Found::Marker(named) => Err(behind(
            files,
            marker,
            format!("{what}, the marker names event {}", named.seq),
        )),
    }
}

/// Opens an existing file for writing, touching nothing yet.
fn connect(path: &Path) -> Result<Connection, JournalError> {
    let fail = |error| JournalError::sqlite("open", path, error);
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    )
    .map_err(fail)?;
    // A refused or failed state file stays as it is, its log included.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    if connection.is_readonly("main").map_err(fail)? {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        return Err(JournalError::io("write to", path, denied));
    }
    Ok(connection)
}

/// Returns what the file is, or the refusal of one that cannot be read or has no tables where it should.
pub(super) fn kind_of(
    connection: &Connection,
    files: &StateFiles,
    marker: &Found,
) -> Result<Kind, JournalError> {
    match schema::kind(connection) {
        Ok(Kind::Blank) if *marker != Found::Nothing => Err(behind(
            files,
            marker,
            "the state file holds no tables".to_owned(),
        )),
        Ok(kind) => Ok(kind),
        // Without a marker nothing says that this was ever a state file; it is not moved aside.
        Err(error)
            if *marker == Found::Nothing
                && error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) =>
        {
            Err(JournalError::NotOurs {
                path: files.database.clone(),
            })
        }
        Err(error) => Err(JournalError::sqlite("read", &files.database, error)),
    }
}

fn configure(
    connection: &Connection,
    files: &StateFiles,
    settings: &Settings,
) -> Result<(), JournalError> {
    let fail = |error| JournalError::sqlite("open", &files.database, error);
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(fail)?;
    if mode != "wal" {
        let refused = io::Error::new(
            io::ErrorKind::Unsupported,
            "this file system has no shared memory for SQLite's log; use a local disk",
        );
        return Err(JournalError::Io {
            doing: "write to",
            path: files.database.clone(),
            source: Arc::new(refused),
        });
    }
    // FULL: a commit that was answered survives a power cut. Cell checks find broken pages before they are believed.
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON;",
        )
        .map_err(fail)?;
    if let Some(pages) = settings.max_page_count {
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .map_err(fail)?;
    }
    Ok(())
}

fn create(connection: &mut Connection, settings: &Settings) -> rusqlite::Result<()> {
    let mut random = ids::randomness();
    let state: String = std::iter::repeat_with(|| random.alphanumeric())
        .take(20)
        .collect();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema::create(&transaction, &state, settings.format)?;
    transaction.commit()?;
    // The tables belong into the file itself: a log that is lost later must not make it look brand new.
    checkpoint(connection)
}

/// Checks pages, chain, replay and tables; returns what the events add up to and the id of the state file.
pub(super) fn verify(connection: &Connection) -> Result<(Log, String), Fault> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Fault::Content {
            row: "a page of the file".to_owned(),
            what: found.replace('\n', " "),
        });
    }
    let log = Log::replay(connection, None)?;
    projection::check(connection, &log.ledger)?;
    log.letters.check(connection)?;
    let state =
        schema::state_id(connection)?.ok_or_else(|| Fault::table("meta", "state", "is missing"))?;
    Ok((log, state))
}

/// Compares the log with the marker. `wal_bytes` is what `SQLite`'s log had before the file was opened.
pub(super) fn assess(
    files: &StateFiles,
    found: &Found,
    log: &Log,
    state: &str,
    wal_bytes: u64,
) -> Result<Option<Notice>, JournalError> {
    let marker = match found {
        Found::Nothing => return Ok((log.seq > 0).then_some(Notice::MarkerMissing)),
        Found::Unreadable => return Ok(Some(Notice::MarkerUnreadable)),
        Found::Marker(marker) => marker,
    };
    let foreign = |what: String| JournalError::ForeignMarker {
        path: files.database.clone(),
        what,
        run: marker.run.clone(),
    };
    if marker.state != state {
        return Err(foreign(format!(
            "it names state `{}`, the file is `{state}`",
            marker.state
        )));
    }
    if log.seq < marker.seq && wal_bytes == 0 {
        return Err(behind(
            files,
            found,
            format!(
                "its write-ahead log is gone; the last event is {}, the marker names event {}",
                log.seq, marker.seq
            ),
        ));
    }
    let unknown = marker
        .run
        .as_ref()
        .filter(|run| log.ledger.run(run).is_none());
    if let Some(run) = unknown {
        // Also where the tail is torn: what was done in a run whose beginning is lost can only be observed.
        return Err(if log.seq < marker.seq {
            behind(
                files,
                found,
                format!("the beginning of run {run} is lost with the end of the log"),
            )
        } else {
            foreign(format!("it names run {run}, which the file does not know"))
        });
    }
    Ok((log.seq < marker.seq).then(|| Notice::Behind {
        events: marker.seq - log.seq,
    }))
}

fn behind(files: &StateFiles, marker: &Found, what: String) -> JournalError {
    JournalError::Behind {
        path: files.database.clone(),
        what,
        run: marker.marker().and_then(|marker| marker.run.clone()),
    }
}

/// Renames the files of a refused state to `X.sqlite.damaged-<n>` and its companions. The marker is copied: until that of
/// the new state takes its place, a death in between leaves a state that is refused again, and knows of the runs before.
fn move_aside(files: &StateFiles, refused: &JournalError) -> Result<Notice, JournalError> {
    let marker = marker::read(files)?;
    let (to, [pairs @ .., (from, copy)]) = free_place(files);
    match fs::copy(&from, &copy) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(JournalError::io("copy", &from, error)),
    }
    for (from, to) in pairs {
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(JournalError::io("move aside", &from, error)),
        }
    }
    files.sync_folder()?;
    let marker = marker.marker();
    Ok(Notice::StartedAnew {
        refused: refused.to_string(),
        old_run: marker.and_then(|marker| marker.run.clone()),
        left: marker.map(Marker::answers_for).unwrap_or_default(),
        old_state: marker.map(|marker| marker.state.clone()),
        moved_to: to,
    })
}

/// Returns the first number that no earlier damage took. The marker comes last.
fn free_place(files: &StateFiles) -> (PathBuf, [(PathBuf, PathBuf); 5]) {
    let mut number = 1_u32;
    loop {
        let to = with_suffix(&files.database, &format!(".damaged-{number}"));
        let pairs = [
            (files.shm.clone(), with_suffix(&to, "-shm")),
            (files.wal.clone(), with_suffix(&to, "-wal")),
            (files.rollback.clone(), with_suffix(&to, "-journal")),
            (files.database.clone(), to.clone()),
            (files.marker.clone(), with_suffix(&to, ".marker")),
        ];
        if pairs.iter().all(|(_, to)| to.symlink_metadata().is_err()) {
            return (to, pairs);
        }
        number += 1;
    }
}
