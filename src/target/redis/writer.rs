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

use std::{collections::BTreeSet, io, sync::Arc};

use async_trait::async_trait;
use tokio::time::timeout;

use super::{
    SharedServer, culprits, error,
    layout::Layout,
    lease::{Claim, Tenure},
    proof::{Link, Proof},
    wire::Wire,
};
use crate::{
    chunk::Chunk,
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, PartitionId, RunId},
    target::{ChunkWriter, Written, resp},
};

/// Writes one partition over its own connection.
pub(super) struct RedisWriter {
    proof: Proof,
    prefix: Vec<u8>,
    run: RunId,
    /// Absent before the first chunk and after an error.
    link: Option<Link>,
}

impl RedisWriter {
    pub(super) fn new(
        server: SharedServer,
        tenure: Arc<Tenure>,
        prefix: &str,
        run: &RunId,
        partition: PartitionId,
    ) -> Self {
        let marker = tenure.keys().marker(run, partition);
        Self {
            proof: Proof::new(server, tenure, marker),
            prefix: prefix.as_bytes().to_vec(),
            run: run.clone(),
            link: None,
        }
    }

    async fn send_in_time(
        &mut self,
        seq: ChunkSeq,
        chunk: &Chunk,
        layout: &Layout,
    ) -> Result<(), EdgeError> {
        let limit = self.proof.server.patience(chunk.byte_count());
        let place = self.proof.server.place.clone();
        timeout(limit, self.send(seq, chunk, layout))
            .await
            .unwrap_or_else(|_| Err(error::timed_out(&place, limit)))
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
                wire: Wire::open(&self.proof.server).await?,
                watched: None,
            },
        };
        let proof = &self.proof;
        let claim = proof.begin(&mut link, seq).await?;
        self.pack(seq, chunk, layout, &claim, &mut link.wire)
            .await
            .map_err(|e| proof.broken(e))?;
        proof.expect(&mut link.wire, "OK").await?;
        for _ in &layout.msets {
            proof.expect(&mut link.wire, "QUEUED").await?;
        }
        proof
            .sealed(seq, claim, layout.msets.len(), &mut link)
            .await?;
        self.link = Some(link);
        Ok(())
    }

    /// Puts the commands of the chunk on their way.
    async fn pack(
        &self,
        seq: ChunkSeq,
        chunk: &Chunk,
        layout: &Layout,
        claim: &Claim,
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
        self.proof.seal(seq, claim, wire);
        wire.flush().await
    }
}

#[async_trait]
impl ChunkWriter for RedisWriter {
    async fn write(&mut self, seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        let longest = self.proof.server.longest(chunk).await?;
        let mut layout = Layout::for_run(chunk, &self.run, &self.prefix, longest, &BTreeSet::new());
        let sent = self.send_in_time(seq, chunk, &layout).await;
        if let Err(error) = sent {
            // A transaction is refused as a whole, also for the sake of one key.
            let forbidden = if error.kind == ErrorKind::Credentials {
                let rows = culprits::written(&self.prefix, chunk, &layout);
                culprits::forbidden(&self.proof.server, b"MSET", &rows).await?
            } else {
                BTreeSet::new()
            };
            if forbidden.is_empty() {
                return Err(error);
            }
            layout = Layout::for_run(chunk, &self.run, &self.prefix, longest, &forbidden);
            self.send_in_time(seq, chunk, &layout).await?;
        }
        Ok(Written {
            rejected: layout.rejected,
            length: None,
        })
    }
}

/// Writes a chunk of so many rows, more than 1,000 of which take a second `MSET`, to a server that answers these bytes
/// whatever it gets. It holds the claim `K3F9QA {}`.
///
/// # Errors
///
/// Whatever the writer makes of an answer that is not yes.
#[cfg(feature = "failpoints")]
pub async fn answered(bytes: Vec<u8>, rows: u64) -> Result<Written, EdgeError> {
    use std::{io::Cursor, time::Duration};

    use crate::cursor::KeyValue;

    // Port 1 is the kernel's to refuse.
    let url = "redis://127.0.0.1:1/0".to_owned().into();
    let server = super::server::Server::parse("storage", &url, None, Duration::from_secs(5))?;
    let server = Arc::new(server);
    let tenure = Tenure::holding("K3F9QA {}", Arc::clone(&server));
    let run = RunId::from_text("7F3K2M");
    let mut writer = RedisWriter::new(server, tenure.into(), "kv:", &run, PartitionId(1));
    let socket = tokio::io::join(Cursor::new(bytes), tokio::io::sink());
    writer.link = Some(Link {
        wire: Wire::over(Box::new(socket)),
        watched: None,
    });
    let mut chunk = Chunk::default();
    for row in 0..rows {
        chunk.push(&[KeyValue::Uint(row)], &row.to_be_bytes(), b"v", &[]);
    }
    writer.write(ChunkSeq(1), &chunk).await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::Duration,
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
        use ErrorKind::{Busy, Connection, Failed, Refused, TargetMemory};
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
            ("+OK\r\n-MOVED 3999 127.0.0.1:6381\r\n", Busy),
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
            ("HTTP/1.1 400 Bad Request\r\n", Failed),
            ("+OK\r\n+QUEUED\r\n*999999999\r\n", Failed),
            (
                "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n+OK\r\n*2\r\n$999999999\r\n",
                Failed,
            ),
        ] {
            let error = answered(replies).await;
            assert_eq!(error.kind, kind, "{replies:?}: {error}");
        }
    }
}
