//! Stores whose rows are in the tables and that the plan does not name: each of those rows would be a dead letter.

use std::collections::{BTreeMap, BTreeSet};

use super::Scene;
use crate::{
    engine::stores::stores,
    error::EdgeError,
    ids::ResourceName,
    plan::{Code, Diagnostic, FileFormat, Plan, Resource, Routing, TargetConfig},
    report::human::counted,
    source::Source,
};

/// Returns the stores that rows of the resource name and the plan does not, in their order; none where nothing goes by stores.
pub(super) async fn of(
    plan: &Plan,
    resource: &Resource,
    source: &dyn Source,
) -> Result<Vec<String>, EdgeError> {
    let Some(known) = known(plan, resource) else {
        return Ok(Vec::new());
    };
    let mut named = stores(source, &resource.from).await?;
    named.retain(|store| !known.contains(store.as_str()));
    Ok(named)
}

/// Returns the stores of the plan, where rows of the resource go by theirs.
fn known<'p>(plan: &'p Plan, resource: &Resource) -> Option<BTreeSet<&'p str>> {
    let routing = match plan.targets.get(&resource.to)? {
        TargetConfig::Search(search) => search.indexes.get(&resource.name)?,
        TargetConfig::File(file) => match &file.format {
            FileFormat::Ndjson(all) => all.get(&resource.name)?,
            FileFormat::Resp => return None,
        },
        TargetConfig::Redis(_) => return None,
    };
    match routing {
        Routing::ByStore {
            column: true,
            indexes,
        } => Some(indexes.iter().map(|(store, _)| store.as_str()).collect()),
        Routing::ByStore { .. } | Routing::One(_) => None,
    }
}

/// Notes the stores that are missing, all of them in one problem.
pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    let mut missing: BTreeMap<&str, Vec<&ResourceName>> = BTreeMap::new();
    for table in &scene.answers.tables {
        for store in &table.other_stores {
            missing.entry(store).or_default().push(&table.resource);
        }
    }
    let Some(first) = missing.values().flatten().next() else {
        return;
    };
    let Some(resource) = scene.plan.resource(first) else {
        return;
    };
    let tables: BTreeSet<_> = missing.values().flatten().collect();
    let more = match tables.len() - 1 {
        0 => String::new(),
        more => format!(" and of {}", counted(more as u64, "other table")),
    };
    let names: Vec<_> = missing.keys().copied().collect();
    let (noun, are) = if names.len() == 1 {
        ("store", "is")
    } else {
        ("stores", "are")
    };
    problems.push(
        Diagnostic::new(
            Code::OtherStore,
            format!(
                "rows of `{}`{more} are of the {noun} `{}`, which {are} not among the plan's `stores`: they would be dead letters",
                resource.from.table,
                names.join("`, `"),
            ),
        )
        .at_known(scene.places.stores, "not all of them")
        .help(format!(
            "add {} here, or leave those rows out with `where:`",
            names.join(", ")
        )),
    );
}
