//! What sqlx reports -> the kinds of errors that the engine tells apart.

use sqlx::mysql::MySqlDatabaseError;

use crate::{
    error::{EdgeError, ErrorKind},
    source::network::{self, one_line},
    tls,
};

/// Returns `error` as an edge error: `mariadb at db.test:3306/shop refused <doing>: <server's text>`, one line.
///
/// The texts of sqlx and of the server name users, hosts, tables and columns, never passwords. Those that quote
/// values are left out.
pub(super) fn edge(place: &str, doing: &str, error: &sqlx::Error) -> EdgeError {
    if let Some((kind, why)) = tls::explain(error) {
        return EdgeError::new(kind, format!("no TLS connection to {place}: {why}"));
    }
    let (kind, message) = match error {
        sqlx::Error::Database(database) => {
            let number = database
                .try_downcast_ref::<MySqlDatabaseError>()
                .map_or(0, MySqlDatabaseError::number);
            let text = if number == PACKET_TOO_LARGE {
                "a row is longer than its `max_allowed_packet`; raise that setting of the server"
                    .to_owned()
            } else if quotes_values(number) {
                "a value does not fit its use (the server's text quotes it and is left out)"
                    .to_owned()
            } else {
                one_line(database.message())
            };
            (
                server_kind(number),
                format!("{place} refused {doing}: {text} (error {number})"),
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
        sqlx::Error::Protocol(text) if text.starts_with("prepared statement expected") => (
            ErrorKind::Refused,
            format!(
                "{place} cannot be asked for {doing}: `where` may not contain a placeholder `?`"
            ),
        ),
        sqlx::Error::Protocol(text) if text.contains("authentication plugin") => (
            ErrorKind::Refused,
            format!(
                "{place} wants a way to log in that rekindle lacks: {}",
                one_line(text)
            ),
        ),
        // Built without RSA, sqlx can log in by `caching_sha2_password` or `sha256_password` over TLS only, unless
        // the server still has the password in its cache.
        other if other.to_string().contains("mysql-rsa") => (
            ErrorKind::Credentials,
            format!(
                "{place} wants the password by `caching_sha2_password`, which is sent over TLS only: add \
                 `tls: {{ ca: ... }}` to the source, or give the user another way to log in"
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

/// The server cannot send a row of this length, this time or another.
const PACKET_TOO_LARGE: u16 = 1153;

/// Numbers of MySQL 5.7-8.4 and MariaDB 10-11, by what the engine should do.
const fn server_kind(number: u16) -> ErrorKind {
    match number {
        // Access denied: for user, database, table, column; password needed or expired; plug-in; host not allowed.
        1044 | 1045 | 1130 | 1131 | 1142 | 1143 | 1227 | 1370 | 1698 | 1820 | 1862 | 1873
        | 3118 | 3159 | 4151 => ErrorKind::Credentials,
        // Database, table, column or function that is not there.
        1049 | 1051 | 1054 | 1109 | 1146 | 1305 => ErrorKind::Missing,
        // Too many connections (server, user, resources); memory; lock wait; deadlock; metadata changed under a
        // prepared statement; read-only during a fail-over.
        1040 | 1041 | 1037 | 1038 | 1129 | 1203 | 1205 | 1213 | 1226 | 1412 | 1615 | 1836 => {
            ErrorKind::Busy
        }
        // The statement's own time ran out: MySQL, MariaDB.
        3024 | 1969 => ErrorKind::Timeout,
        // Query or connection killed; shutdown; connection errors; idle time-out of MySQL and MariaDB.
        1053
        | 1077
        | 1079
        | 1080
        | 1152
        | 1154..=1161
        | 1184
        | 1317
        | 1927
        | 2006
        | 2013
        | 3169
        | 4031 => ErrorKind::Connection,
        _ => ErrorKind::Refused,
    }
}

/// Server texts that hold column values or literals of expressions.
const fn quotes_values(number: u16) -> bool {
    matches!(
        number,
        1139 | 1292 | 1300 | 1366 | 1367 | 1411 | 1525 | 1690 | 3140..=3158 | 4036..=4044
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn server_numbers_have_kinds() {
        for (number, kind) in [
            (1045, ErrorKind::Credentials),
            (1698, ErrorKind::Credentials),
            (1146, ErrorKind::Missing),
            (1049, ErrorKind::Missing),
            (1040, ErrorKind::Busy),
            (1213, ErrorKind::Busy),
            (1969, ErrorKind::Timeout),
            (3024, ErrorKind::Timeout),
            (1927, ErrorKind::Connection),
            (1053, ErrorKind::Connection),
            (1064, ErrorKind::Refused),
            (PACKET_TOO_LARGE, ErrorKind::Refused),
        ] {
            assert_eq!(server_kind(number), kind, "{number}");
        }
    }

    #[test]
    fn driver_errors_are_one_line_with_the_place() {
        let text = |error: sqlx::Error| {
            let edge = edge("mariadb at h:1/d", "the page", &error);
            (edge.kind, edge.message)
        };
        assert_eq!(
            text(sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into())),
            (
                ErrorKind::Connection,
                "mariadb at h:1/d is not reachable for the page: connection refused".to_owned()
            )
        );
        assert_eq!(
            text(sqlx::Error::Io(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "got 0\nbytes"
            ))),
            (
                ErrorKind::Connection,
                "mariadb at h:1/d closed the connection during the page".to_owned()
            )
        );
        assert_eq!(
            text(sqlx::Error::Io(io::Error::other(
                "failed to lookup address information: Name or service not known"
            )))
            .0,
            ErrorKind::Missing
        );
        assert_eq!(
            text(sqlx::Error::Protocol(
                "prepared statement expected 4 parameters but 3".into()
            ))
            .0,
            ErrorKind::Refused
        );
    }
}
