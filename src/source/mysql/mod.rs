//! MariaDB and MySQL sources.

mod catalogue;
mod error;
mod probe;
mod replica;
mod rights;
mod session;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Arguments, Connection, Executor, MySql, MySqlConnection, Row,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlRow},
    query::Query,
};

use probe::Probe;
use session::{Flavour, Sessions};

use super::{
    Changes, Lag, Patience, ReadModel, RowQuery, RowSink, ScanError, Source, Stopped, TableShape,
    changes,
    keyset::{self, Bound, Id, PageSql, Statement, Values},
    middle,
    page_size::PageSize,
    partition,
    quote::{self, Dialect},
    shape::{self, Checked, KeyKind},
};
use crate::{
    chunk::{MOST_BESIDE, SourceRow, Value},
    cursor::{Cursor, KeyRange, KeyValue},
    error::{EdgeError, ErrorKind, Subject},
    plan::{ChangeColumn, RowSource},
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
    /// The columns of the cursor.
    cursor: Vec<KeyKind>,
    /// Columns beside cursor, key and value.
    beside: usize,
    until: &'a Cursor,
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
        sql: &Statement,
        ids: &[Id],
    ) -> Result<[u64; N], EdgeError> {
        let limit = self.sessions.patience.whole_statement();
        let values = Values {
            ids,
            ..Values::default()
        };
        let query = bind(sql, &values)?;
        self.sessions
            .within(doing, limit, async {
                let row = query.fetch_one(connection).await?;
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

    /// Returns the key of a query of one row, if it has one.
    async fn key(
        &self,
        connection: &mut MySqlConnection,
        table: &Checked,
        sql: &Statement,
        values: &Values<'_>,
    ) -> Result<Option<Cursor>, EdgeError> {
        let doing = "its key range";
        let query = bind(sql, values)?;
        let row = self
            .sessions
            .within(doing, self.sessions.patience.read, async {
                query.fetch_optional(connection).await
            })
            .await?;
        let Some(row) = row else { return Ok(None) };
        let mut key = Vec::new();
        let kinds = table.cursor.iter().map(|column| column.key.kind);
        read_key(&row, kinds, &mut key).map_err(|error| self.edge(doing, &error))?;
        Ok(Some(Cursor(key)))
    }

    /// Returns once the range is read (`Ok`), or the sink stopped it between two pages; the connection is in order then.
    async fn pages(
        &self,
        connection: &mut MySqlConnection,
        scan: &Scan<'_>,
        after: Option<&Cursor>,
        sink: &mut dyn RowSink,
    ) -> Result<Result<(), Stopped>, ScanError> {
        let mut size = PageSize::new(scan.cursor.len());
        let mut after = after.cloned();
        // The key in hand; its texts are used again and again.
        let mut key = Vec::new();
        loop {
            let rows = size.begin(sink);
            let sql = if after.is_some() {
                &scan.sql.next
            } else {
                &scan.sql.first
            };
            let values = Values {
                value_limit: sink.row_bytes(),
                after: after.as_ref(),
                until: Some(scan.until),
                from: None,
                ids: &scan.ids,
                rows,
            };
            let mut stream = bind(sql, &values)?.fetch(&mut *connection);
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
                let full = push(&row, scan, &mut key, sink)
                    .map_err(|error| self.edge(scan.doing, &error))?;
                match &mut after {
                    Some(before) if keyset::is_out_of_order(before, &key) => {
                        return Err(ScanError::Source(self.out_of_order(scan.doing)));
                    }
                    Some(before) => std::mem::swap(&mut before.0, &mut key),
                    None => after = Some(Cursor(std::mem::take(&mut key))),
                }
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
                return Ok(Ok(()));
            }
            if let Err(stopped) = sink.page_ended() {
                return Ok(Err(stopped));
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

/// Reads a row's key into `key` and hands the row on; returns whether the chunk is full.
fn push(
    row: &MySqlRow,
    scan: &Scan<'_>,
    key: &mut Vec<KeyValue>,
    sink: &mut dyn RowSink,
) -> Result<bool, sqlx::Error> {
    read_key(row, scan.cursor.iter().copied(), key)?;
    let at = scan.cursor.len();
    let bytes: Option<&[u8]> = row.try_get_unchecked(at + 1)?;
    let value = match bytes {
        Some(bytes) => Value::Bytes(bytes),
        None => match row.try_get_unchecked::<Option<u64>, _>(at + 2)? {
            Some(length) => Value::TooLarge(length),
            None => Value::Null,
        },
    };
    let mut beside = [None; MOST_BESIDE];
    for (index, column) in beside.iter_mut().take(scan.beside).enumerate() {
        *column = row.try_get_unchecked(at + 3 + index)?;
    }
    Ok(sink.push(SourceRow {
        cursor: key,
        key: row.try_get_unchecked(at)?,
        value,
        beside: &beside[..scan.beside],
    }))
}

/// Reads the first columns of a row into `key`, in place of what is there.
fn read_key(
    row: &MySqlRow,
    kinds: impl Iterator<Item = KeyKind>,
    key: &mut Vec<KeyValue>,
) -> Result<(), sqlx::Error> {
    for (at, kind) in kinds.enumerate() {
        let text = || -> Result<String, sqlx::Error> {
            let bytes: &[u8] = row.try_get_unchecked(at)?;
            let text = str::from_utf8(bytes)
                // The text of the error would tell where in the value, which helps nobody.
                .map_err(|_| sqlx::Error::Decode("a key holds text that is not UTF-8".into()))?;
            Ok(text.to_owned())
        };
        let value = match kind {
            KeyKind::Int => KeyValue::Int(row.try_get_unchecked(at)?),
            KeyKind::Uint => KeyValue::Uint(row.try_get_unchecked(at)?),
            KeyKind::Bytes => KeyValue::Bytes(row.try_get_unchecked(at)?),
            KeyKind::Text | KeyKind::Any => KeyValue::Text(text()?),
            KeyKind::Decimal => KeyValue::Decimal(text()?),
            KeyKind::Timestamp => KeyValue::Timestamp(text()?),
            KeyKind::Date => KeyValue::Date(text()?),
            KeyKind::Time => KeyValue::Time(text()?),
            KeyKind::Uuid => KeyValue::Uuid(text()?),
        };
        match key.get_mut(at) {
            Some(slot) => *slot = value,
            None => key.push(value),
        }
    }
    Ok(())
}

/// Returns `sql` with its placeholders bound; the values are copied.
fn bind(
    sql: &Statement,
    values: &Values<'_>,
) -> Result<Query<'static, MySql, MySqlArguments>, EdgeError> {
    let mut arguments = MySqlArguments::default();
    for bound in sql.bound(values)? {
        match bound {
            Bound::Number(number) => arguments.add(number),
            Bound::Text(text) => arguments.add(text),
            Bound::Key(key) => match key {
                KeyValue::Int(value) => arguments.add(value),
                KeyValue::Uint(value) => arguments.add(value),
                KeyValue::Bytes(bytes) => arguments.add(bytes.as_slice()),
                KeyValue::Text(text)
                | KeyValue::Decimal(text)
                | KeyValue::Timestamp(text)
                | KeyValue::Date(text)
                | KeyValue::Time(text)
                | KeyValue::Uuid(text) => arguments.add(text.as_str()),
            },
        }
        .map_err(|error| {
            EdgeError::new(ErrorKind::Internal, "a key cannot be sent").because(error)
        })?;
    }
    Ok(sqlx::query_with(quote::statement(&sql.sql), arguments))
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
                .await
                .map_err(|error| error.about(Subject::Condition))?;
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

    async fn read_models(&self) -> Result<Vec<ReadModel>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let found = self
            .sessions
            .within(
                "its read models",
                self.sessions.patience.whole_statement(),
                catalogue::read_models(&mut connection),
            )
            .await?;
        self.sessions.give_back(connection);
        Ok(found)
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
        let ranges = partition::ranges(&mut probe, wanted, &checked.cursor).await?;
        self.sessions.give_back(connection);
        Ok(ranges)
    }

    async fn middle(
        &self,
        query: &RowQuery,
        range: &KeyRange,
    ) -> Result<Option<Cursor>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        keyset::check_range(&checked, range)?;
        let mut probe = Probe {
            source: self,
            connection: &mut connection,
            table: &checked,
        };
        let middle = middle::middle(&mut probe, range).await?;
        self.sessions.give_back(connection);
        Ok(middle)
    }

    async fn scan(
        &self,
        query: &RowQuery,
        range: &KeyRange,
        sink: &mut dyn RowSink,
    ) -> Result<(), ScanError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let checked = checked.changed_since(self.place(), query.since.as_ref())?;
        let ids = keyset::typed_ids(&checked, query.ids.as_deref().unwrap_or_default())?;
        keyset::check_range(&checked, range)?;
        let doing = format!("the rows of `{}`", query.from.table);
        // Without a filter every row read is a row sent; with one the server may search long before it sends.
        let filtered =
            query.ids.is_some() || query.from.condition.is_some() || query.since.is_some();
        let patience = self.sessions.patience;
        let scan = Scan {
            sql: keyset::page(&checked, query.ids.as_ref().map(|_| ids.as_slice())),
            ids,
            cursor: checked.cursor.iter().map(|one| one.key.kind).collect(),
            beside: checked.beside.len(),
            until: &range.until,
            limit: if filtered {
                patience.whole_statement()
            } else {
                patience.read
            },
            doing: &doing,
        };
        let done = self
            .pages(&mut connection, &scan, range.after.as_ref(), sink)
            .await?;
        // Also when the sink stopped it between two pages.
        self.sessions.give_back(connection);
        done.map_err(ScanError::from)
    }

    async fn changes(
        &self,
        from: &RowSource,
        by: &ChangeColumn,
    ) -> Result<Option<Changes>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, from).await?;
        self.sessions.give_back(connection);
        changes::of(self.place(), &checked, by)
    }

    async fn watermark(
        &self,
        from: &RowSource,
        by: &ChangeColumn,
    ) -> Result<Option<KeyValue>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, from).await?;
        let watermark = match changes::latest(self.place(), &checked, by)? {
            None => None,
            Some(latest) => {
                let query = sqlx::query(quote::statement(&latest.sql)).persistent(false);
                let limit = self.sessions.patience.whole_statement();
                let text = self
                    .sessions
                    .within(
                        &format!("the latest change of `{}`", from.table),
                        limit,
                        async {
                            let row = connection.fetch_one(query).await?;
                            row.try_get_unchecked::<Option<String>, _>(0)
                        },
                    )
                    .await?;
                latest.watermark(text)
            }
        };
        self.sessions.give_back(connection);
        Ok(watermark)
    }

    async fn count(&self, query: &RowQuery) -> Result<u64, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let checked = checked.changed_since(self.place(), query.since.as_ref())?;
        let ids = keyset::typed_ids(&checked, query.ids.as_deref().unwrap_or_default())?;
        let sql = keyset::count(&checked, query.ids.as_ref().map(|_| ids.as_slice()));
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

    async fn right_to_write(&self) -> Result<Option<String>, EdgeError> {
        // MySQL has roles of its own kind, and no `CURRENT_ROLE()` that is one name.
        if self.sessions.flavour != Flavour::Mariadb {
            return Ok(None);
        }
        let mut connection = self.sessions.take().await?;
        let right = self
            .sessions
            .within(
                "its rights",
                self.sessions.patience.read,
                rights::to_write(&mut connection),
            )
            .await?;
        self.sessions.give_back(connection);
        Ok(right)
    }

    async fn sample_row_bytes(&self, query: &RowQuery) -> Result<Option<u64>, EdgeError> {
        let mut connection = self.sessions.take().await?;
        let checked = self.checked(&mut connection, &query.from).await?;
        let ids = keyset::typed_ids(&checked, query.ids.as_deref().unwrap_or_default())?;
        let sql = keyset::sample(&checked, query.ids.as_ref().map(|_| ids.as_slice()));
        let doing = format!("a sample of `{}`", query.from.table);
        let [rows, bytes] = self.numbers(&mut connection, &doing, &sql, &ids).await?;
        self.sessions.give_back(connection);
        Ok(bytes.checked_div(rows))
    }
}
