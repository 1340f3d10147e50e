//! The table of faults and the tests that it names are one: `tests/faults.md`, and the part of it that is in the README.

use std::{collections::BTreeSet, fs, path::Path};

use crate::docs::{table, text};

/// One row of the table.
struct Fault {
    code: String,
    is_starred: bool,
    wrong: String,
    then: String,
    /// File and function of each test; none for a fault that no test can bring about.
    tests: Vec<(String, String)>,
    /// What stands in the place of tests.
    why_none: Option<String>,
}

fn faults() -> Vec<Fault> {
    let rows = table(&text("tests/faults.md"), "fault | ★");
    let read = rows.into_iter().map(|cells| {
        let [code, star, wrong, then, tests] = cells.try_into().expect("five cells");
        let why_none = tests.strip_prefix("none: ").map(str::to_owned);
        let named = tests.split("<br>").filter(|_| why_none.is_none());
        let named = named.map(|test| {
            let test = test.trim_matches('`').split_once("::");
            let (file, function) = test.unwrap_or_else(|| panic!("{code}: `{tests}`"));
            (file.to_owned(), function.to_owned())
        });
        Fault {
            tests: named.collect(),
            is_starred: star == "★",
            code,
            wrong,
            then,
            why_none,
        }
    });
    read.collect()
}

/// Returns the names of the functions of this file that the test harness runs.
fn tests_of(file: &str) -> BTreeSet<String> {
    let ways = [
        "tests/{}.rs",
        "tests/{}/mod.rs",
        "tests/{}/main.rs",
        "{}.rs",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = ways.map(|way| root.join(way.replace("{}", file)));
    let path = path.iter().find(|path| path.is_file());
    let path = path.unwrap_or_else(|| panic!("no file of tests is called `{file}`"));
    let source = fs::read_to_string(path).expect("text");
    let after = source.split("#[test]").skip(1);
    let after = after.chain(source.split("#[tokio::test").skip(1));
    let name = |rest: &str| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned());
    after.filter_map(name).collect()
}

/// Returns the codes that the name of a test begins with: `R6` and `R8` of `r6_r8_redis_gets_every_row`.
fn codes(function: &str) -> Vec<String> {
    let is_code = |word: &&str| {
        word.len() > 1
            && word.starts_with(|first: char| first.is_ascii_lowercase())
            && word[1..].bytes().all(|byte| byte.is_ascii_digit())
    };
    let words = function.split('_').take_while(is_code);
    words.map(str::to_uppercase).collect()
}

#[test]
fn every_test_of_the_table_is_there_and_every_starred_fault_has_one_of_its_name() {
    let faults = faults();
    assert!(faults.len() > 80, "{} faults", faults.len());
    let mut seen = BTreeSet::new();
    for fault in &faults {
        let code = &fault.code;
        assert!(seen.insert(code.clone()), "{code} has two rows");
        assert_eq!(fault.tests.is_empty(), fault.why_none.is_some(), "{code}");
        for (file, function) in &fault.tests {
            let there = tests_of(file);
            assert!(
                there.contains(function),
                "{code}: no test `{function}` in {file}"
            );
        }
        let is_named = fault
            .tests
            .iter()
            .any(|(_, function)| codes(function).contains(code));
        if fault.is_starred && fault.why_none.is_none() {
            assert!(is_named, "{code}: the name of a test begins with its code");
        }
    }
}

/// Every code that a test begins with has a row, and that row names the test.
#[test]
fn every_test_named_after_a_fault_is_in_the_table() {
    let faults = faults();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension() != Some("rs".as_ref()) {
                continue;
            }
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
            let file = path.strip_prefix(root).expect("below tests");
            let file = file.with_extension("").display().to_string();
            for function in tests_of(&file) {
                for code in codes(&function) {
                    found += 1;
                    let fault = faults.iter().find(|fault| fault.code == code);
                    let fault = fault.unwrap_or_else(|| panic!("{file}::{function}: no {code}"));
                    assert!(
                        fault.tests.iter().any(|(_, name)| *name == function),
                        "{code} does not name {file}::{function}"
                    );
                }
            }
        }
    }
    assert!(found >= 50, "{found} codes");
}

#[test]
fn the_readme_has_the_starred_faults_of_the_table() {
    let rows = table(&text("README.md"), "fault | what goes wrong");
    let wanted: Vec<Vec<String>> = faults()
        .into_iter()
        .filter(|fault| fault.is_starred)
        .map(|fault| {
            let mut files: Vec<String> = Vec::new();
            for (file, _) in &fault.tests {
                let file = format!("`{file}`");
                if !files.contains(&file) {
                    files.push(file);
                }
            }
            let tests = fault
                .why_none
                .map_or_else(|| files.join(", "), |why| format!("none: {why}"));
            vec![fault.code, fault.wrong, fault.then, tests]
        })
        .collect();
    assert_eq!(rows, wanted);
}
