//! One bad plan per diagnostic code, every plan of `plans/`, and files that are no plans at all.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rekindle::plan::{self, Code, Loaded, Look, PlanProblems, Severity};

/// What may never show up in a message.
const SECRET: &str = "geheim";

/// Files that are made while testing: too large, not text, or not there.
const MADE_UP: [Code; 3] = [Code::Unreadable, Code::TooLarge, Code::NotText];

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("geheim-4711".to_owned()),
        "SECRET_SIZE" => Some("geheimMB".to_owned()),
        "SIXTY_FIVE" => Some("65".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn load(path: &Path) -> Result<Loaded, Box<PlanProblems>> {
    plan::load(path, &env)
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} has no plans");
    files
}

/// Compares `text` with `tests/hermetic/plans/NAME.snap`.
fn snapshot(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "plans",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

/// Returns the problems of a plan, warnings of a sound plan included.
fn problems(path: &Path) -> PlanProblems {
    match load(path) {
        Ok(loaded) => loaded.strict_problems().expect("the plan has no problem"),
        Err(problems) => *problems,
    }
}

#[test]
fn o5_every_bad_plan_says_what_is_wrong() {
    let mut shown = BTreeSet::new();
    for path in yaml_files("tests/hermetic/plans") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let problems = problems(&path);
        let rendered = problems.render(Look::Plain, 120);
        assert!(
            !rendered.contains(SECRET),
            "{name} gives a secret away:\n{rendered}"
        );
        let json = serde_json::to_string(&problems.entries()).unwrap();
        assert!(
            !json.contains(SECRET),
            "{name} gives a secret away:\n{json}"
        );
        assert!(
            rendered.is_ascii() && !rendered.contains('\u{1b}'),
            "{name} is not plain"
        );
        let promised = format!("plan::{}", name.split('.').next().unwrap());
        let codes: BTreeSet<_> = problems.diagnostics().iter().map(|p| p.code).collect();
        assert!(
            codes.iter().any(|code| code.text() == promised),
            "{name} shows {codes:?}"
        );
        shown.extend(codes.into_iter().filter(|code| code.text() == promised));
        snapshot(&name, &rendered);
    }
    // What only servers show: `checks`.
    for code in Code::ALL.into_iter().filter(|code| !code.is_connected()) {
        assert!(
            shown.contains(&code) || MADE_UP.contains(&code),
            "no bad plan shows {code}"
        );
    }
}

#[test]
fn every_plan_of_the_project_is_sound() {
    for path in yaml_files("plans") {
        let loaded = plan::load(&path, &|_| None)
            .unwrap_or_else(|problems| panic!("{}", problems.render(Look::Plain, 120)));
        assert_eq!(loaded.warnings, [], "{}", path.display());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .canonicalize()
            .unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let state = root.join("state").join(format!("{name}.sqlite"));
        assert_eq!(loaded.plan.state_path(), state);
    }
}

#[test]
fn problems_are_drawn_and_coloured_only_where_wanted() {
    let problems = problems(Path::new("tests/hermetic/plans/unknown-target.yaml"));
    let drawn = problems.render(Look::Graphical { color: false }, 80);
    assert!(drawn.contains('╭') && !drawn.contains('\u{1b}'), "{drawn}");
    let coloured = problems.render(Look::Graphical { color: true }, 80);
    assert!(coloured.contains('\u{1b}'), "{coloured}");
}

#[test]
fn problems_have_a_form_for_machines() {
    let problems = problems(Path::new("tests/hermetic/plans/unknown-target.yaml"));
    snapshot(
        "json",
        &serde_json::to_string_pretty(&problems.entries()).unwrap(),
    );
}

#[test]
fn a_warning_stops_nothing_but_a_strict_run() {
    let loaded = load(Path::new("tests/hermetic/plans/shared-keys.yaml")).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].severity, Severity::Warning);
    assert_eq!(
        loaded.strict_problems().unwrap().diagnostics()[0].severity,
        Severity::Error
    );
}

/// Returns the processor time of this thread: what a busy machine does beside it does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// The processor time that any file may take: a second of the program that people use. Not optimised, it is some ten times as slow.
const MOST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 1 });

/// Memory that the program may take for any file, in KiB.
const MOST_KIB: u32 = 50 * 1024;

/// Loads a file with these bytes and returns the codes of its problems. Refuses to be slow.
fn codes_of(bytes: &[u8]) -> Vec<Code> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.yaml");
    fs::write(&path, bytes).unwrap();
    let begun = cpu_time();
    let codes = load(&path).map_or_else(
        |problems| {
            let rendered = problems.render(Look::Graphical { color: true }, 80);
            assert!(rendered.len() < 400_000, "{} bytes", rendered.len());
            problems
                .diagnostics()
                .iter()
                .map(|problem| problem.code)
                .collect()
        },
        |_| Vec::new(),
    );
    let taken = cpu_time().saturating_sub(begun);
    assert!(taken < MOST, "took {taken:?}");
    codes
}

#[test]
fn o6_files_that_are_no_plans_are_refused_in_bounded_time() {
    assert_eq!(codes_of(&b"[".repeat(100_000)), [Code::TooComplex]);
    assert_eq!(codes_of(&b"{a: ".repeat(100_000)), [Code::TooComplex]);
    assert_eq!(codes_of(&b"- ".repeat(100_000)), [Code::TooComplex]);
    assert_eq!(codes_of(&[b'['].repeat(2 << 20)), [Code::TooLarge]);
    assert_eq!(
        codes_of(format!("name: {}\n", "x".repeat(1 << 20)).as_bytes()),
        [Code::TooLarge]
    );
    assert_eq!(
        codes_of("- x\n".repeat(200_000).as_bytes()),
        [Code::TooComplex]
    );
    let bomb = |levels: usize| {
        let level = |n: usize| format!("l{n}: &l{n} [{}]\n", format!("*l{}, ", n - 1).repeat(9));
        format!("l0: &l0 x\n{}", (1..=levels).map(level).collect::<String>())
    };
    assert_eq!(codes_of(bomb(9).as_bytes()), [Code::TooComplex]);
    assert_eq!(codes_of(b"version: 1\nname: a\0b\n"), [Code::NotText]);
    assert_eq!(codes_of(b"version: 1\nname: a\x1b[31mb\n"), [Code::NotText]);
    assert_eq!(codes_of(b"version: 1\nname: \xff\xfe\n"), [Code::NotText]);
    assert_eq!(codes_of(b"version: 1\rname: shop\n"), [Code::NotText]);
    assert_eq!(codes_of(b"version: 1\nname: shop\r"), [Code::NotText]);
    assert_eq!(codes_of(b"version: 1\nname:\n\t- shop\n"), [Code::Syntax]);
    assert_eq!(codes_of(b"\xff\xfev\0e\0r\0"), [Code::NotText]);
    for nothing in [
        &b""[..],
        b"\n\n",
        b"\xef\xbb\xbf",
        b"---\n",
        b"# only a comment",
        b"~",
        b"7",
    ] {
        assert_eq!(codes_of(nothing), [Code::WrongType], "{nothing:?}");
    }
    let aliases = format!("a: &a x\nb: [{}]\n", "*a, ".repeat(101));
    assert_eq!(codes_of(aliases.as_bytes()), [Code::TooComplex]);
    assert_eq!(codes_of(b"version: 1\nname: &a [*a]\n"), [Code::TooComplex]);
}

/// Asserts that the program refuses these bytes within the memory it may take: beyond it the kernel gives it none, and it dies.
#[track_caller]
fn refused_in_little_memory(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.yaml");
    fs::write(&path, bytes).unwrap();
    let limited = |kib: u32| {
        let output = Command::new("sh")
            .args(["-c", &format!("ulimit -d {kib} && exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_rekindle"))
            .args(["validate", "--offline"])
            .arg(&path)
            .output()
            .unwrap();
        output.status.code()
    };
    assert_eq!(limited(MOST_KIB), Some(3), "{name}");
    // The limit is one: with less than the program itself takes, it does not get that far.
    assert_ne!(limited(64), Some(3), "{name}");
}

#[test]
fn files_that_are_no_plans_are_refused_in_little_memory() {
    let bomb = |levels: usize| {
        let level = |n: usize| format!("l{n}: &l{n} [{}]\n", format!("*l{}, ", n - 1).repeat(9));
        format!("l0: &l0 x\n{}", (1..=levels).map(level).collect::<String>())
    };
    let head = "version: 1\nname: x\nsource: {url: 'sqlite:x'}\ntargets: {a: {file: {path: x}}}\nresources:\n";
    let strangers = |n| format!("- {{name: r{n}, after: [x{n}, r{}], to: b{n}}}\n", n + 1);
    let strangers: String = (0..4_000).map(strangers).collect();
    for (name, bytes) in [
        ("100 MB", b"a: b\n".repeat(20_000_000)),
        ("one long line", vec![b'x'; 100_000_000]),
        ("lists in lists", vec![b'['; 1_000_000]),
        ("maps in maps", b"{a: ".repeat(250_000)),
        ("a long list", b"- x\n".repeat(250_000)),
        ("a bomb", bomb(9).into_bytes()),
        (
            "aliases",
            format!("a: &a x\nb: [{}]\n", "*a, ".repeat(200_000)).into_bytes(),
        ),
        ("NUL", vec![0; 1_000_000]),
        ("byte order marks", b"\xef\xbb\xbf".repeat(300_000)),
        ("tabs", vec![b'\t'; 1_000_000]),
        ("line ends", b"\r\n".repeat(500_000)),
        (
            "an open text",
            [&b"a: \""[..], &b"\\n".repeat(400_000)].concat(),
        ),
        ("problems", format!("{head}{strangers}").into_bytes()),
    ] {
        refused_in_little_memory(name, &bytes);
    }
}

#[test]
fn a_plan_with_endless_problems_is_refused_in_bounded_time() {
    let head = "version: 1\nname: x\nsource: {url: 'sqlite:x'}\ntargets: {a: {file: {path: x}}}\nresources:\n";
    let many = |count: usize, line: &dyn Fn(usize) -> String| {
        let lines: Vec<_> = (0..count).map(line).collect();
        codes_of(format!("{head}{}", lines.concat()).as_bytes()).len()
    };
    assert_eq!(many(20_000, &|n| format!("  k{n}: 1\n")), 1, "not YAML");
    let keys = |n| format!("- k{n}: 1\n");
    assert_eq!(many(20_000, &keys), 100);
    let strangers = |n| format!("- {{name: r{n}, after: [x{n}, r{}], to: b{n}}}\n", n + 1);
    assert_eq!(many(4_000, &strangers), 100);
    let rings = |n| format!("- {{name: r{n}, after: [r0, r{}]}}\n", (n + 1) % 9_000);
    assert_eq!(many(9_000, &rings), 100);
    assert_eq!(many(9_000, &|_| "- {name: r}\n".to_owned()), 100);
}

#[test]
fn a_damaged_plan_never_gives_a_panic_or_a_secret() {
    // Always the same damage, so that a failure comes back.
    let mut random = fastrand::Rng::with_seed(4711);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.yaml");
    let mut files = yaml_files("plans");
    files.extend(yaml_files("tests/hermetic/plans"));
    let scraps = [
        "\t", "\r", "[", "}", ": ", "- ", "&a ", "*a", "'", "\"", "${", "é", "\u{feff}", "\n",
        "<<: ", "#", "!", "? ",
    ];
    let mutations = env_count("PLAN_MUTATIONS", 5);
    for file in files {
        let whole = fs::read_to_string(file)
            .unwrap()
            .replace(SECRET, "${SECRET}");
        for _ in 0..mutations {
            let mut chars: Vec<char> = whole.chars().collect();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..chars.len());
                let end = (at + random.usize(1..30)).min(chars.len());
                match random.u8(..3) {
                    0 => drop(chars.drain(at..end)),
                    1 => {
                        let copy: Vec<char> = chars[at..end].to_vec();
                        let to = random.usize(..=chars.len());
                        chars.splice(to..to, copy);
                    }
                    _ => drop(chars.splice(at..at, scraps[random.usize(..scraps.len())].chars())),
                }
                if chars.is_empty() {
                    chars.push('x');
                }
            }
            fs::write(&path, chars.iter().collect::<String>()).unwrap();
            if let Err(problems) = load(&path) {
                let rendered = problems.render(Look::Graphical { color: true }, 80);
                let json = serde_json::to_string(&problems.entries()).unwrap();
                for shown in [rendered, json] {
                    assert!(!shown.contains(SECRET), "{shown}");
                }
                assert!(!problems.diagnostics().is_empty());
            }
        }
    }
}

/// Returns a count that the environment may raise for a long search.
fn env_count(name: &str, usual: u32) -> u32 {
    std::env::var(name)
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(usual)
}

#[test]
fn byte_order_mark_and_windows_line_ends_change_nothing() {
    let text = fs::read_to_string("plans/redis.yaml").unwrap();
    assert_eq!(codes_of(format!("\u{feff}{text}").as_bytes()), []);
    assert_eq!(codes_of(text.replace('\n', "\r\n").as_bytes()), []);
}

#[test]
fn a_file_that_is_not_there_is_a_problem_like_others() {
    let problems = load(Path::new("no/such/plan.yaml")).unwrap_err();
    snapshot("unreadable", &problems.render(Look::Plain, 120));
    assert_eq!(
        load(Path::new("plans")).unwrap_err().diagnostics()[0].code,
        Code::Unreadable
    );
}

#[test]
fn a_long_line_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.yaml");
    let text = format!("version: 1 {}# x\nnaem: shop\n", " ".repeat(500));
    fs::write(&path, text).unwrap();
    let rendered = load(&path).unwrap_err().render(Look::Plain, 120);
    assert!(
        rendered.contains("unknown key `naem` (line 2, column 1)"),
        "{rendered}"
    );
}

#[test]
fn every_default_that_was_used_is_named() {
    let loaded = plan::load(Path::new("plans/custom.yaml"), &|_| None).unwrap();
    let lines: Vec<_> = loaded
        .defaults_used
        .iter()
        .map(|(path, value)| format!("{path}: {value}"))
        .collect();
    snapshot("defaults", &lines.join("\n"));
    let loaded = plan::load(Path::new("plans/redis.yaml"), &|_| None).unwrap();
    let paths: Vec<_> = loaded
        .defaults_used
        .iter()
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "targets.storage.redis.compress",
            "defaults.sync",
            "defaults.fallback.to",
            "defaults.fallback.after_crashes",
            "defaults.fallback.after_failures",
            "defaults.verify"
        ]
    );
}
