//! The plan's own statement: one transaction for each call, on a connection of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::OpenFlags;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, mysql::MySqlConnectOptions,
    postgres::PgConnectOptions,
};
use tokio::time::timeout;

use super::{
    Publisher,
    statement::{Dialect, filled},
};
use crate::error::{EdgeError, ErrorKind};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a statement over some hundred ids may take before the connection counts as lost.
const STATEMENT: Duration = Duration::from_mins(10);

/// How long a locked SQLite file is tried.
const LOCKED: Duration = Duration::from_secs(10);

/// Returns the file that a SQLite URL names, whatever way it is written; `None` for another URL, and where there is none.
pub(super) fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    fs::canonicalize(path.strip_prefix("//").unwrap_or(path)).ok()
}

/// Has SQLite take back what a process that died left half done in the file at `path`; returns whether it did.
pub(super) fn roll_back(path: &Path) -> bool {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    let journal = PathBuf::from(journal);
    if !journal.exists() {
        return false;
    }
    let work = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(LOCKED)?;
        // The first look at the file finds the journal, and plays it back if its writer is gone.
        connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()))
    };
    match work() {
        Ok(()) => !journal.exists(),
        Err(error) => {
            tracing::debug!(%error, "a half-done change is not taken back");
            false
        }
    }
}

/// Where the statement runs. The options hold the password; nothing prints them.
enum Server {
    Mysql(Box<MySqlConnectOptions>),
    Postgres(Box<PgConnectOptions>),
    Sqlite(PathBuf),
}

/// Runs the statement.
pub(super) struct SqlPublisher {
    server: Server,
    statement: String,
    place: String,
}

impl SqlPublisher {
    pub(super) fn new(url: &SecretString, statement: &str) -> Result<Self, EdgeError> {
        let url = url.expose_secret();
        // Not the driver's own text: it may repeat the URL.
        let wrong = || {
            EdgeError::new(
                ErrorKind::Refused,
                "the URL of the republish statement cannot be read",
            )
        };
        let (server, place) = if let Some(path) = url.strip_prefix("sqlite:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            let place = format!("republish statement at sqlite {}", path.display());
            (Server::Sqlite(path), place)
        } else {
            let parsed = url::Url::parse(url).map_err(|_| wrong())?;
            let at = format!(
                "{}{}{}",
                parsed.host_str().unwrap_or_default(),
                parsed
                    .port()
                    .map(|port| format!(":{port}"))
                    .unwrap_or_default(),
                parsed.path()
            );
            let scheme = parsed.scheme();
            let server = if scheme.starts_with("postgres") {
                let options = PgConnectOptions::from_str(url).map_err(|_| wrong())?;
                Server::Postgres(Box::new(options.disable_statement_logging()))
            } else {
                let plain = url.replacen("mariadb://", "mysql://", 1);
                let options = MySqlConnectOptions::from_str(&plain).map_err(|_| wrong())?;
                Server::Mysql(Box::new(options.disable_statement_logging()))
            };
            (server, format!("republish statement at {scheme} {at}"))
        };
        Ok(Self {
            server,
            statement: statement.to_owned(),
            place,
        })
    }

    const fn dialect(&self) -> Dialect {
        match self.server {
            Server::Mysql(_) => Dialect::Mysql,
            Server::Postgres(_) => Dialect::Postgres,
            Server::Sqlite(_) => Dialect::Sqlite,
        }
    }

    async fn connected<C>(
        &self,
        connecting: impl Future<Output = Result<C, sqlx::Error>>,
    ) -> Result<C, EdgeError> {
        timeout(CONNECT, connecting)
            .await
            .map_err(|_| self.silent("the connection"))?
            .map_err(|error| self.refused(&error))
    }

    async fn on_mysql(&self, options: &MySqlConnectOptions, sql: String) -> Result<(), EdgeError> {
        let mut connection = self.connected(options.connect()).await?;
        let work = async {
            let mut transaction = connection.begin().await?;
            (&mut *transaction)
                .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
                .await?;
            transaction.commit().await
        };
        self.ended(timeout(STATEMENT, work).await)?;
        connection.close().await.ok();
        Ok(())
    }

    async fn on_postgres(&self, options: &PgConnectOptions, sql: String) -> Result<(), EdgeError> {
        let mut connection = self.connected(options.connect()).await?;
        let work = async {
            // Literals of ids rely on it.
            connection
                .execute("SET standard_conforming_strings = on")
                .await?;
            let mut transaction = connection.begin().await?;
            (&mut *transaction)
                .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
                .await?;
            transaction.commit().await
        };
        self.ended(timeout(STATEMENT, work).await)?;
        connection.close().await.ok();
        Ok(())
    }

    fn on_sqlite(&self, path: &PathBuf, sql: &str) -> Result<(), EdgeError> {
        let work = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = rusqlite::Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(LOCKED)?;
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            transaction.execute_batch(sql)?;
            transaction.commit()
        };
        work().map_err(|error| {
            let kind = match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                    ErrorKind::Busy
                }
                Some(rusqlite::ErrorCode::CannotOpen) => ErrorKind::Missing,
                Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied) => {
                    ErrorKind::Credentials
                }
                _ => ErrorKind::Refused,
            };
            let code = error
                .sqlite_error()
                .map(|failure| format!(" (SQLite error {})", failure.extended_code))
                .unwrap_or_default();
            EdgeError::new(kind, format!("{} was refused{code}", self.place))
        })
    }

    fn ended(
        &self,
        ended: Result<Result<(), sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<(), EdgeError> {
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.refused(&error)),
            Err(_) => Err(self.silent("the statement")),
        }
    }

    fn silent(&self, what: &str) -> EdgeError {
        EdgeError::new(
            ErrorKind::Timeout,
            format!("{}: no answer to {what} in time", self.place),
        )
    }

    /// Names the server's error by its number: its text may hold values of rows.
    fn refused(&self, error: &sqlx::Error) -> EdgeError {
        let (kind, detail) = match error {
            sqlx::Error::Database(refusal) => {
                let code = match refusal.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
                    Some(mysql) => mysql.number().to_string(),
                    None => refusal.code().unwrap_or_default().into_owned(),
                };
                (kind_of(&code), format!(" (error {code})"))
            }
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                (ErrorKind::Connection, String::new())
            }
            sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => {
                (ErrorKind::Credentials, String::new())
            }
            _ => (ErrorKind::Refused, String::new()),
        };
        let what = match kind {
            ErrorKind::Connection => "lost its connection",
            _ => "was refused",
        };
        EdgeError::new(kind, format!("{} {what}{detail}", self.place))
    }
}

/// Returns what a server's error number means: MariaDB's and MySQL's, else an SQLSTATE of PostgreSQL.
fn kind_of(code: &str) -> ErrorKind {
    match code {
        // Too many connections, lock wait, deadlock, read only while failing over; the same in PostgreSQL's words.
        "1040" | "1203" | "1205" | "1213" | "1290" | "3572" | "40001" | "40P01" | "55P03"
        | "53300" | "25006" => ErrorKind::Busy,
        // Shutting down, killed.
        "1053" | "1927" | "57P01" | "57P02" | "57P03" => ErrorKind::Connection,
        "1044" | "1045" | "1142" | "1143" | "1227" | "1698" | "28000" | "28P01" | "42501" => {
            ErrorKind::Credentials
        }
        "1049" | "1054" | "1146" | "3D000" | "42P01" | "42703" => ErrorKind::Missing,
        _ => ErrorKind::Refused,
    }
}

#[async_trait]
impl Publisher for SqlPublisher {
    fn place(&self) -> &str {
        &self.place
    }

    async fn call(&self, ids: &[String]) -> Result<(), EdgeError> {
        let sql = filled(self.dialect(), &self.statement, ids);
        match &self.server {
            Server::Mysql(options) => self.on_mysql(options, sql).await,
            Server::Postgres(options) => self.on_postgres(options, sql).await,
            Server::Sqlite(path) => tokio::task::block_in_place(|| self.on_sqlite(path, &sql)),
        }
    }

    fn shown(&self, ids: &[String]) -> String {
        filled(self.dialect(), &self.statement, ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_statement_is_carried_out_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.sqlite");
        let shop = rusqlite::Connection::open(&path).unwrap();
        shop.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, touched INTEGER NOT NULL DEFAULT 0); INSERT INTO t (id) VALUES (1), (2), (3)")
            .unwrap();
        let url = format!("sqlite:{}", path.display()).into();
        let ids = ["1", "3"].map(str::to_owned);
        let publisher =
            SqlPublisher::new(&url, "UPDATE t SET touched = 1 WHERE id IN ({ids})").unwrap();
        publisher.call(&ids).await.unwrap();
        let touched = || -> i64 {
            shop.query_row("SELECT SUM(id * touched) FROM t", [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(touched(), 4);
        let half = "UPDATE t SET touched = 9 WHERE id IN ({ids}); UPDATE t SET touched = NULL";
        let publisher = SqlPublisher::new(&url, half).unwrap();
        assert_eq!(
            publisher.call(&ids).await.unwrap_err().kind,
            ErrorKind::Refused
        );
        assert_eq!(touched(), 4);
    }

    #[test]
    fn a_place_names_no_password() {
        for url in [
            "mariadb://u:geheim@db.test:3307/shop",
            "postgres://u:geheim@db.test/shop",
        ] {
            let publisher = SqlPublisher::new(&url.into(), "{ids}").unwrap();
            assert!(
                !publisher.place().contains("geheim"),
                "{}",
                publisher.place()
            );
        }
    }
}
