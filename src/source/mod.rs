//! Where rows come from, in key order. Edges name the kind of their errors and never retry.
//!
//! ```text
//! plan's names -> shape (checked against the catalogue) -> quote -> keyset (page query) -> mysql | postgres | sqlite
//! partition (even key ranges from index probes)            page_size (rows of the next page)
//! changes (which rows changed since a moment)
//! middle (where a range that is being walked is cut)  read_model (which tables a plan should name)
//! ```

mod changes;
mod keyset;
mod middle;
pub mod mysql;
mod network;
mod page_size;
mod partition;
mod patience;
pub mod postgres;
mod quote;
mod read_model;
mod shape;
pub mod sqlite;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
pub use keyset::MOST_PLACES;
pub use patience::Patience;
pub use read_model::ReadModel;

pub(crate) use shape::schema_changed;

use crate::{
    chunk::SourceRow,
    cursor::{Cursor, KeyRange, KeyValue},
    error::EdgeError,
    plan::{ChangeColumn, RowSource, SourceConfig, SourceKind},
};

/// What the catalogue says about a resource's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// Names and types of the columns that the resource uses; changes with any of them.
    pub fingerprint: String,
    /// The server's own estimate of rows; exact only where counting is cheap.
    pub estimated_rows: u64,
    /// The server's own estimate of bytes in the table, if it keeps one.
    pub estimated_bytes: Option<u64>,
    /// Whether the cursor is one integer column. Such a table is cut into even ranges before it is read; others are cut
    /// while they are read, see [`Source::middle`].
    pub single_integer: bool,
    /// Columns that are read where a table has them, and that this one has not.
    pub absent: Vec<String>,
    /// Whether an index sees to it that no two rows write one key.
    pub unique_keys: bool,
}

/// Rows to read: a resource's table, restricted to some entity ids if the run's scope says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowQuery {
    /// Table, columns and filter, as the plan names them.
    pub from: RowSource,
    /// `--ids`: only rows whose entity column (else cursor column) is one of these. A place ([`Cursor::exact`]) among them
    /// stands for the row with that cursor.
    pub ids: Option<Vec<String>>,
    /// Only rows that changed since a moment.
    pub since: Option<Since>,
}

/// Rows that changed since a watermark was taken, and those whose column says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The column that every change of a row sets.
    pub column: String,
    /// Its least value that counts: [`Source::watermark`].
    pub watermark: KeyValue,
    /// How many rows they are, where they were counted. Few of them are not looked for along the key.
    pub rows: Option<u64>,
}

/// A column that tells which rows changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// Whether an index finds such rows; without one every row of the table is looked at.
    pub indexed: bool,
}

/// How far a replica is behind its primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lag {
    /// It is no replica.
    #[default]
    None,
    /// By this much.
    Behind(Duration),
    /// It is one, and does not follow at the moment.
    Stopped,
}

/// The engine took no more rows: it is shutting down or lost its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Why a scan ended early.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The sink took no more rows.
    #[error("the reader was told to stop")]
    Stopped,
    /// The source failed.
    #[error(transparent)]
    Source(#[from] EdgeError),
}

impl From<Stopped> for ScanError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Takes the rows of a scan and cuts them into chunks.
#[async_trait]
pub trait RowSink: Send {
    /// Returns how many rows the next page should ask for; at least 1. May change from page to page. A source asks for
    /// a few more where so short a page would make its server read a multiple of the rows.
    fn page_rows(&self) -> u32;

    /// Returns `true` while each row needs room made for it first: then a page is one row.
    fn reads_alone(&self) -> bool {
        false
    }

    /// Returns the longest value in bytes (inclusive) that may be read; longer ones are handed over as
    /// [`Value::TooLarge`](crate::chunk::Value::TooLarge) with their length, unread.
    fn row_bytes(&self) -> u64;

    /// Takes one row. Returns `true` when the chunk is full: then [`flush`](Self::flush) comes before the next row.
    fn push(&mut self, row: SourceRow<'_>) -> bool;

    /// Hands the chunk on, waiting for room. Called when `push` returned `true` and at the end of each page;
    /// an empty chunk is not handed on.
    async fn flush(&mut self) -> Result<(), Stopped>;

    /// Called after the flush that ends a page, if another page follows. `Err`: the scan ends here with
    /// [`ScanError::Stopped`], its connection in order.
    fn page_ended(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}

/// A database that holds the tables of a plan. Only reads, in a read-only session.
#[async_trait]
pub trait Source: Send + Sync {
    /// Returns what errors and reports call this source, for example `mariadb at db.test:3306/shop`.
    fn place(&self) -> &str;

    /// Returns a text that is equal for the same database and differs for another one.
    async fn identity(&self) -> Result<String, EdgeError>;

    /// Returns the table's shape, having checked every identifier of `from` against the catalogue.
    ///
    /// # Errors
    ///
    /// `Missing` for a table or column that is not there (with the nearest names), `Refused` for a cursor that is
    /// not all of a PRIMARY or UNIQUE index whose columns are NOT NULL and exact (with the indexes that would do).
    async fn describe(&self, from: &RowSource) -> Result<TableShape, EdgeError>;

    /// Returns the tables of the database, for hints.
    async fn tables(&self) -> Result<Vec<String>, EdgeError>;

    /// Returns the tables that look like read models, sorted by name; no views. For `init` and checks of coverage.
    async fn read_models(&self) -> Result<Vec<ReadModel>, EdgeError>;

    /// Returns at most `wanted` ranges that cover every row now present exactly once, in key order; none for an empty
    /// table. The first begins before the first row (no `after`), the last ends at the greatest key now present.
    ///
    /// Where the first column of the cursor is an integer, each range has about the same number of rows however the
    /// keys are spread. Elsewhere there is one range. Rows added later belong to the shop's own publishing.
    async fn partition(&self, query: &RowQuery, wanted: u32) -> Result<Vec<KeyRange>, EdgeError>;

    /// Returns a key that exists, lies in `range` but is not its end, and has a good part of the range's rows on either
    /// side; `None` where too few rows are left for a cut, or no such key is found cheaply.
    ///
    /// Reads a few hundred rows at most, however many the range has. Where the range is cut decides only how even the
    /// work is shared.
    async fn middle(
        &self,
        query: &RowQuery,
        range: &KeyRange,
    ) -> Result<Option<Cursor>, EdgeError> {
        let _ = (query, range);
        Ok(None)
    }

    /// Reads the rows of `range` in key order into `sink`, page by page.
    ///
    /// `Ok`: every row was pushed and flushed. After an error the caller scans again from the last chunk it took.
    async fn scan(
        &self,
        query: &RowQuery,
        range: &KeyRange,
        sink: &mut dyn RowSink,
    ) -> Result<(), ScanError>;

    /// Returns the rows of `range` at or below its end that are present, counted by the database (exact, may be slow).
    async fn count(&self, query: &RowQuery) -> Result<u64, EdgeError>;

    /// Returns how the table of `from` tells which of its rows changed; `None` where it lacks the column.
    ///
    /// # Errors
    ///
    /// `Refused` for a column whose type does not tell (text), and for an overlap that does not suit its type.
    async fn changes(
        &self,
        from: &RowSource,
        by: &ChangeColumn,
    ) -> Result<Option<Changes>, EdgeError>;

    /// Returns the value that rows have at least which change from now on: the greatest value now less the overlap. `None` where
    /// the table lacks the column, or no row has a value: then any row may change unseen. Reads the whole table where no index
    /// begins with the column.
    ///
    /// # Errors
    ///
    /// As [`changes`](Self::changes).
    async fn watermark(
        &self,
        from: &RowSource,
        by: &ChangeColumn,
    ) -> Result<Option<KeyValue>, EdgeError>;

    /// Returns how far the database is behind its primary, where it is a replica.
    ///
    /// # Errors
    ///
    /// `Credentials` for a user who may not ask.
    async fn replica_lag(&self) -> Result<Lag, EdgeError> {
        Ok(Lag::None)
    }

    /// Returns in words a right of its user to change something in this database, `INSERT`; `None` for one who may only read,
    /// and where there are no users.
    ///
    /// # Errors
    ///
    /// `Credentials` for a user who may not ask.
    async fn right_to_write(&self) -> Result<Option<String>, EdgeError> {
        Ok(None)
    }

    /// Returns a few rows' mean key and value length in bytes, for the estimates of a dry run; `None` for no rows.
    async fn sample_row_bytes(&self, query: &RowQuery) -> Result<Option<u64>, EdgeError>;
}

/// Connects to the source of a plan; one connection is opened and tried.
///
/// # Errors
///
/// `Missing` for a host, database or file that is not there, `Credentials` for a wrong password, `Connection` and
/// `Timeout` for a server that does not answer, `Refused` for a URL that cannot be read.
pub async fn connect(config: &SourceConfig) -> Result<Arc<dyn Source>, EdgeError> {
    Ok(match config.kind {
        SourceKind::Mysql => {
            let (tls, patience) = (config.tls.as_ref(), Patience::default());
            Arc::new(mysql::MySqlSource::connect(&config.url, tls, patience).await?)
        }
        SourceKind::Postgres => {
            let (tls, patience) = (config.tls.as_ref(), Patience::default());
            Arc::new(postgres::PostgresSource::connect(&config.url, tls, patience).await?)
        }
        SourceKind::Sqlite => Arc::new(sqlite::SqliteSource::open(&config.url)?),
    })
}
