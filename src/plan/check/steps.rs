//! A step can be observed or repeated, and says what it needs to be carried out.

use std::{ops::RangeInclusive, time::Duration};

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic},
    model::{Model, Step, StepKind},
    quote::quoted,
    urls,
};

/// A step that is waited for longer than a week is waited for by nobody.
const WITHIN: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24 * 7);

/// What a server can answer with.
const STATUS: RangeInclusive<u64> = 100..=599;

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    jenkins(model, problems);
    page_comes_down(model, problems);
    let mut has_page = false;
    for step in model.prepare.iter().chain(&model.finish) {
        if let Some(within) = step
            .within
            .as_ref()
            .filter(|one| !WITHIN.contains(&one.value))
        {
            let path = format!("{}.within", step.path);
            problems.push(
                Diagnostic::new(
                    Code::OutOfRange,
                    format!(
                        "{} is {}; use a time from 1ms to 168h",
                        quoted(&path),
                        within.shown()
                    ),
                )
                .at(within.span, "out of range"),
            );
        }
        match &step.kind {
            Some(StepKind::Maintenance { on, check, off }) => {
                has_page = true;
                for (key, text) in [("on", on), ("check", check), ("off", off)] {
                    no_nul(step, key, text.as_ref(), problems);
                }
            }
            Some(StepKind::MaintenanceOff) if !has_page => problems.push(
                Diagnostic::new(
                    Code::MissingKey,
                    format!("{} has no `maintenance` before it", quoted(&step.path)),
                )
                .at(step.at, "which page?")
                .help(
                    "add `- maintenance: { on: ..., check: ..., off: ... }` to `prepare`: its commands are used here",
                ),
            ),
            Some(kind) => check_one(step, kind, model, problems),
            None => {}
        }
    }
}

fn jenkins(model: &Model, problems: &mut Vec<Diagnostic>) {
    let Some(jenkins) = &model.jenkins else {
        return;
    };
    if let Some(url) = &jenkins.url
        && let Err(fault) = urls::web(&url.value)
    {
        problems.push(
            Diagnostic::new(
                fault.code,
                format!("{} {}", quoted("jenkins.url"), fault.message),
            )
            .at(url.span, "cannot be used")
            .help(fault.help),
        );
    }
    if jenkins.user.is_some() != jenkins.token.is_some() {
        let missing = if jenkins.user.is_some() {
            "token"
        } else {
            "user"
        };
        problems.push(
            Diagnostic::new(
                Code::MissingKey,
                format!("{} is missing", quoted(&format!("jenkins.{missing}"))),
            )
            .at(jenkins.at, "a user and its API token go together")
            .help("add it, or leave both out"),
        );
    }
}

/// Warns of a page that goes up and stays up.
fn page_comes_down(model: &Model, problems: &mut Vec<Diagnostic>) {
    let mut up = None;
    for step in model.prepare.iter().chain(&model.finish) {
        match &step.kind {
            Some(StepKind::Maintenance { .. }) => up = Some(step),
            Some(StepKind::MaintenanceOff) => up = None,
            _ => {}
        }
    }
    if let Some(step) = up {
        problems.push(
            Diagnostic::new(
                Code::PageStays,
                format!("{} has no `maintenance_off` after it", quoted(&step.path)),
            )
            .at(step.at, "the shop stays closed when the run is done")
            .help("add `- maintenance_off: {}` to `finish`"),
        );
    }
}

/// Checks that a text can be handed to `sh`.
fn no_nul(step: &Step, key: &str, text: Option<&Value<String>>, problems: &mut Vec<Diagnostic>) {
    if let Some(text) = text.filter(|text| text.value.contains('\0')) {
        let path = format!("{}.{key}", step.path);
        problems.push(
            Diagnostic::new(
                Code::InvalidValue,
                format!("{} holds a NUL character", quoted(&path)),
            )
            .at(text.span, "no command can have one")
            .help("write it without; `printf '\\0'` makes one in a command"),
        );
    }
}

fn check_one(step: &Step, kind: &StepKind, model: &Model, problems: &mut Vec<Diagnostic>) {
    match kind {
        StepKind::Shell {
            run,
            check,
            repeatable,
            undo,
            is_answered,
        } => {
            for (key, text) in [("run", run), ("check", check), ("undo", undo)] {
                no_nul(step, key, text.as_ref(), problems);
            }
            let repeatable = repeatable.as_ref();
            let refused = check.is_none() && repeatable.is_some_and(|flag| !flag.value);
            if !is_answered || refused {
                problems.push(
                    Diagnostic::new(
                        Code::MissingKey,
                        format!(
                            "{} has neither {} nor {}",
                            quoted(&step.path),
                            quoted("check"),
                            quoted("repeatable: true")
                        ),
                    )
                    .at(step.at, "after a crash, was it run?")
                    .help(
                        "add `check: COMMAND` that ends with 0 where the work is done, or `repeatable: true` where \
                         running it twice does no harm",
                    ),
                );
            }
        }
        StepKind::HttpCheck { url, status, .. } => {
            if let Some(url) = url
                && let Err(fault) = urls::web(&url.value)
            {
                let path = format!("{}.url", step.path);
                problems.push(
                    Diagnostic::new(fault.code, format!("{} {}", quoted(&path), fault.message))
                        .at(url.span, "cannot be used")
                        .help(fault.help),
                );
            }
            if let Some(status) = status.as_ref().filter(|one| !STATUS.contains(&one.value)) {
                let path = format!("{}.status", step.path);
                problems.push(
                    Diagnostic::new(
                        Code::OutOfRange,
                        format!(
                            "{} is {}; use a number from 100 to 599",
                            quoted(&path),
                            status.shown()
                        ),
                    )
                    .at(status.span, "out of range"),
                );
            }
        }
        StepKind::JenkinsBuild { commands, .. } => {
            if *commands != 1 {
                problems.push(
                    Diagnostic::new(
                        Code::MissingKey,
                        format!(
                            "{} needs {} or {}, and not both",
                            quoted(&step.path),
                            quoted("shell"),
                            quoted("shell_from")
                        ),
                    )
                    .at(step.at, "what does it run?")
                    .help("for example `shell: \"vendor/bin/console queue:worker:start -s\"`"),
                );
            }
            if model.jenkins.is_none() {
                problems.push(
                    Diagnostic::new(
                        Code::MissingKey,
                        format!("{} has no server: the plan has no `jenkins:`", quoted(&step.path)),
                    )
                    .at(step.at, "built by what?")
                    .help("add `jenkins: { url: \"${JENKINS_URL}\", user: \"${JENKINS_USER}\", token: \"${JENKINS_TOKEN}\" }`"),
                );
            }
        }
        StepKind::Maintenance { .. }
        | StepKind::MaintenanceOff
        | StepKind::Approve { .. }
        | StepKind::RdsSnapshot { .. }
        | StepKind::RdsRename { .. }
        | StepKind::RdsRestore { .. } => {}
    }
}
