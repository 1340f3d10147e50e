//! Connection URLs. Errors never repeat the URL: it may hold a password, and a broken one cannot be cut safely.

use url::Url;

use super::diagnostic::Code;

/// What a source URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceUrl {
    /// `mysql://` or `mariadb://`, used as it is.
    Mysql,
    /// The path after `sqlite:`, relative to the plan file's folder.
    Sqlite(String),
}

/// Why a URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UrlFault {
    /// `InvalidUrl`, or `NotSupported` for a scheme of the grammar that this release does not carry out.
    pub code: Code,
    /// What is wrong, to be put after the key's name: `is empty`.
    pub message: String,
    /// What to type.
    pub help: &'static str,
}

const SOURCE_HELP: &str =
    "write `mysql://user:password@host:3306/database`, `mariadb://...` or `sqlite:path/to/file`";
const REDIS_HELP: &str = "write `redis://host:6379/0` or `redis://user:password@host:6379/0`";
const ESCAPE_HELP: &str = "in a password, write `@` as `%40`, `/` as `%2F`, `:` as `%3A`, `#` as `%23`, `?` as `%3F`, `%` as `%25`";

/// Returns what the URL of a source names.
pub(super) fn source(url: &str) -> Result<SourceUrl, UrlFault> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path {
            "" => Err(invalid("names no file", SOURCE_HELP)),
            ":memory:" => Err(invalid(
                "names a database in memory, which is always empty",
                SOURCE_HELP,
            )),
            _ => Ok(SourceUrl::Sqlite(path.to_owned())),
        };
    }
    match scheme(url) {
        Some("mysql" | "mariadb") => {
            let parsed = server(url, SOURCE_HELP)?;
            if parsed.path().trim_matches('/').is_empty() {
                return Err(invalid("names no database", SOURCE_HELP));
            }
            Ok(SourceUrl::Mysql)
        }
        Some(scheme @ ("postgres" | "postgresql")) => Err(later(scheme, SOURCE_HELP)),
        other => Err(foreign(other, url, SOURCE_HELP)),
    }
}

const PUBLISHER_HELP: &str =
    "write `mysql://user:password@host:3306/database`, `postgres://...` or `sqlite:path/to/file`";

/// Which database a publisher's statement runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublisherUrl {
    /// A server, by the URL as it is.
    Server,
    /// The path after `sqlite:`, relative to the plan file's folder.
    Sqlite(String),
}

/// Returns what the URL of a publisher's statement names.
pub(super) fn publisher(url: &str) -> Result<PublisherUrl, UrlFault> {
    if matches!(scheme(url), Some("postgres" | "postgresql")) {
        let parsed = server(url, PUBLISHER_HELP)?;
        if parsed.path().trim_matches('/').is_empty() {
            return Err(invalid("names no database", PUBLISHER_HELP));
        }
        return Ok(PublisherUrl::Server);
    }
    let found = source(url).map_err(|fault| UrlFault {
        help: PUBLISHER_HELP,
        ..fault
    })?;
    Ok(match found {
        SourceUrl::Sqlite(path) => PublisherUrl::Sqlite(path),
        SourceUrl::Mysql => PublisherUrl::Server,
    })
}

/// Checks the URL of a Redis target.
pub(super) fn redis(url: &str) -> Result<(), UrlFault> {
    match scheme(url) {
        Some("redis") => {
            let parsed = server(url, REDIS_HELP)?;
            let database = parsed.path().trim_matches('/');
            if !database.is_empty() && database.parse::<u16>().is_err() {
                return Err(invalid("has a database that is not a number", REDIS_HELP));
            }
            Ok(())
        }
        Some(scheme @ ("rediss" | "unix" | "redis+unix")) => Err(later(scheme, REDIS_HELP)),
        other => Err(foreign(other, url, REDIS_HELP)),
    }
}

/// Returns the scheme, if there is one that could be meant as such.
fn scheme(url: &str) -> Option<&str> {
    url.split_once("://")
        .map(|(scheme, _)| scheme)
        .filter(|scheme| {
            !scheme.is_empty()
                && scheme.len() <= 20
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        })
}

fn server(url: &str, help: &'static str) -> Result<Url, UrlFault> {
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid("has white space in it", help));
    }
    let parsed =
        Url::parse(url).map_err(|error| invalid(&format!("is not a URL: {error}"), ESCAPE_HELP))?;
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(invalid("names no host", help));
    }
    if parsed.fragment().is_some() {
        return Err(invalid("has a `#` in it", ESCAPE_HELP));
    }
    Ok(parsed)
}

fn foreign(scheme: Option<&str>, url: &str, help: &'static str) -> UrlFault {
    match scheme {
        _ if url.is_empty() => invalid("is empty", help),
        Some(_) => invalid("begins with a scheme that is not known here", help),
        None => invalid("is not a URL", help),
    }
}

fn later(scheme: &str, help: &'static str) -> UrlFault {
    UrlFault {
        code: Code::NotSupported,
        message: format!("begins with `{scheme}://`, which is not supported by this release"),
        help,
    }
}

fn invalid(message: &str, help: &'static str) -> UrlFault {
    UrlFault {
        code: Code::InvalidUrl,
        message: message.to_owned(),
        help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_urls_name_a_server_with_a_database_or_a_file() {
        assert_eq!(
            source("mysql://u:p@db.test:3306/shop"),
            Ok(SourceUrl::Mysql)
        );
        assert_eq!(
            source("mariadb://u@db.test/shop?charset=utf8mb4"),
            Ok(SourceUrl::Mysql)
        );
        assert_eq!(
            source("sqlite:a/b.db"),
            Ok(SourceUrl::Sqlite("a/b.db".into()))
        );
        assert_eq!(
            source("sqlite://a/b.db"),
            Ok(SourceUrl::Sqlite("a/b.db".into()))
        );
        assert_eq!(
            source("sqlite:///a/b.db"),
            Ok(SourceUrl::Sqlite("/a/b.db".into()))
        );
        for wrong in [
            "",
            "shop.db",
            "sqlite:",
            "sqlite::memory:",
            "mysql://db.test",
            "mysql://db.test/",
            "mysql:///shop",
            "mysql://u:p/w@db.test/shop",
            "mysql://u:p#w@db.test/shop",
            "mysql://u:p w@db.test/shop",
            "oracle://db.test/shop",
        ] {
            assert_eq!(source(wrong).unwrap_err().code, Code::InvalidUrl, "{wrong}");
        }
        assert_eq!(
            source("postgres://db.test/shop").unwrap_err().code,
            Code::NotSupported
        );
    }

    #[test]
    fn redis_urls_name_a_server_and_maybe_a_database() {
        for right in [
            "redis://cache.test",
            "redis://:pw@cache.test:6380/15",
            "redis://[::1]:6379/",
        ] {
            assert_eq!(redis(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "cache.test:6379",
            "redis://",
            "redis://h/x",
            "redis://h/99999",
            "http://h/",
        ] {
            assert_eq!(redis(wrong).unwrap_err().code, Code::InvalidUrl, "{wrong}");
        }
        assert_eq!(
            redis("rediss://cache.test").unwrap_err().code,
            Code::NotSupported
        );
    }

    #[test]
    fn a_fault_never_repeats_the_url() {
        for url in [
            "mysql://u:gehe/im@h/d",
            "geheim://u:p@h",
            "geheim",
            "redis://:geheim@h:x/1",
        ] {
            for fault in [source(url).unwrap_err(), redis(url).unwrap_err()] {
                assert!(!fault.message.contains("gehe"), "{}", fault.message);
            }
        }
    }
}
