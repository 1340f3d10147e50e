//! Bits into bytes, the lowest first.

/// Appends to `out`.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    pub out: &'a mut Vec<u8>,
    waiting: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            waiting: 0,
            count: 0,
        }
    }

    /// Appends the lowest `count` bits of `value`, at most 16; the others are zero.
    pub fn put(&mut self, value: u16, count: u8) {
        self.waiting |= u64::from(value) << self.count;
        self.count += u32::from(count);
        if self.count >= 32 {
            let [a, b, c, d, ..] = self.waiting.to_le_bytes();
            self.out.extend_from_slice(&[a, b, c, d]);
            self.waiting >>= 32;
            self.count -= 32;
        }
    }

    /// Goes on with a whole byte.
    pub fn align(&mut self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out
            .extend_from_slice(&self.waiting.to_le_bytes()[..bytes]);
        (self.waiting, self.count) = (0, 0);
    }
}
