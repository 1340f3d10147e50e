//! Targets that do not answer, or not this user, or cannot be written to for a reason that no other rule knows.

use super::{Scene, ask::TargetAnswer};
use crate::{
    error::{EdgeError, ErrorKind, Subject, chain},
    plan::{Code, Diagnostic, TargetPlaces},
    target::Condition,
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    for (name, target) in &scene.answers.targets {
        let Err(error) = &target.identity else {
            continue;
        };
        if is_told_elsewhere(target, error) {
            continue;
        }
        let (code, help) = match error.kind {
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
        };
        let place = scene.places.targets.get(name).map(TargetPlaces::store);
        problems.push(
            Diagnostic::new(
                code,
                format!("target `{name}`: {}", chain(error).join(": ")),
            )
            .at_known(place, "this target")
            .help(help),
        );
    }
}

/// Returns whether the error follows from a condition that has a rule of its own.
fn is_told_elsewhere(target: &TargetAnswer, error: &EdgeError) -> bool {
    let follows = |condition: &Condition| match condition {
        Condition::Evicts { .. } | Condition::Replica { .. } => error.kind == ErrorKind::Refused,
        Condition::IndexMissing { .. } => error.kind == ErrorKind::Missing,
        _ => false,
    };
    error.subject.as_deref() == Some(&Subject::Database) || target.conditions.iter().any(follows)
}
