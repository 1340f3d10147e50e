//! What commands say to type next, while a run is paused, was left by its process, or is at work.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

struct Shop(TempDir);

impl Shop {
    /// Makes a shop of two tables with 1,000 rows each, and `plans/shop.yaml`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(folder.path().join("shop.db")).unwrap();
        for table in ["url", "page"] {
            let sql = format!(
                "CREATE TABLE {table} (id INTEGER PRIMARY KEY, key TEXT, data TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                 INSERT INTO {table} SELECT i, '{table}:' || i, '{{}}' FROM n;"
            );
            database.execute_batch(&sql).unwrap();
        }
        fs::create_dir(folder.path().join("plans")).unwrap();
        let resource = |name| {
            format!(
                "  - {{ name: {name}, from: {{ table: {name}, cursor: [id], key: key, value: data }} }}\n"
            )
        };
        let plan = format!(
            "version: 1\nname: shop\nsource: {{ url: \"sqlite:../shop.db\" }}\n\
             targets: {{ dump: {{ file: {{ path: ../out }} }} }}\ndefaults: {{ chunk: {{ rows: 50 }} }}\nresources:\n{}{}",
            resource("url"),
            resource("page")
        );
        fs::write(folder.path().join("plans/shop.yaml"), plan).unwrap();
        Self(folder)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command
            .args(words)
            .current_dir(self.0.path())
            .env_remove("RK_FAIL")
            .stdin(Stdio::null());
        command
    }

    /// Returns what the program says, having looked at its exit code.
    #[track_caller]
    fn says(&self, words: &[&str], code: i32) -> String {
        let output = self.command(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        text
    }

    /// A run of this scope that is killed after some chunks.
    fn half_done(&self, scope: &[&str]) {
        let words = [&["run", "plans/shop.yaml", "--single-process"], scope].concat();
        let killed = self
            .command(&words)
            .env("RK_FAIL", "after_commit:7:kill")
            .output()
            .unwrap();
        assert_eq!(killed.status.code(), None, "{killed:?}");
    }
}

/// A run that stands still in the middle, gone with the test.
struct Held(Child);

impl Held {
    fn start(shop: &Shop) -> Self {
        let run = shop
            .command(&["run", "plans/shop.yaml", "--single-process"])
            .env("RK_FAIL", "after_commit:7:sleep")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let held = Self(run.unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let mut status = shop.command(&["status", "plans/shop.yaml", "--json"]);
            let status = status.output().unwrap();
            let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            if status["rows"].as_u64().unwrap_or_default() >= 350 {
                return held;
            }
            assert!(
                Instant::now() < deadline,
                "the run never got there: {status}"
            );
            thread::yield_now();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_paused_run_is_let_go_on_before_it_is_started_again() {
    let shop = Shop::new();
    shop.half_done(&[]);
    let alone = shop.says(&[], 0);
    assert!(alone.contains("rekindle run plans/shop.yaml\n"), "{alone}");
    shop.says(&["pause", "plans/shop.yaml"], 0);
    let alone = shop.says(&[], 0);
    assert!(
        alone.contains("rekindle unpause plans/shop.yaml\n"),
        "{alone}"
    );
    assert!(!alone.contains("rekindle run"), "{alone}");
    let status = shop.says(&["status", "plans/shop.yaml"], 0);
    assert!(
        status.contains("`rekindle unpause plans/shop.yaml` goes on"),
        "{status}"
    );
    let doctor = shop.says(&["doctor", "plans/shop.yaml"], 5);
    assert!(
        doctor
            .contains("`rekindle unpause plans/shop.yaml`, then `rekindle resume plans/shop.yaml`"),
        "{doctor}"
    );
    shop.says(&["unpause", "plans/shop.yaml"], 0);
    let alone = shop.says(&[], 0);
    assert!(alone.contains("rekindle run plans/shop.yaml\n"), "{alone}");
}

#[test]
fn a_doctor_repeats_the_scope_of_a_run() {
    let shop = Shop::new();
    shop.half_done(&["--only", "url"]);
    // What it wrote is gone, so that there is something to say about this run.
    fs::remove_dir_all(shop.0.path().join("out")).unwrap();
    let said = shop.says(&["doctor", "plans/shop.yaml"], 5);
    assert!(
        said.contains("`rekindle run plans/shop.yaml --only url` does it again by itself"),
        "{said}"
    );
    shop.says(&["run", "plans/shop.yaml", "--only", "url"], 0);
}

#[test]
fn a_doctor_finds_nothing_ill_in_a_run_that_is_at_work() {
    let shop = Shop::new();
    let _held = Held::start(&shop);
    let said = shop.says(&["doctor", "plans/shop.yaml"], 0);
    assert!(said.contains("works with it"), "{said}");
    assert!(said.ends_with("nothing to do\n"), "{said}");
}

#[test]
fn rows_that_a_later_run_of_a_part_left_out_are_not_forgotten() {
    let shop = Shop::new();
    let database = rusqlite::Connection::open(shop.0.path().join("shop.db")).unwrap();
    database
        .execute_batch("UPDATE url SET data = NULL WHERE id = 7")
        .unwrap();
    shop.says(&["run", "plans/shop.yaml"], 4);
    shop.says(&["run", "plans/shop.yaml", "--only", "page"], 0);
    let alone = shop.says(&[], 0);
    assert!(alone.contains("1 row is not restored"), "{alone}");
    assert!(
        alone.contains("rekindle dead-letters show plans/shop.yaml\n"),
        "{alone}"
    );
}

#[test]
fn a_run_of_a_part_says_first_what_it_takes_from_a_run_that_waits() {
    let shop = Shop::new();
    shop.half_done(&[]);
    let status: Value =
        serde_json::from_str(&shop.says(&["status", "plans/shop.yaml", "--json"], 0)).unwrap();
    let resources = status["resources"].as_array().unwrap();
    // Files are each resource's own.
    let rows = |name: &str| {
        let one = resources.iter().find(|one| one["resource"] == name);
        one.unwrap()["rows"].as_u64().unwrap()
    };
    let warning = |name: &str| {
        format!(
            " is unfinished, and this one writes to its targets: {} rows of it will be restored again; \
             `rekindle resume plans/shop.yaml` finishes it first",
            rows(name)
        )
    };
    // Both are at work: which of them had how many of the first chunks is chance.
    let begun: Vec<&str> = ["url", "page"]
        .into_iter()
        .filter(|name| rows(name) > 0)
        .collect();
    let part = *begun.first().expect("the run had stored rows");
    let only = |name, dry: &[&str], code| {
        let words = [
            &["run", "plans/shop.yaml", "--only", name, "--no-progress"],
            dry,
        ]
        .concat();
        shop.says(&words, code).replace("\n      ", " ")
    };
    for name in begun {
        let dry = only(name, &["--dry-run"], 0);
        assert!(dry.contains(&warning(name)), "{dry}");
    }
    let run = only(part, &[], 0);
    assert!(run.contains(&warning(part)), "{run}");
    let whole = shop.says(&["run", "plans/shop.yaml", "--no-progress"], 0);
    assert!(
        whole.contains(&format!("`{part}` starts over: ")),
        "{whole}"
    );
    assert!(whole.contains(" of this plan wrote to it at "), "{whole}");
}

#[test]
fn a_story_and_a_plan_are_found_without_being_named() {
    let shop = Shop::new();
    let plan = fs::read_to_string(shop.0.path().join("plans/shop.yaml")).unwrap();
    let plan = plan.replace("name: shop", "name: other");
    fs::write(shop.0.path().join("plans/other.yaml"), plan).unwrap();
    shop.half_done(&[]);
    let status = shop.says(&["status"], 0);
    assert!(
        status.contains("`rekindle run plans/shop.yaml` goes on"),
        "{status}"
    );
    let story = shop.says(&["show"], 0);
    assert!(story.contains("run opened with 2 resources"), "{story}");
}
