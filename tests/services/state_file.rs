//! A state file that cannot be vouched for is refused with what to type; a full disk stops the run, not the progress.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use rusqlite::Connection;

use crate::shop::{DEFAULTS, Finished, PLAN, Shop, chunks_stored, files, resource, wait_until};

const ROWS: u64 = 5_000;
const CHUNKS: u64 = 12;

/// A shop whose run was killed after some chunks.
async fn half_done(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    shop.plan(&resource("url"), DEFAULTS);
    shop.half_done(CHUNKS);
    shop
}

fn state(shop: &Shop) -> PathBuf {
    shop.path("state/shop.sqlite")
}

/// Opens the state file as any tool would.
fn edit(shop: &Shop) -> Connection {
    Connection::open(state(shop)).expect("an SQLite file")
}

/// Asserts that the state is refused by every command that would write, that nothing changes by that, and that what
/// the refusal says to type works.
async fn is_refused_and_begun_anew(shop: &mut Shop, cause: &str) {
    let content = shop.redis_content();
    let had = files_but_the_lock(shop);
    for command in ["run", "resume"] {
        let refused = shop.rekindle(&format!("{command} {PLAN}")).exits(3);
        reads_well(&refused, cause);
        assert!(
            shop.redis_content() == content,
            "the refused run wrote to the target"
        );
    }
    assert!(
        files_but_the_lock(shop) == had,
        "a refused state file is not as it was"
    );

    let anew = shop.rekindle(&format!("run --new {PLAN}")).exits(0);
    assert!(anew.line("begun anew").contains(cause), "{anew}");
    shop.assert_redis_as_far_as_known(content.keys()).await;
    let aside = files(&shop.path("state"))
        .into_keys()
        .filter(|name| name.contains(".damaged-1"));
    assert!(aside.count() >= 1, "the damaged files are kept");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
}

/// The four parts, with the cause and what to type.
#[track_caller]
fn reads_well(refused: &Finished, cause: &str) {
    let lines: Vec<_> = refused.stderr.lines().collect();
    assert!(lines[0].starts_with("error: "), "{refused}");
    assert!(lines[0].contains(cause), "`{cause}` is not in {refused}");
    refused.line("  safe:  ");
    assert!(
        refused
            .line("  next:  ")
            .contains(&format!("`rekindle run --new {PLAN}`")),
        "{refused}"
    );
}

/// The lock file names whoever came last; SQLite keeps shared memory, and a log of no bytes, beside a file that is open.
fn files_but_the_lock(shop: &Shop) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(&shop.path("state"));
    files.retain(|name, bytes| match name.strip_prefix("shop.sqlite") {
        Some(".lock" | "-shm") => false,
        Some("-wal") => !bytes.is_empty(),
        _ => true,
    });
    files
}

impl Shop {
    /// Asserts that every row is there. The markers of a run whose journal is lost are nobody's any more; they and
    /// only they may be left over.
    async fn assert_redis_as_far_as_known(&mut self, before: impl Iterator<Item = &Vec<u8>>) {
        let orphans: Vec<_> = before
            .filter(|key| key.starts_with(b"rekindle:"))
            .filter(|key| ![&b"rekindle:lease"[..], b"rekindle:writer"].contains(&&key[..]))
            .cloned()
            .collect();
        for marker in orphans {
            let _removed: u64 = self.redis.ask(0, redis::cmd("DEL").arg(marker));
        }
        self.assert_redis_equals(&["url"]).await;
    }
}

#[tokio::test]
async fn an_event_edited_by_hand_breaks_the_chain() {
    let mut shop = half_done("edited").await;
    let changed = edit(&shop).execute(
        "UPDATE event SET body = replace(body, '\"rows\":300,', '\"rows\":900,') WHERE label = 'chunk' AND body LIKE '%\"rows\":300,%'",
        [],
    );
    assert!(changed.expect("an update") >= 1);
    is_refused_and_begun_anew(&mut shop, "is damaged at event ").await;
}

#[tokio::test]
async fn j5_a_byte_flipped_on_the_disk_breaks_the_chain() {
    let mut shop = half_done("flipped").await;
    // What lies in SQLite's log is folded into the file first, so that there is one place to find it.
    let body: String = {
        let connection = edit(&shop);
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .expect("a checkpoint");
        connection
            .query_row(
                "SELECT body FROM event WHERE label = 'chunk' ORDER BY seq LIMIT 1 OFFSET 3",
                [],
                |row| row.get(0),
            )
            .expect("an event")
    };
    let mut bytes = fs::read(state(&shop)).expect("the file");
    let places: Vec<usize> = bytes
        .windows(body.len())
        .enumerate()
        .filter(|(_, window)| *window == body.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "the event is in the file");
    for place in places {
        let digit = body.rfind(|c: char| c.is_ascii_digit()).expect("a digit");
        bytes[place + digit] ^= 1;
    }
    fs::write(state(&shop), bytes).expect("written back");
    is_refused_and_begun_anew(&mut shop, "is damaged at event ").await;
}

#[tokio::test]
async fn a_projection_edited_by_hand_contradicts_the_events() {
    let mut shop = half_done("projection").await;
    let changed = edit(&shop).execute(
        "UPDATE partition SET rows = rows + 1000, chunk = chunk + 10",
        [],
    );
    assert!(changed.expect("an update") >= 1);
    is_refused_and_begun_anew(&mut shop, "is damaged at table `partition`").await;
}

#[tokio::test]
async fn an_emptied_journal_is_behind_its_marker() {
    let mut shop = half_done("emptied").await;
    edit(&shop)
        .execute_batch(
            "PRAGMA foreign_keys = OFF; DELETE FROM event; DELETE FROM dead_letter; DELETE FROM partition; \
             DELETE FROM resource; DELETE FROM attempt; DELETE FROM run; UPDATE meta SET value = '0' WHERE key = 'last_partition'",
        )
        .expect("emptied");
    is_refused_and_begun_anew(&mut shop, "is behind its marker").await;
}

#[tokio::test]
async fn a_state_file_of_no_bytes_is_behind_its_marker() {
    let mut shop = half_done("zero").await;
    fs::write(state(&shop), "").expect("truncated");
    is_refused_and_begun_anew(&mut shop, "is behind its marker: the state file is empty").await;
}

#[tokio::test]
async fn j4_a_state_file_that_is_gone_is_behind_its_marker() {
    let mut shop = half_done("gone").await;
    fs::remove_file(state(&shop)).expect("removed");
    fs::remove_file(shop.path("state/shop.sqlite-wal")).expect("removed");
    is_refused_and_begun_anew(&mut shop, "is behind its marker: the state file is missing").await;
}

#[tokio::test]
async fn j4_a_log_that_is_gone_while_the_marker_names_a_later_event_is_refused() {
    let mut shop = half_done("wal").await;
    fs::remove_file(shop.path("state/shop.sqlite-wal")).expect("the log was there");
    is_refused_and_begun_anew(
        &mut shop,
        "is behind its marker: its write-ahead log is gone",
    )
    .await;
}

#[tokio::test]
async fn j3_a_torn_end_of_the_log_only_repeats_chunks() {
    let mut shop = half_done("torn").await;
    let wal = shop.path("state/shop.sqlite-wal");
    let length = fs::metadata(&wal).expect("the log").len();
    fs::File::options()
        .write(true)
        .open(&wal)
        .and_then(|file| file.set_len(length - 10_000))
        .expect("cut");
    let stored = chunks_stored(&shop.status());
    assert!(0 < stored && stored < CHUNKS, "{stored}");
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(done.stderr.contains("goes on (attempt 2) after"), "{done}");
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn o3_looking_changes_no_byte_of_a_half_done_run() {
    let mut shop = half_done("looking").await;
    let words = [
        format!("status {PLAN}"),
        format!("status {PLAN} --json"),
        format!("history {PLAN}"),
        format!("dead-letters list {PLAN}"),
        format!("run {PLAN} --dry-run"),
        format!("run {PLAN} --dry-run --json"),
        format!("run {PLAN} --dry-run --only url --ids 1,2"),
        format!("validate {PLAN}"),
    ];
    let (had, keys) = (files(&shop.path("state")), shop.redis_content());
    for words in &words {
        shop.rekindle(words).exits(0);
        assert!(
            files(&shop.path("state")) == had,
            "`{words}` changed the state files"
        );
        assert!(shop.redis_content() == keys, "`{words}` changed the target");
    }
    // And while somebody works on it: a held run changes nothing by itself either.
    let held = shop.held_after(&format!("run {PLAN}"), 3);
    let had = files(&shop.path("state"));
    for words in &words[..4] {
        shop.rekindle(words).exits(0);
        assert!(
            files(&shop.path("state")) == had,
            "`{words}` changed the state files of a run at work"
        );
    }
    held.kill_group();
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
}

/// A file system in memory, of 1 MiB; gone with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Returns `None` where mounting is not allowed.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).expect("a folder to mount on");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }

    /// Writes a file that leaves no room.
    fn fill(&self) {
        let mut filler = fs::File::create(self.0.join("filler")).expect("a file");
        for size in [4096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        let grown = Command::new("mount")
            .args(["-o", "remount,size=16m"])
            .arg(&self.0)
            .status();
        assert!(grown.is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still has a file open there keeps it only for itself.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn j1_a_full_disk_under_the_state_file_stops_the_run_which_goes_on_once_there_is_room() {
    let mut shop = Shop::open("full_disk").await;
    shop.table("url").await;
    shop.rows("url", 1, 30_000).await;
    shop.plan(&resource("url"), DEFAULTS);
    let Some(disk) = SmallDisk::mount(&shop.path("small")) else {
        eprintln!("skipped: a_full_disk_under_the_state_file needs the right to mount a tmpfs");
        return;
    };
    let run = format!("run {PLAN} --state small/shop.sqlite");
    let running = shop.start(&run);
    wait_until("the run is on its way", || shop.key_count() > 3_000);
    running.pause();
    disk.fill();
    running.go_on();
    let stopped = running.finish().exits(5);
    let error = stopped.line("error: ");
    assert!(
        error.contains("no room for state file") && error.contains("small/shop.sqlite"),
        "{error}"
    );
    assert!(stopped.line("  next:  ").contains("free"), "{stopped}");
    assert!(shop.key_count() < 30_000, "it stopped in the middle");

    // No room yet: nothing changes, and it says the same.
    let again = shop.rekindle(&run).exits(5);
    assert!(
        again.line("error: ").contains("no room for state file"),
        "{again}"
    );

    disk.make_room();
    let done = shop.rekindle(&run).exits(0);
    assert!(done.stderr.contains("goes on (attempt 2) after"), "{done}");
    shop.assert_redis_equals(&["url"]).await;
}
