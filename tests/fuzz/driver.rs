//! The loop of the smaller targets: made-up bytes until the time is over, going on with those that did something new.

use std::{
    collections::HashSet,
    fs,
    hash::Hash,
    panic,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;

/// Most inputs that are kept to make others of.
const POOL: usize = 2_000;

/// Returns every file of a folder below `tests/fuzz`, in the order of their names.
pub fn corpus(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz")
        .join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| entry.expect("a file").path())
        .map(|path| (path.clone(), fs::read(&path).expect("bytes")))
        .collect();
    files.sort();
    files
}

/// Returns bytes made of others: a part taken out, doubled, or out of another one, tokens put in, bytes changed.
fn mutated(pool: &[Vec<u8>], tokens: &[&str], random: &mut Rng) -> Vec<u8> {
    let mut bytes = pool[random.usize(..pool.len())].clone();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..24)).min(bytes.len());
        match random.u8(..6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let part = bytes[at..end].to_vec();
                let to = random.usize(..=bytes.len());
                drop(bytes.splice(to..to, part));
            }
            2 => drop(bytes.splice(at..at, random_token(tokens, random))),
            3 => drop(bytes.splice(at..end, random_token(tokens, random))),
            4 => {
                let other = &pool[random.usize(..pool.len())];
                let from = random.usize(..=other.len());
                let part = &other[from..(from + random.usize(..200)).min(other.len())];
                drop(bytes.splice(at..end, part.iter().copied()));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
        }
    }
    bytes.truncate(16 * 1024);
    bytes
}

fn random_token(tokens: &[&str], random: &mut Rng) -> Vec<u8> {
    tokens[random.usize(..tokens.len())].as_bytes().to_vec()
}

/// How long inputs are made up, and from which seed.
///
/// For `RK_FUZZ_SECONDS` from a new seed each time, so as to find; where that is not set, as many as the test says from one
/// seed, so that a test run says the same of the same code on every machine. `RK_FUZZ_SEED` repeats what was found.
pub struct Span {
    pub seed: u64,
    pub count: u64,
    most: u64,
    begun: Instant,
    length: Duration,
}

impl Span {
    pub fn of(inputs: u64) -> Self {
        let env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seconds = env("RK_FUZZ_SECONDS");
        let fresh = || seconds.map_or(1, |_| fastrand::u64(..));
        Self {
            seed: env("RK_FUZZ_SEED").unwrap_or_else(fresh),
            count: 0,
            most: seconds.map_or(inputs, |_| u64::MAX),
            begun: Instant::now(),
            length: seconds.map_or(Duration::MAX, Duration::from_secs),
        }
    }

    /// Returns whether there is a further one, and counts it.
    pub fn goes_on(&mut self) -> bool {
        let goes_on = self.count < self.most && self.begun.elapsed() < self.length;
        self.count += u64::from(goes_on);
        goes_on
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Checks every file of the corpus as it is, then `inputs` that are made of them, or as many as there is time for. `check`
/// returns what was done with an input, roughly, and whether it was taken.
pub fn fuzz<Done: Eq + Hash>(
    folder: &str,
    tokens: &[&str],
    inputs: u64,
    mut check: impl FnMut(&[u8]) -> Result<(Done, bool), String>,
) {
    let mut span = Span::of(inputs);
    let mut random = Rng::with_seed(span.seed);
    let mut checked = |bytes: &[u8]| {
        panic::catch_unwind(panic::AssertUnwindSafe(|| check(bytes)))
            .unwrap_or_else(|_| Err("a panic".to_owned()))
    };
    let mut known = HashSet::new();
    let mut pool = Vec::new();
    let mut taken = 0_u64;
    for (path, bytes) in corpus(folder) {
        match checked(&bytes) {
            Ok((done, was_taken)) => {
                taken += u64::from(was_taken);
                known.insert(done);
            }
            Err(why) => panic!("{}: {why}", path.display()),
        }
        pool.push(bytes);
    }
    assert!(pool.len() >= 15, "{} files", pool.len());
    while span.goes_on() {
        let bytes = mutated(&pool, tokens, &mut random);
        match checked(&bytes) {
            Ok((done, was_taken)) => {
                taken += u64::from(was_taken);
                if known.insert(done) && pool.len() < POOL {
                    pool.push(bytes);
                }
            }
            Err(why) => {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
                let kept = kept.join(format!("found-{}-{}", span.seed, span.count));
                fs::write(&kept, &bytes).expect("the bytes are written");
                panic!(
                    "{why}, for the bytes in {}: mend it, and keep them in tests/fuzz/{folder}",
                    kept.display()
                );
            }
        }
    }
    let (seed, count) = (span.seed, span.count);
    eprintln!(
        "{folder}: {count} inputs in {:?}, {taken} of them taken, {} did something new; seed {seed}",
        span.elapsed(),
        known.len()
    );
    assert!(taken > 0, "nothing was taken; seed {seed}");
    assert!(known.len() >= 5, "{} sorts; seed {seed}", known.len());
}
