//! Rows that cannot be copied go to the shop's own publisher: where it was left off, and only for the source's reasons.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, process::Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    postgres::{PgDatabase, stop_server},
    redis_server::RedisServer,
    search::{BOTH, assert_equal, wanted},
    search_server::SearchServer,
    shop::{DEFAULTS, PLAN, Running, Shop, assert_same, wait_until},
    support::server_url,
};

const ROWS: u64 = 3_000;
const IDS_PER_CALL: u64 = 500;

/// The stand-in for a shop's console.
const CONSOLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/console.sh");

/// A shop whose rows each belong to an entity of their own.
async fn shop(name: &str) -> Shop {
    shop_with(name, RedisServer::start()).await
}

async fn shop_with(name: &str, redis: RedisServer) -> Shop {
    let mut shop = Shop::with_redis(name, redis).await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    shop.database
        .execute(
            "UPDATE url SET fk = id; CREATE TABLE entity (id INT NOT NULL PRIMARY KEY); \
             INSERT INTO entity SELECT id FROM url",
        )
        .await;
    shop
}

fn resource(by: &str) -> String {
    format!(
        "  - name: url\n    from: {{ table: url, cursor: [id], key: key, value: data, entity: fk }}\n    to: storage\n    \
         fallback: {{ trigger: url, ids: {{ table: entity, column: id }}, by: {by} }}\n    \
         drain: {{ settle: 50ms, within: 20s }}\n"
    )
}

/// Writes a plan whose publisher is the console.
fn plan(shop: &Shop, console: &str, defaults: &str) {
    plan_within(shop, console, "1m", defaults);
}

fn plan_within(shop: &Shop, console: &str, within: &str, defaults: &str) {
    shop.plan(
        &resource("{ console: {} }"),
        &format!("console: {{ command: [{console}], within: {within} }}\n{defaults}"),
    );
}

/// Returns the program with what the console needs.
fn command(shop: &Shop, words: &str, more: &[(&str, &str)]) -> Command {
    let mut command = shop.command(words);
    command
        .env("CONSOLE_LOG", shop.path("console.log"))
        .env("CONSOLE_PORT", port())
        .env("CONSOLE_DATABASE", &shop.database.name)
        .env("CONSOLE_REDIS_PORT", shop.redis.port().to_string())
        .envs(more.iter().copied());
    command
}

fn port() -> String {
    let url = url::Url::parse(&server_url("MARIADB_URL")).expect("a URL");
    url.port().expect("a port").to_string()
}

/// Returns how often each id was given to the console, by calls that ended.
fn told(shop: &Shop) -> BTreeMap<u64, u32> {
    let mut told = BTreeMap::new();
    let log = fs::read_to_string(shop.path("console.log")).unwrap_or_default();
    for ids in log.lines().filter_map(|line| line.strip_prefix("end ")) {
        for id in ids.split(',') {
            *told.entry(id.parse().expect("an id")).or_default() += 1;
        }
    }
    told
}

/// Returns how many rows the console wrote to Redis.
fn sent(shop: &Shop) -> u64 {
    let log = fs::read_to_string(shop.path("console.log")).unwrap_or_default();
    log.lines()
        .filter_map(|line| line.split_once("replies: "))
        .map(|(_, replies)| replies.trim().parse::<u64>().expect("a number"))
        .sum()
}

fn fallback(shop: &Shop) -> Value {
    shop.status()["resources"][0]["fallback"].clone()
}

/// Breaks so many rows that copying stops at the limit of dead letters.
async fn poison(shop: &mut Shop) {
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id % 3 = 0")
        .await;
}

#[tokio::test]
async fn an_emptied_redis_ends_complete_although_unchanged_rows_sent_nothing() {
    let mut shop = shop("fb_empty").await;
    poison(&mut shop).await;
    // Where copying does not get before it stops: another type, other bytes of the same length, another length.
    shop.redis.run("RPUSH kv:url:1400 x");
    let same_length = format!("{{\"id\":1402,\"hash\":\"{}\"}}", "x".repeat(32));
    shop.redis.run(&format!("SET kv:url:1402 {same_length}"));
    shop.redis.run("SET kv:url:2999 stale");
    plan(&shop, CONSOLE, DEFAULTS);
    let done = Running::start(command(&shop, &format!("run {PLAN}"), &[])).finish();
    let done = done.exits(0);
    let why = done.line("goes to its publisher").to_owned();
    assert!(
        why.contains("(console, about ") && why.contains("more than `dead_letters` allows"),
        "{why}"
    );
    shop.assert_redis_equals(&["url"]).await;
    let told = told(&shop);
    assert_eq!(told.len() as u64, ROWS);
    assert!(told.values().all(|times| *times == 1), "each id once");
    assert_eq!(sent(&shop), ROWS / 3, "unchanged rows send nothing");

    let fallback = fallback(&shop);
    assert_eq!(fallback["ids"], ROWS);
    assert_eq!(fallback["calls"], ROWS / IDS_PER_CALL);
    assert!(fallback["ended_ms"].is_i64(), "{fallback}");
    let text = shop.rekindle(&format!("status {PLAN}")).exits(0).stdout;
    assert!(
        text.contains("url fell back to its publisher (console, all of it)")
            && text.contains("back since"),
        "{text}"
    );
    let run = shop.status()["run"].as_str().expect("a run").to_owned();
    let story = shop.rekindle(&format!("show {run} {PLAN}")).exits(0).stdout;
    assert!(
        story.contains("url goes to the publisher (console)") && story.contains("url: triggered"),
        "{story}"
    );
    // Nothing of ours is left in Redis beside the rows: the comparison above was of everything. The log is private.
    let log = shop.path("state/shop.sqlite.publisher.log");
    assert_eq!(
        fs::metadata(log).expect("a log").permissions().mode() & 0o777,
        0o600
    );
}

/// Leaves a run behind that was killed at `point` for the third time.
async fn killed_at(shop: &mut Shop, point: &str, calls: u64) {
    poison(shop).await;
    plan(shop, CONSOLE, DEFAULTS);
    let failing = format!("{point}:3:sleep");
    let running = Running::start(command(
        shop,
        &format!("run {PLAN}"),
        &[("RK_FAIL", &failing)],
    ));
    wait_until("the third call", || {
        let status = shop.status();
        let fallback = &status["resources"][0]["fallback"];
        status["working"] == true
            && fallback["calls"] == calls
            && (calls == 3 || fallback["open"]["ids"] == IDS_PER_CALL)
            && (point != "after_call" || told(shop).len() as u64 == 3 * IDS_PER_CALL)
    });
    println!(
        "{}",
        shop.rekindle(&format!("status {PLAN}")).exits(0).stdout
    );
    running.kill_group();
    assert_eq!(shop.status()["resources"][0]["state"], "triggering");
}

#[tokio::test]
async fn p3_m6_killed_between_two_calls_no_acknowledged_id_is_called_again() {
    let mut shop = shop("fb_killed").await;
    killed_at(&mut shop, "after_acknowledged", 3).await;
    assert_eq!(fallback(&shop)["after"][0]["int"], 3 * IDS_PER_CALL);
    Running::start(command(&shop, &format!("run {PLAN}"), &[]))
        .finish()
        .exits(0);
    let told = told(&shop);
    assert_eq!(told.len() as u64, ROWS);
    assert!(told.values().all(|times| *times == 1), "each id once");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn p3_killed_before_the_answer_is_journaled_that_call_alone_is_made_again() {
    let mut shop = shop("fb_unknown").await;
    killed_at(&mut shop, "after_call", 2).await;
    Running::start(command(&shop, &format!("run {PLAN}"), &[]))
        .finish()
        .exits(0);
    let again = |id: &u64| (2 * IDS_PER_CALL + 1..=3 * IDS_PER_CALL).contains(id);
    let told = told(&shop);
    assert_eq!(told.len() as u64, ROWS);
    for (id, times) in &told {
        assert_eq!(*times, if again(id) { 2 } else { 1 }, "id {id}");
    }
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn broken_rows_are_mended_by_their_entities_and_those_that_stay_broken_say_so() {
    let mut shop = shop("fb_rows").await;
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id IN (7, 1500, 2999)")
        .await;
    plan(&shop, CONSOLE, DEFAULTS);
    let run = command(
        &shop,
        &format!("run {PLAN}"),
        &[("CONSOLE_HOPELESS", "1500")],
    );
    let done = Running::start(run).finish().exits(4);
    assert!(
        done.line("broken rows go to its publisher")
            .contains("3 of its rows are broken"),
        "{done}"
    );
    assert!(
        done.stderr
            .contains("done, but 1 row could not be restored"),
        "{done}"
    );
    assert_eq!(told(&shop), BTreeMap::from([(7, 1), (1500, 1), (2999, 1)]));
    shop.assert_redis_equals(&["url"]).await;
    let status = shop.status();
    assert_eq!(
        (&status["rows"], &status["dead_letters"]),
        (&ROWS.into(), &1.into())
    );
    let letters = shop
        .rekindle(&format!("dead-letters show {PLAN} --json"))
        .exits(0)
        .json();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["cursor"], "1500");
    let reason = letters[0]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("also after its publisher was called"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_statement_mends_rows_as_well() {
    let mut shop = shop("fb_sql").await;
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id IN (8, 1501)")
        .await;
    shop.plan(
        &resource(
            "{ sql: { url: \"${DATABASE_URL}\", statement: \"UPDATE url SET data = 'mended' WHERE fk IN ({ids})\" } }",
        ),
        DEFAULTS,
    );
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
    assert_eq!(shop.redis.get(b"kv:url:8"), Some(b"mended".to_vec()));
    assert_eq!(fallback(&shop)["ids"], 2);
    // Two rows at once, by hand.
    let by_hand = format!("trigger {PLAN} -r url -i 5,6");
    shop.rekindle(&by_hand).exits(0);
    let mended = "SELECT COUNT(*) FROM url WHERE data = 'mended'";
    assert_eq!(shop.database.number(mended).await, 4);
    let shown = shop
        .rekindle(&format!("trigger {PLAN} -r url --dry-run"))
        .exits(0);
    assert!(
        shown.stdout.contains("6 calls with 3000 ids would be made")
            || shown
                .stdout
                .contains("6 calls with 3,000 ids would be made"),
        "{shown}"
    );
    assert_eq!(shop.database.number(mended).await, 4);
    let preview = shop.rekindle(&format!("run {PLAN} --dry-run")).exits(0);
    assert!(
        preview.stdout.contains("sql, ids of entity.id"),
        "{preview}"
    );
}

#[tokio::test]
async fn rows_that_get_new_primary_keys_are_found_by_their_entities() {
    let mut shop = shop("fb_moved").await;
    // Two rows of each entity, one of them broken: the publisher deletes both and inserts them elsewhere.
    shop.database
        .execute(
            "UPDATE url SET fk = CEIL(id / 2); CREATE INDEX of_entity ON url (fk); \
             UPDATE url SET data = NULL WHERE id IN (8, 1501)",
        )
        .await;
    let moving = "INSERT INTO url SELECT id + 100000, fk, `key`, CONCAT('new ', id) FROM url WHERE id < 100000 AND fk IN ({ids}); \
                  DELETE FROM url WHERE id < 100000 AND fk IN ({ids})";
    shop.plan(
        &resource(&format!(
            "{{ sql: {{ url: \"${{DATABASE_URL}}\", statement: \"{moving}\" }} }}"
        )),
        DEFAULTS,
    );
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let moved = "SELECT COUNT(*) FROM url WHERE id > 100000";
    assert_eq!(shop.database.number(moved).await, 4);
    shop.assert_redis_equals(&["url"]).await;
    assert_eq!(shop.redis.get(b"kv:url:7"), Some(b"new 7".to_vec()));
    let none = shop.rekindle(&format!("dead-letters list {PLAN}")).exits(0);
    assert_eq!(none.stdout, "no dead letters\n");
}

#[tokio::test]
async fn a_console_that_fails_or_hangs_blocks_and_is_called_again_by_the_next_run() {
    let mut shop = shop("fb_console").await;
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id = 7")
        .await;
    let quick = "defaults:\n  retry: { attempts: 2, base: 1ms, cap: 2ms, within: 500ms }\n";
    for (console, mode, says) in [
        ("/nowhere/console", "", "cannot be started"),
        ("sh, -c, 'exit 127'", "", "the program was not found"),
        (CONSOLE, "refuse", "ended with exit code 3"),
        (CONSOLE, "hang", "did not end within 0.5 s and was killed"),
    ] {
        let within = if mode == "hang" { "500ms" } else { "1m" };
        plan_within(&shop, console, within, quick);
        let run = command(&shop, &format!("run {PLAN}"), &[("CONSOLE_MODE", mode)]);
        let done = Running::start(run).finish().exits(5);
        assert!(done.stderr.contains(says), "{says}: {done}");
        assert!(!done.stderr.contains("geheim"), "{done}");
    }
    assert_eq!(told(&shop), BTreeMap::new());
    plan(&shop, CONSOLE, quick);
    Running::start(command(&shop, &format!("run {PLAN}"), &[]))
        .finish()
        .exits(0);
    assert_eq!(told(&shop), BTreeMap::from([(7, 1)]));
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn rows_rewritten_behind_the_cursor_arrive_although_nobody_works_on_the_shops_queues() {
    let mut shop = shop("fb_behind").await;
    poison(&mut shop).await;
    // Good rows that are copied before the run falls back, and that the shop writes anew when it is called for others:
    // the entities of the first rows come last.
    shop.database
        .execute(format!(
            "UPDATE url SET data = '{{\"old\":1}}' WHERE id IN (1, 2, 98, 500); UPDATE url SET fk = {ROWS} + 1 - id"
        ))
        .await;
    plan(&shop, CONSOLE, DEFAULTS);
    let run = command(&shop, &format!("run {PLAN}"), &[("CONSOLE_MODE", "silent")]);
    let done = Running::start(run).finish().exits(0);
    done.line("goes to its publisher");
    assert_eq!(sent(&shop), 0, "nothing arrived by itself");
    let old = "SELECT COUNT(*) FROM url WHERE data LIKE '%old%'";
    assert_eq!(shop.database.number(old).await, 0, "they were regenerated");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_console_that_is_refused_its_database_for_a_while_is_waited_for() {
    let mut shop = shop("fb_refused").await;
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id IN (7, 2999)")
        .await;
    let soon = "defaults:\n  retry: { attempts: 2, base: 10ms, cap: 200ms }\n";
    plan(&shop, CONSOLE, soon);
    let down = shop.path("console.down");
    fs::write(&down, "").expect("a file");
    let away = down.display().to_string();
    let run = command(&shop, &format!("run {PLAN}"), &[("CONSOLE_DOWN", &away)]);
    let mut running = Running::start(run);
    running.says("waiting for the publisher of url, ");
    let mut waiting = Value::Null;
    wait_until("status says what is waited for", || {
        waiting = shop.status()["waiting"][0].clone();
        waiting["tries"].as_u64() >= Some(5)
    });
    assert_eq!(waiting["place"], "the publisher of url");
    let error = waiting["error"].as_str().expect("an error");
    assert!(error.contains("a connection was refused"), "{error}");
    assert_eq!(fallback(&shop)["open"]["ids"], 2);
    fs::remove_file(&down).expect("it was there");
    let done = running.finish().exits(0);
    done.line("the publisher of url works again after ");
    assert_eq!(told(&shop), BTreeMap::from([(7, 1), (2999, 1)]));
    shop.assert_redis_equals(&["url"]).await;
    let run = shop.status()["run"].as_str().expect("a run").to_owned();
    let story = shop.rekindle(&format!("show {run} {PLAN}")).exits(0).stdout;
    // However often it was tried: the ids that are out are journaled once.
    assert_eq!(
        story.matches("the publisher is called with").count(),
        1,
        "{story}"
    );
}

#[tokio::test]
async fn a_publishers_database_that_is_stopped_in_mid_call_is_waited_for_and_called_again() {
    let mut shop = Shop::<PgDatabase>::open_postgres("fb_stopped").await;
    shop.table("url").await;
    shop.rows("url", 1, 2_000).await;
    shop.database
        .execute(
            "UPDATE url SET fk = id; UPDATE url SET data = NULL WHERE id IN (8, 1501); \
             CREATE TABLE entity (id INT PRIMARY KEY); INSERT INTO entity SELECT id FROM url",
        )
        .await;
    let soon = "defaults:\n  retry: { attempts: 2, base: 10ms, cap: 200ms }\n";
    let mending = "SELECT pg_sleep(1); UPDATE url SET data = 'mended' WHERE fk IN ({ids})";
    shop.plan(
        &resource(&format!(
            "{{ sql: {{ url: \"${{DATABASE_URL}}\", statement: \"{mending}\" }} }}"
        )),
        soon,
    );
    let mut running = shop.start(&format!("run {PLAN}"));
    let calling = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND state = 'active' AND query LIKE 'SELECT pg_sleep(1)%'";
    let begun = std::time::Instant::now();
    while shop.database.number(calling).await == 0 {
        assert!(begun.elapsed().as_secs() < 60, "it never calls");
    }
    let stopped = stop_server();
    running.says("waiting for the publisher of url, ");
    drop(stopped);
    let done = running.finish().exits(0);
    done.line("the publisher of url works again after ");
    shop.database.reconnect().await;
    let mended = "SELECT COUNT(*) FROM url WHERE data = 'mended'";
    assert_eq!(shop.database.number(mended).await, 2);
    assert_same(&shop.wanted(&["url"], "kv:").await, &shop.redis_content());
}

#[tokio::test]
async fn an_index_gets_every_row_of_a_resource_that_fell_back_and_single_rows_that_were_mended() {
    for (product, poisoned) in BOTH
        .into_iter()
        .zip(["id % 3 = 0", "id IN (7, 1500, 2999)"])
    {
        let server = SearchServer::shared(product);
        server.create("t_url");
        let mut shop = shop("fb_search").await;
        shop.database
            .execute(format!("UPDATE url SET data = NULL WHERE {poisoned}"))
            .await;
        // There before, and not what the table says.
        let stale = serde_json::json!({ "id": -1 });
        server.must("PUT", "/t_url/_doc/url:2998", &stale);
        let mending =
            "UPDATE url SET data = JSON_OBJECT('id', id) WHERE data IS NULL AND fk IN ({ids})";
        let resource = resource(&format!(
            "{{ sql: {{ url: \"${{DATABASE_URL}}\", statement: \"{mending}\" }} }}"
        ));
        shop.write_plan(&format!(
            "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  storage: \
             {{ elasticsearch: {{ url: \"{}\", index: \"t_url\" }} }}\nresources:\n{resource}{DEFAULTS}",
            server.url()
        ));
        let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
        let says = if poisoned.contains('%') {
            "goes to its publisher"
        } else {
            "broken rows go to its publisher"
        };
        done.line(says);
        assert_equal(&wanted(&mut shop, "url").await, &server.documents("t_url"));
    }
}

#[tokio::test]
async fn a_target_that_is_down_and_kills_by_hand_never_lead_to_the_publisher() {
    let mut shop = shop("fb_down").await;
    let one_by_one = "defaults:\n  chunk: { rows: 1 }\n  parallel: { resources: 1, partitions: 1 }\n  \
                      retry: { attempts: 200, base: 20ms, cap: 100ms }\n";
    plan(&shop, CONSOLE, one_by_one);
    for kill in 1..=20 {
        let running = shop.start_failing(&format!("run {PLAN}"), "before_write:2:sleep");
        wait_until("a chunk more", || {
            let status = shop.status();
            status["working"] == true && status["rows"].as_u64() >= Some(kill)
        });
        running.kill_group();
    }
    plan(&shop, CONSOLE, &one_by_one.replace("rows: 1 ", "rows: 20 "));
    let mut running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > 60);
    running.pause();
    shop.redis.kill();
    running.go_on();
    running.says("trying again in");
    shop.redis.launch();
    running.finish().exits(0);
    assert_eq!(fallback(&shop), Value::Null);
    assert_eq!(told(&shop), BTreeMap::new());
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_single_row_that_ends_the_process_for_memory_sends_the_resource_to_its_publisher() {
    let mut shop = shop("fb_memory").await;
    let one_by_one =
        "defaults:\n  chunk: { rows: 1 }\n  parallel: { resources: 1, partitions: 1 }\n";
    plan(&shop, CONSOLE, one_by_one);
    let failing = [("RK_FAIL", "before_read:1:sleep")];
    let running = Running::start(command(&shop, &format!("run {PLAN}"), &failing));
    // What a process that gets no memory does to itself: the first time nobody is alone yet, then twice at one row.
    // The parent holds the state file for a moment too, to journal a death.
    let parent = Value::from(running.pid().as_raw_nonzero().get());
    let mut before = parent.clone();
    for attempt in 1..=3 {
        let mut pid = Value::Null;
        wait_until("another process reads", || {
            let status = shop.status();
            pid = status["pid"].clone();
            let attempts = status["attempts"].as_array().map_or(0, Vec::len);
            // Before its attempt is journaled, a process that dies was not at work on anything.
            status["working"] == true
                && pid != before
                && pid != parent
                && attempts == attempt
                && status["state"] == "restoring"
                && status["resources"][0]["state"] == "syncing"
        });
        before = pid.clone();
        let pid = i32::try_from(pid.as_i64().expect("a pid")).expect("a pid");
        kill_process(Pid::from_raw(pid).expect("a pid"), Signal::ABORT).expect("it is there");
    }
    wait_until("the publisher has every id", || {
        told(&shop).len() as u64 == ROWS
    });
    running.kill_group();
    let fallback = fallback(&shop);
    let why = fallback["why"].as_str().expect("a reason");
    assert!(why.contains("killed for memory 2 times in a row"), "{why}");
    plan(&shop, CONSOLE, DEFAULTS);
    Running::start(command(&shop, &format!("run {PLAN}"), &[]))
        .finish()
        .exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn without_a_publisher_the_resource_says_so_and_blocks() {
    let mut shop = shop("fb_none").await;
    poison(&mut shop).await;
    shop.plan(&crate::shop::resource("url"), DEFAULTS);
    let done = shop.rekindle(&format!("run {PLAN}")).exits(5);
    assert!(done.stderr.contains("it has no publisher"), "{done}");
    let wrong = command(&shop, &format!("run {PLAN} --new"), &[]);
    shop.plan(
        &resource("{ console: {} }").replace("table: entity", "table: entities"),
        &format!("console: {{ command: [{CONSOLE}] }}\n{DEFAULTS}"),
    );
    let refused = Running::start(wrong).finish().exits(3);
    assert!(
        refused.stderr.contains("fallback of resource `url`")
            && refused.stderr.contains("has no table `entities`"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_ends_the_console_and_calls_it_again_next_time() {
    let mut shop = shop("fb_stop").await;
    shop.database
        .execute("UPDATE url SET data = NULL WHERE id = 7")
        .await;
    plan(&shop, CONSOLE, DEFAULTS);
    let run = command(&shop, &format!("run {PLAN}"), &[("CONSOLE_MODE", "hang")]);
    let running = Running::start(run);
    let mut pid = String::new();
    wait_until("the console hangs", || {
        let log = fs::read_to_string(shop.path("console.log")).unwrap_or_default();
        let line = log.lines().find_map(|line| line.strip_prefix("pid "));
        pid = line.unwrap_or_default().to_owned();
        line.is_some()
    });
    kill_process(running.pid(), Signal::TERM).expect("it is there");
    running.finish().exits(130);
    wait_until("the console is gone", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    let status = fallback(&shop);
    assert_eq!(
        (&status["calls"], &status["open"]["ids"]),
        (&0.into(), &1.into())
    );
    Running::start(command(&shop, &format!("run {PLAN}"), &[]))
        .finish()
        .exits(0);
    assert_eq!(told(&shop), BTreeMap::from([(7, 1)]));
    shop.assert_redis_equals(&["url"]).await;
}
