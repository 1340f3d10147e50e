//! A shop to restore: a database and a Redis of its own, a plan, and the real program in a process group of its own.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use sqlx::Row;
use tempfile::TempDir;

use crate::{postgres::PgDatabase, redis_server::RedisServer, support::Database};

/// How long anything may take before the test says what never came: far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_mins(2);

/// The plan's path as it is typed; the working folder is the shop's.
pub const PLAN: &str = "plans/shop.yaml";

/// Chunks small enough for many moments, retries quick enough for a test.
pub const DEFAULTS: &str = "\
defaults:
  chunk: { rows: 100 }
  retry: { attempts: 60, base: 20ms, cap: 500ms }
";

/// What no output and no state file may hold: the passwords of the tests' servers, and what begins each hash in the values
/// that [`Shop::rows`] writes.
const CANARIES: [&str; 4] = ["app-pw", "u-pw", "canary-Zq7-pw", ROW_CANARY];
const ROW_CANARY: &str = "c4naRy";

/// A shop; its database is MariaDB's where nothing else is said.
pub struct Shop<D: Named = Database> {
    pub database: D,
    pub redis: RedisServer,
    folder: TempDir,
}

/// A database that a plan can name.
pub trait Named {
    /// Returns its URL, with the password.
    fn url(&self) -> String;
}

impl Named for Database {
    fn url(&self) -> String {
        self.url()
    }
}

impl Named for PgDatabase {
    fn url(&self) -> String {
        self.url()
    }
}

impl Shop {
    pub async fn open(name: &str) -> Self {
        Self::with_redis(name, RedisServer::start()).await
    }

    pub async fn with_redis(name: &str, redis: RedisServer) -> Self {
        Self::of(Database::create(name).await, redis)
    }

    /// Makes an empty table like those that plans are written for.
    pub async fn table(&mut self, table: &str) {
        self.database
            .execute(format!(
                "CREATE TABLE {table} (id BIGINT NOT NULL PRIMARY KEY, fk INT, `key` VARBINARY(255), data LONGBLOB)"
            ))
            .await;
    }

    /// Adds rows with the ids `first..=last`: key `<table>:<id>`, entity `id % 1000`, a value of some 60 bytes.
    pub async fn rows(&mut self, table: &str, first: u64, last: u64) {
        let count = last - first + 1;
        self.database
            .execute(format!(
                "INSERT INTO {table} SELECT seq + {first} - 1, (seq + {first} - 1) % 1000, \
                 CONCAT('{table}:', seq + {first} - 1), \
                 CONCAT('{{\"id\":', seq + {first} - 1, ',\"hash\":\"{ROW_CANARY}', LEFT(MD5(seq + {first}), 26), '\"}}') FROM seq_1_to_{count}"
            ))
            .await;
    }

    /// Asserts that Redis holds the rows of these tables that have a key and a value, and nothing else. Reads both
    /// sides by itself: the program under test plays no part.
    pub async fn assert_redis_equals(&mut self, tables: &[&str]) {
        let wanted = self.wanted(tables).await;
        let found = self.redis_content();
        assert_same(&wanted, &found);
    }

    /// Returns what the tables say Redis should hold.
    pub async fn wanted(&mut self, tables: &[&str]) -> HashMap<Vec<u8>, Vec<u8>> {
        let mut wanted = HashMap::new();
        for table in tables {
            let mut rows = self.database.rows(format!(
                "SELECT CONCAT('kv:', `key`), data FROM {table} WHERE `key` IS NOT NULL AND data IS NOT NULL"
            ));
            while let Some(row) = rows.try_next().await.expect("a row") {
                let (key, value): (Vec<u8>, Vec<u8>) = (row.get_unchecked(0), row.get_unchecked(1));
                assert!(wanted.insert(key, value).is_none(), "a key given twice");
            }
        }
        wanted
    }
}

impl<D: Named> Shop<D> {
    /// Returns a shop of these two.
    pub fn of(database: D, redis: RedisServer) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("plans")).expect("a folder for plans");
        Self {
            database,
            redis,
            folder,
        }
    }

    /// Returns a path in the shop's folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Writes the plan: these lines of resources, and these defaults.
    pub fn plan(&self, resources: &str, defaults: &str) {
        self.write_plan(&format!(
            "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
             storage: {{ redis: {{ url: \"${{REDIS_URL}}\", prefix: \"kv:\" }} }}\nresources:\n{resources}{defaults}"
        ));
    }

    pub fn write_plan(&self, text: &str) {
        fs::write(self.path(PLAN), text).expect("the plan is written");
    }

    /// Returns the program with these words as its arguments.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command
            .args(words.split_whitespace())
            .current_dir(self.folder.path())
            .env("DATABASE_URL", self.database.url())
            .env("REDIS_URL", self.redis.url(0))
            .env_remove("RK_FAIL")
            .env_remove("RK_MUTANT")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn rekindle(&self, words: &str) -> Finished {
        Running::start(self.command(words)).finish()
    }

    /// Starts the program.
    pub fn start(&self, words: &str) -> Running {
        Running::start(self.command(words))
    }

    /// Starts the program with a fail point set.
    pub fn start_failing(&self, words: &str, point: &str) -> Running {
        let mut command = self.command(words);
        command.env("RK_FAIL", point);
        Running::start(command)
    }

    /// Returns what `status --json` says.
    pub fn status(&self) -> Value {
        let shown = self.rekindle(&format!("status {PLAN} --json"));
        assert_eq!(shown.code, Some(0), "{shown}");
        serde_json::from_str(&shown.stdout).unwrap_or(Value::Null)
    }

    /// Starts a run that stops dead, alive but without moving, as soon as it has journaled so many chunks.
    pub fn held_after(&self, words: &str, chunks: u64) -> Running {
        let status = self.status();
        let over = status["state"] == "done" || status["state"] == "cancelled";
        let before = if over { 0 } else { chunks_stored(&status) };
        let running = self.start_failing(words, &format!("after_commit:{chunks}:sleep"));
        self.wait_for_chunks(before + chunks);
        running
    }

    /// Waits until a run that is at work has journaled so many chunks.
    pub fn wait_for_chunks(&self, chunks: u64) {
        wait_until("chunks are journaled", || {
            let status = self.status();
            status["working"] == true
                && status["state"] == "restoring"
                && chunks_stored(&status) >= chunks
        });
    }

    /// Leaves an unfinished run with so many journaled chunks behind, killed.
    pub fn half_done(&self, chunks: u64) {
        self.held_after(&format!("run {PLAN}"), chunks).kill_group();
        assert_eq!(chunks_stored(&self.status()), chunks);
    }

    /// Returns how many keys Redis holds.
    pub fn key_count(&self) -> u64 {
        self.redis.ask(0, &redis::cmd("DBSIZE"))
    }

    /// Returns everything that Redis holds.
    pub fn redis_content(&self) -> HashMap<Vec<u8>, Vec<u8>> {
        content_of(&self.redis)
    }
}

/// Returns everything that a Redis holds.
pub fn content_of(redis: &RedisServer) -> HashMap<Vec<u8>, Vec<u8>> {
    let client = redis::Client::open(redis.url(0)).expect("a URL");
    let mut connection = client.get_connection().expect("redis answers");
    let mut content = HashMap::new();
    let mut cursor = 0u64;
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("COUNT")
            .arg(2_000)
            .query(&mut connection)
            .expect("SCAN");
        if !keys.is_empty() {
            let values: Vec<Vec<u8>> = redis::cmd("MGET")
                .arg(&keys)
                .query(&mut connection)
                .expect("MGET");
            content.extend(keys.into_iter().zip(values));
        }
        cursor = next;
        if cursor == 0 {
            return content;
        }
    }
}

/// Looks into every state file and what lies beside it before they go.
impl<D: Named> Drop for Shop<D> {
    fn drop(&mut self) {
        let folder = self.path("state");
        if thread::panicking() || !folder.exists() {
            return;
        }
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let told = canary_in(&fs::read(&path).expect("a file"));
                assert_eq!(told, None, "a secret in {}", path.display());
            }
        }
    }
}

/// Returns the secret that `bytes` hold.
fn canary_in(bytes: &[u8]) -> Option<&'static str> {
    let holds = |canary: &&str| memchr::memmem::find(bytes, canary.as_bytes()).is_some();
    CANARIES.into_iter().find(holds)
}

/// One resource of a plan, restored from the table of its name.
pub fn resource(name: &str) -> String {
    format!(
        "  - name: {name}\n    from: {{ table: {name}, cursor: [id], key: key, value: data, entity: fk }}\n    to: storage\n"
    )
}

/// Asserts that two sides are equal, both ways, and says in what they differ without printing values.
pub fn assert_same(wanted: &HashMap<Vec<u8>, Vec<u8>>, found: &HashMap<Vec<u8>, Vec<u8>>) {
    let shown = |keys: Vec<&Vec<u8>>| {
        let mut keys: Vec<String> = keys
            .iter()
            .map(|key| key.escape_ascii().to_string())
            .collect();
        keys.sort();
        keys.truncate(10);
        keys.join(", ")
    };
    let missing: Vec<_> = wanted
        .keys()
        .filter(|key| !found.contains_key(*key))
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} rows are missing: {}",
        missing.len(),
        wanted.len(),
        shown(missing)
    );
    let extra: Vec<_> = found
        .keys()
        .filter(|key| !wanted.contains_key(*key))
        .collect();
    assert!(
        extra.is_empty(),
        "{} keys too many: {}",
        extra.len(),
        shown(extra)
    );
    let wrong: Vec<_> = wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, _)| key)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} values are wrong: {}",
        wrong.len(),
        shown(wrong)
    );
}

/// Returns how many chunks a status has stored over all partitions.
pub fn chunks_stored(status: &Value) -> u64 {
    let resources = status["resources"].as_array().into_iter().flatten();
    let partitions = resources.flat_map(|one| one["partitions"].as_array().into_iter().flatten());
    partitions.filter_map(|one| one["chunk"].as_u64()).sum()
}

/// Prints a line that shows up although the test passes: what it counted is a part of what it proves.
pub fn told(line: &str) {
    let _ = writeln!(std::io::stderr(), "\n{line}");
}

/// Asks again and again until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}: this never came");
        thread::sleep(Duration::from_millis(2));
    }
}

/// How a command ended and what it said.
pub struct Finished {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "code {:?}, signal {:?}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.signal, self.stdout, self.stderr
        )
    }
}

impl Finished {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Returns the only line of stderr with `text` in it.
    #[track_caller]
    pub fn line(&self, text: &str) -> &str {
        let lines: Vec<_> = self
            .stderr
            .lines()
            .filter(|line| line.contains(text))
            .collect();
        assert_eq!(lines.len(), 1, "lines with `{text}` in {self}");
        lines[0]
    }

    /// Returns stdout as JSON, one value a line.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// A program at work, alone in its process group with its child. Killed with this value.
pub struct Running {
    child: Option<Child>,
    group: Pid,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rekindle starts");
        Self {
            group: Pid::from_child(&child),
            stdout: Lines::of(child.stdout.take().expect("a pipe")),
            stderr: Lines::of(child.stderr.take().expect("a pipe")),
            child: Some(child),
        }
    }

    /// Returns the process id of the parent, which is also its group's.
    pub const fn pid(&self) -> Pid {
        self.group
    }

    /// Sends a signal to every process of the group.
    pub fn signal_group(&self, signal: Signal) {
        kill_process_group(self.group, signal).expect("the group is there");
    }

    /// Holds every process of the group where it is.
    pub fn pause(&self) {
        self.signal_group(Signal::STOP);
    }

    /// Lets a held group go on.
    pub fn go_on(&self) {
        self.signal_group(Signal::CONT);
    }

    /// Kills every process of the group, and returns what they had said.
    pub fn kill_group(self) -> Finished {
        self.signal_group(Signal::KILL);
        let finished = self.finish();
        assert_eq!(finished.signal, Some(9), "{finished}");
        finished
    }

    /// Waits for the next event on stdout that `wanted` returns something for.
    pub fn event<T>(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> Option<T>) -> T {
        let found = self
            .stdout
            .next_that(|line| wanted(&serde_json::from_str(line).ok()?));
        found.unwrap_or_else(|why| {
            panic!(
                "{what}: this never came, {why}: {:?}\n{:?}",
                self.stdout.seen.last(),
                self.stderr.drained()
            )
        })
    }

    /// Waits for the next line on stderr with `text` in it.
    pub fn says(&mut self, text: &str) -> String {
        let found = self
            .stderr
            .next_that(|line| line.contains(text).then(|| line.to_owned()));
        found.unwrap_or_else(|why| {
            panic!("`{text}`: this never came, {why}: {:?}", self.stderr.seen)
        })
    }

    /// Returns whether the program is still at work.
    pub fn is_at_work(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("a child").is_none())
    }

    /// Waits for the next line on stdout with `text` in it.
    pub fn shows(&mut self, text: &str) -> String {
        let found = self
            .stdout
            .next_that(|line| line.contains(text).then(|| line.to_owned()));
        found.unwrap_or_else(|why| {
            panic!("`{text}`: this never came, {why}: {:?}", self.stdout.seen)
        })
    }

    /// Types into a program that was started with a pipe as its input.
    pub fn types(&mut self, text: &str) {
        let input = self.child.as_mut().and_then(|child| child.stdin.as_mut());
        let input = input.expect("a pipe");
        input.write_all(text.as_bytes()).expect("somebody reads");
        input.flush().expect("somebody reads");
    }

    /// Waits for the end.
    pub fn finish(self) -> Finished {
        self.finish_within(PATIENCE)
    }

    /// Waits for the end of work that may take so long. Asserts that nothing secret was said.
    pub fn finish_within(mut self, patience: Duration) -> Finished {
        let mut child = self.child.take().expect("finished once");
        let begun = Instant::now();
        let status: ExitStatus = loop {
            match child.try_wait().expect("a child") {
                Some(status) => break status,
                None if begun.elapsed() > patience => {
                    // Whoever is left says what it was at; then the pipes close.
                    let _ = kill_process_group(self.group, Signal::KILL);
                    let _ = child.wait();
                    panic!(
                        "it never ended\n{:?}\n{:?}",
                        self.stdout.drained(),
                        self.stderr.drained()
                    );
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        let finished = Finished {
            code: status.code(),
            signal: status.signal(),
            // The pipes close when the last process of the group is gone.
            stdout: self.stdout.drained(),
            stderr: self.stderr.drained(),
        };
        for text in [&finished.stdout, &finished.stderr] {
            let told = canary_in(text.as_bytes());
            assert_eq!(told, None, "a secret was told: {finished}");
        }
        finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// The lines of a pipe, read as they come so that the writer never waits.
pub struct Lines {
    lines: mpsc::Receiver<String>,
    pub seen: Vec<String>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (out, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if out.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that `wanted` returns something for.
    fn next_that<T>(&mut self, mut wanted: impl FnMut(&str) -> Option<T>) -> Result<T, String> {
        let begun = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let line = self
                .lines
                .recv_timeout(left)
                .map_err(|error| error.to_string())?;
            let found = wanted(&line);
            self.seen.push(line);
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Reads to the end and returns everything.
    fn drained(&mut self) -> String {
        let begun = Instant::now();
        while let Ok(line) = self
            .lines
            .recv_timeout(PATIENCE.saturating_sub(begun.elapsed()))
        {
            self.seen.push(line);
        }
        let mut text = self.seen.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// Returns the names and bytes of the files below `folder`, for a comparison before and after.
pub fn files(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        found.insert(name, fs::read(entry.path()).expect("a file"));
    }
    found
}
