//! What README and ARCHITECTURE say about the code is true.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use rekindle::{
    error::{Disposition, ErrorKind},
    failure::Exit,
};

/// Returns a file of the project.
pub fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the rows of the first table whose header begins with `header`, each as its cells.
pub fn table(document: &str, header: &str) -> Vec<Vec<String>> {
    let start = format!("| {header} |");
    let mut lines = document
        .lines()
        .skip_while(|line| !line.starts_with(&start));
    assert!(
        lines.next().is_some(),
        "no table that begins with `{start}`"
    );
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

const fn word(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Retry => "retry",
        Disposition::Throttle => "throttle",
        Disposition::Shrink => "shrink",
        Disposition::Try => "try",
        Disposition::Recheck => "recheck",
        Disposition::DeadLetter => "dead letter",
        Disposition::Block => "block",
        Disposition::Stop => "stop",
    }
}

#[test]
fn the_table_of_error_kinds_is_the_one_in_the_code() {
    let documented: Vec<[String; 3]> = table(&text("ARCHITECTURE.md"), "kind | disposition")
        .into_iter()
        .map(|cells| {
            let kind = cells[0].trim_matches('`').to_owned();
            [kind, cells[1].clone(), cells[2].clone()]
        })
        .collect();
    let coded: Vec<[String; 3]> = ErrorKind::ALL
        .into_iter()
        .map(|kind| {
            let falls_back = if kind.may_fall_back() { "yes" } else { "no" };
            [kind.label(), word(kind.disposition()), falls_back].map(str::to_owned)
        })
        .collect();
    assert_eq!(documented, coded);
}

/// Returns what the README has to say about `exit`. Without a wildcard: a new code has to be decided here.
const fn meaning(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "done",
        Exit::Bug => "bug",
        Exit::Usage => "command line",
        Exit::Refused => "refused before the first write",
        Exit::DeadLetters => "dead letters",
        Exit::Stopped => "stopped or blocked",
        Exit::InUse => "in use",
        Exit::Differences => "differences",
        Exit::Interrupted => "interrupted",
    }
}

#[test]
fn the_table_of_exit_codes_is_the_one_in_the_code() {
    let documented: BTreeMap<String, String> = table(&text("README.md"), "code")
        .into_iter()
        .map(|cells| (cells[0].clone(), cells[1].clone()))
        .collect();
    assert_eq!(documented.len(), Exit::ALL.len());
    for exit in Exit::ALL {
        let said = documented
            .get(&exit.code().to_string())
            .unwrap_or_else(|| panic!("exit code {} is not in the table", exit.code()));
        assert!(
            said.contains(meaning(exit)),
            "{}: `{said}` does not say `{}`",
            exit.code(),
            meaning(exit)
        );
    }
}

/// Returns what the program prints on stdout.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rekindle"))
        .args(arguments)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("help is text")
}

/// Returns the names that `help` lists below `Commands:`.
fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // A description that goes on in a second line is indented further.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

/// Returns the long options that `help` lists.
fn options(help: &str) -> Vec<String> {
    help.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let long = line.split_once("--").filter(|(before, _)| {
                before.is_empty() || (before.starts_with('-') && before.ends_with(", "))
            })?;
            let name: String = long
                .1
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                .collect();
            Some(format!("--{name}"))
        })
        .filter(|option| !["--help", "--version"].contains(&option.as_str()))
        .collect()
}

#[test]
fn every_command_of_the_help_has_its_row() {
    let readme = text("README.md");
    let rows: Vec<String> = table(&readme, "command")
        .into_iter()
        .map(|cells| cells[0].clone())
        .collect();
    let listed = commands(&printed(&["--help"]));
    assert!(listed.contains(&"run".to_owned()), "{listed:?}");
    for command in &listed {
        let begins = [format!("`{command} "), format!("`{command}`")];
        assert!(
            rows.iter()
                .any(|row| begins.iter().any(|begin| row.starts_with(begin))),
            "`{command}` has no row in the README's table of commands"
        );
    }
    // And no row without a command.
    for row in &rows {
        let name = row.trim_start_matches('`').split([' ', '`']).next();
        assert!(
            listed.iter().any(|command| Some(command.as_str()) == name),
            "{row}"
        );
    }
}

#[test]
fn every_option_of_the_help_is_named() {
    let readme = text("README.md");
    for help in [
        printed(&["--help"]),
        printed(&["init", "--help"]),
        printed(&["validate", "--help"]),
        printed(&["run", "--help"]),
        printed(&["resume", "--help"]),
        printed(&["verify", "--help"]),
        printed(&["doctor", "--help"]),
        printed(&["status", "--help"]),
        printed(&["dead-letters", "show", "--help"]),
        printed(&["dead-letters", "retry", "--help"]),
        printed(&["dead-letters", "drop", "--help"]),
        printed(&["consume", "--help"]),
    ] {
        let listed = options(&help);
        assert!(listed.contains(&"--state".to_owned()), "{listed:?}");
        for option in listed {
            assert!(readme.contains(&option), "`{option}` is not in the README");
        }
    }
}

#[test]
fn every_example_plan_is_named() {
    let readme = text("README.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut seen = 0;
    for entry in fs::read_dir(folder).expect("there are example plans") {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".yaml") {
            seen += 1;
            let path = format!("plans/{name}");
            assert!(readme.contains(&path), "`{path}` is not in the README");
        }
    }
    assert!(seen > 0);
}

#[test]
fn every_room_is_on_the_map() {
    let map = text("ARCHITECTURE.md");
    let rooms = text("src/lib.rs");
    let rooms: Vec<&str> = rooms
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert!(rooms.contains(&"engine"), "{rooms:?}");
    let named: String = table(&map, "room")
        .into_iter()
        .map(|cells| cells[0].clone() + " ")
        .collect();
    for room in rooms {
        assert!(
            named.contains(&format!("`{room}`")),
            "`{room}` is not on the map"
        );
    }
}

#[test]
fn every_make_target_of_the_readme_is_there() {
    let makefile = text("Makefile");
    for target in ["demo", "test", "build"] {
        assert!(text("README.md").contains(&format!("make {target}")));
        assert!(makefile.contains(&format!("\n{target}: ")), "{target}");
    }
}

/// The pictures of terminals that `tests/screens/run` takes.
const SCREENS: [&str; 5] = ["dry-run", "progress", "status", "failed", "fallback"];

#[test]
fn the_pictures_of_the_readme_are_those_that_the_script_takes() {
    let (readme, script) = (text("README.md"), text("tests/screens/run"));
    for name in SCREENS {
        let start = format!("<!-- screen {name} -->\n```text\n");
        let parts: Vec<_> = readme.split(&start).collect();
        assert_eq!(parts.len(), 2, "pictures of `{name}`");
        let (picture, _) = parts[1].split_once("\n```\n<!-- end -->").expect("an end");
        assert!(picture.starts_with("$ rekindle "), "{name}: {picture}");
        for line in picture.lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
        let kept = format!("keep {name}\n");
        assert_eq!(
            script.matches(&kept).count(),
            1,
            "the script takes `{name}`"
        );
    }
    let all = readme.matches("<!-- screen ").count();
    assert_eq!(all, SCREENS.len());
}
