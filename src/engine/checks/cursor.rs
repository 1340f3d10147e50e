//! A cursor that is not all of a unique index over columns that are NOT NULL.

use super::Scene;
use crate::{
    error::Subject,
    plan::{Code, Diagnostic},
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for table in &scene.answers.tables {
        let Err(error) = &table.shape else { continue };
        let Some(Subject::Cursor { why, would_do }) = error.subject.as_deref() else {
            continue;
        };
        let Some(resource) = scene.plan.resource(&table.resource) else {
            continue;
        };
        let places = scene.places.resources.get(&table.resource);
        let help = match would_do.as_slice() {
            [] => {
                "no index of the table would do: it needs a PRIMARY or UNIQUE index whose columns are NOT NULL and neither \
                 floating-point numbers nor parts of columns"
                    .to_owned()
            }
            indexes => {
                let lists: Vec<_> = indexes.iter().map(|one| format!("`cursor: [{one}]`")).collect();
                format!("{} would do", lists.join(" or "))
            }
        };
        problems.push(
            Diagnostic::new(
                Code::UnfitCursor,
                format!(
                    "`{}`: `{}` of table `{}` cannot be the cursor: {why}",
                    resource.name,
                    resource.from.cursor.join(", "),
                    resource.from.table
                ),
            )
            .at_known(
                places.and_then(|one| one.cursor.or_else(|| one.table())),
                "cannot be walked along",
            )
            .help(help),
        );
    }
}
