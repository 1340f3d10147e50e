//! Numbers as PHP writes them.
//!
//! A float has the fewest digits that read back as the same float (`serialize_precision` -1). Where the point would
//! stand before the third zero or behind the 17th digit it is written `1.0e-5`, `1.0e+17`; else plainly, without `.0`.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    str,
};

/// Exponents beyond this are read as this by PHP's `strtod`.
const LARGEST_EXPONENT: usize = 19_999;

/// Where a number ends, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// One past its last byte.
    pub end: usize,
    /// Whether it has neither fraction nor exponent.
    pub integer: bool,
}

/// Returns the number that begins at `at`, or the place of the byte that makes it none.
pub(super) fn token(input: &[u8], at: usize) -> Result<Token, usize> {
    let mut end = at + usize::from(input.get(at) == Some(&b'-'));
    let digits = |from: usize| {
        let count = input[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        if count == 0 {
            Err(from)
        } else {
            Ok(from + count)
        }
    };
    end = match input.get(end) {
        // What follows a leading zero is the caller's surprise.
        Some(b'0') => end + 1,
        _ => digits(end)?,
    };
    let mut integer = true;
    if input.get(end) == Some(&b'.') {
        integer = false;
        end = digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = input.get(end) {
        integer = false;
        let sign = matches!(input.get(end + 1), Some(b'+' | b'-'));
        end = digits(end + 1 + usize::from(sign))?;
    }
    Ok(Token { end, integer })
}

/// Appends `number`, a token without or with fraction, as PHP writes it. `-0.0` becomes `-0` where `negative_zero`.
pub(super) fn write(number: &[u8], integer: bool, negative_zero: bool, out: &mut Vec<u8>) {
    if integer {
        match number {
            b"-0" => return out.push(b'0'),
            // Up to 18 digits fit.
            _ if number.len() <= 18 || is_int(number) => return out.extend_from_slice(number),
            _ => {}
        }
    }
    out.extend_from_slice(Shown::of(float(number)).bytes(negative_zero));
}

/// Returns whether a number is written as PHP would write it. Allocates nothing.
pub(super) fn is_canonical(number: &[u8], integer: bool) -> bool {
    if integer {
        return number != b"-0" && (number.len() <= 18 || is_int(number));
    }
    is_short_decimal(number) || {
        // A float that PHP would write as an integer, or as nothing, has another spelling anyway.
        Shown::of(float(number)).bytes(false) == number
    }
}

fn is_int(number: &[u8]) -> bool {
    str::from_utf8(number).is_ok_and(|text| text.parse::<i64>().is_ok())
}

/// Returns whether a decimal is the shortest one of its float for sure, without making it one: any decimal of up to 15
/// digits comes back from a float unchanged.
fn is_short_decimal(number: &[u8]) -> bool {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let Some(point) = number.iter().position(|byte| *byte == b'.') else {
        return false;
    };
    let (whole, fraction) = (&number[..point], &number[point + 1..]);
    let zeros = fraction.iter().take_while(|byte| **byte == b'0').count();
    number.len() <= 16
        && (whole != b"0" || zeros <= 3)
        && fraction.iter().all(u8::is_ascii_digit)
        && fraction.last() != Some(&b'0')
}

/// Returns the float that PHP reads from a number.
fn float(number: &[u8]) -> f64 {
    // Only ASCII digits, sign, point and `e` are left of what `token` accepted.
    let text = str::from_utf8(number).unwrap_or("0");
    bounded(text).parse().unwrap_or(0.0)
}

/// Returns `number` with an exponent that is not beyond [`LARGEST_EXPONENT`].
fn bounded(number: &str) -> Cow<'_, str> {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else {
        return number.into();
    };
    let (sign, digits) = match exponent.split_at_checked(1) {
        Some((sign @ ("+" | "-"), digits)) => (sign, digits),
        _ => ("", exponent),
    };
    let digits = digits.trim_start_matches('0');
    if digits.len() < 5 || digits.parse().is_ok_and(|n: usize| n <= LARGEST_EXPONENT) {
        return number.into();
    }
    format!("{mantissa}e{sign}{LARGEST_EXPONENT}").into()
}

/// A float as text, on the stack. The longest is `-1.2345678901234567e-308`.
#[derive(Debug, Clone, Copy)]
struct Shown {
    bytes: [u8; 40],
    used: usize,
}

impl Shown {
    const EMPTY: Self = Self {
        bytes: [0; 40],
        used: 0,
    };

    fn of(float: f64) -> Self {
        let mut shown = Self::EMPTY;
        if !float.is_finite() {
            // What JSON_PARTIAL_OUTPUT_ON_ERROR puts in the place of infinity.
            shown.push(b"0");
        } else if float == 0.0 {
            shown.push(if float.is_sign_negative() {
                b"-0"
            } else {
                b"0"
            });
        } else {
            if float < 0.0 {
                shown.push(b"-");
            }
            let (digits, exponent) = shortest(float.abs());
            shown.place_point(digits.bytes(true), exponent);
        }
        shown
    }

    /// Appends `d.ddd` times ten to the power of `exponent`.
    fn place_point(&mut self, digits: &[u8], exponent: i32) {
        let (first, rest) = digits.split_at(digits.len().min(1));
        match exponent {
            ..=-5 | 17.. => {
                self.push(first);
                self.push(b".");
                self.push(if rest.is_empty() { b"0" } else { rest });
                let _ = write!(self, "e{exponent:+}");
            }
            -4..=-1 => {
                self.push(b"0.");
                self.push(&b"000"[..exponent.unsigned_abs() as usize - 1]);
                self.push(digits);
            }
            0..=16 => {
                let whole = exponent.unsigned_abs() as usize + 1;
                self.push(&digits[..whole.min(digits.len())]);
                if digits.len() > whole {
                    self.push(b".");
                    self.push(&digits[whole..]);
                }
                self.push(&[b'0'; 17][..whole.saturating_sub(digits.len())]);
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        self.bytes[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }

    fn bytes(&self, negative_zero: bool) -> &[u8] {
        match &self.bytes[..self.used] {
            b"-0" if !negative_zero => b"0",
            bytes => bytes,
        }
    }
}

impl fmt::Write for Shown {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Returns the fewest digits that read back as `float`, which is positive, and the exponent of the first of them.
fn shortest(float: f64) -> (Shown, i32) {
    let (mut digits, exponent) = scientific(format_args!("{float:e}"));
    // Two decimals of so few digits are never equally near.
    if digits.used >= 15 {
        prefer_even(&mut digits, float, exponent);
    }
    (digits, exponent)
}

/// Returns digits and exponent of `1.2345e-7`.
fn scientific(text: fmt::Arguments<'_>) -> (Shown, i32) {
    let (mut whole, mut digits) = (Shown::EMPTY, Shown::EMPTY);
    let _ = whole.write_fmt(text);
    let whole = whole.bytes(true);
    let end = whole
        .iter()
        .position(|byte| *byte == b'e')
        .unwrap_or(whole.len());
    whole[..end]
        .split(|byte| *byte == b'.')
        .for_each(|part| digits.push(part));
    let exponent = str::from_utf8(whole.get(end + 1..).unwrap_or_default());
    (
        digits,
        exponent
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
    )
}

/// Where the float lies exactly between two decimals of this many digits, PHP takes the even one of them, Rust the
/// larger: 109605685491391.125 is `109605685491391.12`.
fn prefer_even(digits: &mut Shown, float: f64, exponent: i32) {
    let count = digits.used;
    let last = digits.bytes[count - 1];
    // Two digits more tell nearly always that it is none.
    let (near, _) = scientific(format_args!("{float:.*e}", count + 1));
    if last.is_multiple_of(2) || !near.bytes(true).ends_with(b"50") {
        return;
    }
    // No float has more than 767 digits.
    let exact = format!("{float:.800e}").replace('.', "");
    let (lower, rest) = exact.as_bytes().split_at(count);
    let rest = rest.split(|byte| *byte == b'e').next().unwrap_or_default();
    if rest
        .split_first()
        .is_none_or(|(half, zeros)| *half != b'5' || zeros.iter().any(|zero| *zero != b'0'))
    {
        return;
    }
    let mut even = *digits;
    even.bytes[count - 1] = match lower[count - 1] {
        // The one above; after a 9 it would have had fewer digits.
        odd if odd == last && odd < b'9' => odd + 1,
        below => below,
    };
    let text = str::from_utf8(even.bytes(true)).unwrap_or_default();
    let exponent = i64::from(exponent) + 1 - i64::try_from(count).unwrap_or_default();
    if format!("{text}e{exponent}").parse() == Ok(float) {
        *digits = even;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: &str) -> String {
        let token = token(number.as_bytes(), 0).unwrap();
        assert_eq!(token.end, number.len(), "{number}");
        let mut out = Vec::new();
        write(number.as_bytes(), token.integer, false, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_take_the_spelling_of_php() {
        // Each seen in PHP 8.2.
        for (number, spelling) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1.0", "1"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1E-7", "1.0e-7"),
            ("0.0001", "0.0001"),
            ("0.00012345678901234567", "0.00012345678901234567"),
            ("0.00001", "1.0e-5"),
            ("2.5e-5", "2.5e-5"),
            ("1e16", "10000000000000000"),
            ("1e17", "1.0e+17"),
            ("123456789012345678.0", "1.2345678901234568e+17"),
            ("99999999999999980.0", "99999999999999980"),
            ("123456789.12345678", "123456789.12345678"),
            ("109605685491391.125", "109605685491391.12"),
            ("109605685491391.375", "109605685491391.38"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775808", "9.223372036854776e+18"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5.0e-324"),
            ("1e400", "0"),
            ("-1e-400", "0"),
            ("1e99999999999999999999", "0"),
            ("-1.5", "-1.5"),
        ] {
            assert_eq!(written(number), spelling, "{number}");
            let token = token(spelling.as_bytes(), 0).unwrap();
            assert!(
                is_canonical(spelling.as_bytes(), token.integer),
                "{spelling}"
            );
            let token = super::token(number.as_bytes(), 0).unwrap();
            assert_eq!(
                is_canonical(number.as_bytes(), token.integer),
                number == spelling,
                "{number}"
            );
        }
    }

    #[test]
    fn a_number_ends_where_its_grammar_does() {
        for (input, end) in [
            ("01", 1),
            ("12,", 2),
            ("-1.5]", 4),
            ("1e5x", 3),
            ("1E+5", 4),
        ] {
            assert_eq!(token(input.as_bytes(), 0).unwrap().end, end, "{input}");
        }
        for (input, at) in [
            ("-", 1),
            ("1.", 2),
            ("1e", 2),
            ("1e+", 3),
            ("-x", 1),
            (".5", 0),
        ] {
            assert_eq!(token(input.as_bytes(), 0), Err(at), "{input}");
        }
    }
}
