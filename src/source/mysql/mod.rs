//! MariaDB and MySQL sources.

mod catalogue;
mod error;
mod replica;
mod session;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection, Executor, MySql, MySqlConnection, Row,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlRow},
    query::Query,
};

pub use session::Patience;
use session::{Flavour, Sessions};

use super::{
    Lag, RowQuery, RowSink, ScanError, Source, TableShape,
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
    tls::{self, TlsConfig},
};

/// A MariaDB or MySQL database.
#[derive(Debug)]
pub struct MySqlSource {
    sessions: Sessions,
}

/// One scan's fixed parts.
struct Scan<'a> {
    sql: PageSql,
    ids: Vec<Id>,
    unsigned: bool,
    /// Columns beside cursor, key and value.
    beside: usize,
    until: KeyValue,
    /// Longest silence between two rows.
    limit: std::time::Duration,
    doing: &'a str,
}

impl MySqlSource {
    /// Connects once, so that a wrong password shows now.
    ///
    /// # Errors
    ///
    /// `Refused` for a URL that cannot be read or names no database, else what the server says.
    pub async fn connect(
        url: &SecretString,
        tls: Option<&TlsConfig>,
        patience: Patience,
    ) -> Result<Self, EdgeError> {
        let refused = |what: &str| EdgeError::new(ErrorKind::Refused, what);
        let options: MySqlConnectOptions = url
            .expose_secret()
            .parse()
            // The parser's own text may quote a part of the URL, which holds the password.
            .map_err(|_| {
                refused("`source.url` is not a URL like mysql://user:password@host:3306/database")
            })?;
        let options = tls::mysql(options, tls);
        if options.get_database().is_none() {
            return Err(refused(
                "`source.url` names no database; add /name after the host",
            ));
        }
        let scheme = if url.expose_secret().starts_with("mariadb:") {
            "mariadb"
        } else {
            "mysql"
        };
        Ok(Self {
            sessions: Sessions::open(options, patience, scheme).await?,
        })
    }

    /// Returns the table's checked names, read from the catalogue as it is now.
    async fn checked(
        &self,
        connection: &mut MySqlConnection,
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
        shape::check(Dialect::Mysql, self.place(), from, &found)
    }

    /// Runs a query of whole numbers that gives one row; NULL counts as 0.
    async fn numbers<const N: usize>(
        &self,
        connection: &mut MySqlConnection,
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
                        .try_get_unchecked::<Option<u64>, _>(column)?
                        .unwrap_or(0);
                }
                Ok(numbers)
            })
            .await
    }

    async fn pages(
        &self,
        connection: &mut MySqlConnection,
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
            let mut query = sqlx::query(quote::statement(sql)).bind(sink.row_bytes());
            if let Some(after) = &after {
                query = bind_key(query, after);
            }
            query = bind_ids(bind_key(query, &scan.until), &scan.ids).bind(rows);

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
                if after
                    .as_ref()
                    .is_some_and(|before| before.as_i128() >= key.as_i128())
                {
                    return Err(ScanError::Source(self.out_of_order(scan.doing)));
                }
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

    fn out_of_order(&self, doing: &str) -> EdgeError {
        EdgeError::new(
            ErrorKind::Internal,
            format!("{} gave rows of {doing} out of key order", self.place()),
        )
    }
}

/// Hands one row on; returns its key and whether the chunk is full.
fn push(
    row: &MySqlRow,
    scan: &Scan<'_>,
    sink: &mut dyn RowSink,
) -> Result<(KeyValue, bool), sqlx::Error> {
    let cursor = if scan.unsigned {
        KeyValue::Uint(row.try_get_unchecked(0)?)
    } else {
        KeyValue::Int(row.try_get_unchecked(0)?)
    };
    let key: Option<&[u8]> = row.try_get_unchecked(1)?;
    let bytes: Option<&[u8]> = row.try_get_unchecked(2)?;
    let value = match bytes {
        Some(bytes) => Value::Bytes(bytes),
        None => match row.try_get_unchecked::<Option<u64>, _>(3)? {
            Some(length) => Value::TooLarge(length),
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

type MySqlQuery<'q> = Query<'q, MySql, MySqlArguments>;

fn bind_key<'q>(query: MySqlQuery<'q>, key: &KeyValue) -> MySqlQuery<'q> {
    match *key {
        KeyValue::Int(value) => query.bind(value),
        KeyValue::Uint(value) => query.bind(value),
    }
}

fn bind_ids<'q>(mut query: MySqlQuery<'q>, ids: &'q [Id]) -> MySqlQuery<'q> {
    for id in ids {
        query = match id {
            Id::Key(key) => bind_key(query, key),
            Id::Text(text) => query.bind(text.as_str()),
        };
    }
    query
}

#[async_trait]
impl Source for MySqlSource {
    fn place(&self) -> &str {
        &self.sessions.place
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let limit = self.sessions.patience.read;
        // MySQL has server_uuid; MariaDB server_uid from 10.11 on. Older ones are known by where they run.
        let own = match self.sessions.flavour {
            Flavour::Mysql => "SELECT @@server_uuid",
            Flavour::Mariadb => "SELECT @@server_uid",
        };
        let fallback = "SELECT CONCAT(@@hostname, ':', @@port, @@datadir)";
        let mut server = None;
        for sql in [own, fallback] {
            let answer = self
                .sessions
                .within("its identity", limit, async {
                    sqlx::query(sql)
                        .fetch_one(&mut connection)
                        .await?
                        .try_get_unchecked::<String, _>(0)
                })
                .await;
            match answer {
                Ok(id) => {
                    server = Some(id);
                    break;
                }
                // An unknown variable leaves the connection as it was.
                Err(error) if error.kind == ErrorKind::Refused && sql == own => {}
                Err(error) => return Err(error),
            }
        }
        self.sessions.give_back(connection);
        let server = server.unwrap_or_default();
        Ok(format!("mysql:{server}/{}", self.sessions.database()))
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
        let mut probe = Probe {
            source: self,
            connection: &mut connection,
            table: &checked,
        };
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
        let scan = Scan {
            sql: keyset::page(&checked, query.ids.as_ref().map(Vec::len)),
            ids,
            unsigned: checked.unsigned,
            beside: checked.beside.len(),
            until,
            limit: if filtered {
                patience.whole_statement()
            } else {
                patience.read
            },
            doing: &doing,
        };
        self.pages(&mut connection, &scan, after, sink).await?;
        self.sessions.give_back(connection);
        Ok(())
    }

    async fn count(&self, query: &RowQuery) -> Result<u64, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let ids = keyset::typed_ids(&checked, query.ids.as_deref().unwrap_or_default())?;
        let sql = keyset::count(&checked, query.ids.as_ref().map(Vec::len));
        let doing = format!("the count of `{}`", query.from.table);
        let [rows] = self.numbers(&mut connection, &doing, &sql, &ids).await?;
        self.sessions.give_back(connection);
        Ok(rows)
    }

    async fn replica_lag(&self) -> Result<Lag, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let lag = self
            .sessions
            .within(
                "its replication",
                self.sessions.patience.read,
                replica::lag(&mut connection, self.sessions.flavour),
            )
            .await?;
        self.sessions.give_back(connection);
        Ok(lag)
    }

    async fn sample_row_bytes(&self, query: &RowQuery) -> Result<Option<u64>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let ids = keyset::typed_ids(&checked, query.ids.as_deref().unwrap_or_default())?;
        let sql = keyset::sample(&checked, query.ids.as_ref().map(Vec::len));
        let doing = format!("a sample of `{}`", query.from.table);
        let [rows, bytes] = self.numbers(&mut connection, &doing, &sql, &ids).await?;
        self.sessions.give_back(connection);
        Ok(bytes.checked_div(rows))
    }
}

/// Asks the cursor's index. Filters play no part: the bounds are those of the whole table.
struct Probe<'a> {
    source: &'a MySqlSource,
    connection: &'a mut MySqlConnection,
    table: &'a Checked,
}

impl Probe<'_> {
    /// Runs a query by the text protocol, where every number comes as text, whatever its type.
    async fn texts(
        &mut self,
        sql: String,
        columns: &[&str],
    ) -> Result<Vec<Option<String>>, EdgeError> {
        let sessions = &self.source.sessions;
        sessions
            .within("its key range", sessions.patience.read, async {
                let row = sqlx::raw_sql(quote::statement(&sql.into()))
                    .fetch_one(&mut *self.connection)
                    .await?;
                columns
                    .iter()
                    .map(|column| row.try_get_unchecked(*column))
                    .collect()
            })
            .await
    }

    async fn keys(&mut self, sql: String) -> Result<[Option<i128>; 2], EdgeError> {
        let texts = self.texts(sql, &["a", "b"]).await?;
        let mut keys = [None; 2];
        for (key, text) in keys.iter_mut().zip(texts) {
            *key = text.and_then(|text| text.parse().ok());
        }
        Ok(keys)
    }
}

#[async_trait]
impl partition::Probe for Probe<'_> {
    async fn bounds(&mut self) -> Result<Option<(i128, i128)>, EdgeError> {
        let Checked {
            table,
            hint,
            cursor,
            ..
        } = self.table;
        let sql = format!(
            "SELECT (SELECT MIN({cursor}) FROM {table} {hint}) AS a, (SELECT MAX({cursor}) FROM {table} {hint}) AS b"
        );
        let [low, high] = self.keys(sql).await?;
        Ok(low.zip(high))
    }

    async fn around(&mut self, middle: i128) -> Result<(Option<i128>, Option<i128>), EdgeError> {
        let Checked {
            table,
            hint,
            cursor,
            ..
        } = self.table;
        let sql = format!(
            "SELECT (SELECT {cursor} FROM {table} {hint} WHERE {cursor} <= {middle} ORDER BY {cursor} DESC LIMIT 1) AS a, \
             (SELECT {cursor} FROM {table} {hint} WHERE {cursor} > {middle} ORDER BY {cursor} LIMIT 1) AS b"
        );
        let [below, above] = self.keys(sql).await?;
        Ok((below, above))
    }

    async fn is_small(&mut self, keys: (i128, i128), rows: u64) -> Result<bool, EdgeError> {
        Ok(self.estimate(keys.0, keys.1).await? < rows)
    }

    /// The optimizer's dives into the index: two descents, exact for a few pages, extrapolated beyond.
    async fn estimate(&mut self, low: i128, high: i128) -> Result<u64, EdgeError> {
        let Checked {
            table,
            hint,
            cursor,
            ..
        } = self.table;
        let sql = format!(
            "EXPLAIN SELECT {cursor} FROM {table} {hint} WHERE {cursor} >= {low} AND {cursor} <= {high}"
        );
        let rows = self.texts(sql, &["rows"]).await?;
        Ok(rows
            .into_iter()
            .flatten()
            .find_map(|rows| rows.parse().ok())
            .unwrap_or(0))
    }
}
