//! The rare object that PHP does not write as it came: one with equal keys, or one that is a list.

use std::{collections::HashMap, ops::Range};

use super::keys;

/// One member in the written form: where its key stands, quotes included, and its value.
struct Member {
    key: Range<usize>,
    value: Range<usize>,
}

/// Writes the object from `start` to the end of `out` anew: of equal keys the last value at the first one's place; and
/// as a list, if its keys then are `0..n` in order.
///
/// What PHP wrote has one spelling for each key, so equal bytes are equal keys.
pub(super) fn object(out: &mut Vec<u8>, start: usize) {
    let old = out.split_off(start);
    let members = members(&old);
    let is_list = members
        .iter()
        .enumerate()
        .all(|(index, member)| keys::is_index(&old[member.key.clone()], index));
    let (open, close) = if is_list { (b'[', b']') } else { (b'{', b'}') };
    out.push(open);
    for (index, member) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if !is_list {
            out.extend_from_slice(&old[member.key]);
            out.push(b':');
        }
        out.extend_from_slice(&old[member.value]);
    }
    out.push(close);
}

fn members(object: &[u8]) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    let mut places = HashMap::new();
    // Behind the opening brace; each member ends with a comma or the closing brace.
    let mut at = 1;
    while at < object.len() {
        let key = at..string_end(object, at);
        let value = key.end + 1..value_end(object, key.end + 1);
        at = value.end + 1;
        let place = *places.entry(&object[key.clone()]).or_insert(members.len());
        match members.get_mut(place) {
            Some(member) => member.value = value,
            None => members.push(Member { key, value }),
        }
    }
    members
}

/// Returns where the string with its opening quote at `at` ends.
fn string_end(written: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = written.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    written.len()
}

/// Returns where the value at `at` ends.
fn value_end(written: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = written.get(at) {
        match byte {
            b'"' => {
                at = string_end(written, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    written.len()
}
