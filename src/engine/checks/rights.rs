//! A user of the source who may do more than read.

use super::Scene;
use crate::plan::{Code, Diagnostic, SourceKind};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    let Some(right) = &scene.answers.right_to_write else {
        return;
    };
    let grant = match scene.plan.source.kind {
        SourceKind::Postgres => "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader".to_owned(),
        SourceKind::Mysql | SourceKind::Sqlite => {
            // `mariadb at db.test:3306/shop`
            let place = scene.answers.source.as_deref().unwrap_or_default();
            let name = place.rsplit_once('/').map_or("", |(_, name)| name);
            let is_plain =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let name = if is_plain { name } else { "the_database" };
            format!("GRANT SELECT ON {name}.* TO reader")
        }
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
