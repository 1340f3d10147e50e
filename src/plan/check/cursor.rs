//! The paging key: the columns of one unique index.

use crate::plan::{
    diagnostic::{Code, Diagnostic},
    model::Model,
    quote::quoted,
};

/// As many as an index of MySQL, MariaDB and PostgreSQL may have before any other limit is met.
const MOST_COLUMNS: usize = 16;

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    for resource in &model.resources {
        let Some(cursor) = resource.from.as_ref().and_then(|from| from.cursor.as_ref()) else {
            continue;
        };
        let path = quoted(&format!("{}.from.cursor", resource.path));
        let columns = cursor.value.len();
        if !(1..=MOST_COLUMNS).contains(&columns) {
            problems.push(
                Diagnostic::new(
                    Code::CursorColumns,
                    format!("{path} has {columns} columns; use 1 to {MOST_COLUMNS}"),
                )
                .at(cursor.span, "the columns of one index")
                .help("name all columns of a PRIMARY or UNIQUE index in its order, as a rule the primary key"),
            );
        }
        for (at, column) in cursor.value.iter().enumerate() {
            if cursor.value[..at]
                .iter()
                .any(|one| one.value == column.value)
            {
                problems.push(
                    Diagnostic::new(
                        Code::CursorColumns,
                        format!("{path} names `{}` twice", column.value.escape_default()),
                    )
                    .at(column.span, "again"),
                );
            }
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
