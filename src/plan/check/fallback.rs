//! A fallback has a publisher that can be called: a console or a statement with a place for the ids.

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic},
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
    for resource in &model.resources {
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

fn check_one(path: &str, handover: &Handover, model: &Model, problems: &mut Vec<Diagnostic>) {
    match &handover.by {
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
