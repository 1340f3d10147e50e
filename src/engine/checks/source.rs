//! A source that does not answer, or not this user.

use super::Scene;
use crate::{
    error::{EdgeError, ErrorKind, chain},
    plan::{Code, Diagnostic},
};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    if let Some(error) = &scene.answers.source_error {
        problems.push(trouble(error).at_known(scene.places.source, "this source"));
    }
}

/// Returns the problem that a source as a whole has.
pub(super) fn trouble(error: &EdgeError) -> Diagnostic {
    let (code, help) = match error.kind {
        ErrorKind::Credentials => (
            Code::SourceCredentials,
            "check user and password in the URL, and the user's rights: `SELECT` on the database is enough",
        ),
        ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Busy => (
            Code::SourceUnreachable,
            "check that the server is up, and host and port in the URL",
        ),
        ErrorKind::Missing => (
            Code::SourceUnreachable,
            "check host, path and database in the URL",
        ),
        _ => (Code::SourceRefused, "mend what the source says"),
    };
    Diagnostic::new(code, chain(error).join(": ")).help(help)
}
