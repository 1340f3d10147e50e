//! Steps about RDS name what RDS can have names for, and know where it is.

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic},
    model::{Model, Step, StepKind},
    quote::quoted,
    rds::filled_name,
    urls,
};

/// What `{date}` and `{run}` are filled in with to see what becomes of a name.
const SAMPLE: (&str, &str) = ("20261121-0300", "8pdqc3");

/// Longest name of an instance.
const INSTANCE: usize = 63;

/// Longest name of a snapshot.
const SNAPSHOT: usize = 255;

/// A name of fewer letters says nothing to whoever finds the snapshot in a year.
const TELLING: usize = 4;

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    if let Some(aws) = &model.aws
        && let Some(endpoint) = aws
            .endpoint
            .as_ref()
            .filter(|one| !one.value.trim().is_empty())
        && let Err(fault) = urls::web(&endpoint.value)
    {
        problems.push(
            Diagnostic::new(
                fault.code,
                format!("{} {}", quoted("aws.endpoint"), fault.message),
            )
            .at(endpoint.span, "cannot be used")
            .help(fault.help),
        );
    }
    names_in_order(model, problems);
    let mut has_page = false;
    for step in model.prepare.iter().chain(&model.finish) {
        match &step.kind {
            Some(StepKind::Maintenance { .. }) => has_page = true,
            Some(kind) => check_one(step, kind, has_page, model, problems),
            None => {}
        }
    }
}

fn check_one(
    step: &Step,
    kind: &StepKind,
    has_page: bool,
    model: &Model,
    problems: &mut Vec<Diagnostic>,
) {
    let path = |key: &str| format!("{}.{key}", step.path);
    match kind {
        StepKind::RdsSnapshot { instance, name } => {
            instance_name(&path("instance"), instance.as_ref(), problems);
            if let Some(name) = name {
                snapshot_name(&path("name"), name, problems);
            }
        }
        StepKind::RdsRename {
            instance,
            to,
            in_window,
        } => {
            instance_name(&path("instance"), instance.as_ref(), problems);
            instance_name(&path("to"), to.as_ref(), problems);
            differ(step, "to", to.as_ref(), instance.as_ref(), problems);
            if *in_window && has_page {
                problems.push(
                    Diagnostic::new(
                        Code::InvalidValue,
                        format!(
                            "{} waits for the maintenance window of the instance, with the maintenance page up",
                            quoted(&step.path)
                        ),
                    )
                    .at(step.at, "the shop may be down for a week")
                    .help("write `when: immediately`, or put the page up after it"),
                );
            }
        }
        StepKind::RdsRestore {
            instance,
            settings_of,
            ..
        } => {
            instance_name(&path("instance"), instance.as_ref(), problems);
            instance_name(&path("settings_of"), settings_of.as_ref(), problems);
            differ(
                step,
                "settings_of",
                settings_of.as_ref(),
                instance.as_ref(),
                problems,
            );
        }
        _ => return,
    }
    if model.aws.is_none() {
        problems.push(
            Diagnostic::new(
                Code::MissingKey,
                format!("{} has no region: the plan has no `aws:`", quoted(&step.path)),
            )
            .at(step.at, "where is it?")
            .help("add `aws: { region: eu-central-1 }`; credentials come from the AWS chain (environment, profile, role)"),
        );
    }
}

/// Checks that no rename gives a name that an instance has by then, and that what a restore takes its settings from has its
/// name by then.
fn names_in_order(model: &Model, problems: &mut Vec<Diagnostic>) {
    let lower = |name: &Value<String>| name.value.to_ascii_lowercase();
    let steps: Vec<_> = model.prepare.iter().chain(&model.finish).collect();
    let mut given = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let path = |key: &str| quoted(&format!("{}.{key}", step.path));
        match &step.kind {
            Some(StepKind::RdsRename { instance, to, .. }) => {
                let freed = instance.as_ref().map(lower);
                given.retain(|name| freed.as_ref() != Some(name));
                let Some(to) = to else { continue };
                if given.contains(&lower(to)) {
                    problems.push(
                        Diagnostic::new(
                            Code::InvalidValue,
                            format!("{} is given to an instance before it", path("to")),
                        )
                        .at(to.span, "taken by then")
                        .help("two instances have two names"),
                    );
                }
                given.push(lower(to));
            }
            Some(StepKind::RdsRestore {
                settings_of: Some(model),
                ..
            }) => {
                let comes_later = steps[index + 1..].iter().any(|later| {
                    matches!(&later.kind, Some(StepKind::RdsRename { to: Some(to), .. })
                        if lower(to) == lower(model))
                });
                if comes_later && !given.contains(&lower(model)) {
                    problems.push(
                        Diagnostic::new(
                            Code::InvalidValue,
                            format!("{} gets its name only after this step", path("settings_of")),
                        )
                        .at(model.span, "not called so yet")
                        .help("put the `rds_rename` before the `rds_restore`"),
                    );
                }
            }
            _ => {}
        }
    }
}

fn differ(
    step: &Step,
    key: &str,
    one: Option<&Value<String>>,
    other: Option<&Value<String>>,
    problems: &mut Vec<Diagnostic>,
) {
    let (Some(one), Some(other)) = (one, other) else {
        return;
    };
    if one.value.eq_ignore_ascii_case(&other.value) {
        problems.push(
            Diagnostic::new(
                Code::InvalidValue,
                format!(
                    "{} and {} are one name",
                    quoted(&format!("{}.{key}", step.path)),
                    quoted(&format!("{}.instance", step.path))
                ),
            )
            .at(one.span, "the same")
            .help("two instances have two names"),
        );
    }
}

fn instance_name(path: &str, name: Option<&Value<String>>, problems: &mut Vec<Diagnostic>) {
    let Some(name) = name else { return };
    if !is_name(&name.value, INSTANCE) {
        problems.push(
            Diagnostic::new(
                Code::InvalidValue,
                format!("{} cannot be {}", quoted(path), name.shown()),
            )
            .at(name.span, "no name of an instance")
            .help("RDS takes 1 to 63 letters, digits and single hyphens, beginning with a letter and not ending with a hyphen"),
        );
    }
}

fn snapshot_name(path: &str, name: &Value<String>, problems: &mut Vec<Diagnostic>) {
    let filled = filled_name(&name.value, SAMPLE.0, SAMPLE.1);
    let bare = filled_name(&name.value, "", "");
    let letters = bare.chars().filter(char::is_ascii_alphabetic).count();
    let help = if !is_name(&filled, SNAPSHOT) {
        "RDS takes letters, digits and single hyphens, beginning with a letter and not ending with a hyphen; `{date}` and `{run}` are filled in"
    } else if letters < TELLING {
        "say what it is taken for, for example `before-cutover-{date}`"
    } else {
        return;
    };
    problems.push(
        Diagnostic::new(
            Code::InvalidValue,
            format!("{} cannot be {}", quoted(path), name.shown()),
        )
        .at(name.span, "no name for a snapshot")
        .help(help),
    );
}

/// Returns whether RDS takes `name`.
fn is_name(name: &str, longest: usize) -> bool {
    name.len() <= longest
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_rds_takes() {
        for name in ["shop-db", "a", "Shop2"] {
            assert!(is_name(name, INSTANCE), "{name}");
        }
        let long = "a".repeat(64);
        for name in ["", "2shop", "shop-", "a--b", "a_b", "-a", &long] {
            assert!(!is_name(name, INSTANCE), "{name}");
        }
    }
}
