//! What an answer of AWS means.

use std::error::Error as StdError;

use aws_sdk_rds::error::{ProvideErrorMetadata, SdkError};

use crate::error::{EdgeError, ErrorKind, chain};

/// Codes of AWS for "not so fast", and for trouble of its own.
const BUSY: [&str; 9] = [
    // Something is being done to the instance: a backup may begin at any time.
    "InvalidDBInstanceState",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ServiceUnavailable",
    "InternalFailure",
    "InternalError",
    "ProvisionedThroughputExceededException",
];

/// Codes for credentials that were good and are no more: the chain may have newer ones.
const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "RequestExpired"];

/// Codes for credentials that are not good, or not for this.
const DENIED: [&str; 9] = [
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "NotAuthorized",
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "MissingAuthenticationToken",
];

/// Codes for a name that nothing has.
const NOT_FOUND: [&str; 4] = [
    "DBInstanceNotFound",
    "DBInstanceNotFoundFault",
    "DBSnapshotNotFound",
    "DBSnapshotNotFoundFault",
];

/// Returns the error for a request that did not work; `what` says which, for example ``cannot rename `shop-db` ``.
pub(super) fn failed<E>(shown: &str, what: &str, error: &SdkError<E>) -> EdgeError
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        SdkError::ServiceError(_) => {
            let code = error.code().unwrap_or("no code");
            let said = error.message().unwrap_or("no reason");
            let status = error.raw_response().map(|one| one.status().as_u16());
            EdgeError::new(
                of_code(code, status),
                format!("{what}: {shown} answers {code}: {said}"),
            )
        }
        SdkError::ResponseError(_) => {
            let status = error.raw_response().map(|one| one.status().as_u16());
            let kind = match status {
                Some(400..=499) => ErrorKind::Refused,
                _ => ErrorKind::Busy,
            };
            let status = status.map_or_else(|| "no status".to_owned(), |one| one.to_string());
            let text =
                format!("{what}: {shown} answers with {status} and what is no answer of RDS");
            EdgeError::new(kind, text)
        }
        other => {
            let why = chain(other);
            let why = why.get(1..).unwrap_or_default().join(": ");
            let is_late = matches!(other, SdkError::TimeoutError(_))
                || matches!(other, SdkError::DispatchFailure(one) if one.is_timeout());
            let kind = if why.contains("credential") {
                ErrorKind::Credentials
            } else if is_late {
                ErrorKind::Timeout
            } else {
                ErrorKind::Connection
            };
            EdgeError::new(kind, format!("{what}: no answer of {shown}: {why}"))
        }
    }
}

fn of_code(code: &str, status: Option<u16>) -> ErrorKind {
    if BUSY.contains(&code) || is_expired(code) || status.is_some_and(|status| status >= 500) {
        ErrorKind::Busy
    } else if DENIED.contains(&code) {
        ErrorKind::Credentials
    } else if NOT_FOUND.contains(&code) {
        ErrorKind::Missing
    } else {
        ErrorKind::Refused
    }
}

/// Returns whether `code` asks for other credentials.
pub(super) fn is_expired(code: &str) -> bool {
    EXPIRED.contains(&code)
}

/// Returns whether `code` says that something has the name.
pub(super) fn is_taken(code: &str) -> bool {
    code.contains("AlreadyExists")
}

/// Returns whether `code` says that nothing has the name.
pub(super) fn is_not_found(code: &str) -> bool {
    NOT_FOUND.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_kinds() {
        for (code, status, kind) in [
            ("Throttling", 400, ErrorKind::Busy),
            ("ExpiredToken", 400, ErrorKind::Busy),
            ("Whatever", 503, ErrorKind::Busy),
            ("AccessDenied", 403, ErrorKind::Credentials),
            ("DBInstanceNotFound", 404, ErrorKind::Missing),
            ("DBInstanceAlreadyExists", 400, ErrorKind::Refused),
        ] {
            assert_eq!(of_code(code, Some(status)), kind, "{code}");
        }
    }
}
