//! Looks for values that the encoder gets wrong, and (`plans`) for plans: `make fuzz`, and with every test run some thousands
//! of them from one seed.
//!
//! ```text
//! corpus (tests/fuzz/values) -> pool -> mutate -> encoder, in every form  ==  reference (a tree)
//!                                ^                  |
//!                                `-- keeps values that did something new
//! ```
//!
//! Why not cargo-fuzz, bolero or afl: the first two get their feedback from a nightly compiler, the last one from a C
//! toolchain of its own, and all of them would find panics only. Here the feedback is what the encoder did (which reason,
//! which form changed what), and each value is held against what PHP would make of it.

mod answers;
mod cursors;
mod driver;
mod mutate;
mod plans;
mod reference;

use std::{
    collections::HashSet,
    fs, panic,
    path::{Path, PathBuf},
};

use driver::Span;
use fastrand::Rng;
use reference::{Tree, decode, decode_without_timestamp};
use rekindle::{
    plan::{Compression, ValueForm},
    value::{
        Broken, MoreKeys,
        php::{Form, Json},
    },
};

/// Most values of a kind that are kept to make others of; further ones take the place of any of them.
const POOL: usize = 5_000;

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/values");
    let mut values: Vec<_> = fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| entry.expect("a file").path())
        .map(|path| (path.clone(), fs::read(&path).expect("a value")))
        .collect();
    values.sort();
    values
}

/// What is compared: writers that are used again and again, as a restore does.
struct Subject {
    message: Json,
    storage: Json,
    search: Json,
    more_keys: MoreKeys,
}

/// What the encoder did with a value, roughly: values that differ in this are worth going on with.
type Done = (u8, bool, u32, u32);

impl Subject {
    const fn form(&mut self, form: Form) -> &mut Json {
        match form {
            Form::Message => &mut self.message,
            Form::Storage => &mut self.storage,
            Form::Search => &mut self.search,
        }
    }

    fn new() -> Self {
        Self {
            message: Json::new(Form::Message),
            storage: Json::new(Form::Storage),
            search: Json::new(Form::Search),
            more_keys: MoreKeys::new(ValueForm::Php, Compression::None),
        }
    }

    /// Compares every form of `input` with what PHP would make of it.
    fn check(&mut self, input: &[u8]) -> Result<Done, String> {
        let tree = decode(input).filter(|tree| matches!(tree, Tree::List(_) | Tree::Map(_)));
        for form in [Form::Message, Form::Storage, Form::Search] {
            let written = self.form(form).encode(input).map(<[u8]>::to_vec);
            let expected = match form {
                Form::Search => tree.as_ref().and_then(|_| decode_without_timestamp(input)),
                Form::Message | Form::Storage => tree.clone(),
            };
            match (&written, expected) {
                (Ok(written), Some(expected)) => {
                    if decode(written).as_ref() != Some(&expected) {
                        return Err(format!("{form:?} means something else"));
                    }
                    if form != Form::Message
                        && self.form(form).encode(written) != Ok(written.as_slice())
                    {
                        return Err(format!("{form:?} is not written the same again"));
                    }
                }
                (Err(_), None) => {}
                (Ok(_), None) => return Err(format!("{form:?} was written, PHP reads no array")),
                (Err(why), Some(_)) => return Err(format!("{form:?} was refused: {why}")),
            }
        }
        self.check_way_through_the_queue(input)?;
        self.check_more_keys(input, tree.as_ref())?;
        Ok(self.done(input))
    }

    /// What is stored is what comes out of the message that a shop would send.
    fn check_way_through_the_queue(&mut self, input: &[u8]) -> Result<(), String> {
        let Ok(message) = self.message.encode(input).map(<[u8]>::to_vec) else {
            return Ok(());
        };
        let direct = self.storage.encode(input).map(<[u8]>::to_vec);
        let received = self.storage.encode(&message).map(<[u8]>::to_vec);
        if direct == received {
            return Ok(());
        }
        Err("the value in Redis differs by its way".to_owned())
    }

    /// The same bytes as a column of aliases.
    fn check_more_keys(&mut self, input: &[u8], tree: Option<&Tree>) -> Result<(), String> {
        let is_blank = input.trim_ascii().is_empty();
        let arrays = |members: &[(String, Tree)]| {
            members
                .iter()
                .all(|(_, value)| matches!(value, Tree::List(_) | Tree::Map(_)))
        };
        let expected = match tree {
            Some(Tree::List(values)) => values.is_empty().then(Vec::new),
            Some(Tree::Map(members)) if arrays(members) => Some(members.clone()),
            _ => is_blank.then(Vec::new),
        };
        let pairs = self.more_keys.of(b"own", Some(input), None);
        match (pairs, expected) {
            (Err(_), None) => Ok(()),
            (Ok(pairs), Some(expected)) => {
                let same = pairs.len() == expected.len()
                    && pairs
                        .iter()
                        .zip(&expected)
                        .all(|((key, json), (name, value))| {
                            key == name.as_bytes() && decode(json).as_ref() == Some(value)
                        });
                same.then_some(())
                    .ok_or_else(|| "aliases mean something else".to_owned())
            }
            (pairs, expected) => Err(format!(
                "aliases: {} where {} are meant",
                pairs.map_or("none".to_owned(), |pairs| pairs.len().to_string()),
                expected.map_or(0, |expected| expected.len())
            )),
        }
    }

    fn done(&mut self, input: &[u8]) -> Done {
        // Which classes of bytes there are, and by which powers of two the length went and came.
        let classes = input.iter().fold(0_u32, |classes, byte| {
            classes
                | 1 << match byte {
                    b'"' => 0,
                    b'\\' => 1,
                    b'/' => 2,
                    b'{' => 3,
                    b'[' => 4,
                    b'0'..=b'9' => 5,
                    b'.' => 6,
                    b'e' | b'E' => 7,
                    b'-' => 8,
                    0x80..=0xdf => 9,
                    0xe0..=0xef => 10,
                    0xf0.. => 11,
                    ..0x20 => 12,
                    b'u' => 13,
                    b'_' => 14,
                    _ => 15,
                }
        });
        let length = input.len().max(1).ilog2();
        match self.storage.encode(input) {
            Ok(written) => {
                let copied = std::ptr::eq(written, input);
                (
                    0,
                    copied,
                    classes,
                    length << 8 | written.len().max(1).ilog2(),
                )
            }
            Err(broken) => {
                let reason = match broken {
                    Broken::Empty => 1,
                    Broken::Scalar => 2,
                    Broken::Cut(_) => 3,
                    Broken::Ended(_) => 4,
                    Broken::Syntax(_) => 5,
                    Broken::Control(_) => 6,
                    Broken::Utf8(_) => 7,
                    Broken::Surrogate(_) => 8,
                    Broken::TooDeep(_) => 9,
                };
                (reason, false, classes, length)
            }
        }
    }
}

/// Checks one value, and a panic is as wrong as any other answer.
fn checked(subject: &mut Subject, input: &[u8]) -> Result<Done, String> {
    panic::catch_unwind(panic::AssertUnwindSafe(|| subject.check(input)))
        .unwrap_or_else(|_| Err("a panic".to_owned()))
}

#[test]
fn every_value_of_the_corpus_is_right() {
    let values = corpus();
    assert!(values.len() >= 30, "{} values", values.len());
    for (path, value) in values {
        // Also cut at every place: so a column would have kept it.
        for end in 0..=value.len() {
            if let Err(why) = checked(&mut Subject::new(), &value[..end]) {
                panic!("{} up to byte {end}: {why}", path.display());
            }
        }
    }
}

#[test]
fn no_new_value_is_wrong() {
    let mut span = Span::of(5_000);
    let mut random = Rng::with_seed(span.seed);
    let mut subject = Subject::new();
    // Most are made of whole ones: what is broken once seldom becomes whole again.
    let (mut wholes, mut brokens): (Vec<_>, Vec<_>) = corpus()
        .into_iter()
        .map(|(_, value)| value)
        .partition(|value| checked(&mut subject, value).is_ok_and(|done| done.0 == 0));
    let mut known = HashSet::new();
    let mut whole = 0_u64;
    while span.goes_on() {
        let pool = if random.u8(..8) == 0 {
            &brokens
        } else {
            &wholes
        };
        let value = mutate::mutated(pool, &mut random);
        match checked(&mut subject, &value) {
            Ok(done) => {
                whole += u64::from(done.0 == 0);
                if !known.insert(done) {
                    continue;
                }
                let pool = if done.0 == 0 {
                    &mut wholes
                } else {
                    &mut brokens
                };
                if pool.len() < POOL {
                    pool.push(value);
                } else {
                    let at = random.usize(..POOL);
                    pool[at] = value;
                }
            }
            Err(why) => {
                let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
                let path = folder.join(format!("found-{}-{}.json", span.seed, span.count));
                fs::write(&path, &value).expect("the value is written");
                panic!(
                    "{why}, for the value in {}: mend it, and keep the value in tests/fuzz/values",
                    path.display()
                );
            }
        }
    }
    let (seed, count) = (span.seed, span.count);
    eprintln!(
        "{count} values in {:?}, {whole} of them whole, {} did something new; seed {seed}",
        span.elapsed(),
        known.len()
    );
    assert!(
        whole > count / 20,
        "{whole} of {count} values are whole; seed {seed}"
    );
}

#[test]
fn the_reference_tells_values_apart() {
    let tree = |json: &str| decode(json.as_bytes()).expect("JSON");
    assert_eq!(tree(r#"{"0":1,"1":{}}"#), tree("[1.0,[]]"));
    assert_eq!(tree(r#"{"a":1,"b":2,"a":3}"#), tree(r#"{"a":3,"b":2}"#));
    assert_eq!(tree("[1e400]"), tree("[0]"));
    for (one, other) in [
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
        (r#"{"1":1}"#, "[1]"),
        (r#"["1"]"#, "[1]"),
        ("[0.1]", "[0.10000000000000002]"),
        ("[9223372036854775807]", "[9223372036854775806]"),
        ("[null]", "[false]"),
    ] {
        assert_ne!(tree(one), tree(other), "{one} {other}");
    }
    for broken in [
        "[1,]",
        "[01]",
        "[\"\t\"]",
        "[\"\\ud83d\"]",
        "[] x",
        "{'a':1}",
    ] {
        assert_eq!(decode(broken.as_bytes()), None, "{broken}");
    }
}
