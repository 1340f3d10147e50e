//! Reads JSON as `json_decode` does and writes it as `json_encode` does, in one pass and without a tree.

use super::{DEEPEST, Form, keys, number, regroup, text};
use crate::value::Broken;

/// Appends the document `input` to `out` in `form`. `keys` is scratch memory; both are empty.
///
/// # Errors
///
/// [`Broken`] where PHP would decode no array. What is in `out` then is of no use.
pub(super) fn document(
    input: &[u8],
    form: Form,
    out: &mut Vec<u8>,
    keys: &mut Vec<u64>,
) -> Result<(), Broken> {
    let mut pass = Pass {
        input,
        at: 0,
        form,
        out,
        keys,
    };
    let Some(first) = pass.next_byte() else {
        return Err(Broken::Empty);
    };
    pass.value(0)?;
    match pass.next_byte() {
        Some(_) => Err(Broken::Syntax(pass.at)),
        None if !matches!(first, b'{' | b'[') => Err(Broken::Scalar),
        None => Ok(()),
    }
}

struct Pass<'a> {
    input: &'a [u8],
    at: usize,
    form: Form,
    out: &'a mut Vec<u8>,
    /// The hashes of the keys of every object that is open, the innermost last.
    keys: &'a mut Vec<u64>,
}

impl Pass<'_> {
    /// Goes over white space and returns the byte behind it, which is not taken.
    fn next_byte(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.input.get(self.at) {
            self.at += 1;
        }
        self.input.get(self.at).copied()
    }

    /// Takes `wanted` after white space.
    fn expect(&mut self, wanted: u8) -> Result<(), Broken> {
        if self.next_byte() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        Err(self.surprise())
    }

    /// What is here cannot be here.
    const fn surprise(&self) -> Broken {
        if self.at < self.input.len() {
            Broken::Syntax(self.at)
        } else {
            Broken::Ended(self.input.len())
        }
    }

    /// Writes one value, within `depth` objects and lists. Recursion ends with [`DEEPEST`].
    fn value(&mut self, depth: usize) -> Result<(), Broken> {
        match self.next_byte() {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') if depth == DEEPEST => Err(Broken::TooDeep(self.at)),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.list(depth + 1),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.surprise()),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Broken> {
        let rest = &self.input[self.at..];
        if !rest.starts_with(word) {
            self.at += rest.iter().zip(word).take_while(|(a, b)| a == b).count();
            return Err(self.surprise());
        }
        self.at += word.len();
        self.out.extend_from_slice(word);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Broken> {
        let token = number::token(self.input, self.at).map_err(|at| {
            self.at = at;
            self.surprise()
        })?;
        let number = &self.input[self.at..token.end];
        // In Redis it was read once more from the message, as an integer.
        let negative_zero = self.form == Form::Message;
        number::write(number, token.integer, negative_zero, self.out);
        self.at = token.end;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Broken> {
        self.at = text::write(self.input, self.at, self.form, self.out)?;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(), Broken> {
        self.at += 1;
        self.out.push(b'[');
        if self.next_byte() == Some(b']') {
            self.at += 1;
            self.out.push(b']');
            return Ok(());
        }
        loop {
            self.value(depth)?;
            let next = self.next_byte();
            match next {
                Some(b',') => self.out.push(b','),
                Some(b']') => self.out.push(b']'),
                _ => return Err(self.surprise()),
            }
            self.at += 1;
            if next == Some(b']') {
                return Ok(());
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Broken> {
        let (start, first_key) = (self.out.len(), self.keys.len());
        let mut is_list = true;
        self.at += 1;
        self.out.push(b'{');
        let mut more = self.next_byte() != Some(b'}');
        if !more {
            self.at += 1;
        }
        while more {
            is_list &= self.member(start, first_key, depth)?;
            match self.next_byte() {
                Some(b',') => {}
                Some(b'}') => more = false,
                _ => return Err(self.surprise()),
            }
            self.at += 1;
        }
        let doubled = keys::any_equal(&mut self.keys[first_key..]);
        if self.keys.len() == first_key {
            self.out.truncate(start);
            self.out.extend_from_slice(b"[]");
            return Ok(());
        }
        self.keys.truncate(first_key);
        self.out.push(b'}');
        if is_list || doubled {
            regroup::object(self.out, start);
        }
        Ok(())
    }

    /// Writes one member of the object that begins at `start`; returns whether its key continues a list.
    fn member(&mut self, start: usize, first_key: usize, depth: usize) -> Result<bool, Broken> {
        let member = self.out.len();
        if member > start + 1 {
            self.out.push(b',');
        }
        let key_at = self.out.len();
        if self.next_byte() != Some(b'"') {
            return Err(self.surprise());
        }
        self.string()?;
        let key = &self.out[key_at..];
        let dropped = self.form == Form::Search && depth == 1 && key == b"\"_timestamp\"";
        let in_order = keys::is_index(key, self.keys.len() - first_key);
        if !dropped {
            self.keys.push(keys::hash(key));
        }
        self.expect(b':')?;
        self.out.push(b':');
        self.value(depth)?;
        if dropped {
            self.out.truncate(member);
        }
        Ok(in_order || dropped)
    }
}
