//! Targets that do not answer, or not this user, or cannot be written to for a reason that no other rule knows.

use super::{Scene, ask::TargetAnswer};
use crate::{
    error::{EdgeError, ErrorKind, Subject, chain},
    ids::ResourceName,
    plan::{Code, Diagnostic, Routing, TargetConfig, TargetPlaces},
    target::Condition,
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for (name, target) in &scene.answers.targets {
        let place = scene.places.targets.get(name).map(TargetPlaces::store);
        if let Err(error) = &target.identity
            && !is_told_elsewhere(target, error)
        {
            let (code, help) = judged(error);
            let message = format!("target `{name}`: {}", chain(error).join(": "));
            problems.push(
                Diagnostic::new(code, message)
                    .at_known(place, "this target")
                    .help(help),
            );
        }
        for (resource, error) in &target.ways {
            let is_queue = matches!(error.subject.as_deref(), Some(Subject::Queue { .. }));
            if is_queue || misses_an_index(scene, name, resource, target) {
                continue;
            }
            let place = scene
                .places
                .resources
                .get(resource)
                .and_then(|one| one.name);
            let message = format!("`{resource}`: {}", chain(error).join(": "));
            problems.push(
                Diagnostic::new(Code::TargetRefused, message)
                    .at_known(place, "its rows have no way there")
                    .help("mend what the target says"),
            );
        }
    }
}

fn judged(error: &EdgeError) -> (Code, &'static str) {
    match error.kind {
        ErrorKind::Credentials => (
            Code::TargetCredentials,
            "check user and password in the URL, and the user's rights",
        ),
        ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Busy => (
            Code::TargetUnreachable,
            "check that the server is up, and host and port in the URL",
        ),
        ErrorKind::Missing => (Code::TargetUnreachable, "check the host in the URL"),
        _ => (Code::TargetRefused, "mend what the target says"),
    }
}

/// Returns whether the error follows from a condition that has a rule of its own.
fn is_told_elsewhere(target: &TargetAnswer, error: &EdgeError) -> bool {
    let follows = |condition: &Condition| match condition {
        Condition::Evicts { .. } | Condition::Replica { .. } => error.kind == ErrorKind::Refused,
        _ => false,
    };
    error.subject.as_deref() == Some(&Subject::Database) || target.conditions.iter().any(follows)
}

/// Returns whether an index of the resource is missing, which has a rule of its own.
fn misses_an_index(
    scene: &Scene<'_>,
    name: &str,
    resource: &ResourceName,
    target: &TargetAnswer,
) -> bool {
    let Some(TargetConfig::Search(config)) = scene.plan.targets.get(name) else {
        return false;
    };
    let indexes = config.indexes.get(resource).into_iter();
    let indexes: Vec<_> = indexes.flat_map(Routing::indexes).collect();
    let is_missing = |condition: &Condition| match condition {
        Condition::IndexMissing { index, .. } => indexes.contains(&index.as_str()),
        _ => false,
    };
    target.conditions.iter().any(is_missing)
}
