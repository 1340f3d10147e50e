//! A private MariaDB for one test: own port, own data, gone with the test.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tempfile::TempDir;

use crate::{
    redis_server::free_port,
    shop::{Named, wait_until},
};

/// A running server with a database `shop`.
pub struct MariaDbServer {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl MariaDbServer {
    /// Starts two servers with empty data, each with a line of options.
    pub fn two(options: [&[&str]; 2]) -> [Self; 2] {
        let template = TempDir::new().expect("a folder for data");
        let data = template.path().join("data");
        let made = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--user", &user()])
            .arg(format!("--datadir={}", data.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "mariadb-install-db failed"
        );
        let [first, second] = options;
        [Self::start(&data, first), Self::start(&data, second)]
    }

    fn start(data: &Path, options: &[&str]) -> Self {
        let mut server = Self {
            folder: TempDir::new().expect("a folder for mariadbd"),
            port: free_port(),
            child: None,
        };
        let own = server.folder.path().join("data");
        let copied = Command::new("cp").arg("-a").args([data, &own]).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp failed");
        let log = fs::File::create(server.folder.path().join("log")).expect("a log");
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--user", &user(), "--socket=mysql.sock"])
            .arg(format!("--datadir={}", own.display()))
            .arg(format!("--port={}", server.port))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
            .args([
                "--innodb-buffer-pool-size=16M",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mariadbd is installed");
        server.child = Some(child);
        let url = server.url_of("");
        let answers = || {
            // On a thread of its own: this one may be inside a runtime.
            let url = url.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime
                    .block_on(MySqlConnection::connect(&url))
                    .map(drop)
                    .is_ok()
            })
            .join()
            .expect("no panic")
        };
        wait_until("mariadbd answers", answers);
        server
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn url_of(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements, separated by semicolons.
    pub async fn execute(&self, sql: &str) {
        let mut connection = MySqlConnection::connect(&self.url_of("mysql"))
            .await
            .expect("mariadbd answers");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Returns the one number of a query; nothing where there is no such table yet.
    pub async fn number(&self, sql: &str) -> Option<i64> {
        let mut connection = MySqlConnection::connect(&self.url_of("mysql"))
            .await
            .expect("mariadbd answers");
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .ok()
    }
}

impl Named for MariaDbServer {
    fn url(&self) -> String {
        self.url_of("shop")
    }
}

impl Drop for MariaDbServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// mariadbd takes root for a mistake unless it is named.
fn user() -> String {
    let id = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&id.stdout).trim().to_owned()
}
