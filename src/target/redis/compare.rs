//! What Redis holds under the keys of a chunk, compared with what the writer would have stored there.
//!
//! ```text
//! STRLEN key ...   -> other lengths differ and are not read, so that no answer is longer than the rows it is about
//! MGET key ...     -> the rest, byte by byte
//! ```

use ::redis::{Cmd, Pipeline, Value};

use super::server::Server;
use crate::{
    chunk::{Chunk, Row},
    error::EdgeError,
    target::Stored,
};

/// Most keys of one question.
const KEYS: usize = 1_000;

/// Most bytes of values that one answer brings, unless a single value is larger.
const BYTES: usize = 512 * 1024;

/// Returns what is stored for each row.
pub(super) async fn compare(
    server: &Server,
    prefix: &[u8],
    chunk: &Chunk,
) -> Result<Vec<Stored>, EdgeError> {
    let rows: Vec<Row<'_>> = chunk.rows().collect();
    let mut found = vec![Stored::Differs; rows.len()];
    let mut equal = Vec::new();
    for (part, first) in rows.chunks(KEYS).zip((0..).step_by(KEYS)) {
        let mut lengths = Pipeline::with_capacity(part.len());
        // A key of another type has no length: that is an answer, not a failure.
        lengths.ignore_errors();
        for row in part {
            lengths.cmd("STRLEN").arg([prefix, row.key].concat());
        }
        let lengths = server.ask_all("the comparison", &lengths).await?;
        for ((row, index), length) in part.iter().zip(first..).zip(lengths) {
            let Value::Int(length) = length else { continue };
            if usize::try_from(length).is_ok_and(|length| length == row.value.len()) {
                equal.push(index);
            } else if length == 0 {
                found[index] = Stored::Missing;
            }
        }
    }
    let mut rest = equal.as_slice();
    while !rest.is_empty() {
        let count = fitting(rest.iter().map(|index| rows[*index].value.len()));
        let (part, left) = rest.split_at(count);
        rest = left;
        let mut mget = Cmd::new();
        mget.arg("MGET");
        for index in part {
            mget.arg([prefix, rows[*index].key].concat());
        }
        let values: Vec<Option<Vec<u8>>> = server.ask("the comparison", &mget).await?;
        for (index, value) in part.iter().zip(values) {
            found[*index] = match value {
                // A value of no bytes has the length of one that is not there.
                None => Stored::Missing,
                Some(stored) if stored == rows[*index].value => Stored::Same,
                Some(_) => Stored::Differs,
            };
        }
    }
    Ok(found)
}

/// Returns how many values go into one answer: at least one.
fn fitting(lengths: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = |length: &usize| {
        bytes += length;
        bytes <= BYTES
    };
    lengths.take(KEYS).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_and_never_empty() {
        assert_eq!(fitting([BYTES * 3, 1].into_iter()), 1);
        assert_eq!(fitting([BYTES / 2; 5].into_iter()), 2);
        assert_eq!(fitting([1; KEYS * 2].into_iter()), KEYS);
    }
}
