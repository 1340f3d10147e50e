//! TLS to Redis and MariaDB: it works, and where it does not, the error says which side refused and why. Unix sockets
//! and rights, too.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rekindle::{
    error::{EdgeError, ErrorKind},
    ids::RunId,
    plan::{Compression, RedisConfig, SourceConfig, SourceKind, TargetConfig, ValueForm},
    source,
    target::{LeaseOwner, Target, connect},
    tls::{TlsConfig, Verify},
};
use sqlx::{ConnectOptions, Executor, mysql::MySqlConnectOptions};
use tempfile::TempDir;

use crate::{
    certificates::Certificates,
    redis_server::{RedisServer, free_port},
    shop::{DEFAULTS, PLAN, Running, Shop, resource},
};

/// A Redis with a plain port and a port for TLS.
struct Secured {
    redis: RedisServer,
    tls_port: u16,
}

impl Secured {
    fn start(files: &Certificates, certificate: &str, clients: &str) -> Self {
        let tls_port = free_port();
        let redis = RedisServer::start_with(&[
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &files.text(&format!("{certificate}.pem")),
            "--tls-key-file",
            &files.text(&format!("{certificate}.key")),
            "--tls-ca-cert-file",
            &files.text("ca.pem"),
            "--tls-auth-clients",
            clients,
        ]);
        Self { redis, tls_port }
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}/0", self.tls_port)
    }
}

fn trusting(files: &Certificates, verify: Verify) -> TlsConfig {
    TlsConfig {
        ca: Some(files.path("ca.pem")),
        verify,
        ..TlsConfig::default()
    }
}

fn with_client(files: &Certificates, name: &str) -> TlsConfig {
    TlsConfig {
        cert: Some(files.path(&format!("{name}.pem"))),
        key: Some(files.path(&format!("{name}.key"))),
        ..trusting(files, Verify::Full)
    }
}

fn redis_at(url: &str, tls: Option<TlsConfig>) -> Arc<dyn Target> {
    let config = RedisConfig {
        url: url.into(),
        tls,
        prefix: "kv:".into(),
        allow_eviction: false,
        value: ValueForm::Raw,
        compress: Compression::None,
    };
    connect("storage", &TargetConfig::Redis(config)).expect("a usable target")
}

async fn refusal(url: &str, tls: Option<TlsConfig>) -> EdgeError {
    let refused = redis_at(url, tls).identity().await.expect_err("refused");
    assert!(!refused.message.contains('\n'), "{refused}");
    refused
}

#[tokio::test]
async fn a_run_over_tls_arrives_whole_and_is_cut_off_without_harm() {
    let files = Certificates::new();
    let secured = Secured::start(&files, "server", "yes");
    let url = secured.url();
    let mut shop = Shop::with_redis("tls", secured.redis).await;
    shop.table("url").await;
    shop.rows("url", 1, 20_000).await;
    // One value that does not fit a record of TLS, nor two.
    shop.database
        .execute("UPDATE url SET data = REPEAT('x', 3000000) WHERE id = 7777")
        .await;
    shop.write_plan(&format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  storage:\n    redis:\n      \
         url: {url}\n      prefix: \"kv:\"\n      tls: {{ ca: {}, cert: {}, key: {} }}\nresources:\n{}{DEFAULTS}",
        files.text("ca.pem"),
        files.text("client.pem"),
        files.text("client.key"),
        resource("url"),
    ));
    let running = shop.start(&format!("run {PLAN}"));
    crate::shop::wait_until("the run is on its way", || shop.key_count() > 3_000);
    // All but the one that asks for it.
    shop.redis.run("CLIENT KILL TYPE normal SKIPME yes");
    let done = running.finish().exits(0);
    assert!(done.stderr.contains("trying again in"), "{done}");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_right_is_refused_with_its_reason() {
    let files = Certificates::new();
    let good = Secured::start(&files, "server", "no");
    let named = Secured::start(&files, "other-name", "no");
    let expired = Secured::start(&files, "expired", "no");
    for (server, tls, said) in [
        (&good, None, "signed by no authority that is trusted here"),
        (
            &named,
            Some(trusting(&files, Verify::Full)),
            "its certificate is for another name",
        ),
        (
            &expired,
            Some(trusting(&files, Verify::Full)),
            "its certificate has expired",
        ),
        (
            &expired,
            Some(trusting(&files, Verify::Ca)),
            "its certificate has expired",
        ),
    ] {
        let error = refusal(&server.url(), tls).await;
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains(said), "{error}");
    }
    for (server, verify) in [
        (&good, Verify::Full),
        (&good, Verify::Ca),
        (&named, Verify::Ca),
        (&named, Verify::None),
        (&expired, Verify::None),
    ] {
        let target = redis_at(&server.url(), Some(trusting(&files, verify)));
        target.identity().await.expect("accepted");
    }
    let by_name = good.url().replace("127.0.0.1", "localhost");
    let target = redis_at(&by_name, Some(trusting(&files, Verify::Full)));
    target
        .identity()
        .await
        .expect("the other name of the certificate");
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_and_ports_mixed_up_are_told() {
    let files = Certificates::new();
    let strict = Secured::start(&files, "server", "yes");
    let error = refusal(&strict.url(), Some(trusting(&files, Verify::Full))).await;
    assert_eq!(error.kind, ErrorKind::Credentials, "{error}");
    assert!(
        error.message.contains("wants a client certificate"),
        "{error}"
    );
    let error = refusal(&strict.url(), Some(with_client(&files, "stranger-client"))).await;
    assert_eq!(error.kind, ErrorKind::Credentials, "{error}");
    assert!(
        error.message.contains("refused our client certificate"),
        "{error}"
    );
    let known = redis_at(&strict.url(), Some(with_client(&files, "client")));
    known.identity().await.expect("the right certificate");

    let plain = refusal(&strict.url().replace("rediss", "redis"), None).await;
    assert_eq!(plain.kind, ErrorKind::Connection, "{plain}");
    assert!(
        plain.message.contains("begin the URL with `rediss://`"),
        "{plain}"
    );
    let no_tls = strict.redis.url(0).replace("redis:", "rediss:");
    let error = refusal(&no_tls, Some(trusting(&files, Verify::Full))).await;
    assert!(
        error.message.contains("not speak TLS on this port"),
        "{error}"
    );
}

#[tokio::test]
async fn a_unix_socket_takes_a_run_with_user_and_database() {
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("r.sock");
    let redis = RedisServer::start_with(&["--unixsocket", &socket.display().to_string()]);
    redis.run("ACL SETUSER writer on >geheim-pw ~* &* +@all");
    redis.run("ACL SETUSER default off");
    let mut shop = Shop::open("socket").await;
    shop.table("url").await;
    shop.rows("url", 1, 3_000).await;
    shop.plan(&resource("url"), DEFAULTS);
    let url = |path: &std::path::Path| {
        format!("unix://{}?db=3&user=writer&pass=geheim-pw", path.display())
    };
    let run = |url: String| {
        let mut command = shop.command(&format!("run {PLAN}"));
        command.env("REDIS_URL", url);
        Running::start(command).finish()
    };
    let gone = run(url(&folder.path().join("gone.sock"))).exits(3);
    assert!(
        gone.stderr.contains("there is no socket of redis at unix:"),
        "{gone}"
    );
    let wrong = run(url(&socket).replace("geheim-pw", "falsch-pw")).exits(3);
    assert!(wrong.stderr.contains("wrong user or password"), "{wrong}");
    assert!(!wrong.to_string().contains("falsch-pw"), "{wrong}");
    run(url(&socket)).exits(0);
    let client = redis::Client::open(url(&socket)).expect("a URL");
    let mut connection = client.get_connection().expect("redis answers");
    let keys: u64 = redis::cmd("DBSIZE")
        .query(&mut connection)
        .expect("a number");
    assert_eq!(keys, 3_000);
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let server = RedisServer::start();
    let owner = LeaseOwner {
        state: "9c1f".into(),
        state_path: "/srv/state/shop.sqlite".into(),
        host: "batch-2".into(),
        pid: 4121,
        run: RunId::from_text("7F3K2M"),
    };
    for (rights, said) in [
        ("+@all -info", "no right to `info`"),
        ("+@all -eval", "no right to `eval`"),
        ("+@all -get", "lacks the right to one of `get`, `set`"),
        ("+@all resetkeys ~kv:*", "no right to one of the keys"),
    ] {
        server.run(&format!("ACL SETUSER u reset on >pw ~* &* {rights}"));
        let url = server.url(0).replace("redis://", "redis://u:pw@");
        let target = redis_at(&url, None);
        let error = match target.identity().await {
            Err(error) => error,
            Ok(_) => target.take_lease(&owner).await.expect_err("refused"),
        };
        assert_eq!(error.kind, ErrorKind::Credentials, "{rights}: {error}");
        assert!(error.message.contains(said), "{rights}: {error}");
    }
}

/// A private MariaDB with a certificate.
struct Mariadb {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Mariadb {
    fn start(files: &Certificates) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (data, port) = (folder.path().join("data"), free_port());
        let user = Command::new("id").arg("-un").output().expect("id").stdout;
        let user = String::from_utf8(user).expect("a name");
        let user = format!("--user={}", user.trim());
        let data = format!("--datadir={}", data.display());
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let made = Command::new("mariadb-install-db")
            .args(["--no-defaults", &user, &data, "--skip-test-db"])
            .arg("--auth-root-authentication-method=normal")
            .env("PATH", &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("mariadb-install-db").success());
        let init = folder.path().join("init.sql");
        let statements = "CREATE DATABASE app;\nCREATE USER app@'%' IDENTIFIED BY 'app-pw';\n\
                          GRANT ALL ON *.* TO app@'%';\nCREATE USER strict@'%' IDENTIFIED BY 'app-pw' REQUIRE X509;\n\
                          GRANT ALL ON *.* TO strict@'%';\n";
        std::fs::write(&init, statements).expect("written");
        let child = Command::new("mariadbd")
            .args(["--no-defaults", &user, &data, "--bind-address=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--socket={}", folder.path().join("s").display()))
            .arg(format!("--init-file={}", init.display()))
            .arg(format!("--ssl-ca={}", files.text("ca.pem")))
            .arg(format!("--ssl-cert={}", files.text("server.pem")))
            .arg(format!("--ssl-key={}", files.text("server.key")))
            .args(["--innodb-buffer-pool-size=16M", "--skip-name-resolve"])
            .env("PATH", &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mariadbd");
        Self {
            folder,
            port,
            child,
        }
    }

    fn url(&self, user: &str) -> String {
        format!("mysql://{user}:app-pw@127.0.0.1:{}/app", self.port)
    }

    async fn wait_until_it_answers(&self) {
        let options: MySqlConnectOptions = self.url("app").parse().expect("a URL");
        let begun = std::time::Instant::now();
        loop {
            match options.connect().await {
                Ok(mut connection) => {
                    connection.execute("SELECT 1").await.expect("an answer");
                    return;
                }
                Err(error) => assert!(
                    begun.elapsed().as_secs() < 60,
                    "{}: {error}",
                    self.folder.path().display()
                ),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn mariadb_by_tls_is_checked_as_the_plan_says() {
    let files = Certificates::new();
    let server = Mariadb::start(&files);
    server.wait_until_it_answers().await;
    let connect = |user: &str, tls: TlsConfig| {
        let config = SourceConfig {
            kind: SourceKind::Mysql,
            url: server.url(user).into(),
            tls: Some(tls),
        };
        async move { source::connect(&config).await }
    };
    let verify = |verify| trusting(&files, verify);
    for tls in [
        verify(Verify::Full),
        verify(Verify::Ca),
        verify(Verify::None),
    ] {
        let source = connect("app", tls).await.expect("connects");
        assert_eq!(source.tables().await.expect("tables"), Vec::<String>::new());
    }
    connect("strict", with_client(&files, "client"))
        .await
        .expect("with its certificate");
    for (user, tls, kind, said) in [
        (
            "app",
            TlsConfig::default(),
            ErrorKind::Refused,
            "signed by no authority that is trusted here",
        ),
        (
            "strict",
            verify(Verify::Full),
            ErrorKind::Credentials,
            "Access denied",
        ),
        (
            "strict",
            with_client(&files, "stranger-client"),
            ErrorKind::Credentials,
            "refused our client certificate",
        ),
    ] {
        let Err(error) = connect(user, tls).await else {
            panic!("{user} connected, not: {said}");
        };
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_database_without_tls_gets_no_password_in_the_clear() {
    let config = SourceConfig {
        kind: SourceKind::Mysql,
        url: crate::support::server_url("MARIADB_URL").into(),
        tls: Some(TlsConfig::default()),
    };
    let Err(error) = source::connect(&config).await else {
        panic!("connected without TLS");
    };
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(
        error
            .message
            .ends_with("it does not speak TLS on this port"),
        "{error}"
    );
}
