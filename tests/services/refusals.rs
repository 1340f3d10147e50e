//! What cannot work is refused before the first write: one error in four parts, the right exit code, no trace, and
//! never a password.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use crate::{
    redis_server::RedisServer,
    shop::{DEFAULTS, Finished, PLAN, Running, Shop, files, resource, wait_until},
    support::Database,
};

const PASSWORD: &str = "canary-Zq7-pw";

/// A shop of two resources whose servers are reached with a password.
struct Guarded {
    shop: Shop,
    database_url: String,
    redis_url: String,
}

impl Guarded {
    async fn open(name: &str) -> Self {
        let mut shop = Shop::open(name).await;
        for (table, last) in [("url", 10_000), ("page", 2_000)] {
            shop.table(table).await;
            shop.rows(table, 1, last).await;
        }
        let user = shop.database.name.clone();
        shop.database
            .execute(format!(
                "CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON {user}.* TO {user}@'%'"
            ))
            .await;
        shop.redis
            .run(&format!("ACL SETUSER writer on >{PASSWORD} ~* &* +@all"));
        shop.plan(&both(), DEFAULTS);
        let database_url = login(&shop.database, &user, PASSWORD);
        let redis_url = format!(
            "redis://writer:{PASSWORD}@127.0.0.1:{}/0",
            shop.redis.port()
        );
        Self {
            shop,
            database_url,
            redis_url,
        }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = self.shop.command(words);
        command
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", &self.redis_url);
        command
    }

    fn rekindle(&self, words: &str) -> Finished {
        without_password(Running::start(self.command(words)).finish())
    }

    fn with(&self, words: &str, variable: &str, value: &str) -> Finished {
        let mut command = self.command(words);
        command.env(variable, value);
        without_password(Running::start(command).finish())
    }

    /// Leaves a run behind that was killed in the middle of `url`, when some of both resources was stored.
    fn half_done(&self) {
        let mut running = Running::start(self.command(&format!("run {PLAN} --json")));
        let mut begun = BTreeSet::new();
        running.event("chunks of both", |event| {
            if event["event"] == "chunk_stored" {
                begun.insert(event["resource"].to_string());
            }
            (begun.len() == 2).then_some(())
        });
        without_password(running.kill_group());
        let url = &self.shop.status()["resources"][0];
        assert_eq!(
            (&url["resource"], &url["state"]),
            (&"url".into(), &"syncing".into()),
            "{url}"
        );
    }

    /// Asserts that a refused command left nothing anywhere.
    fn assert_untouched(&self) {
        assert!(!self.shop.path("state").exists(), "there is a state file");
        assert_eq!(self.shop.key_count(), 0, "there are keys in Redis");
    }

    /// Returns the four parts of an error without what differs from machine to machine.
    fn told(&self, refused: &Finished) -> String {
        assert_eq!(refused.stdout, "", "{refused}");
        let mut text = refused.stderr.clone();
        let folder = self.shop.path("").display().to_string();
        let database = &self.shop.database;
        for (had, shown) in [
            (folder.trim_end_matches('/'), "[folder]"),
            (database.name.as_str(), "[db]"),
            (&self.shop.redis.port().to_string(), "[port]"),
            (&port_of(&self.database_url), "[port]"),
        ] {
            text = text.replace(had, shown);
        }
        // As the database sees it, this machine has other names elsewhere.
        match text.split_once("'@'") {
            Some((user, rest)) => {
                let (_, rest) = rest.split_once('\'').expect("a quoted host");
                format!("{user}'@'[client]'{rest}")
            }
            None => text,
        }
    }
}

fn both() -> String {
    format!("{}{}", resource("url"), resource("page"))
}

fn login(database: &Database, user: &str, password: &str) -> String {
    database.url_with(|url| {
        url.set_username(user).expect("a user");
        url.set_password(Some(password)).expect("a password");
    })
}

fn port_of(url: &str) -> String {
    let url = url::Url::parse(url).expect("a URL");
    url.port().unwrap_or(3306).to_string()
}

fn without_password(finished: Finished) -> Finished {
    assert!(
        !finished.stdout.contains(PASSWORD) && !finished.stderr.contains(PASSWORD),
        "a password is shown"
    );
    finished
}

/// Asserts that this is one error in four parts.
fn is_one_error(text: &str) {
    let starts: Vec<&str> = text
        .lines()
        .map(|line| line.trim_start().split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(starts.first(), Some(&"error"), "{text}");
    assert!(starts.len() >= 4, "{text}");
    let (middle, end) = starts[1..].split_at(starts.len() - 3);
    assert!(middle.iter().all(|part| *part == "cause"), "{text}");
    assert_eq!(end, ["safe", "next"], "{text}");
}

#[tokio::test]
async fn servers_that_refuse_or_are_not_there_are_one_error_and_no_trace() {
    let guarded = Guarded::open("refused").await;
    let run = format!("run {PLAN}");
    let user = guarded.shop.database.name.clone();
    let wrong = "canary-Zq7-pw-but-wrong";
    let elsewhere = guarded.shop.database.url_with(|url| {
        url.set_host(Some("no-such-host.invalid")).expect("a host");
        url.set_password(Some(PASSWORD)).expect("a password");
    });
    let mut nowhere = url::Url::parse(&guarded.database_url).expect("a URL");
    nowhere.set_path("nowhere");
    let redis_port = guarded.shop.redis.port();
    let refusals = [
        (
            "wrong_password",
            "DATABASE_URL",
            login(&guarded.shop.database, &user, wrong),
        ),
        ("unknown_host", "DATABASE_URL", elsewhere),
        ("unknown_database", "DATABASE_URL", nowhere.into()),
        (
            "wrong_redis_password",
            "REDIS_URL",
            format!("redis://writer:{wrong}@127.0.0.1:{redis_port}/0"),
        ),
        (
            "unknown_redis_host",
            "REDIS_URL",
            format!("redis://writer:{PASSWORD}@no-such-host.invalid:6379/0"),
        ),
        (
            "redis_is_down",
            "REDIS_URL",
            format!("redis://writer:{PASSWORD}@127.0.0.1:1/0"),
        ),
    ];
    for (name, variable, value) in refusals {
        let refused = guarded.with(&run, variable, &value).exits(3);
        let text = guarded.told(&refused);
        is_one_error(&text);
        insta::assert_snapshot!(name, resolver(&text));
        let object = guarded
            .with(&format!("{run} --json"), variable, &value)
            .exits(3)
            .json();
        assert_eq!(object.len(), 1, "with --json, one object says the same");
        assert_eq!(object[0]["exit"], 3);
    }
    guarded.assert_untouched();
}

/// Resolvers say in different words that there is no such host.
fn resolver(text: &str) -> String {
    let Some((before, after)) = text.split_once("failed to lookup address information: ") else {
        return text.to_owned();
    };
    let rest = after.split_once('\n').map_or("", |(_, rest)| rest);
    // A resolver that is not reachable itself says `try later`; then the hint is another one.
    let next = "  next:  ";
    let rest = match rest.split_once(next) {
        Some((safe, hint)) => format!(
            "{safe}{next}[check], then {}",
            hint.split(", then ").last().unwrap_or_default()
        ),
        None => rest.to_owned(),
    };
    format!("{before}failed to lookup address information: [resolver]\n{rest}")
}

#[tokio::test]
async fn plans_and_words_that_make_no_sense_are_one_error_and_no_trace() {
    let guarded = Guarded::open("senseless").await;
    let run = format!("run {PLAN}");

    guarded.shop.plan(
        &format!("{}{}", resource("url"), resource("pages")),
        DEFAULTS,
    );
    let refused = guarded.rekindle(&run).exits(3);
    let text = guarded.told(&refused);
    is_one_error(&text);
    insta::assert_snapshot!("missing_table", text);

    guarded
        .shop
        .plan(&both().replace("key: key", "key: cay"), DEFAULTS);
    let refused = guarded.rekindle(&run).exits(3);
    let text = guarded.told(&refused);
    is_one_error(&text);
    insta::assert_snapshot!("missing_column", text);

    guarded.shop.plan(&both(), DEFAULTS);
    let refused = guarded.rekindle(&format!("{run} --only url,pgae")).exits(2);
    let text = guarded.told(&refused);
    is_one_error(&text);
    insta::assert_snapshot!("unknown_resource", text);

    let refused = guarded.rekindle(&format!("resume {PLAN}")).exits(3);
    let text = guarded.told(&refused);
    is_one_error(&text);
    insta::assert_snapshot!("nothing_to_resume", text);

    guarded
        .shop
        .plan(&format!("{}    form: [\n", both()), DEFAULTS);
    let refused = guarded.rekindle(&run).exits(3);
    insta::assert_snapshot!("broken_yaml", guarded.told(&refused));

    guarded
        .shop
        .plan(&both().replace("to: storage", "to: storag"), DEFAULTS);
    let refused = guarded.rekindle(&run).exits(3);
    insta::assert_snapshot!("plan_problems", guarded.told(&refused));

    guarded.assert_untouched();
}

#[tokio::test]
async fn x1_a_finished_run_leaves_nothing_to_resume_and_no_password_anywhere() {
    let mut guarded = Guarded::open("canary").await;
    // At the chattiest level, with a death on the way.
    guarded.half_done();
    let log = guarded
        .rekindle(&format!("run {PLAN} --log trace"))
        .exits(0);
    assert!(
        log.stderr.matches("DEBUG").count() >= 3,
        "the log says much: {log}"
    );
    for words in [
        "status",
        "history",
        "dead-letters show",
        "validate",
        "run --dry-run",
        "run --dry-run --json",
    ] {
        guarded.rekindle(&format!("{words} {PLAN}")).exits(0);
    }
    let refused = guarded.rekindle(&format!("resume {PLAN}")).exits(3);
    is_one_error(&refused.stderr);
    assert!(refused.line("cause:").ends_with(" is done"), "{refused}");
    guarded.shop.assert_redis_equals(&["url", "page"]).await;

    // While a run is at work: its files, its log beside them, and what `ps` shows of it.
    let mut command = guarded.command(&format!("run {PLAN}"));
    command.env("RK_FAIL", "after_commit:5:sleep");
    let held = Running::start(command);
    guarded.shop.wait_for_chunks(5);
    let seen = files(&guarded.shop.path("state"));
    assert!(
        seen.keys().any(|name| name.ends_with("-wal")),
        "{:?}",
        seen.keys()
    );
    for (name, bytes) in seen {
        let found = bytes
            .windows(PASSWORD.len())
            .any(|window| window == PASSWORD.as_bytes());
        assert!(!found, "{name} holds the password");
    }
    let pid = guarded.shop.status()["pid"].to_string();
    for pid in [pid, held.pid().to_string()] {
        let shown = fs::read(format!("/proc/{pid}/cmdline")).expect("it is alive");
        assert!(!String::from_utf8_lossy(&shown).contains(PASSWORD));
    }
    without_password(held.kill_group());
}

#[tokio::test]
async fn o1_a_changed_plan_is_refused_until_accepted_and_restarts_only_what_changed() {
    let guarded = Guarded::open("changed").await;
    guarded.half_done();
    let had = state(&guarded);
    let keys = guarded.shop.redis_content();
    let rows_before = rows_of(&guarded.shop);

    // Comments and order are no change.
    let plan = fs::read_to_string(guarded.shop.path(PLAN)).expect("the plan");
    guarded.shop.write_plan(&format!("# a remark\n{plan}"));
    guarded.rekindle(&format!("run {PLAN} --dry-run")).exits(0);

    guarded
        .shop
        .write_plan(&plan.replacen("fk }", "fk, where: \"id % 2 = 0\" }", 1));
    let refused = guarded.rekindle(&format!("run {PLAN}")).exits(3);
    let text = guarded.told(&refused);
    is_one_error(&text);
    insta::assert_snapshot!("changed_plan", without_run(&text));
    assert!(state(&guarded) == had, "the refused run changed the state");
    assert!(
        guarded.shop.redis_content() == keys,
        "the refused run wrote to the target"
    );

    let done = guarded
        .rekindle(&format!("run {PLAN} --accept-plan-change --json"))
        .exits(0)
        .json();
    let standing: BTreeMap<_, _> = done[0]["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .map(|one| {
            (
                one["name"].as_str().expect("a name").to_owned(),
                one["rows"].as_u64().expect("rows"),
            )
        })
        .collect();
    assert_eq!(
        standing["url"], 0,
        "the changed resource starts over: {standing:?}"
    );
    assert!(
        rows_before["page"] > 0,
        "both were under way: {rows_before:?}"
    );
    assert_eq!(
        standing["page"], rows_before["page"],
        "the other one goes on"
    );
    assert_eq!(done[0]["attempt"], 2);
    let halves: u64 = done
        .iter()
        .filter(|one| one["event"] == "resource_synced" && one["resource"] == "url")
        .filter_map(|one| one["rows"].as_u64())
        .sum();
    assert_eq!(halves, 5_000);
}

#[tokio::test]
async fn a_plan_that_changed_when_all_was_copied_but_not_finished_is_still_restored() {
    // Killed when everything is verified and nothing is called done yet.
    let mut shop = Shop::open("late").await;
    for table in ["url", "page"] {
        shop.table(table).await;
        shop.rows(table, 1, 500).await;
    }
    shop.plan(&resource("url"), DEFAULTS);
    let markers = || {
        shop.redis_content()
            .keys()
            .filter(|key| !key.starts_with(b"kv:"))
            .count()
    };
    let held = shop.start_failing(&format!("run {PLAN}"), "before_forget:1:sleep");
    wait_until("the run is finishing", || {
        shop.status()["state"] == "finishing" && markers() == 2
    });
    held.kill_group();
    shop.plan(&both(), DEFAULTS);
    shop.rekindle(&format!("run {PLAN}")).exits(3);
    shop.rekindle(&format!("run {PLAN} --accept-plan-change"))
        .exits(0);
    shop.assert_redis_equals(&["url", "page"]).await;
}

fn rows_of(shop: &Shop) -> BTreeMap<String, u64> {
    let status = shop.status();
    let resources = status["resources"].as_array().expect("resources");
    resources
        .iter()
        .map(|one| {
            (
                one["resource"].as_str().expect("a name").to_owned(),
                one["rows"].as_u64().expect("rows"),
            )
        })
        .collect()
}

/// Returns every event that the journal holds. (Its files may be folded together by a run that was refused.)
fn state(guarded: &Guarded) -> String {
    let id = guarded.shop.status()["run"]
        .as_str()
        .expect("a run")
        .to_owned();
    let story = guarded
        .rekindle(&format!("show {id} {PLAN} --json"))
        .exits(0);
    // Five events open a run, two bind its resources, and each of them has stored a chunk.
    assert!(story.stdout.lines().count() >= 9, "{story}");
    story.stdout
}

/// Run ids are random.
fn without_run(text: &str) -> String {
    let Some((before, after)) = text.split_once("run ") else {
        return text.to_owned();
    };
    format!("{before}run [id]{}", &after[6..])
}

#[tokio::test]
async fn o4_another_source_or_target_is_refused_with_both_shown() {
    let guarded = Guarded::open("elsewhere").await;
    guarded.half_done();
    let keys = guarded.shop.redis_content();
    let other_redis = RedisServer::start();

    let other_url = format!("redis://127.0.0.1:{}/0", other_redis.port());
    let refused = guarded
        .with(&format!("run {PLAN}"), "REDIS_URL", &other_url)
        .exits(3);
    let text = guarded
        .told(&refused)
        .replace(&other_redis.port().to_string(), "[other port]");
    is_one_error(&text);
    insta::assert_snapshot!("another_target", without_run(&text));
    let left: u64 = other_redis.ask(0, &redis::cmd("DBSIZE"));
    assert_eq!(left, 0, "nothing was written there");

    let mut other = Database::create("elsewhere_else").await;
    other
        .execute(
            "CREATE TABLE url (id BIGINT PRIMARY KEY, fk INT, `key` VARBINARY(255), data LONGBLOB); \
             CREATE TABLE page LIKE url",
        )
        .await;
    let refused = guarded
        .with(&format!("run {PLAN}"), "DATABASE_URL", &other.url())
        .exits(3);
    is_one_error(&refused.stderr);
    let cause = refused.line("cause:");
    assert!(
        cause.contains(&format!("/{}, now it is ", guarded.shop.database.name))
            && cause.ends_with(&other.name),
        "{cause}"
    );
    assert!(
        refused
            .line("next:")
            .contains(&format!("`rekindle run --new {PLAN}`")),
        "{refused}"
    );
    assert!(
        guarded.shop.redis_content() == keys,
        "the refused run wrote to the target"
    );

    guarded.rekindle(&format!("run {PLAN}")).exits(0);
}
