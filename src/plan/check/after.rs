//! `after:` names resources of the same plan.

use std::collections::BTreeSet;

use crate::plan::{
    diagnostic::{Code, Diagnostic},
    model::Model,
    problems::MAX_PROBLEMS,
    quote::{candidates, quoted},
};

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let names = || {
        model
            .resources
            .iter()
            .filter_map(|resource| resource.name.as_ref())
    };
    let known: BTreeSet<&str> = names().map(|name| name.value.as_str()).collect();
    let unknown = model.resources.iter().flat_map(|resource| {
        let unknown = resource
            .after
            .iter()
            .filter(|wanted| !known.contains(wanted.value.as_str()));
        unknown.map(move |wanted| (resource, wanted))
    });
    // Each looks for the nearest of all names.
    for (resource, wanted) in unknown.take(MAX_PROBLEMS) {
        let own = resource.name.as_ref();
        let others = names()
            .filter(|name| Some(*name) != own)
            .map(|name| name.typed.as_str());
        problems.push(
            Diagnostic::new(
                Code::UnknownResource,
                format!(
                    "{} waits for {}, which is not a resource of this plan",
                    quoted(&resource.path),
                    wanted.shown()
                ),
            )
            .at(wanted.span, "not known")
            .help(candidates(&wanted.typed, "other resources", others)),
        );
    }
}
