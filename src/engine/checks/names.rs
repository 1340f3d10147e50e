//! Tables and columns that the source has not, and conditions that it does not understand.

use super::{Scene, source};
use crate::{
    error::{EdgeError, Subject, chain},
    plan::{Code, Diagnostic, ResourcePlaces, SourceKind},
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
                .help(meant_table(near, scene.plan.source.kind)),
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

/// Returns the tables that may have been meant, or why the one that was is not seen.
fn meant_table(near: &[String], kind: SourceKind) -> String {
    let meant = meant(near, "table", "the database");
    match kind {
        SourceKind::Mysql => {
            let end = if near.is_empty() { ";" } else { "" };
            format!(
                "{meant}{end} MariaDB and MySQL show a user no table that it may not read: `GRANT SELECT` there, where it is the \
                 right one"
            )
        }
        SourceKind::Postgres | SourceKind::Sqlite => meant,
    }
}

/// Returns the names that may have been meant.
pub(super) fn meant(near: &[String], noun: &str, owner: &str) -> String {
    match near {
        [] => format!("no {noun} of {owner} has a name like it"),
        near => format!("did you mean `{}`?", near.join("` or `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_a_user_may_not_read_is_not_called_a_slip_of_the_pen_alone() {
        let near = ["url".to_owned()];
        let said = meant_table(&near, SourceKind::Mysql);
        assert!(
            said.starts_with("did you mean `url`? MariaDB and MySQL show"),
            "{said}"
        );
        let said = meant_table(&[], SourceKind::Mysql);
        assert!(
            said.contains("a name like it; MariaDB and MySQL show"),
            "{said}"
        );
        assert_eq!(
            meant_table(&near, SourceKind::Sqlite),
            "did you mean `url`?"
        );
    }
}
