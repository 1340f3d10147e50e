//! Finds repeats as zlib's `deflate_fast` does at level 3.
//!
//! Of the places where the next three bytes occurred before, the 32 last ones are tried, and the longest repeat is
//! taken at once. zlib holds 64 KiB of its input; here the whole value is at hand, so only the effects of that are
//! kept: when the window moves, what lies before it is gone, its first byte included.

use super::{bits::Bits, block::Block};

const WINDOW: usize = 32 * 1024;
const SHORTEST: usize = 3;
const LONGEST: usize = 258;
/// zlib reads on when it has less than this before it.
const LOOKAHEAD: usize = LONGEST + SHORTEST + 1;
/// How far back a repeat may lie.
const FARTHEST: usize = WINDOW - LOOKAHEAD;
/// `memLevel` 9.
const HASHES: usize = 1 << 16;

/// zlib's settings of level 3.
const CHAIN: usize = 32;
const NICE: usize = 32;
const INSERTED: usize = 6;

/// Its memory; positions count on from value to value, so that none of it has to be cleared.
#[derive(Debug)]
pub(super) struct Deflate {
    /// By hash: the last position with it.
    head: Vec<u32>,
    /// By position within a window: the one before with the same hash.
    before: Vec<u32>,
    /// The position of the next value's first byte.
    origin: u32,
    block: Block,
}

impl Default for Deflate {
    fn default() -> Self {
        Self {
            head: vec![0; HASHES],
            before: vec![0; WINDOW],
            origin: 0,
            block: Block::default(),
        }
    }
}

/// What zlib's window holds of a value.
struct Window {
    /// Its first byte, which is never found.
    base: usize,
    /// One past its last byte.
    filled: usize,
}

impl Window {
    /// Reads on, and moves on where the first half is not needed any more.
    fn fill(&mut self, at: usize, total: usize) {
        while self.filled - at < LOOKAHEAD {
            let mut room = 2 * WINDOW - (self.filled - self.base);
            if at - self.base >= WINDOW + FARTHEST {
                self.base += WINDOW;
                room += WINDOW;
            }
            if self.filled == total {
                return;
            }
            self.filled += room.min(total - self.filled);
        }
    }
}

impl Deflate {
    /// Appends `value` as one deflate stream. It is shorter than 4 GiB.
    pub fn write(&mut self, value: &[u8], out: &mut Vec<u8>) {
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        if self.origin.checked_add(len).is_none() {
            self.head.fill(0);
            self.origin = 0;
        }
        let mut bits = Bits::new(out);
        let mut window = Window { base: 0, filled: 0 };
        let (mut at, mut block_start) = (0, 0);
        self.block.clear();
        loop {
            window.fill(at, value.len());
            if at == value.len() {
                break;
            }
            let found = (value.len() - at >= SHORTEST)
                .then(|| self.insert(value, at))
                .and_then(|last| self.longest(value, at, last, window.base));
            if let Some((length, distance)) = found {
                self.block.repeat(length, distance);
                let end = at + length;
                if length <= INSERTED && value.len() - end >= SHORTEST {
                    for inner in at + 1..end {
                        self.insert(value, inner);
                    }
                }
                at = end;
            } else {
                self.block.literal(value[at]);
                at += 1;
            }
            if self.block.is_full() {
                let data = (block_start >= window.base).then(|| &value[block_start..at]);
                self.block.write(data, at - block_start, false, &mut bits);
                block_start = at;
            }
        }
        let data = (block_start >= window.base).then(|| &value[block_start..]);
        self.block.write(data, at - block_start, true, &mut bits);
        bits.align();
        self.origin = self.origin.saturating_add(len);
    }

    /// Notes the three bytes at `at`; returns the last position before with the same hash.
    fn insert(&mut self, value: &[u8], at: usize) -> u32 {
        let [a, b, c] = [value[at], value[at + 1], value[at + 2]].map(usize::from);
        let head = &mut self.head[(a << 12 ^ b << 6 ^ c) & (HASHES - 1)];
        let position = self.origin + offset(at);
        let last = std::mem::replace(head, position);
        self.before[position as usize % WINDOW] = last;
        last
    }

    /// Returns length and distance of the longest repeat of what is at `at`, beginning with the one at `candidate`.
    fn longest(
        &self,
        value: &[u8],
        at: usize,
        candidate: u32,
        base: usize,
    ) -> Option<(usize, usize)> {
        let here = self.origin + offset(at);
        let oldest = self.origin + offset(base);
        let farthest = offset(FARTHEST);
        if candidate <= oldest || here - candidate > farthest {
            return None;
        }
        let limit = oldest.max(here.saturating_sub(farthest));
        let ahead = &value[at..value.len().min(at + LONGEST)];
        let nice = NICE.min(ahead.len());
        let (mut best, mut distance) = (SHORTEST - 1, 0);
        let mut candidate = candidate;
        for _ in 0..CHAIN {
            let there = &value[(candidate - self.origin) as usize..];
            if there[best] == ahead[best] && there[best - 1] == ahead[best - 1] {
                let length = common(there, ahead);
                if length > best {
                    (best, distance) = (length, (here - candidate) as usize);
                    if length >= nice {
                        break;
                    }
                }
            }
            candidate = self.before[candidate as usize % WINDOW];
            if candidate <= limit {
                break;
            }
        }
        (best >= SHORTEST).then_some((best, distance))
    }
}

/// Returns how many bytes are equal from the start, at most all of `ahead`, which is the shorter one.
fn common(there: &[u8], ahead: &[u8]) -> usize {
    let (words, _) = ahead.as_chunks::<8>();
    for ((at, word), other) in (0..).step_by(8).zip(words).zip(there.as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*word) ^ u64::from_le_bytes(*other);
        if differ != 0 {
            return at + differ.trailing_zeros() as usize / 8;
        }
    }
    let done = words.len() * 8;
    let rest = there[done..].iter().zip(&ahead[done..]);
    done + rest.take_while(|(a, b)| a == b).count()
}

/// A place in a value, which is shorter than 4 GiB.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
