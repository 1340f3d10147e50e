//! Looks for plans that are read wrongly: a panic, an endless reading, a password in a message. With every test run for two
//! seconds, with `make fuzz` for a minute.
//!
//! What it goes on with are files that showed a set of problems that no file had shown before.

use std::{
    collections::{BTreeSet, HashSet},
    fs, panic,
    path::{Path, PathBuf},
    time::Duration,
};

use fastrand::Rng;
use rekindle::plan::{self, Look};

use crate::driver::Span;

/// What a variable stands for, which no message may show.
const SECRET: &str = "geheim-4711";

/// The processor time that a file of a few kilobytes may take, also in a program that is not optimised.
const MOST: Duration = Duration::from_secs(2);

/// Most files that are kept to make others of.
const POOL: usize = 2_000;

/// What YAML, or the plan's reader, treats in a way of its own.
const TOKENS: &[&str] = &[
    ":",
    ": ",
    "-",
    "- ",
    "?",
    "[",
    "]",
    "{",
    "}",
    ",",
    "#",
    "&a ",
    "*a",
    "<<: *a",
    "!",
    "!!str ",
    "|",
    ">",
    "'",
    "\"",
    "%",
    "@",
    "\t",
    "\n",
    "\r\n",
    "\n\n  ",
    "---\n",
    "...\n",
    "\u{feff}",
    "\0",
    "\u{1b}",
    "\u{85}",
    "\u{2028}",
    "é",
    "🙂",
    "~",
    "null",
    "true",
    "no",
    "0",
    "-1",
    "1e9",
    "18446744073709551616",
    "0x10",
    "2MiB",
    "15m",
    "${SECRET}",
    "${SECRET",
    "${NOPE}",
    "${NOPE:-x}",
    "${file:/etc/hostname}",
    "${",
    "}}",
    "sqlite:",
    "mysql://u:${SECRET}@h/d",
    "redis://:${SECRET}@h",
    "name: ",
    "after: [url]",
    "preset: spryker\n",
    "fallback: { to: none }",
    "{store}",
    "{type}",
    "stores: [DE]\n",
    "ignore_tables: [\"*\"]\n",
];

fn env(name: &str) -> Option<String> {
    (name == "SECRET").then(|| SECRET.to_owned())
}

fn corpus() -> Vec<Vec<u8>> {
    let folders = ["plans", "tests/hermetic/plans"];
    let files = folders.iter().flat_map(|folder| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        fs::read_dir(folder).expect("a folder of plans")
    });
    let mut plans: Vec<PathBuf> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    plans.sort();
    let read = plans.iter().map(|path| fs::read(path).expect("a plan"));
    read.collect()
}

/// Returns a file made of others: a part taken out, doubled, put elsewhere or out of another one, tokens put in, bytes changed.
fn mutated(pool: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut file = pool[random.usize(..pool.len())].clone();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=file.len());
        let end = (at + random.usize(0..80)).min(file.len());
        match random.u8(..7) {
            0 => drop(file.drain(at..end)),
            1 => {
                let part = file[at..end].to_vec();
                let to = random.usize(..=file.len());
                drop(file.splice(to..to, part));
            }
            2 | 3 => {
                let token = TOKENS[random.usize(..TOKENS.len())].bytes();
                drop(file.splice(at..at, token));
            }
            4 => {
                let other = &pool[random.usize(..pool.len())];
                let from = random.usize(..=other.len());
                let part = &other[from..(from + random.usize(0..400)).min(other.len())];
                drop(file.splice(at..end, part.iter().copied()));
            }
            5 => {
                // A line in the place of another one: most of what comes out is still YAML.
                let mut lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
                if let (1.., from) = (lines.len(), random.usize(..lines.len().max(1))) {
                    let to = random.usize(..lines.len());
                    lines.insert(to, lines[from]);
                    file = lines.concat();
                }
            }
            _ => {
                if let Some(byte) = file.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
        }
    }
    // Beyond this only its length is looked at, which other tests do.
    file.truncate(64 * 1024);
    file
}

/// Returns the codes of a file's problems; none for a sound plan.
fn checked(path: &Path, file: &[u8]) -> Result<BTreeSet<&'static str>, String> {
    fs::write(path, file).map_err(|error| error.to_string())?;
    let begun = cpu_time();
    let look = || {
        let (shown, codes) = match plan::load(path, &env) {
            Ok(loaded) => {
                let again = plan::load(path, &env).is_ok_and(|again| {
                    let pairs = loaded.plan.resources.iter().zip(&again.plan.resources);
                    let mut same =
                        pairs.map(|(a, b)| loaded.plan.definition(a) == again.plan.definition(b));
                    same.all(|same| same)
                });
                if !again {
                    return Err("read a second time, it is another plan".to_owned());
                }
                let codes = loaded.warnings.iter().map(|one| one.code.text()).collect();
                (loaded.text.render(&loaded.warnings, Look::Plain, 80), codes)
            }
            Err(problems) => {
                if problems.diagnostics().is_empty() {
                    return Err("refused without a problem".to_owned());
                }
                let json = serde_json::to_string(&problems.entries()).unwrap_or_default();
                let codes = problems
                    .diagnostics()
                    .iter()
                    .map(|one| one.code.text())
                    .collect();
                (problems.render(Look::Plain, 80) + &json, codes)
            }
        };
        if shown.contains(SECRET) {
            return Err("a message shows what a variable stands for".to_owned());
        }
        let is_obeyed = |c: char| c.is_control() && c != '\n';
        if shown.contains(is_obeyed) {
            return Err("a message holds what a terminal obeys".to_owned());
        }
        Ok(codes)
    };
    let codes = panic::catch_unwind(panic::AssertUnwindSafe(look))
        .unwrap_or_else(|_| Err("a panic".to_owned()))?;
    let taken = cpu_time().saturating_sub(begun);
    if taken > MOST {
        return Err(format!("it took {taken:?}"));
    }
    Ok(codes)
}

/// Returns the processor time of this thread: what a busy machine does beside it does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(time.tv_sec.unsigned_abs(), nanos)
}

#[test]
fn no_new_plan_is_read_wrongly() {
    let mut span = Span::of(300);
    let mut random = Rng::with_seed(span.seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("plan.yaml");
    let mut pool = corpus();
    let mut known = HashSet::new();
    let mut sound = 0_u64;
    while span.goes_on() {
        let file = mutated(&pool, &mut random);
        match checked(&path, &file) {
            Ok(codes) => {
                sound += u64::from(codes.is_empty());
                if known.insert(codes) && pool.len() < POOL {
                    pool.push(file);
                }
            }
            Err(why) => {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
                let kept = kept.join(format!("found-{}-{}.yaml", span.seed, span.count));
                fs::write(&kept, &file).expect("the file is written");
                panic!(
                    "{why}, for the plan in {}: mend it, and keep the plan in tests/hermetic/plans",
                    kept.display()
                );
            }
        }
    }
    let (seed, count) = (span.seed, span.count);
    eprintln!(
        "{count} plans in {:?}, {sound} of them sound, {} sets of problems; seed {seed}",
        span.elapsed(),
        known.len()
    );
    assert!(known.len() >= 10, "only {} sets of problems", known.len());
}
