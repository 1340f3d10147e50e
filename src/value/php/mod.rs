//! JSON exactly as PHP writes it after it read it, without a tree.
//!
//! A shop's own synchronisation decodes the `data` column into PHP arrays and encodes them again: once for the message,
//! and once more where the message is consumed. `{}` becomes `[]`, an object with the keys `0..n` in order becomes a
//! list, of equal keys the last value stands at the first one's place, numbers and strings take PHP's own spelling.
//! Rows that PHP wrote look like that already: [`canonical`] sees it in one pass over the bytes, and they are handed on
//! as they are. The others are written anew by [`encode`], also in one pass: an object is written as it comes, and only
//! one that turns out to be a list or to have equal keys is put together again, from its spans in the output
//! ([`regroup`]).
//!
//! Held against PHP itself by `tests/services/php.rs`.

mod canonical;
mod encode;
mod keys;
mod number;
mod regroup;
mod text;

use super::Broken;
#[cfg(test)]
use super::Column;

/// Objects and lists within each other that `json_decode` reads with its usual limit of 512.
pub const DEEPEST: usize = 511;

/// Scratch memory above this is given back after a value: one long row must not stay in memory.
const KEPT: usize = 256 * 1024;

/// Which of PHP's writings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Inside a message of the queue: `JSON_HEX_TAG | JSON_HEX_APOS | JSON_HEX_AMP | JSON_HEX_QUOT |
    /// JSON_PARTIAL_OUTPUT_ON_ERROR`.
    Message,
    /// In Redis: the message's value decoded, and encoded without flags.
    Storage,
    /// In a search index: the message's value decoded, `_timestamp` taken out, encoded with
    /// `JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION`.
    Search,
}

/// Appends `text` as PHP writes a string in `form`, with its quotes.
pub fn string(text: &str, form: Form, out: &mut Vec<u8>) {
    text::quoted(text, form, out);
}

/// Writes values in one [`Form`]. Keeps its scratch memory from value to value.
#[derive(Debug)]
pub struct Json {
    form: Form,
    out: Vec<u8>,
    keys: Vec<u64>,
}

impl Json {
    /// Returns a writer of `form`.
    #[must_use]
    pub const fn new(form: Form) -> Self {
        Self {
            form,
            out: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Returns `value` as PHP would write it: `value` itself where it is written so already.
    ///
    /// # Errors
    ///
    /// [`Broken`] where PHP would decode no array: broken or too deeply nested JSON, no UTF-8, scalars.
    pub fn encode<'a>(&'a mut self, value: &'a [u8]) -> Result<&'a [u8], Broken> {
        if canonical::is(value, self.form, &mut self.keys) {
            return Ok(value);
        }
        self.out.clear();
        self.keys.clear();
        encode::document(value, self.form, &mut self.out, &mut self.keys)
            .map_err(|broken| broken.of_length(value.len()))?;
        Ok(&self.out)
    }

    /// Gives back scratch memory that only a long value needed.
    pub fn trim(&mut self) {
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        if self.keys.capacity() > KEPT / size_of::<u64>() {
            self.keys = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
