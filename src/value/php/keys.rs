//! Whether an object has a key twice, told by hashes: 8 bytes a key, and nobody compares strings in the usual case.

/// Up to this many keys are compared each with each, which needs no sorting and suits the processor's wide registers.
const FEW: usize = 24;

const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;

/// Returns a hash of a key's bytes, of which equal keys have equal ones.
///
/// Cheap rather than good: a collision costs one more look at the object.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hash = key.len() as u64;
    // The last word may hold bytes of the one before it once more.
    if let Some(last) = key.last_chunk::<8>() {
        for word in key.as_chunks::<8>().0 {
            hash = mixed(hash, u64::from_le_bytes(*word));
        }
        return mixed(hash, u64::from_le_bytes(*last));
    }
    let last = match (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => key
            .iter()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte)),
    };
    mixed(hash, last)
}

fn mixed(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER)
}

/// Returns whether two of `hashes` are equal. Leaves them in any order.
pub(super) fn any_equal(hashes: &mut [u64]) -> bool {
    if hashes.len() <= FEW {
        return hashes
            .iter()
            .enumerate()
            .any(|(at, hash)| hashes[..at].contains(hash));
    }
    hashes.sort_unstable();
    hashes.array_windows().any(|[one, next]| one == next)
}

/// Returns whether `key`, with its quotes, is the list index `index` as PHP writes it: `"12"`, not `"012"`.
pub(super) fn is_index(key: &[u8], mut index: usize) -> bool {
    let Some(mut digits) = key
        .strip_prefix(b"\"")
        .and_then(|key| key.strip_suffix(b"\""))
    else {
        return false;
    };
    // From the last digit on.
    while let [rest @ .., digit] = digits {
        if usize::from(digit.wrapping_sub(b'0')) != index % 10 {
            return false;
        }
        (digits, index) = (rest, index / 10);
        if index == 0 {
            return digits.is_empty();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_a_plain_decimal() {
        for (key, index, is) in [
            (r#""0""#, 0, true),
            (r#""10""#, 10, true),
            (r#""1234""#, 1234, true),
            (r#""00""#, 0, false),
            (r#""01""#, 1, false),
            (r#""""#, 0, false),
            (r#""-1""#, 1, false),
            (r#""1""#, 11, false),
            (r#""11""#, 1, false),
            (r#"":""#, 10, false),
        ] {
            assert_eq!(is_index(key.as_bytes(), index), is, "{key} {index}");
        }
    }

    #[test]
    fn every_byte_of_a_key_counts_whatever_its_length() {
        for length in 1..40 {
            let key: Vec<u8> = (b'a'..=b'z').cycle().take(length).collect();
            for at in 0..length {
                let mut other = key.clone();
                other[at] = b'_';
                assert_ne!(hash(&key), hash(&other), "byte {at} of {length}");
            }
            assert_ne!(hash(&key), hash(&key[1..]));
        }
    }

    #[test]
    fn equal_hashes_are_found_among_few_and_many() {
        for count in [2, FEW, FEW + 1, 500] {
            let mut hashes: Vec<u64> = (0..count).map(|n| hash(&n.to_le_bytes())).collect();
            assert!(!any_equal(&mut hashes.clone()));
            hashes[0] = hashes[count - 1];
            assert!(any_equal(&mut hashes));
        }
    }
}
