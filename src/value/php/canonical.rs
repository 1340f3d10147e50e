//! Whether a value is written as PHP writes it already: one pass, nothing allocated.
//!
//! Says no also where it is not sure; the value is then written anew and comes out the same.

use super::{DEEPEST, Form, keys, number, text};

/// Returns whether [`encode`](super::encode) would give `value` back unchanged. `keys` is scratch memory.
pub(super) fn is(value: &[u8], form: Form, keys: &mut Vec<u64>) -> bool {
    // Messages are not many bytes on the path of a restore, and no column is written with their flags.
    if form == Form::Message || !matches!(value.first(), Some(b'{' | b'[')) {
        return false;
    }
    keys.clear();
    let mut look = Look { value, form, keys };
    look.any(0, 0) == Some(value.len())
}

struct Look<'a> {
    value: &'a [u8],
    form: Form,
    /// The hashes of the keys of every object that is open, the innermost last.
    keys: &'a mut Vec<u64>,
}

impl Look<'_> {
    /// Returns where the value at `at` ends, within `depth` objects and lists.
    fn any(&mut self, at: usize, depth: usize) -> Option<usize> {
        match *self.value.get(at)? {
            b'"' => Some(text::canonical_end(self.value, at + 1, self.form)? + 1),
            b'{' if depth < DEEPEST => self.object(at + 1, depth + 1),
            b'[' if depth < DEEPEST => self.list(at + 1, depth + 1),
            b't' => self.word(at, b"true"),
            b'f' => self.word(at, b"false"),
            b'n' => self.word(at, b"null"),
            b'-' | b'0'..=b'9' => self.number(at),
            _ => None,
        }
    }

    fn word<const N: usize>(&self, at: usize, word: &[u8; N]) -> Option<usize> {
        (self.value[at..].first_chunk() == Some(word)).then_some(at + N)
    }

    fn number(&self, at: usize) -> Option<usize> {
        // Most numbers are ids: up to 18 digits, which are written as they are.
        if self.value[at] > b'0' {
            let rest = &self.value[at + 1..];
            let more = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if more < 18 && !matches!(rest.get(more), Some(b'.' | b'e' | b'E')) {
                return Some(at + 1 + more);
            }
        }
        let token = number::token(self.value, at).ok()?;
        number::is_canonical(&self.value[at..token.end], token.integer).then_some(token.end)
    }

    fn list(&mut self, mut at: usize, depth: usize) -> Option<usize> {
        if self.value.get(at) == Some(&b']') {
            return Some(at + 1);
        }
        loop {
            at = self.any(at, depth)?;
            match *self.value.get(at)? {
                b',' => at += 1,
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// Also `None` for an object that might be a list, and for an empty one, which is.
    fn object(&mut self, mut at: usize, depth: usize) -> Option<usize> {
        let first = self.keys.len();
        loop {
            if self.value.get(at) != Some(&b'"') {
                return None;
            }
            let end = text::canonical_end(self.value, at + 1, self.form)?;
            let key = &self.value[at + 1..end];
            let maybe_list = self.keys.len() == first && key == b"0";
            let dropped = self.form == Form::Search && depth == 1 && key == b"_timestamp";
            if maybe_list || dropped || self.value.get(end + 1) != Some(&b':') {
                return None;
            }
            self.keys.push(keys::hash(key));
            at = self.any(end + 2, depth)?;
            match *self.value.get(at)? {
                b',' => at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        if keys::any_equal(&mut self.keys[first..]) {
            return None;
        }
        self.keys.truncate(first);
        Some(at + 1)
    }
}
