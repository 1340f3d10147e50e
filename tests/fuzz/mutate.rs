//! Makes new values of old ones. Knows JSON's tokens, so that most of what comes out is JSON or nearly.

use fastrand::Rng;

/// What is put in: tokens, and whatever the encoder treats in a way of its own.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "/",
    "\\/",
    "{}",
    "[]",
    "\"\"",
    "\"0\":",
    "\"1\":",
    "\"2\":",
    "\"a\":",
    "\"\\u0061\":",
    "\"_timestamp\":",
    "\"\\u005ftimestamp\":",
    "true",
    "false",
    "null",
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1.50",
    "1e3",
    "1E-7",
    "1e16",
    "1e17",
    "0.0001",
    "1e-5",
    "1e400",
    "-1e400",
    "5e-324",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "109605685491391.125",
    "9007199254740993.0",
    "1e99999999999999999999",
    "1e-99999999999999999999",
    "0.30000000000000004",
    "\\u0000",
    "\\u001f",
    "\\u00e9",
    "\\u00E9",
    "\\u2028",
    "\\u2029",
    "\\u007f",
    "\\ud83d\\ude00",
    "\\uD83D\\uDE00",
    "\\ud83d",
    "\\ude00",
    "\\u12",
    "\\b",
    "\\f",
    "\\n",
    "\\r",
    "\\t",
    "\\x",
    "é",
    "größe",
    "\u{2028}",
    "\u{7f}",
    "😀",
    "\u{10ffff}",
    "\u{feff}",
    " ",
    "\n",
    "\t",
    "\r",
    "\0",
    "\u{b}",
    "\u{c}",
    "<b>&'",
    "plain text of some length, without anything in it",
];

/// What may stand in a text.
const TEXTS: &[&str] = &[
    "a",
    "/",
    "\\/",
    "\\u00e9",
    "\\u00E9",
    "é",
    "größe",
    "\\u2028",
    "\u{2028}",
    "\u{7f}",
    "\\u0000",
    "\\ud83d\\ude00",
    "😀",
    "<b>&'",
    "\\\"",
    "\\\\",
    "\\b\\f\\n\\r\\t",
    "eight___",
    "nine_____",
    "{[,]}:",
];

/// What may stand between two commas, in a list or in an object.
const VALUES: &[&str] = &[
    "\"0\":{}",
    "\"a\":1.0",
    "\"\\u0061\":[]",
    "\"_timestamp\":1.5",
    "\"id\":17",
    "\"gr\\u00f6\\u00dfe\":\"/\"",
    "1",
    "-0.0",
    "\"größe\"",
    "{}",
    "[]",
    "null",
    "{\"1\":1,\"0\":0}",
    "{\"0\":{\"0\":[]}}",
    "1.50",
    "\" \\/ \"",
];

/// Bytes that are no UTF-8 by themselves.
const BYTES: [u8; 8] = [0x80, 0xc0, 0xc3, 0xed, 0xf0, 0xf4, 0xff, 0x1f];

/// Longest value that is made. Long enough for every loop of eight bytes to go round, short enough for many a second.
const LONGEST: usize = 2048;

/// Returns a value made of one or two of `pool`.
pub fn mutated(pool: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let one = |random: &mut Rng| pool[random.usize(..pool.len())].clone();
    let whole = one(random);
    let mut value = whole.clone();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=value.len());
        let end = (at + random.usize(1..24)).min(value.len());
        match random.u8(..12) {
            // Into a text, as often as not.
            0..=2 => {
                let quote = value[at..].iter().position(|byte| *byte == b'"');
                let spot = quote.map_or(at, |quote| at + quote + 1);
                let text = TEXTS[random.usize(..TEXTS.len())];
                value.splice(spot..spot, text.bytes());
            }
            3 => {
                let token = TOKENS[random.usize(..TOKENS.len())];
                value.splice(at..at, token.bytes());
            }
            5 => drop(value.drain(at..end)),
            6 => {
                let copy = value[at..end].to_vec();
                let to = random.usize(..=value.len());
                value.splice(to..to, copy);
            }
            4 | 7 if at < value.len() => {
                // Another whole element or member, where one may stand.
                let spot = value[at..].iter().position(|byte| b"{[,".contains(byte));
                let token = VALUES[random.usize(..VALUES.len())];
                let spot = spot.map_or(at, |spot| at + spot + 1);
                value.splice(spot..spot, token.bytes().chain([b',']));
            }
            8 if random.bool() && at < value.len() => value[at] ^= 1 << random.u8(..8),
            8 => value.insert(at, BYTES[random.usize(..BYTES.len())]),
            9 => {
                let other = one(random);
                let from = random.usize(..=other.len());
                value.truncate(at);
                value.extend_from_slice(&other[from..]);
            }
            10 => {
                // A whole value in the place of another one's part, which is how nesting grows.
                let other = one(random);
                value.splice(at..end, other);
            }
            _ => wrap(&mut value, random),
        }
    }
    if value.len() > LONGEST {
        return whole;
    }
    value
}

fn wrap(value: &mut Vec<u8>, random: &mut Rng) {
    let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("{\"0\":", "}")][random.usize(..3)];
    // Now and then to where PHP stops reading.
    let times = if random.u8(..) == 0 { 509 } else { 1 } + random.usize(..3);
    let inside = std::mem::take(value);
    value.extend_from_slice(open.repeat(times).as_bytes());
    value.extend_from_slice(&inside);
    value.extend_from_slice(close.repeat(times).as_bytes());
}
