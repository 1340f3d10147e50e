//! The tables, their format number, and how older formats become the present one.

use rusqlite::{Connection, OptionalExtension, Transaction};

/// Format of a state file that this release writes.
pub(super) const FORMAT: u32 = 4;

/// `RKDL` in `SQLite`'s application id: tells a state file from any other database.
pub(super) const APPLICATION: i32 = 0x524B_444C;

/// Brings a state file of format `from` to the next one, inside a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The format it applies to.
    pub from: u32,
    /// What makes it the next format.
    pub sql: &'static str,
}

/// Every migration since the first release, oldest first.
pub(super) const MIGRATIONS: &[Migration] = &[
    // What a resource has to do with its publisher.
    Migration {
        from: 1,
        sql: "ALTER TABLE resource ADD COLUMN fallback TEXT NOT NULL DEFAULT '{}'",
    },
    // Whom a row belongs to that did not pass.
    Migration {
        from: 2,
        sql: "ALTER TABLE dead_letter ADD COLUMN entity TEXT",
    },
    // Steps before and after the resources, and the run in whose place one came.
    Migration {
        from: 3,
        sql: STEPS,
    },
];

const STEPS: &str = "
ALTER TABLE run ADD COLUMN instead_of TEXT;
CREATE TABLE step (
    run        TEXT NOT NULL REFERENCES run (id) DEFERRABLE INITIALLY DEFERRED,
    number     INTEGER NOT NULL,
    place      TEXT NOT NULL,
    title      TEXT NOT NULL,
    state      TEXT NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (run, number)
) STRICT;
";

const TABLES: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
CREATE TABLE event (
    seq       INTEGER PRIMARY KEY,
    at_ms     INTEGER NOT NULL,
    label     TEXT NOT NULL,
    run       TEXT,
    partition INTEGER,
    chunk     INTEGER,
    body      TEXT NOT NULL,
    hash      BLOB NOT NULL,
    seal      BLOB
) STRICT;
CREATE TABLE run (
    id         TEXT PRIMARY KEY,
    ordinal    INTEGER NOT NULL,
    state      TEXT NOT NULL,
    state_body TEXT NOT NULL,
    scope      TEXT NOT NULL,
    opened_ms  INTEGER NOT NULL,
    moved_ms   INTEGER NOT NULL,
    source     TEXT,
    targets    TEXT NOT NULL,
    instead_of TEXT
) STRICT;
CREATE TABLE step (
    run        TEXT NOT NULL REFERENCES run (id) DEFERRABLE INITIALLY DEFERRED,
    number     INTEGER NOT NULL,
    place      TEXT NOT NULL,
    title      TEXT NOT NULL,
    state      TEXT NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (run, number)
) STRICT;
CREATE TABLE attempt (
    run             TEXT NOT NULL REFERENCES run (id) DEFERRABLE INITIALLY DEFERRED,
    number          INTEGER NOT NULL,
    pid             INTEGER NOT NULL,
    host            TEXT NOT NULL,
    version         TEXT NOT NULL,
    in_flight_bytes INTEGER NOT NULL,
    started_ms      INTEGER NOT NULL,
    ended           TEXT,
    ended_ms        INTEGER,
    PRIMARY KEY (run, number)
) STRICT;
CREATE TABLE resource (
    run            TEXT NOT NULL REFERENCES run (id) DEFERRABLE INITIALLY DEFERRED,
    name           TEXT NOT NULL,
    ordinal        INTEGER NOT NULL,
    definition     TEXT NOT NULL,
    state          TEXT NOT NULL,
    state_body     TEXT NOT NULL,
    columns        TEXT,
    estimated_rows INTEGER NOT NULL,
    voids          INTEGER NOT NULL,
    started_ms     INTEGER,
    ended_ms       INTEGER,
    fallback       TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (run, name)
) STRICT;
CREATE TABLE partition (
    id           INTEGER PRIMARY KEY,
    run          TEXT NOT NULL,
    resource     TEXT NOT NULL,
    ordinal      INTEGER NOT NULL,
    range        TEXT NOT NULL,
    state        TEXT NOT NULL,
    chunk        INTEGER NOT NULL,
    after        TEXT,
    rows         INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    dead_letters INTEGER NOT NULL,
    length       INTEGER,
    page_rows    INTEGER NOT NULL,
    moved_ms     INTEGER,
    FOREIGN KEY (run, resource) REFERENCES resource (run, name) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE INDEX partition_of_resource ON partition (run, resource);
CREATE TABLE dead_letter (
    run       TEXT NOT NULL,
    resource  TEXT NOT NULL,
    partition INTEGER NOT NULL REFERENCES partition (id) DEFERRABLE INITIALLY DEFERRED,
    chunk     INTEGER NOT NULL,
    n         INTEGER NOT NULL,
    cursor    TEXT NOT NULL,
    key       TEXT,
    kind      TEXT NOT NULL,
    reason    TEXT NOT NULL,
    attempt   INTEGER NOT NULL,
    at_ms     INTEGER NOT NULL,
    entity    TEXT,
    PRIMARY KEY (partition, chunk, n)
) STRICT;
CREATE INDEX dead_letter_of_resource ON dead_letter (run, resource);
";

/// What a database file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A database without tables: its creation was cut short, or its log is gone.
    Blank,
    /// A state file.
    State {
        /// Its format.
        format: u32,
    },
    /// Something else.
    Foreign,
}

/// Returns what `connection` leads to.
pub(super) fn kind(connection: &Connection) -> rusqlite::Result<Kind> {
    // One moment of the file: a run may be creating its tables just now.
    let connection = connection.unchecked_transaction()?;
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let format: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match application {
        APPLICATION if tables > 0 => Kind::State { format },
        0 | APPLICATION if tables == 0 => Kind::Blank,
        _ => Kind::Foreign,
    })
}

/// Makes the tables of a new state file called `state`.
pub(super) fn create(
    transaction: &Transaction<'_>,
    state: &str,
    format: u32,
) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    transaction.execute("INSERT INTO meta VALUES ('state', ?1)", [state])?;
    transaction.execute("INSERT INTO meta VALUES ('last_partition', '0')", [])?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", format)
}

/// Returns the random id of the state file; `None` where it is gone.
pub(super) fn state_id(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT value FROM meta WHERE key = 'state'", [], |row| {
            row.get(0)
        })
        .optional()
}
