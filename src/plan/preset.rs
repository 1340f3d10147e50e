//! `preset: spryker`: what a plan leaves out, filled in from what is known of Spryker's tables.
//!
//! Works on what was typed, before the checks, so that every rule sees a whole plan. What the plan says itself stands.

mod publisher;

use std::collections::BTreeSet;

use super::{
    Executor,
    decode::Value,
    diagnostic::{Code, Diagnostic, Span},
    model::{From, KeyColumn, Model, Resource, Target, TargetKind},
    quote::{listed, quoted},
};
use crate::spryker::{self, Kind, Presence, Table};

/// What a target gets put before its keys: the shop's storage client looks for them there.
const PREFIX: &str = "kv:";

/// Defaults that were used: path and value, as in [`Loaded`](super::Loaded).
type Used = Vec<(String, String)>;

/// A resource's name and its table.
type Meant = (String, &'static Table);

/// Returns whether every name of a comma list is one of `sync:data`, or half of a pair.
pub(super) fn knows(name: &str) -> bool {
    name.split(',').all(|name| !meant(name.trim()).is_empty())
}

/// Returns what `name` stands for: one table, a pair, or nothing known.
fn meant(name: &str) -> Vec<Meant> {
    let tables: Vec<_> = spryker::find(name).collect();
    if let [one] = tables[..] {
        return vec![(name.to_owned(), one)];
    }
    let (base, kind) = match name.rsplit_once('/') {
        Some((base, kind)) => (base, Some(kind)),
        None => (name, None),
    };
    halves(base)
        .into_iter()
        .filter(|(_, table)| kind.is_none_or(|kind| table.kind.label() == kind))
        .collect()
}

/// Returns the storage and the search half of `name`, if it means a pair.
fn halves(name: &str) -> Vec<Meant> {
    let tables: Vec<_> = spryker::find(name).collect();
    if tables.len() < 2 {
        return Vec::new();
    }
    let half = |table: &'static Table| (format!("{name}/{}", table.kind.label()), table);
    tables.into_iter().map(half).collect()
}

/// Returns the names of the halves of `name`, `["product_abstract/storage", "product_abstract/search"]`, if it means a
/// pair.
pub(super) fn pair(name: &str) -> Vec<String> {
    halves(name).into_iter().map(|(name, _)| name).collect()
}

/// Fills in targets and resources of `model`; names that mean several resources become them.
pub(super) fn fill_in(model: &mut Model, problems: &mut Vec<Diagnostic>) {
    let mut used = Used::new();
    for target in &mut model.targets {
        fill_target(target, &mut used);
    }
    let is_off = |to: &Value<String>| to.value == "none";
    let falls_back =
        model.console.is_some() && !model.defaults.fallback_to.as_ref().is_some_and(is_off);
    for typed in std::mem::take(&mut model.resources) {
        expand(typed, model, &mut used, problems);
    }
    if model.broker.is_some() {
        add_queues(model, &mut used);
    }
    if falls_back {
        let sent: Vec<_> = (model.resources.iter())
            .map(|one| model.executor(one) == Executor::Queue)
            .collect();
        let direct = model.resources.iter_mut().zip(sent);
        let direct = direct.filter_map(|(one, is_sent)| (!is_sent).then_some(one));
        add_publishers(direct, &mut used);
    }
    widen_after(&mut model.resources);
    model.preset_used = used;
}

fn fill_target(target: &mut Target, used: &mut Used) {
    let (name, at) = (&target.name.value, target.name.span);
    let mut note = |key: &str, value: &str| {
        used.push((format!("targets.{name}.{key}"), value.to_owned()));
    };
    match &mut target.kind {
        Some(TargetKind::Redis(redis)) => {
            if redis.value.is_none() {
                redis.value = Some(super::ValueForm::Php);
                note("redis.value", super::ValueForm::Php.label());
            }
            if redis.prefix.is_none() {
                redis.prefix = Some(value(PREFIX, at));
                note("redis.prefix", PREFIX);
            }
        }
        Some(TargetKind::Search(search)) if search.index.is_none() => {
            // As the shop's resolver joins them: parts that are empty leave no `_` behind.
            let prefix = search.prefix.as_ref().map(|prefix| prefix.value.trim());
            let template = match prefix.filter(|prefix| !prefix.is_empty()) {
                Some(prefix) => format!("{}_{{store}}_{{type}}", prefix.to_lowercase()),
                None => "{store}_{type}".to_owned(),
            };
            // The prefix may come from a variable, and values of variables are not shown.
            note("elasticsearch.index", "[PREFIX_]{store}_{type}");
            search.index = Some(value(&template, at));
        }
        _ => {}
    }
}

/// Adds what `typed` stands for to the model's resources.
fn expand(typed: Resource, model: &mut Model, used: &mut Used, problems: &mut Vec<Diagnostic>) {
    let Some(name) = typed.name.clone() else {
        model.resources.push(typed);
        return;
    };
    let mut typed = typed;
    let names: Vec<&str> = name.value.split(',').map(str::trim).collect();
    let found: Vec<Vec<Meant>> = names.iter().map(|name| meant(name)).collect();
    if !typed.from_absent && found.iter().all(Vec::is_empty) {
        // A table of the shop's own: it says everything itself. Its columns of keys come with the shop's behaviours.
        if let Some(from) = typed.from.as_mut().filter(|from| from.table.is_some())
            && takes_keys(typed.to.as_ref(), &model.targets)
        {
            note_from(&typed.path, &fill_keys(from, typed.at), used);
        }
        model.resources.push(typed);
        return;
    }
    for (name, _) in names
        .iter()
        .zip(&found)
        .filter(|(_, found)| found.is_empty())
    {
        problems.push(unknown(name, typed.name.as_ref(), typed.at));
    }
    let all: Vec<Meant> = found.into_iter().flatten().collect();
    if let Some(problem) = ambiguous(&typed, &all) {
        problems.push(problem);
        return;
    }
    for (name, table) in all {
        let resource = one(&typed, &name, table, &model.targets, used, problems);
        model.resources.push(resource);
    }
}

/// Returns the problem of keys that cannot hold for all of `meant`.
fn ambiguous(typed: &Resource, meant: &[Meant]) -> Option<Diagnostic> {
    let kinds: BTreeSet<_> = meant.iter().map(|(_, table)| table.kind.label()).collect();
    let key = if !typed.from_absent && meant.len() > 1 {
        "from"
    } else if !typed.to_absent && kinds.len() > 1 {
        "to"
    } else if typed.kind.is_some() && kinds.len() > 1 {
        "type"
    } else {
        return None;
    };
    Some(
        Diagnostic::new(
            Code::InvalidValue,
            format!(
                "{} cannot hold for {} resources",
                quoted(&format!("{}.{key}", typed.path)),
                meant.len()
            ),
        )
        .at(typed.at, "stands for several")
        .help(format!(
            "write an entry for each: {}",
            listed(meant.iter().map(|(name, _)| name.as_str()))
        )),
    )
}

fn unknown(name: &str, typed: Option<&Value<String>>, at: Span) -> Diagnostic {
    // The value of a variable is not shown, nor what it is like.
    let hidden = typed.filter(|typed| typed.value != typed.typed);
    let near = match hidden {
        Some(_) => Vec::new(),
        None => spryker::near(name, 3),
    };
    let shown = hidden.map_or_else(|| quoted(name), Value::shown);
    let help = if near.is_empty() {
        "a table of your own needs `from: {...}`".to_owned()
    } else {
        format!(
            "did you mean {}? a table of your own needs `from: {{...}}`",
            listed(near)
        )
    };
    Diagnostic::new(
        Code::UnknownResource,
        format!("{shown} is no resource of `preset: spryker`"),
    )
    .at(at, "not known")
    .help(help)
}

/// Returns the resource `name` of `table`, with what was typed on top.
fn one(
    typed: &Resource,
    name: &str,
    table: &'static Table,
    targets: &[Target],
    used: &mut Used,
    problems: &mut Vec<Diagnostic>,
) -> Resource {
    let path = format!("resources.{name}");
    let mut resource = Resource {
        name: Some(value(name, typed.at)),
        path: path.clone(),
        ..typed.clone()
    };
    if resource.to.is_none() && resource.to_absent {
        match &fitting(table.kind, targets)[..] {
            [one] => {
                used.push((format!("{path}.to"), one.name.value.clone()));
                resource.to = Some(value(&one.name.value, typed.at));
            }
            [] if targets.iter().all(|target| target.kind.is_some()) && !targets.is_empty() => {
                problems.push(no_target(&path, name, table.kind, typed.at));
                // Said once.
                resource.to_absent = false;
            }
            _ => {}
        }
    }
    let template = template_of(resource.to.as_ref(), targets).unwrap_or_default();
    if let Some(source) = table.source
        && resource.kind.is_none()
        && !resource.kind_broken
        && template.contains("{type}")
    {
        used.push((format!("{path}.type"), source.to_owned()));
        resource.kind = Some(value(source, typed.at));
    }
    if resource.keys.is_none() && table.owns_its_prefix() {
        let keys = format!("{}:", table.key_prefix);
        used.push((format!("{path}.keys"), keys.clone()));
        resource.keys = Some(value(&keys, typed.at));
    }
    let by_store = template.contains("{store}");
    let keys = table.kind == Kind::Storage && takes_keys(resource.to.as_ref(), targets);
    let from = resource.from.get_or_insert_default();
    let mut filled = fill_from(from, table, by_store, typed.at);
    if keys {
        filled.extend(fill_keys(from, typed.at));
    }
    note_from(&path, &filled, used);
    resource
}

/// Notes what `from` of the resource at `path` got.
fn note_from(path: &str, filled: &[String], used: &mut Used) {
    if !filled.is_empty() {
        used.push((
            format!("{path}.from"),
            format!("{{ {} }}", filled.join(", ")),
        ));
    }
}

/// Returns the servers that take tables of `kind`, or the files where there is no server.
fn fitting(kind: Kind, targets: &[Target]) -> Vec<&Target> {
    let of = |wanted: fn(&TargetKind, Kind) -> bool| -> Vec<&Target> {
        targets
            .iter()
            .filter(|target| target.kind.as_ref().is_some_and(|one| wanted(one, kind)))
            .collect()
    };
    let servers = of(|target, kind| match target {
        TargetKind::Redis(_) => kind == Kind::Storage,
        TargetKind::Search(_) => kind == Kind::Search,
        TargetKind::File(_) => false,
    });
    if !servers.is_empty() {
        return servers;
    }
    of(|target, kind| match target {
        TargetKind::File(file) => file.ndjson == (kind == Kind::Search),
        _ => false,
    })
}

fn no_target(path: &str, name: &str, kind: Kind, at: Span) -> Diagnostic {
    let (noun, example) = match kind {
        Kind::Storage => ("storage", "storage: { redis: { url: \"${REDIS_URL}\" } }"),
        Kind::Search => (
            "search",
            "search: { elasticsearch: { url: \"${SEARCH_URL}\" } }",
        ),
    };
    let other = name
        .rsplit_once('/')
        .map(|(base, _)| match kind {
            Kind::Storage => format!("{base}/search"),
            Kind::Search => format!("{base}/storage"),
        })
        .map(|other| format!(", or name {} only", quoted(&other)))
        .unwrap_or_default();
    Diagnostic::new(Code::MissingKey, format!("{} has no target", quoted(path)))
        .at(at, format!("a {noun} table goes to which target?"))
        .help(format!("add for example `{example}`{other}"))
}

fn template_of<'t>(to: Option<&Value<String>>, targets: &'t [Target]) -> Option<&'t str> {
    let target = targets
        .iter()
        .find(|target| Some(&target.name.value) == to.map(|to| &to.value))?;
    let index = match target.kind.as_ref()? {
        TargetKind::Search(search) => search.index.as_ref()?,
        TargetKind::File(file) => file.index.as_ref()?,
        TargetKind::Redis(_) => return None,
    };
    Some(&index.value)
}

/// Fills in what `from` does not say; returns it as it would be typed, `["key: key"]`.
fn fill_from(from: &mut From, table: &Table, by_store: bool, at: Span) -> Vec<String> {
    let store = (by_store && table.store != Presence::Never).then_some(spryker::STORE);
    let mut filled = Vec::new();
    let mut fill = |slot: &mut Option<Value<String>>, key: &str, known: Option<&str>| {
        if let (None, Some(known)) = (&slot, known) {
            filled.push(format!("{key}: {known}"));
            *slot = Some(value(known, at));
        }
    };
    fill(&mut from.table, "table", Some(table.table));
    fill(&mut from.key, "key", Some(spryker::KEY));
    fill(&mut from.value, "value", Some(spryker::DATA));
    fill(&mut from.entity, "entity", table.entity);
    fill(&mut from.store, "store", store);
    if from.cursor.is_none() {
        filled.push(format!("cursor: [{}]", table.cursor));
        from.cursor = Some(Value {
            value: vec![value(table.cursor, at)],
            typed: table.cursor.to_owned(),
            span: at,
        });
    }
    filled
}

/// Returns whether the target is one of keys and values, as opposed to documents of an index.
fn takes_keys(to: Option<&Value<String>>, targets: &[Target]) -> bool {
    let target = match to {
        Some(to) => targets.iter().find(|one| one.name.value == to.value),
        None => targets.first().filter(|_| targets.len() == 1),
    };
    match target.and_then(|target| target.kind.as_ref()) {
        Some(TargetKind::Redis(_)) => true,
        Some(TargetKind::File(file)) => !file.ndjson,
        Some(TargetKind::Search(_)) | None => false,
    }
}

/// Fills in the columns with more keys, which count where a table has them; returns them as [`fill_from`] does.
fn fill_keys(from: &mut From, at: Span) -> Vec<String> {
    let slots = [
        ("aliases", &mut from.aliases, spryker::ALIAS_KEYS),
        ("mapping_key", &mut from.mapping_key, spryker::MAPPING_KEY),
    ];
    let empty = slots.into_iter().filter(|(_, slot, _)| slot.is_none());
    empty
        .map(|(key, slot, column)| {
            *slot = Some(KeyColumn {
                name: value(column, at),
                optional: true,
            });
            format!("{key}: {column}")
        })
        .collect()
}

/// Names the queues of the shop, and fills in what only messages need.
fn add_queues(model: &mut Model, used: &mut Used) {
    let mut resources = std::mem::take(&mut model.resources);
    for resource in &mut resources {
        let is_sent = model.executor(resource) == Executor::Queue;
        let (at, path) = (resource.at, resource.path.clone());
        let mut fill = |slot: &mut Option<Value<String>>, key: &str, known: &str| {
            if slot.is_none() {
                used.push((format!("{path}.{key}"), known.to_owned()));
                *slot = Some(value(known, at));
            }
        };
        let Some(from) = &mut resource.from else {
            continue;
        };
        let table = from
            .table
            .as_ref()
            .and_then(|table| spryker::by_table(&table.value));
        let Some(table) = table else { continue };
        if !resource.queue_broken {
            fill(&mut resource.queue, "queue", table.queue);
        }
        if is_sent && table.sends_store() {
            fill(&mut from.store, "from.store", spryker::STORE);
        }
        if let Some(source) = table.source.filter(|_| is_sent && !resource.kind_broken) {
            fill(&mut resource.kind, "type", source);
        }
    }
    model.resources = resources;
}

/// Lets the shop's console regenerate the rows of resources that say nothing of it themselves.
fn add_publishers<'r>(resources: impl Iterator<Item = &'r mut Resource>, used: &mut Used) {
    for resource in resources {
        let (None, Some(from)) = (&resource.fallback, &resource.from) else {
            continue;
        };
        let table = from
            .table
            .as_ref()
            .and_then(|table| spryker::by_table(&table.value));
        let entity = from.entity.as_ref().map(|entity| entity.value.as_str());
        let filled = table.and_then(|table| publisher::of(table, entity, resource.at));
        if let Some((handover, shown)) = filled {
            used.push((format!("{}.fallback", resource.path), shown));
            resource.fallback = Some(handover);
        }
    }
}

/// Makes `after: [product_abstract]` mean both halves, as far as the plan has them.
fn widen_after(resources: &mut [Resource]) {
    let names: BTreeSet<String> = resources
        .iter()
        .filter_map(|resource| Some(resource.name.as_ref()?.value.clone()))
        .collect();
    for resource in resources {
        let own = resource.name.as_ref().map(|name| name.value.clone());
        let after = std::mem::take(&mut resource.after);
        for wanted in after {
            let halves: Vec<_> = pair(&wanted.value)
                .into_iter()
                .filter(|half| names.contains(half))
                .collect();
            if names.contains(&wanted.value) || halves.is_empty() {
                resource.after.push(wanted);
                continue;
            }
            let others = halves.into_iter().filter(|half| Some(half) != own.as_ref());
            resource
                .after
                .extend(others.map(|half| value(&half, wanted.span)));
        }
    }
}

fn value(text: &str, span: Span) -> Value<String> {
    Value {
        value: text.to_owned(),
        typed: text.to_owned(),
        span,
    }
}
