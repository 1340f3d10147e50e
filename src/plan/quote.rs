//! How names from a plan are shown in messages, and how a near miss is recognised.

use crate::nearest::nearest;

/// The longest name shown whole, in characters; longer ones fill the terminal and tell no more.
const SHOWN_CHARS: usize = 80;

/// Returns `text` in backticks, without anything a terminal would obey, cut to a readable length.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_CHARS {
            shown.push_str("...");
            break;
        }
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown.push('`');
    shown
}

/// Returns `names` in backticks with commas between them; the first sixteen of them.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<String> = names.by_ref().take(16).map(quoted).collect();
    let left = names.count();
    if left > 0 {
        shown.push(format!("{left} more"));
    }
    shown.join(", ")
}

/// Returns a help text: the nearest candidate if there is one, and what there is to choose from.
///
/// `noun` names the candidates, for example `defined targets`.
pub(super) fn candidates<'a>(
    typed: &str,
    noun: &str,
    names: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    let all = listed(names.clone());
    if all.is_empty() {
        return format!("there are no {noun}");
    }
    match nearest(typed, names, 1).first() {
        Some(name) => format!("did you mean {}? {noun} are {all}", quoted(name)),
        None => format!("{noun} are {all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_disarms_what_a_terminal_would_obey() {
        assert_eq!(quoted("a\u{1b}[31mb"), "`a\\u{1b}[31mb`");
        assert_eq!(quoted("abc\u{202e}"), "`abc\\u{202e}`");
        assert_eq!(quoted("it's \"é\""), "`it's \"é\"`");
        assert_eq!(quoted(&"x".repeat(200)).len(), 85);
    }
}
