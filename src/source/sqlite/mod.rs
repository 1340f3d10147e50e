//! SQLite sources: rusqlite on the runtime's own threads (a third of the time that sqlx takes there).
//!
//! Every call opens its own read-only connection. A page's rows are stepped one by one, so a read transaction lasts
//! as long as its page; writers go on, only their WAL grows meanwhile.

mod catalogue;
mod probe;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, Row, Statement,
    types::{ToSql, ToSqlOutput, ValueRef},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{
    RowQuery, RowSink, ScanError, Source, TableShape,
    keyset::{self, Id},
    page_size::PageSize,
    partition,
    quote::Dialect,
    shape::{self, Checked},
};
use probe::Probe;

use crate::{
    chunk::{MOST_BESIDE, SourceRow, Value},
    cursor::{KeyRange, KeyValue},
    error::{EdgeError, ErrorKind},
    plan::RowSource,
};

/// How long a locked file is tried. Readers of a WAL database never wait; in rollback mode a writer's commit takes
/// far less.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A SQLite file.
#[derive(Debug)]
pub struct SqliteSource {
    path: PathBuf,
    place: String,
}

impl SqliteSource {
    /// Takes `sqlite:shop.db`, `sqlite:///var/shop.db` and their like; a relative path is relative to the working
    /// folder.
    ///
    /// # Errors
    ///
    /// `Missing` where there is no such file, `Refused` for a file that is no database.
    pub fn open(url: &SecretString) -> Result<Self, EdgeError> {
        let url = url.expose_secret();
        let rest = url.strip_prefix("sqlite:").unwrap_or(url);
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        // As it is: `%` and `?` are letters of a file name like any other.
        let path = rest.to_owned();
        let given = format!("sqlite at {path}");
        // Identity and messages should name the file whatever the working folder is.
        let path = std::fs::canonicalize(&path).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Credentials,
                _ => ErrorKind::Missing,
            };
            EdgeError::new(kind, format!("{given} cannot be opened: {error}"))
        })?;
        let source = Self {
            place: format!("sqlite at {}", path.display()),
            path,
        };
        source.catalogue_is_readable()?;
        Ok(source)
    }

    fn catalogue_is_readable(&self) -> Result<(), EdgeError> {
        self.connect()?
            .query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()))
            .map_err(|error| self.edge("its catalogue", &error))
    }

    fn connect(&self) -> Result<Connection, EdgeError> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(
                &self.path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "query_only", true)?;
            // A condition with "quoted" text means columns, as on the other engines.
            connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
            Ok(connection)
        };
        open().map_err(|error| self.edge("the connection", &error))
    }

    /// Runs `work` where it may block, on a connection of its own.
    fn blocking<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, EdgeError>,
    ) -> Result<T, EdgeError> {
        may_block()?;
        tokio::task::block_in_place(|| work(&self.connect()?))
    }

    fn checked(&self, connection: &Connection, from: &RowSource) -> Result<Checked, EdgeError> {
        let found = catalogue::table(connection, &from.table)
            .map_err(|error| self.edge("its catalogue", &error))?;
        let Some(found) = found else {
            let tables =
                catalogue::tables(connection).map_err(|error| self.edge("its tables", &error))?;
            return Err(shape::missing_table(&self.place, &from.table, &tables));
        };
        shape::check(Dialect::Sqlite, &self.place, from, &found)
    }

    /// Returns the numbers of a query of one row.
    fn numbers<const N: usize>(
        &self,
        connection: &Connection,
        doing: &str,
        sql: &str,
        ids: &[Id],
    ) -> Result<[u64; N], EdgeError> {
        connection
            .query_row(sql, rusqlite::params_from_iter(ids), |row| {
                let mut numbers = [0; N];
                for (column, number) in numbers.iter_mut().enumerate() {
                    *number = count(row, column)?.unwrap_or(0);
                }
                Ok(numbers)
            })
            .map_err(|error| self.edge(doing, &error))
    }

    fn pages(
        &self,
        connection: &Connection,
        query: &RowQuery,
        range: &KeyRange,
        sink: &mut dyn RowSink,
    ) -> Result<(), ScanError> {
        let table = self.checked(connection, &query.from)?;
        let ids = keyset::typed_ids(&table, query.ids.as_deref().unwrap_or_default())?;
        let sql = keyset::page(&table, query.ids.as_ref().map(Vec::len));
        let (mut after, until) = keyset::bounds(range)?;
        let doing = format!("the rows of `{}`", query.from.table);
        let edge = |error: rusqlite::Error| self.edge(&doing, &error);
        let runtime = Handle::current();
        let mut first = connection.prepare(&sql.first).map_err(edge)?;
        let mut next = connection.prepare(&sql.next).map_err(edge)?;
        let mut size = PageSize::new();
        loop {
            let asked = size.begin(sink);
            let limit = i64::try_from(sink.row_bytes()).unwrap_or(i64::MAX);
            let page = if after.is_some() {
                &mut next
            } else {
                &mut first
            };
            let mut place = 1..;
            let mut bind = |page: &mut Statement<'_>, value: &dyn ToSql| {
                page.raw_bind_parameter(place.next().unwrap_or(1), value)
            };
            bind(page, &limit).map_err(edge)?;
            if let Some(after) = &after {
                bind(page, &Id::Key(after.clone())).map_err(edge)?;
            }
            bind(page, &Id::Key(until.clone())).map_err(edge)?;
            for id in &ids {
                bind(page, id).map_err(edge)?;
            }
            bind(page, &asked).map_err(edge)?;

            let mut rows = page.raw_query();
            while let Some(row) = rows.next().map_err(edge)? {
                let (key, full) = push(row, table.beside.len(), sink)
                    .map_err(edge)?
                    .ok_or_else(|| self.no_integer(&query.from))?;
                after = Some(key);
                size.row(full);
                if full {
                    runtime.block_on(sink.flush())?;
                }
            }
            drop(rows);
            runtime.block_on(sink.flush())?;
            if size.end() {
                return Ok(());
            }
        }
    }

    /// SQLite keeps what it is given: a column declared INTEGER may hold text.
    fn no_integer(&self, from: &RowSource) -> EdgeError {
        EdgeError::new(
            ErrorKind::Refused,
            format!(
                "`{}` of table `{}` at {} cannot be the cursor: a row holds something else than an integer",
                from.cursor.join(", "),
                from.table,
                self.place
            ),
        )
    }

    fn edge(&self, doing: &str, error: &rusqlite::Error) -> EdgeError {
        let place = &self.place;
        let (code, text) = match error {
            rusqlite::Error::SqliteFailure(failure, text) => (
                Some(failure.code),
                text.clone().unwrap_or_else(|| failure.to_string()),
            ),
            rusqlite::Error::SqlInputError { error, msg, .. } => (Some(error.code), msg.clone()),
            // The other texts are rusqlite's own and name columns and types only.
            other => (None, other.to_string()),
        };
        let kind = match code {
            Some(
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SchemaChanged,
            ) => ErrorKind::Busy,
            Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed) => {
                ErrorKind::Connection
            }
            Some(ErrorCode::CannotOpen | ErrorCode::NotFound) => ErrorKind::Missing,
            Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
                ErrorKind::Credentials
            }
            None => ErrorKind::Internal,
            Some(_) => ErrorKind::Refused,
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        EdgeError::new(kind, format!("{place} refused {doing}: {text}"))
    }
}

/// `block_in_place` panics on a runtime of one thread.
fn may_block() -> Result<(), EdgeError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Err(EdgeError::new(
            ErrorKind::Internal,
            "SQLite sources need a runtime of several threads",
        ));
    }
    Ok(())
}

/// Hands one row on; `None` when its cursor is no integer.
fn push(
    row: &Row<'_>,
    beside: usize,
    sink: &mut dyn RowSink,
) -> rusqlite::Result<Option<(KeyValue, bool)>> {
    let ValueRef::Integer(cursor) = row.get_ref(0)? else {
        return Ok(None);
    };
    let cursor = KeyValue::Int(cursor);
    let (mut key_text, mut value_text) = (String::new(), String::new());
    let key = bytes(row.get_ref(1)?, &mut key_text);
    let value = match bytes(row.get_ref(2)?, &mut value_text) {
        Some(bytes) => Value::Bytes(bytes),
        None => count(row, 3)?.map_or(Value::Null, Value::TooLarge),
    };
    let mut texts: [String; MOST_BESIDE] = Default::default();
    let mut columns = [None; MOST_BESIDE];
    for (index, (column, text)) in columns.iter_mut().zip(&mut texts).take(beside).enumerate() {
        *column = bytes(row.get_ref(4 + index)?, text);
    }
    let full = sink.push(SourceRow {
        cursor: std::slice::from_ref(&cursor),
        key,
        value,
        beside: &columns[..beside],
    });
    Ok(Some((cursor, full)))
}

/// Returns a count or a length, which SQLite keeps as a signed number.
fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let count: Option<i64> = row.get(column)?;
    Ok(count.map(|count| u64::try_from(count).unwrap_or(0)))
}

/// Returns the bytes of a value, numbers in their text form; `None` for NULL.
fn bytes<'a>(value: ValueRef<'a>, text: &'a mut String) -> Option<&'a [u8]> {
    match value {
        ValueRef::Null => return None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => return Some(bytes),
        ValueRef::Integer(number) => *text = number.to_string(),
        // Keeps the point, as SQLite does: 1.0, not 1.
        ValueRef::Real(number) => *text = format!("{number:?}"),
    }
    Some(text.as_bytes())
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Key(KeyValue::Int(value)) => value.to_sql(),
            // Beyond i64 SQLite has no integers: nothing lies above, everything below.
            Self::Key(KeyValue::Uint(value)) => {
                Ok(i64::try_from(*value).unwrap_or(i64::MAX).into())
            }
            Self::Text(text) => text.to_sql(),
        }
    }
}

#[async_trait]
impl Source for SqliteSource {
    fn place(&self) -> &str {
        &self.place
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        Ok(format!("sqlite:{}", self.path.display()))
    }

    async fn describe(&self, from: &RowSource) -> Result<TableShape, EdgeError> {
        self.blocking(|connection| {
            let checked = self.checked(connection, from)?;
            for sql in keyset::condition_checks(&checked).into_iter().flatten() {
                let doing = format!("the condition of `{}`", from.table);
                let statement = connection
                    .prepare(&sql)
                    .map_err(|error| self.edge(&doing, &error))?;
                if statement.parameter_count() > 0 {
                    return Err(EdgeError::new(
                        ErrorKind::Refused,
                        format!(
                            "{} cannot be asked for {doing}: `where` may not contain a placeholder",
                            self.place
                        ),
                    ));
                }
            }
            Ok(checked.shape)
        })
    }

    async fn tables(&self) -> Result<Vec<String>, EdgeError> {
        self.blocking(|connection| {
            catalogue::tables(connection).map_err(|error| self.edge("its tables", &error))
        })
    }

    async fn partition(&self, query: &RowQuery, wanted: u32) -> Result<Vec<KeyRange>, EdgeError> {
        let wanted = if query.ids.is_some() { 1 } else { wanted };
        may_block()?;
        tokio::task::block_in_place(|| {
            let connection = self.connect()?;
            let table = self.checked(&connection, &query.from)?;
            let mut probe = Probe {
                source: self,
                connection,
                table: &table,
                from: &query.from,
            };
            Handle::current().block_on(partition::ranges(&mut probe, wanted, table.unsigned))
        })
    }

    async fn scan(
        &self,
        query: &RowQuery,
        range: &KeyRange,
        sink: &mut dyn RowSink,
    ) -> Result<(), ScanError> {
        may_block()?;
        tokio::task::block_in_place(|| self.pages(&self.connect()?, query, range, sink))
    }

    async fn count(&self, query: &RowQuery) -> Result<u64, EdgeError> {
        self.blocking(|connection| {
            let table = self.checked(connection, &query.from)?;
            let ids = keyset::typed_ids(&table, query.ids.as_deref().unwrap_or_default())?;
            let sql = keyset::count(&table, query.ids.as_ref().map(Vec::len));
            let doing = format!("the count of `{}`", query.from.table);
            let [rows] = self.numbers(connection, &doing, &sql, &ids)?;
            Ok(rows)
        })
    }

    async fn sample_row_bytes(&self, query: &RowQuery) -> Result<Option<u64>, EdgeError> {
        self.blocking(|connection| {
            let table = self.checked(connection, &query.from)?;
            let ids = keyset::typed_ids(&table, query.ids.as_deref().unwrap_or_default())?;
            let sql = keyset::sample(&table, query.ids.as_ref().map(Vec::len));
            let doing = format!("a sample of `{}`", query.from.table);
            let [rows, bytes] = self.numbers(connection, &doing, &sql, &ids)?;
            Ok(bytes.checked_div(rows))
        })
    }
}
