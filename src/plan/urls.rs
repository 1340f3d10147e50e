//! Connection URLs. Errors never repeat the URL: it may hold a password, and a broken one cannot be cut safely.

use url::Url;

use super::diagnostic::Code;

/// What a source URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceUrl {
    /// `mysql://` or `mariadb://`, used as it is.
    Mysql,
    /// `postgres://` or `postgresql://`, used as it is.
    Postgres,
    /// The path after `sqlite:`, relative to the plan file's folder.
    Sqlite(String),
}

/// How the URL of a Redis target reaches its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RedisUrl {
    /// `redis://`
    Plain,
    /// `rediss://`
    Tls,
    /// `unix://`
    Socket,
}

/// Why a URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UrlFault {
    /// `InvalidUrl`.
    pub code: Code,
    /// What is wrong, to be put after the key's name: `is empty`.
    pub message: String,
    /// What to type.
    pub help: &'static str,
}

const SOURCE_HELP: &str = "write `mysql://user:password@host:3306/database`, `mariadb://...`, `postgres://...` or `sqlite:path/to/file`";
const REDIS_HELP: &str = "write `redis://user:password@host:6379/0`, `rediss://...` for TLS, or `unix:///path/to/socket?db=0`";
const SEARCH_HELP: &str =
    "write `http://host:9200`, `http://user:password@host:9200`, or a list of nodes";
const VARIABLE_HELP: &str = "a variable stands in braces: `${DATABASE_URL}`";
const PORT_HELP: &str = "a port is a number; in a password, write `@` as `%40`, `/` as `%2F`, `:` as `%3A`, `#` as `%23`, `?` as `%3F`, `%` as `%25`";
const WEB_HELP: &str = "write `https://shop.test/` or `http://...`";
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
        Some(scheme @ ("mysql" | "mariadb" | "postgres" | "postgresql")) => {
            let parsed = server(url, SOURCE_HELP)?;
            if parsed.path().trim_matches('/').is_empty() {
                return Err(invalid("names no database", SOURCE_HELP));
            }
            Ok(if scheme.starts_with("postgres") {
                SourceUrl::Postgres
            } else {
                SourceUrl::Mysql
            })
        }
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
    let found = source(url).map_err(|fault| UrlFault {
        help: PUBLISHER_HELP,
        ..fault
    })?;
    Ok(match found {
        SourceUrl::Sqlite(path) => PublisherUrl::Sqlite(path),
        _ => PublisherUrl::Server,
    })
}

/// Returns how the URL of a Redis target reaches its server.
pub(super) fn redis(url: &str) -> Result<RedisUrl, UrlFault> {
    let kind = match scheme(url) {
        Some("redis" | "valkey") => RedisUrl::Plain,
        Some("rediss" | "valkeys") => RedisUrl::Tls,
        Some("unix" | "redis+unix" | "valkey+unix") => {
            socket(url)?;
            return Ok(RedisUrl::Socket);
        }
        other => return Err(foreign(other, url, REDIS_HELP)),
    };
    let parsed = server(url, REDIS_HELP)?;
    if !is_database(parsed.path().trim_matches('/')) {
        return Err(invalid("has a database that is not a number", REDIS_HELP));
    }
    Ok(kind)
}

fn socket(url: &str) -> Result<(), UrlFault> {
    let parsed = parsed(url)?;
    if parsed.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(invalid(
            "names a host beside its socket; a path of three slashes is meant",
            REDIS_HELP,
        ));
    }
    if parsed.path().trim_matches('/').is_empty() {
        return Err(invalid("names no socket", REDIS_HELP));
    }
    for (name, value) in parsed.query_pairs() {
        match name.as_ref() {
            "db" if !is_database(&value) => {
                return Err(invalid("has a database that is not a number", REDIS_HELP));
            }
            "db" | "user" | "pass" => {}
            _ => {
                return Err(invalid(
                    "asks for more than `db`, `user` and `pass`",
                    REDIS_HELP,
                ));
            }
        }
    }
    Ok(())
}

fn is_database(text: &str) -> bool {
    text.is_empty() || text.parse::<u16>().is_ok()
}

/// Returns whether the URL of a source says something about TLS by itself: `?ssl-mode=...`, `?sslrootcert=...`.
pub(super) fn says_tls(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.query_pairs().any(|(name, _)| name.starts_with("ssl")))
}

/// Checks the URL of one node of a search target.
pub(super) fn search(url: &str) -> Result<(), UrlFault> {
    match scheme(url) {
        Some("http" | "https") => {
            let parsed = server(url, SEARCH_HELP)?;
            if parsed.query().is_some() {
                return Err(invalid("has a `?` in it", ESCAPE_HELP));
            }
            Ok(())
        }
        other => Err(foreign(other, url, SEARCH_HELP)),
    }
}

const BROKER_HELP: &str = "write `amqp://user:password@host:5672/vhost`, `amqps://...` for TLS; the vhost `/` is written `%2F`";

/// Checks the URL of a broker.
pub(super) fn broker(url: &str) -> Result<(), UrlFault> {
    match scheme(url) {
        Some("amqp" | "amqps") => {
            let parsed = server(url, BROKER_HELP)?;
            if parsed.path().trim_start_matches('/').contains('/') {
                return Err(invalid("has a `/` in its vhost", BROKER_HELP));
            }
            Ok(())
        }
        other => Err(foreign(other, url, BROKER_HELP)),
    }
}

const MANAGEMENT_HELP: &str = "write `http://user:password@host:15672`, `https://...` for TLS";

/// Checks the URL of a broker's management plugin.
pub(super) fn management(url: &str) -> Result<(), UrlFault> {
    match scheme(url) {
        Some("http" | "https") => {
            let parsed = server(url, MANAGEMENT_HELP)?;
            if parsed.query().is_some() {
                return Err(invalid("has a `?` in it", ESCAPE_HELP));
            }
            // It tells nobody anything who does not log in.
            if parsed.username().is_empty() {
                return Err(invalid("names no user", MANAGEMENT_HELP));
            }
            Ok(())
        }
        other => Err(foreign(other, url, MANAGEMENT_HELP)),
    }
}

/// Returns the URL of a broker with another vhost.
pub(super) fn at_vhost(url: &str, vhost: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    let vhost = percent_encoding::utf8_percent_encode(vhost, percent_encoding::NON_ALPHANUMERIC);
    url.set_path(&format!("/{vhost}"));
    Some(url.into())
}

/// Checks the URL of a web page.
pub(super) fn web(url: &str) -> Result<(), UrlFault> {
    match scheme(url) {
        Some("http" | "https") => server(url, WEB_HELP).map(drop),
        other => Err(foreign(other, url, WEB_HELP)),
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
    let parsed = parsed(url)?;
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(invalid("names no host", help));
    }
    Ok(parsed)
}

fn parsed(url: &str) -> Result<Url, UrlFault> {
    let parsed = Url::parse(url).map_err(|error| {
        let help = match error {
            // A `/` in a password ends the host, and what is before it is taken for a port.
            url::ParseError::InvalidPort => PORT_HELP,
            _ => ESCAPE_HELP,
        };
        invalid(&format!("is not a URL: {error}"), help)
    })?;
    if parsed.fragment().is_some() {
        return Err(invalid("has a `#` in it", ESCAPE_HELP));
    }
    Ok(parsed)
}

fn foreign(scheme: Option<&str>, url: &str, help: &'static str) -> UrlFault {
    match scheme {
        _ if url.is_empty() => invalid("is empty", help),
        Some(_) => invalid("begins with a scheme that is not known here", help),
        None if url.starts_with('$') => invalid("is not a URL", VARIABLE_HELP),
        None => invalid("is not a URL", help),
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
        for url in [
            "postgres://db.test/shop",
            "postgresql://u:p@db.test:5433/shop?sslmode=verify-full",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/shop",
        ] {
            assert_eq!(source(url), Ok(SourceUrl::Postgres), "{url}");
        }
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
            "postgres://db.test",
            "postgres:///shop",
            "oracle://db.test/shop",
        ] {
            assert_eq!(source(wrong).unwrap_err().code, Code::InvalidUrl, "{wrong}");
        }
    }

    #[test]
    fn redis_urls_name_a_server_and_maybe_a_database() {
        for (right, kind) in [
            ("redis://cache.test", RedisUrl::Plain),
            ("redis://:pw@cache.test:6380/15", RedisUrl::Plain),
            ("redis://[::1]:6379/", RedisUrl::Plain),
            ("valkey://cache.test/3", RedisUrl::Plain),
            ("rediss://cache.test", RedisUrl::Tls),
            ("valkeys://u:p@cache.test:6380/1", RedisUrl::Tls),
            ("unix:///run/redis.sock", RedisUrl::Socket),
            (
                "redis+unix:///run/a%20b.sock?db=3&pass=p&user=u",
                RedisUrl::Socket,
            ),
        ] {
            assert_eq!(redis(right), Ok(kind), "{right}");
        }
        for wrong in [
            "",
            "cache.test:6379",
            "redis://",
            "redis://h/x",
            "redis://h/99999",
            "rediss://h#insecure",
            "unix://",
            "unix:///",
            "unix://run/redis.sock",
            "unix:///run/redis.sock?db=x",
            "unix:///run/redis.sock?database=1",
            "http://h/",
        ] {
            assert_eq!(redis(wrong).unwrap_err().code, Code::InvalidUrl, "{wrong}");
        }
    }

    #[test]
    fn search_urls_name_a_node() {
        for right in [
            "http://search.test:9200",
            "http://u:p@search.test/es/",
            "https://h",
        ] {
            assert_eq!(search(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "search.test:9200",
            "http://",
            "http://h/?a=b",
            "http://h/#x",
        ] {
            assert_eq!(search(wrong).unwrap_err().code, Code::InvalidUrl, "{wrong}");
        }
    }

    #[test]
    fn the_help_is_about_what_was_typed() {
        let help = |url: &str| source(url).unwrap_err().help;
        assert_eq!(help("$DATABASE_URL"), VARIABLE_HELP);
        assert!(help("mysql://u:p@db.test:3306a/shop").starts_with("a port is a number"));
        assert!(help("mysql://u:p/w@db.test/shop").contains("`/` as `%2F`"));
        assert_eq!(help("shop"), SOURCE_HELP);
    }

    #[test]
    fn a_fault_never_repeats_the_url() {
        for url in [
            "mysql://u:gehe/im@h/d",
            "postgres://u:gehe#im@h/d",
            "geheim://u:p@h",
            "geheim",
            "redis://:geheim@h:x/1",
        ] {
            for fault in [source(url).unwrap_err(), redis(url).unwrap_err()] {
                assert!(!fault.message.contains("gehe"), "{}", fault.message);
            }
        }
    }

    #[test]
    fn a_management_plugin_is_named_with_its_user() {
        for url in ["http://app:pw@mq.test:15672", "https://app@mq.test/rabbit/"] {
            assert_eq!(management(url), Ok(()), "{url}");
        }
        for wrong in [
            "",
            "mq.test:15672",
            "amqp://app:pw@mq.test/shop",
            "http://mq.test:15672",
            "http://app:pw@mq.test:15672/?vhost=shop",
        ] {
            let fault = management(wrong).unwrap_err();
            assert!(!fault.message.contains("pw"), "{fault:?}");
        }
    }
}
