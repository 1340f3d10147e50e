//! The entity ids of a fallback that cannot be read.

use super::{
    Scene,
    names::{meant, plain},
};
use crate::{
    error::Subject,
    plan::{Code, Diagnostic},
};

/// What helps where there is no such table.
const OR_NONE: &str = "without the table, give the resource `fallback: { to: none }`";

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for table in &scene.answers.tables {
        let Some(Err(error)) = &table.ids else {
            continue;
        };
        let places = scene.places.resources.get(&table.resource);
        let names_table = places.and_then(|one| one.ids_table.or(one.name));
        let names_column = places.and_then(|one| one.ids_column.or(one.name));
        let (place, label, help) = match error.subject.as_deref() {
            Some(Subject::Table { near }) => (
                names_table,
                "no such table",
                format!("{}; {OR_NONE}", meant(near, "table", "the database")),
            ),
            Some(Subject::Column { near, .. }) => (
                names_column,
                "no such column",
                meant(near, "column", "the table"),
            ),
            Some(Subject::Cursor { would_do, .. }) => {
                let single: Vec<_> = would_do.iter().filter(|one| !one.contains(',')).collect();
                let help = match single.as_slice() {
                    [] => "the ids have to be a column with a unique index of its own, NOT NULL"
                        .to_owned(),
                    [one, ..] => format!("`column: {one}` would do"),
                };
                (names_column, "no ids to walk along", help)
            }
            _ => (names_table, "cannot be read", OR_NONE.to_owned()),
        };
        problems.push(
            Diagnostic::new(
                Code::PublisherIds,
                format!(
                    "`{}`: the entity ids of its fallback: {}",
                    table.resource,
                    plain(error)
                ),
            )
            .at_known(place, label)
            .help(help),
        );
    }
}
