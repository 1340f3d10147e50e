//! One block: its symbols are counted while they are found, and written in whichever form is the shortest.

use super::{
    bits::Bits,
    tree::{Cost, Kind, Tree, assign},
};

/// A block ends with this many symbols: one less than the 32,768 that zlib keeps at `memLevel` 9.
const MOST_SYMBOLS: usize = 32_767;

const END: usize = 256;

const EXTRA_LENGTH: [u8; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const EXTRA_DISTANCE: [u8; 30] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
const EXTRA_RUN: [u8; 19] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7];
/// The order in which the lengths of the codes for lengths are sent (RFC 1951, 3.2.7).
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Fixed lengths of literals and lengths (RFC 1951, 3.2.6).
const FIXED: [u8; 288] = {
    let mut lengths = [8; 288];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    lengths
};

static LITERALS: Kind = Kind {
    symbols: 286,
    longest: 15,
    extra: &EXTRA_LENGTH,
    first_extra: 257,
    fixed: &FIXED,
};
static DISTANCES: Kind = Kind {
    symbols: 30,
    longest: 15,
    extra: &EXTRA_DISTANCE,
    first_extra: 0,
    fixed: &[5; 30],
};
static RUNS: Kind = Kind {
    symbols: 19,
    longest: 7,
    extra: &EXTRA_RUN,
    first_extra: 0,
    fixed: &[],
};

/// A literal, or a repeat with its length less 3 and its distance.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    /// 0 for a literal.
    distance: u16,
    byte: u8,
}

/// The block that is being filled.
#[derive(Debug)]
pub(super) struct Block {
    symbols: Vec<Symbol>,
    literals: Tree,
    distances: Tree,
    runs: Tree,
    /// Codes of [`FIXED`].
    fixed_codes: [u16; 288],
    /// By length less 3: the code less 257.
    length_codes: [u8; 256],
    /// By code: the length less 3 that it begins with.
    length_bases: [u8; 29],
}

impl Default for Block {
    fn default() -> Self {
        let mut counts = [0; 16];
        for bits in FIXED {
            counts[usize::from(bits)] += 1;
        }
        let mut fixed_codes = [0; 288];
        assign(&FIXED, &counts, 287, &mut fixed_codes);
        let (mut length_codes, mut length_bases) = ([0; 256], [0; 29]);
        let mut length = 0;
        for (code, extra) in (0..28).zip(EXTRA_LENGTH) {
            length_bases[usize::from(code)] = u8::try_from(length).unwrap_or_default();
            for _ in 0..1 << extra {
                length_codes[length] = code;
                length += 1;
            }
        }
        // 258 has a code of its own, although the one before would reach it.
        length_codes[255] = 28;
        length_bases[28] = 255;
        Self {
            symbols: Vec::with_capacity(MOST_SYMBOLS),
            literals: Tree::new(&LITERALS),
            distances: Tree::new(&DISTANCES),
            runs: Tree::new(&RUNS),
            fixed_codes,
            length_codes,
            length_bases,
        }
    }
}

impl Block {
    /// Appends a byte.
    pub fn literal(&mut self, byte: u8) {
        self.literals.frequency[usize::from(byte)] += 1;
        self.symbols.push(Symbol { distance: 0, byte });
    }

    /// Appends a repeat of 3 to 258 bytes from 1 to 32,768 bytes back.
    pub fn repeat(&mut self, length: usize, distance: usize) {
        // Both are within these bounds, see `deflate`.
        let byte = u8::try_from(length - 3).unwrap_or_default();
        let distance = u16::try_from(distance).unwrap_or_default();
        let code = 257 + usize::from(self.length_codes[usize::from(byte)]);
        self.literals.frequency[code] += 1;
        self.distances.frequency[distance_code(distance).0] += 1;
        self.symbols.push(Symbol { distance, byte });
    }

    /// Returns whether the block has to be written now.
    pub fn is_full(&self) -> bool {
        self.symbols.len() == MOST_SYMBOLS
    }

    /// Forgets all symbols.
    pub fn clear(&mut self) {
        self.symbols.clear();
        self.literals.clear();
        self.distances.clear();
    }

    /// Writes the block and begins the next one. `data` is what the symbols stand for, where zlib still has it.
    pub fn write(
        &mut self,
        data: Option<&[u8]>,
        stored_len: usize,
        last: bool,
        bits: &mut Bits<'_>,
    ) {
        self.literals.frequency[END] = 1;
        let mut cost = Cost::default();
        self.literals.build(&mut cost);
        self.distances.build(&mut cost);
        let runs: Vec<Run> = [&self.literals, &self.distances]
            .into_iter()
            .flat_map(|tree| lengths_as_runs(&tree.length[..=tree.last]))
            .collect();
        self.runs.clear();
        for run in &runs {
            self.runs.frequency[usize::from(run.symbol)] += 1;
        }
        self.runs.build(&mut cost);
        let sent = ORDER
            .iter()
            .rposition(|symbol| self.runs.length[*symbol] > 0)
            .map_or(4, |last| (last + 1).max(4));
        cost.own += 3 * i64::try_from(sent).unwrap_or_default() + 5 + 5 + 4;
        let bytes = |bits: i64| usize::try_from((bits + 3 + 7) >> 3).unwrap_or_default();
        let (own, fixed) = (bytes(cost.own), bytes(cost.fixed));
        let shortest = own.min(fixed);
        match data {
            Some(data) if stored_len + 4 <= shortest => store(data, last, bits),
            _ if fixed == shortest => {
                bits.put(0b010 | u16::from(last), 3);
                self.symbols(true, bits);
            }
            _ => {
                bits.put(0b100 | u16::from(last), 3);
                self.send_trees(&runs, sent, bits);
                self.symbols(false, bits);
            }
        }
        self.clear();
    }

    fn send_trees(&self, runs: &[Run], sent: usize, bits: &mut Bits<'_>) {
        let count = |n: usize| u16::try_from(n).unwrap_or_default();
        bits.put(count(self.literals.last + 1 - 257), 5);
        bits.put(count(self.distances.last), 5);
        bits.put(count(sent - 4), 4);
        for symbol in &ORDER[..sent] {
            bits.put(u16::from(self.runs.length[*symbol]), 3);
        }
        for run in runs {
            let symbol = usize::from(run.symbol);
            bits.put(self.runs.code[symbol], self.runs.length[symbol]);
            bits.put(u16::from(run.more), EXTRA_RUN[symbol]);
        }
    }

    fn symbols(&self, fixed: bool, bits: &mut Bits<'_>) {
        let (codes, lengths): (&[u16], &[u8]) = if fixed {
            (&self.fixed_codes, &FIXED)
        } else {
            (&self.literals.code, &self.literals.length)
        };
        for Symbol { distance, byte } in &self.symbols {
            if *distance == 0 {
                bits.put(codes[usize::from(*byte)], lengths[usize::from(*byte)]);
                continue;
            }
            let code = usize::from(self.length_codes[usize::from(*byte)]);
            bits.put(codes[257 + code], lengths[257 + code]);
            bits.put(
                u16::from(byte - self.length_bases[code]),
                EXTRA_LENGTH[code],
            );
            let (code, rest) = distance_code(*distance);
            if fixed {
                bits.put(node_reversed(code), 5);
            } else {
                bits.put(self.distances.code[code], self.distances.length[code]);
            }
            bits.put(rest, EXTRA_DISTANCE[code]);
        }
        bits.put(codes[END], lengths[END]);
    }
}

/// Writes `data` as it is.
fn store(data: &[u8], last: bool, bits: &mut Bits<'_>) {
    // A block of 32,767 symbols that cannot be packed is shorter than 64 KiB.
    let len = u16::try_from(data.len()).unwrap_or_default();
    bits.put(u16::from(last), 3);
    bits.align();
    bits.out.extend_from_slice(&len.to_le_bytes());
    bits.out.extend_from_slice(&(!len).to_le_bytes());
    bits.out.extend_from_slice(data);
}

/// Returns the code of a distance, and what its extra bits say.
fn distance_code(distance: u16) -> (usize, u16) {
    let from_zero = distance - 1;
    if from_zero < 4 {
        return (usize::from(from_zero), 0);
    }
    // The first bit chooses a pair of codes, the second one of the pair.
    let bits = from_zero.ilog2();
    let second = from_zero >> (bits - 1) & 1;
    let rest = from_zero & ((1 << (bits - 1)) - 1);
    (2 * bits as usize + usize::from(second), rest)
}

/// Returns the fixed code of a distance code.
fn node_reversed(code: usize) -> u16 {
    u16::try_from(code).unwrap_or_default().reverse_bits() >> 11
}

/// A length of a code, or a run of equal ones.
struct Run {
    /// 0 to 15: that length; 16: the one before, again; 17 and 18: zeros.
    symbol: u8,
    /// The extra bits.
    more: u8,
}

/// Returns the lengths of a tree's codes as they are sent.
fn lengths_as_runs(lengths: &[u8]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut push = |symbol: u8, more: usize| {
        let more = u8::try_from(more).unwrap_or_default();
        runs.push(Run { symbol, more });
    };
    let mut before = None;
    let mut rest = lengths;
    while let Some(&length) = rest.first() {
        // zlib stops counting at the longest run of its kind, and a run that goes on begins anew.
        let most = match length {
            0 => 138,
            _ if before == Some(length) => 6,
            _ => 7,
        };
        let count = rest
            .iter()
            .take(most)
            .take_while(|next| **next == length)
            .count();
        let least = if length == 0 || before == Some(length) {
            3
        } else {
            4
        };
        match (length, count) {
            _ if count < least => (0..count).for_each(|_| push(length, 0)),
            (0, ..=10) => push(17, count - 3),
            (0, _) => push(18, count - 11),
            _ if before == Some(length) => push(16, count - 3),
            _ => {
                push(length, 0);
                push(16, count - 4);
            }
        }
        before = Some(length);
        rest = &rest[count..];
    }
    runs
}
