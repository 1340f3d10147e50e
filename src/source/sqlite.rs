//! SQLite sources: rusqlite on the runtime's own threads (a third of the time that sqlx takes there).
//!
//! Every call opens its own read-only connection. A page's rows are stepped one by one, so a read transaction lasts
//! as long as its page; writers go on, only their WAL grows meanwhile.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
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
    quote::{self, Dialect},
    shape::{self, Catalogue, Checked, Column, ColumnKind, UniqueIndex},
};
use crate::{
    chunk::Value,
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
        let path = percent_decode_str(rest.split('?').next().unwrap_or_default())
            .decode_utf8_lossy()
            .into_owned();
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
        let found = catalogue(connection, &from.table)
            .map_err(|error| self.edge("its catalogue", &error))?;
        let Some(found) = found else {
            let tables = tables(connection).map_err(|error| self.edge("its tables", &error))?;
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
                let (key, full) = push(row, sink)
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
fn push(row: &Row<'_>, sink: &mut dyn RowSink) -> rusqlite::Result<Option<(KeyValue, bool)>> {
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
    let full = sink.push(std::slice::from_ref(&cursor), key, value);
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

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Returns what is known of `table`, or `None` where there is none of exactly that name.
fn catalogue(connection: &Connection, table: &str) -> rusqlite::Result<Option<Catalogue>> {
    let mut listed = connection.prepare(
        "SELECT type = 'table', wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
    )?;
    let mut listed = listed.query([table])?;
    let Some(row) = listed.next()? else {
        return Ok(None);
    };
    let (is_table, without_rowid): (bool, bool) = (row.get(0)?, row.get(1)?);

    let mut columns = Vec::new();
    let mut primary = Vec::new();
    let mut info =
        connection.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)")?;
    let mut info = info.query([table])?;
    while let Some(row) = info.next()? {
        let name: String = row.get(0)?;
        let type_text: String = row.get(1)?;
        if row.get::<_, u32>(3)? > 0 {
            primary.push(name.clone());
        }
        columns.push(Column {
            kind: if type_text.to_ascii_uppercase().contains("INT") {
                ColumnKind::Integer { unsigned: false }
            } else {
                ColumnKind::Bytes
            },
            name,
            type_text,
            nullable: !row.get::<_, bool>(2)?,
        });
    }

    let mut unique = Vec::new();
    let mut rowid = None;
    if let [only] = primary.as_slice()
        && let Some(column) = columns.iter_mut().find(|column| column.name == *only)
        && is_table
        && (without_rowid || column.type_text.eq_ignore_ascii_case("INTEGER"))
    {
        // The table itself is the index; `NOT INDEXED` leaves the planner nothing else.
        column.nullable = false;
        if !without_rowid {
            rowid = Some(column.name.clone());
        }
        unique.push(UniqueIndex {
            hint: if without_rowid {
                String::new()
            } else {
                "NOT INDEXED".to_owned()
            },
            columns: vec![column.name.clone()],
        });
    }
    let mut indexes = connection.prepare(
        "SELECT i.name, c.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c \
         WHERE i.\"unique\" = 1 AND i.partial = 0 ORDER BY i.name, c.seqno",
    )?;
    let mut indexes = indexes.query([table])?;
    let mut last = None;
    while let Some(row) = indexes.next()? {
        let name: String = row.get(0)?;
        if last.as_ref() != Some(&name) {
            unique.push(UniqueIndex {
                hint: String::new(),
                columns: Vec::new(),
            });
            last = Some(name);
        }
        if let Some(index) = unique.last_mut() {
            // An expression has no name.
            index
                .columns
                .push(row.get::<_, Option<String>>(1)?.unwrap_or_default());
        }
    }
    Ok(Some(Catalogue {
        estimated_rows: estimated_rows(connection, table, rowid.as_deref())?,
        estimated_bytes: None,
        columns,
        unique,
    }))
}

/// The statistics of ANALYZE; else the span of the row ids; else a count that ends at 100,000.
fn estimated_rows(
    connection: &Connection,
    table: &str,
    rowid: Option<&str>,
) -> rusqlite::Result<u64> {
    let analyzed: bool = connection.query_row(
        "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'",
        [],
        |row| row.get(0),
    )?;
    if analyzed {
        let mut statistics = connection
            .prepare("SELECT stat FROM sqlite_stat1 WHERE tbl = ?1 AND stat IS NOT NULL LIMIT 1")?;
        let mut statistics = statistics.query([table])?;
        if let Some(row) = statistics.next()? {
            let stat: String = row.get(0)?;
            if let Some(rows) = stat.split(' ').next().and_then(|rows| rows.parse().ok()) {
                return Ok(rows);
            }
        }
    }
    let Some(quoted) = quote::identifier(Dialect::Sqlite, table) else {
        return Ok(0);
    };
    let bounded = connection
        .query_row(
            &format!("SELECT COUNT(*) FROM (SELECT 1 FROM {quoted} LIMIT 100000)"),
            [],
            |row| count(row, 0),
        )?
        .unwrap_or(0);
    let Some(column) = rowid
        .filter(|_| bounded == 100_000)
        .and_then(|column| quote::identifier(Dialect::Sqlite, column))
    else {
        return Ok(bounded);
    };
    let (low, high): (i64, i64) = connection.query_row(
        &format!(
            "SELECT (SELECT MIN({column}) FROM {quoted}), (SELECT MAX({column}) FROM {quoted})"
        ),
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(high.abs_diff(low).saturating_add(1))
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
            tables(connection).map_err(|error| self.edge("its tables", &error))
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

/// Asks the cursor's index. Filters play no part: the bounds are those of the whole table.
struct Probe<'a> {
    source: &'a SqliteSource,
    connection: Connection,
    table: &'a Checked,
    from: &'a RowSource,
}

/// Places of a segment at which [`Probe::estimate`] looks. With the eight segments of the first round the grid has 128
/// places, so a crowd in 1 % of the keys is met.
const SAMPLES: i128 = 16;
/// Rows stepped at each place.
const SAMPLE_ROWS: i128 = 16;

impl Probe<'_> {
    fn edge(&self, error: &rusqlite::Error) -> EdgeError {
        self.source.edge("its key range", error)
    }

    /// Runs a query of two integers or NULLs.
    fn pair(&self, sql: &str, bounds: &[i64]) -> Result<[Option<i128>; 2], EdgeError> {
        let read = |row: &Row<'_>, column: usize| -> rusqlite::Result<Result<Option<i128>, ()>> {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => Ok(None),
                ValueRef::Integer(key) => Ok(Some(key.into())),
                _ => Err(()),
            })
        };
        let pair = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                statement.query_row(rusqlite::params_from_iter(bounds), |row| {
                    Ok([read(row, 0)?, read(row, 1)?])
                })
            })
            .map_err(|error| self.edge(&error))?;
        let [first, second] = pair;
        match (first, second) {
            (Ok(first), Ok(second)) => Ok([first, second]),
            _ => Err(self.source.no_integer(self.from)),
        }
    }
}

/// Keys come from the column, so they fit; the places between them do too.
fn narrow(key: i128) -> i64 {
    i64::try_from(key).unwrap_or(if key < 0 { i64::MIN } else { i64::MAX })
}

#[async_trait]
impl partition::Probe for Probe<'_> {
    async fn bounds(&mut self) -> Result<Option<(i128, i128)>, EdgeError> {
        let Checked { table, cursor, .. } = self.table;
        let sql = format!(
            "SELECT (SELECT MIN({cursor}) FROM {table}), (SELECT MAX({cursor}) FROM {table})"
        );
        let [low, high] = self.pair(&sql, &[])?;
        Ok(low.zip(high))
    }

    async fn around(&mut self, middle: i128) -> Result<(Option<i128>, Option<i128>), EdgeError> {
        let Checked { table, cursor, .. } = self.table;
        let sql = format!(
            "SELECT (SELECT {cursor} FROM {table} WHERE {cursor} <= ?1 ORDER BY {cursor} DESC LIMIT 1), \
             (SELECT {cursor} FROM {table} WHERE {cursor} > ?1 ORDER BY {cursor} LIMIT 1)"
        );
        let [below, above] = self.pair(&sql, &[narrow(middle)])?;
        Ok((below, above))
    }

    /// SQLite has no estimate of its own: a few rows are stepped at evenly spaced places, and their density is taken
    /// for that of the stretch up to the next place.
    async fn estimate(&mut self, low: i128, high: i128) -> Result<u64, EdgeError> {
        let Checked { table, cursor, .. } = self.table;
        let sql = format!(
            "SELECT COUNT(*), MAX(k) FROM (SELECT {cursor} AS k FROM {table} WHERE {cursor} >= ?1 AND {cursor} <= ?2 \
             ORDER BY {cursor} LIMIT {SAMPLE_ROWS})"
        );
        let span = high - low + 1;
        let mut rows = 0;
        for place in 0..SAMPLES {
            let start = low + span * place / SAMPLES;
            let end = low + span * (place + 1) / SAMPLES - 1;
            if start > end {
                continue;
            }
            let [count, last] = self.pair(&sql, &[narrow(start), narrow(end)])?;
            rows += match (count.unwrap_or(0), last) {
                (SAMPLE_ROWS, Some(last)) => SAMPLE_ROWS * (end - start + 1) / (last - start + 1),
                (count, _) => count,
            };
        }
        Ok(u64::try_from(rows).unwrap_or(u64::MAX))
    }
}
