//! What real servers have to say about a plan: each problem with its code, its place and a hint, the same to every command that
//! checks a plan.

use std::{fs, process::Command};

use rekindle::plan::Code;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    broker_server::Vhost, postgres::PgDatabase, redis_server::RedisServer,
    search_server::SearchServer, support::Database,
};

const TABLE: &str = "CREATE TABLE url (id BIGINT NOT NULL PRIMARY KEY, k VARCHAR(99), v VARCHAR(99)); \
                     INSERT INTO url VALUES (1, 'url:1', '{}'), (2, 'url:2', '{}')";

/// A plan in a folder of its own; its source is a SQLite file where nothing else is said.
struct Desk {
    folder: TempDir,
    source: String,
    target: String,
    /// What differs from machine to machine, and what is shown for it.
    hidden: Vec<(String, &'static str)>,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Connection::open(folder.path().join("shop.db")).expect("a database");
        database.execute_batch(TABLE).expect("a table");
        let hidden = vec![(folder.path().display().to_string(), "[folder]")];
        let (source, target) = (String::new(), String::new());
        Self {
            folder,
            source,
            target,
            hidden,
        }
    }

    fn hide(&mut self, text: impl Into<String>, shown: &'static str) {
        self.hidden.push((text.into(), shown));
    }

    /// Writes a plan of one resource: where it reads, and where it writes to.
    ///
    /// URLs come from the environment, so that what is drawn does not depend on their length.
    fn plan(&mut self, source: &str, target: &str, of_resource: &str) {
        source.clone_into(&mut self.source);

        let text = format!(
            "version: 1\nname: shop\nsource:\n  url: \"${{SOURCE}}\"\ntargets:\n  {target}\nresources:\n  - name: url\n    \
             from: {{ table: url, cursor: [id], key: k, value: v }}\n{of_resource}"
        );
        fs::write(self.folder.path().join("shop.yaml"), text).expect("written");
    }

    /// Returns exit code, and what is printed on stdout and stderr.
    fn rekindle(&self, words: &str) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rekindle"))
            .args(words.split(' '))
            .arg("shop.yaml")
            .current_dir(self.folder.path())
            .env("SOURCE", &self.source)
            .env("TARGET", &self.target)
            .output()
            .expect("the program starts");
        let text = |bytes| {
            let text = String::from_utf8(bytes).expect("text");
            assert!(!text.contains("geheim"), "a password is shown: {text}");
            let hidden = self.hidden.iter();
            hidden.fold(text, |text, (had, shown)| text.replace(had, shown))
        };
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Returns the codes that a command shows with `--json`, each with its line.
    fn codes(&self, command: &str) -> Vec<(String, Option<u64>)> {
        let (_, said, _) = self.rekindle(&format!("{command} --json"));
        let first = said.lines().next().expect("an object");
        let said: Value = serde_json::from_str(first).expect("JSON");
        let lists: Vec<&Value> = match command {
            "validate" => vec![&said["problems"], &said["warnings"]],
            "doctor" => vec![&said["findings"]],
            _ => vec![&said["problems"]],
        };
        let entries = lists
            .into_iter()
            .flat_map(|list| list.as_array().expect("a list"));
        let mut codes: Vec<_> = entries
            .map(|one| one.get("problem").unwrap_or(one))
            .filter(|one| !one.is_null())
            .map(|one| {
                (
                    one["code"].as_str().expect("a code").to_owned(),
                    one["line"].as_u64(),
                )
            })
            .collect();
        codes.sort();
        codes
    }

    /// Asserts that `code` and nothing else is wrong, at this line, whoever looks; and how `validate` shows it.
    #[track_caller]
    fn shows(&self, code: Code, line: Option<u64>, exit: i32) {
        let wanted = vec![(code.text().to_owned(), line)];
        for command in ["validate", "run --dry-run", "doctor"] {
            assert_eq!(self.codes(command), wanted, "{command}");
        }
        self.draws(code, exit);
        assert_eq!(self.rekindle("validate --strict").0, Some(3));
    }

    /// Asserts how `validate` shows a plan with `code`.
    #[track_caller]
    fn draws(&self, code: Code, exit: i32) {
        self.draws_as(&code.text().replace("::", "-"), exit);
    }

    /// Asserts how `validate` shows a plan, in the picture of this name.
    #[track_caller]
    fn draws_as(&self, name: &str, exit: i32) {
        let (found, said, drawn) = self.rekindle("validate");
        assert_eq!(found, Some(exit), "{said}{drawn}");
        // Where a line breaks depends on the length of names and ports.
        let drawn = drawn.replace("\n  | ", " ").replace("\n        ", " ");
        insta::with_settings!({
            snapshot_path => "checks",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name, format!("{said}{drawn}"));
        });
    }
}

const FILE: &str = "sqlite:shop.db";
const DUMP: &str = "dump: { file: { path: out } }";

impl Desk {
    /// Writes a plan into this Redis.
    fn plan_redis(&mut self, url: String, more: &str) {
        self.target = url;
        let target = format!("cache: {{ redis: {{ url: \"${{TARGET}}\"{more} }} }}");
        self.plan(FILE, &target, "");
    }
}

#[tokio::test]
async fn mariadb_a_user_who_may_write_and_one_with_a_wrong_password_are_shown() {
    let mut database = Database::create("checks").await;
    let name = database.name.clone();
    database
        .execute(format!(
            "{TABLE}; CREATE USER {name}@'%' IDENTIFIED BY 'geheim'; GRANT SELECT ON {name}.* TO {name}@'%'"
        ))
        .await;
    let of = |user: &str, password: &str| {
        database.url_with(|url| {
            url.set_username(user).expect("a user");
            url.set_password(Some(password)).expect("a password");
        })
    };
    let (reader, wrong) = (of(&name, "geheim"), of(&name, "geheim2"));
    let mut desk = Desk::new();
    let port = url::Url::parse(&reader).ok().and_then(|url| url.port());
    desk.hide(port.unwrap_or(3306).to_string(), "[port]");
    desk.hide(&name, "[db]");
    desk.plan(&reader, DUMP, "");
    assert_eq!(desk.codes("validate"), []);
    assert_eq!(desk.rekindle("doctor").0, Some(0));
    desk.plan(&wrong, DUMP, "");
    let refused = [("source::credentials".to_owned(), Some(4))];
    assert_eq!(desk.codes("validate"), refused);

    // One right on one table of another user is his; and each of three ways to have one is seen.
    let may_write = ("source::writable-user".to_owned(), Some(4));
    for (grant, seen) in [
        ("GRANT INSERT ON nowhere_at_all.* TO", false),
        (&*format!("GRANT DELETE ON {name}.url TO"), true),
        (&*format!("REVOKE DELETE ON {name}.url FROM"), false),
        (&*format!("GRANT UPDATE ON {name}.* TO"), true),
        (&*format!("REVOKE UPDATE ON {name}.* FROM"), false),
        ("GRANT CREATE ON *.* TO", true),
    ] {
        database.execute(format!("{grant} {name}@'%'")).await;
        desk.plan(&reader, DUMP, "");
        let wanted: Vec<_> = seen.then(|| may_write.clone()).into_iter().collect();
        assert_eq!(desk.codes("validate"), wanted, "{grant}");
    }
    desk.shows(Code::WritableUser, Some(4), 0);
}

#[tokio::test]
async fn postgres_a_role_who_may_write_and_one_with_a_wrong_password_are_shown() {
    let mut database = PgDatabase::create("checks").await;
    let name = database.name.clone();
    database
        .execute(format!(
            "{TABLE}; CREATE ROLE {name} LOGIN PASSWORD 'u-pw'; GRANT CONNECT ON DATABASE {name} TO {name}; \
             GRANT SELECT ON url TO {name}"
        ))
        .await;
    let reader = database.url_of_role();
    let mut desk = Desk::new();
    let port = url::Url::parse(&reader).ok().and_then(|url| url.port());
    desk.hide(port.unwrap_or(5432).to_string(), "[port]");
    desk.hide(&name, "[db]");
    desk.plan(&reader, DUMP, "");
    assert_eq!(desk.codes("validate"), []);
    database
        .execute(format!("GRANT TRUNCATE ON url TO {name}"))
        .await;
    let may_write = [("source::writable-user".to_owned(), Some(4))];
    assert_eq!(desk.codes("validate"), may_write);
    desk.plan(&reader.replace("u-pw", "geheim"), DUMP, "");
    desk.shows(Code::SourceCredentials, Some(4), 3);
}

#[test]
fn a_redis_that_would_lose_rows_or_takes_none_is_shown() {
    let server = RedisServer::start();
    let mut desk = Desk::new();
    desk.hide(server.port().to_string(), "[port]");
    desk.plan_redis(server.url(0), "");
    assert_eq!(desk.codes("validate"), []);
    server.run("CONFIG SET maxmemory-policy allkeys-lru");
    desk.shows(Code::Eviction, Some(6), 3);
    desk.plan_redis(server.url(0), ", allow_eviction: true");
    assert_eq!(desk.codes("validate"), []);
    server.run("CONFIG SET maxmemory-policy noeviction");

    let copy = RedisServer::start();
    copy.run(&format!("REPLICAOF 127.0.0.1 {}", server.port()));
    desk.hide(copy.port().to_string(), "[port of the copy]");
    desk.plan_redis(copy.url(0), "");
    desk.shows(Code::ReplicaTarget, Some(6), 3);

    desk.plan_redis(server.url(99), "");
    desk.shows(Code::NoDatabase, Some(6), 3);
}

#[test]
fn an_empty_database_beside_one_with_the_shop_s_keys_is_a_warning() {
    let server = RedisServer::start();
    let mut desk = Desk::new();
    desk.hide(server.port().to_string(), "[port]");
    let set = |db, key: &str| {
        server.ask::<()>(db, redis::cmd("SET").arg(key).arg("1"));
    };
    set(1, "session:7");
    desk.plan_redis(server.url(0), ", prefix: \"kv:\"");
    assert_eq!(desk.codes("validate"), [], "keys of somebody else");
    set(3, "kv:url:1");
    desk.shows(Code::OtherDatabase, Some(6), 0);
    desk.plan_redis(server.url(0), "");
    assert_eq!(
        desk.codes("validate"),
        [],
        "without a prefix all keys look alike"
    );
    desk.plan_redis(server.url(0), ", prefix: \"kv:\"");
    set(0, "kv:url:2");
    assert_eq!(desk.codes("validate"), [], "it is in use");
}

#[test]
fn rows_that_a_redis_has_no_room_for_are_a_warning_of_the_dry_run() {
    let server = RedisServer::start();
    let mut desk = Desk::new();
    let database = Connection::open(desk.folder.path().join("shop.db")).expect("a database");
    database
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
             INSERT INTO url SELECT i, 'url:' || i, '{\"id\":' || i || '}' FROM n",
        )
        .expect("rows");
    desk.plan_redis(server.url(0), "");
    assert_eq!(desk.codes("run --dry-run"), []);
    let used: String = server.ask(0, redis::cmd("INFO").arg("memory"));
    let used = used
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.and_then(|used| used.parse().ok()).expect("a number");
    server.run(&format!("CONFIG SET maxmemory {}", used + 1_000_000));
    assert_eq!(
        desk.codes("run --dry-run"),
        [("target::no-room".to_owned(), Some(6))]
    );
    let (code, said, _) = desk.rekindle("run --dry-run");
    assert_eq!(code, Some(0));
    let line = said
        .lines()
        .find(|line| line.contains("needs about") && line.contains("warning"));
    assert!(
        line.is_some_and(|line| line.contains("(shop.yaml:6:")),
        "{said}"
    );
    assert_eq!(desk.rekindle("run --dry-run --strict").0, Some(3));
}

#[test]
fn targets_that_refuse_are_shown_where_they_are_named() {
    let server = RedisServer::start_with(&["--requirepass", "geheim"]);
    let mut desk = Desk::new();
    desk.hide(server.port().to_string(), "[port]");
    desk.plan_redis(server.url(0), "");
    desk.shows(Code::TargetCredentials, Some(6), 3);

    // A search server where a Redis should be.
    let search = SearchServer::shared("elasticsearch");
    let port = search.url().rsplit(':').next().expect("a port").to_owned();
    desk.hide(&port, "[port]");
    desk.plan_redis(format!("redis://127.0.0.1:{port}/0"), "");
    desk.shows(Code::TargetRefused, Some(6), 3);
}

#[test]
fn indexes_that_are_not_there_guess_or_take_no_writes_are_shown() {
    let server = SearchServer::shared("elasticsearch");
    let mut desk = Desk::new();
    desk.hide(server.url(), "http://127.0.0.1:[port]");
    desk.hide(server.url().replace("http://", ""), "127.0.0.1:[port]");
    desk.target = server.url();
    let target = "find: { elasticsearch: { url: \"${TARGET}\", index: \"t_{type}\" } }";
    desk.plan(FILE, target, "    type: url\n");
    let (_, cluster) = server.ask("GET", "/", None);
    let id = cluster["cluster_uuid"].as_str().expect("an id").to_owned();
    desk.hide(id, "[id]");
    desk.shows(Code::MissingIndex, Some(6), 3);
    let put = |path: &str, body: Value| {
        let (status, answer) = server.ask("PUT", path, Some(&body.to_string()));
        assert_eq!(status, 200, "{answer}");
    };
    // Other shops' indexes on the server end in other names.
    put("/b2c_t_url", json!({}));
    put("/b2c_t_urls", json!({}));
    // Where a line breaks depends on the length of the port.
    let help = |desk: &Desk| desk.rekindle("validate").2.replace("\n        ", " ");
    let said = help(&desk);
    assert!(
        said.contains(
            "`b2c_t_url` is there: write its prefix into `index` of the target; or create `t_url`: "
        ),
        "{said}"
    );
    let unset = target.replace("t_{type}", "${OF_NOBODY:-}t_{type}");
    desk.plan(FILE, &unset, "    type: url\n");
    let said = help(&desk);
    assert!(
        said.contains(
            "`b2c_t_url` is there: set `OF_NOBODY`, which is unset, to its prefix; or create"
        ),
        "{said}"
    );
    desk.plan(FILE, target, "    type: url\n");
    for index in ["/b2c_t_url", "/b2c_t_urls"] {
        server.ask("DELETE", index, None);
    }
    put("/t_url", json!({}));
    desk.shows(Code::DynamicIndex, Some(6), 0);
    server.ask("DELETE", "/t_url", None);
    put(
        "/t_url",
        json!({ "mappings": { "dynamic": "strict", "properties": { "id": { "type": "long" } } } }),
    );
    assert_eq!(desk.codes("validate"), []);
    for setting in ["write", "read_only_allow_delete", "read_only"] {
        let name = format!("index.blocks.{setting}");
        put("/t_url/_settings", json!({ name.as_str(): true }));
        let wanted = [("target::blocked-index".to_owned(), Some(6))];
        assert_eq!(desk.codes("validate"), wanted, "{setting}");
        if setting == "read_only" {
            desk.draws(Code::BlockedIndex, 3);
        }
        put("/t_url/_settings", json!({ name: null }));
    }
    assert_eq!(desk.codes("validate"), []);
    server.ask("DELETE", "/t_url", None);
}

#[tokio::test]
async fn queues_that_are_not_there_or_are_others_are_shown() {
    let (vhost, redis) = (Vhost::create("checks").await, RedisServer::start());
    let mut desk = Desk::new();
    let url = url::Url::parse(&vhost.url()).expect("a URL");
    desk.hide(url.port().unwrap_or(5672).to_string(), "[port]");
    desk.hide(vhost.name(), "[vhost]");
    desk.hide(redis.port().to_string(), "[redis]");
    desk.target = vhost.url();
    let target = format!("cache: {{ redis: {{ url: \"{}\" }} }}", redis.url(0));
    let plan = |desk: &mut Desk, sync: &str, broker: &str| {
        let of_resource = format!(
            "    queue: sync.url\n    sync: {sync}\nbroker:\n  url: \"${{TARGET}}\"\n{broker}"
        );
        desk.plan(FILE, &target, &of_resource);
    };
    plan(&mut desk, "queue", "");
    desk.shows(Code::MissingQueue, Some(10), 3);
    // What no row of this plan goes through is the shop's all the same.
    plan(&mut desk, "direct", "  declare: true\n");
    let missing = [("queue::missing".to_owned(), Some(13))];
    assert_eq!(desk.codes("validate"), missing);
    assert_eq!(desk.codes("run --dry-run"), missing);
    desk.draws_as("queue-missing.spare", 0);
    plan(&mut desk, "queue", "  declare: true\n");
    assert_eq!(desk.codes("validate"), [], "a run makes it");
    vhost.set_up_limited("sync.url", 9).await;
    desk.shows(Code::OtherQueue, Some(10), 3);
    // One of any kind does where nobody is to make it.
    vhost.bind("sync.url").await;
    for sync in ["queue", "direct"] {
        plan(&mut desk, sync, "");
        assert_eq!(desk.codes("validate"), [], "{sync}");
    }
    plan(
        &mut desk,
        "queue",
        "  management: \"http://app:geheim@127.0.0.1:1\"\n",
    );
    let untold = [("queue::unknown".to_owned(), Some(14))];
    assert_eq!(desk.codes("validate"), untold);
}
