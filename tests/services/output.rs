//! What is written where: plain lines in a pipe, events as JSON, and readers that go away.

use std::process::Command;

use serde_json::Value;

use crate::shop::{DEFAULTS, Finished, PLAN, Running, Shop, chunks_stored, resource};

async fn shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, 5_000).await;
    shop.plan(&resource("url"), DEFAULTS);
    shop
}

/// Runs the program by a shell: `$REKINDLE` is its path.
fn shell(shop: &Shop, script: &str) -> Finished {
    let like = shop.command("");
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .current_dir(shop.path(""))
        .env("REKINDLE", like.get_program());
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Running::start(command).finish()
}

#[tokio::test]
async fn a_pipe_gets_plain_lines_on_stderr_and_nothing_on_stdout() {
    let mut shop = shop("lines").await;
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert_eq!(done.stdout, "");
    assert!(!done.stderr.contains(['\u{1b}', '\r']), "{done}");
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!(
        lines[0].starts_with("run ") && lines[0].contains(" begins, state file "),
        "{done}"
    );
    assert!(done.line("url: about").ends_with(" partitions"), "{done}");
    done.line("url: synced, 5,000 rows, ");
    assert!(
        done.line(" is done: 5,000 rows, ").contains(" rows/s)"),
        "{done}"
    );
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn json_is_one_event_a_line_from_the_start_to_the_end_of_the_run() {
    let mut shop = shop("json").await;
    let done = shop.rekindle(&format!("run {PLAN} --json")).exits(0);
    assert_eq!(done.stderr, "");
    let events = done.json();
    let kinds: Vec<&str> = events
        .iter()
        .map(|one| one["event"].as_str().expect("a kind"))
        .collect();
    assert_eq!(
        (kinds[0], *kinds.last().expect("events")),
        ("run_started", "run_ended")
    );
    let chunks: Vec<&Value> = events
        .iter()
        .filter(|one| one["event"] == "chunk_stored")
        .collect();
    let mut rows = chunks.iter().map(|one| one["rows"].as_u64().expect("rows"));
    assert!(
        rows.clone()
            .zip(rows.clone().skip(1))
            .all(|(before, after)| before < after)
    );
    assert_eq!(rows.next_back(), Some(5_000));
    let end = &events[events.len() - 1];
    assert_eq!(
        (&end["state"], &end["rows"], &end["dead_letters"]),
        (&"done".into(), &5_000.into(), &0.into())
    );
    assert_eq!(chunks_stored(&shop.status()), chunks.len() as u64);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn a_reader_that_goes_away_does_not_end_the_run() {
    let mut shop = shop("head").await;
    for script in [
        "\"$REKINDLE\" run plans/shop.yaml --json | head -1; exit ${PIPESTATUS[0]}",
        "\"$REKINDLE\" run plans/shop.yaml 2>&1 | head -1; exit ${PIPESTATUS[0]}",
    ] {
        shop.redis.run("FLUSHDB");
        let done = shell(&shop, script).exits(0);
        assert_eq!(done.stdout.lines().count(), 1, "{done}");
        assert_eq!(shop.status()["state"], "done");
        shop.assert_redis_equals(&["url"]).await;
    }
    // A log on a full disk is no reason to stop either.
    shop.redis.run("FLUSHDB");
    shell(
        &shop,
        "exec \"$REKINDLE\" run plans/shop.yaml >/dev/full 2>/dev/full",
    )
    .exits(0);
    shop.assert_redis_equals(&["url"]).await;
    let one = shell(
        &shop,
        "\"$REKINDLE\" dead-letters show plans/shop.yaml | head -0; exit ${PIPESTATUS[0]}",
    );
    one.exits(0);
}

#[tokio::test]
async fn watching_ends_with_the_run() {
    let mut shop = shop("watch").await;
    let held = shop.held_after(&format!("run {PLAN}"), 5);
    let mut watch = shop.start(&format!("status {PLAN} --watch --json"));
    for _ in 0..2 {
        watch.event("a look at the run", |status| {
            (status["working"] == true).then_some(())
        });
    }
    assert!(watch.is_at_work());
    held.kill_group();
    let ended = watch.finish().exits(0);
    let looks = ended.json();
    assert_eq!(looks.last().expect("looks")["working"], false, "{ended}");

    // Where nothing is at work, one look is all.
    let once = shop.rekindle(&format!("status {PLAN} --watch")).exits(0);
    assert!(
        once.stdout
            .contains("nobody works on it: the last process died"),
        "{once}"
    );
    assert!(
        once.stdout
            .contains(&format!("next:  `rekindle run {PLAN}` goes on from here")),
        "{once}"
    );

    // And with one that finishes.
    let mut running = shop.start(&format!("run {PLAN} --json"));
    running.event("a chunk", |event| {
        (event["event"] == "chunk_stored").then_some(())
    });
    running.pause();
    let mut watch = shop.start(&format!("status {PLAN} --watch --json"));
    watch.event("a look at the run", |status| {
        (status["working"] == true).then_some(())
    });
    running.go_on();
    let looks = watch.finish().exits(0).json();
    assert_eq!(looks.last().expect("looks")["working"], false);
    running.finish().exits(0);
    shop.assert_redis_equals(&["url"]).await;
}
