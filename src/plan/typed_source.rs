//! A source that was typed without a plan, and how a plan says the same without its password.

use std::path::Path;

use url::Url;

use super::{
    SourceConfig, SourceKind,
    interpolate::{self, Variables},
    resolve,
    urls::{self, SourceUrl},
};

/// Parameters of a URL that a plan may repeat. All others may hold a secret.
const PLAIN_PARAMETERS: [&str; 8] = [
    "charset",
    "collation",
    "ssl-ca",
    "ssl-mode",
    "sslmode",
    "sslrootcert",
    "application_name",
    "options",
];

/// A source to connect to.
#[derive(Debug)]
pub struct TypedSource {
    /// The source.
    pub config: SourceConfig,
    /// `source.url` of a plan for it, to be quoted: `${DATABASE_URL:-mysql://reader@db.test:3306/shop}`. No password.
    pub written: String,
    /// The name of the database, or of its file without the ending.
    pub database: String,
}

/// Why a source cannot be used. Never repeats what was typed.
#[derive(Debug)]
pub struct UnusableSource {
    /// What is wrong, line by line.
    pub why: Vec<String>,
    /// What to type.
    pub help: String,
}

/// Returns the source that `typed` stands for; a relative path is relative to the working folder.
///
/// # Errors
///
/// Variables that are not set, and URLs that no plan may have.
pub fn typed_source(
    typed: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<TypedSource, UnusableSource> {
    let folder = resolve::folder_of(Path::new("plan.yaml"));
    let variables = Variables {
        env,
        folder: &folder,
    };
    let url = interpolate::fill(typed, &variables).map_err(|faults| UnusableSource {
        help: faults
            .first()
            .map_or_else(String::new, |fault| fault.help.clone()),
        why: faults.into_iter().map(|fault| fault.message).collect(),
    })?;
    let unusable = |message: &str, help: &str| UnusableSource {
        why: vec![format!("the URL {message}")],
        help: help.to_owned(),
    };
    let (kind, path) = match urls::source(&url)
        .map_err(|fault| unusable(&fault.message, fault.help))?
    {
        SourceUrl::Mysql => (SourceKind::Mysql, None),
        SourceUrl::Postgres => (SourceKind::Postgres, None),
        SourceUrl::Sqlite(path) => (SourceKind::Sqlite, Some(resolve::absolute(&folder, &path))),
    };
    if let Some(path) = path {
        let text = path
            .to_str()
            .ok_or_else(|| unusable("names a path that is not UTF-8", "rename the file"))?;
        return Ok(TypedSource {
            config: SourceConfig {
                kind,
                url: format!("sqlite:{text}").into(),
                tls: None,
            },
            // Absolute, as nobody knows yet where the plan will lie.
            written: format!("sqlite:{text}").replace("${", "$${"),
            database: path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default(),
        });
    }
    let plain = without_secrets(&url);
    let written = match (variable(typed), &plain) {
        (Some(variable), _) => variable.to_owned(),
        (None, Some(plain)) => format!("${{DATABASE_URL:-{plain}}}"),
        (None, None) => "${DATABASE_URL}".to_owned(),
    };
    let database = Url::parse(&url)
        .map(|url| url.path().trim_matches('/').to_owned())
        .unwrap_or_default();
    Ok(TypedSource {
        config: SourceConfig {
            kind,
            url: url.into(),
            tls: None,
        },
        written,
        database,
    })
}

/// Returns `typed` where it is one variable and nothing else: then the plan says the same.
fn variable(typed: &str) -> Option<&str> {
    let name = typed.strip_prefix("${")?.strip_suffix('}')?;
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_')
        .then_some(typed)
}

/// Returns the URL without its password and all parameters that may be one; `None` where it cannot be a default.
fn without_secrets(url: &str) -> Option<String> {
    let mut plain = Url::parse(url).ok()?;
    plain.set_password(None).ok()?;
    let kept: Vec<(String, String)> = plain
        .query_pairs()
        .filter(|(name, _)| PLAIN_PARAMETERS.contains(&name.as_ref()))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    plain.set_query(None);
    if !kept.is_empty() {
        plain.query_pairs_mut().extend_pairs(kept);
    }
    let plain = plain.to_string();
    (!plain.contains(['}', '$'])).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> TypedSource {
        let env = |name: &str| {
            (name == "SHOP").then(|| "postgres://u:geheim@db.test/shop?password=geheim2".to_owned())
        };
        typed_source(text, &env).expect("usable")
    }

    #[test]
    fn a_plan_says_the_same_without_the_password() {
        for (text, written, database) in [
            ("${SHOP}", "${SHOP}", "shop"),
            (
                "mysql://u:geheim@db.test:3306/shop?ssl-mode=REQUIRED&secret=geheim",
                "${DATABASE_URL:-mysql://u@db.test:3306/shop?ssl-mode=REQUIRED}",
                "shop",
            ),
            (
                "postgres://u@db.test/a%7Db?password=geheim",
                "${DATABASE_URL:-postgres://u@db.test/a%7Db}",
                "a%7Db",
            ),
            (
                "mysql://u:geheim@h/a}b",
                "${DATABASE_URL:-mysql://u@h/a%7Db}",
                "a%7Db",
            ),
            ("sqlite:/tmp/a ${SHOP:-x}.db", "sqlite:/tmp/a ", ""),
        ] {
            let source = typed(text);
            if text.starts_with("sqlite:") {
                assert!(source.written.starts_with(written), "{}", source.written);
                continue;
            }
            assert_eq!(source.written, written);
            assert_eq!(source.database, database);
        }
        assert_eq!(typed("sqlite:/a/my.shop.db").database, "my.shop");
    }

    #[test]
    fn what_cannot_be_used_is_never_repeated() {
        for text in [
            "${NOWHERE}",
            "geheim",
            "mysql://u:geheim@h",
            "oracle://u:geheim@h/d",
        ] {
            let error = typed_source(text, &|_| None).expect_err("unusable");
            let said = format!("{:?}", error.why) + &error.help;
            assert!(!said.contains("geheim") && !error.why.is_empty(), "{said}");
        }
    }
}
