//! Names become file names, Redis keys and command line arguments.

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic},
    model::Model,
};

/// The longest name. File systems take 255 bytes, and the journal and the targets add endings of their own.
const MAX_CHARS: usize = 100;

const FLAT: &str =
    "use letters, digits, `_`, `.` and `-`; not a dot or `-` first, at most 100 characters";
const NESTED: &str = "use letters, digits, `_`, `.`, `-` and `/`; no part between slashes is empty or begins with a dot or `-`";

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    if let Some(name) = &model.name
        && !part_is_sound(&name.value)
    {
        let what = "a plan name (it names the state file)";
        problems.push(invalid(name, what, FLAT));
    }
    for target in &model.targets {
        if !part_is_sound(&target.name.value) {
            problems.push(invalid(&target.name, "a target name", FLAT));
        }
    }
    for resource in &model.resources {
        if let Some(name) = &resource.name
            && !(name.value.len() <= MAX_CHARS && name.value.split('/').all(part_is_sound))
        {
            problems.push(invalid(name, "a resource name", NESTED));
        }
    }
}

/// Returns whether `part` may be a plan's or a target's name, or a part between the slashes of a resource's.
pub(in crate::plan) fn part_is_sound(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= MAX_CHARS
        && !part.starts_with(['.', '-'])
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn invalid(name: &Value<String>, what: &str, help: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidName,
        format!("{} cannot be {what}", name.shown()),
    )
    .at(name.span, "not a name")
    .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_are_safe_in_a_path() {
        for right in [
            "url",
            "cms_block",
            "a.b-c",
            "9",
            "Übrig".trim_start_matches('Ü'),
        ] {
            assert!(part_is_sound(right), "{right}");
        }
        for wrong in [
            "",
            ".",
            "..",
            ".hidden",
            "-x",
            "a b",
            "a/b",
            "ü",
            "a\nb",
            &"x".repeat(101),
        ] {
            assert!(!part_is_sound(wrong), "{wrong}");
        }
    }
}
