//! `to:` names a target of the plan; with one target it may be left out.

use std::collections::BTreeSet;

use crate::plan::{
    diagnostic::{Code, Diagnostic},
    model::{Model, Resource},
    problems::MAX_PROBLEMS,
    quote::{candidates, listed, quoted},
};

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let names: BTreeSet<&str> = model
        .targets
        .iter()
        .map(|target| target.name.value.as_str())
        .collect();
    if names.is_empty() {
        // Missing or broken: a problem of its own, not one more for each resource.
        return;
    }
    let found = model
        .resources
        .iter()
        .filter_map(|resource| problem(resource, &names));
    // Each looks for the nearest of all names.
    problems.extend(found.take(MAX_PROBLEMS));
}

fn problem(resource: &Resource, names: &BTreeSet<&str>) -> Option<Diagnostic> {
    let path = &resource.path;
    match &resource.to {
        Some(to) if !names.contains(to.value.as_str()) => Some(
            Diagnostic::new(
                Code::UnknownTarget,
                format!(
                    "{} goes to {}, which is not a target of this plan",
                    quoted(path),
                    to.shown()
                ),
            )
            .at(to.span, "not known")
            .help(candidates(
                &to.typed,
                "defined targets",
                names.iter().copied(),
            )),
        ),
        None if resource.to_absent && names.len() > 1 => Some(
            Diagnostic::new(
                Code::MissingKey,
                format!("{} is missing", quoted(&format!("{path}.to"))),
            )
            .at(resource.at, "goes to which target?")
            .help(format!(
                "defined targets are {}",
                listed(names.iter().copied())
            )),
        ),
        _ => None,
    }
}
