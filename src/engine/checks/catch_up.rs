//! A column for catching up that a table has not, or that no index finds recent rows by.

use super::{Scene, source};
use crate::plan::{Code, Diagnostic};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for table in &scene.answers.tables {
        let places = scene.places.resources.get(&table.resource);
        let place = places.and_then(|one| one.catch_up.or_else(|| one.table()));
        match &table.catch_up {
            Ok(None) => {}
            Ok(Some(warning)) => problems.push(
                Diagnostic::new(Code::SlowCatchUp, warning.clone())
                    .at_known(place, "this column")
                    .help("an index that begins with the column finds what changed; without one, every run reads the table twice"),
            ),
            Err(error) => {
                let mut problem = source::trouble(error);
                problem.message = format!("`{}`: {}", table.resource, problem.message);
                problems.push(problem.at_known(place, "this column"));
            }
        }
    }
}
