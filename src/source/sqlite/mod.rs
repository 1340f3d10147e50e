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
    Connection, ErrorCode, OpenFlags, Row,
    types::{ToSql, ToSqlOutput, ValueRef},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{
    Changes, ReadModel, RowQuery, RowSink, ScanError, Source, TableShape, changes,
    keyset::{self, Bound, Id, Statement as Sql, Values},
    middle,
    page_size::PageSize,
    partition,
    quote::Dialect,
    shape::{self, Checked},
};
use probe::Probe;

use crate::{
    chunk::{MOST_BESIDE, SourceRow, Value},
    cursor::{Cursor, KeyRange, KeyValue},
    error::{EdgeError, ErrorKind, Subject},
    plan::{ChangeColumn, RowSource},
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
        sql: &Sql,
        ids: &[Id],
    ) -> Result<[u64; N], EdgeError> {
        let values = Values {
            ids,
            ..Values::default()
        };
        let bound = sql.bound(&values)?;
        connection
            .query_row(&sql.sql, rusqlite::params_from_iter(bound), |row| {
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
        let doing = format!("the rows of `{}`", query.from.table);
        let edge = |error: rusqlite::Error| self.edge(&doing, &error);
        let schema = || {
            connection
                .pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))
                .map_err(edge)
        };
        let mut version = schema()?;
        let table = self
            .checked(connection, &query.from)?
            .changed_since(&self.place, query.since.as_ref())?;
        let ids = keyset::typed_ids(&table, query.ids.as_deref().unwrap_or_default())?;
        let sql = keyset::page(&table, query.ids.as_ref().map(|_| ids.as_slice()));
        keyset::check_range(&table, range)?;
        let runtime = Handle::current();
        let mut first = connection.prepare(&sql.first.sql).map_err(edge)?;
        let mut next = connection.prepare(&sql.next.sql).map_err(edge)?;
        let mut size = PageSize::new(1);
        let mut after = range.after.clone();
        let mut key = Vec::new();
        loop {
            // SQLite prepares a page again by itself where its table changed, and reads whatever the columns are by then. The
            // transaction ties the page to the columns that were looked at.
            connection.execute_batch("BEGIN").map_err(edge)?;
            let now = schema()?;
            if std::mem::replace(&mut version, now) != now {
                let now = self.checked(connection, &query.from)?.shape.fingerprint;
                if now != table.shape.fingerprint {
                    let had = &table.shape.fingerprint;
                    return Err(shape::schema_changed(&query.from.table, had, &now).into());
                }
            }
            let values = Values {
                rows: size.begin(sink),
                value_limit: sink.row_bytes(),
                after: after.as_ref(),
                until: Some(&range.until),
                from: None,
                ids: &ids,
            };
            let (page, bound) = if after.is_some() {
                (&mut next, sql.next.bound(&values)?)
            } else {
                (&mut first, sql.first.bound(&values)?)
            };
            for (place, value) in (1..).zip(&bound) {
                page.raw_bind_parameter(place, value).map_err(edge)?;
            }

            let mut rows = page.raw_query();
            while let Some(row) = rows.next().map_err(edge)? {
                read_key(row, table.cursor.len(), &mut key)
                    .map_err(|unfit| self.unfit(&query.from, &doing, unfit))?;
                let full = push(row, &key, table.beside.len(), sink).map_err(edge)?;
                match &mut after {
                    Some(before) => std::mem::swap(&mut before.0, &mut key),
                    None => after = Some(Cursor(std::mem::take(&mut key))),
                }
                size.row(full);
                if full {
                    runtime.block_on(sink.flush())?;
                }
            }
            drop(rows);
            connection.execute_batch("COMMIT").map_err(edge)?;
            runtime.block_on(sink.flush())?;
            if size.end() {
                return Ok(());
            }
            sink.page_ended()?;
        }
    }

    /// SQLite keeps what it is given: a column declared INTEGER may hold anything.
    fn unfit(&self, from: &RowSource, doing: &str, unfit: Unfit) -> EdgeError {
        let what = match unfit {
            Unfit::Sqlite(error) => return self.edge(doing, &error),
            Unfit::Value(what) => what,
        };
        EdgeError::new(
            ErrorKind::Refused,
            format!(
                "`{}` of table `{}` at {} cannot be the cursor: a row holds {what}",
                from.cursor.join(", "),
                from.table,
                self.place
            ),
        )
    }

    fn edge(&self, doing: &str, error: &rusqlite::Error) -> EdgeError {
        let place = &self.place;
        if error
            .sqlite_error()
            .is_some_and(|failure| failure.extended_code == rusqlite::ffi::SQLITE_READONLY_ROLLBACK)
        {
            // Not a lock that passes: the file stays unreadable until somebody opens it to write.
            return EdgeError::new(
                ErrorKind::Refused,
                format!(
                    "{place} holds a half-done change of a program that died, and a reader may not take it back: open it once \
                     with a program that may write, `sqlite3 {} .tables` (`rekindle run` does it where the plan's own \
                     statement writes there)",
                    self.path.display()
                ),
            );
        }
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

/// Why the key of a row cannot be read.
enum Unfit {
    Sqlite(rusqlite::Error),
    /// What the row holds.
    Value(&'static str),
}

/// Reads the first `columns` columns of a row into `key`, in place of what is there.
fn read_key(row: &Row<'_>, columns: usize, key: &mut Vec<KeyValue>) -> Result<(), Unfit> {
    key.clear();
    for at in 0..columns {
        key.push(match row.get_ref(at).map_err(Unfit::Sqlite)? {
            ValueRef::Integer(value) => KeyValue::Int(value),
            ValueRef::Text(text) => KeyValue::Text(
                str::from_utf8(text)
                    .map_err(|_| Unfit::Value("text that is not UTF-8"))?
                    .to_owned(),
            ),
            ValueRef::Blob(bytes) => KeyValue::Bytes(bytes.to_vec()),
            ValueRef::Real(_) => return Err(Unfit::Value("a floating-point number")),
            ValueRef::Null => return Err(Unfit::Value("NULL")),
        });
    }
    Ok(())
}

/// Hands one row on; returns whether the chunk is full.
fn push(
    row: &Row<'_>,
    cursor: &[KeyValue],
    beside: usize,
    sink: &mut dyn RowSink,
) -> rusqlite::Result<bool> {
    let at = cursor.len();
    let (mut key_text, mut value_text) = (String::new(), String::new());
    let key = bytes(row.get_ref(at)?, &mut key_text);
    let value = match bytes(row.get_ref(at + 1)?, &mut value_text) {
        Some(bytes) => Value::Bytes(bytes),
        None => count(row, at + 2)?.map_or(Value::Null, Value::TooLarge),
    };
    let mut texts: [String; MOST_BESIDE] = Default::default();
    let mut columns = [None; MOST_BESIDE];
    for (index, (column, text)) in columns.iter_mut().zip(&mut texts).take(beside).enumerate() {
        *column = bytes(row.get_ref(at + 3 + index)?, text);
    }
    Ok(sink.push(SourceRow {
        cursor,
        key,
        value,
        beside: &columns[..beside],
    }))
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

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        // Beyond i64 SQLite has no integers: nothing lies above, everything below.
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Ok(match self {
            Self::Number(value) => signed(*value).into(),
            Self::Text(text) => (*text).into(),
            Self::Key(key) => match key {
                KeyValue::Int(value) => (*value).into(),
                KeyValue::Uint(value) => signed(*value).into(),
                KeyValue::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
                // The last four are not read from SQLite; there they are texts like any other.
                KeyValue::Text(text)
                | KeyValue::Decimal(text)
                | KeyValue::Timestamp(text)
                | KeyValue::Date(text)
                | KeyValue::Time(text)
                | KeyValue::Uuid(text) => text.as_str().into(),
            },
        })
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
                    .map_err(|error| self.edge(&doing, &error).about(Subject::Condition))?;
                if statement.parameter_count() > 0 {
                    return Err(EdgeError::new(
                        ErrorKind::Refused,
                        format!(
                            "{} cannot be asked for {doing}: `where` may not contain a placeholder",
                            self.place
                        ),
                    )
                    .about(Subject::Condition));
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

    async fn read_models(&self) -> Result<Vec<ReadModel>, EdgeError> {
        self.blocking(|connection| {
            catalogue::read_models(connection).map_err(|error| self.edge("its read models", &error))
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
            Handle::current().block_on(partition::ranges(&mut probe, wanted, &table.cursor))
        })
    }

    async fn middle(
        &self,
        query: &RowQuery,
        range: &KeyRange,
    ) -> Result<Option<Cursor>, EdgeError> {
        may_block()?;
        tokio::task::block_in_place(|| {
            let connection = self.connect()?;
            let table = self.checked(&connection, &query.from)?;
            keyset::check_range(&table, range)?;
            let mut probe = Probe {
                source: self,
                connection,
                table: &table,
                from: &query.from,
            };
            Handle::current().block_on(middle::middle(&mut probe, range))
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

    async fn changes(
        &self,
        from: &RowSource,
        by: &ChangeColumn,
    ) -> Result<Option<Changes>, EdgeError> {
        self.blocking(|connection| changes::of(&self.place, &self.checked(connection, from)?, by))
    }

    async fn watermark(
        &self,
        from: &RowSource,
        by: &ChangeColumn,
    ) -> Result<Option<KeyValue>, EdgeError> {
        self.blocking(|connection| {
            let table = self.checked(connection, from)?;
            let Some(latest) = changes::latest(&self.place, &table, by)? else {
                return Ok(None);
            };
            let text = connection
                .query_row(&latest.sql, [], |row| row.get(0))
                .map_err(|error| {
                    self.edge(&format!("the latest change of `{}`", from.table), &error)
                })?;
            Ok(latest.watermark(text))
        })
    }

    async fn count(&self, query: &RowQuery) -> Result<u64, EdgeError> {
        self.blocking(|connection| {
            let table = self
                .checked(connection, &query.from)?
                .changed_since(&self.place, query.since.as_ref())?;
            let ids = keyset::typed_ids(&table, query.ids.as_deref().unwrap_or_default())?;
            let sql = keyset::count(&table, query.ids.as_ref().map(|_| ids.as_slice()));
            let doing = format!("the count of `{}`", query.from.table);
            let [rows] = self.numbers(connection, &doing, &sql, &ids)?;
            Ok(rows)
        })
    }

    async fn sample_row_bytes(&self, query: &RowQuery) -> Result<Option<u64>, EdgeError> {
        self.blocking(|connection| {
            let table = self.checked(connection, &query.from)?;
            let ids = keyset::typed_ids(&table, query.ids.as_deref().unwrap_or_default())?;
            let sql = keyset::sample(&table, query.ids.as_ref().map(|_| ids.as_slice()));
            let doing = format!("a sample of `{}`", query.from.table);
            let [rows, bytes] = self.numbers(connection, &doing, &sql, &ids)?;
            Ok(bytes.checked_div(rows))
        })
    }
}
