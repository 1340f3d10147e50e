//! Two runs never write one state file or one target: the second leaves at once and says who the first is.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::shop::{DEFAULTS, PLAN, Running, Shop, assert_same, files, resource, wait_until};

const ROWS: u64 = 3_000;

/// Rows that take long enough to be held in their midst.
const MANY: u64 = 60_000;

async fn shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    shop.plan(&resource("url"), DEFAULTS);
    shop
}

/// Returns the process that `status` names, having asserted that it is alive and a child of `running`.
fn owner(status: &Value, running: &Running) -> String {
    let pid = status["pid"]
        .as_u64()
        .expect("somebody works on it")
        .to_string();
    let about = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is alive");
    assert!(
        about.contains(&format!("PPid:\t{}\n", running.pid())),
        "{about}"
    );
    pid
}

#[tokio::test]
async fn j6_the_second_run_on_a_state_file_leaves_and_names_the_first() {
    let mut shop = shop("twice").await;
    let first = shop.held_after(&format!("run {PLAN}"), 5);
    let pid = owner(&shop.status(), &first);
    let (keys, state) = (shop.key_count(), files(&shop.path("state")));
    for command in ["run", "resume", "run --new"] {
        let second = shop.rekindle(&format!("{command} {PLAN}")).exits(6);
        let line = second.line("error:");
        assert!(
            line.contains("state/shop.sqlite` is in use by pid ")
                && line.contains(&format!(" pid {pid} on ")),
            "{line}"
        );
        assert!(
            second
                .stderr
                .contains("  safe:  nothing was touched; the other process goes on\n"),
            "{second}"
        );
        assert!(second.stderr.contains("  next:  "), "{second}");
    }
    assert_eq!(shop.key_count(), keys);
    assert!(
        files(&shop.path("state")) == state,
        "the second run changed the state files"
    );

    first.kill_group();
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn j7_the_second_state_file_on_a_redis_leaves_and_names_the_first() {
    let mut shop = shop("lease").await;
    let first = shop.held_after(&format!("run {PLAN}"), 5);
    let pid = owner(&shop.status(), &first);
    // Chunks that are ahead of the journal go on being written.
    first.pause();
    let content = shop.redis_content();
    let second = shop
        .rekindle(&format!("run {PLAN} --state other.sqlite"))
        .exits(6);
    let line = second.line("cause:");
    assert!(line.contains(&format!(" of pid {pid} on ")), "{line}");
    assert!(line.contains("/state/shop.sqlite"), "{line}");
    assert!(
        second.line("error:").contains("redis at 127.0.0.1:"),
        "{second}"
    );
    assert!(
        second.stderr.contains("  safe:  nothing was written\n"),
        "{second}"
    );
    assert!(
        shop.redis_content() == content,
        "the second run wrote to the target"
    );

    assert!(
        !shop.path("other.sqlite").exists(),
        "the second run left a state file behind"
    );

    // The owner itself is not kept out by the lease that its dead process left behind.
    first.kill_group();
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
    // And having ended in order, it left no lease behind for others.
    shop.rekindle(&format!("run {PLAN} --state other.sqlite"))
        .exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn the_second_state_file_on_a_folder_leaves_and_names_the_first() {
    let mut shop = shop("folder").await;
    shop.write_plan(&format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
         storage: {{ file: {{ path: ../out/, format: resp }} }}\nresources:\n{}{DEFAULTS}",
        resource("url")
    ));
    let first = shop.held_after(&format!("run {PLAN}"), 5);
    let pid = owner(&shop.status(), &first);
    first.pause();
    let out = files(&shop.path("out"));
    assert!(!out.is_empty());
    let second = shop
        .rekindle(&format!("run {PLAN} --state other.sqlite"))
        .exits(6);
    let line = second.line("cause:");
    assert!(line.contains(&format!(" of pid {pid} on ")), "{line}");
    assert!(
        second.stderr.contains("  safe:  nothing was written\n"),
        "{second}"
    );
    assert!(
        files(&shop.path("out")) == out,
        "the second run wrote to the target"
    );

    // A folder's lock dies with its process: nobody has to wait. What the dead run left there is not kept.
    first.kill_group();
    shop.rekindle(&format!("run {PLAN} --state other.sqlite"))
        .exits(0);
    load_into_redis(&shop);
    // A file's keys have no prefix.
    let wanted = shop.wanted(&["url"]).await.into_iter();
    let wanted = wanted
        .map(|(key, value)| (key[b"kv:".len()..].to_vec(), value))
        .collect();
    assert_same(&wanted, &shop.redis_content());
}

/// Changes what the tables say, so that the next run tells whose rows are whose.
async fn change_source(shop: &mut Shop, data: &str) {
    shop.database
        .execute(format!("UPDATE url SET data = {data}"))
        .await;
}

#[tokio::test]
async fn a_run_that_waited_while_another_filled_the_redis_starts_over() {
    let mut shop = shop("after").await;
    shop.half_done(5);
    // As if 30 seconds had passed.
    shop.redis.run("PEXPIRE rekindle:lease -1");
    change_source(&mut shop, "CONCAT(data, '+')").await;
    shop.rekindle(&format!("run {PLAN} --state other.sqlite"))
        .exits(0);
    change_source(&mut shop, "LEFT(data, CHAR_LENGTH(data) - 1)").await;

    let dry = shop.rekindle(&format!("run {PLAN} --dry-run")).exits(0);
    assert!(
        dry.stdout
            .contains("proves nothing of it: the rest is done again"),
        "{dry}"
    );
    let again = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(
        again
            .line("starts over")
            .ends_with("it was emptied, or another run wrote to it"),
        "{again}"
    );
    shop.assert_redis_equals(&["url"]).await;
}

/// Starts a run and stops it with SIGSTOP in its middle, as a suspended machine would.
fn asleep(shop: &Shop) -> Running {
    let running = shop.start(&format!("run {PLAN}"));
    wait_until("the run is on its way", || shop.key_count() > MANY / 6);
    running.pause();
    assert!(shop.key_count() < MANY, "it was held too late");
    // As if 30 seconds had passed.
    shop.redis.run("PEXPIRE rekindle:lease -1");
    running
}

#[tokio::test]
async fn a_run_that_slept_while_another_came_and_went_starts_over() {
    let mut shop = shop("slept").await;
    shop.rows("url", ROWS + 1, MANY).await;
    let first = asleep(&shop);
    change_source(&mut shop, "CONCAT(data, '+')").await;
    shop.rekindle(&format!("run {PLAN} --state other.sqlite"))
        .exits(0);
    change_source(&mut shop, "LEFT(data, CHAR_LENGTH(data) - 1)").await;
    first.go_on();
    let done = first.finish().exits(0);
    done.line("starts over");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_run_that_slept_leaves_the_target_to_the_one_that_is_at_work() {
    let mut shop = shop("woke").await;
    shop.rows("url", ROWS + 1, MANY).await;
    let first = asleep(&shop);
    let second = shop.start(&format!("run {PLAN} --state other.sqlite"));
    let claim = || shop.redis.get(b"rekindle:writer").unwrap_or_default();
    wait_until("the second run writes", || {
        String::from_utf8_lossy(&claim()).contains("other.sqlite")
    });
    second.pause();
    let theirs = shop.redis_content();
    first.go_on();
    let left = first.finish().exits(6);
    assert!(left.line("cause:").contains("other.sqlite"), "{left}");
    assert!(
        shop.redis_content() == theirs,
        "the first run wrote after it woke"
    );
    second.go_on();
    second.finish().exits(0);
    shop.rekindle(&format!("run {PLAN}"))
        .exits(0)
        .line("starts over");
    shop.assert_redis_equals(&["url"]).await;
}

/// Feeds what was restored to files to the shop's Redis.
fn load_into_redis(shop: &Shop) {
    for bytes in files(&shop.path("out")).into_values() {
        let mut pipe = Command::new("redis-cli")
            .args(["-p", &shop.redis.port().to_string(), "--pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-cli is installed");
        let mut stdin = pipe.stdin.take().expect("a pipe");
        stdin.write_all(&bytes).expect("it reads");
        drop(stdin);
        assert!(pipe.wait().expect("it ends").success());
    }
}
