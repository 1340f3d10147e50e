//! Long lines for people: broken between words where a terminal would break them anywhere.

/// How far the rest of a broken line is set in below its beginning.
const INDENT: usize = 4;

/// Returns `text` with no line longer than `width`, words aside that are longer themselves. What stands in backticks is one word,
/// to be copied in one piece.
#[must_use]
pub fn wrapped(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    // Not `lines()`: a blank line at the end stays one.
    let lines: Vec<_> = text.split('\n').map(|line| broken(line, width)).collect();
    lines.join("\n")
}

fn broken(line: &str, width: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let before = line.len() - line.trim_start().len();
    let indent = before + INDENT;
    let mut text = " ".repeat(before);
    let mut used = before;
    for (i, word) in words(line.trim_start()).into_iter().enumerate() {
        let length = columns(word);
        if i > 0 && used + 1 + length > width {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else if i > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    text
}

fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quoted_until) = (0, 0);
    for (at, c) in line.char_indices() {
        if at < quoted_until {
            continue;
        }
        if c == ' ' {
            words.push(&line[start..at]);
            start = at + 1;
        } else if c == '`'
            && let Some(length) = line[at + 1..].find('`')
        {
            quoted_until = at + length + 2;
        }
    }
    words.push(&line[start..]);
    words
}

/// Returns how many columns a text takes; a colour takes none.
fn columns(text: &str) -> usize {
    let mut chars = text.chars();
    let mut columns = 0;
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // `ESC [ 1 ; 31 m`
            chars.by_ref().find(|c| *c == 'm');
        } else {
            columns += 1;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_between_words_and_set_in() {
        let text = "short\n  target: redis at cache.test, version 7.0.15, no limit";
        assert_eq!(
            wrapped(text, Some(40)),
            "short\n  target: redis at cache.test, version\n      7.0.15, no limit"
        );
        assert_eq!(columns("\u{1b}[1;31merror:\u{1b}[0m no"), 9);
        assert_eq!(wrapped(text, Some(80)), text);
        assert_eq!(wrapped("a blank line\n\n", Some(80)), "a blank line\n\n");
        assert_eq!(wrapped(text, None), text);
    }

    #[test]
    fn what_is_to_be_typed_stays_in_one_piece() {
        let text = "  next:  mend the cause, then `rekindle run plans/shop.yaml` goes on";
        assert_eq!(
            wrapped(text, Some(44)),
            "  next:  mend the cause, then\n      `rekindle run plans/shop.yaml` goes on"
        );
        assert_eq!(
            wrapped("a ` alone is a word", Some(9)),
            "a ` alone\n    is a\n    word"
        );
    }
}
