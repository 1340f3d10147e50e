//! One place for one run: its folder, its target, and the program.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    broker::Queues,
    consumer::Consumer,
    jenkins::Jenkins,
    search::Search,
    shop::{self, By, Row},
    tracer::{self, End, Strike, Traced, Watch, Watchdog},
};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rekindle");

/// Put before every key in Redis.
const PREFIX: &str = "kv:";

/// Numbers of the program that are too long for a test: builds and queues are looked at once a second.
const SHORTENED: (&str, &str) = (
    "RK_SET",
    "jenkins_look_ms:5,drain_look_ms:10,presence_wait_ms:20",
);

/// Directories that steps make.
const MADE: [&str; 3] = ["flag", "migrated", "warmed"];

/// Where the rows go.
#[derive(Clone)]
pub enum To {
    /// A folder.
    Files,
    /// The database of a server that is at this URL.
    Redis(String),
    /// Indexes.
    Search(Search),
    /// Queues, from which a consumer writes to the database at this URL.
    Queues(String, Queues),
    /// A folder, with steps around, the last of which builds a job here.
    Steps(Jenkins),
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// The events it printed.
    pub events: Vec<Value>,
}

/// A folder with a plan, nothing restored yet.
pub struct Scene {
    folder: TempDir,
    path: PathBuf,
    to: To,
    /// Takes what is in the queues.
    consumer: Option<Consumer>,
}

impl Scene {
    /// Sets the scene for restoring the shop at `shop`. The target is emptied.
    pub fn set(shop: &Path, to: &To) -> Self {
        let folder = TempDir::with_prefix_in("rekindle-enumerator-", scratch()).expect("a folder");
        let path = folder.path().canonicalize().expect("its path");
        let target = match to {
            To::Files | To::Steps(_) => "{ file: { path: out/, format: resp } }".to_owned(),
            To::Redis(url) | To::Queues(url, _) => {
                format!("{{ redis: {{ url: \"{url}\", prefix: \"{PREFIX}\" }} }}")
            }
            To::Search(search) => search.target(),
        };
        let (by, more) = match to {
            To::Files | To::Redis(_) => (By::Writing, String::new()),
            To::Search(_) => (By::Documents, String::new()),
            To::Queues(_, queues) => (By::Queues(&queues.prefix), shop::broker(&queues.url)),
            To::Steps(jenkins) => (By::Writing, shop::steps(jenkins.url())),
        };
        let plan = shop::plan(shop, &target, &by, &more);
        fs::write(path.join("plan.yaml"), plan).expect("a plan");
        shop::write_publisher(&path.join("publisher.db"));
        let mut consumer = None;
        match to {
            To::Files => {}
            To::Redis(url) => flush(url),
            To::Queues(url, queues) => {
                queues.purge();
                flush(url);
                let rest = queues.rest_ms;
                let numbers = format!("consume_silence_ms:20,consume_rest_ms:{rest}");
                let environment = [(SHORTENED.0, numbers)];
                consumer = Some(Consumer::start(&path, &environment));
            }
            To::Search(search) => search.reset(),
            To::Steps(jenkins) => {
                jenkins.reset();
                fs::write(path.join("token"), "geheim").expect("a token");
            }
        }
        Self {
            folder,
            path,
            to: to.clone(),
            consumer,
        }
    }

    /// Runs the plan to the end of the process with its calls counted, and strikes.
    pub fn run_traced(
        &self,
        environment: &[(&str, String)],
        watches: &[Watch],
        strike: Option<Strike>,
    ) -> (Ran, Traced) {
        let traced = tracer::trace(
            Path::new(PROGRAM),
            &ARGUMENTS.map(OsStr::new),
            &shortened(environment),
            &self.path,
            watches,
            strike,
        )
        .expect("the program can be traced");
        self.settle();
        (self.ran(traced.end), traced)
    }

    /// Runs the plan to the end of the process.
    pub fn run(&self, environment: &[(&str, String)]) -> Ran {
        let output = |name| File::create(self.path.join(name)).expect("a file for its output");
        let mut child = Command::new(PROGRAM)
            .args(ARGUMENTS)
            .envs(shortened(environment))
            .current_dir(&self.path)
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("the program starts");
        let watchdog = Watchdog::over(Pid::from_raw(child.id().cast_signed()));
        let status = child.wait().expect("the program ends");
        let end = match (watchdog.has_bitten(), status.code(), status.signal()) {
            (true, ..) => End::Hung,
            (_, Some(code), _) => End::Code(code),
            (_, None, signal) => End::Signal(signal.unwrap_or_default()),
        };
        self.settle();
        self.ran(end)
    }

    /// Waits until nothing works in the folder any more: the command of a step goes on when the program is killed.
    fn settle(&self) {
        if !matches!(self.to, To::Steps(_)) {
            return;
        }
        let begun = Instant::now();
        while self.is_worked_in() {
            let path = self.path.display();
            assert!(begun.elapsed() < SETTLED, "a process stays in {path}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_worked_in(&self) -> bool {
        let processes = fs::read_dir("/proc").expect("/proc");
        processes.flatten().any(|process| {
            // Only processes have one, and of those that have ended it leads nowhere.
            fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder == self.path)
        })
    }

    fn ran(&self, end: End) -> Ran {
        let events = self.printed("stdout");
        let events = events
            .lines()
            // The last line of a process that was killed may be cut.
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        Ran { end, events }
    }

    /// Returns what the last run printed.
    pub fn printed(&self, stream: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path.join(stream)).unwrap_or_default()).into_owned()
    }

    /// Returns what `rekindle status --json` says, `None` before there is a run.
    ///
    /// # Errors
    ///
    /// What it prints instead.
    pub fn status(&self) -> Result<Option<Value>, String> {
        let output = Command::new(PROGRAM)
            .args(["status", "plan.yaml", "--json"])
            .current_dir(&self.path)
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match serde_json::from_str::<Value>(&text) {
            Ok(status) if output.status.success() => {
                Ok(Some(status).filter(|status| !status["run"].is_null()))
            }
            _ => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Returns everything in the target: bytes by file name, or values by key.
    pub fn content(&self) -> BTreeMap<String, Vec<u8>> {
        match &self.to {
            To::Files => self.files(),
            To::Steps(jenkins) => {
                let mut content = self.files();
                for name in MADE {
                    if self.path.join(name).is_dir() {
                        content.insert(format!("made {name}"), Vec::new());
                    }
                }
                let calls = fs::read(self.path.join("calls")).unwrap_or_default();
                content.insert("calls".to_owned(), calls);
                let builds = jenkins.builds().to_string();
                content.insert("builds".to_owned(), builds.into_bytes());
                content
            }
            To::Search(search) => search.content(),
            To::Redis(url) | To::Queues(url, _) => {
                let mut connection = connect(url);
                let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
                    .arg("*")
                    .query(&mut connection)
                    .expect("KEYS");
                if keys.is_empty() {
                    return BTreeMap::new();
                }
                let values: Vec<Option<Vec<u8>>> = redis::cmd("MGET")
                    .arg(&keys)
                    .query(&mut connection)
                    .expect("MGET");
                keys.iter()
                    .zip(values)
                    // A lease may run out in between.
                    .filter_map(|(key, value)| {
                        Some((String::from_utf8_lossy(key).into_owned(), value?))
                    })
                    .collect()
            }
        }
    }

    /// Returns the bytes of the target's files by their names.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.path.join("out")) else {
            return BTreeMap::new();
        };
        entries
            .map(|entry| {
                let entry = entry.expect("a file of the target");
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, fs::read(entry.path()).expect("its bytes"))
            })
            .collect()
    }

    /// Returns whether `content` is as step `index` of the plan leaves it, as far as that can be seen.
    pub fn is_done(&self, content: &BTreeMap<String, Vec<u8>>, index: usize) -> bool {
        let is_made = |name: &str| content.contains_key(&format!("made {name}"));
        match (&self.to, index) {
            (To::Steps(_), 1) => is_made("migrated"),
            (To::Steps(_), 2) => is_made("warmed"),
            (To::Steps(_), 3) => !is_made("flag"),
            (To::Steps(_), 4) => content["builds"] == b"1",
            // The page is up from the first step to the fourth.
            _ => true,
        }
    }

    /// Returns whether what a run leaves tells how often it was run: a new run carries its steps out once more.
    pub fn counts_runs(&self) -> bool {
        matches!(self.to, To::Steps(_))
    }

    /// Returns the names of the files beside the state file.
    pub fn state_files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path.join("state")) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            // What a command printed: a step that is done already has none to run.
            .filter(|name| Path::new(name).extension() != Some(OsStr::new("log")))
            .collect();
        names.sort();
        names
    }

    /// Returns whether `content` has the row of `resource`, as far as a target can have it.
    pub fn holds(&self, content: &BTreeMap<String, Vec<u8>>, resource: &str, row: &Row) -> bool {
        let Some(value) = &row.value else { return true };
        match &self.to {
            To::Redis(_) => content
                .get(&format!("{PREFIX}{}", row.key))
                .is_some_and(|found| found == value.as_bytes()),
            To::Search(_) => Search::holds(content, resource, row),
            // A message has the value as PHP writes it: equal, not the same.
            To::Queues(..) => {
                let read = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
                let found = content.get(&format!("{PREFIX}{}", row.key));
                found.is_some_and(|found| read(found) == read(value.as_bytes()))
            }
            To::Files | To::Steps(_) => {
                let wanted = format!(
                    "*3\r\n$3\r\nSET\r\n${}\r\n{}\r\n${}\r\n{value}\r\n",
                    row.key.len(),
                    row.key,
                    value.len()
                );
                content
                    .get(&format!("{resource}.0001.resp"))
                    .is_some_and(|bytes| {
                        bytes
                            .windows(wanted.len())
                            .any(|window| window == wanted.as_bytes())
                    })
            }
        }
    }

    /// Returns whether a row that the journal has is in the target by then, though its resource is not done.
    pub fn is_direct(&self) -> bool {
        self.consumer.is_none()
    }

    /// Returns the number in the marker of a partition, 0 for none; `None` for a target without markers.
    pub fn marker(
        &self,
        content: &BTreeMap<String, Vec<u8>>,
        run: &str,
        partition: u64,
    ) -> Option<u64> {
        let To::Redis(_) = &self.to else {
            return None;
        };
        let text = content.get(&format!("rekindle:{run}:{partition}"));
        let chunk = |text: &Vec<u8>| {
            let text = String::from_utf8_lossy(text);
            text.split(' ').next()?.parse().ok()
        };
        Some(text.and_then(chunk).unwrap_or(0))
    }

    /// Keeps the folder for a person to look at, and returns its path.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

fn flush(url: &str) {
    let _: () = redis::cmd("FLUSHDB")
        .query(&mut connect(url))
        .expect("FLUSHDB");
}

/// How long a command of a step may outlive the program.
const SETTLED: Duration = Duration::from_secs(10);

/// Returns `environment` with what shortens waits.
fn shortened<'a>(environment: &[(&'a str, String)]) -> Vec<(&'a str, String)> {
    let mut all = environment.to_vec();
    let mut numbers = SHORTENED.1.to_owned();
    if all.iter().any(|(name, _)| *name == "RK_MUTANT") {
        // Nobody waits long for rows that a defect has lost.
        numbers += ",presence_within_ms:3000";
    }
    all.push((SHORTENED.0, numbers));
    all
}

const ARGUMENTS: [&str; 4] = ["run", "plan.yaml", "--single-process", "--json"];

/// Memory, where there is a file system in it: a killed process loses nothing of the page cache, so the disk would
/// only cost time.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if TempDir::new_in(memory).is_ok() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

fn connect(url: &str) -> redis::Connection {
    redis::Client::open(url)
        .and_then(|client| client.get_connection())
        .expect("redis-server answers")
}
