//! What the network did to a connection, in the words of every server source.

use std::io;

use crate::error::ErrorKind;

/// Returns the kind and the text of an error below the protocol, while asking `place` for `doing`.
pub(super) fn fault(place: &str, doing: &str, error: &io::Error) -> (ErrorKind, String) {
    let text = one_line(&error.to_string());
    if text.contains("failed to lookup address") {
        // EAI_AGAIN, the resolver's "try later", passes; a name that does not exist does not.
        let kind = if text.contains("Temporary failure") {
            ErrorKind::Connection
        } else {
            ErrorKind::Missing
        };
        return (kind, format!("{place} is not to be found: {text}"));
    }
    match error.kind() {
        io::ErrorKind::TimedOut => (
            ErrorKind::Timeout,
            format!("{place} did not answer {doing}: {text}"),
        ),
        io::ErrorKind::UnexpectedEof => (
            ErrorKind::Connection,
            format!("{place} closed the connection during {doing}"),
        ),
        _ => (
            ErrorKind::Connection,
            format!("{place} is not reachable for {doing}: {text}"),
        ),
    }
}

/// Returns `text` without line breaks and repeated blanks.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
