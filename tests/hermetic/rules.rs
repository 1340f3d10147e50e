//! Every rule that a plan is checked by has a picture of what it says.

use std::{fs, path::Path};

use rekindle::plan::Code;

/// Where the rules are, one to a file.
const RULES: [&str; 2] = ["src/plan/check", "src/engine/checks"];

/// Bad plans and what is drawn for them, without a server and with.
const PICTURES: [&str; 3] = [
    "tests/hermetic/plans",
    "tests/hermetic/checks",
    "tests/services/checks",
];

/// What no server of the tests says of itself, and what depends on the memory of one; tests beside the rules have their words.
const NOT_DRAWN: [&str; 2] = ["CoverageUnknown", "NoRoom"];

fn files(folder: &str, end: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|found| found == end))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("text");
            (path.display().to_string(), text)
        })
        .collect();
    files.sort();
    files
}

/// Returns `text` with every break and indent as one blank: where a drawn line ends depends on its width.
fn flat(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Returns the texts between quotes, with broken lines put together.
fn literals(source: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = source;
    while let Some((_, after)) = rest.split_once('"') {
        let mut text = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, '\n')) => text.push(' '),
                    Some((_, c)) => text.push(c),
                    None => {}
                },
                c => text.push(c),
            }
        }
        all.push(flat(&text));
        rest = &after[end..];
    }
    all
}

/// Returns the longest part of a message that does not depend on the plan; `None` where a rule puts it together elsewhere.
fn fixed_part(call: &str) -> Option<String> {
    let end = [".at(", ".help(", ")\n"].map(|end| call.find(end).unwrap_or(call.len()));
    let head = &call[..end.into_iter().min()?];
    let literals = literals(head);
    let parts = literals.iter().flat_map(|text| text.split(['{', '}']));
    // What stands between braces is short or has no blank.
    let parts = parts.filter(|part| part.trim().len() >= 8 && part.trim().contains(' '));
    let longest = parts.max_by_key(|part| part.len())?;
    Some(longest.trim().to_owned())
}

#[test]
fn every_rule_has_a_picture() {
    let pictures: Vec<String> = PICTURES
        .iter()
        .flat_map(|folder| files(folder, "snap"))
        .map(|(_, text)| text.replace("\n  | ", " "))
        .collect();
    let pictures = flat(&pictures.concat());
    let mut messages = 0;
    for (path, source) in RULES.iter().flat_map(|folder| files(folder, "rs")) {
        let (rule, _) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        for code in Code::ALL {
            let variant = format!("{code:?}");
            let names = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
            let used = rule.split(&format!("Code::{variant}")).skip(1).any(names);
            if used && !NOT_DRAWN.contains(&variant.as_str()) {
                assert!(
                    pictures.contains(code.text()),
                    "{path}: no picture of {code}"
                );
            }
        }
        for call in rule.split("Diagnostic::new(").skip(1) {
            if NOT_DRAWN
                .iter()
                .any(|code| flat(call).starts_with(&format!("Code::{code}")))
            {
                continue;
            }
            let Some(part) = fixed_part(call) else {
                continue;
            };
            messages += 1;
            assert!(pictures.contains(&part), "{path}: no picture of `{part}`");
        }
    }
    assert!(messages > 30, "{messages} messages");
}
