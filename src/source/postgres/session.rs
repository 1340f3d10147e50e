//! Connections: opened when needed, pinned, kept while idle, thrown away after any error. As for MariaDB, and for
//! the same reasons, without sqlx's pool.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use super::error::edge;
use crate::{
    error::{EdgeError, ErrorKind},
    source::Patience,
};

/// How long a table may stay locked before the scan is told so: above any ordinary lock, below [`Patience::read`],
/// whose end says less.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// How soon the server notices that we are gone, in a statement that has not sent anything yet.
const ABANDONED: Duration = Duration::from_secs(10);

/// Sets what this server knows of the settings in `$1`, to the values in `$2`.
const SET: &str = "SELECT count(pg_catalog.set_config(name, setting, false)) \
    FROM unnest($1::text[], $2::text[]) AS wanted (name, setting) \
    WHERE name IN (SELECT name FROM pg_catalog.pg_settings)";

pub(super) struct Sessions {
    options: PgConnectOptions,
    pub(super) patience: Patience,
    pub(super) place: String,
    idle: Mutex<Vec<PgConnection>>,
}

impl Sessions {
    /// Opens the first connection.
    pub(super) async fn open(
        options: PgConnectOptions,
        patience: Patience,
    ) -> Result<Self, EdgeError> {
        // PgBouncer refuses `extra_float_digits` at log-in; it is pinned below. SQL is not logged, for it may hold values.
        let mut options = options.extra_float_digits(None).disable_statement_logging();
        if options.get_application_name().is_none() {
            options = options.application_name("rekindle");
        }
        let address = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_default();
        let sessions = Self {
            place: format!("postgres at {address}/{database}"),
            options,
            patience,
            idle: Mutex::default(),
        };
        let first = sessions.connect().await?;
        sessions.give_back(first);
        Ok(sessions)
    }

    /// Returns where the server is, as the URL says.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.options.get_host(), self.options.get_port())
    }

    /// Returns a pinned connection that answered just now.
    pub(super) async fn take(&self) -> Result<PgConnection, EdgeError> {
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
        self.connect().await
    }

    /// Keeps a connection for the next caller. Only for one whose last statement was read to its end: any other is
    /// dropped, which closes it.
    pub(super) fn give_back(&self, connection: PgConnection) {
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

    /// Makes the planner walk the cursor's index, or leaves it free again.
    ///
    /// PostgreSQL has no hints. A condition on another indexed column tempts it to collect all rows and sort them, again
    /// for every page; unable to sort, it takes an index that has the order already. With ids that would be wrong: few
    /// rows are found by the ids' own index.
    pub(super) async fn walk(
        &self,
        connection: &mut PgConnection,
        along: bool,
    ) -> Result<(), EdgeError> {
        let sort = if along { "off" } else { "on" };
        let workers = if along { "0" } else { "2" };
        self.set(
            connection,
            &[
                ("enable_sort", sort),
                ("enable_incremental_sort", sort),
                ("max_parallel_workers_per_gather", workers),
            ],
        )
        .await
    }

    async fn connect(&self) -> Result<PgConnection, EdgeError> {
        let mut connection = self
            .within(
                "the connection",
                self.patience.connect,
                self.options.connect(),
            )
            .await?;
        self.pin(&mut connection).await?;
        Ok(connection)
    }

    /// Makes a session the same whatever the server's defaults are, and unable to write.
    async fn pin(&self, connection: &mut PgConnection) -> Result<(), EdgeError> {
        let millis = |time: Duration| time.as_millis().max(1).to_string();
        let statement = millis(self.patience.statement);
        self.set(
            connection,
            &[
                ("default_transaction_isolation", "read committed"),
                ("default_transaction_read_only", "on"),
                ("statement_timeout", &statement),
                ("lock_timeout", &millis(LOCK_WAIT)),
                ("idle_in_transaction_session_timeout", &statement),
                ("client_connection_check_interval", &millis(ABANDONED)),
                ("client_encoding", "UTF8"),
                ("TimeZone", "UTC"),
                ("DateStyle", "ISO, MDY"),
                ("IntervalStyle", "postgres"),
                ("extra_float_digits", "1"),
                ("standard_conforming_strings", "on"),
                ("transform_null_equals", "off"),
                // Rows that a policy hides would be lost in silence: the server is to refuse.
                ("row_security", "off"),
                // Planned once for all pages, without its bounds and limit, a page might be read by a sort of the table.
                ("plan_cache_mode", "force_custom_plan"),
                // Compiling costs more than a page.
                ("jit", "off"),
            ],
        )
        .await
    }

    async fn set(
        &self,
        connection: &mut PgConnection,
        settings: &[(&str, &str)],
    ) -> Result<(), EdgeError> {
        let (names, values): (Vec<&str>, Vec<&str>) = settings.iter().copied().unzip();
        self.within("its settings", self.patience.connect, async {
            sqlx::query(SET)
                .bind(names)
                .bind(values)
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }
}
