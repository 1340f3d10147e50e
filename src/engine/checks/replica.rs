//! A Redis that copies another one.

use super::Scene;
use crate::{
    plan::{Code, Diagnostic, TargetPlaces},
    target::Condition,
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for (name, target) in &scene.answers.targets {
        for condition in &target.conditions {
            let Condition::Replica { master } = condition else {
                continue;
            };
            problems.push(
                Diagnostic::new(
                    Code::ReplicaTarget,
                    format!("target `{name}`: {} is a read-only replica", target.place),
                )
                .at_known(
                    scene.places.targets.get(name).map(TargetPlaces::store),
                    "this server",
                )
                .help(format!("name its master, {master}")),
            );
        }
    }
}
