//! Writes chunks to a cluster, together with the evidence for them.
//!
//! A node refuses a transaction over several slots. So a chunk is written in two steps, each to all its nodes at once:
//!
//! ```text
//!            WATCH claim marker  MGET claim marker                  on every node, once for each connection
//! rows       SET key value  SET key value ...                       to the nodes of their slots
//! evidence   MULTI  MSET marker "7 token"  EXEC  WATCH ...  MGET    on every node, when all rows are there
//! ```
//!
//! The watches span both steps: a node that was emptied or went back in between has no marker of this chunk, and says
//! so. A marker is only set when every node took its rows. What another process has under way is stopped by `fence`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::time::timeout;

use super::{
    SharedServer,
    cluster::{Cluster, View},
    culprits, error, fence,
    layout::Layout,
    lease::Claim,
    proof::{Link, Proof},
    socket::Address,
    wire::{Reply, Wire, not_redis},
};
use crate::{
    chunk::Chunk,
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, PartitionId, RunId},
    target::{ChunkWriter, Written, resp},
};

/// Writes one partition over a connection to each node.
pub(super) struct ClusterWriter {
    seed: SharedServer,
    cluster: Arc<Cluster>,
    prefix: Vec<u8>,
    run: RunId,
    partition: PartitionId,
    /// Absent before the first chunk and after an error.
    lanes: Option<(Arc<View>, Vec<Lane>)>,
    /// Whether connections of ours may be left over on some node.
    connected_before: bool,
}

/// The way to one node.
struct Lane {
    proof: Proof,
    link: Link,
}

/// A row that a node sent elsewhere while its slot moves: its place among the accepted rows.
type Elsewhere = BTreeMap<Address, Vec<usize>>;

impl ClusterWriter {
    pub(super) fn new(
        seed: SharedServer,
        cluster: Arc<Cluster>,
        prefix: &str,
        run: &RunId,
        partition: PartitionId,
    ) -> Self {
        Self {
            seed,
            cluster,
            prefix: prefix.as_bytes().to_vec(),
            run: run.clone(),
            partition,
            lanes: None,
            connected_before: false,
        }
    }

    async fn send_in_time(
        &mut self,
        seq: ChunkSeq,
        chunk: &Chunk,
        layout: &Layout,
    ) -> Result<(), EdgeError> {
        let limit = self.seed.patience(chunk.byte_count());
        let place = self.seed.place.clone();
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
        let view = self.cluster.view().await?;
        // Taken out while in use: after an error, or when the engine stops waiting, none is ever used again.
        let mut lanes = match self.lanes.take() {
            Some((seen, lanes)) if Arc::ptr_eq(&seen, &view) => lanes,
            _ => self.connect(&view).await?,
        };
        let mut claims = Vec::with_capacity(lanes.len());
        for Lane { proof, link } in &mut lanes {
            claims.push(proof.begin(link, seq).await?);
        }
        let elsewhere = self.rows(chunk, layout, &view, &mut lanes).await?;
        for (address, rows) in elsewhere {
            self.follow(address, &rows, chunk, layout).await?;
        }
        seal(seq, &claims, &mut lanes).await?;
        self.lanes = Some((view, lanes));
        Ok(())
    }

    /// Opens a connection to each node.
    async fn connect(&mut self, view: &View) -> Result<Vec<Lane>, EdgeError> {
        let name = self.name();
        let left_over = std::mem::replace(&mut self.connected_before, true);
        let mut lanes = Vec::with_capacity(view.nodes.len());
        for node in &view.nodes {
            if left_over {
                // What is still under way there would land after the chunks that follow.
                fence::end_connections(&node.server, &name).await?;
            }
            let marker = node.tenure.keys().marker(&self.run, self.partition);
            let proof = Proof::new(Arc::clone(&node.server), Arc::clone(&node.tenure), marker);
            let mut wire = Wire::open(&node.server).await?;
            fence::name(&mut wire, &proof, &name).await?;
            let link = Link {
                wire,
                watched: None,
            };
            lanes.push(Lane { proof, link });
        }
        Ok(lanes)
    }

    /// Returns the name of our connections. It ends with a mark, so that no other begins with it.
    fn name(&self) -> String {
        format!("{}{}:{}.", fence::WRITER, self.run, self.partition)
    }

    /// Sends each row to the node of its slot and waits until all have answered. Returns the rows that a node sent
    /// elsewhere.
    async fn rows(
        &self,
        chunk: &Chunk,
        layout: &Layout,
        view: &View,
        lanes: &mut [Lane],
    ) -> Result<Elsewhere, EdgeError> {
        let mut sent: Vec<Vec<usize>> = vec![Vec::new(); lanes.len()];
        let mut key = self.prefix.clone();
        for (place, row) in layout.accepted(chunk).enumerate() {
            key.truncate(self.prefix.len());
            key.extend_from_slice(row.key);
            let at = view.node_of(&key);
            let Lane { proof, link } = &mut lanes[at];
            resp::array(link.wire.out(), 3);
            resp::bulk(link.wire.out(), &[b"SET"]);
            resp::bulk(link.wire.out(), &[&key]);
            let value = link.wire.value(row.value).await;
            value.map_err(|e| proof.broken(e))?;
            sent[at].push(place);
        }
        for Lane { proof, link } in &mut *lanes {
            link.wire.flush().await.map_err(|e| proof.broken(e))?;
        }
        let mut elsewhere = Elsewhere::new();
        for (Lane { proof, link }, places) in lanes.iter_mut().zip(sent) {
            for place in places {
                match link.wire.reply().await.map_err(|e| proof.broken(e))? {
                    Reply::Status(_) => {}
                    Reply::Error(text) => {
                        let address = asked_at(&text, proof.server.address())
                            .ok_or_else(|| proof.refused(&text))?;
                        elsewhere.entry(address).or_default().push(place);
                    }
                    _ => return Err(proof.broken(not_redis())),
                }
            }
        }
        Ok(elsewhere)
    }

    /// Sends `rows` to the node at `address`, which is being given their slots.
    async fn follow(
        &self,
        address: Address,
        rows: &[usize],
        chunk: &Chunk,
        layout: &Layout,
    ) -> Result<(), EdgeError> {
        let server = self.seed.sibling(address);
        let broken = |e| error::socket(&server.place, e);
        let mut wire = Wire::open(&server).await?;
        resp::command(wire.out(), &[b"CLIENT", b"SETNAME", self.name().as_bytes()]);
        let mut wanted = rows.iter().copied().peekable();
        for (place, row) in layout.accepted(chunk).enumerate() {
            if wanted.next_if_eq(&place).is_none() {
                continue;
            }
            resp::command(wire.out(), &[b"ASKING"]);
            resp::array(wire.out(), 3);
            resp::bulk(wire.out(), &[b"SET"]);
            resp::bulk(wire.out(), &[&self.prefix, row.key]);
            wire.value(row.value).await.map_err(broken)?;
        }
        wire.flush().await.map_err(broken)?;
        for _ in 0..=2 * rows.len() {
            match wire.reply().await.map_err(broken)? {
                Reply::Status(_) => {}
                Reply::Error(text) => {
                    let (code, detail) = error::split(&text);
                    return Err(error::refused(&server.place, "the write", code, detail));
                }
                _ => return Err(broken(not_redis())),
            }
        }
        Ok(())
    }
}

/// Writes the evidence for chunk `seq` on every node.
async fn seal(seq: ChunkSeq, claims: &[Arc<Claim>], lanes: &mut [Lane]) -> Result<(), EdgeError> {
    for (Lane { proof, link }, claim) in lanes.iter_mut().zip(claims) {
        let out = link.wire.out();
        resp::command(out, &[b"MULTI"]);
        resp::array(out, 3);
        resp::bulk(out, &[b"MSET"]);
        proof.seal(seq, claim, &mut link.wire);
        link.wire.flush().await.map_err(|e| proof.broken(e))?;
    }
    for (Lane { proof, link }, claim) in lanes.iter_mut().zip(claims) {
        proof.expect(&mut link.wire, "OK").await?;
        proof.expect(&mut link.wire, "QUEUED").await?;
        proof.sealed(seq, Arc::clone(claim), 1, link).await?;
    }
    Ok(())
}

/// Returns where `ASK 3999 127.0.0.1:6381` of the server at `from` sends a row; `None` for another refusal.
fn asked_at(refusal: &str, from: &Address) -> Option<Address> {
    let (_slot, address) = refusal.strip_prefix("ASK ")?.split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match (host, from) {
        ("", Address::Tcp { host, .. }) => host,
        (host, _) => host,
    };
    Some(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

#[async_trait]
impl ChunkWriter for ClusterWriter {
    async fn write(&mut self, seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        let longest = self.seed.longest(chunk).await?;
        let mut layout = Layout::for_run(chunk, &self.run, &self.prefix, longest, &BTreeSet::new());
        let mut sent = self.send_in_time(seq, chunk, &layout).await;
        if let Err(error) = &sent
            && error.kind == ErrorKind::Credentials
        {
            let rows = culprits::written(&self.prefix, chunk, &layout);
            let forbidden = culprits::forbidden(&self.seed, b"SET", &rows).await?;
            if !forbidden.is_empty() {
                layout = Layout::for_run(chunk, &self.run, &self.prefix, longest, &forbidden);
                sent = self.send_in_time(seq, chunk, &layout).await;
            }
        }
        if let Err(error) = sent {
            if error.kind != ErrorKind::EvidenceLost {
                self.cluster.doubt();
            }
            return Err(error);
        }
        Ok(Written {
            rejected: layout.rejected,
            length: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ask_sends_a_row_elsewhere() {
        let here = Address::Tcp {
            host: "a".into(),
            port: 1,
        };
        let there = |host: &str| {
            Some(Address::Tcp {
                host: host.into(),
                port: 6381,
            })
        };
        assert_eq!(
            asked_at("ASK 3999 127.0.0.1:6381", &here),
            there("127.0.0.1")
        );
        assert_eq!(asked_at("ASK 3999 ::1:6381", &here), there("::1"));
        assert_eq!(asked_at("ASK 3999 :6381", &here), there("a"));
        for other in ["MOVED 3999 127.0.0.1:6381", "ASK", "ASK 1 h:x", "OOM"] {
            assert_eq!(asked_at(other, &here), None, "{other}");
        }
    }
}
