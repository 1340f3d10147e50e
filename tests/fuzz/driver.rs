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

/// Checks every file of the corpus as it is, then what is made of them, for two seconds or `RK_FUZZ_SECONDS`. `check`
/// returns what was done with an input, roughly, and whether it was taken.
pub fn fuzz<Done: Eq + Hash>(
    folder: &str,
    tokens: &[&str],
    mut check: impl FnMut(&[u8]) -> Result<(Done, bool), String>,
) {
    let env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let length = Duration::from_secs(env("RK_FUZZ_SECONDS").unwrap_or(2));
    let seed = env("RK_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    let mut checked = |bytes: &[u8]| {
        panic::catch_unwind(panic::AssertUnwindSafe(|| check(bytes)))
            .unwrap_or_else(|_| Err("a panic".to_owned()))
    };
    let mut known = HashSet::new();
    let mut pool = Vec::new();
    let (mut count, mut taken) = (0_u64, 0_u64);
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
    let begun = Instant::now();
    while begun.elapsed() < length {
        let bytes = mutated(&pool, tokens, &mut random);
        count += 1;
        match checked(&bytes) {
            Ok((done, was_taken)) => {
                taken += u64::from(was_taken);
                if known.insert(done) && pool.len() < POOL {
                    pool.push(bytes);
                }
            }
            Err(why) => {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
                let kept = kept.join(format!("found-{seed}-{count}"));
                fs::write(&kept, &bytes).expect("the bytes are written");
                panic!(
                    "{why}, for the bytes in {}: mend it, and keep them in tests/fuzz/{folder}",
                    kept.display()
                );
            }
        }
    }
    eprintln!(
        "{folder}: {count} inputs in {:?}, {taken} of them taken, {} did something new; seed {seed}",
        begun.elapsed(),
        known.len()
    );
    assert!(taken > 0, "nothing was taken; seed {seed}");
    assert!(known.len() >= 5, "{} sorts; seed {seed}", known.len());
}
