//! gzip as PHP's `gzencode($data, 3)` writes it, byte for byte.
//!
//! A deflate stream is not determined by its data: which repeats are found and where a block ends is the packer's
//! choice. Here every choice is the one that zlib (1.2.11 to 1.3) makes at level 3 with the most memory (`memLevel` 9),
//! which is how PHP asks it. That rules out what else there is: flate2 asks stock zlib for `memLevel` 8, which differs
//! from some 30 kB on, and miniz_oxide and zlib-rs choose by themselves. zlib's own functions could only be called by
//! unsafe code. So this is zlib's algorithm (J. Gailly and M. Adler, deflate.c and trees.c) written anew in Rust, for
//! this one setting; `tests/services/php.rs` holds it against PHP.
//!
//! [`deflate`] finds repeats, [`block`] writes them, [`tree`] makes the codes.

mod bits;
mod block;
mod deflate;
mod tree;

use deflate::Deflate;

/// Values of up to this many bytes are not packed (`RedisCompressionAdapter`).
pub const LONGEST_UNPACKED: usize = 200;

/// No name, no time, no hint; written on Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// Scratch memory above this is given back after a value.
const KEPT: usize = 256 * 1024;

/// Packs values, keeping its memory (about half a MiB) from value to value.
#[derive(Debug, Default)]
pub struct Packer {
    // Made with the first value that is long enough.
    deflate: Option<Box<Deflate>>,
    out: Vec<u8>,
}

impl Packer {
    /// Returns `value` as the shop would store it: packed, unless it is short.
    pub fn pack<'a>(&'a mut self, value: &'a [u8]) -> &'a [u8] {
        // Readers take either. gzip's own length has 32 bits, and no column of MariaDB holds more.
        if value.len() <= LONGEST_UNPACKED || u32::try_from(value.len()).is_err() {
            return value;
        }
        self.out.clear();
        self.out.extend_from_slice(&HEADER);
        self.deflate
            .get_or_insert_default()
            .write(value, &mut self.out);
        let mut crc = flate2::Crc::new();
        crc.update(value);
        self.out.extend_from_slice(&crc.sum().to_le_bytes());
        self.out.extend_from_slice(&crc.amount().to_le_bytes());
        &self.out
    }

    /// Gives back scratch memory that only a long value needed.
    pub fn trim(&mut self) {
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut out)
            .unwrap();
        out
    }

    #[test]
    fn the_bytes_are_those_of_php() {
        // php -r 'echo gzencode(str_repeat("a", 2150), 3);'
        let expected = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c\x1c\x05\xa3\x21\x30\x1a\x02\xa3\x21\x30\
            \x1a\x02\xa3\x21\x30\x1a\x02\xa3\x21\x40\x8b\x10\x00\x00\xde\x67\xe6\x3c\x66\x08\x00\x00";
        assert_eq!(Packer::default().pack(&[b'a'; 2150]), expected);
    }

    #[test]
    fn what_was_packed_comes_back_whatever_was_packed_before() {
        let mut packer = Packer::default();
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..60_usize {
            let words = [2, 30, 4000][round % 3];
            let len = 201 + random.usize(..[400, 9_000, 200_000][round / 3 % 3]);
            let value: Vec<u8> = (0..len)
                .map(|_| u8::try_from(random.usize(..words) % 251).unwrap())
                .collect();
            assert!(unpacked(packer.pack(&value)) == value, "round {round}");
        }
    }

    #[test]
    fn up_to_200_bytes_stay_as_they_are() {
        let mut packer = Packer::default();
        assert_eq!(packer.pack(&[b'a'; 200]), [b'a'; 200]);
        assert_eq!(packer.pack(&[b'a'; 201])[..3], [0x1f, 0x8b, 8]);
    }
}
