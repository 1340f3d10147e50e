//! Where the servers are, and a database of its own for each test.

use std::{
    path::Path,
    process,
    str::FromStr,
    time::{Duration, Instant},
};

use futures_util::stream::BoxStream;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlRow},
};

/// Returns a server's URL: from the environment, else from what `tests/servers/up` wrote.
pub fn server_url(name: &str) -> String {
    if let Ok(url) = std::env::var(name) {
        return url;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/env");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let line = format!("export {name}=");
    text.lines()
        .find_map(|text| text.strip_prefix(&line))
        .unwrap_or_else(|| {
            panic!(
                "no server for this test: {name} is neither set nor in {}; run tests/servers/up",
                file.display()
            )
        })
        .trim_matches(['\'', '"'])
        .to_owned()
}

/// An empty MariaDB database `rk_<name>_<pid>`, dropped with this value, as is a user
/// of that name on any host, if the test made one.
pub struct Database {
    pub name: String,
    server: MySqlConnectOptions,
    connection: MySqlConnection,
    /// Whether plans get a user who may read it and nothing else.
    reads_only: bool,
}

impl Database {
    pub async fn create(name: &str) -> Self {
        let server = MySqlConnectOptions::from_str(&server_url("MARIADB_URL"))
            .expect("MARIADB_URL is a URL")
            .database("information_schema");
        let mut connection = server.connect().await.expect("MariaDB answers");
        let name = format!("rk_{name}_{}", process::id());
        connection
            .execute(AssertSqlSafe(format!(
                "DROP DATABASE IF EXISTS {name}; DROP USER IF EXISTS {name}@'%'; CREATE DATABASE {name} CHARACTER SET utf8mb4; USE {name}"
            )))
            .await
            .expect("a database of its own");
        Self {
            name,
            server,
            connection,
            reads_only: false,
        }
    }

    /// Has plans read this database as a user who may do nothing else.
    pub async fn reads_only(&mut self) {
        let name = &self.name;
        let sql = format!("CREATE USER {name}@'%'; GRANT SELECT ON {name}.* TO {name}@'%'");
        self.execute(sql).await;
        self.reads_only = true;
    }

    /// Returns the URL of this database for another user, or of another host or database.
    pub fn url_with(&self, change: impl FnOnce(&mut url::Url)) -> String {
        let mut url = url::Url::parse(&server_url("MARIADB_URL")).expect("a URL");
        url.set_path(&self.name);
        change(&mut url);
        url.into()
    }

    pub fn url(&self) -> String {
        self.url_with(|url| {
            if self.reads_only {
                url.set_username(&self.name).expect("a user");
                url.set_password(None).expect("no password");
            }
        })
    }

    /// Opens another connection as the same user, to no test's database.
    pub async fn another(&self) -> MySqlConnection {
        self.server.connect().await.expect("MariaDB answers")
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

    /// Returns the rows of a query as they come.
    pub fn rows(&mut self, sql: String) -> BoxStream<'_, Result<MySqlRow, sqlx::Error>> {
        sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut self.connection)
    }

    /// Makes the server count the rows that its storage engines read, from now on. It is a switch of the whole server;
    /// nobody else minds it being on.
    pub async fn count_rows_read(&mut self) {
        self.execute("SET GLOBAL userstat = 1").await;
    }

    /// Returns how many rows of `table` the server has read, by its own count.
    pub async fn rows_read(&mut self, table: &str) -> u64 {
        let sql = format!(
            "SELECT SUM(ROWS_READ) FROM information_schema.TABLE_STATISTICS \
             WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = '{table}'",
            self.name
        );
        self.number(sql).await
    }

    /// Waits until nobody but this value is connected to the database: statements of clients that died are counted
    /// when the server has noticed.
    pub async fn wait_until_alone(&mut self) {
        let begun = Instant::now();
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID()",
            self.name
        );
        while self.number(&*sql).await > 0 {
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "somebody stays connected"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the one number of a query; NULL is 0.
    pub async fn number(&mut self, sql: impl Into<String>) -> u64 {
        let text: Option<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT CAST(({}) AS CHAR)",
            sql.into()
        )))
        .fetch_one(&mut self.connection)
        .await
        .expect("a number");
        text.map_or(0, |text| text.parse().expect("a number"))
    }
}

impl Drop for Database {
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
                    connection
                        .execute(AssertSqlSafe(format!(
                            "DROP DATABASE {name}; DROP USER IF EXISTS {name}@'%'"
                        )))
                        .await?;
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
