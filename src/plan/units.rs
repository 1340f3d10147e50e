//! Sizes and times as a plan spells them: `2MiB`, `200ms`. A bare number is refused, so that nobody has to know
//! whether a limit is in bytes or in kilobytes.

use std::time::Duration;

use super::resolved::Overlap;

const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Returns the bytes that `text` names. The error is the help for the person who typed it.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a whole number with `B`, `KiB`, `MiB` or `GiB`, for example `2MiB`";
    let (number, unit) = split(text);
    let decimal = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => Some("KiB"),
        "m" | "mb" | "mib" => Some("MiB"),
        "g" | "gb" | "gib" => Some("GiB"),
        _ => None,
    };
    match (scaled(number, unit, &SIZES), decimal) {
        (Some(bytes), _) => Ok(bytes),
        (None, Some(unit)) if number.parse::<u64>().is_ok() => {
            Err(format!("did you mean `{number}{unit}`? {HELP}"))
        }
        _ => Err(HELP.to_owned()),
    }
}

/// Returns the time that `text` names. The error is the help for the person who typed it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    scaled(number, unit, &TIMES)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            "write a whole number with `ms`, `s`, `m` or `h`, for example `200ms`".to_owned()
        })
}

/// Returns the overlap that `text` names: a bare number is one of a column of numbers. The error is the help for the person
/// who typed it.
pub(super) fn overlap(text: &str) -> Result<Overlap, String> {
    if let Ok(number) = text.replace('_', "").parse() {
        return Ok(Overlap::Number(number));
    }
    duration(text).map(Overlap::Time).map_err(|_| {
        "write a time with `ms`, `s`, `m` or `h`, for example `5m`, or for a column of numbers a whole number".to_owned()
    })
}

/// Returns `bytes` in the largest unit that keeps it whole: `2MiB`, `1500B`.
pub(super) fn show_bytes(bytes: u64) -> String {
    show(bytes, &SIZES, "B")
}

/// Returns `duration` in the largest unit that keeps it whole: `30s`, `1500ms`.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, &TIMES, "ms")
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (&text[..digits], text[digits..].trim_start())
}

fn scaled(number: &str, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(amount: u64, units: &[(&str, u64)], smallest: &str) -> String {
    units
        .iter()
        .find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor))
        .map_or_else(
            || format!("{amount}{smallest}"),
            |(unit, factor)| format!("{}{unit}", amount / factor),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_binary_unit() {
        assert_eq!(bytes("2MiB"), Ok(2 << 20));
        assert_eq!(bytes("512 KiB"), Ok(512 << 10));
        assert_eq!(bytes("1B"), Ok(1));
        assert_eq!(bytes("3GiB"), Ok(3 << 30));
        assert!(
            bytes("2MB")
                .unwrap_err()
                .starts_with("did you mean `2MiB`?")
        );
        assert!(bytes("2m").unwrap_err().starts_with("did you mean `2MiB`?"));
        for wrong in ["", "2", "MiB", "1.5MiB", "-1KiB", "99999999999GiB", "2MiBs"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        for wrong in ["", "5", "5 minutes", "1.5s", "s", "-3s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_overlap_is_a_time_or_a_number_of_its_column() {
        assert_eq!(overlap("5m"), Ok(Overlap::Time(Duration::from_mins(5))));
        assert_eq!(overlap("1_000"), Ok(Overlap::Number(1000)));
        assert_eq!(overlap("0"), Ok(Overlap::Number(0)));
        for wrong in ["", "-1", "1.5", "5 minutes"] {
            assert!(overlap(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_shown_in_the_largest_whole_unit() {
        assert_eq!(show_bytes(2 << 20), "2MiB");
        assert_eq!(show_bytes(1500), "1500B");
        assert_eq!(show_bytes(0), "0B");
        assert_eq!(show_duration(Duration::from_secs(30)), "30s");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
    }
}
