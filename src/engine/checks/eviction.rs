//! A Redis that drops keys when its memory is full.

use super::Scene;
use crate::{
    plan::{Code, Diagnostic, TargetPlaces},
    target::Condition,
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for (name, target) in &scene.answers.targets {
        for condition in &target.conditions {
            let Condition::Evicts { place, policy } = condition else {
                continue;
            };
            problems.push(
                Diagnostic::new(
                    Code::Eviction,
                    format!(
                        "target `{name}`: {place} drops keys when memory is full (`maxmemory-policy {policy}`), so a \
                         restore may lose rows"
                    ),
                )
                .at_known(
                    scene.places.targets.get(name).map(TargetPlaces::store),
                    "this server",
                )
                .help(
                    "`CONFIG SET maxmemory-policy noeviction` there, and in its configuration; or `allow_eviction: true` in \
                     the plan, for a cache that may lose keys",
                ),
            );
        }
    }
}
