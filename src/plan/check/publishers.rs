//! Under a preset, somebody is known who builds a resource's rows again, or the plan says that nobody does.
//!
//! A module of the shop's own whose events nobody wired is found here, as one without a resource is by the source's
//! tables.

use crate::{
    plan::{
        Executor,
        diagnostic::{Code, Diagnostic},
        model::{Model, Resource},
        quote::quoted,
    },
    spryker,
};

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let fallback = model.defaults.fallback_to.as_ref();
    if model.preset.is_none() || fallback.is_some_and(|to| to.value == "none") {
        return;
    }
    let direct = |one: &&Resource| model.executor(one) != Executor::Queue;
    for resource in model.resources.iter().filter(direct) {
        let table = resource.from.as_ref().and_then(|from| from.table.as_ref());
        // What the plan says of it, the other rules look at.
        let Some(table) = table.filter(|_| resource.fallback.is_none()) else {
            continue;
        };
        let path = quoted(&resource.path);
        let (message, label, help) = match spryker::by_table(&table.value) {
            None => (
                format!(
                    "{path} has no publisher: the preset knows neither queue nor events of table {}",
                    quoted(&table.typed)
                ),
                "a module of the shop's own",
                "name what `publish:trigger-events` calls it: `fallback: { trigger: ..., ids: { table: ..., column: ... } }`; \
                 or say that there is nothing: `fallback: { to: none }`",
            ),
            Some(known) if known.trigger.is_none() => (
                format!(
                    "{path} has no publisher: nothing in core builds rows of table {} again by their ids",
                    quoted(known.table)
                ),
                "broken rows stay dead letters",
                "say so: `fallback: { to: none }`; or name a publisher of the shop's own",
            ),
            Some(known) if model.console.is_some() => (
                format!(
                    "{path} has no publisher: which ids {} takes for rows of table {} is not known",
                    quoted(known.trigger.map_or("it", |trigger| trigger.resource)),
                    quoted(known.table)
                ),
                "broken rows stay dead letters",
                "write its `fallback` with the `ids` it takes, or `fallback: { to: none }`",
            ),
            Some(_) => continue,
        };
        problems.push(
            Diagnostic::new(Code::NoPublisher, message)
                .at(resource.at, label)
                .help(help),
        );
    }
}
