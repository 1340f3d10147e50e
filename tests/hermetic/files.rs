//! SQLite to files through the program itself: what must not be lost when a run dies late, or when two runs of
//! different scopes meet in one folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const ROWS: u32 = 3000;

struct Shop {
    folder: TempDir,
}

impl Shop {
    /// Makes a shop with the tables `a` and `b` and a plan that restores `a`, then `b`.
    fn new(defaults: &str) -> Self {
        let shop = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let database = rusqlite::Connection::open(shop.path("shop.sqlite")).unwrap();
        for table in ["a", "b", "c"] {
            database
                .execute_batch(&format!(
                    "CREATE TABLE {table} (id INTEGER PRIMARY KEY, key TEXT, data TEXT);
                     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
                     INSERT INTO {table} SELECT i * 3, '{table}:' || i, '{{\"n\":' || i || '}}' FROM n;"
                ))
                .unwrap();
        }
        shop.plan(&["a", "b"], defaults);
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn plan(&self, tables: &[&str], defaults: &str) {
        let resources: Vec<_> = tables
            .iter()
            .map(|table| format!("  - {{ name: {table}, from: {{ table: {table}, cursor: [id], key: key, value: data }} }}\n"))
            .collect();
        let text = format!(
            "version: 1\nname: shop\nsource: {{ url: \"sqlite:shop.sqlite\" }}\n\
             targets: {{ dump: {{ file: {{ path: out }} }} }}\nresources:\n{}\
             defaults: {{ chunk: {{ rows: 100 }}, {defaults} }}\n",
            resources.concat()
        );
        fs::write(self.path("shop.yaml"), text).unwrap();
    }

    /// Runs `rekindle run shop.yaml` with more words, in one process; with `point` it dies there.
    fn run(&self, words: &[&str], point: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command
            .args(["run", "shop.yaml", "--single-process"])
            .args(words)
            .current_dir(self.folder.path());
        match point {
            Some(point) => command.env("RK_FAIL", point),
            None => command.env_remove("RK_FAIL"),
        };
        command.output().unwrap()
    }

    /// Runs to the end and asserts success.
    fn completes(&self, words: &[&str]) -> String {
        let output = self.run(words, None);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    }

    fn dies(&self, words: &[&str], point: &str) {
        let output = self.run(words, Some(point));
        assert_eq!(
            output.status.code(),
            None,
            "{point} was never met: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Returns how many rows of each resource lie in the folder, having checked that each lies there once.
    fn dumped(&self) -> BTreeMap<String, usize> {
        let mut seen = BTreeMap::new();
        for entry in fs::read_dir(self.path("out")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if Path::new(&name).extension() != Some("resp".as_ref()) {
                assert_eq!(name, ".rekindle.lock", "left behind");
                continue;
            }
            let stem = name.split('.').next().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let keys: Vec<_> = text
                .lines()
                .filter(|line| line.contains(':') && !line.starts_with('{'))
                .collect();
            let unique: std::collections::BTreeSet<_> = keys.iter().collect();
            assert_eq!(unique.len(), keys.len(), "{name} holds a row twice");
            *seen.entry(stem).or_insert(0) += keys.len();
        }
        seen
    }
}

fn counts(pairs: &[(&str, u32)]) -> BTreeMap<String, usize> {
    pairs
        .iter()
        .map(|(name, rows)| ((*name).to_owned(), *rows as usize))
        .collect()
}

#[test]
#[cfg(feature = "failpoints")]
fn a_resource_found_void_while_verifying_is_restored_wherever_the_run_dies() {
    let shop = Shop::new("");
    // Every commit up to the one after the resource was found void, and a few of its restoring.
    for nth in 1..=6 {
        shop.dies(&["--new"], "before_finish:1:kill");
        fs::remove_file(shop.path("out/a.0001.resp")).unwrap();
        shop.dies(&[], &format!("journal_after_commit:{nth}:kill"));
        shop.completes(&[]);
        assert_eq!(
            shop.dumped(),
            counts(&[("a", ROWS), ("b", ROWS)]),
            "killed after commit {nth}"
        );
    }
}

#[test]
#[cfg(feature = "failpoints")]
fn what_a_killed_run_left_for_status_goes_with_the_run_that_finishes() {
    let shop = Shop::new("");
    shop.dies(&[], "before_finish:1:kill");
    // As a run leaves it that was at work for longer than this one was.
    let live = shop.path("state/shop.sqlite.live");
    fs::write(&live, "{}").unwrap();
    shop.completes(&[]);
    assert!(!live.exists());
}

#[test]
#[cfg(feature = "failpoints")]
fn o2_a_resource_added_in_the_last_moment_of_a_run_is_restored() {
    let shop = Shop::new("");
    shop.dies(&[], "before_forget:1:kill");
    shop.plan(&["a", "b", "c"], "");
    shop.completes(&["--accept-plan-change"]);
    assert_eq!(
        shop.dumped(),
        counts(&[("a", ROWS), ("b", ROWS), ("c", ROWS)])
    );
}

#[test]
#[cfg(feature = "failpoints")]
fn a_run_of_another_scope_between_two_halves_of_a_run_costs_no_row() {
    let shop = Shop::new("parallel: { resources: 1, partitions: 1 }");
    shop.dies(&[], "after_commit:20:kill");
    shop.completes(&["--only", "a"]);
    let said = shop.completes(&[]);
    assert!(said.contains("`a` starts over: "), "{said}");
    assert_eq!(shop.dumped(), counts(&[("a", ROWS), ("b", ROWS)]));
}

#[test]
fn a_run_of_some_ids_leaves_the_whole_dump_alone() {
    let shop = Shop::new("");
    shop.completes(&[]);
    shop.completes(&["--only", "a", "--ids", "3,6,9"]);
    assert_eq!(
        shop.dumped(),
        counts(&[("a", ROWS), ("a%ids", 3), ("b", ROWS)])
    );
}

#[test]
#[cfg(feature = "failpoints")]
fn a_row_longer_than_what_a_death_left_of_the_budget_is_still_restored() {
    let shop = Shop::new("memory: { in_flight: 512KiB }");
    let database = rusqlite::Connection::open(shop.path("shop.sqlite")).unwrap();
    database
        .execute_batch(
            "INSERT INTO a VALUES (100000, 'a:long', '{' || hex(zeroblob(200000)) || '}')",
        )
        .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rekindle"))
        .args(["run", "shop.yaml"])
        .current_dir(shop.folder.path())
        // Every child dies there once; the next one is past it.
        .env("RK_FAIL", "after_commit:31:kill")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("another one starts with a memory budget of 256 KiB"),
        "{said}"
    );
    assert_eq!(shop.dumped(), counts(&[("a", ROWS + 1), ("b", ROWS)]));
}

impl Shop {
    /// Retries dead letters and asserts the exit code.
    fn retries(&self, code: i32) {
        let output = Command::new(env!("CARGO_BIN_EXE_rekindle"))
            .args(["dead-letters", "retry", "shop.yaml"])
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
    }

    fn execute(&self, sql: &str) {
        let database = rusqlite::Connection::open(self.path("shop.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
    }

    /// Returns how many rows lie in files of retries, and in how many resources' names.
    fn retried(&self) -> (usize, usize) {
        let dumped = self.dumped();
        let retried = dumped.iter().filter(|(stem, _)| stem.contains("%retry-"));
        retried.fold((0, 0), |sum, (_, rows)| (sum.0 + rows, sum.1 + 1))
    }
}

#[test]
fn retried_rows_lie_beside_the_dump_until_it_is_written_anew() {
    let shop = Shop::new("");
    shop.execute("UPDATE a SET data = NULL WHERE id IN (3, 6, 9)");
    let output = shop.run(&[], None);
    assert_eq!(output.status.code(), Some(4));
    shop.execute("UPDATE a SET data = '{}' WHERE id = 3");
    shop.retries(4);
    assert_eq!(shop.retried(), (1, 1));
    shop.execute("UPDATE a SET data = '{}' WHERE id IN (6, 9)");
    shop.retries(0);
    assert_eq!(
        shop.retried(),
        (3, 2),
        "what the first retry wrote is there"
    );
    shop.completes(&[]);
    assert_eq!(shop.dumped(), counts(&[("a", ROWS), ("b", ROWS)]));
}

#[test]
fn o2_a_resource_taken_out_is_named_and_none_goes_by_its_place_in_the_plan() {
    let shop = Shop::new("");
    shop.dies(&[], "after_commit:20:kill");
    shop.plan(&["c", "b"], "");
    let refused = shop.run(&[], None);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    for named in ["`a` is no longer in the plan", "`c` is new"] {
        assert!(said.contains(named), "{said}");
    }
    shop.completes(&["--accept-plan-change"]);
    let dumped = shop.dumped();
    assert_eq!((dumped["b"], dumped["c"]), (ROWS as usize, ROWS as usize));
}

#[test]
fn j10_where_no_state_file_can_be_nothing_is_begun() {
    let shop = Shop::new("");
    // `/proc` takes no file from anybody; the other folder is a file.
    for state in ["/proc/rekindle/shop.sqlite", "shop.yaml/shop.sqlite"] {
        let refused = shop.run(&["--state", state], None);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(3), "{said}");
        assert!(said.contains(state.rsplit_once('/').unwrap().0), "{said}");
        assert!(!shop.path("out").exists(), "something was begun");
    }
}

#[test]
fn rows_are_retried_whatever_their_keys_are() {
    let shop = Shop::new("");
    shop.execute(
        "CREATE TABLE d (k, n INTEGER, key TEXT, data TEXT, PRIMARY KEY (k, n)) WITHOUT ROWID; \
         INSERT INTO d VALUES (x'01', 1, 'd:1', NULL), ('0x01', 1, 'd:2', NULL), (1, 1, 'd:3', NULL), ('1', 1, 'd:4', NULL); \
         CREATE TABLE e (k PRIMARY KEY, key TEXT, data TEXT) WITHOUT ROWID; \
         INSERT INTO e SELECT k, 'e:' || rowid, NULL FROM (SELECT k, row_number() OVER () AS rowid FROM d)",
    );
    let plan = fs::read_to_string(shop.path("shop.yaml")).unwrap();
    let (head, _) = plan.split_once("  - {").unwrap();
    let resources = "  - { name: d, from: { table: d, cursor: [k, n], key: key, value: data } }\n  \
                     - { name: e, from: { table: e, cursor: [k], key: key, value: data } }\n";
    fs::write(shop.path("shop.yaml"), format!("{head}{resources}")).unwrap();
    // Both are all dead letters, and fewer than a thousand.
    assert_eq!(shop.run(&[], None).status.code(), Some(4));
    shop.retries(4);
    shop.execute("UPDATE d SET data = '{}'; UPDATE e SET data = '{}'");
    shop.retries(0);
    assert_eq!(
        shop.retried(),
        (8, 4),
        "four rows of each, after two retries"
    );
}
