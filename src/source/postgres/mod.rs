//! PostgreSQL sources.

mod catalogue;
mod error;
mod probe;
mod session;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection, Executor, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use url::Url;

use probe::Probe;
use session::Sessions;

use super::{
    Patience, RowQuery, RowSink, ScanError, Source, TableShape,
    keyset::{self, Id, PageSql},
    page_size::PageSize,
    partition,
    quote::{self, Dialect},
    shape::{self, Checked},
};
use crate::{
    chunk::{MOST_BESIDE, SourceRow, Value},
    cursor::{KeyRange, KeyValue},
    error::{EdgeError, ErrorKind},
    plan::RowSource,
};

/// What a URL may ask for. The driver would log any other parameter with its value.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// A PostgreSQL database.
pub struct PostgresSource {
    sessions: Sessions,
    database: String,
}

/// One scan's fixed parts.
struct Scan<'a> {
    sql: PageSql,
    ids: Vec<Id>,
    /// Columns beside cursor, key and value.
    beside: usize,
    until: KeyValue,
    /// Longest silence between two rows.
    limit: std::time::Duration,
    doing: &'a str,
}

impl PostgresSource {
    /// Connects once, so that a wrong password shows now.
    ///
    /// # Errors
    ///
    /// `Refused` for a URL that cannot be read or names no database, else what the server says.
    pub async fn connect(url: &SecretString, patience: Patience) -> Result<Self, EdgeError> {
        let options = options(url.expose_secret())
            .map_err(|what| EdgeError::new(ErrorKind::Refused, what))?;
        Ok(Self {
            database: options.get_database().unwrap_or_default().to_owned(),
            sessions: Sessions::open(options, patience).await?,
        })
    }

    /// Returns the table's checked names, read from the catalogue as it is now.
    async fn checked(
        &self,
        connection: &mut PgConnection,
        from: &RowSource,
    ) -> Result<Checked, EdgeError> {
        let limit = self.sessions.patience.read;
        let found = self
            .sessions
            .within(
                "its catalogue",
                limit,
                catalogue::table(connection, &from.table),
            )
            .await?;
        let Some(found) = found else {
            let tables = self
                .sessions
                .within("its tables", limit, catalogue::tables(connection))
                .await?;
            return Err(shape::missing_table(self.place(), &from.table, &tables));
        };
        shape::check(Dialect::Postgres, self.place(), from, &found)
    }

    /// Runs a query of whole numbers that gives one row.
    async fn numbers<const N: usize>(
        &self,
        connection: &mut PgConnection,
        doing: &str,
        sql: &Arc<str>,
        ids: &[Id],
    ) -> Result<[u64; N], EdgeError> {
        let limit = self.sessions.patience.whole_statement();
        self.sessions
            .within(doing, limit, async {
                let row = bind_ids(sqlx::query(quote::statement(sql)), ids)
                    .fetch_one(connection)
                    .await?;
                let mut numbers = [0; N];
                for (column, number) in numbers.iter_mut().enumerate() {
                    *number = row
                        .try_get_unchecked::<i64, _>(column)?
                        .try_into()
                        .unwrap_or(0);
                }
                Ok(numbers)
            })
            .await
    }

    async fn pages(
        &self,
        connection: &mut PgConnection,
        scan: &Scan<'_>,
        mut after: Option<KeyValue>,
        sink: &mut dyn RowSink,
    ) -> Result<(), ScanError> {
        let mut size = PageSize::new();
        loop {
            let rows = size.begin(sink);
            let sql = if after.is_some() {
                &scan.sql.next
            } else {
                &scan.sql.first
            };
            let longest = i64::try_from(sink.row_bytes()).unwrap_or(i64::MAX);
            let mut query = sqlx::query(quote::statement(sql)).bind(longest);
            if let Some(after) = &after {
                query = bind_key(query, after);
            }
            query = bind_ids(bind_key(query, &scan.until), &scan.ids).bind(i64::from(rows));

            let mut stream = query.fetch(&mut *connection);
            loop {
                // Most rows lie in the buffer already: asking first spares them a timer.
                let next = match stream.next().now_or_never() {
                    Some(ready) => ready,
                    None => tokio::time::timeout(scan.limit, stream.next())
                        .await
                        .map_err(|_| self.sessions.silent(scan.doing, scan.limit))?,
                };
                let Some(row) = next else { break };
                let row = row.map_err(|error| self.edge(scan.doing, &error))?;
                let (key, full) =
                    push(&row, scan, sink).map_err(|error| self.edge(scan.doing, &error))?;
                after = Some(key);
                size.row(full);
                if full {
                    sink.flush().await?;
                }
            }
            drop(stream);
            // After a long value the driver's buffers would stay as large as it was.
            connection.shrink_buffers();
            sink.flush().await?;
            if size.end() {
                return Ok(());
            }
        }
    }

    fn edge(&self, doing: &str, error: &sqlx::Error) -> EdgeError {
        error::edge(self.place(), doing, error)
    }
}

/// Returns what a URL says. Errors never repeat any of it, for it holds the password.
fn options(url: &str) -> Result<PgConnectOptions, String> {
    let broken = "`source.url` is not a URL like postgres://user:password@host:5432/database";
    let parsed = Url::parse(url).map_err(|_| broken)?;
    if parsed
        .query_pairs()
        .any(|(name, _)| !PARAMETERS.contains(&&*name) && !name.starts_with("options["))
    {
        return Err(format!(
            "`source.url` has a parameter that is not known here; known are {}",
            PARAMETERS.join(", ")
        ));
    }
    let options: PgConnectOptions = url.parse().map_err(|_| broken)?;
    if parsed.path().trim_matches('/').is_empty() {
        return Err("`source.url` names no database; add /name after the host".to_owned());
    }
    Ok(options)
}

/// Hands one row on; returns its key and whether the chunk is full.
fn push(
    row: &PgRow,
    scan: &Scan<'_>,
    sink: &mut dyn RowSink,
) -> Result<(KeyValue, bool), sqlx::Error> {
    let cursor = KeyValue::Int(row.try_get_unchecked(0)?);
    let key: Option<&[u8]> = row.try_get_unchecked(1)?;
    let bytes: Option<&[u8]> = row.try_get_unchecked(2)?;
    let value = match bytes {
        Some(bytes) => Value::Bytes(bytes),
        None => match row.try_get_unchecked::<Option<i64>, _>(3)? {
            Some(length) => Value::TooLarge(length.unsigned_abs()),
            None => Value::Null,
        },
    };
    let mut beside = [None; MOST_BESIDE];
    for (index, column) in beside.iter_mut().take(scan.beside).enumerate() {
        *column = row.try_get_unchecked(4 + index)?;
    }
    let full = sink.push(SourceRow {
        cursor: std::slice::from_ref(&cursor),
        key,
        value,
        beside: &beside[..scan.beside],
    });
    Ok((cursor, full))
}

type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

fn bind_key<'q>(query: PgQuery<'q>, key: &KeyValue) -> PgQuery<'q> {
    match *key {
        KeyValue::Int(value) => query.bind(value),
        KeyValue::Uint(value) => query.bind(i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

fn bind_ids<'q>(mut query: PgQuery<'q>, ids: &'q [Id]) -> PgQuery<'q> {
    for id in ids {
        query = match id {
            Id::Key(key) => bind_key(query, key),
            Id::Text(text) => query.bind(text.as_str()),
        };
    }
    query
}

/// Temporary: `?` becomes `$n` outside of the condition.
fn dollars(sql: &str) -> Arc<str> {
    let mut out = String::new();
    let mut number = 0;
    for c in sql.chars() {
        if c == '?' {
            number += 1;
            out.push('$');
            out.push_str(&number.to_string());
        } else {
            out.push(c);
        }
    }
    out.replace("AS UNSIGNED", "AS BIGINT").into()
}

#[async_trait]
impl Source for PostgresSource {
    fn place(&self) -> &str {
        &self.sessions.place
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let limit = self.sessions.patience.read;
        let ask = |sql: &'static str| sqlx::query_scalar::<_, String>(sql);
        let control = ask("SELECT system_identifier::text FROM pg_catalog.pg_control_system()");
        let server = match self
            .sessions
            .within("its identity", limit, control.fetch_one(&mut connection))
            .await
        {
            Ok(identifier) => identifier,
            // Taken away from ordinary users here: known by where it runs, and by the database's own number in it.
            Err(error) if matches!(error.kind, ErrorKind::Credentials | ErrorKind::Missing) => {
                let number = ask(
                    "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()",
                );
                let number = self
                    .sessions
                    .within("its identity", limit, number.fetch_one(&mut connection))
                    .await?;
                format!("{}#{number}", self.sessions.address())
            }
            Err(error) => return Err(error),
        };
        self.sessions.give_back(connection);
        Ok(format!("postgres:{server}/{}", self.database))
    }

    async fn describe(&self, from: &RowSource) -> Result<TableShape, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, from).await?;
        let doing = format!("the condition of `{}`", from.table);
        for sql in keyset::condition_checks(&checked).into_iter().flatten() {
            let query = sqlx::query(quote::statement(&sql)).persistent(false);
            self.sessions
                .within(
                    &doing,
                    self.sessions.patience.read,
                    connection.fetch_optional(query),
                )
                .await?;
        }
        self.sessions.give_back(connection);
        Ok(checked.shape)
    }

    async fn tables(&self) -> Result<Vec<String>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let tables = self
            .sessions
            .within(
                "its tables",
                self.sessions.patience.read,
                catalogue::tables(&mut connection),
            )
            .await?;
        self.sessions.give_back(connection);
        Ok(tables)
    }

    async fn partition(&self, query: &RowQuery, wanted: u32) -> Result<Vec<KeyRange>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let wanted = if query.ids.is_some() { 1 } else { wanted };
        let mut probe = Probe::new(&self.sessions, &mut connection, &checked);
        let ranges = partition::ranges(&mut probe, wanted, checked.unsigned).await?;
        self.sessions.give_back(connection);
        Ok(ranges)
    }

    async fn scan(
        &self,
        query: &RowQuery,
        range: &KeyRange,
        sink: &mut dyn RowSink,
    ) -> Result<(), ScanError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let ids = keyset::typed_ids(&checked, query.ids.as_deref().unwrap_or_default())?;
        let (after, until) = keyset::bounds(range)?;
        let doing = format!("the rows of `{}`", query.from.table);
        // Without a filter every row read is a row sent; with one the server may search long before it sends.
        let filtered = query.ids.is_some() || query.from.condition.is_some();
        let patience = self.sessions.patience;
        let sql = keyset::page(&checked, query.ids.as_ref().map(Vec::len));
        let scan = Scan {
            sql: PageSql {
                first: dollars(&sql.first),
                next: dollars(&sql.next),
            },
            ids,
            beside: checked.beside.len(),
            until,
            limit: if filtered {
                patience.whole_statement()
            } else {
                patience.read
            },
            doing: &doing,
        };
        let along = query.ids.is_none();
        self.sessions.walk(&mut connection, along).await?;
        self.pages(&mut connection, &scan, after, sink).await?;
        if along {
            self.sessions.walk(&mut connection, false).await?;
        }
        self.sessions.give_back(connection);
        Ok(())
    }

    async fn count(&self, query: &RowQuery) -> Result<u64, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let ids = keyset::typed_ids(&checked, query.ids.as_deref().unwrap_or_default())?;
        let sql = dollars(&keyset::count(&checked, query.ids.as_ref().map(Vec::len)));
        let doing = format!("the count of `{}`", query.from.table);
        let [rows] = self.numbers(&mut connection, &doing, &sql, &ids).await?;
        self.sessions.give_back(connection);
        Ok(rows)
    }

    async fn sample_row_bytes(&self, query: &RowQuery) -> Result<Option<u64>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let ids = keyset::typed_ids(&checked, query.ids.as_deref().unwrap_or_default())?;
        let sql = dollars(&keyset::sample(&checked, query.ids.as_ref().map(Vec::len)));
        let doing = format!("a sample of `{}`", query.from.table);
        let [rows, bytes] = self.numbers(&mut connection, &doing, &sql, &ids).await?;
        self.sessions.give_back(connection);
        Ok(bytes.checked_div(rows))
    }
}
