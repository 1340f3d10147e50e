//! What Redis holds under the keys of a chunk, compared with what the writer would have stored there.
//!
//! ```text
//! STRLEN key ...   -> other lengths differ and are not read, so that no answer is longer than the rows it is about
//! GET key ...      -> the rest, byte by byte
//! ```

use ::redis::{Pipeline, Value};

use super::{cluster::View, server::Server};
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
    view: &View,
    prefix: &[u8],
    chunk: &Chunk,
) -> Result<Vec<Stored>, EdgeError> {
    let rows: Vec<Row<'_>> = chunk.rows().collect();
    let mut found = vec![Stored::Differs; rows.len()];
    let mut of_node = vec![Vec::new(); view.nodes.len()];
    for (index, row) in rows.iter().enumerate() {
        of_node[view.node_of(&[prefix, row.key].concat())].push(index);
    }
    for (node, mine) in view.nodes.iter().zip(of_node) {
        let mut equal = Vec::new();
        for part in mine.chunks(KEYS) {
            let lengths = ask(&node.server, "STRLEN", prefix, &rows, part).await?;
            for (index, length) in part.iter().zip(lengths) {
                let Value::Int(length) = length else { continue };
                if usize::try_from(length).is_ok_and(|length| length == rows[*index].value.len()) {
                    equal.push(*index);
                } else if length == 0 {
                    found[*index] = Stored::Missing;
                }
            }
        }
        let mut rest = equal.as_slice();
        while !rest.is_empty() {
            let count = fitting(rest.iter().map(|index| rows[*index].value.len()));
            let (part, left) = rest.split_at(count);
            rest = left;
            let values = ask(&node.server, "GET", prefix, &rows, part).await?;
            for (index, value) in part.iter().zip(values) {
                found[*index] = match value {
                    // A value of no bytes has the length of one that is not there.
                    Value::Nil => Stored::Missing,
                    Value::BulkString(stored) if stored == rows[*index].value => Stored::Same,
                    _ => Stored::Differs,
                };
            }
        }
    }
    Ok(found)
}

/// Asks a server for the length or the value under each key of `part`.
///
/// A key of another type, or one that another node of the cluster has by now, is answered by a refusal: what is there
/// is not what the writer would have stored, or nobody knows, and the row is written.
async fn ask(
    server: &Server,
    command: &str,
    prefix: &[u8],
    rows: &[Row<'_>],
    part: &[usize],
) -> Result<Vec<Value>, EdgeError> {
    let mut pipeline = Pipeline::with_capacity(part.len());
    pipeline.ignore_errors();
    for index in part {
        pipeline
            .cmd(command)
            .arg([prefix, rows[*index].key].concat());
    }
    server.ask_all("the comparison", &pipeline).await
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
