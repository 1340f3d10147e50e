//! Finds where a range that is being walked can be cut in two.
//!
//! Only the database compares keys. So a place between two keys is guessed (arithmetic on numbers, digits and letters that
//! need not agree with the collation), and the database is asked for the first key that exists from there on. Its own
//! estimate says how the rows lie around that key; the search goes on in the fuller half. A guess that is wrong costs a
//! probe, never a row: any key that exists inside the range is a right cut.

use async_trait::async_trait;

use crate::{
    cursor::{Cursor, KeyRange, KeyValue},
    error::EdgeError,
};

/// Cuts that are tried. A table whose keys begin alike needs one for every few letters.
const TRIES: usize = 16;
/// Rows below which a half is not worth a walker, a connection and a journaled cut.
pub(super) const LEAST_ROWS: u64 = 1_000;

/// Answers from the cursor's index, each within a few pages of it.
#[async_trait]
pub(super) trait Halves: Send {
    /// Returns the least key of the table.
    async fn least(&mut self) -> Result<Option<Cursor>, EdgeError>;
    /// Returns the least key between `low` and `high` (both excluded) that has the first `same` columns of `low` and, in the
    /// next column, at least `from`.
    async fn first(
        &mut self,
        low: &Cursor,
        high: &Cursor,
        same: usize,
        from: &KeyValue,
    ) -> Result<Option<Cursor>, EdgeError>;
    /// Returns the greatest key between `low` and `high` (both excluded) that has the first `same` columns of `low`.
    async fn last(
        &mut self,
        low: &Cursor,
        high: &Cursor,
        same: usize,
    ) -> Result<Option<Cursor>, EdgeError>;
    /// Returns about how many rows the range has; a count may end at [`LEAST_ROWS`].
    async fn rows(&mut self, after: Option<&Cursor>, until: &Cursor) -> Result<u64, EdgeError>;
}

/// Returns a key inside `range` with a good part of its rows on either side; `None` where none is found, or fewer than
/// [`LEAST_ROWS`] would be on one.
pub(super) async fn middle(
    probe: &mut dyn Halves,
    range: &KeyRange,
) -> Result<Option<Cursor>, EdgeError> {
    let KeyRange { after, until } = range;
    let low = match after {
        Some(after) => Some(after.clone()),
        None => probe.least().await?,
    };
    let Some(mut low) = low else { return Ok(None) };
    let mut high = until.clone();
    let mut guessed = Guessed::default();
    let mut best: Option<(u64, Cursor)> = None;
    for _ in 0..TRIES {
        let Some(same) = low
            .0
            .iter()
            .zip(&high.0)
            .position(|(low, high)| low != high)
        else {
            break;
        };
        let Some(guess) = guessed.next(same, &low.0[same], &high.0[same]) else {
            break;
        };
        let Some(found) = probe.first(&low, &high, same, &guess).await? else {
            // All rows lie before the guess. Their last one is the nearer end of the next one; with one more column like
            // `low` it may belong to a group that is cut by the column after.
            guessed.high = Some(guess);
            match probe.last(&low, &high, same).await? {
                Some(last) => high = last,
                None => break,
            }
            continue;
        };
        let left = probe.rows(after.as_ref(), &found).await?;
        let right = probe.rows(Some(&found), until).await?;
        let less = left.min(right);
        if best.as_ref().is_none_or(|(rows, _)| less > *rows) {
            best = Some((less, found.clone()));
        }
        // A third is even enough: what is left over is cut again. Below this sum no cut would do.
        if less.saturating_mul(2) >= left.max(right) || left + right < 2 * LEAST_ROWS {
            break;
        }
        if left < right {
            low = found;
            guessed.low = Some(guess);
        } else {
            high = found;
            guessed.high = Some(guess);
        }
    }
    Ok(best.and_then(|(rows, key)| (rows >= LEAST_ROWS).then_some(key)))
}

/// The guesses between which the next one lies. Texts have an order of their own here: taken between two keys, a guess that
/// the collation sorts behind both would be made again and again.
#[derive(Default)]
struct Guessed {
    column: usize,
    low: Option<KeyValue>,
    high: Option<KeyValue>,
}

impl Guessed {
    /// Returns the next guess for a column whose keys lie between `low` and `high`; `None` where there is none.
    fn next(&mut self, column: usize, low: &KeyValue, high: &KeyValue) -> Option<KeyValue> {
        let own_order = matches!(low, KeyValue::Text(_) | KeyValue::Uuid(_));
        if self.column != column || !own_order {
            *self = Self {
                column,
                ..Self::default()
            };
        }
        let low = self.low.as_ref().unwrap_or(low);
        let high = self.high.as_ref().unwrap_or(high);
        between(low, high).filter(|guess| guess != low || !own_order)
    }
}

/// Returns a value that probably lies between two values of a column; which of them is greater does not matter.
fn between(a: &KeyValue, b: &KeyValue) -> Option<KeyValue> {
    use KeyValue as K;
    Some(match (a, b) {
        (K::Int(a), K::Int(b)) => K::Int(i64::midpoint(*a, *b).max(a.saturating_add(1))),
        (K::Uint(a), K::Uint(b)) => K::Uint(u64::midpoint(*a, *b).max(a.saturating_add(1))),
        (K::Text(a), K::Text(b)) => {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let rest = || a[same..].iter().chain(&b[same..]);
            let upper =
                rest().any(char::is_ascii_uppercase) && !rest().any(char::is_ascii_lowercase);
            let middle =
                digits_between(&a[same..], &b[same..], LETTERS.len() as u64, |c| letter(*c));
            let letters = middle.into_iter().map(|digit| {
                let letter = char::from(LETTERS[usize::try_from(digit).unwrap_or(0)]);
                if upper {
                    letter.to_ascii_uppercase()
                } else {
                    letter
                }
            });
            K::Text(a[..same].iter().copied().chain(letters).collect())
        }
        (K::Bytes(a), K::Bytes(b)) => {
            let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            let middle = digits_between(&a[same..], &b[same..], 0x100, |byte| u64::from(*byte));
            let bytes = middle
                .into_iter()
                .filter_map(|digit| u8::try_from(digit).ok());
            K::Bytes(a[..same].iter().copied().chain(bytes).collect())
        }
        (K::Decimal(a), K::Decimal(b)) => {
            let (a, b): (f64, f64) = (a.parse().ok()?, b.parse().ok()?);
            K::Decimal(format!("{:.6}", f64::midpoint(a, b)))
        }
        (K::Date(a), K::Date(b)) => K::Date(civil(i64::midpoint(days(a)?, days(b)?))),
        (K::Timestamp(a), K::Timestamp(b)) => {
            let moment = |text: &str| Some(days(text)? * DAY + seconds(text.get(11..19)?)?);
            let middle = i64::midpoint(moment(a)?, moment(b)?);
            let (day, second) = (middle.div_euclid(DAY), middle.rem_euclid(DAY));
            K::Timestamp(format!("{} {}", civil(day), clock(second)))
        }
        (K::Time(a), K::Time(b)) => K::Time(clock(i64::midpoint(seconds(a)?, seconds(b)?))),
        (K::Uuid(a), K::Uuid(b)) => {
            let number = |text: &str| u128::from_str_radix(&text.replace('-', ""), 16).ok();
            let hex = format!("{:032x}", u128::midpoint(number(a)?, number(b)?));
            let parts = [
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..],
            ];
            K::Uuid(parts.join("-"))
        }
        _ => return None,
    })
}

/// What texts are guessed from: characters that every collation sorts in this order, and every character set has.
const LETTERS: &[u8] = b" 0123456789abcdefghijklmnopqrstuvwxyz";

/// Returns the place of a character among [`LETTERS`], or of the next lower one.
fn letter(c: char) -> u64 {
    let c = u8::try_from(c.to_ascii_lowercase()).unwrap_or(u8::MAX);
    let above = LETTERS.iter().filter(|letter| **letter <= c).count();
    above.saturating_sub(1) as u64
}

/// Returns the middle of two fractions whose first digits are given, in three digits: one more than the letters that differ
/// as a rule.
fn digits_between<T>(a: &[T], b: &[T], base: u64, weight: impl Fn(&T) -> u64) -> [u64; 3] {
    let number = |digits: &[T]| {
        (0..3).fold(0, |number, at| {
            number * base + digits.get(at).map_or(0, &weight)
        })
    };
    let middle = u64::midpoint(number(a), number(b));
    [middle / base / base, middle / base % base, middle % base]
}

const DAY: i64 = 86_400;

/// Returns the seconds of `-838:59:59`, fractions cut off.
fn seconds(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut parts = text.split([':', '.']).map(str::parse::<i64>);
    let mut next = || parts.next()?.ok();
    Some(sign * (next()? * 3_600 + next()? * 60 + next()?))
}

fn clock(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.unsigned_abs();
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{sign}{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// Returns the days since 0000-03-01 of the day that `text` begins with (proleptic Gregorian calendar); `None` for what is
/// no day, such as 0000-00-00.
fn days(text: &str) -> Option<i64> {
    let number = |from, to| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leaps + (153 * month + 2) / 5 + day - 1)
}

/// Returns the day that [`days`] counts so many days to.
fn civil(days: i64) -> String {
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (
        era * 400 + year,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = if month <= 2 { year + 1 } else { year };
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// A table in memory. Rust's order of texts stands for the database's.
    struct Keys {
        sorted: Vec<(String, i64)>,
        probes: usize,
    }

    fn key(cursor: &Cursor) -> (String, i64) {
        match cursor.0.as_slice() {
            [KeyValue::Text(text), KeyValue::Int(number)] => (text.clone(), *number),
            other => panic!("{other:?}"),
        }
    }

    fn cursor((text, number): &(String, i64)) -> Cursor {
        Cursor(vec![KeyValue::Text(text.clone()), KeyValue::Int(*number)])
    }

    impl Keys {
        fn inside(&mut self, low: &Cursor, high: &Cursor, same: usize) -> Vec<(String, i64)> {
            self.probes += 1;
            let (low, high) = (key(low), key(high));
            let found = self.sorted.iter().filter(|one| {
                **one > low
                    && **one < high
                    && (same < 1 || one.0 == low.0)
                    && (same < 2 || one.1 == low.1)
            });
            found.cloned().collect()
        }
    }

    #[async_trait]
    impl Halves for Keys {
        async fn least(&mut self) -> Result<Option<Cursor>, EdgeError> {
            Ok(self.sorted.first().map(cursor))
        }
        async fn first(
            &mut self,
            low: &Cursor,
            high: &Cursor,
            same: usize,
            from: &KeyValue,
        ) -> Result<Option<Cursor>, EdgeError> {
            let found = self.inside(low, high, same);
            let mut found = found.iter().filter(|one| match from {
                KeyValue::Text(from) => one.0 >= *from,
                KeyValue::Int(from) => one.1 >= *from,
                _ => false,
            });
            Ok(found.next().map(cursor))
        }
        async fn last(
            &mut self,
            low: &Cursor,
            high: &Cursor,
            same: usize,
        ) -> Result<Option<Cursor>, EdgeError> {
            Ok(self.inside(low, high, same).last().map(cursor))
        }
        async fn rows(&mut self, after: Option<&Cursor>, until: &Cursor) -> Result<u64, EdgeError> {
            self.probes += 1;
            let (after, until) = (after.map(key), key(until));
            let inside = |one: &&(String, i64)| {
                after.as_ref().is_none_or(|after| *one > after) && **one <= until
            };
            Ok(self.sorted.iter().filter(inside).count() as u64)
        }
    }

    /// Cuts the table, and returns the part of the rows before the cut in percent.
    fn cut(name: &str, rows: impl IntoIterator<Item = (String, i64)>) -> Option<usize> {
        let mut sorted: Vec<_> = rows.into_iter().collect();
        sorted.sort();
        let until = cursor(sorted.last().expect("has rows"));
        let mut keys = Keys { sorted, probes: 0 };
        let range = KeyRange { after: None, until };
        let found = middle(&mut keys, &range)
            .now_or_never()
            .expect("never waits");
        assert!(keys.probes <= 4 * TRIES, "{name}: {} probes", keys.probes);
        let found = key(&found.expect("never fails")?);
        let below = keys.sorted.iter().filter(|one| **one <= found).count();
        assert_eq!(keys.sorted[below - 1], found, "{name}: the key exists");
        Some(below * 100 / keys.sorted.len())
    }

    #[test]
    fn tables_of_many_forms_are_cut_near_their_middle() {
        let near = |name: &str, rows: Vec<(String, i64)>| {
            let part = cut(name, rows).expect(name);
            assert!((30..=70).contains(&part), "{name}: cut at {part} %");
        };
        let keys = |name: &str| name.to_owned();
        near(
            "a long common beginning",
            (0..9_000)
                .map(|id| (format!("product_abstract:de:de_de:{id}"), 0))
                .collect(),
        );
        near(
            "two groups",
            (0..8_000)
                .map(|id| (keys(if id % 2 == 0 { "AT" } else { "DE" }), id))
                .collect(),
        );
        near(
            "one group",
            (0..8_000).map(|id| (keys("DE"), id * 7)).collect(),
        );
        near(
            "a small group before a large one",
            (0..8_000)
                .map(|id| (keys(if id < 100 { "AT" } else { "DE" }), id))
                .collect(),
        );
        near(
            "a large group before a small one",
            (0..8_000)
                .map(|id| (keys(if id < 100 { "DE" } else { "AT" }), id))
                .collect(),
        );
        near(
            "hashes",
            (0..8_000_u64)
                .map(|id| {
                    (
                        format!("{:016x}", id.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                        0,
                    )
                })
                .collect(),
        );
        near(
            "letters beyond ASCII",
            (0..8_000)
                .map(|id| (format!("größe-{id:05}-ß"), 0))
                .collect(),
        );
        near(
            "a crowd at the end of a void",
            (0..8_000)
                .map(|id| (keys("x"), (1 << 60) + id))
                .chain([(keys("x"), 1)])
                .collect(),
        );
    }

    #[test]
    fn few_rows_are_not_cut() {
        let rows = |count| (0..count).map(|id| (format!("k{id:05}"), 0));
        assert_eq!(cut("one", rows(1)), None);
        assert_eq!(cut("few", rows(1_500)), None);
        assert!(cut("many", rows(4_000)).is_some());
    }

    #[test]
    fn a_guess_lies_between_values_of_every_type() {
        use KeyValue as K;
        let text = |text: &str| text.to_owned();
        for (low, guess, high) in [
            (K::Int(i64::MIN), K::Int(-1), K::Int(i64::MAX - 1)),
            (K::Int(4), K::Int(5), K::Int(5)),
            (K::Uint(0), K::Uint(1 << 63), K::Uint(u64::MAX)),
            (
                K::Bytes(vec![1, 0]),
                K::Bytes(vec![1, 4, 0, 0]),
                K::Bytes(vec![1, 8]),
            ),
            (
                K::Decimal(text("-1.50")),
                K::Decimal(text("0.500000")),
                K::Decimal(text("2.50")),
            ),
            (
                K::Date(text("2024-02-28")),
                K::Date(text("2024-02-29")),
                K::Date(text("2024-03-01")),
            ),
            (
                K::Timestamp(text("1999-12-31 00:00:00.000001")),
                K::Timestamp(text("2000-01-01 00:00:00")),
                K::Timestamp(text("2000-01-02 00:00:00")),
            ),
            (
                K::Time(text("-838:59:59.000000")),
                K::Time(text("00:00:00")),
                K::Time(text("838:59:59")),
            ),
            (
                K::Uuid(text("00000000-0000-0000-0000-000000000000")),
                K::Uuid(text("7fffffff-ffff-ffff-ffff-ffffffffffff")),
                K::Uuid(text("ffffffff-ffff-ffff-ffff-ffffffffffff")),
            ),
        ] {
            let found = between(&low, &high);
            let rounded = if let (K::Uint(_), Some(K::Uint(found))) = (&low, &found) {
                Some(K::Uint(found.next_multiple_of(2)))
            } else {
                found
            };
            assert_eq!(rounded, Some(guess));
        }
        assert_eq!(
            between(&K::Date(text("0000-00-00")), &K::Date(text("2024-01-01"))),
            None
        );
        assert_eq!(between(&K::Int(1), &K::Text(text("x"))), None);
    }

    #[test]
    fn every_day_is_counted_back() {
        for day in 0..800_000 {
            assert_eq!(days(&civil(day)), Some(day), "{}", civil(day));
        }
        assert_eq!(
            days("1970-01-01").map(|day| civil(day + 19_000)),
            Some("2022-01-08".into())
        );
    }
}
