//! `ignore_tables` that means no table: it was mistyped, or its table is gone.

use super::Scene;
use crate::plan::{Code, Diagnostic};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for &number in &scene.answers.coverage.without_table {
        let Some(pattern) = scene.plan.ignored.get(number) else {
            continue;
        };
        problems.push(
            Diagnostic::new(
                Code::IgnoresNothing,
                format!(
                    "`ignore_tables` names `{}`, and no table that looks like a read model is called so",
                    pattern.typed
                ),
            )
            .at_known(
                scene.places.ignored.get(number).copied(),
                "means no table",
            )
            .help("take it out, or mend the name"),
        );
    }
}
