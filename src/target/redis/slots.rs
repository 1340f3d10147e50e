//! Which slot of a cluster a key lies in (Redis Cluster Specification, "Key distribution model").

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// Returns the slot of `key`: of what is between its first `{` and the next `}`, if that is anything, else of all of it.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|&b| b == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// Returns a short text that lies in `slot`.
pub(super) fn tag_of(slot: u16) -> String {
    // One in 16,384 fits. The test below looks for that of every slot: the longest search ends before 2^20.
    (0u32..1 << 20)
        .map(|n| format!("{n:x}"))
        .find(|tag| crc16(tag.as_bytes()) % SLOTS == slot)
        .unwrap_or_default()
}

/// CRC-16/XMODEM: polynomial 0x1021, nothing reflected, begins with 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut n: u16 = 0;
    while n < 256 {
        let mut crc = n << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[n as usize] = crc;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, slot) in [
            // What `CLUSTER KEYSLOT` of Redis 7.0.15 says.
            ("a1", 7_785),
            ("b", 3_300),
            ("c", 7_365),
            ("{b}x", 3_300),
            ("kv:{b}:{c}", 3_300),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(slot_of(b"a{}b"), crc16(b"a{}b") % SLOTS);
        assert_eq!(slot_of(b"a{b"), crc16(b"a{b") % SLOTS);
    }

    #[test]
    fn every_slot_has_a_tag() {
        let mut found = vec![false; usize::from(SLOTS)];
        for n in 0..1u32 << 20 {
            found[usize::from(slot_of(format!("{n:x}").as_bytes()))] = true;
        }
        assert!(found.iter().all(|found| *found));
        for slot in [0, 1, 5_460, 16_383] {
            assert_eq!(slot_of(format!("x{{{}}}y", tag_of(slot)).as_bytes()), slot);
        }
    }
}
