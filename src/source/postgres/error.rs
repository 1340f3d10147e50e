//! What sqlx reports -> the kinds of errors that the engine tells apart.

use sqlx::postgres::PgDatabaseError;

use crate::{
    error::{EdgeError, ErrorKind},
    source::network::{self, one_line},
    tls,
};

/// Returns `error` as an edge error: `postgres at db.test:5432/shop refused <doing>: <server's text>`, one line.
///
/// Only the server's first text is kept: it names users, hosts, tables and columns, while detail and context may quote
/// rows. Where it may quote a value itself it is left out.
pub(super) fn edge(place: &str, doing: &str, error: &sqlx::Error) -> EdgeError {
    named(place, doing, error, quotes_values)
}

/// As [`edge`], for a statement that evaluates the plan's own condition: what that raises may quote a row under any state.
pub(super) fn edge_of_condition(place: &str, doing: &str, error: &sqlx::Error) -> EdgeError {
    named(place, doing, error, |state| !is_about_the_session(state))
}

fn named(place: &str, doing: &str, error: &sqlx::Error, hides: fn(&str) -> bool) -> EdgeError {
    if let Some((kind, why)) = tls::explain(error) {
        return EdgeError::new(kind, format!("no TLS connection to {place}: {why}"));
    }
    let (kind, message) = match error {
        sqlx::Error::Database(database) => {
            let (state, routine) = database
                .try_downcast_ref::<PgDatabaseError>()
                .map_or(("", None), |error| (error.code(), error.routine()));
            server(
                place,
                doing,
                state,
                routine.unwrap_or_default(),
                database.message(),
                hides,
            )
        }
        sqlx::Error::Io(io) => network::fault(place, doing, io),
        sqlx::Error::Tls(cause) if cause.to_string().contains("does not support TLS") => (
            ErrorKind::Refused,
            format!("no TLS connection to {place}: {}", tls::NO_TLS),
        ),
        sqlx::Error::Tls(cause) => (
            ErrorKind::Refused,
            format!(
                "no TLS connection to {place}: {}",
                one_line(&cause.to_string())
            ),
        ),
        sqlx::Error::Protocol(text) if text.contains("authentication method") => (
            ErrorKind::Refused,
            format!(
                "{place} wants a way to log in that rekindle lacks: {}",
                one_line(text)
            ),
        ),
        sqlx::Error::Protocol(text) => (
            ErrorKind::Connection,
            format!("{place} broke off {doing}: {}", one_line(text)),
        ),
        other => (
            ErrorKind::Internal,
            format!("{place}: {doing} failed: {}", one_line(&other.to_string())),
        ),
    };
    EdgeError::new(kind, message)
}

fn server(
    place: &str,
    doing: &str,
    state: &str,
    routine: &str,
    text: &str,
    hides: fn(&str) -> bool,
) -> (ErrorKind, String) {
    // `$5` in the plan's condition: the server cannot know its type, or misses its value.
    if state == "42P18" || (state == "08P01" && routine == "exec_bind_message") {
        return (
            ErrorKind::Refused,
            format!(
                "{place} cannot be asked for {doing}: `where` may not contain a placeholder like `$1`"
            ),
        );
    }
    if matches!(state, "26000" | "42P05") {
        return (
            ErrorKind::Refused,
            format!(
                "{place} lost or mixed up a prepared statement during {doing}: a pooler between must pool by session \
                 (error {state})"
            ),
        );
    }
    let text = if quotes_values(state) {
        "a value does not fit its use (the server's text quotes it and is left out)".to_owned()
    } else if hides(state) {
        // `where: name::regclass IS NOT NULL` quotes the row as a relation that does not exist.
        "the condition of the plan failed at a row (the server's text may quote it and is left out)"
            .to_owned()
    } else {
        one_line(text)
    };
    // A column was altered under a prepared statement: the next session prepares it anew.
    let kind = if state == "0A000" && routine == "RevalidateCachedQuery" {
        ErrorKind::Busy
    } else {
        server_kind(state)
    };
    (
        kind,
        format!("{place} refused {doing}: {text} (error {state})"),
    )
}

/// SQLSTATEs of PostgreSQL 12-18, by what the engine should do.
fn server_kind(state: &str) -> ErrorKind {
    match state {
        // Passwords, roles, `pg_hba.conf` (also where it asks for TLS); rights, row security that would hide rows.
        "42501" => ErrorKind::Credentials,
        _ if state.starts_with("28") => ErrorKind::Credentials,
        // Database, schema, table, column, function, other object; the database was dropped.
        "3D000" | "3F000" | "42P01" | "42703" | "42883" | "42704" | "57P04" => ErrorKind::Missing,
        // Starting up or recovering; lock wait; deadlock, and a replica's conflict with what it replays.
        "57P03" | "55P03" | "40001" | "40P01" => ErrorKind::Busy,
        // Too many connections, memory, disk for temporary files.
        _ if state.starts_with("53") => ErrorKind::Busy,
        // Cancelled: nearly always the statement's own time-out.
        "57014" | "25P04" => ErrorKind::Timeout,
        // Shutdown, crash of another session, idle time-outs.
        "57P01" | "57P02" | "57P05" | "25P03" => ErrorKind::Connection,
        _ if state.starts_with("08") => ErrorKind::Connection,
        _ => ErrorKind::Refused,
    }
}

/// Data errors (22), violated constraints (23) and what functions of the database raise (P0).
fn quotes_values(state: &str) -> bool {
    ["22", "23", "P0"]
        .iter()
        .any(|class| state.starts_with(class))
}

/// Connection, transaction, login, resources, an operator's intervention, the server's own trouble: never about a row.
fn is_about_the_session(state: &str) -> bool {
    ["08", "25", "26", "28", "40", "53", "57", "58"]
        .iter()
        .any(|class| state.starts_with(class))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn server_states_have_kinds() {
        for (state, kind) in [
            ("28P01", ErrorKind::Credentials),
            ("28000", ErrorKind::Credentials),
            ("42501", ErrorKind::Credentials),
            ("3D000", ErrorKind::Missing),
            ("42P01", ErrorKind::Missing),
            ("42703", ErrorKind::Missing),
            ("53300", ErrorKind::Busy),
            ("53200", ErrorKind::Busy),
            ("57P03", ErrorKind::Busy),
            ("40001", ErrorKind::Busy),
            ("40P01", ErrorKind::Busy),
            ("55P03", ErrorKind::Busy),
            ("57014", ErrorKind::Timeout),
            ("57P01", ErrorKind::Connection),
            ("57P02", ErrorKind::Connection),
            ("08006", ErrorKind::Connection),
            ("25006", ErrorKind::Refused),
            ("42601", ErrorKind::Refused),
            ("XX001", ErrorKind::Refused),
            ("", ErrorKind::Refused),
        ] {
            assert_eq!(server_kind(state), kind, "{state}");
        }
    }

    fn plain(state: &str, routine: &str, text: &str) -> (ErrorKind, String) {
        server("here", "the rows", state, routine, text, quotes_values)
    }

    #[test]
    fn what_a_condition_raises_is_left_out_and_what_the_server_says_of_itself_is_not() {
        for (state, kind) in [
            ("42P01", ErrorKind::Missing),
            ("42704", ErrorKind::Missing),
            ("42883", ErrorKind::Missing),
            ("42602", ErrorKind::Refused),
            ("3F000", ErrorKind::Missing),
            ("0A000", ErrorKind::Refused),
            ("22P02", ErrorKind::Refused),
        ] {
            let hides = |state: &str| !is_about_the_session(state);
            let told = server("here", "the rows", state, "", "\"geheim\" is none", hides);
            assert_eq!(told.0, kind, "{state}");
            assert!(
                !told.1.contains("geheim") && told.1.ends_with(&format!("(error {state})")),
                "{}",
                told.1
            );
        }
        let hides = |state: &str| !is_about_the_session(state);
        let told = server(
            "here",
            "the rows",
            "57P01",
            "",
            "terminating connection",
            hides,
        );
        assert!(told.1.contains("terminating connection"), "{}", told.1);
    }

    #[test]
    fn texts_that_quote_values_are_left_out() {
        for state in ["22P02", "23514", "P0001"] {
            let (kind, message) = plain(state, "", "no such: geheim");
            assert_eq!(kind, ErrorKind::Refused);
            assert!(
                !message.contains("geheim") && message.ends_with(&format!("(error {state})")),
                "{message}"
            );
        }
        assert_eq!(
            plain("42601", "", "syntax\nerror"),
            (
                ErrorKind::Refused,
                "here refused the rows: syntax error (error 42601)".to_owned()
            )
        );
    }

    #[test]
    fn what_a_person_can_mend_is_named() {
        let (kind, message) = plain("42P18", "", "could not determine");
        assert_eq!(kind, ErrorKind::Refused);
        assert!(message.contains("placeholder"), "{message}");
        let (kind, message) = plain("08P01", "exec_bind_message", "4 of 5");
        assert_eq!(kind, ErrorKind::Refused);
        assert!(message.contains("placeholder"), "{message}");
        let (kind, message) = plain("26000", "", "does not exist");
        assert_eq!(kind, ErrorKind::Refused);
        assert!(message.contains("pool by session"), "{message}");
        let altered = plain("0A000", "RevalidateCachedQuery", "x");
        assert_eq!(altered.0, ErrorKind::Busy);
        assert_eq!(plain("0A000", "other", "x").0, ErrorKind::Refused);
    }

    #[test]
    fn driver_errors_are_one_line_with_the_place() {
        let text = |error: sqlx::Error| {
            let edge = edge("postgres at h:1/d", "the page", &error);
            (edge.kind, edge.message)
        };
        assert_eq!(
            text(sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into())),
            (
                ErrorKind::Connection,
                "postgres at h:1/d is not reachable for the page: connection refused".to_owned()
            )
        );
        assert_eq!(
            text(sqlx::Error::Protocol(
                "unsupported authentication method: KerberosV5".into()
            ))
            .0,
            ErrorKind::Refused
        );
        assert_eq!(
            text(sqlx::Error::Protocol("unexpected\nmessage".into())),
            (
                ErrorKind::Connection,
                "postgres at h:1/d broke off the page: unexpected message".to_owned()
            )
        );
        assert_eq!(
            text(sqlx::Error::Tls("no TLS there".into())).0,
            ErrorKind::Refused
        );
    }
}
