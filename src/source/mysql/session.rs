//! Connections: opened when needed, pinned, kept while idle, thrown away after any error.
//!
//! Not sqlx's pool: that one hides a refused connection behind its own time-out and takes connections back after
//! errors. The engine bounds how many scans run, and every scan has one connection.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Executor, MySqlConnection, Row, mysql::MySqlConnectOptions,
};
use tokio::time::timeout;

use super::error::edge;
use crate::{
    error::{EdgeError, ErrorKind},
    source::{Patience, quote},
};

/// Which server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Mariadb,
    Mysql,
}

#[derive(Debug)]
pub(super) struct Sessions {
    options: MySqlConnectOptions,
    pub(super) patience: Patience,
    pub(super) place: String,
    pub(super) flavour: Flavour,
    idle: Mutex<Vec<MySqlConnection>>,
}

impl Sessions {
    /// Opens the first connection, which tells who answers.
    pub(super) async fn open(
        options: MySqlConnectOptions,
        patience: Patience,
        scheme: &str,
    ) -> Result<Self, EdgeError> {
        // The pinned settings below replace all of sqlx's own; SQL is not logged, for it may hold values.
        let options = options
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .disable_statement_logging();
        let address = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_default().to_owned();
        let mut sessions = Self {
            place: format!("{scheme} at {address}/{database}"),
            options,
            patience,
            flavour: Flavour::Mysql,
            idle: Mutex::default(),
        };
        let mut first = sessions.connect().await?;
        let version: String = sessions
            .within("its version", patience.read, async {
                first
                    .fetch_one("SELECT VERSION()")
                    .await?
                    .try_get_unchecked(0)
            })
            .await?;
        let name = if version.to_ascii_lowercase().contains("mariadb") {
            sessions.flavour = Flavour::Mariadb;
            "mariadb"
        } else {
            "mysql"
        };
        sessions.place = format!("{name} at {address}/{database}");
        sessions.pin(&mut first).await?;
        sessions.give_back(first);
        Ok(sessions)
    }

    pub(super) fn database(&self) -> &str {
        self.options.get_database().unwrap_or_default()
    }

    /// Returns a pinned connection that answered just now.
    pub(super) async fn take(&self) -> Result<MySqlConnection, EdgeError> {
        loop {
            let idle = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some(mut connection) = idle else { break };
            if let Ok(Ok(())) = timeout(self.patience.connect, connection.ping()).await {
                return Ok(connection);
            }
        }
        let mut connection = self.connect().await?;
        self.pin(&mut connection).await?;
        Ok(connection)
    }

    /// Keeps a connection for the next caller. Only for one whose last statement was read to its end: any other is
    /// dropped, which closes it.
    pub(super) fn give_back(&self, connection: MySqlConnection) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }

    /// Runs one exchange with the server, with its errors and its silence named.
    pub(super) async fn within<T>(
        &self,
        doing: &str,
        limit: Duration,
        exchange: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, EdgeError> {
        match timeout(limit, exchange).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(edge(&self.place, doing, &error)),
            Err(_) => Err(self.silent(doing, limit)),
        }
    }

    /// Returns the error for a server that sends nothing.
    pub(super) fn silent(&self, doing: &str, limit: Duration) -> EdgeError {
        EdgeError::new(
            ErrorKind::Timeout,
            format!("{} sent nothing for {doing} within {limit:?}", self.place),
        )
    }

    async fn connect(&self) -> Result<MySqlConnection, EdgeError> {
        self.within(
            "the connection",
            self.patience.connect,
            self.options.connect(),
        )
        .await
    }

    /// Makes a session the same whatever the server's defaults are, and unable to write.
    async fn pin(&self, connection: &mut MySqlConnection) -> Result<(), EdgeError> {
        let seconds = self.patience.statement.as_secs().max(1);
        let statement_limit = match self.flavour {
            Flavour::Mariadb => format!("max_statement_time = {seconds}"),
            Flavour::Mysql => format!("max_execution_time = {}", seconds * 1_000),
        };
        let settings = [
            "SET NAMES utf8mb4".to_owned(),
            format!(
                "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
                 time_zone = '+00:00', autocommit = 1, net_write_timeout = {seconds}, {statement_limit}"
            ),
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY".to_owned(),
        ];
        self.within("its settings", self.patience.connect, async {
            for setting in settings {
                connection
                    .execute(quote::statement(&setting.into()))
                    .await?;
            }
            Ok(())
        })
        .await
    }
}
