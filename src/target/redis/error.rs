//! What Redis's refusals and the network's failures mean to the engine.

use std::{io, time::Duration};

use ::redis::RedisError;

use crate::{
    error::{EdgeError, ErrorKind, Subject},
    tls,
};

/// What Redis says of a number beyond its `databases`.
const NO_DATABASE: &str = "DB index is out of range";

/// Returns the error for a reply `-<code> <detail>` to `doing` (`the write`).
pub(super) fn refused(place: &str, doing: &str, code: &str, detail: &str) -> EdgeError {
    let (kind, reason) = meaning(code, detail);
    let error = EdgeError::new(kind, format!("{place} refused {doing}: {reason}"));
    if code == "ERR" && detail.contains(NO_DATABASE) {
        return error.about(Subject::Database);
    }
    error
}

/// Splits a reply `OOM command not allowed` into its code and the rest.
pub(super) fn split(reply: &str) -> (&str, &str) {
    reply.split_once(' ').unwrap_or((reply, ""))
}

/// Returns the error for a failed call through the driver.
pub(super) fn driver(place: &str, doing: &str, limit: Duration, error: &RedisError) -> EdgeError {
    if error.is_timeout() {
        return timed_out(place, limit);
    }
    if let Some(code) = error.code() {
        return refused(place, doing, code, error.detail().unwrap_or_default());
    }
    if error.is_io_error() || error.is_connection_dropped() {
        // A server that wants a client certificate says so after the handshake.
        if let Some((kind, why)) = tls::explain(error) {
            return EdgeError::new(kind, format!("no TLS connection to {place}: {why}"));
        }
        return EdgeError::new(ErrorKind::Connection, format!("connection lost to {place}"))
            .because(error.clone());
    }
    let asked = match doing.strip_prefix("to ") {
        Some(verb) => format!("to {verb}"),
        None => format!("for {doing}"),
    };
    EdgeError::new(
        ErrorKind::Refused,
        format!(
            "{place}, asked {asked}, gave an answer that is not understood ({})",
            error.category()
        ),
    )
}

/// Returns the error for no answer within `limit`.
pub(super) fn timed_out(place: &str, limit: Duration) -> EdgeError {
    EdgeError::new(
        ErrorKind::Timeout,
        format!("no answer from {place} within {limit:?}"),
    )
}

/// Returns the error for a failed socket call.
pub(super) fn socket(place: &str, error: io::Error) -> EdgeError {
    use io::ErrorKind as Io;
    if let Some((kind, why)) = tls::explain(&error) {
        return EdgeError::new(kind, format!("no TLS connection to {place}: {why}"));
    }
    let what = match error.kind() {
        Io::InvalidData => {
            // A wrong port does so for ever, a proxy whose server is away for a while.
            return EdgeError::new(
                ErrorKind::Failed,
                format!("{place} does not answer as redis does"),
            );
        }
        Io::ConnectionRefused => "connection refused by",
        Io::ConnectionReset | Io::ConnectionAborted => "connection reset by",
        Io::UnexpectedEof | Io::BrokenPipe => "connection closed by",
        _ => "connection failed to",
    };
    EdgeError::new(ErrorKind::Connection, format!("{what} {place}")).because(error)
}

/// Returns the kind of a refusal and its reason in our words. The server's own text is used only where it cannot
/// hold a key or a value.
fn meaning(code: &str, detail: &str) -> (ErrorKind, String) {
    // `EXECABORT Transaction discarded because of: NOPERM this user ...`
    if let Some((_, cause)) = detail.split_once("because of: ")
        && code == "EXECABORT"
    {
        let (code, detail) = split(cause);
        return meaning(code, detail);
    }
    let (kind, reason) = match code {
        "OOM" => (ErrorKind::TargetMemory, "used memory is above maxmemory"),
        "LOADING" => (ErrorKind::Busy, "it is still loading its data"),
        "BUSY" => (ErrorKind::Busy, "it is busy running a script"),
        "TRYAGAIN" | "MOVED" | "ASK" => (ErrorKind::Busy, "slots of the cluster are being moved"),
        "MASTERDOWN" => (ErrorKind::Busy, "its master is down"),
        "CLUSTERDOWN" => (ErrorKind::Busy, "the cluster is down"),
        "READONLY" => (ErrorKind::Busy, "it is a read-only replica at the moment"),
        "NOREPLICAS" => (ErrorKind::Busy, "it has too few good replicas"),
        "MISCONF" => (
            ErrorKind::Busy,
            "it cannot save its data to disk and takes no writes until it can",
        ),
        "NOAUTH" => (ErrorKind::Credentials, "a password is required"),
        "WRONGPASS" => (ErrorKind::Credentials, "wrong user or password"),
        "NOPERM" => {
            let reason = match quoted_command(detail) {
                Some(command) => format!("the user has no right to `{command}`"),
                None => "the user has no right to one of the keys, or to this command".to_owned(),
            };
            return (ErrorKind::Credentials, reason);
        }
        "ERR" if detail.contains("user executing the script can't access") => (
            ErrorKind::Credentials,
            "the user has no right to the keys `rekindle:*`",
        ),
        "ERR" if detail.contains("user executing the script can't run") => (
            ErrorKind::Credentials,
            "the user lacks the right to one of `get`, `set`, `pexpire` and `del`",
        ),
        "DENIED" => (
            ErrorKind::Credentials,
            "it is in protected mode and takes no connections from other hosts",
        ),
        "CROSSSLOT" => (
            ErrorKind::Refused,
            "it hides a cluster; name one of the cluster's own nodes in the URL",
        ),
        "WRONGTYPE" => (
            ErrorKind::Refused,
            "a key of rekindle's own holds another type of value",
        ),
        "ERR" if detail.contains("max number of clients") => {
            (ErrorKind::Busy, "it has too many clients")
        }
        "ERR" if detail.contains(NO_DATABASE) => {
            (ErrorKind::Missing, "it has no database with this number")
        }
        _ => {
            return (
                ErrorKind::Refused,
                format!("{code} {}", harmless(detail)).trim_end().to_owned(),
            );
        }
    };
    (kind, reason.to_owned())
}

/// Returns whether a refusal is about one of the keys of a command, and not about the command.
pub(super) fn is_about_a_key(reply: &str) -> bool {
    let (code, detail) = split(reply);
    code == "NOPERM" && quoted_command(detail).is_none()
}

/// Returns `client|list` out of `no permissions to run the 'client|list' command`, and nothing that could be a key.
fn quoted_command(detail: &str) -> Option<String> {
    let (_, rest) = detail.split_once("run the '")?;
    let (command, rest) = rest.split_once('\'')?;
    let is_command = command.len() <= 32
        && rest.starts_with(" command")
        && command
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '|' | '-' | '.'));
    is_command.then(|| command.replace('|', " "))
}

/// Returns the start of `detail` up to the first quote or colon: what follows may repeat an argument of the
/// command (`unknown command 'MSET', with args beginning with: 'kv:...'`).
fn harmless(detail: &str) -> &str {
    let end = detail
        .find(|c: char| matches!(c, '\'' | '"' | '`' | ':' | ',') || c.is_control())
        .unwrap_or(detail.len());
    detail[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_kind() {
        use ErrorKind::{Busy, Credentials, Missing, Refused, TargetMemory};
        for (reply, kind) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                TargetMemory,
            ),
            ("LOADING Redis is loading the dataset in memory", Busy),
            ("BUSY Redis is busy running a script.", Busy),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                Busy,
            ),
            ("MASTERDOWN Link with MASTER is down", Busy),
            ("CLUSTERDOWN Hash slot not served", Busy),
            (
                "READONLY You can't write against a read only replica.",
                Busy,
            ),
            ("MISCONF Redis is configured to save RDB snapshots", Busy),
            ("ERR max number of clients reached", Busy),
            ("NOAUTH Authentication required.", Credentials),
            ("WRONGPASS invalid username-password pair", Credentials),
            (
                "NOPERM this user has no permissions to run the 'mset' command",
                Credentials,
            ),
            ("ERR DB index is out of range", Missing),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                Refused,
            ),
            ("MOVED 3999 127.0.0.1:6381", Busy),
            (
                "EXECABORT Transaction discarded because of: NOPERM this user has no permissions to run the 'exec' command",
                Credentials,
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: 620cd258, on @user_script:1.",
                Credentials,
            ),
            (
                "ERR The user executing the script can't access at least one of the keys mentioned in the command",
                Credentials,
            ),
            ("ERR something new", Refused),
        ] {
            let (code, detail) = split(reply);
            let error = refused("redis at h:1/0", "the write", code, detail);
            assert_eq!(error.kind, kind, "{reply}");
            assert!(!error.message.contains('\n'));
        }
    }

    #[test]
    fn the_refused_write_reads_well() {
        let error = refused(
            "redis at cache.test:6379/0",
            "the write",
            "OOM",
            "command not allowed",
        );
        assert_eq!(
            error.message,
            "redis at cache.test:6379/0 refused the write: used memory is above maxmemory"
        );
    }

    #[test]
    fn a_missing_right_is_named() {
        for (detail, reason) in [
            (
                "this user has no permissions to run the 'client|list' command",
                "the user has no right to `client list`",
            ),
            (
                "this user has no permissions to run the 'mset' command or its subcommand",
                "the user has no right to `mset`",
            ),
            (
                "this user has no permissions to access one of the keys used as arguments",
                "the user has no right to one of the keys, or to this command",
            ),
        ] {
            assert_eq!(meaning("NOPERM", detail).1, reason);
        }
        let aborted = "Transaction discarded because of: NOPERM this user has no permissions to run the 'exec' command";
        assert_eq!(
            meaning("EXECABORT", aborted).1,
            "the user has no right to `exec`"
        );
    }

    #[test]
    fn arguments_that_the_server_repeats_stay_out() {
        let error = refused(
            "redis at h:1/0",
            "the write",
            "ERR",
            "unknown command `MSET`, with args beginning with: `kv:secret`, `canary`, ",
        );
        assert_eq!(
            error.message,
            "redis at h:1/0 refused the write: ERR unknown command"
        );
    }
}
