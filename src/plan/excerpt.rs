//! The lines of a plan that a terminal has room for: one that is broken shows no place any more.

use super::diagnostic::Place;

/// What stands for the part of a line that is left out.
const CUT: char = '…';

/// Lines around the places that are looked at, many more than are drawn: a plan of 20,000 lines has a hundred problems.
const AROUND: usize = 10;

/// What the drawing puts before a label: `╰── `.
const LABEL_ARM: usize = 4;

/// A text whose lines are cut, and what became of its places.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    /// Start and length in bytes, in the order of the places.
    pub(super) spans: Vec<(usize, usize)>,
}

/// Returns `text` with no line near a place longer than `room` characters; of a line with a place, the part with the place and its label is
/// kept as far as there is room.
pub(super) fn excerpt(text: &str, places: &[Place], room: usize) -> Excerpt {
    let mut cut = String::with_capacity(text.len());
    let mut starts = vec![0; places.len()];
    let mut ends = vec![0; places.len()];
    let seen = around(text, places);
    cut.push_str(&text[..seen.start]);
    let mut at = seen.start;
    for whole in text[seen.clone()].split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        let here: Vec<_> = places
            .iter()
            .filter(|place| (at..=at + line.len()).contains(&place.span.start))
            .map(|place| wanted(line, place, at))
            .collect();
        let window = window(line, &here, room);
        if window.start > 0 {
            cut.push(CUT);
        }
        let kept = cut.len();
        cut.push_str(&line[window.clone()]);
        // An offset that is left out is at the nearest end of what is kept.
        let moved =
            |offset: usize| kept + (offset - at).clamp(window.start, window.end) - window.start;
        for (i, place) in places.iter().enumerate() {
            let is_here = |offset: &usize| (at..at + whole.len()).contains(offset);
            if is_here(&place.span.start) {
                starts[i] = moved(place.span.start);
            }
            // The end of a place is behind its last byte, which may be behind the last line.
            if is_here(&place.span.end) || place.span.end == at + whole.len() {
                ends[i] = moved(place.span.end);
            }
        }
        if window.end < line.len() {
            cut.push(CUT);
        }
        cut.push_str(&whole[line.len()..]);
        at += whole.len();
    }
    cut.push_str(&text[seen.end..]);
    for (i, place) in places.iter().enumerate() {
        if place.span.start >= text.len() {
            (starts[i], ends[i]) = (cut.len(), cut.len());
        }
    }
    let spans = starts.into_iter().zip(ends);
    Excerpt {
        text: cut,
        spans: spans
            .map(|(start, end)| (start, end.saturating_sub(start)))
            .collect(),
    }
}

/// Returns the bytes of the lines with places and of those around them, or between them.
fn around(text: &str, places: &[Place]) -> std::ops::Range<usize> {
    let starts = places.iter().map(|place| place.span.start);
    let ends = places.iter().map(|place| place.span.end);
    let (first, last) = (starts.min().unwrap_or(0), ends.max().unwrap_or(text.len()));
    let is_end = |byte: &(usize, &u8)| *byte.1 == b'\n';
    let before = &text.as_bytes()[..first.min(text.len())];
    let behind = &text.as_bytes()[last.min(text.len())..];
    let start = before.iter().enumerate().rev().filter(is_end).nth(AROUND);
    let end = behind.iter().enumerate().filter(is_end).nth(AROUND);
    start.map_or(0, |(at, _)| at + 1)..end.map_or(text.len(), |(at, _)| last + at + 1)
}

/// Returns from which to which character of `line` there should be something to see.
fn wanted(line: &str, place: &Place, at: usize) -> (usize, usize) {
    let characters = |offset: usize| {
        let before = line.get(..(offset - at).min(line.len()));
        before.map_or(0, |before| before.chars().count())
    };
    let (start, end) = (characters(place.span.start), characters(place.span.end));
    let label = usize::midpoint(start, end) + LABEL_ARM + place.label.chars().count();
    (start, end.max(label))
}

/// Returns the bytes of `line` that are shown.
fn window(line: &str, wanted: &[(usize, usize)], room: usize) -> std::ops::Range<usize> {
    let length = line.chars().count();
    let first = wanted.iter().map(|(start, _)| *start).min().unwrap_or(0);
    let last = wanted.iter().map(|(_, end)| *end).max().unwrap_or(0);
    if length <= room && last <= room {
        return 0..line.len();
    }
    // One for each mark.
    let start = match (last + 1).saturating_sub(room) {
        0 => 0,
        over => (over + 1).min(first),
    };
    let mut left = room - usize::from(start > 0);
    if length - start > left {
        left -= 1;
    }
    let byte = |character: usize| {
        let mut offsets = line.char_indices().map(|(offset, _)| offset);
        offsets.nth(character).unwrap_or(line.len())
    };
    byte(start)..byte((start + left).min(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::diagnostic::Span;

    const LINE: &str =
        "  - from: { table: spy_url_storage, cursor: [id], key: storage_ky, value: data }";

    fn of(text: &str, found: &str, room: usize) -> (String, String) {
        let start = text.find(found).unwrap();
        let place = Place {
            span: Span {
                start,
                end: start + found.len(),
            },
            label: "no such column".to_owned(),
        };
        let seen = excerpt(text, &[place], room);
        let (start, length) = seen.spans[0];
        let shown = seen.text[start..start + length].to_owned();
        (seen.text, shown)
    }

    #[test]
    fn a_line_that_fits_is_left_as_it_is() {
        let text = format!("a: b\n{LINE}\nc: d\n");
        assert_eq!(
            of(&text, "storage_ky", 200),
            (text.clone(), "storage_ky".into())
        );
    }

    #[test]
    fn of_a_long_line_the_part_with_the_place_is_shown() {
        let text = format!("{LINE}\nbeside: it is a line that is too long as well\r\nc: d");
        let (cut, shown) = of(&text, "storage_ky", 40);
        assert_eq!(
            cut,
            "…or: [id], key: storage_ky, value: data…\nbeside: it is a line that is too long a…\r\nc: d"
        );
        assert_eq!(shown, "storage_ky");
        let (cut, shown) = of(&text, "table", 40);
        assert!(
            cut.starts_with("  - from: { table: spy_url_storage, cur…\n"),
            "{cut}"
        );
        assert_eq!(shown, "table");
        // The end of the line, and of the file.
        assert_eq!(of(LINE, "data }", 30).1, "data }");
    }

    #[test]
    fn every_place_is_on_the_screen_whatever_its_width() {
        let text = format!("ä: ü\n{LINE}\n{LINE}ß\n");
        for room in 20..100 {
            for found in ["from", "id", "storage_ky", "data }\n  - from"] {
                let (cut, shown) = of(&text, found, room);
                assert!(
                    cut.lines().all(|line| line.chars().count() <= room),
                    "{room}: {cut}"
                );
                let begins = shown.lines().next().is_some_and(|one| !one.is_empty());
                assert!(begins && found.starts_with(&shown[..2]), "{room}: {cut}");
            }
        }
    }
}
