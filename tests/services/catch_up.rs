//! A run ends with what changed behind its cursors, and looks at nothing else where a column tells what that is.

use std::path::PathBuf;

use sqlx::{AssertSqlSafe, Executor};
use tempfile::TempDir;

use crate::{
    postgres::PgDatabase,
    redis_server::RedisServer,
    shop::{DEFAULTS, Finished, Named, PLAN, Running, Shop, assert_same, resource},
};

/// A resource that is caught up with by `updated_at`.
fn changing(name: &str) -> String {
    format!("{}    catch_up: {{ column: updated_at }}\n", resource(name))
}

/// Returns what is between two parts of a line.
#[track_caller]
fn between<'a>(line: &'a str, before: &str, after: &str) -> &'a str {
    let rest = line.split_once(before).map(|(_, rest)| rest);
    let found = rest.and_then(|rest| rest.split_once(after));
    found
        .unwrap_or_else(|| panic!("`{before}...{after}` in {line}"))
        .0
}

#[tokio::test]
async fn only_rows_that_changed_since_the_run_began_are_looked_at_again() {
    let mut shop = Shop::open("catch_up_since").await;
    shop.table("url").await;
    shop.rows("url", 11, 5_000).await;
    // The last change was an hour ago. Everything that follows is older than now by more than the overlap, so that a
    // watermark that was taken again by a later process would miss it.
    shop.database
        .execute(
            "SET time_zone = '+00:00'; ALTER TABLE url ADD updated_at DATETIME(3), ADD INDEX (updated_at); \
             UPDATE url SET updated_at = UTC_TIMESTAMP() - INTERVAL 2 HOUR; \
             UPDATE url SET updated_at = UTC_TIMESTAMP() - INTERVAL 1 HOUR WHERE id = 3000; \
             UPDATE url SET updated_at = NULL WHERE id = 17",
        )
        .await;
    shop.plan(&changing("url"), DEFAULTS);
    let checked = shop.rekindle(&format!("validate {PLAN}")).exits(0);
    assert!(!checked.stdout.contains("no index finds"), "{checked}");
    assert!(
        checked
            .stdout
            .contains("resources.url.catch_up.overlap: 5m, or 1000"),
        "{checked}"
    );
    let name = shop.database.name.clone();
    let mut late = shop.database.another().await;
    for sql in [
        format!("USE {name}"),
        "SET time_zone = '+00:00'".to_owned(),
        "START TRANSACTION".to_owned(),
        "UPDATE url SET data = 'late', updated_at = UTC_TIMESTAMP() - INTERVAL 61 MINUTE WHERE id = 15"
            .to_owned(),
    ] {
        late.execute(AssertSqlSafe(sql)).await.expect("it obeys");
    }
    // Held when a fifth of the rows are journaled, and killed: what changes now does so behind its cursors.
    shop.half_done(10);
    late.execute("COMMIT").await.expect("it obeys");
    let silent = shop.redis.get(b"kv:url:16").expect("a row that was stored");
    shop.database
        .execute(
            "UPDATE url SET data = 'new', updated_at = UTC_TIMESTAMP() - INTERVAL 30 MINUTE WHERE id BETWEEN 20 AND 49; \
             UPDATE url SET data = 'new' WHERE id = 17; UPDATE url SET data = 'unseen' WHERE id = 16; \
             INSERT INTO url VALUES (1, 1, 'url:1', 'inserted', UTC_TIMESTAMP() - INTERVAL 29 MINUTE), \
             (9000, 1, 'url:9000', 'inserted', UTC_TIMESTAMP() - INTERVAL 28 MINUTE)",
        )
        .await;
    // Killed while it catches up; more changes before it goes on.
    let run = format!("run {PLAN} --single-process");
    let killed = shop.start_failing(&run, "before_compare:1:kill").finish();
    assert_eq!(killed.signal, Some(9), "{killed}");
    shop.database
        .execute("UPDATE url SET data = 'newer', updated_at = UTC_TIMESTAMP() WHERE id = 21")
        .await;

    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    let told = done.line("url: caught up:");
    // Thirty rows, the late one, the one that says nothing, and those inserted.
    assert!(told.contains("34 keys rewritten"), "{told}");
    assert!(
        told.contains("(by `updated_at`) are as the source had them at 2"),
        "{told}"
    );
    assert!(
        told.contains(&format!("`rekindle verify {PLAN} --orphans`")),
        "{told}"
    );
    let since = between(told, "rows changed since ", " (by");
    let expected = shop
        .database
        .number(format!(
            "SELECT updated_at - INTERVAL 5 MINUTE = '{since}' FROM url WHERE id = 3000"
        ))
        .await;
    assert_eq!(expected, 1, "an hour and five minutes ago: {told}");
    let story = shop.status()["run"].as_str().expect("a run").to_owned();
    let story = shop.rekindle(&format!("show {story} {PLAN}")).exits(0);
    assert!(
        story
            .stdout
            .contains(&format!("rows changed since {since}")),
        "{story}"
    );
    // Those, and the last change before the run: no other row was even compared.
    assert!(
        story.stdout.contains("catch-up: 35 rows compared"),
        "{story}"
    );
    assert_eq!(shop.redis.get(b"kv:url:16"), Some(silent));

    let mut wanted = shop.wanted(&["url"]).await;
    let mut found = shop.redis_content();
    for side in [&mut wanted, &mut found] {
        side.remove(&b"kv:url:16"[..])
            .expect("the row that nobody told of");
    }
    assert_same(&wanted, &found);
}

/// Waits for the run while `change` is done again and again; returns how often that was while the run was at work.
async fn meanwhile(mut running: Running, mut change: impl AsyncFnMut(u64)) -> (Finished, u64) {
    let mut changes = 0;
    while running.is_at_work() {
        change(changes).await;
        changes += 1;
    }
    (running.finish(), changes)
}

#[tokio::test]
async fn what_a_writer_changes_all_through_a_run_is_in_the_target() {
    let mut shop = Shop::<PgDatabase>::open_postgres("catch_up_writer").await;
    shop.table("url").await;
    shop.rows("url", 1, 20_000).await;
    shop.database
        .execute(
            "ALTER TABLE url ADD updated_at TIMESTAMPTZ; CREATE UNIQUE INDEX ON url (key); \
             UPDATE url SET updated_at = now() - interval '1 day'",
        )
        .await;
    let resources =
        changing("url") + "    keys: \"url:\"\n    throttle: { rows_per_second: 12000 }\n";
    shop.plan(&resources, DEFAULTS);
    let checked = shop.rekindle(&format!("validate {PLAN}")).exits(0);
    assert!(
        checked
            .stdout
            .contains("no index finds the rows of table `url` whose `updated_at` is recent"),
        "{checked}"
    );
    let mut command = shop.command(&format!("run {PLAN}"));
    command.env("TZ", "UTC");
    let database = &mut shop.database;
    let (done, changes) = meanwhile(Running::start(command), async |nth| {
        let (id, gone) = (1 + nth * 131 % 20_000, 1 + nth * 173 % 20_000);
        database
            .execute(format!(
                "UPDATE url SET data = 'new {nth}', updated_at = clock_timestamp() WHERE id = {id}; \
                 DELETE FROM url WHERE id = {gone}; \
                 INSERT INTO url VALUES (-{nth} - 1, 1, 'url:before:{nth}', 'inserted', clock_timestamp()); \
                 INSERT INTO url VALUES ({nth} + 20001, 1, 'url:after:{nth}', 'inserted', clock_timestamp())"
            ))
            .await;
    })
    .await;
    let done = done.exits(0);
    assert!(changes > 50, "{changes} changes while the run was at work");
    // What it says is so: every change that was committed before that moment is there.
    let told = done.line("url: caught up:");
    crate::shop::told(&format!(
        "{changes} changes while the run was at work; {told}"
    ));
    let at = between(told, "as the source had them at ", "; keys");
    let before = format!("updated_at < timestamptz '{at}+00' - interval '100 milliseconds'");
    let early = shop
        .database
        .number(format!(
            "SELECT COUNT(*) FROM url WHERE {before} AND updated_at > now() - interval '1 hour'"
        ))
        .await;
    assert!(
        early > 50,
        "{early} changes before the run caught up: {told}"
    );
    shop.database
        .execute(format!(
            "CREATE TABLE reached AS SELECT key, data FROM url WHERE {before}"
        ))
        .await;
    let wanted = shop.wanted(&["reached"], "kv:").await;
    let mut found = shop.redis_content();
    found.retain(|key, _| wanted.contains_key(key));
    assert_same(&wanted, &found);
    // What came later, and what was deleted, is found by a comparison.
    let mended = shop.rekindle(&format!("verify {PLAN} --repair --prune --yes --json"));
    let mended = crate::verify::report(mended.exits(0), 0);
    crate::shop::told(&format!(
        "then: {}, {} removed",
        mended["verdict"], mended["pruned"]
    ));
    assert!(mended["pruned"].as_u64() > Some(0), "{mended}");
    let wanted = shop.wanted(&["url"], "kv:").await;
    assert_same(&wanted, &shop.redis_content());
}

#[tokio::test]
async fn a_table_that_cannot_tell_is_compared_whole_or_refused() {
    let mut shop = Shop::open("catch_up_without").await;
    shop.table("url").await;
    shop.rows("url", 11, 2_000).await;
    shop.plan(&changing("url"), DEFAULTS);
    let says = "table `url` has no column `updated_at`";
    let checked = shop.rekindle(&format!("validate {PLAN}")).exits(0);
    assert!(checked.stdout.contains(says), "{checked}");
    shop.half_done(5);
    shop.database
        .execute("UPDATE url SET data = 'new' WHERE id < 50")
        .await;
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    let told = done.line("url: caught up: 39 keys rewritten");
    assert!(
        told.contains(&format!("{says}, so every row is as the source had it at ")),
        "{told}"
    );
    shop.assert_redis_equals(&["url"]).await;

    shop.database
        .execute("ALTER TABLE url ADD updated_at VARCHAR(30), ADD changed DATE")
        .await;
    for command in ["validate", "run"] {
        let refused = shop.rekindle(&format!("{command} {PLAN} --json")).exits(3);
        let why = "its type is varchar(30), and not a date, a date and time, or a whole number; `changed` would do";
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

/// A SQLite file.
struct File(TempDir);

impl File {
    fn path(&self) -> PathBuf {
        self.0.path().join("shop.db")
    }

    fn execute(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.path()).expect("opens");
        connection.execute_batch(sql).expect(sql);
    }
}

impl Named for File {
    fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }
}

#[tokio::test]
async fn a_sqlite_file_is_caught_up_with_by_its_own_moments() {
    let file = File(TempDir::new().expect("a folder"));
    file.execute(
        "PRAGMA journal_mode = WAL; \
         CREATE TABLE url (id INTEGER PRIMARY KEY, fk INT, key TEXT, data TEXT, updated_at DATETIME); \
         WITH RECURSIVE seq(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM seq WHERE id < 1000) \
         INSERT INTO url SELECT id, id, 'url:' || id, 'old', datetime('now', '-2 hours') FROM seq; \
         UPDATE url SET updated_at = datetime('now', '-1 hours') WHERE id = 1000",
    );
    let shop = Shop::of(file, RedisServer::start());
    shop.plan(&changing("url"), DEFAULTS);
    shop.half_done(3);
    shop.database.execute(
        "UPDATE url SET data = 'new', updated_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE id IN (1, 2); \
         UPDATE url SET data = 'unseen' WHERE id = 3; UPDATE url SET updated_at = NULL, data = 'new' WHERE id = 4",
    );
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    done.line("url: caught up: 3 keys rewritten; rows changed since 2");
    let values = [1, 2, 3, 4].map(|id| shop.redis.get(format!("kv:url:{id}").as_bytes()));
    assert_eq!(
        values,
        ["new", "new", "old", "new"].map(|text| Some(text.into()))
    );
    // For programs, too: since when, by which column, and as of when.
    let events = shop.rekindle(&format!("run {PLAN} --json")).exits(0).json();
    let caught_up = events.iter().find(|one| one["event"] == "caught_up");
    let reached = &caught_up.expect("an event")["resources"][0]["reached"];
    let since = reached["since"].as_str().expect("a watermark");
    let words =
        format!("rows changed since {since} (by `updated_at`) are as the source had them at ");
    assert!(
        reached["words"]
            .as_str()
            .is_some_and(|all| all.starts_with(&words)),
        "{reached}"
    );
    assert!(
        reached["column"] == "updated_at" && reached["at_ms"].is_u64(),
        "{reached}"
    );
}
