//! Indexes that are not there, guess, or take no writes.

use std::collections::BTreeSet;

use super::Scene;
use crate::{
    plan::{Code, Diagnostic, Preset, Resource, Routing, Span, TargetConfig, TargetPlaces},
    target::Condition,
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for (name, target) in &scene.answers.targets {
        let Some(TargetConfig::Search(config)) = scene.plan.targets.get(name) else {
            continue;
        };
        // The target knows all indexes of the plan, and the scope may leave some of them out.
        let asked = scene.answers.tables.iter().map(|one| &one.resource);
        let used: BTreeSet<&str> = asked
            .filter_map(|resource| config.indexes.get(resource))
            .flat_map(Routing::indexes)
            .collect();
        let nothing_is_known = scene.answers.tables.is_empty();
        let place = scene.places.targets.get(name).map(place);
        let typed = scene.places.targets.get(name).and_then(|one| one.index);
        let defaulted = scene.places.defaulted(typed);
        for condition in &target.conditions {
            let (Condition::IndexMissing { index, .. }
            | Condition::IndexDynamic { index }
            | Condition::IndexBlocked { index, .. }) = condition
            else {
                continue;
            };
            if !nothing_is_known && !used.contains(index.as_str()) {
                continue;
            }
            let is_of = |resource: &&Resource| {
                let routing = config.indexes.get(&resource.name);
                routing.is_some_and(|routing| routing.indexes().any(|one| one == index))
            };
            let whose: Vec<_> = scene.plan.resources.iter().filter(is_of).collect();
            problems.push(
                problem(scene, (&target.place, defaulted), condition, index, &whose)
                    .at_known(place, "named here"),
            );
        }
    }
}

fn place(places: &TargetPlaces) -> Span {
    places.index.unwrap_or_else(|| places.store())
}

fn problem(
    scene: &Scene<'_>,
    (place, defaulted): (&str, &[String]),
    condition: &Condition,
    index: &str,
    whose: &[&Resource],
) -> Diagnostic {
    let names: Vec<_> = whose.iter().map(|one| format!("`{}`", one.name)).collect();
    let of = match names.as_slice() {
        [] => String::new(),
        names => format!(", for {}", names.join(", ")),
    };
    // A shop's own command makes it anew, with the mapping it should have.
    let made_by = match scene.plan.preset {
        Some(Preset::Spryker) => "`vendor/bin/console search:setup:sources`",
        None => "the way the shop does (Spryker: `vendor/bin/console search:setup:sources`)",
    };
    match condition {
        Condition::IndexBlocked { setting, .. } => Diagnostic::new(
            Code::BlockedIndex,
            format!("{place}: index `{index}` takes no writes (`{setting}`){of}"),
        )
        .help(if setting.ends_with("allow_delete") {
            format!("make room on its disk; where it stays, `PUT {index}/_settings` with `{{\"{setting}\": null}}`")
        } else {
            format!("`PUT {index}/_settings` with `{{\"{setting}\": null}}`")
        }),
        Condition::IndexDynamic { .. } => Diagnostic::new(
            Code::DynamicIndex,
            format!("{place}: index `{index}` guesses the types of fields that it does not know{of}"),
        )
        .help(format!(
            "delete it and create it anew, {made_by}, if it should have a mapping of its own"
        )),
        Condition::IndexMissing { prefixed, .. } if !prefixed.is_empty() => {
            let verb = if prefixed.len() == 1 { "is" } else { "are" };
            let which = match (defaulted, scene.plan.preset) {
                ([], Some(Preset::Spryker)) => {
                    "write its prefix as `prefix` of the target".to_owned()
                }
                ([], None) => "write its prefix into `index` of the target".to_owned(),
                (names, _) => format!("set `{}`, which is unset, to its prefix", names.join("`, `")),
            };
            missing(place, index, &of).help(format!(
                "`{}` {verb} there: {which}; or create `{index}`: {made_by}",
                prefixed.join("`, `"),
            ))
        }
        _ => missing(place, index, &of).help(format!("create it: {made_by}")),
    }
}

fn missing(place: &str, index: &str, of: &str) -> Diagnostic {
    Diagnostic::new(
        Code::MissingIndex,
        format!(
            "{place} has no index `{index}`{of}; a restore creates none, because its mapping would be guessed"
        ),
    )
}
