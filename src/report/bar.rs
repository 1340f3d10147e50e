//! What a bar looks like: its columns, its rate and what it promises.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressState, ProgressStyle};

use super::human::{count, printable};
use crate::ids::ResourceName;

/// The longest time left that is shown: a year is as good as never.
const MOST_SECONDS: f64 = 365.0 * 86_400.0;

/// How fast a bar moves since `rows` at `since`. The library's own estimate takes the rows that were there when a run went on for
/// rows of its first moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) rows: u64,
    pub(super) since: Instant,
    /// Nothing moves: something is waited for.
    pub(super) stands: bool,
}

impl Pace {
    /// Returns the pace of a bar that is at `rows` now.
    pub(super) fn from(rows: u64) -> Self {
        let since = Instant::now();
        Self {
            rows,
            since,
            stands: false,
        }
    }

    /// Returns rows a second, at least a little.
    fn rate(self, state: &ProgressState) -> f64 {
        let done = state.pos().saturating_sub(self.rows);
        done as f64 / self.since.elapsed().as_secs_f64().max(0.001)
    }
}

/// Returns the look of a bar on `width` columns, with `names` of them for the name where there is room.
pub(super) fn style(width: usize, names: usize, pace: Pace) -> ProgressStyle {
    ProgressStyle::with_template(&template(width, names))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
        .with_key(
            "rows",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let of = count(state.len().unwrap_or_default());
                let _ = write!(out, "{} of ~{of}", count(state.pos()));
            },
        )
        .with_key(
            "rate",
            move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a float casts to the nearest number there is"
                )]
                let rate = pace.rate(state) as u64;
                let _ = if pace.stands {
                    out.write_str("waiting")
                } else {
                    write!(out, "{} rows/s", count(rate))
                };
            },
        )
        .with_key(
            "time_left",
            move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let left = state.len().unwrap_or_default().saturating_sub(state.pos());
                let rate = pace.rate(state);
                // Nothing is known before the first chunk.
                let text = if rate > 0.0 && !pace.stands {
                    let left = (left as f64 / rate).min(MOST_SECONDS);
                    format!("{:#}", HumanDuration(Duration::from_secs_f64(left)))
                } else {
                    "-".to_owned()
                };
                let _ = out.write_str(&text);
            },
        )
}

/// Everything has a column of its own, so that bars below each other line up. What a person misses least goes first
/// on a narrow terminal: a line that is too long would be broken, and its rest stay on the screen.
fn template(width: usize, names: usize) -> String {
    let names = columns_for_names(width, names);
    let rest = match width {
        110.. => "{rows:>23} {rate:>16} {time_left:>4} left  {msg:24!}",
        90..110 => "{rows:>23} {rate:>16} {time_left:>4} left",
        64..90 => "{percent:>3}% {rate:>16} {time_left:>4} left",
        _ => "{percent:>3}% {time_left:>4} left",
    };
    format!("{{prefix:{names}!}} {{wide_bar:.green/dim}} {rest}")
}

/// Returns the columns for names of `names` characters at most.
fn columns_for_names(width: usize, names: usize) -> usize {
    names.clamp(1, (width / 4).max(1))
}

/// Returns the name as far as it has room, with a sign where it is cut.
pub(super) fn named(resource: &ResourceName, width: usize, names: usize) -> String {
    let columns = columns_for_names(width, names);
    let name = printable(resource.as_str());
    if name.chars().count() <= columns {
        return name;
    }
    let cut: String = name.chars().take(columns - 1).collect();
    cut + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_cut_says_so() {
        let name = ResourceName::from("product_abstract/search");
        assert_eq!(named(&name, 200, 23), "product_abstract/search");
        let cut = named(&name, 80, 23);
        assert_eq!(
            (cut.as_str(), cut.chars().count()),
            ("product_abstract/se…", 20)
        );
        assert_eq!(named(&name, 0, 23), "…");
    }

    #[test]
    fn no_terminal_is_too_narrow_to_run_on() {
        // A fresh pseudo-terminal has no size at all.
        for width in 0..40 {
            assert!(ProgressStyle::with_template(&template(width, 40)).is_ok());
        }
    }

    #[test]
    fn a_line_fits_on_its_terminal() {
        for width in [40, 60, 64, 80, 90, 110, 200] {
            let template = template(width, 40);
            let fixed: usize = template
                .split(['{', '}'])
                .map(|part| match part.split_once(':') {
                    Some((_, size)) => size.trim_matches(['>', '!']).parse().unwrap_or(0),
                    None => part.len(),
                })
                .sum();
            assert!(
                fixed + 4 <= width,
                "{fixed} columns without the bar on {width}"
            );
        }
    }
}
