//! State files that this and earlier releases left half done, as their processes died on them: every later release goes on
//! with them to the same end.
//!
//! `tests/hermetic/states/<version>` is a folder of such a run, whole: source, plan, state file with its log, target. A release
//! adds its own: `RK_MAKE_STATE=1 cargo test --features mutants --test hermetic half_done`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// A state file knows its source and target by their whole paths, so it goes on in this place only.
const PLACE: &str = "/tmp/rekindle-half-done";

/// Two tables: one is read to its end when the process dies, with a dead letter, the other to its middle.
const TABLES: &str = "
    CREATE TABLE url (id INTEGER PRIMARY KEY, key TEXT, data TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
      INSERT INTO url SELECT i * 3, 'url:' || i, CASE i WHEN 7 THEN NULL ELSE '{\"url\":' || i || '}' END FROM n;
    CREATE TABLE page (store TEXT NOT NULL, id INTEGER NOT NULL, key TEXT, data TEXT, PRIMARY KEY (store, id));
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
      INSERT INTO page SELECT CASE i % 2 WHEN 0 THEN 'DE' ELSE 'AT' END, i, 'page:' || i, '{\"page\":' || i || '}' FROM n;";

const PLAN: &str = "version: 1
name: shop
source: { url: \"sqlite:shop.db\" }
targets: { dump: { file: { path: out } } }
defaults: { chunk: { rows: 5 } }
resources:
  - { name: url, from: { table: url, cursor: [id], key: key, value: data } }
  - { name: page, after: [url], from: { table: page, cursor: [store, id], key: key, value: data } }
";

/// How many chunks are journaled then: eight of `url`, and some of `page`.
const DIES: &str = "after_commit:13:kill";

fn states() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hermetic/states")
}

/// Keeps the place for one test of one checkout at a time.
fn alone() -> File {
    let file = File::create(format!("{PLACE}.lock")).unwrap();
    file.lock().unwrap();
    fs::remove_dir_all(PLACE).ok();
    file
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn rekindle(words: &str, dies: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.args(words.split(' ')).current_dir(PLACE);
    match dies {
        Some(point) => command.env("RK_FAIL", point),
        None => command.env_remove("RK_FAIL"),
    };
    command.output().unwrap()
}

/// Runs a plan of its own until it is killed, and keeps what is left.
fn make(version: &str) {
    fs::create_dir_all(PLACE).unwrap();
    let place = Path::new(PLACE);
    let database = rusqlite::Connection::open(place.join("shop.db")).unwrap();
    database.execute_batch(TABLES).unwrap();
    drop(database);
    fs::write(place.join("shop.yaml"), PLAN).unwrap();
    let killed = rekindle("run shop.yaml --single-process", Some(DIES));
    assert_eq!(killed.status.code(), None, "{killed:?}");
    // SQLite makes it anew from the log.
    fs::remove_file(place.join("state/shop.sqlite-shm")).unwrap();
    copy(place, &states().join(version));
}

/// Returns every pair of key and value that the source holds, but those without a value.
fn wanted() -> BTreeMap<String, String> {
    let database = rusqlite::Connection::open(Path::new(PLACE).join("shop.db")).unwrap();
    let mut statement = database
        .prepare("SELECT key, data FROM url UNION ALL SELECT key, data FROM page")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<_>>(1)?)));
    rows.unwrap()
        .filter_map(|row| row.map(|(key, data)| Some((key, data?))).transpose())
        .map(Result::unwrap)
        .collect()
}

fn goes_on(folder: &Path) {
    copy(folder, Path::new(PLACE));
    let old = rekindle("status shop.yaml --json", None);
    let old: Value = serde_json::from_slice(&old.stdout).unwrap();
    let rows = |status: &Value| status["rows"].as_u64().unwrap();
    assert!((41..100).contains(&rows(&old)), "half done: {old}");

    // When the process was last heard of. Nobody saw it end.
    let story = rekindle("show shop.yaml", None);
    let story = String::from_utf8(story.stdout).unwrap();
    let last = story.lines().rfind(|line| line.starts_with("20"));
    let heard = last.and_then(|line| line.split_once("  ")).unwrap().0;

    let done = rekindle("run shop.yaml --json", None);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(4), "one dead letter: {said}");
    let first = done.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let first: Value = serde_json::from_slice(first).unwrap();
    assert_eq!(first["run"], old["run"], "the same run goes on");
    assert_eq!(first["attempt"], 2);
    let events: Vec<_> = std::str::from_utf8(&done.stdout).unwrap().lines().collect();
    let redone = events.iter().any(|line| line.contains("\"redone\""));
    assert!(!redone, "nothing is done again: {events:?}");

    let story = rekindle("show shop.yaml", None);
    let story = String::from_utf8(story.stdout).unwrap();
    let mut ends = story.lines().filter(|line| line.contains("attempt ends"));
    let end = ends.next().unwrap();
    assert!(
        end.starts_with(heard),
        "not when it went on: {heard}; {end}"
    );

    let status = rekindle("status shop.yaml --json", None);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["state"], "done", "{status}");
    assert_eq!(rows(&status), 100);
    assert_eq!(status["dead_letters"], 1);
    let files = fs::read_dir(Path::new(PLACE).join("out")).unwrap();
    let dumps = files.map(|file| file.unwrap().path());
    let dumps = dumps.filter(|path| path.extension() == Some("resp".as_ref()));
    let pairs: Vec<_> = dumps.flat_map(|path| crate::shop::pairs(&path)).collect();
    assert_eq!(pairs.len(), 99, "each row once");
    assert_eq!(pairs.into_iter().collect::<BTreeMap<_, _>>(), wanted());
}

#[test]
fn j9_half_done_runs_of_every_release_go_on_to_the_same_end() {
    let version = env!("CARGO_PKG_VERSION");
    if std::env::var_os("RK_MAKE_STATE").is_some() {
        let _alone = alone();
        make(version);
    }
    let found = fs::read_dir(states()).expect("state files of releases");
    let mut folders: Vec<_> = found.map(|one| one.unwrap().path()).collect();
    folders.sort();
    assert!(
        folders.iter().any(|folder| folder.ends_with(version)),
        "release {version} keeps none: RK_MAKE_STATE=1 makes it"
    );
    for folder in folders {
        let _alone = alone();
        goes_on(&folder);
        fs::remove_dir_all(PLACE).unwrap();
    }
}
