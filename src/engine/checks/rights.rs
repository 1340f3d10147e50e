//! A user of the source who may do more than read.

use super::Scene;
use crate::plan::{Code, Diagnostic, SourceKind};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    let Some(right) = &scene.answers.right_to_write else {
        return;
    };
    let grant = match scene.plan.source.kind {
        SourceKind::Postgres => "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        SourceKind::Mysql | SourceKind::Sqlite => "GRANT SELECT ON the_database.* TO reader",
    };
    problems.push(
        Diagnostic::new(
            Code::WritableUser,
            format!(
                "the source's user may change the database (it has {right}); a restore only reads"
            ),
        )
        .at_known(scene.places.source, "this user")
        .help(format!("name one who may read and nothing else: `{grant}`")),
    );
}
