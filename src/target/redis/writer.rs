//! Writes chunks together with the evidence for them.
//!
//! A chunk is one transaction: `MSET`s of up to 1,000 pairs or 512 KiB, the last of which carries the partition's
//! marker. The marker, and the claim that says who writes here, are watched from the chunk before, so any loss and any
//! other writer in between is noticed:
//!
//! ```text
//!           WATCH claim marker  MGET claim marker -> ours, nil
//! chunk 1   MULTI  MSET key value ... rekindle:<run>:<partition> "1 token"  EXEC    WATCH, MGET -> ours, "1 token"
//! chunk 2   MULTI  MSET key value ... rekindle:<run>:<partition> "2 token"  EXEC    WATCH, MGET -> ours, "2 token"
//!                                                                           ^ nil when either was touched since WATCH
//! ```
//!
//! `FLUSHDB`, `FLUSHALL`, a reload and an eviction touch the marker, so `EXEC` writes nothing and the marker never
//! claims a chunk whose predecessors are gone, whenever the process dies. Another run, or the next attempt of this
//! one, sets the claim: what was left behind on a connection we gave up, or is still in the hands of a process that was
//! stopped for longer than its lease, writes nothing either. A restart of the server ends the connection; a fresh one
//! begins with `WATCH` and `MGET`. In the steady state this costs no round trip of its own. A
//! million rows of 300 bytes by two writers took 1.1 s; through the driver, 1.4 s without any check and 1.7 s with
//! `WATCH` and `GET` ahead of each chunk (medians of five on two shared cores, 2026-11).
//! (A Lua script would have to unpack 2,000 arguments.)
//!
//! The transaction holds all of the chunk, not only its last `MSET`: a flush between two `MSET`s of a chunk would
//! otherwise leave a marker that claims both.

use std::{io, sync::Arc};

use async_trait::async_trait;
use tokio::time::{Duration, timeout};

use super::{
    SharedServer, error,
    evidence::{chunk_of, is_reserved, marker_key},
    lease::{self, Claim, Tenure},
    wire::{Reply, Wire, not_redis},
};
use crate::{
    chunk::{Chunk, Row},
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, PartitionId, RunId},
    target::{ChunkWriter, Rejected, Written, resp},
};

/// Most pairs of one `MSET`. 3,000 were measured 25 % slower, 300 equal.
const PAIRS: usize = 1_000;

/// Most bytes of keys and values of one `MSET`, unless a single row is larger.
const BYTES: usize = 512 * 1024;

/// The longest key or value that Redis takes (`proto-max-bulk-len`).
const LONGEST: usize = 512 * 1024 * 1024;

/// One second more of patience for each of these, so that a slow line does not look like a dead server.
const BYTES_PER_SECOND: usize = 1024 * 1024;

/// Writes one partition over its own connection.
pub(super) struct RedisWriter {
    server: SharedServer,
    tenure: Arc<Tenure>,
    prefix: Vec<u8>,
    run: RunId,
    marker: Vec<u8>,
    /// Absent before the first chunk and after an error.
    link: Option<Link>,
}

struct Link {
    wire: Wire,
    /// What was there when it was last watched; `None` when nobody looked yet.
    watched: Option<Watched>,
}

/// What a chunk is written after.
#[derive(Debug, Default)]
struct Watched {
    claim: Option<Vec<u8>>,
    marker: Option<Vec<u8>>,
}

impl RedisWriter {
    pub(super) fn new(
        server: SharedServer,
        tenure: Arc<Tenure>,
        prefix: &str,
        run: &RunId,
        partition: PartitionId,
    ) -> Self {
        Self {
            server,
            tenure,
            prefix: prefix.as_bytes().to_vec(),
            run: run.clone(),
            marker: marker_key(run, partition).into_bytes(),
            link: None,
        }
    }

    async fn send(
        &mut self,
        seq: ChunkSeq,
        chunk: &Chunk,
        layout: &Layout,
    ) -> Result<(), EdgeError> {
        // Taken out while in use: after an error, or when the engine stops waiting, it is never used again.
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link {
                wire: Wire::open(&self.server).await?,
                watched: None,
            },
        };
        let mut found = match link.watched.take() {
            Some(found) => found,
            None => self.look(&mut link.wire).await?,
        };
        let mut claim = self.tenure.claim()?;
        if !found.is_under(&claim) {
            self.tenure.reclaim(&claim).await?;
            claim = self.tenure.claim()?;
            found = self.look(&mut link.wire).await?;
            if !found.is_under(&claim) {
                return Err(self.touched("the claim of this run"));
            }
        }
        self.judge(seq, &claim, &found)?;
        self.pack(seq, chunk, layout, claim.token(), &mut link.wire)
            .await
            .map_err(|e| self.broken(e))?;
        self.expect(&mut link.wire, "OK").await?;
        for _ in &layout.msets {
            self.expect(&mut link.wire, "QUEUED").await?;
        }
        let executed = self.executed(&mut link.wire).await?;
        let found = self.watched(&mut link.wire).await?;
        if !executed {
            if !found.is_under(&claim) {
                self.tenure.reclaim(&claim).await?;
                claim = self.tenure.claim()?;
            }
            self.judge(seq, &claim, &found)?;
            return Err(self.touched("its marker"));
        }
        link.watched = Some(found);
        self.link = Some(link);
        Ok(())
    }

    /// Puts the commands of the chunk on their way.
    async fn pack(
        &self,
        seq: ChunkSeq,
        chunk: &Chunk,
        layout: &Layout,
        token: &str,
        wire: &mut Wire,
    ) -> io::Result<()> {
        let mut rows = layout.accepted(chunk);
        let last = layout.msets.len().saturating_sub(1);
        resp::command(wire.out(), &[b"MULTI"]);
        for (index, &pairs) in layout.msets.iter().enumerate() {
            let marker = usize::from(index == last);
            resp::array(wire.out(), 1 + 2 * (pairs + marker));
            resp::bulk(wire.out(), &[b"MSET"]);
            for row in rows.by_ref().take(pairs) {
                resp::bulk(wire.out(), &[&self.prefix, row.key]);
                wire.value(row.value).await?;
            }
        }
        resp::bulk(wire.out(), &[&self.marker]);
        resp::bulk(wire.out(), &[format!("{seq} {token}").as_bytes()]);
        resp::command(wire.out(), &[b"EXEC"]);
        self.watch(wire);
        wire.flush().await
    }

    fn watch(&self, wire: &mut Wire) {
        let claim = lease::WRITER.as_bytes();
        resp::command(wire.out(), &[b"WATCH", claim, &self.marker]);
        resp::command(wire.out(), &[b"MGET", claim, &self.marker]);
    }

    /// Watches, and returns what is there.
    async fn look(&self, wire: &mut Wire) -> Result<Watched, EdgeError> {
        self.watch(wire);
        wire.flush().await.map_err(|e| self.broken(e))?;
        self.watched(wire).await
    }

    /// Reads the answers to [`RedisWriter::watch`].
    async fn watched(&self, wire: &mut Wire) -> Result<Watched, EdgeError> {
        self.expect(wire, "OK").await?;
        let Reply::Array(Some(values)) = self.reply(wire).await? else {
            return Err(self.broken(not_redis()));
        };
        match <[Reply; 2]>::try_from(values) {
            Ok([Reply::Bulk(claim), Reply::Bulk(marker)]) => Ok(Watched { claim, marker }),
            _ => Err(self.broken(not_redis())),
        }
    }

    /// Reads the answer to `EXEC`: whether it was carried out.
    async fn executed(&self, wire: &mut Wire) -> Result<bool, EdgeError> {
        match self.reply(wire).await? {
            Reply::Array(None) => Ok(false),
            Reply::Array(Some(answers)) => {
                for answer in answers {
                    match answer {
                        Reply::Status(_) => {}
                        Reply::Error(text) => return Err(self.refused(&text)),
                        _ => return Err(self.broken(not_redis())),
                    }
                }
                Ok(true)
            }
            _ => Err(self.broken(not_redis())),
        }
    }

    async fn expect(&self, wire: &mut Wire, status: &str) -> Result<(), EdgeError> {
        match self.reply(wire).await? {
            Reply::Status(text) if text == status => Ok(()),
            _ => Err(self.broken(not_redis())),
        }
    }

    /// Reads a reply. A refusal of a command inside `MULTI` comes before the `EXECABORT` that it causes, and names
    /// the cause.
    async fn reply(&self, wire: &mut Wire) -> Result<Reply, EdgeError> {
        match wire.reply().await.map_err(|e| self.broken(e))? {
            Reply::Error(text) => Err(self.refused(&text)),
            reply => Ok(reply),
        }
    }

    /// Compares what the marker says with what must be there before chunk `seq` is written under `claim`.
    fn judge(&self, seq: ChunkSeq, claim: &Claim, found: &Watched) -> Result<(), EdgeError> {
        let needed = seq.0.saturating_sub(1);
        let marker = found.marker.as_deref();
        let what = match marker.and_then(|marker| chunk_of(marker, claim.token())) {
            Some(found) if found >= needed => return Ok(()),
            None if needed == 0 => return Ok(()),
            Some(found) => format!("holds chunk {found} as the last one, not {needed}"),
            None => format!("no longer holds chunk {needed}"),
        };
        Err(EdgeError::new(
            ErrorKind::EvidenceLost,
            format!(
                "{} {what}: it was emptied, went back to an older dump, or another run wrote to it",
                self.server.place
            ),
        ))
    }

    fn touched(&self, what: &str) -> EdgeError {
        EdgeError::new(
            ErrorKind::Busy,
            format!(
                "{} did not write the chunk: somebody touched {what}",
                self.server.place
            ),
        )
    }

    fn refused(&self, text: &str) -> EdgeError {
        let (code, detail) = error::split(text);
        error::refused(&self.server.place, "the write", code, detail)
    }

    fn broken(&self, error: io::Error) -> EdgeError {
        error::socket(&self.server.place, error)
    }
}

#[async_trait]
impl ChunkWriter for RedisWriter {
    async fn write(&mut self, seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        let layout = Layout::of(chunk, self.prefix.len(), LONGEST, |key| {
            is_reserved(&self.run, &[&self.prefix, key].concat())
        });
        let seconds = u64::try_from(chunk.byte_count() / BYTES_PER_SECOND).unwrap_or(u64::MAX);
        let limit = self
            .server
            .response_timeout
            .saturating_add(Duration::from_secs(seconds));
        let place = self.server.place.clone();
        timeout(limit, self.send(seq, chunk, &layout))
            .await
            .map_err(|_| error::timed_out(&place, limit))??;
        Ok(Written {
            rejected: layout.rejected,
            length: None,
        })
    }
}

impl Watched {
    fn is_under(&self, claim: &Claim) -> bool {
        self.claim.as_deref() == Some(claim.text().as_bytes())
    }
}

/// How a chunk is cut into `MSET`s.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    /// Pairs of each `MSET`, in order. Never empty: the last one carries the marker, if nothing else.
    msets: Vec<usize>,
    /// Rows that go into none of them.
    rejected: Vec<Rejected>,
}

impl Layout {
    fn of(
        chunk: &Chunk,
        prefix: usize,
        longest: usize,
        is_reserved: impl Fn(&[u8]) -> bool,
    ) -> Self {
        let mut layout = Self {
            msets: Vec::new(),
            rejected: Vec::new(),
        };
        let (mut pairs, mut bytes) = (0, 0);
        for (index, row) in chunk.rows().enumerate() {
            let key = prefix + row.key.len();
            let reason = if row.value.len() > longest {
                Some(format!(
                    "the value has {} bytes; redis takes at most {longest}",
                    row.value.len()
                ))
            } else if key > longest {
                Some(format!(
                    "the key has {key} bytes; redis takes at most {longest}"
                ))
            } else if is_reserved(row.key) {
                Some("the key is one that rekindle keeps its own record under".to_owned())
            } else {
                None
            };
            if let Some(reason) = reason {
                layout.rejected.push(Rejected { row: index, reason });
                continue;
            }
            let size = key + row.value.len();
            if pairs == PAIRS || (pairs > 0 && bytes + size > BYTES) {
                layout.msets.push(pairs);
                (pairs, bytes) = (0, 0);
            }
            pairs += 1;
            bytes += size;
        }
        layout.msets.push(pairs);
        layout
    }

    /// Returns the rows of `chunk` that are not rejected.
    fn accepted<'a>(&'a self, chunk: &'a Chunk) -> impl Iterator<Item = Row<'a>> + Send {
        let mut rejected = self.rejected.as_slice();
        chunk
            .rows()
            .enumerate()
            .filter_map(move |(index, row)| match rejected {
                [next, rest @ ..] if next.row == index => {
                    rejected = rest;
                    None
                }
                _ => Some(row),
            })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        cursor::{Cursor, KeyValue},
        target::redis::server::Server,
    };

    fn chunk(sizes: &[usize]) -> Chunk {
        let mut chunk = Chunk::default();
        for (i, size) in sizes.iter().enumerate() {
            let cursor = Cursor::single(KeyValue::Uint(i as u64));
            chunk.push(&cursor.0, b"k", &vec![b'v'; *size], &[]);
        }
        chunk
    }

    fn msets(sizes: &[usize]) -> Vec<usize> {
        Layout::of(&chunk(sizes), 3, LONGEST, |_| false).msets
    }

    #[test]
    fn an_mset_ends_at_a_thousand_pairs() {
        assert_eq!(msets(&[10; 1_000]), [1_000]);
        assert_eq!(msets(&[10; 2_001]), [1_000, 1_000, 1]);
    }

    #[test]
    fn an_mset_ends_before_it_passes_its_bytes_and_a_larger_value_stands_alone() {
        assert_eq!(msets(&[200_000; 5]), [2, 2, 1]);
        assert_eq!(msets(&[10, 600_000, 10]), [1, 1, 1]);
        assert_eq!(msets(&[600_000]), [1]);
    }

    #[test]
    fn a_chunk_without_rows_still_has_a_place_for_its_marker() {
        assert_eq!(msets(&[]), [0]);
    }

    #[test]
    fn rows_over_the_limit_are_rejected_and_counted_out() {
        let layout = Layout::of(&chunk(&[5, 50, 5]), 3, 20, |_| false);
        assert_eq!(layout.msets, [2]);
        assert_eq!(
            layout.rejected,
            [Rejected {
                row: 1,
                reason: "the value has 50 bytes; redis takes at most 20".into()
            }]
        );
    }

    #[test]
    fn rows_with_a_key_of_our_own_are_rejected() {
        let layout = Layout::of(&chunk(&[5]), 0, LONGEST, |key| key == b"k");
        assert_eq!(layout.msets, [0]);
        assert_eq!(layout.rejected.len(), 1);
    }

    /// Writes a chunk to a server that reads some of it, answers `replies` and hangs up.
    async fn answered(replies: &str) -> EdgeError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/0", listener.local_addr().unwrap());
        let server = Server::parse("storage", &url.into(), None, Duration::from_secs(10)).unwrap();
        let server = Arc::new(server);
        let run = RunId::from_text("7F3K2M");
        let tenure = Tenure::holding("K3F9QA {}", Arc::clone(&server));
        let mut writer = RedisWriter::new(server, tenure.into(), "kv:", &run, PartitionId(1));
        let chunk = chunk(&[5]);
        let (written, ()) = tokio::join!(writer.write(ChunkSeq(1), &chunk), async {
            let (mut peer, _) = listener.accept().await.unwrap();
            peer.read_u8().await.unwrap();
            let watched = "+OK\r\n*2\r\n$9\r\nK3F9QA {}\r\n$-1\r\n";
            peer.write_all([watched, replies].concat().as_bytes())
                .await
                .unwrap();
            peer.shutdown().await.unwrap();
            // Until the writer hangs up too: closing on unread bytes would reset the connection.
            let _ = tokio::io::copy(&mut peer, &mut tokio::io::sink()).await;
        });
        written.unwrap_err()
    }

    #[tokio::test]
    async fn every_answer_that_is_not_yes_has_its_kind() {
        use ErrorKind::{Busy, Connection, Refused, TargetMemory};
        let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
        for (replies, kind) in [
            ("-LOADING Redis is loading the dataset in memory\r\n", Busy),
            (
                "+OK\r\n-READONLY You can't write against a read only replica.\r\n",
                Busy,
            ),
            (
                &format!("+OK\r\n-OOM command not allowed\r\n{aborted}"),
                TargetMemory,
            ),
            ("+OK\r\n+QUEUED\r\n*1\r\n-MISCONF no disk\r\n", Busy),
            ("+OK\r\n-MOVED 3999 127.0.0.1:6381\r\n", Refused),
            (&format!("+OK\r\n+QUEUED\r\n{aborted}"), Refused),
            // Somebody touched the marker, and it does not say anything: nothing was needed before chunk 1.
            (
                "+OK\r\n+QUEUED\r\n*-1\r\n+OK\r\n*2\r\n$9\r\nK3F9QA {}\r\n$-1\r\n",
                Busy,
            ),
            ("", Connection),
            ("+OK\r\n+QUE", Connection),
            (
                "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n+OK\r\n*2\r\n$9\r\nK3F",
                Connection,
            ),
            ("HTTP/1.1 400 Bad Request\r\n", Refused),
            ("+OK\r\n+QUEUED\r\n*999999999\r\n", Refused),
            (
                "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n+OK\r\n*2\r\n$999999999\r\n",
                Refused,
            ),
        ] {
            let error = answered(replies).await;
            assert_eq!(error.kind, kind, "{replies:?}: {error}");
        }
    }
}
