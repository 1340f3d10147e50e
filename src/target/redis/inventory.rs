//! Lists the keys below the plan's prefix, and removes some if nobody wrote them meanwhile.
//!
//! ```text
//! SCAN cursor MATCH kv:* COUNT 1000          on every master
//! WATCH key ...   (the engine asks the source)   MULTI  DEL key ...  EXEC     nil when one was written since WATCH
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::time::timeout;

use super::{
    SharedServer,
    cluster::{Cluster, View},
    error,
    slots::slot_of,
    socket::Address,
    wire::{Reply, Wire, not_redis},
};
use crate::{
    error::EdgeError,
    ids::{ResourceName, StoredName},
    target::{Inventory, resp},
};

/// Keys that a server looks at for one answer: a millisecond of its time.
const COUNT: u32 = 1_000;

/// Keys of one `WATCH`.
const WATCHED: usize = 500;

/// What begins the keys of rekindle itself.
const OURS: &[u8] = b"rekindle:";

/// The keys of one plan's target.
pub(super) struct RedisInventory {
    cluster: Arc<Cluster>,
    prefix: Vec<u8>,
    /// The masters when it began; one that takes over a slot meanwhile has its keys from one of them.
    view: Arc<View>,
    /// Which of them is scanned, and how far.
    at: Option<(usize, u64)>,
    /// Connections for watching, one to each server; absent while in use and after an error.
    wires: HashMap<Address, Wire>,
}

impl RedisInventory {
    pub(super) async fn begin(cluster: Arc<Cluster>, prefix: &str) -> Result<Self, EdgeError> {
        Ok(Self {
            view: cluster.view().await?,
            cluster,
            prefix: prefix.as_bytes().to_vec(),
            at: Some((0, 0)),
            wires: HashMap::new(),
        })
    }

    fn key(&self, name: &StoredName) -> Vec<u8> {
        [self.prefix.as_slice(), &name.key].concat()
    }

    /// Sends `words` with the keys of `names` after them and returns as many answers as `answers` says.
    async fn exchange(
        &mut self,
        names: &[StoredName],
        commands: impl FnOnce(&mut Vec<u8>, &[Vec<u8>]),
        answers: usize,
    ) -> Result<Vec<Reply>, EdgeError> {
        let keys: Vec<_> = names.iter().map(|name| self.key(name)).collect();
        let server = self.server(&keys);
        let mut wire = match self.wires.remove(server.address()) {
            Some(wire) => wire,
            None => Wire::open(&server).await?.roomy(),
        };
        commands(wire.out(), &keys);
        let exchanged = async {
            wire.flush().await?;
            let mut replies = Vec::with_capacity(answers);
            for _ in 0..answers {
                replies.push(wire.reply().await?);
            }
            std::io::Result::Ok(replies)
        };
        let limit = server.response_timeout;
        let replies = timeout(limit, exchanged)
            .await
            .map_err(|_| error::timed_out(&server.place, limit))?
            .map_err(|e| error::socket(&server.place, e))?;
        for reply in &replies {
            if let Reply::Error(text) = reply {
                self.cluster.doubt();
                let (code, detail) = error::split(text);
                return Err(error::refused(
                    &server.place,
                    "to remove keys",
                    code,
                    detail,
                ));
            }
        }
        self.wires.insert(server.address().clone(), wire);
        Ok(replies)
    }

    /// Returns the server of a group of keys.
    fn server(&self, keys: &[Vec<u8>]) -> SharedServer {
        let node = keys.first().map_or(0, |key| self.view.node_of(key));
        Arc::clone(&self.view.nodes[node].server)
    }
}

#[async_trait]
impl Inventory for RedisInventory {
    async fn next(&mut self) -> Result<Option<Vec<StoredName>>, EdgeError> {
        let Some((node, cursor)) = self.at else {
            return Ok(None);
        };
        let mut scan = ::redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(pattern(&self.prefix))
            .arg("COUNT")
            .arg(COUNT);
        let server = &self.view.nodes[node].server;
        let (next, keys): (u64, Vec<Vec<u8>>) = server.ask("to list its keys", &scan).await?;
        self.at = match next {
            0 => Some((node + 1, 0)).filter(|(next, _)| *next < self.view.nodes.len()),
            next => Some((node, next)),
        };
        let names = keys.into_iter().filter_map(|key| {
            let rest = key.strip_prefix(self.prefix.as_slice())?;
            (!key.starts_with(OURS)).then(|| StoredName {
                place: String::new(),
                key: rest.to_vec(),
            })
        });
        Ok(Some(names.collect()))
    }

    fn owned(
        &self,
        _resource: &ResourceName,
        key: &[u8],
        _beside: &[Option<&[u8]>],
    ) -> Vec<StoredName> {
        vec![StoredName {
            place: String::new(),
            key: key.to_vec(),
        }]
    }

    async fn groups(&mut self, names: Vec<StoredName>) -> Result<Vec<Vec<StoredName>>, EdgeError> {
        self.view = self.cluster.view().await?;
        if !self.view.is_cluster() {
            return Ok(vec![names]);
        }
        // A transaction of a cluster is about one slot.
        let mut of_slot: BTreeMap<u16, Vec<StoredName>> = BTreeMap::new();
        for name in names {
            let slot = slot_of(&self.key(&name));
            of_slot.entry(slot).or_default().push(name);
        }
        Ok(of_slot.into_values().collect())
    }

    async fn gone(&mut self, names: &[StoredName]) -> Result<Vec<StoredName>, EdgeError> {
        let commands = |out: &mut Vec<u8>, keys: &[Vec<u8>]| {
            for key in keys {
                resp::command(out, &[b"EXISTS", key]);
            }
        };
        let replies = self.exchange(names, commands, names.len()).await?;
        let gone = names.iter().zip(replies);
        let gone = gone.filter(|(_, reply)| matches!(reply, Reply::Number(0)));
        Ok(gone.map(|(name, _)| name.clone()).collect())
    }

    async fn watch(&mut self, names: &[StoredName]) -> Result<(), EdgeError> {
        let commands = |out: &mut Vec<u8>, keys: &[Vec<u8>]| {
            resp::command(out, &[b"UNWATCH"]);
            // Others get their turn in between.
            for some in keys.chunks(WATCHED) {
                with_keys(out, b"WATCH", some);
            }
        };
        let answers = 1 + names.len().div_ceil(WATCHED);
        self.exchange(names, commands, answers).await.map(drop)
    }

    async fn remove(&mut self, names: &[StoredName]) -> Result<Option<u64>, EdgeError> {
        let commands = |out: &mut Vec<u8>, keys: &[Vec<u8>]| {
            resp::command(out, &[b"MULTI"]);
            with_keys(out, b"DEL", keys);
            resp::command(out, &[b"EXEC"]);
        };
        let mut replies = self.exchange(names, commands, 3).await?;
        match replies.pop() {
            Some(Reply::Array(None)) => Ok(None),
            Some(Reply::Array(Some(done))) => match done.first() {
                Some(Reply::Number(removed)) => Ok(Some(u64::try_from(*removed).unwrap_or(0))),
                _ => Err(error::socket(&self.view.nodes[0].server.place, not_redis())),
            },
            _ => Err(error::socket(&self.view.nodes[0].server.place, not_redis())),
        }
    }
}

fn with_keys(out: &mut Vec<u8>, command: &[u8], keys: &[Vec<u8>]) {
    resp::array(out, 1 + keys.len());
    resp::bulk(out, &[command]);
    for key in keys {
        resp::bulk(out, &[key]);
    }
}

/// Returns what matches the keys that begin with `prefix`, and no others.
pub(super) fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for byte in prefix {
        if b"*?[]^\\".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern.push(b'*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_stands_for_itself() {
        assert_eq!(pattern(b"kv:"), b"kv:*");
        assert_eq!(pattern(b"a*[b]?"), b"a\\*\\[b\\]\\?*");
    }
}
