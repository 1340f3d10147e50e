//! Hides passwords that stand in a plan file itself, so that the lines shown with a problem do not give them away.

/// Keys whose value is a secret wherever it stands.
const SECRET_KEYS: [&str; 5] = ["password:", "token:", "secret:", "pass:", "api_key:"];

/// Returns `text` with every password replaced by stars, byte for byte, so that spans stay right.
///
/// Masked are `password` of `scheme://user:password@host`, `?pass=` of a socket's URL, and values of keys that name a secret. Variables without a
/// default stay readable: their names are what a person has to see. Works on lines, not on YAML, because it also has to
/// work where the YAML is broken.
pub(super) fn masked(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let found = url_passwords(line)
            .into_iter()
            .chain(query_passwords(line))
            .chain(secret_values(line));
        for (from, to) in found {
            if !is_bare_variable(&line[from..to]) {
                // Only whole characters are replaced, by ASCII, so the bytes stay UTF-8.
                bytes[start + from..start + to].fill(b'*');
            }
        }
        start += line.len();
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Returns the ranges between `user:` and the last `@` of each URL in `line`.
fn url_passwords(line: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(scheme) = line[from..].find("://") {
        let authority = from + scheme + 3;
        // A URL ends where the next one begins, else with the line: an unescaped password may hold anything.
        let end = line[authority..]
            .find("://")
            .map_or(line.len(), |next| authority + next);
        if let (Some(colon), Some(at)) = (
            line[authority..end].find(':'),
            line[authority..end].rfind('@'),
        ) && colon < at
        {
            found.push((authority + colon + 1, authority + at));
        }
        from = authority;
    }
    found
}

/// Returns the ranges after `pass=` and `password=` in the query of a URL, up to the next `&`, quote, blank or bracket.
fn query_passwords(line: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for name in ["?pass=", "&pass=", "?password=", "&password="] {
        for (at, _) in line.match_indices(name) {
            let begin = at + name.len();
            let rest = &line[begin..];
            let is_variable = rest.starts_with("${");
            let end = rest
                .find(|c: char| {
                    matches!(c, '&' | '"' | '\'' | ',')
                        || c.is_whitespace()
                        || (c == '}' && !is_variable)
                })
                .unwrap_or(rest.len());
            if end > 0 {
                found.push((begin, begin + end));
            }
        }
    }
    found
}

fn secret_values(line: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for key in SECRET_KEYS {
        let mut from = 0;
        while let Some(at) = line[from..].find(key) {
            let after = from + at + key.len();
            let rest = &line[after..];
            let value = rest.trim_start();
            let begin = after + rest.len() - value.len();
            // A `}` that closes a variable is part of the value.
            let is_variable = value.trim_start_matches(['"', '\'']).starts_with("${");
            let end = value.find(['}', ',']).filter(|_| !is_variable);
            let length = value[..end.unwrap_or(value.len())].trim_end().len();
            if length > 0 && rest.len() > value.len() {
                found.push((begin, begin + length));
            }
            from = after;
        }
    }
    found
}

/// Returns whether `text` is `${NAME}` or `${file:path}`, and nothing else but quotes and brackets.
fn is_bare_variable(text: &str) -> bool {
    let inner = text.trim_matches(|c: char| matches!(c, '"' | '\'' | ' ' | '}' | '$' | '{'));
    if let Some(path) = inner.strip_prefix("file:") {
        return text.contains("${") && !path.contains(['$', '{', '}', ':', '@']);
    }
    text.contains("${")
        && !inner.is_empty()
        && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_become_stars_of_the_same_length() {
        for (text, expected) in [
            ("url: mysql://u:geheim@h/d\n", "url: mysql://u:******@h/d\n"),
            ("url: mysql://u:ge@he/im@h/d", "url: mysql://u:********@h/d"),
            ("url: redis://:ü@h", "url: redis://:**@h"),
            (
                "{ url: \"unix:///r.sock?pass=geheim&db=3\" }",
                "{ url: \"unix:///r.sock?pass=******&db=3\" }",
            ),
            (
                "url: unix:///r.sock?db=3&pass=geheim",
                "url: unix:///r.sock?db=3&pass=******",
            ),
            (
                "url: unix:///r.sock?pass=${PW}",
                "url: unix:///r.sock?pass=${PW}",
            ),
            ("url: mysql://u:${PW}@h/d", "url: mysql://u:${PW}@h/d"),
            (
                "url: mysql://u:${file:pw/db}@h/d",
                "url: mysql://u:${file:pw/db}@h/d",
            ),
            (
                "url: mysql://u:${PW:-abc}@h/d",
                "url: mysql://u:**********@h/d",
            ),
            ("url: mysql://h:3306/d", "url: mysql://h:3306/d"),
            ("token: abc", "token: ***"),
            (
                "{ api_key: abc, gzip: true }",
                "{ api_key: ***, gzip: true }",
            ),
            (
                "jenkins: { token: \"abc\", user: x }",
                "jenkins: { token: *****, user: x }",
            ),
            (
                "jenkins: { token: \"${T}\" }",
                "jenkins: { token: \"${T}\" }",
            ),
            ("token:\n", "token:\n"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
