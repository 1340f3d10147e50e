//! The number of a Redis database: beyond what the server has, or not the one that the shop reads.

use super::Scene;
use crate::{
    error::Subject,
    plan::{Code, Diagnostic, TargetPlaces},
    target::Condition,
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for (name, target) in &scene.answers.targets {
        let place = scene.places.targets.get(name).map(TargetPlaces::store);
        if let Err(error) = &target.identity
            && error.subject.as_deref() == Some(&Subject::Database)
        {
            problems.push(
                Diagnostic::new(
                    Code::NoDatabase,
                    format!(
                        "target `{name}`: {} has no database with this number",
                        target.place
                    ),
                )
                .at_known(place, "the number at its end")
                .help("`CONFIG GET databases` there says how many it has; they are counted from 0"),
            );
        }
        for condition in &target.conditions {
            let Condition::OtherDatabase { ours, theirs } = condition else {
                continue;
            };
            problems.push(
                Diagnostic::new(
                    Code::OtherDatabase,
                    format!(
                        "target `{name}`: database {ours} is empty, and database {theirs} of the same server holds keys \
                         with the plan's prefix"
                    ),
                )
                .at_known(place, "the number at its end")
                .help(format!(
                    "if the shop reads database {theirs}, name that one in the URL"
                )),
            );
        }
    }
}
