//! What other people's code comes with: a licence that may be passed on, from the public registry only, and none of the packages
//! that were ruled out.

use std::{
    collections::BTreeSet,
    env,
    process::{Command, Output},
};

use serde_json::Value;

/// Licences that ask for no more than to be named.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// TLS is rustls with ring, nothing of C; `serde_yaml` and `backoff` have no maintainer.
const BANNED: [&str; 8] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "backoff",
    "native-tls",
    "openssl",
    "openssl-sys",
    "serde_yaml",
    "serde_yml",
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Returns whether the expression is fulfilled by [`LICENCES`] alone.
///
/// ```text
/// any  = all { ("OR" | "/") all }      all = one { "AND" one }      one = "(" any ")" | licence [ "WITH" exception ]
/// ```
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = any(&mut words);
    allowed && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> bool {
    let mut allowed = all(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all(words);
    }
    allowed
}

fn all(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let allowed = any(words);
        return allowed && words.next() == Some(")");
    }
    let allowed = words.next().is_some_and(|word| LICENCES.contains(&word));
    // An exception only ever allows more.
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    allowed
}

#[test]
fn expressions_of_licences_are_read() {
    for allowed in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "(MIT OR GPL-3.0) AND BSD-3-Clause",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(GPL-3.0 OR AGPL-3.0) AND MIT",
        "MIT AND (ISC OR MIT) AND SSPL-1.0",
        "MIT )",
    ] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

/// Returns the packages of a build for this machine. Of those for others there may be nothing here to look at.
fn packages() -> Vec<Value> {
    let output = |program: &str, words: &[&str]| -> Output {
        let mut command = Command::new(env::var(program).unwrap_or(program.to_lowercase()));
        let output = command
            .args(words)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        let output = output.expect("it is what builds these tests");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {words:?}: {said}");
        output
    };
    let version = output("RUSTC", &["-vV"]).stdout;
    let version = String::from_utf8(version).expect("text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let metadata = output(
        "CARGO",
        &[
            "metadata",
            "--offline",
            "--locked",
            "--all-features",
            "--format-version=1",
            "--filter-platform",
            host.expect("a host"),
        ],
    );
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.clone()
}

#[test]
fn every_package_has_a_licence_that_may_be_passed_on() {
    let packages = packages();
    assert!(packages.len() > 200, "{} packages", packages.len());
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or_default()))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// For every platform, with or without features: the lock file has them all.
#[test]
fn packages_come_from_the_registry_and_none_is_banned() {
    let lock = crate::docs::text("Cargo.lock");
    let field = |package: &str, name: &str| {
        let start = format!("{name} = \"");
        let line = package.lines().find_map(|line| line.strip_prefix(&start));
        line.map(|line| line.trim_end_matches('"').to_owned())
    };
    let mut names = BTreeSet::new();
    for package in lock.split("[[package]]\n").skip(1) {
        let name = field(package, "name").expect("a name");
        let source = field(package, "source");
        if name == env!("CARGO_PKG_NAME") {
            assert_eq!(source, None);
            continue;
        }
        assert_eq!(source.as_deref(), Some(REGISTRY), "{name}");
        assert!(field(package, "checksum").is_some(), "{name}");
        names.insert(name);
    }
    assert!(names.contains("rustls"), "the lock file is read");
    for banned in BANNED {
        assert!(!names.contains(banned), "{banned} is in the tree");
    }
}
