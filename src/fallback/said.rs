//! The line of a command's output that says why it failed, fit to be shown: without what could be a secret or a row's value.
//! Pure. The whole output lies in a private file.

/// Longest part that is shown, in characters: a line of a terminal holds it with what is said around it.
const SHOWN: usize = 160;

/// Lines that say nothing of a reason: the usage that Symfony prints last, and PHP's stack traces.
const BESIDE_THE_POINT: &[&str] = &[
    "publish:trigger-events",
    "usage:",
    "stack trace:",
    "exception trace:",
    "thrown in ",
    "at ",
    "#",
];

/// Words after which a secret may come.
const SECRETS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api key",
    "api_key",
    "apikey",
    "authorization",
    "bearer",
    "credential",
];

/// Words after which databases quote rows without quotation marks.
const ROWS: &[&str] = &[
    "detail:",
    "key (",
    "row contains",
    "values (",
    "parameters:",
];

/// Returns the last line of `output` that says something, with stars and dots in the place of what it quotes; `None` where
/// there is none.
pub(super) fn last_line(output: &str) -> Option<String> {
    let lines = output.lines().rev().map(plain);
    let line = lines
        .filter(|line| line.chars().any(char::is_alphanumeric))
        .find(|line| {
            let line = line.to_lowercase();
            !BESIDE_THE_POINT.iter().any(|start| line.starts_with(start))
        })?;
    let line = after(&line, SECRETS, " ***");
    let line = after(&line, ROWS, "…");
    let line = without_users(&line);
    let line = ['"', '\'', '`']
        .iter()
        .fold(line, |line, quote| unquoted(&line, *quote));
    let line = match line.split_once('{') {
        Some((before, _)) => format!("{before}{{…"),
        None => line,
    };
    let mut shown: String = line.chars().take(SHOWN).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    Some(shown)
}

/// Returns a line without colours, control characters and the blanks that boxes are drawn with.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // A sequence ends with its letter.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else if c.is_control() || c.is_whitespace() {
            text.push(' ');
        } else {
            text.push(c);
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns `line` up to the end of the first of `words` in it, then `instead`.
fn after(line: &str, words: &[&str], instead: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let ends = words
        .iter()
        .filter_map(|word| Some(lower.find(word)? + word.len()));
    match ends.min() {
        Some(end) if end < line.len() => format!("{}{instead}", &line[..end]),
        _ => line.to_owned(),
    }
}

/// Returns `line` without the users and passwords of URLs.
fn without_users(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        match word
            .split_once("://")
            .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)))
        {
            Some((scheme, (_, host))) => format!("{scheme}://***@{host}"),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns `line` with dots from the first quotation mark that opens to the last one there is: a value may hold some.
fn unquoted(line: &str, quote: char) -> String {
    // An apostrophe within a word opens nothing.
    let opens = line.char_indices().find(|(at, c)| {
        *c == quote
            && !line[..*at]
                .chars()
                .next_back()
                .is_some_and(char::is_alphanumeric)
    });
    let Some((begin, _)) = opens else {
        return line.to_owned();
    };
    match line.rfind(quote) {
        Some(end) if end > begin => {
            format!("{}{quote}…{}", &line[..begin], &line[end..])
        }
        _ => format!("{}{quote}…", &line[..begin]),
    }
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn the_line_that_says_why_is_shown() {
        for (output, shown) in [
            (
                "\nIn Connection.php line 70:\n                             \n  \u{1b}[37;41mSQLSTATE[HY000] [2002] Connection refused\u{1b}[39;49m  \n\n\
                 publish:trigger-events [-r|--resource [RESOURCE]] [-i|--ids [IDS]]\n\n",
                Some("SQLSTATE[HY000] [2002] Connection refused"),
            ),
            (
                "PHP Fatal error:  Uncaught Exception: out of ideas in /data/x.php:3\nStack trace:\n#0 {main}\n  thrown in /data/x.php on line 3\n",
                Some("PHP Fatal error: Uncaught Exception: out of ideas in /data/x.php:3"),
            ),
            ("", None),
            ("\n ---- \n", None),
        ] {
            assert_eq!(last_line(output).as_deref(), shown);
        }
    }

    #[test]
    fn what_it_quotes_is_not() {
        for (said, shown) in [
            ("the shop's password is geheim", "the shop's password ***"),
            ("API_KEY=geheim", "API_KEY ***"),
            (
                "cannot reach mysql://shop:geheim@db.test/shop now",
                "cannot reach mysql://***@db.test/shop now",
            ),
            (
                "1062 Duplicate entry 'geheim's \"geheim\"' for key 'sku'",
                "1062 Duplicate entry '…'",
            ),
            (
                "DETAIL:  Key (mail)=(geheim@x.test) already exists.",
                "DETAIL:…",
            ),
            ("Failing row contains (7, geheim).", "Failing row contains…"),
            ("unexpected {\"price\":\"geheim\"} there", "unexpected {…"),
            ("no closing \"geheim", "no closing \"…"),
        ] {
            let line = last_line(said).expect("a line");
            assert_eq!(line, shown);
            assert!(!line.contains("geheim"));
        }
        assert_eq!(
            last_line(&"ä".repeat(500)).map(|line| line.chars().count()),
            Some(161)
        );
    }
}
