//! Redis's wire form of commands, which is also the form of the files that `redis-cli --pipe` reads.
//!
//! Everything is prefixed with its length, so no key or value can end early or add a command of its own.

/// Appends `*<n>\r\n`, the start of a command of `n` words.
pub(super) fn array(out: &mut Vec<u8>, n: usize) {
    length(out, b'*', n);
}

/// Appends `$<n>\r\n`; the caller appends the `n` bytes and `\r\n`.
pub(super) fn bulk_header(out: &mut Vec<u8>, n: usize) {
    length(out, b'$', n);
}

/// Appends the word made of `parts`: `$5\r\nkv:12\r\n`.
pub(super) fn bulk(out: &mut Vec<u8>, parts: &[&[u8]]) {
    bulk_header(out, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole command.
pub(super) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    array(out, words.len());
    for word in words {
        bulk(out, &[word]);
    }
}

/// Appends a number without a `String` of its own: there are two numbers for each row.
fn length(out: &mut Vec<u8>, sign: u8, mut n: usize) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A remainder of ten always fits.
        digits[at] = b'0' + u8::try_from(n % 10).unwrap_or(0);
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.push(sign);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_carry_their_length_in_bytes() {
        let mut out = Vec::new();
        command(&mut out, &[b"SET", "ключ\r\n".as_bytes(), b""]);
        assert_eq!(
            out,
            "*3\r\n$3\r\nSET\r\n$10\r\nключ\r\n\r\n$0\r\n\r\n".as_bytes()
        );
    }

    #[test]
    fn lengths_are_plain_decimals() {
        for n in [0, 9, 10, 1_000, usize::MAX] {
            let mut out = Vec::new();
            array(&mut out, n);
            assert_eq!(out, format!("*{n}\r\n").into_bytes());
        }
    }
}
