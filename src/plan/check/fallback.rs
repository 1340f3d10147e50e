//! A fallback has a publisher that can be called: a console or a statement with a place for the ids.

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic, Span},
    model::{By, Handover, Model},
    quote::quoted,
    urls,
};

/// Where a statement takes the ids.
const IDS: &str = "{ids}";

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    if let Some(console) = &model.console
        && let Some(command) = &console.command
        && command
            .value
            .first()
            .is_none_or(|first| first.value.trim().is_empty())
    {
        problems.push(
            Diagnostic::new(
                Code::Empty,
                format!("{} names no program", quoted("console.command")),
            )
            .at(command.span, "nothing to run")
            .help("for example `command: [ssh, deploy@cli, vendor/bin/console]`"),
        );
    }
    for (key, count) in [
        ("after_crashes", &model.defaults.after_crashes),
        ("after_failures", &model.defaults.after_failures),
    ] {
        if let Some(count) = count
            && !(1..=1_000).contains(&count.value)
        {
            let path = format!("defaults.fallback.{key}");
            problems.push(
                Diagnostic::new(
                    Code::OutOfRange,
                    format!("{} is {}", quoted(&path), count.shown()),
                )
                .at(count.span, "out of range")
                .help("use a number from 1 to 1000; `to: none` switches fallbacks off"),
            );
        }
    }
    if let Some(sync) = model.defaults.sync {
        check_sync("defaults.sync", sync, model, problems);
    }
    for resource in &model.resources {
        if let Some(sync) = resource.sync {
            check_sync(&format!("{}.sync", resource.path), sync, model, problems);
        }
        if let Some(handover) = &resource.fallback
            && handover.to.as_ref().is_none_or(|to| to.value != "none")
        {
            if let Some(from) = &resource.from
                && from.entity.is_none()
                && handover.of_rows
            {
                problems.push(
                    Diagnostic::new(
                        Code::NoEntity,
                        format!(
                            "single rows of {} cannot go to its publisher",
                            quoted(&resource.path)
                        ),
                    )
                    .at(handover.at, "of which entity is a row?")
                    .help("name the column with the entity's id as `from.entity`; otherwise broken rows stay dead letters"),
                );
            }
            check_one(
                &format!("{}.fallback", resource.path),
                handover,
                model,
                problems,
            );
        }
    }
}

/// Notes a resource that is handed to something that the plan does not have.
fn check_sync(path: &str, sync: (&str, Span), model: &Model, problems: &mut Vec<Diagnostic>) {
    let (by, at) = sync;
    let (lacks, help) = match by {
        "console" if model.console.is_none() => (
            "console",
            "add `console: { command: [ssh, deploy@cli, vendor/bin/console] }`",
        ),
        "jenkins" if model.jenkins.is_none() => (
            "jenkins",
            "add `jenkins: { url: \"${JENKINS_URL}\", user: \"${JENKINS_USER}\", token: \"${JENKINS_TOKEN}\" }`",
        ),
        _ => return,
    };
    problems.push(
        Diagnostic::new(
            Code::MissingKey,
            format!("{} is {by}, and the plan has no `{lacks}:`", quoted(path)),
        )
        .at(at, "carried over by what?")
        .help(help),
    );
}

fn check_one(path: &str, handover: &Handover, model: &Model, problems: &mut Vec<Diagnostic>) {
    match &handover.by {
        By::Jenkins { .. } => {
            if model.jenkins.is_none() {
                problems.push(
                    Diagnostic::new(
                        Code::MissingKey,
                        format!("{} has no publisher: the plan has no `jenkins:`", quoted(path)),
                    )
                    .at(handover.at, "built by what?")
                    .help("add `jenkins: { url: \"${JENKINS_URL}\", user: \"${JENKINS_USER}\", token: \"${JENKINS_TOKEN}\" }`"),
                );
            }
            check_trigger(path, handover, problems);
        }
        By::Absent | By::Console => {
            if model.console.is_none() {
                problems.push(
                    Diagnostic::new(
                        Code::MissingKey,
                        format!("{} has no publisher: the plan has no `console:`", quoted(path)),
                    )
                    .at(handover.at, "called by what?")
                    .help("add `console: { command: [ssh, deploy@cli, vendor/bin/console] }`, or `by: { sql: ... }`"),
                );
            }
            check_trigger(path, handover, problems);
        }
        By::Sql { url, statement } => {
            if let Some(url) = url
                && let Err(fault) = urls::publisher(&url.value)
            {
                let path = format!("{path}.by.sql.url");
                problems.push(
                    Diagnostic::new(fault.code, format!("{} {}", quoted(&path), fault.message))
                        .at(url.span, "cannot be used")
                        .help(fault.help),
                );
            }
            if let Some(statement) = statement {
                check_statement(&format!("{path}.by.sql.statement"), statement, problems);
            }
        }
        By::Broken => {}
    }
}

fn check_trigger(path: &str, handover: &Handover, problems: &mut Vec<Diagnostic>) {
    if handover.trigger.is_none() {
        problems.push(
            Diagnostic::new(
                Code::MissingKey,
                format!("{} is missing", quoted(&format!("{path}.trigger"))),
            )
            .at(handover.at, "what does the console call it?")
            .help("name the resource as `publish:trigger-events -r` takes it, for example `trigger: url`"),
        );
    }
}

fn check_statement(path: &str, statement: &Value<String>, problems: &mut Vec<Diagnostic>) {
    if !statement.value.contains(IDS) {
        problems.push(
            Diagnostic::new(
                Code::InvalidValue,
                format!(
                    "{} has no `{IDS}` in it: it would not know which rows",
                    quoted(path)
                ),
            )
            .at(statement.span, "runs without the ids")
            .help("for example `UPDATE spy_url SET touched = NOW() WHERE id_url IN ({ids})`"),
        );
    }
}
