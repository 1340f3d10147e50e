//! Columns with more keys are those of rows that have keys, and are left out only where that loses nothing.

use crate::{
    plan::{
        diagnostic::{Code, Diagnostic},
        model::{KeyColumn, Model, NO_KEYS, Resource, TargetKind},
        quote::quoted,
    },
    spryker::{self, Table},
};

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    for resource in &model.resources {
        let Some(from) = &resource.from else { continue };
        let slots = [
            ("aliases", &from.aliases),
            ("mapping_key", &from.mapping_key),
        ];
        for (key, column) in slots {
            let Some(column) = column.as_ref().filter(|column| !column.optional) else {
                continue;
            };
            let path = quoted(&format!("{}.from.{key}", resource.path));
            if column.name.value != NO_KEYS && goes_to_index(model, resource) {
                problems.push(
                    Diagnostic::new(Code::InvalidValue, format!("{path} is used by nothing"))
                        .at(column.name.span, "documents have one `_id` each")
                        .help("remove the key, or send the resource to Redis"),
                );
            }
            if model.preset.is_some()
                && let Some(table) = &from.table
                && let Some(known) = spryker::by_table(&table.value)
                && loses(known, key, column)
            {
                problems.push(
                    Diagnostic::new(
                        Code::NoAliases,
                        format!("{path} leaves out keys that the shop reads"),
                    )
                    .at(column.name.span, "these keys stay as they are")
                    .help(format!(
                        "remove the key: rows of {} are also found by {}",
                        quoted(known.table),
                        quoted(known.mappings.or(known.mapping_resource).unwrap_or(key)),
                    )),
                );
            }
        }
    }
}

/// Returns whether rows of `table` have keys in the column that is left out.
fn loses(table: &Table, key: &str, column: &KeyColumn) -> bool {
    column.name.value == NO_KEYS
        && match key {
            "aliases" => table.mappings.is_some(),
            _ => table.has_mapping_key(),
        }
}

fn goes_to_index(model: &Model, resource: &Resource) -> bool {
    let target = match &resource.to {
        Some(to) => model.targets.iter().find(|one| one.name.value == to.value),
        None => model.targets.first(),
    };
    match target.and_then(|target| target.kind.as_ref()) {
        Some(TargetKind::Search(_)) => true,
        Some(TargetKind::File(file)) => file.ndjson,
        Some(TargetKind::Redis(_)) | None => false,
    }
}
