//! Writes the chunks of one partition as loads of documents.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write as _,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use elasticsearch::http::Method;
use flate2::{Compression, write::GzEncoder};

use super::{
    Shared,
    answer::{Answer, Bulk, Verdict},
    index,
    node::Request,
};
use crate::{
    chunk::{Chunk, Row},
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, ResourceName},
    plan::Routing,
    target::{ChunkWriter, Rejected, Written, bulk::Lines, bytes_text},
};

/// What is asked of an answer: a status for each document, in their order, and why for those that did not pass.
const PARTS: &str = "items.*.status,items.*.error.type,items.*.error.reason";

/// How long the server waits for a shard that is moving, before it answers that it cannot write.
const SHARD_WAIT: &str = "20s";

/// Documents of a chunk that are looked for.
const SAMPLE: usize = 20;

/// A request below this many bytes is not made smaller because a connection broke.
const SMALL_BODY: usize = 1024 * 1024;

/// One row on its way to one index.
#[derive(Debug, Clone, Copy)]
struct Document {
    row: usize,
    index: usize,
}

/// What is left of a chunk that was refused in part: the rest need not travel again.
struct Rest {
    seq: ChunkSeq,
    documents: Vec<Document>,
    rejected: BTreeMap<usize, String>,
}

/// Writes one partition.
pub(super) struct SearchWriter {
    shared: Arc<Shared>,
    lines: Lines,
    routing: Routing,
    /// The indexes as they were when the writer was opened.
    incarnation: String,
    rest: Option<Rest>,
    body: Vec<u8>,
}

/// What became of one request.
enum Sent {
    Answered(Answer),
    /// The server takes no request of this size.
    TooLarge,
    /// The server refuses the request whole, because of something in it.
    Refused(String),
}

impl SearchWriter {
    pub(super) fn new(
        shared: Arc<Shared>,
        resource: &ResourceName,
        incarnation: String,
    ) -> Result<Self, EdgeError> {
        let routing = shared.routing(resource)?.clone();
        Ok(Self {
            lines: Lines::new(&routing),
            shared,
            routing,
            incarnation,
            rest: None,
            body: Vec::new(),
        })
    }

    /// Returns the rows of a fresh chunk as documents; those that can be none are rejected.
    fn sort(&self, seq: ChunkSeq, rows: &[Row<'_>]) -> Rest {
        let mut documents = Vec::with_capacity(rows.len());
        let mut rejected = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            match self.lines.route(row) {
                Ok(places) => {
                    documents.extend(places.map(|index| Document { row: at, index }));
                }
                Err(why) => {
                    rejected.insert(at, why.into_owned());
                }
            }
        }
        Rest {
            seq,
            documents,
            rejected,
        }
    }

    /// Sends the documents of `rest`. Afterwards it holds those that the server did not take yet, with the error to show
    /// for it.
    async fn load(
        &mut self,
        rest: &mut Rest,
        rows: &[Row<'_>],
        most: usize,
    ) -> Result<(), EdgeError> {
        let mut batches = VecDeque::from([std::mem::take(&mut rest.documents)]);
        let mut trouble = None;
        while let Some(mut batch) = batches.pop_front() {
            let fits = self.fill(&batch, rows, most.min(self.shared.cluster.most_body()));
            if fits < batch.len() {
                batches.push_front(batch.split_off(fits));
            }
            if batch.is_empty() {
                continue;
            }
            let sent = match self.send().await {
                Ok(sent) => sent,
                Err(error) => {
                    // Nothing is known about this batch, and the others were not sent.
                    rest.documents.extend(batch);
                    rest.documents.extend(batches.into_iter().flatten());
                    return Err(error);
                }
            };
            match sent {
                Sent::Answered(answer) => {
                    let error = sift(&self.shared.cluster.place, &answer, &batch, rest);
                    match error {
                        Err(error) if batches.is_empty() || is_final(error.kind) => {
                            rest.documents.extend(batches.into_iter().flatten());
                            return Err(error);
                        }
                        Err(error) => trouble = Some(error),
                        Ok(()) => {}
                    }
                }
                Sent::TooLarge | Sent::Refused(_) if batch.len() > 1 => {
                    let half = batch.split_off(batch.len() / 2);
                    batches.push_front(half);
                    batches.push_front(batch);
                }
                Sent::TooLarge => {
                    let reason = format!(
                        "the document is larger than the server takes ({} as a request)",
                        bytes_text(self.body.len() as u64)
                    );
                    rest.rejected.entry(batch[0].row).or_insert(reason);
                }
                Sent::Refused(reason) => {
                    rest.rejected.entry(batch[0].row).or_insert(reason);
                }
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Makes a body of as many documents as stay within `most` bytes, at least one; returns how many those are.
    fn fill(&mut self, documents: &[Document], rows: &[Row<'_>], most: usize) -> usize {
        self.body.clear();
        for (count, document) in documents.iter().enumerate() {
            let before = self.body.len();
            self.lines
                .append(&mut self.body, &rows[document.row], document.index);
            if self.body.len() > most && count > 0 {
                self.body.truncate(before);
                return count;
            }
        }
        documents.len()
    }

    /// Sends the body.
    async fn send(&mut self) -> Result<Sent, EdgeError> {
        let cluster = &self.shared.cluster;
        let size = self.body.len();
        let body = if self.shared.gzip {
            let mut packed = GzEncoder::new(Vec::with_capacity(size / 4), Compression::fast());
            packed
                .write_all(&self.body)
                .and_then(|()| packed.finish())
                .map_err(|error| {
                    EdgeError::new(ErrorKind::Internal, "a request cannot be packed").because(error)
                })?
                .into()
        } else {
            Bytes::from(std::mem::take(&mut self.body))
        };
        let query = [("filter_path", PARTS), ("timeout", SHARD_WAIT)];
        let request = Request::new(Method::Post, "/_bulk")
            .query(&query)
            .documents(body.clone());
        let answered = cluster.send(request).await;
        if !self.shared.gzip {
            // The same memory again; a copy would only be made where the driver still held on to it.
            self.body = if body.is_unique() {
                body.into()
            } else {
                Vec::new()
            };
        }
        match answered {
            Ok(answer) if answer.is_success() => Ok(Sent::Answered(answer)),
            Ok(answer) if answer.status == 413 => {
                cluster.limit_body(size / 2);
                Ok(Sent::TooLarge)
            }
            Ok(answer) => match Verdict::of(answer.status, &answer.cause()) {
                Verdict::Rejected(reason) if answer.status == 400 => Ok(Sent::Refused(reason)),
                _ => Err(answer.refusal(&cluster.place, "a load of documents")),
            },
            // Some servers close the connection instead of saying that a request is too large.
            Err(error) if error.kind == ErrorKind::Connection && size > SMALL_BODY => {
                self.shared.learn_limit().await;
                if size > cluster.most_body() {
                    Ok(Sent::TooLarge)
                } else {
                    Err(error)
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes sure that the indexes are those the writer began with. A missing one would be created by the write itself,
    /// with a mapping that is guessed.
    async fn same_indexes(&self) -> Result<bool, EdgeError> {
        let now = index::incarnation(&self.shared.cluster, &self.routing).await?;
        Ok(now.as_deref() == Some(&self.incarnation))
    }

    /// Returns the error for indexes that changed while a chunk was on its way.
    ///
    /// As long as none of its documents lies in the new ones, the old ones got them. Otherwise the write itself may have
    /// created the index, with a guessed mapping, and only a person can tell.
    async fn made_anew(&self, rows: &[Row<'_>]) -> Result<EdgeError, EdgeError> {
        let names: Vec<_> = self.routing.indexes().collect();
        let mut asked = Vec::new();
        for row in rows.iter().take(SAMPLE) {
            if let (Ok(places), Ok(id)) = (self.lines.route(row), std::str::from_utf8(row.key)) {
                asked.extend(places.map(|index| (names[index], id)));
            }
        }
        if !index::holds_any(&self.shared.cluster, &asked).await? {
            return Ok(self.lost());
        }
        Ok(EdgeError::new(
            ErrorKind::Missing,
            format!(
                "an index was deleted on {} while rows were written to it, and the write may have created it again with a \
                 guessed mapping: look at {}, create what is wrong anew",
                self.shared.cluster.place,
                names.join(", ")
            ),
        ))
    }

    fn lost(&self) -> EdgeError {
        EdgeError::new(
            ErrorKind::EvidenceLost,
            format!(
                "an index was deleted or created anew on {}",
                self.shared.cluster.place
            ),
        )
    }
}

/// Sorts the documents of `batch` by what became of each; those to be sent again go to `rest`.
fn sift(
    place: &str,
    answer: &Answer,
    batch: &[Document],
    rest: &mut Rest,
) -> Result<(), EdgeError> {
    let found = answer.json::<Bulk<'_>>(place).and_then(|bulk| {
        if bulk.items.len() == batch.len() {
            return Ok(bulk);
        }
        Err(EdgeError::new(
            ErrorKind::Timeout,
            format!(
                "{place} answered for {} of {} documents",
                bulk.items.len(),
                batch.len()
            ),
        ))
    });
    let bulk = match found {
        Ok(bulk) => bulk,
        Err(error) => {
            rest.documents.extend(batch);
            return Err(error);
        }
    };
    let mut trouble: Option<(ErrorKind, String)> = None;
    for (item, document) in bulk.items.iter().zip(batch) {
        let outcome = &item.index;
        let cause = outcome.error.as_ref();
        if (200..300).contains(&outcome.status) {
            // Stored and failed at once is neither, until it was sent again.
            if cause.is_some() {
                rest.documents.push(*document);
                let why = "says of a document that it was stored and that it failed".to_owned();
                trouble.get_or_insert((ErrorKind::Timeout, why));
            }
            continue;
        }
        match Verdict::of(
            outcome.status,
            cause.unwrap_or(&super::answer::Cause::default()),
        ) {
            Verdict::Rejected(reason) => {
                rest.rejected.entry(document.row).or_insert(reason);
            }
            Verdict::Trouble(kind, why) => {
                rest.documents.push(*document);
                // What does not pass by itself decides.
                if trouble.as_ref().is_none_or(|(had, _)| !is_final(*had)) {
                    trouble = Some((kind, why));
                }
            }
        }
    }
    match trouble {
        None => Ok(()),
        Some((kind, why)) => Err(EdgeError::new(
            kind,
            format!(
                "{place} {why}; {} of {} documents wait",
                rest.documents.len(),
                batch.len()
            ),
        )),
    }
}

/// Returns whether an error is not one that passes by itself.
fn is_final(kind: ErrorKind) -> bool {
    kind.disposition() != crate::error::Disposition::Retry
}

#[async_trait]
impl ChunkWriter for SearchWriter {
    async fn write(&mut self, seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        if !self.same_indexes().await? {
            return Err(self.lost());
        }
        let rows: Vec<_> = chunk.rows().collect();
        let mut rest = match self.rest.take() {
            Some(rest) if rest.seq == seq => rest,
            _ => self.sort(seq, &rows),
        };
        // As much memory as the chunk has, which is what the engine's budget counts with.
        let most = (chunk.byte_count() + 128 * rows.len()).max(SMALL_BODY);
        if let Err(error) = self.load(&mut rest, &rows, most).await {
            self.rest = Some(rest);
            return Err(error);
        }
        if !self.same_indexes().await? {
            return Err(self.made_anew(&rows).await?);
        }
        Ok(Written {
            rejected: rest
                .rejected
                .into_iter()
                .map(|(row, reason)| Rejected { row, reason })
                .collect(),
            length: None,
        })
    }
}

/// What a writer takes a load's answer for, document by document.
#[cfg(feature = "failpoints")]
#[derive(Debug)]
pub struct Sifted {
    /// Those that are sent again, by their places in the load.
    pub waiting: Vec<usize>,
    /// Those that will never pass.
    pub rejected: Vec<usize>,
    /// Why some wait.
    pub error: Option<EdgeError>,
}

/// Returns what a writer makes of these bytes as the answer to a load of so many documents, with status 200.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn sifted(body: &[u8], documents: usize) -> Sifted {
    let document = |row| Document { row, index: 0 };
    let batch: Vec<_> = (0..documents).map(document).collect();
    let mut rest = Rest {
        seq: ChunkSeq(1),
        documents: Vec::new(),
        rejected: BTreeMap::new(),
    };
    let answer = Answer {
        status: 200,
        wait: None,
        body: Bytes::copy_from_slice(body),
    };
    let error = sift("search at h", &answer, &batch, &mut rest).err();
    Sifted {
        waiting: rest.documents.iter().map(|document| document.row).collect(),
        rejected: rest.rejected.into_keys().collect(),
        error,
    }
}
