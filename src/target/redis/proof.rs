//! What a partition keeps on one server to prove its chunks: the marker, under the claim of the run.

use std::{io, sync::Arc};

use super::{
    SharedServer, error,
    evidence::chunk_of,
    lease::{Claim, Tenure},
    wire::{Reply, Wire, not_redis},
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::ChunkSeq,
    target::resp,
};

/// A connection, and what was there when it was last watched over it; `None` when nobody looked yet.
pub(super) struct Link {
    pub wire: Wire,
    pub watched: Option<Watched>,
}

/// What a chunk is written after.
#[derive(Debug, Default)]
pub(super) struct Watched {
    claim: Option<Vec<u8>>,
    marker: Option<Vec<u8>>,
}

/// Where the proof of one partition is on one server.
pub(super) struct Proof {
    pub server: SharedServer,
    tenure: Arc<Tenure>,
    /// The key of the claim.
    claim: Vec<u8>,
    /// The key of the marker.
    marker: Vec<u8>,
}

impl Proof {
    /// Returns the proof that lies under the key `marker`.
    pub(super) fn new(server: SharedServer, tenure: Arc<Tenure>, marker: String) -> Self {
        Self {
            claim: tenure.keys().writer().into_bytes(),
            server,
            tenure,
            marker: marker.into_bytes(),
        }
    }

    /// Makes sure that chunk `seq` may be written over `link`: our claim is there, and so is the chunk before. Both
    /// are watched from now on. Returns the claim.
    pub(super) async fn begin(
        &self,
        link: &mut Link,
        seq: ChunkSeq,
    ) -> Result<Arc<Claim>, EdgeError> {
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
        Ok(claim)
    }

    /// Puts the last words of a transaction on their way: the marker's pair, `EXEC`, and what the next chunk begins
    /// with. The caller began the transaction, and an `MSET` that this pair ends.
    pub(super) fn seal(&self, seq: ChunkSeq, claim: &Claim, wire: &mut Wire) {
        resp::bulk(wire.out(), &[&self.marker]);
        resp::bulk(wire.out(), &[format!("{seq} {}", claim.token()).as_bytes()]);
        resp::command(wire.out(), &[b"EXEC"]);
        self.watch(wire);
    }

    /// Reads the answers to [`Proof::seal`]: fails unless the transaction of `msets` commands was carried out.
    pub(super) async fn sealed(
        &self,
        seq: ChunkSeq,
        mut claim: Arc<Claim>,
        msets: usize,
        link: &mut Link,
    ) -> Result<(), EdgeError> {
        let executed = self.executed(msets, &mut link.wire).await?;
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
        Ok(())
    }

    fn watch(&self, wire: &mut Wire) {
        resp::command(wire.out(), &[b"WATCH", &self.claim, &self.marker]);
        resp::command(wire.out(), &[b"MGET", &self.claim, &self.marker]);
    }

    /// Watches, and returns what is there.
    async fn look(&self, wire: &mut Wire) -> Result<Watched, EdgeError> {
        self.watch(wire);
        wire.flush().await.map_err(|e| self.broken(e))?;
        self.watched(wire).await
    }

    /// Reads the answers to [`Proof::watch`].
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

    /// Reads the answer to `EXEC`: whether it was carried out. Every command has to have answered for itself, or the
    /// answers are not those to what was sent.
    async fn executed(&self, msets: usize, wire: &mut Wire) -> Result<bool, EdgeError> {
        match self.reply(wire).await? {
            Reply::Array(None) => Ok(false),
            Reply::Array(Some(answers)) if answers.len() == msets => {
                for answer in answers {
                    match answer {
                        Reply::Status(text) if text == "OK" => {}
                        Reply::Error(text) => return Err(self.refused(&text)),
                        _ => return Err(self.broken(not_redis())),
                    }
                }
                Ok(true)
            }
            _ => Err(self.broken(not_redis())),
        }
    }

    /// Reads a reply that has to be this status.
    pub(super) async fn expect(&self, wire: &mut Wire, status: &str) -> Result<(), EdgeError> {
        match self.reply(wire).await? {
            Reply::Status(text) if text == status => Ok(()),
            _ => Err(self.broken(not_redis())),
        }
    }

    /// Reads a reply. A refusal of a command inside `MULTI` comes before the `EXECABORT` that it causes, and names
    /// the cause.
    pub(super) async fn reply(&self, wire: &mut Wire) -> Result<Reply, EdgeError> {
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

    pub(super) fn refused(&self, text: &str) -> EdgeError {
        let (code, detail) = error::split(text);
        error::refused(&self.server.place, "the write", code, detail)
    }

    pub(super) fn broken(&self, error: io::Error) -> EdgeError {
        error::socket(&self.server.place, error)
    }
}

impl Watched {
    fn is_under(&self, claim: &Claim) -> bool {
        self.claim.as_deref() == Some(claim.text().as_bytes())
    }
}
