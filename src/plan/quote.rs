//! How names from a plan are shown in messages, and how a near miss is recognised.

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

/// Returns the candidate that `typed` was probably meant to be.
///
/// Damerau-Levenshtein, because swapped neighbours are the commonest slip; at most a third of the characters may
/// differ, so that a wrong name is not explained by a random other one.
pub(super) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = typed.to_lowercase();
    let allowed = (typed.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 4 * typed.len())
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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
    match nearest(typed, names) {
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

    #[test]
    fn a_near_miss_is_recognised_and_a_stranger_is_not() {
        let names = ["resources", "targets", "source"];
        assert_eq!(nearest("resuorces", names), Some("resources"));
        assert_eq!(nearest("Target", names), Some("targets"));
        assert_eq!(nearest("pipelines", names), None);
        assert_eq!(nearest("", names), None);
    }
}
