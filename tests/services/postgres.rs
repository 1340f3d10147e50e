//! A PostgreSQL database of its own for each test, and what can be done to the server.

use std::{
    path::Path,
    process::{self, Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions,
};

use crate::support::server_url;

/// An empty database `rk_<name>_<pid>`, dropped with this value, as is a role of that name, if the test made one.
pub struct PgDatabase {
    pub name: String,
    server: PgConnectOptions,
    connection: PgConnection,
    /// Whether plans get a role that may read it and nothing else.
    reads_only: bool,
}

impl PgDatabase {
    pub async fn create(name: &str) -> Self {
        let server = PgConnectOptions::from_str(&server_url("POSTGRES_URL"))
            .expect("POSTGRES_URL is a URL")
            .database("postgres");
        let name = format!("rk_{name}_{}", process::id());
        let mut admin = server.connect().await.expect("PostgreSQL answers");
        // Not in a transaction, so one by one.
        for sql in [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("DROP ROLE IF EXISTS {name}"),
            format!("CREATE DATABASE {name}"),
        ] {
            admin
                .execute(AssertSqlSafe(sql))
                .await
                .expect("a database of its own");
        }
        let connection = server
            .clone()
            .database(&name)
            .connect()
            .await
            .expect("PostgreSQL answers");
        Self {
            name,
            server,
            connection,
            reads_only: false,
        }
    }

    /// Has plans read this database as a role that may do nothing else.
    pub async fn reads_only(&mut self) {
        let name = &self.name;
        let sql = format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'u-pw'; GRANT pg_read_all_data TO {name}; \
             GRANT CONNECT ON DATABASE {name} TO {name}"
        );
        self.execute(sql).await;
        self.reads_only = true;
    }

    /// Returns the URL of this database for another user, or of another host or database.
    pub fn url_with(&self, change: impl FnOnce(&mut url::Url)) -> String {
        let mut url = url::Url::parse(&server_url("POSTGRES_URL")).expect("a URL");
        url.set_path(&self.name);
        change(&mut url);
        url.into()
    }

    pub fn url(&self) -> String {
        if self.reads_only {
            return self.url_of_role();
        }
        self.url_with(|_| ())
    }

    /// Returns the URL for the role of the database's name, with the password `u-pw`.
    pub fn url_of_role(&self) -> String {
        self.url_with(|url| {
            url.set_username(&self.name).expect("a user");
            url.set_password(Some("u-pw")).expect("a password");
        })
    }

    /// Opens another connection as the same user, to no test's database.
    pub async fn another(&self) -> PgConnection {
        self.server.connect().await.expect("PostgreSQL answers")
    }

    /// Opens this value's connection again, after the server was away.
    pub async fn reconnect(&mut self) {
        let options = self.server.clone().database(&self.name);
        self.connection = options.connect().await.expect("PostgreSQL answers");
    }

    /// Runs statements, separated by semicolons.
    pub async fn execute(&mut self, sql: impl Into<String>) {
        let sql = sql.into();
        let head: String = sql.chars().take(200).collect();
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await
            .unwrap_or_else(|error| panic!("{head}: {error}"));
    }

    /// Returns the one number of a query; NULL is 0.
    pub async fn number(&mut self, sql: impl Into<String>) -> u64 {
        let number: Option<i64> =
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT ({})::bigint", sql.into())))
                .fetch_one(&mut self.connection)
                .await
                .expect("a number");
        number.map_or(0, |number| number.try_into().expect("not negative"))
    }

    /// Returns the one column of a query, in its order.
    pub async fn texts(&mut self, sql: String) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut self.connection)
            .await
            .expect("texts")
    }

    /// Returns how many rows of `table` the server has read, by its own count. Sessions report when they end: wait
    /// until they have.
    pub async fn rows_read(&mut self, table: &str) -> u64 {
        self.wait_until_alone().await;
        self.execute("SELECT pg_stat_force_next_flush()").await;
        self.number(format!(
            "SELECT seq_tup_read + COALESCE(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relid = '{table}'::regclass"
        ))
        .await
    }

    /// Returns how many pages of long values of `table` the server has looked at.
    pub async fn toast_pages(&mut self, table: &str) -> u64 {
        self.wait_until_alone().await;
        self.execute("SELECT pg_stat_force_next_flush()").await;
        self.number(format!(
            "SELECT toast_blks_read + toast_blks_hit FROM pg_statio_user_tables WHERE relid = '{table}'::regclass"
        ))
        .await
    }

    /// Waits until nobody but this value is connected to the database.
    pub async fn wait_until_alone(&mut self) {
        let begun = Instant::now();
        while self.sessions().await > 0 {
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "somebody stays connected"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns how many others are connected to the database.
    pub async fn sessions(&mut self) -> u64 {
        self.number(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        .await
    }
}

/// Stops the server as `tests/servers/down` does, and starts it again.
pub fn restart_server() {
    drop(stop_server());
}

/// Stops the server until the value is dropped.
pub fn stop_server() -> Stopped {
    server_script("down");
    Stopped
}

/// A server that is down; up again when this is dropped, also while a failed test unwinds.
pub struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        server_script("up");
    }
}

fn server_script(script: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/servers")
        .join(script);
    let status = Command::new(path)
        .arg("postgres")
        .stdout(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "tests/servers/{script} postgres failed"
    );
}

impl Drop for PgDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Drop cannot wait; a thread of its own can, also while a failed test unwinds.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime
                .block_on(async {
                    let mut connection = server.connect().await?;
                    for sql in [
                        format!("DROP DATABASE {name} WITH (FORCE)"),
                        format!("DROP ROLE IF EXISTS {name}"),
                    ] {
                        connection.execute(AssertSqlSafe(sql)).await?;
                    }
                    connection.close().await
                })
                .map_err(std::io::Error::other)
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("database {} is left over", self.name);
        }
    }
}
