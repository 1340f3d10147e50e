//! `ignore_tables`: tables that a plan leaves out on purpose.

/// A name in which `*` stands for any text, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    /// With variables filled in.
    pattern: String,
    /// As typed: the only form that may be shown.
    pub typed: String,
}

impl TablePattern {
    pub(super) const fn new(pattern: String, typed: String) -> Self {
        Self { pattern, typed }
    }

    /// Returns whether the pattern means a table called `name`; case counts.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.pattern.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        // The earliest place leaves the most for what follows.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, right, wrong) in [
            ("card", &["card"][..], &["", "cards", "Card", "my_card"][..]),
            ("b*", &["b", "b_storage"], &["", "ab"]),
            ("*", &["", "anything"], &[]),
            ("*_search", &["_search", "a_search"], &["a_searches"]),
            ("a*b", &["ab", "axb", "abab"], &["a", "b", "aba"]),
            ("a*b*c", &["abc", "axbybzc"], &["acb", "ab", "bc"]),
            ("aa*aa", &["aaaa", "aaxaa"], &["aa", "aaa"]),
            ("a**c", &["ac", "abc"], &["a"]),
        ] {
            let pattern = TablePattern::new(pattern.to_owned(), pattern.to_owned());
            for name in right {
                assert!(pattern.matches(name), "{pattern:?} {name}");
            }
            for name in wrong {
                assert!(!pattern.matches(name), "{pattern:?} {name}");
            }
        }
    }
}
