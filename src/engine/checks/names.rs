//! Tables and columns that the source has not, and conditions that it does not understand.

use super::{Scene, source};
use crate::{
    error::{EdgeError, Subject, chain},
    plan::{Code, Diagnostic, ResourcePlaces},
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for table in &scene.answers.tables {
        let Err(error) = &table.shape else { continue };
        let place = scene.places.resources.get(&table.resource);
        let message = format!("`{}`: {}", table.resource, plain(error));
        if let Some(Subject::Column { more, .. }) = error.subject.as_deref() {
            for (name, near) in more {
                let message = format!(
                    "`{}`: its table has no column `{}`, either",
                    table.resource,
                    name.escape_default()
                );
                problems.push(no_column(place, message, name, near));
            }
        }
        problems.push(match error.subject.as_deref() {
            // A rule of its own says which index would do.
            Some(Subject::Cursor { .. }) => continue,
            Some(Subject::Table { near }) => Diagnostic::new(Code::MissingTable, message)
                .at_known(place.and_then(ResourcePlaces::table), "no such table")
                .help(meant(near, "table", "the database")),
            Some(Subject::Column { name, near, .. }) => no_column(place, message, name, near),
            Some(Subject::Condition) => Diagnostic::new(Code::BadCondition, message)
                .at_known(place.and_then(|one| one.condition), "not understood there")
                .help("try it in a query of your own: `SELECT … WHERE` and this text"),
            Some(Subject::Database | Subject::Queue { .. }) | None => {
                let mut problem = source::trouble(error);
                problem.message = message;
                problem.at_known(place.and_then(ResourcePlaces::table), "of this table")
            }
        });
    }
}

fn no_column(
    place: Option<&ResourcePlaces>,
    message: String,
    name: &str,
    near: &[String],
) -> Diagnostic {
    Diagnostic::new(Code::MissingColumn, message)
        .at_known(place.and_then(|one| one.column(name)), "no such column")
        .help(meant(near, "column", "the table"))
}

/// Returns what happened in one line, without the candidates, which are the hint's.
pub(super) fn plain(error: &EdgeError) -> String {
    let said = chain(error).join(": ");
    match error.subject.as_deref() {
        Some(Subject::Table { .. } | Subject::Column { .. }) => said
            .split("; did you mean")
            .flat_map(|part| part.split(", nor `"))
            .next()
            .unwrap_or_default()
            .to_owned(),
        _ => said,
    }
}

/// Returns the names that may have been meant.
pub(super) fn meant(near: &[String], noun: &str, owner: &str) -> String {
    match near {
        [] => format!("no {noun} of {owner} has a name like it"),
        near => format!("did you mean `{}`?", near.join("` or `")),
    }
}
