//! Killed anywhere, in whole or in part, and run again: the same content, and nothing read twice that was stored.

use std::{collections::HashSet, fs};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::shop::{DEFAULTS, PLAN, Running, Shop, resource, wait_until};

const ROWS: u64 = 300_000;
const KILLS: u64 = 20;
const CHUNK_ROWS: u64 = 100;
const PARTITIONS: u64 = 2;

/// Chunks that may be read and not yet journaled when everything dies: in each partition the page that is being
/// read, the chunk that waits for the writer and the one in the writer's hand; between them and the journal eight
/// reports on their way and the one that is being recorded.
const CHUNKS_IN_FLIGHT: u64 = PARTITIONS * 3 + 8 + 1;

/// Rows that the search for partition bounds may touch. It is done once, before the first kill.
const PROBED_ROWS: u64 = 3_000;

/// The plan's answer to a death is half the rows, so a run that dies often works in chunks of at most this size.
const CHUNKS: &str =
    "defaults:\n  chunk: { rows: 100 }\n  parallel: { resources: 1, partitions: 2 }\n";

#[tokio::test]
async fn p1_twenty_kills_of_everything_each_at_another_cursor_lose_nothing_and_read_nothing_again()
{
    let mut shop = Shop::open("kills").await;
    shop.table("url").await;
    shop.rows("url", 101, 150_100).await;
    shop.rows("url", (1 << 40) + 1, (1 << 40) + 150_000).await;
    shop.plan(&resource("url"), CHUNKS);
    shop.database.count_rows_read().await;
    let before = shop.database.rows_read("url").await;

    let mut cursors = HashSet::new();
    let mut stored_before = 0;
    for kill in 1..=KILLS {
        let moment = ROWS * kill / (KILLS + 1);
        let mut running = shop.start(&format!("run {PLAN} --json"));
        let rows = running.event("the moment to kill", |event| {
            let rows = event["rows"]
                .as_u64()
                .filter(|_| event["event"] == "chunk_stored")?;
            (rows >= moment).then_some(rows)
        });
        running.kill_group();

        let status = shop.status();
        assert_eq!(status["working"], false, "{status}");
        let stored = status["rows"].as_u64().expect("rows");
        assert!(
            stored >= rows && stored > stored_before,
            "kill {kill}: {stored} after {stored_before}"
        );
        assert!(stored < ROWS, "kill {kill} came after the last row");
        stored_before = stored;
        let in_flight = open_cursors(&status);
        assert!(!in_flight.is_empty(), "{status}");
        assert!(
            cursors.insert(in_flight.clone()),
            "kill {kill} met the cursors {in_flight:?} again"
        );
    }
    assert_eq!(cursors.len() as u64, KILLS);

    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_without_reading_it_twice(before).await;
    let history = shop
        .rekindle(&format!("history {PLAN} --json"))
        .exits(0)
        .json();
    let runs = history[0].as_array().expect("runs");
    assert_eq!(runs.len(), 1, "twenty-one attempts of one run: {runs:?}");
    assert_eq!(runs[0]["attempts"], KILLS + 1);
}

impl Shop {
    async fn assert_redis_without_reading_it_twice(&mut self, before: u64) {
        self.database.wait_until_alone().await;
        let read = self.database.rows_read("url").await - before;
        let most = ROWS + KILLS * CHUNKS_IN_FLIGHT * CHUNK_ROWS + PROBED_ROWS;
        eprintln!(
            "the server read {read} rows of {ROWS} in {} attempts; at most {most} are fair",
            KILLS + 1
        );
        assert!(read >= ROWS, "the server counts: {read}");
        assert!(
            read <= most,
            "the server read {read} rows, more than {most}: stored chunks were read again"
        );
        self.assert_redis_equals(&["url"]).await;
    }
}

/// Returns where the partitions that are not exhausted stand.
fn open_cursors(status: &Value) -> Vec<(u64, String)> {
    let partitions = status["resources"][0]["partitions"]
        .as_array()
        .expect("partitions");
    partitions
        .iter()
        .filter(|one| one["state"] != "exhausted")
        .map(|one| {
            (
                one["partition"].as_u64().expect("an id"),
                one["after"].to_string(),
            )
        })
        .collect()
}

async fn small_shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, 30_000).await;
    shop.plan(&resource("url"), DEFAULTS);
    shop
}

/// Starts a run and waits until it is well under way.
fn under_way(shop: &Shop) -> Running {
    let mut running = shop.start(&format!("run {PLAN} --json"));
    running.event("a chunk far from both ends", |event| {
        (event["event"] == "chunk_stored" && event["rows"].as_u64()? >= 5_000).then_some(())
    });
    running
}

/// Returns the process that works on the shop's run: a child of `running`.
fn child_of(shop: &Shop, running: &Running) -> Pid {
    let pid = shop.status()["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(Pid::from_raw).expect("somebody works on it");
    let stat = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is alive");
    let parent = format!("PPid:\t{}\n", running.pid());
    assert!(stat.contains(&parent), "{stat}");
    pid
}

/// Returns whether a process is gone, or only waits to be counted by whoever inherited it.
fn is_gone(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .map_or(true, |text| text.contains("State:\tZ"))
}

#[tokio::test]
async fn when_the_child_alone_is_killed_the_same_command_finishes_and_names_the_death() {
    let mut shop = small_shop("child").await;
    let mut running = under_way(&shop);
    running.pause();
    let child = child_of(&shop, &running);
    kill_process(child, Signal::KILL).expect("the child is there");
    running.go_on();
    let death = running.event("the death", |event| {
        (event["event"] == "death").then(|| event["text"].to_string())
    });
    assert!(death.contains("killed by signal 9"), "{death}");
    running.finish().exits(0);
    shop.assert_redis_equals(&["url"]).await;

    let history = shop
        .rekindle(&format!("history {PLAN} --json"))
        .exits(0)
        .json();
    let run = &history[0][0];
    assert_eq!(
        (&run["state"], &run["attempts"], &run["deaths"]),
        (&"done".into(), &2.into(), &1.into()),
        "{run}"
    );
    let story = shop
        .rekindle(&format!(
            "show {} {PLAN}",
            run["run"].as_str().expect("an id")
        ))
        .exits(0)
        .stdout;
    assert!(
        story.contains("attempt ends: killed by signal 9"),
        "{story}"
    );
    assert!(story.contains("was open when the process died"), "{story}");
}

#[tokio::test]
async fn when_the_parent_alone_is_killed_the_child_goes_too_and_the_next_run_goes_on() {
    let mut shop = small_shop("parent").await;
    let running = under_way(&shop);
    running.pause();
    let child = child_of(&shop, &running);
    // Only the parent; the child is let go on, and may write until the kernel ends it.
    kill_process(running.pid(), Signal::KILL).expect("the parent is there");
    kill_process(child, Signal::CONT).ok();
    wait_until("the child goes with its parent", || is_gone(child));
    let killed = running.finish();
    assert_eq!(killed.signal, Some(9), "{killed}");

    let stored = shop.status()["rows"].as_u64().expect("rows");
    assert!((5_000..30_000).contains(&stored), "{stored}");
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(done.stderr.contains("goes on (attempt 2) after"), "{done}");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn p4_a_signal_ends_a_run_in_order_and_the_next_one_goes_on() {
    for (name, signal, whole_group) in [
        // As a terminal sends it, and as `kill` and a service manager do.
        ("sigint", Signal::INT, true),
        ("sigterm", Signal::TERM, false),
        ("sighup", Signal::HUP, false),
    ] {
        let mut shop = small_shop(name).await;
        let running = under_way(&shop);
        if whole_group {
            running.signal_group(signal);
        } else {
            kill_process(running.pid(), signal).expect("the parent is there");
        }
        let ended = running.finish().exits(130);
        let last: Vec<Value> = ended.json();
        let error = last.last().expect("an error");
        assert_eq!(
            (&error["error"], &error["exit"]),
            (&"interrupted".into(), &130.into()),
            "{ended}"
        );
        let status = shop.status();
        assert_eq!(status["state"], "interrupted", "{status}");
        assert_eq!(status["attempts"][0]["end"], "interrupted", "{status}");
        assert!(status["rows"].as_u64() < Some(30_000), "{status}");

        let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
        // Nothing died, so nothing is suspected: chunks keep their size.
        assert!(done.stderr.contains("goes on (attempt 2) after"), "{done}");
        shop.assert_redis_equals(&["url"]).await;
    }
}

#[tokio::test]
async fn p4_a_second_signal_ends_a_run_that_hangs() {
    let mut shop = small_shop("second").await;
    // It hangs where no first signal is ever heard.
    let mut running = shop.held_after(&format!("run {PLAN}"), 7);
    kill_process(running.pid(), Signal::TERM).expect("the parent is there");
    // The terminal tells parent and child at once, so two signals in the same moment are one; later ones are not.
    wait_until("another signal ends it", || {
        let at_work = running.is_at_work();
        if at_work {
            kill_process(running.pid(), Signal::TERM).ok();
        }
        !at_work
    });
    running.finish().exits(130);
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

/// Runs in one process, killed at the given commit of its journal. Returns whether it came so far.
fn killed_at_commit(shop: &Shop, commit: u32) -> bool {
    let words = format!("run {PLAN} --single-process");
    let ended = shop
        .start_failing(&words, &format!("journal_after_commit:{commit}:kill"))
        .finish();
    assert!(ended.signal == Some(9) || ended.code == Some(0), "{ended}");
    ended.signal.is_some()
}

#[tokio::test]
async fn a_loss_found_by_the_last_check_is_made_good_wherever_the_next_run_dies() {
    let mut shop = Shop::open("last_check").await;
    shop.table("url").await;
    shop.rows("url", 1, 50).await;
    shop.plan(&resource("url"), DEFAULTS);
    let fresh = |shop: &Shop| {
        fs::remove_dir_all(shop.path("state")).ok();
        shop.redis.run("FLUSHALL");
    };
    // The commit after which everything is copied and nothing is checked yet.
    let copied = (1..50)
        .find(|commit| {
            fresh(&shop);
            assert!(killed_at_commit(&shop, *commit), "it is never verifying");
            shop.status()["state"] == "verifying"
        })
        .expect("a commit");
    let mut deaths = 0;
    loop {
        fresh(&shop);
        assert!(killed_at_commit(&shop, copied));
        shop.redis.run("FLUSHDB");
        let died = killed_at_commit(&shop, deaths + 1);
        if died {
            shop.rekindle(&format!("run {PLAN}")).exits(0);
        }
        shop.assert_redis_equals(&["url"]).await;
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 5, "{deaths} commits of a run that starts over");
}
