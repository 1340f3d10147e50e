//! What the indexes hold under the ids of rows, compared with the documents that the writer would have stored.
//!
//! ```text
//! POST /_mget {"docs":[{"_index":"shop_de_page","_id":"product:17"}, ...]}
//! ```
//!
//! A server gives a document back as it was sent. Bytes that are not equal are compared as JSON, because whoever else
//! writes to the index may order and space it otherwise.

use std::{io::Write as _, sync::Arc};

use async_trait::async_trait;
use elasticsearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Shared,
    answer::{Cause, Verdict},
    node::Request,
};
use crate::{
    chunk::{Chunk, Row},
    error::{EdgeError, ErrorKind},
    ids::ResourceName,
    target::{Comparer, Depth, Stored, bulk::Lines},
};

/// Most documents of one question.
const DOCUMENTS: usize = 500;

/// Most bytes of documents that one question is about, unless a single one is larger: the answer is as long.
const BYTES: usize = 1024 * 1024;

/// Compares rows of one resource.
pub(super) struct SearchComparer {
    shared: Arc<Shared>,
    lines: Lines,
    indexes: Vec<String>,
}

/// A document that a row owns.
struct Expected<'a> {
    row: usize,
    index: usize,
    id: &'a [u8],
    value: &'a [u8],
}

#[derive(Deserialize)]
struct All<'a> {
    #[serde(borrow)]
    docs: Vec<Found<'a>>,
}

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(rename = "found", default)]
    there: bool,
    #[serde(rename = "_source", borrow, default)]
    source: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<Cause<'a>>,
}

impl SearchComparer {
    pub(super) fn new(shared: Arc<Shared>, resource: &ResourceName) -> Result<Self, EdgeError> {
        let routing = shared.routing(resource)?;
        Ok(Self {
            lines: Lines::new(routing),
            indexes: routing.indexes().map(str::to_owned).collect(),
            shared,
        })
    }

    /// Asks about the documents of `part` and notes what is there.
    async fn ask(
        &self,
        part: &[Expected<'_>],
        depth: Depth,
        found: &mut [Stored],
    ) -> Result<(), EdgeError> {
        let cluster = &self.shared.cluster;
        let body = self.question(part, depth)?;
        let request = Request::new(Method::Post, "/_mget").body(body.into());
        let answer = cluster.expect("to show documents", request).await?;
        let all: All<'_> = answer.json(&cluster.place)?;
        if all.docs.len() != part.len() {
            return Err(EdgeError::new(
                ErrorKind::Timeout,
                format!(
                    "{} answered for {} of {} documents",
                    cluster.place,
                    all.docs.len(),
                    part.len()
                ),
            ));
        }
        for (one, got) in part.iter().zip(&all.docs) {
            let stored = match (&got.error, got.source) {
                (Some(cause), _) if cause.is("index_not_found_exception") => Stored::Missing,
                (Some(cause), _) => return Err(self.trouble(cause)),
                (None, _) if !got.there => Stored::Missing,
                (None, _) if depth == Depth::Presence => Stored::Same,
                (None, Some(source)) if is_same(one.value, source.get()) => Stored::Same,
                _ => Stored::Differs,
            };
            // The first index that is not as it should be decides.
            if found[one.row] == Stored::Same {
                found[one.row] = stored;
            }
        }
        Ok(())
    }

    fn trouble(&self, cause: &Cause<'_>) -> EdgeError {
        let place = &self.shared.cluster.place;
        match Verdict::of(503, cause) {
            Verdict::Trouble(kind, why) => EdgeError::new(kind, format!("{place} {why}")),
            Verdict::Rejected(why) => EdgeError::new(ErrorKind::Busy, format!("{place} {why}")),
        }
    }

    fn question(&self, part: &[Expected<'_>], depth: Depth) -> Result<Vec<u8>, EdgeError> {
        let mut body = b"{\"docs\":[".to_vec();
        let end: &[u8] = match depth {
            Depth::Presence => b",\"_source\":false}",
            Depth::Content => b"}",
        };
        for (at, one) in part.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            let id = std::str::from_utf8(one.id).unwrap_or_default();
            let index = &self.indexes[one.index];
            let written = write!(
                body,
                "{{\"_index\":{},\"_id\":{}",
                Value::from(index.as_str()),
                Value::from(id)
            );
            written.map_err(|error| {
                EdgeError::new(ErrorKind::Internal, "a question cannot be written").because(error)
            })?;
            body.extend_from_slice(end);
        }
        body.extend_from_slice(b"]}");
        Ok(body)
    }
}

#[async_trait]
impl Comparer for SearchComparer {
    async fn compare(&mut self, chunk: &Chunk, depth: Depth) -> Result<Vec<Stored>, EdgeError> {
        let rows: Vec<Row<'_>> = chunk.rows().collect();
        let mut found = vec![Stored::Same; rows.len()];
        let mut wanted = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            match self.lines.route(row) {
                Ok(places) => wanted.extend(places.map(|index| Expected {
                    row: at,
                    index,
                    id: row.key,
                    value: row.value,
                })),
                Err(_) => found[at] = Stored::Unwritable,
            }
        }
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (part, left) = rest.split_at(fitting(rest.iter().map(|one| one.value.len())));
            rest = left;
            self.ask(part, depth, &mut found).await?;
        }
        Ok(found)
    }
}

/// Returns whether `stored` is the document `wanted`.
fn is_same(wanted: &[u8], stored: &str) -> bool {
    if wanted.trim_ascii() == stored.as_bytes() {
        return true;
    }
    let wanted = serde_json::from_slice::<Value>(wanted);
    let stored = serde_json::from_str::<Value>(stored);
    matches!((wanted, stored), (Ok(wanted), Ok(stored)) if wanted == stored)
}

/// Returns how many documents go into one question: at least one.
fn fitting(lengths: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = |length: &usize| {
        bytes += length;
        bytes <= BYTES
    };
    lengths.take(DOCUMENTS).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_same_however_it_is_spaced_and_ordered() {
        for (wanted, stored, same) in [
            (&br#"{"a":1,"b":[1,2]}"#[..], r#"{"a":1,"b":[1,2]}"#, true),
            (b"{\n\"a\": 1}", r#"{"a":1}"#, true),
            (br#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, true),
            (br#"{"a":"\u00e9"}"#, r#"{"a":"é"}"#, true),
            (br#"{"a":1}"#, r#"{"a":"1"}"#, false),
            (br#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, false),
            (br#"{"a":1}"#, r#"{"a":1,"b":null}"#, false),
        ] {
            assert_eq!(is_same(wanted, stored), same, "{stored}");
        }
    }
}
