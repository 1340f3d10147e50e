//! Huffman codes as zlib makes them: among trees of equal cost the shallower one, by its own heap.

/// Most nodes of a tree: 286 literals and lengths, and what joins them.
const NODES: usize = 2 * 286 + 1;

/// What a tree is for.
#[derive(Debug)]
pub(super) struct Kind {
    /// How many symbols there are.
    pub symbols: usize,
    /// The longest code allowed.
    pub longest: usize,
    /// Bits that follow the codes from `first_extra` on.
    pub extra: &'static [u8],
    /// The first symbol that bits may follow.
    pub first_extra: usize,
    /// Lengths of the codes that need no tree in the stream, if there are such.
    pub fixed: &'static [u8],
}

/// A tree over how often each symbol occurs.
#[derive(Debug)]
pub(super) struct Tree {
    kind: &'static Kind,
    /// How often each symbol occurs; of joined nodes the sum.
    pub frequency: [u32; NODES],
    /// Bits of each code; 0 for symbols that do not occur.
    pub length: [u8; NODES],
    /// Codes with their first bit lowest.
    pub code: [u16; NODES],
    /// The last symbol that occurs.
    pub last: usize,
}

/// The bits that a block's symbols would take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// With the codes of its own trees.
    pub own: i64,
    /// With the fixed codes.
    pub fixed: i64,
}

impl Tree {
    pub const fn new(kind: &'static Kind) -> Self {
        Self {
            kind,
            frequency: [0; NODES],
            length: [0; NODES],
            code: [0; NODES],
            last: 0,
        }
    }

    /// Forgets what occurred.
    pub fn clear(&mut self) {
        self.frequency[..self.kind.symbols].fill(0);
    }

    /// Makes the codes, and adds what the symbols cost.
    pub fn build(&mut self, cost: &mut Cost) {
        let mut heap = Heap::default();
        for symbol in 0..self.kind.symbols {
            self.length[symbol] = 0;
            if self.frequency[symbol] > 0 {
                heap.len += 1;
                heap.nodes[heap.len] = node(symbol);
                self.last = symbol;
            }
        }
        if heap.len == 0 {
            // As zlib's -1.
            self.last = usize::MAX;
        }
        // A tree has two codes at least.
        while heap.len < 2 {
            let symbol = match self.last {
                usize::MAX | 0 | 1 => {
                    self.last = self.last.wrapping_add(1);
                    self.last
                }
                _ => 0,
            };
            heap.len += 1;
            heap.nodes[heap.len] = node(symbol);
            self.frequency[symbol] = 1;
            cost.own -= 1;
            cost.fixed -= self.fixed(symbol);
        }
        let (parents, order) = self.join(heap);
        let lengths = self.measure(&parents, &order, cost);
        assign(&self.length, &lengths, self.last, &mut self.code);
    }

    /// Joins the two rarest nodes until one is left; returns each node's parent, and the nodes with the root first.
    fn join(&mut self, mut heap: Heap) -> ([u16; NODES], Vec<u16>) {
        let mut parents = [0; NODES];
        let mut taken = Vec::with_capacity(NODES);
        for at in (1..=heap.len / 2).rev() {
            heap.sink(&self.frequency, at);
        }
        let mut next = self.kind.symbols;
        while heap.len >= 2 {
            let one = heap.nodes[1];
            heap.nodes[1] = heap.nodes[heap.len];
            heap.len -= 1;
            heap.sink(&self.frequency, 1);
            let other = heap.nodes[1];
            taken.extend([one, other]);
            let (a, b) = (usize::from(one), usize::from(other));
            self.frequency[next] = self.frequency[a] + self.frequency[b];
            heap.depth[next] = heap.depth[a].max(heap.depth[b]) + 1;
            parents[a] = node(next);
            parents[b] = node(next);
            heap.nodes[1] = node(next);
            next += 1;
            heap.sink(&self.frequency, 1);
        }
        taken.push(heap.nodes[1]);
        taken.reverse();
        (parents, taken)
    }

    /// Sets the lengths, none above the longest; returns how many codes have each.
    fn measure(&mut self, parents: &[u16; NODES], order: &[u16], cost: &mut Cost) -> [u16; 16] {
        let longest = self.kind.longest;
        let mut counts = [0_u16; 16];
        let mut overflow = 0_i32;
        for (place, node) in order.iter().map(|node| usize::from(*node)).enumerate() {
            let mut bits = match place {
                0 => 0,
                _ => usize::from(self.length[usize::from(parents[node])]) + 1,
            };
            if bits > longest {
                bits = longest;
                overflow += 1;
            }
            self.length[node] = byte(bits);
            if node > self.last || place == 0 {
                continue;
            }
            counts[bits] += 1;
            let extra = self.extra(node);
            let frequency = i64::from(self.frequency[node]);
            cost.own += frequency * (i64::from(byte(bits)) + extra);
            // Runs are only sent with a block's own trees.
            if !self.kind.fixed.is_empty() {
                cost.fixed += frequency * (self.fixed(node) + extra);
            }
        }
        if overflow > 0 {
            self.shorten(order, &mut counts, overflow, cost);
        }
        counts
    }

    /// Moves leaves down and others up until no code is too long.
    fn shorten(
        &mut self,
        order: &[u16],
        counts: &mut [u16; 16],
        mut overflow: i32,
        cost: &mut Cost,
    ) {
        let longest = self.kind.longest;
        while overflow > 0 {
            let mut bits = longest - 1;
            while counts[bits] == 0 {
                bits -= 1;
            }
            counts[bits] -= 1;
            counts[bits + 1] += 2;
            counts[longest] -= 1;
            overflow -= 2;
        }
        // The rarest leaves get the longest codes.
        let mut leaves = order
            .iter()
            .rev()
            .map(|node| usize::from(*node))
            .filter(|node| *node <= self.last);
        for bits in (1..=longest).rev() {
            for leaf in leaves.by_ref().take(usize::from(counts[bits])) {
                let longer = i64::from(byte(bits)) - i64::from(self.length[leaf]);
                cost.own += longer * i64::from(self.frequency[leaf]);
                self.length[leaf] = byte(bits);
            }
        }
    }

    fn extra(&self, symbol: usize) -> i64 {
        symbol
            .checked_sub(self.kind.first_extra)
            .and_then(|at| self.kind.extra.get(at))
            .map_or(0, |bits| i64::from(*bits))
    }

    fn fixed(&self, symbol: usize) -> i64 {
        self.kind
            .fixed
            .get(symbol)
            .map_or(0, |bits| i64::from(*bits))
    }
}

/// Nodes with the rarest at 1.
struct Heap {
    nodes: [u16; NODES],
    depth: [u8; NODES],
    len: usize,
}

impl Default for Heap {
    fn default() -> Self {
        Self {
            nodes: [0; NODES],
            depth: [0; NODES],
            len: 0,
        }
    }
}

impl Heap {
    /// Moves the node at `at` down to where both below are larger.
    fn sink(&mut self, frequency: &[u32; NODES], mut at: usize) {
        let smaller = |a: u16, b: u16| {
            let (a, b) = (usize::from(a), usize::from(b));
            (frequency[a], self.depth[a]) <= (frequency[b], self.depth[b])
        };
        let moved = self.nodes[at];
        let mut below = at * 2;
        while below <= self.len {
            if below < self.len && smaller(self.nodes[below + 1], self.nodes[below]) {
                below += 1;
            }
            if smaller(moved, self.nodes[below]) {
                break;
            }
            self.nodes[at] = self.nodes[below];
            (at, below) = (below, below * 2);
        }
        self.nodes[at] = moved;
    }
}

/// Gives each symbol up to `last` its code, the shorter and lower ones first.
pub(super) fn assign(length: &[u8], counts: &[u16; 16], last: usize, codes: &mut [u16]) {
    let mut next = [0_u16; 16];
    let mut code = 0_u16;
    for bits in 1..16 {
        code = (code + counts[bits - 1]) << 1;
        next[bits] = code;
    }
    for symbol in 0..=last {
        let bits = length[symbol];
        if bits > 0 {
            let next = &mut next[usize::from(bits)];
            codes[symbol] = next.reverse_bits() >> (16 - bits);
            *next += 1;
        }
    }
}

fn node(symbol: usize) -> u16 {
    // A tree has 573 nodes at most.
    u16::try_from(symbol).unwrap_or_default()
}

fn byte(bits: usize) -> u8 {
    // A code has 15 bits at most.
    u8::try_from(bits).unwrap_or_default()
}
