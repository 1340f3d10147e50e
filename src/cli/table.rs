//! Columns for people.

use std::io::IsTerminal;

/// How far what does not fit beside the first columns is set in below them.
const INDENT: usize = 4;

/// Returns rows as aligned columns with two blanks between; columns named in `right` are aligned to the right.
///
/// On a terminal that is too narrow for all of them, those that do not fit stand below their row, each with its title: a line that
/// the terminal breaks is in no column any more. In a pipe a row is a line.
pub fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    fitted(header, rows, right, terminal_width())
}

/// Returns the same as [`table`], every line set in by `indent` blanks.
pub fn set_in(indent: usize, header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let width = terminal_width().map(|width| width.saturating_sub(indent));
    let text = fitted(header, rows, right, width);
    let lines: Vec<_> = text
        .lines()
        .map(|line| format!("{:indent$}{line}", ""))
        .collect();
    lines.join("\n")
}

/// Returns the columns of the terminal that results go to; `None` where they go elsewhere.
pub fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stdout).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col).max(40))
}

fn fitted(header: &[&str], rows: &[Vec<String>], right: &[usize], width: Option<usize>) -> String {
    let mut widths: Vec<usize> = header.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let beside = width.map_or(widths.len(), |width| fitting(&widths, width));
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths[..beside])
            .enumerate()
            .map(|(i, (cell, width))| {
                if right.contains(&i) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text.push('\n');
        text += &line(&mut row.iter().map(String::as_str));
        let below = header.iter().zip(row).skip(beside);
        let below = below
            .filter(|(_, cell)| !cell.is_empty())
            .map(|(title, cell)| match *title {
                "" => cell.clone(),
                title => format!("{title}: {cell}"),
            });
        for line in wrapped(below, width.unwrap_or(usize::MAX)) {
            text.push('\n');
            text += &line;
        }
    }
    text
}

/// Returns how many of the columns fit on a line; one at least.
fn fitting(widths: &[usize], width: usize) -> usize {
    let mut used = 0;
    let fitting = widths.iter().take_while(|column| {
        used += **column + 2;
        used - 2 <= width
    });
    fitting.count().max(1)
}

/// Returns the parts in lines of at most `width` characters, two blanks between; a part that is longer is broken between words.
fn wrapped(parts: impl Iterator<Item = String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut push = |text: &str, gap: &str, is_new: bool| match lines.last_mut() {
        Some(line)
            if !is_new && line.chars().count() + gap.len() + text.chars().count() <= width =>
        {
            line.push_str(gap);
            line.push_str(text);
            true
        }
        Some(_) if !is_new => false,
        _ => {
            lines.push(format!("{:INDENT$}{text}", ""));
            true
        }
    };
    for (i, part) in parts.enumerate() {
        if i > 0 && push(&part, "  ", false) {
            continue;
        }
        if part.chars().count() + INDENT <= width {
            push(&part, "", true);
            continue;
        }
        for (i, word) in part.split(' ').enumerate() {
            if i == 0 || !push(word, " ", false) {
                push(word, "", true);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![
            row(["url", "1,000", "restored from its first row"]),
            row(["cms_block", "7", ""]),
        ]
    }

    const HEADER: [&str; 3] = ["name", "rows", "what happens"];

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            fitted(&HEADER[..2], &rows(), &[1], None),
            "name        rows\nurl        1,000\ncms_block      7"
        );
    }

    #[test]
    fn what_does_not_fit_stands_below_its_row() {
        assert_eq!(
            fitted(&HEADER, &rows(), &[1], Some(44)),
            "name        rows\n\
             url        1,000\n    what happens: restored from its first\n    row\n\
             cms_block      7"
        );
        assert_eq!(
            fitted(&HEADER, &rows(), &[1], Some(30)),
            "name        rows\n\
             url        1,000\n    what happens: restored\n    from its first row\n\
             cms_block      7"
        );
        for width in 16..60 {
            let text = fitted(&HEADER, &rows(), &[1], Some(width));
            assert!(
                text.lines().all(|line| line.chars().count() <= width),
                "{width}: {text}"
            );
        }
    }
}
