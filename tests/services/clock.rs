//! The wall clock jumps, between two runs and in the middle of one: what is restored does not depend on it.

use std::{fs, path::PathBuf, process::Command};

use crate::shop::{DEFAULTS, PLAN, Running, Shop, chunks_stored, resource, wait_until};

/// Returns the library that tells a program another time. Where Debian's package `faketime` puts it.
fn library() -> PathBuf {
    let folder = fs::read_dir("/usr/lib").expect("/usr/lib");
    let mut paths = folder.map(|entry| {
        let entry = entry.expect("an entry").path();
        entry.join("faketime/libfaketimeMT.so.1")
    });
    paths
        .find(|path| path.exists())
        .expect("libfaketime is there; on Debian it is in the package faketime")
}

/// Lets the program read the wall clock of `file`, `-3h` or `+1d`, each time it looks; clocks that only run on stay true.
fn with_clock(command: &mut Command, file: &std::path::Path) {
    command
        .env("LD_PRELOAD", library())
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
}

#[tokio::test]
async fn t1_a_clock_that_jumps_between_and_within_runs_changes_nothing_but_what_is_shown() {
    let mut shop = Shop::open("clock").await;
    shop.table("url").await;
    shop.rows("url", 1, 20_000).await;
    shop.plan(&resource("url"), DEFAULTS);
    let clock = shop.path("clock");
    let started = |point: Option<&str>| {
        let mut command = shop.command(&format!("run {PLAN}"));
        with_clock(&mut command, &clock);
        command.envs(point.map(|point| ("RK_FAIL", point)));
        Running::start(command)
    };
    // A run that began tomorrow is killed, goes on three hours ago, and is killed again after a jump into next year.
    fs::write(&clock, "+1d").expect("a clock");
    let first = started(Some("after_commit:20:sleep"));
    shop.wait_for_chunks(20);
    first.kill_group();
    let began = shop.status();
    assert_eq!(chunks_stored(&began), 20);

    fs::write(&clock, "-3h").expect("a clock");
    let second = started(Some("after_commit:40:sleep"));
    shop.wait_for_chunks(60);
    fs::write(&clock, "+400d").expect("a clock");
    second.kill_group();

    // And the last one has its clock set to and fro while it works.
    let mut third = started(None);
    let mut turn = 0;
    wait_until("the run ends", || {
        fs::write(&clock, ["-2d", "+5h", "-1h", "+90d"][turn % 4]).expect("a clock");
        turn += 1;
        !third.is_at_work()
    });
    third.finish().exits(0);
    assert!(turn > 1, "the clock never moved");
    shop.assert_redis_equals(&["url"]).await;
    let ended = shop.status();
    assert_eq!(ended["run"], began["run"], "the same run");
    assert_eq!(ended["resources"][0]["rows"], 20_000, "each row once");
}
