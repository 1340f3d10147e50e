//! Which instance holds which name: what a person has to know when a step could not be done.

use crate::{
    error::EdgeError,
    remote::rds::{Instance, Rds},
    report::human,
};

/// Returns which instance holds each of `names`, in one line.
pub(super) async fn holders(rds: &Rds, names: &[&str]) -> Result<String, EdgeError> {
    let mut said = Vec::new();
    for name in names {
        said.push(match rds.instance(name).await? {
            Some(instance) => format!("`{name}` is {}", shown(&instance)),
            None => format!("`{name}` is free"),
        });
    }
    Ok(said.join("; "))
}

/// Returns what tells one instance from another: `db-ABC (available, made 2026-11-21 03:00:00 UTC)`.
pub(super) fn shown(instance: &Instance) -> String {
    let made = instance.created.map_or_else(String::new, |created| {
        format!(", made {}", human::utc(created))
    });
    format!("{} ({}{made})", instance.resource_id, instance.status)
}
