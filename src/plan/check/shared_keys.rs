//! Two resources that read the same keys of one table into one target overwrite each other.

use std::collections::BTreeMap;

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic},
    model::{From, Model, Resource},
    quote::quoted,
};

/// Target, table and key column.
type Keys<'m> = (&'m str, &'m str, &'m str);

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<Keys<'_>, Vec<(&Resource, &From)>> = BTreeMap::new();
    for resource in &model.resources {
        let Some(from) = &resource.from else { continue };
        let (Some(table), Some(key)) = (&from.table, &from.key) else {
            continue;
        };
        // With a single target `to` may be left out; then it is the same for all anyway.
        let to = resource.to.as_ref().map_or("", |to| to.value.as_str());
        let others = seen.entry((to, &table.value, &key.value)).or_default();
        // Two different conditions are how one table is split on purpose.
        let overlapping = others.iter().find(|(_, other)| {
            match (
                text(other.condition.as_ref()),
                text(from.condition.as_ref()),
            ) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
        });
        if let Some((first, other)) = overlapping {
            problems.push(
                Diagnostic::new(
                    Code::SharedKeys,
                    format!(
                        "{} and {} write the same keys of table {} to one target",
                        quoted(&first.path),
                        quoted(&resource.path),
                        quoted(&table.typed)
                    ),
                )
                .at(table.span, "read again")
                .at(other.table.as_ref().map_or(first.at, |table| table.span), "first read here")
                .help("the one that runs last wins; use `where` to split the table, or another target"),
            );
        }
        others.push((resource, from));
    }
}

fn text(value: Option<&Value<String>>) -> Option<&str> {
    value.map(|value| value.value.as_str())
}
