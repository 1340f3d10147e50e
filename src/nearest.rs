//! "Did you mean": the names that somebody probably had in mind.

/// A name inside the other counts as near from this length on: `t` is inside half of all names.
const WORD: usize = 4;

/// Returns at most `most` of `names` that `typed` may have been meant to be, the likeliest first.
///
/// Damerau-Levenshtein, because swapped neighbours are the commonest slip; at most a third of the characters may
/// differ, so that a wrong name is not explained by a random other one. A name that lies inside the other, such as
/// `url_storage` in `spy_url_storage`, is near as well.
#[must_use]
pub fn nearest<'a>(
    typed: &str,
    names: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Vec<&'a str> {
    let typed = typed.to_lowercase();
    let allowed = (typed.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        // The distance costs the product of both lengths.
        .filter(|name| name.len() <= 4 * typed.len())
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let distance = strsim::damerau_levenshtein(&typed, &lower);
            let inside = (lower.contains(&typed) || typed.contains(&lower))
                && lower.len().min(typed.len()) >= WORD;
            (distance <= allowed || inside).then_some((distance, name))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(most).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_recognised_and_a_stranger_is_not() {
        let names = ["resources", "targets", "source", "spy_url_storage", "url"];
        assert_eq!(nearest("resuorces", names, 1), ["resources"]);
        assert_eq!(nearest("Target", names, 1), ["targets"]);
        assert_eq!(nearest("url_storage", names, 3), ["spy_url_storage"]);
        assert_eq!(nearest("ulr", names, 1), ["url"]);
        assert!(nearest("pipelines", names, 3).is_empty());
        assert!(nearest("", names, 3).is_empty());
    }
}
