//! Carries out what messages say: writes and deletes of single keys, many at a time.
//!
//! ```text
//! one server   MSET key value ...   DEL key ...
//! a cluster    SET key value ...    DEL key ...     one by one: a node refuses a command over several slots
//! ```

use std::{collections::HashMap, io, sync::Arc};

use async_trait::async_trait;
use tokio::time::timeout;

use super::{
    cluster::Cluster,
    error,
    socket::Address,
    wire::{Reply, Wire, not_redis},
};
use crate::{
    error::EdgeError,
    target::{Applier, Change, Rejected, resp},
};

/// Most pairs of one `MSET`, and most keys of one `DEL`.
const KEYS: usize = 1_000;

/// Most bytes of values of one `MSET`, unless a single one is larger.
const BYTES: usize = 512 * 1024;

/// What Redis takes without being told otherwise.
const LONGEST: usize = 512 << 20;

/// What begins keys that rekindle keeps its own record under.
const OURS: &[u8] = b"rekindle:";

/// Applies changes over connections of its own, one to each server.
pub(super) struct RedisApplier {
    cluster: Arc<Cluster>,
    prefix: Vec<u8>,
    /// Out of its place while in use: after an error, or when the caller stops waiting, it is not used again.
    wires: HashMap<Address, Wire>,
}

/// A change under its whole key.
struct Keyed<'a> {
    key: Vec<u8>,
    value: Option<&'a [u8]>,
}

impl RedisApplier {
    pub(super) fn new(cluster: Arc<Cluster>, prefix: &str) -> Self {
        Self {
            cluster,
            prefix: prefix.as_bytes().to_vec(),
            wires: HashMap::new(),
        }
    }

    async fn carry_out(&mut self, changes: Vec<Keyed<'_>>) -> Result<(), EdgeError> {
        let view = self.cluster.view().await?;
        let mut of_node: Vec<Vec<Keyed<'_>>> = Vec::new();
        of_node.resize_with(view.nodes.len(), Vec::new);
        for change in changes {
            of_node[view.node_of(&change.key)].push(change);
        }
        let most = if view.is_cluster() { 1 } else { KEYS };
        for (node, mine) in view.nodes.iter().zip(of_node) {
            if mine.is_empty() {
                continue;
            }
            let server = &node.server;
            let mut wire = match self.wires.remove(server.address()) {
                Some(wire) => wire,
                None => Wire::open(server).await?,
            };
            let bytes = mine.iter().filter_map(|one| one.value).map(<[u8]>::len);
            let limit = server.patience(bytes.sum());
            let refusal = timeout(limit, exchange(&mut wire, &mine, most))
                .await
                .map_err(|_| error::timed_out(&server.place, limit))?
                .map_err(|e| error::socket(&server.place, e))?;
            if let Some(text) = refusal {
                let (code, detail) = error::split(&text);
                return Err(error::refused(&server.place, "the write", code, detail));
            }
            self.wires.insert(server.address().clone(), wire);
        }
        Ok(())
    }
}

#[async_trait]
impl Applier for RedisApplier {
    async fn apply(&mut self, changes: &[Change]) -> Result<Vec<Rejected>, EdgeError> {
        let mut rejected = Vec::new();
        let mut keyed = Vec::with_capacity(changes.len());
        for (row, change) in changes.iter().enumerate() {
            let key = [&self.prefix, change.key.as_bytes()].concat();
            let value = change.value.as_deref();
            let reason = if key.starts_with(OURS) {
                "the key is one that rekindle keeps its own record under".to_owned()
            } else if key.len().max(value.map_or(0, <[u8]>::len)) > LONGEST {
                format!("key or value is longer than the {LONGEST} bytes that redis takes")
            } else {
                keyed.push(Keyed { key, value });
                continue;
            };
            rejected.push(Rejected { row, reason });
        }
        let done = self.carry_out(keyed).await;
        if done.is_err() {
            // The servers may be others: a master was replaced, slots were moved.
            self.cluster.doubt();
        }
        done.map(|()| rejected)
    }
}

/// Sends `changes` in commands of up to `most` keys; returns what a server says that does not do all of them.
async fn exchange(
    wire: &mut Wire,
    changes: &[Keyed<'_>],
    most: usize,
) -> io::Result<Option<String>> {
    let mut commands = 0;
    let writes: Vec<_> = changes
        .iter()
        .filter_map(|one| Some((&one.key, one.value?)))
        .collect();
    let mut rest = writes.as_slice();
    while !rest.is_empty() {
        let (part, left) = rest.split_at(fitting(rest.iter().map(|(_, value)| value.len()), most));
        rest = left;
        resp::array(wire.out(), 1 + 2 * part.len());
        // A cluster takes an MSET of one pair, too.
        resp::bulk(wire.out(), &[b"MSET"]);
        for (key, value) in part {
            resp::bulk(wire.out(), &[key]);
            wire.value(value).await?;
        }
        commands += 1;
    }
    let gone: Vec<_> = changes.iter().filter(|one| one.value.is_none()).collect();
    for part in gone.chunks(most) {
        resp::array(wire.out(), 1 + part.len());
        resp::bulk(wire.out(), &[b"DEL"]);
        for one in part {
            resp::bulk(wire.out(), &[&one.key]);
        }
        wire.spill().await?;
        commands += 1;
    }
    wire.flush().await?;
    let mut refusal = None;
    for _ in 0..commands {
        match wire.reply().await? {
            Reply::Status(_) | Reply::Number(_) => {}
            Reply::Error(text) => refusal = refusal.or(Some(text)),
            _ => return Err(not_redis()),
        }
    }
    Ok(refusal)
}

/// Returns how many values go into one command: at least one.
fn fitting(lengths: impl Iterator<Item = usize>, most: usize) -> usize {
    let mut bytes = 0;
    let fits = |length: &usize| {
        bytes += length;
        bytes <= BYTES
    };
    lengths.take(most).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_bounded_and_never_empty() {
        assert_eq!(fitting([BYTES * 2, 1].into_iter(), KEYS), 1);
        assert_eq!(fitting([1; 5].into_iter(), 1), 1);
        assert_eq!(fitting([1; 5].into_iter(), KEYS), 5);
    }
}
