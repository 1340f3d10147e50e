//! Index names of search targets and of NDJSON files can be filled in, and what fills them is used.

use crate::plan::{
    Executor,
    broker::Broker,
    decode::Value,
    diagnostic::{Code, Diagnostic},
    index,
    model::{Model, Resource, TargetKind},
    quote::quoted,
};

const NAME_HELP: &str =
    "write for example `index: \"shop_{store}_{type}\"`: small letters, digits, `_` and `-`";

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let before = problems.len();
    for target in &model.targets {
        if let Some((path, index)) = target.kind.as_ref().and_then(template)
            && let Err(why) = index::places(&index.value)
        {
            let path = format!("targets.{}.{path}", target.name.value);
            problems.push(invalid(&path, index, &why));
        }
    }
    // Filling in needs sound templates.
    if problems.len() == before {
        let mut storeless = Vec::new();
        for resource in &model.resources {
            if check_resource(model, resource, problems) == Stores::Missing {
                storeless.push(resource);
            }
        }
        missing_stores(&storeless, problems);
        unused_stores(model, problems);
    }
}

/// Returns key and value of the index template of a target that has one.
fn template(kind: &TargetKind) -> Option<(&'static str, &Value<String>)> {
    match kind {
        TargetKind::Search(search) => Some(("elasticsearch.index", search.index.as_ref()?)),
        TargetKind::File(file) => Some(("file.index", file.index.as_ref()?)),
        TargetKind::Redis(_) => None,
    }
}

fn template_of<'m>(
    model: &'m Model,
    resource: &Resource,
) -> Option<(&'static str, &'m Value<String>)> {
    let target = match &resource.to {
        Some(to) => model
            .targets
            .iter()
            .find(|one| one.name.value == to.value)?,
        None => model.targets.first()?,
    };
    template(target.kind.as_ref()?)
}

/// Whether the plan has the stores that a resource's index is named after.
#[derive(PartialEq, Eq)]
enum Stores {
    Enough,
    Missing,
}

fn check_resource(model: &Model, resource: &Resource, problems: &mut Vec<Diagnostic>) -> Stores {
    let path = |key: &str| quoted(&format!("{}.{key}", resource.path));
    let store = resource.from.as_ref().and_then(|from| from.store.as_ref());
    let template = template_of(model, resource);
    let places = template.map_or_else(Vec::new, |(_, index)| {
        index::places(&index.value).unwrap_or_default()
    });
    let (by_store, by_type) = (places.contains(&"store"), places.contains(&"type"));
    for (key, given, used) in [
        ("from.store", store, by_store),
        ("type", resource.kind.as_ref(), by_type),
    ] {
        // Messages name both.
        let used = used || model.executor(resource) == Executor::Queue;
        if let Some(given) = given.filter(|_| !used) {
            let place = key.rsplit('.').next().unwrap_or(key);
            problems.push(
                Diagnostic::new(
                    Code::InvalidValue,
                    format!("{} is used by nothing", path(key)),
                )
                .at(given.span, "fills no index name")
                .help(format!(
                    "put `{{{place}}}` into the `index` of its target, or remove the key"
                )),
            );
        }
    }
    if by_type && resource.kind.is_none() && !resource.kind_broken {
        problems.push(
            Diagnostic::new(Code::MissingKey, format!("{} is missing", path("type")))
                .at(resource.at, "which `{type}` of the index name?")
                .help("add it, for example `type: page`"),
        );
    }
    if by_store && model.stores.is_none() && !model.stores_broken {
        return Stores::Missing;
    }
    let Some((_, template)) = template else {
        return Stores::Enough;
    };
    let kind = resource.kind.as_ref().map_or("x", |kind| &kind.value);
    let stores: Vec<&str> = match &model.stores {
        Some(stores) if by_store => stores.value.iter().map(|one| one.value.as_str()).collect(),
        _ => vec!["x"],
    };
    for store in stores {
        let name = index::fill(&template.value, store, kind);
        if let Some(why) = index::fault(&name) {
            problems.push(
                Diagnostic::new(
                    Code::InvalidValue,
                    format!("the name of an index of {} {why}", quoted(&resource.path)),
                )
                .at(template.span, "cannot be the name of an index")
                .at(resource.at, "filled in for this resource")
                .help(NAME_HELP),
            );
            break;
        }
    }
    Stores::Enough
}

/// Notes that `stores` is missing: once, for all resources lack the same line.
fn missing_stores(storeless: &[&Resource], problems: &mut Vec<Diagnostic>) {
    let Some((first, others)) = storeless.split_first() else {
        return;
    };
    let message = match others {
        [] => "`stores` is missing".to_owned(),
        others => format!(
            "`stores` is missing, for {} and {} more",
            quoted(&first.path),
            others.len()
        ),
    };
    problems.push(
        Diagnostic::new(Code::MissingKey, message)
            .at(first.at, "which `{store}` of the index name?")
            .help(
                "list them, for example `stores: [DE, AT]`: each store's index is looked for before the first write",
            ),
    );
}

/// Notes `stores` that fill no index name, and two that fill it alike.
fn unused_stores(model: &Model, problems: &mut Vec<Diagnostic>) {
    let Some(stores) = &model.stores else { return };
    let used = model.resources.iter().any(|resource| {
        template_of(model, resource).is_some_and(|(_, index)| index.value.contains("{store}"))
    });
    let is_broker = |broker: &Broker| broker.is_dynamic() || !broker.stores.is_empty();
    // Without a resource nothing can be used: what is wrong there is told by itself.
    let is_known = used || model.resources.is_empty();
    if !is_known && !model.broker.as_ref().is_some_and(is_broker) {
        problems.push(
            Diagnostic::new(Code::InvalidValue, "`stores` is used by nothing".to_owned())
                .at(stores.span, "fills no index name")
                .help("put `{store}` into the `index` of a target, or remove the key"),
        );
    }
    for (at, store) in stores.value.iter().enumerate() {
        let same = |one: &&Value<String>| one.value.to_lowercase() == store.value.to_lowercase();
        if let Some(first) = stores.value[..at].iter().find(same) {
            problems.push(
                Diagnostic::new(
                    Code::InvalidValue,
                    format!("store {} stands twice", store.shown()),
                )
                .at(store.span, "again")
                .at(first.span, "first here")
                .help("index names are in small letters, so these would be one index"),
            );
        }
    }
}

fn invalid(path: &str, value: &Value<String>, why: &str) -> Diagnostic {
    Diagnostic::new(Code::InvalidValue, format!("{} {why}", quoted(path)))
        .at(value.span, "cannot be the name of an index")
        .help(NAME_HELP)
}
