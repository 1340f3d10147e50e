//! Numbers, sizes and times as people read them.

use std::{fmt::Write as _, time::Duration};

/// Returns `1234567` as `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns bytes with a binary unit and at most one decimal, such as `2.5 MiB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut size = number as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit < UNITS.len() - 1 {
        size /= 1024.0;
        unit += 1;
    }
    if size >= 100.0 {
        format!("{size:.0} {}", UNITS[unit])
    } else {
        format!("{size:.1} {}", UNITS[unit])
    }
}

/// Returns a duration in the two units that matter, such as `850 ms`, `12.3 s`, `4 min 10 s`, `2 h 5 min`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Returns what lies in a queue and what its consumers hold, where that is known: `12 messages`, `12 messages and 500
/// unacknowledged`.
#[must_use]
pub fn in_queue(ready: u64, unacked: Option<u64>) -> String {
    let ready = counted(ready, "message");
    match unacked {
        Some(unacked) => format!("{ready} and {} unacknowledged", count(unacked)),
        None => ready,
    }
}

/// Returns `number` and its noun, such as `1 row` or `2,000 rows`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{} {noun}s", count(number))
    }
}

/// Returns how many rows a second that makes, such as `12,345 rows/s`.
#[must_use]
pub fn rate(rows: u64, within: Duration) -> String {
    let millis = within.as_millis().max(1);
    let rate = u128::from(rows) * 1000 / millis;
    format!("{} rows/s", count(u64::try_from(rate).unwrap_or(u64::MAX)))
}

/// Returns `text` with control characters written as `\u{..}`: data must not drive a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(safe, "\\u{{{:x}}}", c as u32);
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Returns milliseconds since 1970 as local date and time.
#[must_use]
pub fn moment(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).map_or_else(
        || "?".to_owned(),
        |moment| {
            moment
                .with_timezone(&chrono::Local)
                .format("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// Returns seconds since 1970 as date and time in UTC: what servers far away go by.
#[must_use]
pub fn utc(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).map_or_else(
        || "?".to_owned(),
        |moment| moment.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [count(0), count(999), count(1000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(counted(1, "row"), "1 row");
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(
            [bytes(1023), bytes(2_621_440), bytes(1 << 40)],
            ["1023 B", "2.5 MiB", "1.0 TiB"]
        );
        let times = [850, 12_340, 250_000, 7_500_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(times, ["850 ms", "12.3 s", "4 min 10 s", "2 h 5 min"]);
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
    }
}
