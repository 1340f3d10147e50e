//! Brings an older state file up to date, after a copy of it is safe on disk.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, TransactionBehavior, backup::Backup};

use super::{
    error::JournalError,
    files::{StateFiles, private, with_suffix},
    notice::Notice,
    schema::Migration,
};

/// Pages copied at a time; nobody else uses the file, so the number only bounds memory.
const PAGES: std::ffi::c_int = 1000;

/// Brings the state file from format `from` to `to` in one transaction.
pub(super) fn migrate(
    connection: &mut Connection,
    files: &StateFiles,
    from: u32,
    to: u32,
    migrations: &[Migration],
) -> Result<Notice, JournalError> {
    let backup = back_up(connection, files, from)?;
    let fail =
        |error: rusqlite::Error| match JournalError::sqlite("migrate", &files.database, error) {
            JournalError::Sqlite { path, source, .. } => JournalError::Migration {
                path,
                from,
                to,
                source,
            },
            other => other,
        };
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fail)?;
    for format in from..to {
        let step = migrations
            .iter()
            .find(|migration| migration.from == format)
            .ok_or_else(|| JournalError::Migration {
                path: files.database.clone(),
                from,
                to,
                source: Arc::new(rusqlite::Error::QueryReturnedNoRows),
            })?;
        transaction.execute_batch(step.sql).map_err(fail)?;
    }
    transaction
        .pragma_update(None, "user_version", to)
        .map_err(fail)?;
    transaction.commit().map_err(fail)?;
    Ok(Notice::Migrated { from, to, backup })
}

/// Copies the state file, log included, to `X.sqlite.format<N>.bak`; a copy of the same format is replaced.
fn back_up(
    connection: &Connection,
    files: &StateFiles,
    format: u32,
) -> Result<PathBuf, JournalError> {
    let backup = with_suffix(&files.database, &format!(".format{format}.bak"));
    let beside = with_suffix(&backup, ".tmp");
    let _ = fs::remove_file(&beside);
    let file = private()
        .write(true)
        .create_new(true)
        .open(&beside)
        .map_err(|error| JournalError::io("create", &beside, error))?;
    copy(connection, &beside).map_err(|error| JournalError::sqlite("copy", &beside, error))?;
    file.sync_all()
        .and_then(|()| fs::rename(&beside, &backup))
        .map_err(|error| JournalError::io("write", &backup, error))?;
    files.sync_folder()?;
    Ok(backup)
}

fn copy(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    let mut copy = Connection::open(to)?;
    Backup::new(connection, &mut copy)?.run_to_completion(PAGES, Duration::ZERO, None)?;
    copy.close().map_err(|(_, error)| error)
}
