//! The tables of the file. One that another release wrote is emptied: nothing in it is worth a migration.

use rusqlite::{Connection, OptionalExtension};

use super::Phase;

/// One up with every change to the tables.
const FORMAT: i64 = 3;

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE resource (
    name           TEXT PRIMARY KEY,
    phase          TEXT NOT NULL,
    columns        TEXT NOT NULL,
    estimated_rows INTEGER NOT NULL,
    rows           INTEGER NOT NULL DEFAULT 0,
    compared       INTEGER NOT NULL DEFAULT 0,
    keys           INTEGER NOT NULL DEFAULT 0,
    dead_letters   INTEGER NOT NULL DEFAULT 0,
    missing        INTEGER NOT NULL DEFAULT 0,
    different      INTEGER NOT NULL DEFAULT 0,
    repaired       INTEGER NOT NULL DEFAULT 0,
    moving         INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE part (
    id       INTEGER PRIMARY KEY,
    resource TEXT NOT NULL,
    after    TEXT NOT NULL,
    until    TEXT NOT NULL,
    done     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE doubt (
    id       INTEGER PRIMARY KEY,
    resource TEXT NOT NULL,
    after    TEXT NOT NULL,
    until    TEXT NOT NULL
) STRICT;
CREATE INDEX doubt_of ON doubt (resource, id);
CREATE TABLE suspect (
    doubt INTEGER NOT NULL,
    pair  TEXT NOT NULL,
    hash  INTEGER NOT NULL,
    PRIMARY KEY (doubt, pair)
) STRICT, WITHOUT ROWID;
CREATE TABLE finding (
    id       INTEGER PRIMARY KEY,
    resource TEXT NOT NULL,
    kind     TEXT NOT NULL,
    key      TEXT NOT NULL,
    UNIQUE (resource, kind, key)
) STRICT;
CREATE INDEX finding_of ON finding (resource, kind, id);
CREATE TABLE broken (
    resource TEXT NOT NULL,
    reason   TEXT NOT NULL,
    count    INTEGER NOT NULL,
    PRIMARY KEY (resource, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE writer (
    resource TEXT NOT NULL,
    name     BLOB NOT NULL,
    pair     TEXT NOT NULL,
    hash     INTEGER NOT NULL,
    differ   INTEGER NOT NULL DEFAULT 0,
    own      INTEGER NOT NULL,
    PRIMARY KEY (resource, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE candidate (
    target   TEXT NOT NULL,
    resource TEXT NOT NULL,
    key      BLOB NOT NULL,
    place    TEXT NOT NULL,
    PRIMARY KEY (target, key, place)
) STRICT, WITHOUT ROWID;
";

/// Makes the file ready for the comparison `about`; returns whether an unfinished one of that name is in it.
pub(super) fn prepare(
    connection: &mut Connection,
    about: &str,
    anew: bool,
) -> rusqlite::Result<bool> {
    // One process at a time. What a dying machine loses of it is compared again, so nothing waits for the disk.
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;",
    )?;
    let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
    let format: i64 = change.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format == FORMAT && !anew {
        let found: Option<String> = change
            .query_row("SELECT value FROM meta WHERE key = 'about'", [], |row| {
                row.get(0)
            })
            .optional()?;
        if found.as_deref() == Some(about) {
            change.commit()?;
            return Ok(true);
        }
    }
    let tables: Vec<String> = {
        let mut query = change.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )?;
        let names = query.query_map([], |row| row.get(0))?;
        names.collect::<rusqlite::Result<_>>()?
    };
    for table in tables {
        change.execute_batch(&format!("DROP TABLE \"{}\"", table.replace('"', "\"\"")))?;
    }
    change.execute_batch(TABLES)?;
    change.execute_batch(&format!("PRAGMA user_version = {FORMAT}"))?;
    change.execute(
        "INSERT INTO meta (key, value) VALUES ('about', ?1)",
        [about],
    )?;
    change.commit()?;
    Ok(false)
}

/// Returns the word under which a phase is stored.
pub(super) const fn label(phase: Phase) -> &'static str {
    match phase {
        Phase::Walking => "walking",
        Phase::Settling => "settling",
        Phase::Settled => "settled",
    }
}

/// Returns the phase stored as `label`. A word that no release wrote is a comparison to begin with.
pub(super) fn phase(label: &str) -> Phase {
    match label {
        "settled" => Phase::Settled,
        "settling" => Phase::Settling,
        _ => Phase::Walking,
    }
}
