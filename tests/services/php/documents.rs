//! JSON that is hard to get right: equal keys, keys that look like indexes, numbers at every limit, escapes, broken ends.

use fastrand::Rng;

/// Returns a document; about one in four is broken.
pub fn document(random: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    if random.u8(..) < 3 {
        deep(random, &mut out);
    } else {
        space(random, &mut out);
        let most = random.usize(1..40);
        value(random, &mut out, 0, &mut { most });
        space(random, &mut out);
    }
    if random.u8(..) < 70 {
        damage(random, &mut out);
    }
    out
}

/// Around the deepest that PHP reads.
fn deep(random: &mut Rng, out: &mut Vec<u8>) {
    let depth = random.usize(508..515);
    let kinds: Vec<&[u8]> = (0..depth)
        .map(|_| {
            random
                .choice([&b"["[..], b"{\"a\":", b"{\"0\":"])
                .unwrap_or(b"[")
        })
        .collect();
    for open in &kinds {
        out.extend_from_slice(open);
    }
    out.extend_from_slice(b"[]");
    for open in kinds.iter().rev() {
        out.push(if open.len() == 1 { b']' } else { b'}' });
    }
}

fn value(random: &mut Rng, out: &mut Vec<u8>, depth: usize, left: &mut usize) {
    *left = left.saturating_sub(1);
    // A root that is no scalar, most of the time.
    let kind = if depth == 0 {
        random.u8(..41) % 40 % 20
    } else {
        random.u8(..40)
    };
    match kind {
        ..=13 if *left > 0 || depth == 0 => object(random, out, depth, left),
        14..=18 if *left > 0 || depth == 0 => list(random, out, depth, left),
        19..=29 => number(random, out),
        30..=35 => string(random, out),
        36 => out.extend_from_slice(b"true"),
        37 => out.extend_from_slice(b"false"),
        38 => out.extend_from_slice(b"null"),
        _ => out.extend_from_slice(random.choice([&b"{}"[..], b"[]", b"\"\""]).unwrap_or(b"{}")),
    }
}

fn object(random: &mut Rng, out: &mut Vec<u8>, depth: usize, left: &mut usize) {
    out.push(b'{');
    let most = if random.u8(..) < 4 { 60 } else { 6 };
    let count = random.usize(..most);
    let counted = random.u8(..) < 60;
    for index in 0..count {
        if index > 0 {
            out.push(b',');
        }
        space(random, out);
        if counted && random.u8(..) < 245 {
            out.extend_from_slice(format!("\"{index}\"").as_bytes());
        } else {
            key(random, out);
        }
        space(random, out);
        out.push(b':');
        space(random, out);
        value(random, out, depth + 1, left);
        space(random, out);
    }
    out.push(b'}');
}

fn list(random: &mut Rng, out: &mut Vec<u8>, depth: usize, left: &mut usize) {
    out.push(b'[');
    for index in 0..random.usize(..5) {
        if index > 0 {
            out.push(b',');
        }
        space(random, out);
        value(random, out, depth + 1, left);
        space(random, out);
    }
    out.push(b']');
}

/// From few, so that they meet again; also spelt in two ways.
fn key(random: &mut Rng, out: &mut Vec<u8>) {
    const KEYS: [&str; 26] = [
        "0",
        "1",
        "2",
        "00",
        "01",
        "-1",
        "-0",
        "1.5",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        " 1",
        "",
        "a",
        "b",
        "\\u0061",
        "c\\/d",
        "c/d",
        "\\u0000a",
        "\\u0030",
        "é",
        "\\u00e9",
        "\\u00E9",
        "_timestamp",
        "\\u005ftimestamp",
        "id_product_abstract",
    ];
    if random.u8(..) < 30 {
        return string(random, out);
    }
    out.push(b'"');
    out.extend_from_slice(random.choice(KEYS).unwrap_or("a").as_bytes());
    out.push(b'"');
}

fn string(random: &mut Rng, out: &mut Vec<u8>) {
    const PARTS: [&str; 34] = [
        "a",
        "word",
        "plain text that is longer",
        " ",
        "/",
        "\\/",
        "<b>",
        "&",
        "'",
        "\\\"",
        "\\\\",
        "\\b\\f\\n\\r\\t",
        "é",
        "größe",
        "\\u00e9",
        "\\u00E9",
        "\\u2028",
        "\u{2028}",
        "\\u2029",
        "\u{7f}",
        "\\u007f",
        "\\u0000",
        "\\u001F",
        "\\u003c",
        "\\u002f",
        "😀",
        "\\ud83d\\ude00",
        "\\uD83D\\uDE00",
        "漢字",
        "\u{ffff}",
        "\u{10ffff}",
        "\\u0009",
        "\u{feff}",
        "\\u000a",
    ];
    const BROKEN: [&[u8]; 16] = [
        b"\\ud83d",
        b"\\ude00",
        b"\\ud83d\\u0041",
        b"\\ud83dx",
        b"\\x",
        b"\\u12",
        b"\\u12g4",
        b"\n",
        b"\0",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe4\xb8",
        b"\"",
        b"\\",
    ];
    out.push(b'"');
    for _ in 0..random.usize(..7) {
        if random.u16(..400) == 0 {
            out.extend_from_slice(random.choice(BROKEN).unwrap_or(b""));
        } else if random.u8(..) < 30 {
            let letter = random.char('\u{80}'..'\u{2ffff}');
            out.extend_from_slice(letter.to_string().as_bytes());
        } else {
            out.extend_from_slice(random.choice(PARTS).unwrap_or("").as_bytes());
        }
    }
    out.push(b'"');
}

fn number(random: &mut Rng, out: &mut Vec<u8>) {
    const LIMITS: [&str; 38] = [
        "0",
        "-0",
        "-0.0",
        "0.0",
        "1.0",
        "-1",
        "1.50",
        "1e3",
        "1E-7",
        "1e16",
        "1e17",
        "1e-4",
        "1e-5",
        "0.0001",
        "0.00001",
        "0.00012345678901234567",
        "1e400",
        "-1e400",
        "1e-400",
        "5e-324",
        "2.4703282292062327e-324",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "1e99999999999999999999",
        "0e99999999999999999999",
        "1e-99999999999999999999",
        "0.1",
        "0.30000000000000004",
        "100000000000000000.5",
        "99999999999999999",
        "123456789012345678901234567890",
        "01",
        "1.",
        "-",
        ".5",
        "1e+",
    ];
    let float = f64::from_bits(random.u64(..));
    let text = match random.u8(..11) {
        0..=2 => random.choice(LIMITS).unwrap_or("0").to_owned(),
        3 => random.i32(..).to_string(),
        4 => random.i64(..).to_string(),
        5 => format!("{}.{}", random.u16(..), random.u32(..)),
        6 => (random.f64() * 1000.0).to_string(),
        7 => format!(
            "{:.*}",
            random.usize(1..22),
            random.f64() * 10_f64.powi(random.i32(-8..20))
        ),
        8 if float.is_finite() => format!("{float:e}"),
        9 => format!(
            "{}{:09}{:09}",
            random.u32(1..),
            random.u32(..1_000_000_000),
            random.u32(..1_000_000_000)
        ),
        // Halfway between two floats and beside it.
        10 => format!(
            "{}{}",
            (1_u64 << 53) + random.u64(..1 << 53),
            random.choice(["", ".0", ".5", "e2"]).unwrap_or("")
        ),
        _ => format!("{}e{}", random.u16(1..), random.i32(-330..330)),
    };
    out.extend_from_slice(text.as_bytes());
}

fn space(random: &mut Rng, out: &mut Vec<u8>) {
    if random.u8(..) < 8 {
        out.extend_from_slice(
            random
                .choice([&b" "[..], b"\n\t", b"\r\n  "])
                .unwrap_or(b" "),
        );
    }
}

/// Cuts, swaps, doubles or adds bytes.
fn damage(random: &mut Rng, out: &mut Vec<u8>) {
    const BYTES: &[u8] = b"{}[],:\"\\/ \n\0\x0b\x1f\x7f\xc3\xff0-.eTu";
    let at = random.usize(..=out.len());
    let byte = random.choice(BYTES).copied().unwrap_or(b' ');
    match random.u8(..6) {
        0 | 1 => out.truncate(at),
        2 => out.insert(at, byte),
        3 if at < out.len() => out[at] = byte,
        4 if at < out.len() => drop(out.remove(at)),
        _ => {
            let addition = random
                .choice([&b"\0"[..], b"x", b"[]", b"\xef\xbb\xbf", b","])
                .unwrap_or(b"x");
            let at = if random.bool() { 0 } else { out.len() };
            out.splice(at..at, addition.iter().copied());
        }
    }
}
