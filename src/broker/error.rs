//! What a broker's refusals mean for a run.

use lapin::{Error, ErrorKind as Lapin};

use crate::{
    error::{EdgeError, ErrorKind},
    tls,
};

/// Returns the error of `what` at `place`. Replies of a broker name queues and arguments, never a message's content.
pub(super) fn of(place: &str, what: &str, error: &Error) -> EdgeError {
    let (kind, why) = match error.kind() {
        Lapin::ProtocolError(reply) => (refusal(reply.get_id()), reply.get_message().to_string()),
        Lapin::IOError(io) => {
            tls::explain(&**io).unwrap_or_else(|| (ErrorKind::Connection, error.to_string()))
        }
        Lapin::RuntimeShutdownError(_)
        | Lapin::MissingHeartbeatError
        | Lapin::InvalidChannel(_)
        | Lapin::InvalidChannelState(..)
        | Lapin::InvalidConnectionState(_) => (ErrorKind::Connection, error.to_string()),
        Lapin::AuthProviderError(_) => (ErrorKind::Credentials, error.to_string()),
        Lapin::ChannelsLimitReached => (ErrorKind::Busy, error.to_string()),
        _ => (ErrorKind::Refused, error.to_string()),
    };
    EdgeError::new(kind, format!("{place} {what}: {why}"))
}

/// Returns what a reply code of AMQP 0-9-1 means.
const fn refusal(code: u16) -> ErrorKind {
    match code {
        // The connection ended from there: an operator closed it, or the node goes down.
        320 | 541 => ErrorKind::Connection,
        403 => ErrorKind::Credentials,
        // No such queue, exchange or vhost; nothing routes to a queue.
        312 | 404 | 530 => ErrorKind::Missing,
        // Somebody else's for now; no room for it now.
        405 | 506 => ErrorKind::Busy,
        _ => ErrorKind::Refused,
    }
}

/// Returns whether something is there under the name and was declared with other arguments.
pub(super) fn is_another(error: &Error) -> bool {
    matches!(error.kind(), Lapin::ProtocolError(reply) if reply.get_id() == 406)
}

/// Returns the error of a broker that did not answer.
pub(super) fn silent(place: &str, what: &str) -> EdgeError {
    EdgeError::new(
        ErrorKind::Timeout,
        format!("{place} did not answer {what} in time"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        for (code, passes) in [
            (320, true),
            (541, true),
            (405, true),
            (506, true),
            (312, false),
            (403, false),
            (404, false),
            (406, false),
            (530, false),
            (311, false),
        ] {
            assert_eq!(refusal(code).disposition().passes(), passes, "{code}");
        }
    }
}
