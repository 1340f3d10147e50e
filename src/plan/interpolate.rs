//! `${VAR}`, `${VAR:-default}` and `${file:path}` in values. `$${` stands for `${` itself.
//!
//! Filling in happens value by value, after the YAML was read: what a variable holds is never YAML, so a password
//! with a colon or a quote in it needs no escaping and cannot change the plan's shape.

use std::{
    io::{self, Read as _},
    path::Path,
};

use super::{diagnostic::Code, quote::quoted};

/// The largest file that `${file:...}` reads: secrets are small, and a device file would never end.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Where the values of variables come from.
pub(super) struct Variables<'a> {
    /// Looks up an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The folder that paths are relative to.
    pub folder: &'a Path,
}

/// Why a value could not be filled in. All texts are as typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// `BadVariable`, `MissingVariable` or `MissingFile`.
    pub code: Code,
    /// The part of the value that is at fault, for example `${REDIS_URL}`.
    pub typed: String,
    /// What is wrong.
    pub message: String,
    /// What to type.
    pub help: String,
}

/// Returns whether `text` holds anything to fill in.
pub(super) fn has_variables(text: &str) -> bool {
    text.contains("${")
}

/// Returns `text` with every variable filled in.
///
/// # Errors
///
/// Everything that is wrong with it, from left to right.
pub(super) fn fill(text: &str, variables: &Variables<'_>) -> Result<String, Vec<Fault>> {
    let mut filled = String::with_capacity(text.len());
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        if rest[..dollar].ends_with('$') {
            filled.push_str(&rest[..dollar - 1]);
            filled.push_str("${");
            rest = &rest[dollar + 2..];
            continue;
        }
        filled.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let Some(close) = rest.find('}') else {
            faults.push(bad(rest, "has no closing `}`"));
            return Err(faults);
        };
        match value(&rest[..=close], variables) {
            Ok(value) => filled.push_str(&value),
            Err(fault) => faults.push(fault),
        }
        rest = &rest[close + 1..];
    }
    filled.push_str(rest);
    if faults.is_empty() {
        Ok(filled)
    } else {
        Err(faults)
    }
}

/// Returns the variables in `text` that have no value, so that their defaults stand for them.
pub(super) fn defaulted(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let has_value = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    let begins = text.match_indices("${");
    begins
        .filter(|(at, _)| !text[..*at].ends_with('$'))
        .filter_map(|(at, begin)| {
            let (inner, _) = text[at + begin.len()..].split_once('}')?;
            let (name, _) = inner.split_once(":-")?;
            (!has_value(name)).then(|| name.to_owned())
        })
        .collect()
}

/// Returns what `typed` stands for: `${` up to and with the first `}`.
fn value(typed: &str, variables: &Variables<'_>) -> Result<String, Fault> {
    let inner = &typed[2..typed.len() - 1];
    if let Some(path) = inner.strip_prefix("file:") {
        return read(path, typed, variables.folder);
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let name_is_sound = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !name_is_sound {
        return Err(bad(typed, "names no variable"));
    }
    if default.is_some_and(has_variables) {
        return Err(bad(typed, "has a variable in its default"));
    }
    match ((variables.env)(name), default) {
        // As in a shell: `:-` also stands in for a variable that is set to nothing.
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault {
            code: Code::MissingVariable,
            typed: typed.to_owned(),
            message: format!("the variable `{name}` is not set"),
            help: format!("set it in the environment, or give a default: `${{{name}:-...}}`"),
        }),
    }
}

fn bad(typed: &str, what: &str) -> Fault {
    Fault {
        code: Code::BadVariable,
        typed: typed.to_owned(),
        message: format!("{} {what}", quoted(&beginning(typed))),
        help: "write `${NAME}`, `${NAME:-default}` or `${file:path}`; `$${` stands for `${` itself"
            .to_owned(),
    }
}

/// Returns `typed` up to its name: what follows may be a default that is a secret, or the rest of a URL.
fn beginning(typed: &str) -> String {
    let rest = &typed[2..];
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    match &rest[end..] {
        "" | "}" => typed.to_owned(),
        _ => format!("${{{}...", &rest[..end]),
    }
}

/// Returns the content of a file without its last line end, as `$(cat path)` would.
fn read(path: &str, typed: &str, folder: &Path) -> Result<String, Fault> {
    let fault = |why: String| Fault {
        code: Code::MissingFile,
        typed: typed.to_owned(),
        message: format!("the file of {} cannot be read: {why}", quoted(typed)),
        help: "the path is relative to the folder of the plan file".to_owned(),
    };
    let open = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(folder.join(path))?
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open().map_err(|error| fault(super::io_reason(&error)))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(fault("it is larger than 64 KiB".to_owned()));
    }
    let mut text =
        String::from_utf8(bytes).map_err(|_| fault("it is not UTF-8 text".to_owned()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Vec<Code>> {
        let env = |name: &str| match name {
            "HOST" => Some("db.test".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        let variables = Variables {
            env: &env,
            folder: Path::new("/nowhere"),
        };
        fill(text, &variables).map_err(|faults| faults.into_iter().map(|f| f.code).collect())
    }

    #[test]
    fn variables_and_defaults_are_filled_in() {
        assert_eq!(filled("plain $5 {x}"), Ok("plain $5 {x}".to_owned()));
        assert_eq!(
            filled("a ${HOST}:${PORT:-3306} b"),
            Ok("a db.test:3306 b".to_owned())
        );
        assert_eq!(filled("${EMPTY:-x}${EMPTY}"), Ok("x".to_owned()));
        assert_eq!(filled("$${HOST}"), Ok("${HOST}".to_owned()));
        assert_eq!(filled("${HOST:-}${NOPE:-}"), Ok("db.test".to_owned()));
    }

    #[test]
    fn a_value_is_never_filled_in_again() {
        assert_eq!(filled("${NESTED}"), Ok("${HOST}".to_owned()));
    }

    #[test]
    fn variables_whose_default_is_used_are_known() {
        let env = |name: &str| match name {
            "HOST" => Some("db.test".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let text = "${HOST:-h}:${PORT:-3306} ${EMPTY:-x} ${NOPE} $${TEXT:-y} ${file:secret}";
        assert_eq!(defaulted(text, &env), ["PORT", "EMPTY"]);
    }

    #[test]
    fn every_fault_of_a_value_is_named() {
        assert_eq!(
            filled("${A} ${B}"),
            Err(vec![Code::MissingVariable, Code::MissingVariable])
        );
        for text in [
            "${",
            "${HOST",
            "${}",
            "${1A}",
            "${A B}",
            "${A:-${B}}",
            "${A-b}",
        ] {
            assert_eq!(filled(text), Err(vec![Code::BadVariable]), "{text}");
        }
        assert_eq!(filled("${file:secret}"), Err(vec![Code::MissingFile]));
    }

    #[test]
    fn files_lose_one_line_end_and_have_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let variables = Variables {
            env: &|_| None,
            folder: folder.path(),
        };
        std::fs::write(folder.path().join("pw"), "geheim\r\n").unwrap();
        assert_eq!(fill("${file:pw}", &variables), Ok("geheim".to_owned()));
        std::fs::write(folder.path().join("big"), vec![b'x'; 65 * 1024]).unwrap();
        assert_eq!(
            fill("${file:big}", &variables).unwrap_err()[0].code,
            Code::MissingFile
        );
        assert!(fill("${file:/dev/zero}", &variables).is_err());
    }
}
