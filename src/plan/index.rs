//! Names of search indexes: `shop_{store}_{type}`, filled in from the plan.

/// What a template may name.
const PLACES: [&str; 2] = ["store", "type"];

/// The longest name of an index, in bytes.
const MAX_BYTES: usize = 255;

/// Returns the names in braces that `template` holds.
///
/// # Errors
///
/// What is wrong with it, to be put after the key's name.
pub(super) fn places(template: &str) -> Result<Vec<&str>, String> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find(['{', '}']) {
        let Some(end) = rest[start..].find('}').filter(|end| *end > 0) else {
            return Err("has a brace without its other half".to_owned());
        };
        let place = &rest[start + 1..start + end];
        if !PLACES.contains(&place) {
            return Err("has something else in braces than `store` or `type`".to_owned());
        }
        found.push(place);
        rest = &rest[start + end + 1..];
    }
    Ok(found)
}

/// Returns the name of an index, with `store` and `kind` (the resource's `type`) filled in. They are put into lower
/// case, which all names of indexes are.
pub(super) fn fill(template: &str, store: &str, kind: &str) -> String {
    template
        .replace("{store}", &store.to_lowercase())
        .replace("{type}", &kind.to_lowercase())
}

/// Returns whether `text` is what stores are called: `DE`, `EU_B2B`. A column that was named by mistake may hold anything, and
/// its values are shown nowhere.
#[must_use]
pub fn is_store_name(text: &str) -> bool {
    text.len() <= 24
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Says what is wrong with the name of an index, by the rules of Elasticsearch and OpenSearch.
pub(super) fn fault(name: &str) -> Option<&'static str> {
    let odd = |c: char| {
        matches!(
            c,
            '\\' | '/' | '*' | '?' | '"' | '<' | '>' | '|' | ',' | '#' | ':'
        ) || c.is_whitespace()
            || c.is_control()
    };
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_BYTES {
        Some("is longer than 255 bytes")
    } else if name.chars().any(char::is_uppercase) {
        Some("has a capital letter")
    } else if name.starts_with(['-', '_', '+', '.']) {
        Some("begins with one of `-`, `_`, `+`, `.`")
    } else if name.contains(odd) {
        Some("has a character that no index name may have")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_store_and_type_and_nothing_else() {
        assert_eq!(places("shop"), Ok(vec![]));
        assert_eq!(places("x_{store}_{type}"), Ok(vec!["store", "type"]));
        for wrong in ["{", "}", "a}b{", "x_{", "{stores}", "{}", "{store"] {
            assert!(places(wrong).is_err(), "{wrong}");
        }
        assert_eq!(fill("x_{store}_{type}", "DE", "page"), "x_de_page");
    }

    #[test]
    fn names_follow_the_servers_rules() {
        for right in ["shop", "spryker_b2c_de_page", "1", "größe"] {
            assert_eq!(fault(right), None, "{right}");
        }
        for wrong in [
            "",
            "Shop",
            "_shop",
            ".shop",
            "a b",
            "a,b",
            "a*",
            "a/b",
            &"x".repeat(256),
        ] {
            assert!(fault(wrong).is_some(), "{wrong}");
        }
    }
}
