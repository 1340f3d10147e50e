//! Strings: where they end, what their escapes mean, and how PHP writes their characters.

use super::Form;
use crate::value::Broken;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Returns the place of the first byte at or after `at` that needs a look: `"`, `\`, `/`, a control character, anything
/// beyond ASCII; the end of `input` if there is none.
pub(super) fn plain_until(input: &[u8], mut at: usize) -> usize {
    for bytes in input[at..].as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*bytes);
        // Each term has the high bit of a byte set that is meant, and perhaps of higher bytes: the lowest is right.
        let equal = |byte: u8| {
            let zero_there = word ^ (ONES * u64::from(byte));
            zero_there.wrapping_sub(ONES) & !zero_there
        };
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (equal(b'"') | equal(b'\\') | equal(b'/') | control | word) & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = input[at..]
        .iter()
        .take_while(|byte| !matches!(byte, b'"' | b'\\' | b'/' | ..0x20 | 0x80..))
        .count();
    at + rest
}

/// Appends the string whose opening quote is at `at` as PHP writes it, with its quotes; returns where it ends.
pub(super) fn write(
    input: &[u8],
    at: usize,
    form: Form,
    out: &mut Vec<u8>,
) -> Result<usize, Broken> {
    out.push(b'"');
    let mut at = at + 1;
    loop {
        let plain = plain_until(input, at);
        match form {
            Form::Message => input[at..plain]
                .iter()
                .for_each(|byte| character(char::from(*byte), form, out)),
            Form::Storage | Form::Search => out.extend_from_slice(&input[at..plain]),
        }
        at = plain;
        match input.get(at) {
            None => return Err(Broken::Ended(input.len())),
            Some(b'"') => {
                out.push(b'"');
                return Ok(at + 1);
            }
            Some(b'\\') => {
                let (meant, end) = escape(input, at)?;
                character(meant, form, out);
                at = end;
            }
            Some(b'/') => {
                out.extend_from_slice(b"\\/");
                at += 1;
            }
            Some(0x80..) => {
                let (read, end) = utf8(input, at).ok_or(Broken::Utf8(at))?;
                character(read, form, out);
                at = end;
            }
            Some(_) => return Err(Broken::Control(at)),
        }
    }
}

/// Appends `text`, which is no JSON, as PHP writes it, with its quotes.
pub(super) fn quoted(text: &str, form: Form, out: &mut Vec<u8>) {
    out.push(b'"');
    text.chars().for_each(|meant| character(meant, form, out));
    out.push(b'"');
}

/// Returns the character beyond ASCII at `at` and where it ends, or `None` where there is no whole one.
fn utf8(input: &[u8], at: usize) -> Option<(char, usize)> {
    let lead = *input.get(at)?;
    let (more, bits, least) = match lead {
        0xc2..=0xdf => (1, lead & 0x1f, 0x80),
        0xe0..=0xef => (2, lead & 0x0f, 0x800),
        0xf0..=0xf4 => (3, lead & 0x07, 0x1_0000),
        _ => return None,
    };
    let end = at + 1 + more;
    let mut code = u32::from(bits);
    for byte in input.get(at + 1..end)? {
        if byte & 0xc0 != 0x80 {
            return None;
        }
        code = (code << 6) | u32::from(byte & 0x3f);
    }
    // Surrogates and what is beyond U+10FFFF are no `char`.
    Some((char::from_u32(code).filter(|_| code >= least)?, end))
}

/// Returns what the escape at `at` means and where it ends.
fn escape(input: &[u8], at: usize) -> Result<(char, usize), Broken> {
    let meant = match input.get(at + 1) {
        None => return Err(Broken::Ended(input.len())),
        Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(input, at),
        Some(_) => return Err(Broken::Syntax(at + 1)),
    };
    Ok((meant, at + 2))
}

/// Returns what `\u1234`, or the pair `\ud83d\ude00`, at `at` means and where it ends.
fn unicode_escape(input: &[u8], at: usize) -> Result<(char, usize), Broken> {
    let unit = |at: usize| {
        let digits = &input[input.len().min(at)..input.len().min(at + 4)];
        let value = digits.iter().try_fold(0, |value, digit| {
            Some(value << 4 | char::from(*digit).to_digit(16)?)
        });
        match value {
            Some(value) if digits.len() == 4 => Ok(value),
            Some(_) => Err(Broken::Ended(input.len())),
            None => Err(Broken::Syntax(at)),
        }
    };
    let first = unit(at + 2)?;
    if let Some(meant) = char::from_u32(first) {
        return Ok((meant, at + 6));
    }
    // A surrogate: only the first half of a pair, and only with the second.
    if first < 0xdc00 && input.get(at + 6..at + 8) == Some(b"\\u") {
        let second = unit(at + 8)?;
        if let 0xdc00..=0xdfff = second {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return Ok((char::from_u32(code).ok_or(Broken::Surrogate(at))?, at + 12));
        }
    }
    Err(Broken::Surrogate(at))
}

/// Appends a character of a string as PHP writes it.
fn character(meant: char, form: Form, out: &mut Vec<u8>) {
    let short = match meant {
        '"' if form == Form::Message => &b"\\u0022"[..],
        '<' if form == Form::Message => b"\\u003C",
        '>' if form == Form::Message => b"\\u003E",
        '&' if form == Form::Message => b"\\u0026",
        '\'' if form == Form::Message => b"\\u0027",
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '/' => b"\\/",
        '\u{8}' => b"\\b",
        '\u{c}' => b"\\f",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        _ if is_escaped(meant, form) => return escaped(meant, out),
        _ => return out.extend_from_slice(meant.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(short);
}

/// Returns whether a character that has no short escape is written as `\u`.
fn is_escaped(meant: char, form: Form) -> bool {
    match meant {
        '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' | ' '..='\u{7f}' => false,
        ..' ' | '\u{2028}' | '\u{2029}' => true,
        _ => form != Form::Search,
    }
}

/// Appends a character as `\u00e9`, or as a pair of those.
fn escaped(meant: char, out: &mut Vec<u8>) {
    for unit in meant.encode_utf16(&mut [0; 2]) {
        let digit = |shift: u32| b"0123456789abcdef"[usize::from(*unit >> shift & 0xf)];
        out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
    }
}

/// Returns where the string ends whose first byte behind the opening quote is at `at`, if every byte of it is as PHP
/// writes it. Only pure ASCII is known to be; what is beyond is left to [`write`].
pub(super) fn canonical_end(input: &[u8], mut at: usize, form: Form) -> Option<usize> {
    loop {
        at = plain_until(input, at);
        match (*input.get(at)?, input.get(at + 1)) {
            (b'"', _) => return Some(at),
            (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => at += 2,
            (b'\\', Some(b'u')) => {
                let (meant, end) = unicode_escape(input, at).ok()?;
                if !is_escaped(meant, form) || input[at..end].iter().any(u8::is_ascii_uppercase) {
                    return None;
                }
                at = end;
            }
            _ => return None,
        }
    }
}
