//! The paging key: exactly one column in this release.

use crate::plan::{
    diagnostic::{Code, Diagnostic},
    model::Model,
    quote::quoted,
};

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    for resource in &model.resources {
        let Some(cursor) = resource.from.as_ref().and_then(|from| from.cursor.as_ref()) else {
            continue;
        };
        let path = quoted(&format!("{}.from.cursor", resource.path));
        let columns = cursor.value.len();
        if columns != 1 {
            problems.push(
                Diagnostic::new(
                    Code::CursorColumns,
                    format!("{path} has {columns} columns; this release walks exactly one"),
                )
                .at(cursor.span, "one column")
                .help("name a single integer column with a unique NOT NULL index, as a rule the primary key"),
            );
        }
        for column in cursor
            .value
            .iter()
            .filter(|column| column.value.trim().is_empty())
        {
            problems.push(
                Diagnostic::new(
                    Code::InvalidValue,
                    format!("{path} cannot hold an empty name"),
                )
                .at(column.span, "empty"),
            );
        }
    }
}
