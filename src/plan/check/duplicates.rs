//! Every resource has a name of its own: the journal goes by it.

use std::collections::BTreeMap;

use crate::plan::{
    diagnostic::{Code, Diagnostic},
    model::Model,
};

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for name in model
        .resources
        .iter()
        .filter_map(|resource| resource.name.as_ref())
    {
        if let Some(first) = seen.get(&name.value) {
            problems.push(
                Diagnostic::new(
                    Code::DuplicateName,
                    format!("two resources are called {}", name.shown()),
                )
                .at(name.span, "used again")
                .at(*first, "first used here")
                .help("give one of them another name"),
            );
        } else {
            seen.insert(&name.value, name.span);
        }
    }
}
