//! Which servers a target is made of: one, or the masters of a cluster.
//!
//! A cluster is as many servers, each with keys of its own (see `keys`): its lease, its claim and its markers lie in a
//! slot that it serves, so what it holds is proven by itself. That slot is the last one of the server: tools that move
//! slots begin with the first. What becomes of it:
//!
//! | happens | then |
//! |---|---|
//! | a master fails over to its replica | the same slot, at another address: markers came along, or are older |
//! | a master comes back empty or older | its markers say so, whatever the others hold |
//! | other slots move | the map is read again; the rows in them moved too |
//! | the slot of the markers moves, a server joins | no markers there: the resources start over |
//!
//! Two runs are kept apart by a lease under a name that does not depend on who serves what, and by one on each master.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use ::redis::Value;
use tokio::sync::Mutex;

use super::{
    SharedServer, fence,
    info::Info,
    keys::Keys,
    lease::Tenure,
    slots::{SLOTS, slot_of},
    socket::Address,
};
use crate::{
    error::{EdgeError, ErrorKind},
    target::{Lease, LeaseOwner},
};

/// No server.
const NOBODY: u16 = u16::MAX;

/// One server that rows go to.
pub(super) struct Node {
    pub server: SharedServer,
    pub tenure: Arc<Tenure>,
    /// The slot of its own keys; `None` outside of a cluster.
    anchor: Option<u16>,
}

/// All servers, as they were when somebody looked.
pub(super) struct View {
    /// Never empty; in the order of their slots.
    pub nodes: Vec<Arc<Node>>,
    /// Which of `nodes` serves a slot; `None` outside of a cluster.
    owners: Option<Box<[u16]>>,
    /// Where the lease of the whole cluster is.
    home: Option<Arc<Node>>,
}

impl View {
    /// Returns whether this is a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.owners.is_some()
    }

    /// Returns which of `nodes` serves `key`.
    pub(super) fn node_of(&self, key: &[u8]) -> usize {
        self.owners
            .as_ref()
            .map_or(0, |owners| usize::from(owners[usize::from(slot_of(key))]))
    }

    /// Returns everything that has to be held, what decides first.
    fn tenures(&self) -> impl Iterator<Item = &Arc<Tenure>> {
        self.home.iter().chain(&self.nodes).map(|node| &node.tenure)
    }

    /// Returns the one of the nodes, or the home, that was there already.
    fn find(&self, address: &Address, anchor: u16, keys: &Keys) -> Option<&Arc<Node>> {
        self.nodes.iter().chain(&self.home).find(|node| {
            node.server.address() == address
                && node.anchor == Some(anchor)
                && node.tenure.keys() == keys
        })
    }
}

/// The servers behind the URL of a plan.
pub(super) struct Cluster {
    seed: SharedServer,
    view: RwLock<Option<Arc<View>>>,
    /// Set by an error: the servers may be others by now.
    in_doubt: AtomicBool,
    /// Held while the servers are asked.
    looking: Mutex<()>,
    /// Who holds the lease, for servers that join.
    owner: RwLock<Option<LeaseOwner>>,
}

impl Cluster {
    pub(super) fn new(seed: SharedServer) -> Self {
        Self {
            seed,
            view: RwLock::default(),
            in_doubt: AtomicBool::new(false),
            looking: Mutex::default(),
            owner: RwLock::default(),
        }
    }

    /// Returns the servers. Asks for them the first time, and after [`Cluster::doubt`] in a cluster.
    ///
    /// # Errors
    ///
    /// `Busy` while some slots have no server, `LeaseLost` when a server that joined belongs to another run.
    pub(super) async fn view(&self) -> Result<Arc<View>, EdgeError> {
        if let Some(view) = self.known()
            && !self.in_doubt.load(Ordering::Acquire)
        {
            return Ok(view);
        }
        let _looking = self.looking.lock().await;
        let known = self.known();
        if let Some(view) = &known
            && !(view.is_cluster() && self.in_doubt.load(Ordering::Acquire))
        {
            return Ok(Arc::clone(view));
        }
        // Taken back before the look: a doubt that comes meanwhile is of later.
        self.in_doubt.store(false, Ordering::Release);
        let looked = self.look(known.as_deref()).await;
        match looked {
            Ok(view) => {
                let view = Arc::new(view);
                *self.view.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::clone(&view));
                Ok(view)
            }
            Err(error) => {
                self.doubt();
                Err(error)
            }
        }
    }

    /// Says that a server answered otherwise than it should: the next look asks anew.
    pub(super) fn doubt(&self) {
        self.in_doubt.store(true, Ordering::Release);
    }

    fn known(&self) -> Option<Arc<View>> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn look(&self, known: Option<&View>) -> Result<View, EdgeError> {
        if known.is_none() && !Info::read(&self.seed).await?.is_cluster() {
            let tenure = Arc::new(Tenure::new(Arc::clone(&self.seed), Keys::plain()));
            return Ok(View {
                nodes: vec![Arc::new(Node {
                    server: Arc::clone(&self.seed),
                    tenure,
                    anchor: None,
                })],
                owners: None,
                home: None,
            });
        }
        let masters = self.masters(known).await?;
        let mut owners = vec![NOBODY; usize::from(SLOTS)].into_boxed_slice();
        for (index, (_, ranges)) in masters.iter().enumerate() {
            let index = u16::try_from(index).unwrap_or(NOBODY);
            for &(first, last) in ranges {
                owners[usize::from(first)..=usize::from(last)].fill(index);
            }
        }
        let open = owners.iter().filter(|&&owner| owner == NOBODY).count();
        if open > 0 {
            return Err(EdgeError::new(
                ErrorKind::Busy,
                format!(
                    "the cluster of {} has no server for {open} of its {SLOTS} slots",
                    self.seed.place
                ),
            ));
        }
        let mut joined = Vec::new();
        let mut node =
            |server: &dyn Fn() -> SharedServer, address: &Address, anchor, keys: Keys| {
                known
                    .and_then(|known| known.find(address, anchor, &keys))
                    .cloned()
                    .unwrap_or_else(|| {
                        let server = server();
                        let tenure = Arc::new(Tenure::new(Arc::clone(&server), keys));
                        joined.push(Arc::clone(&tenure));
                        Arc::new(Node {
                            server,
                            tenure,
                            anchor: Some(anchor),
                        })
                    })
            };
        let nodes: Vec<_> = masters
            .iter()
            .map(|(address, ranges)| {
                let anchor = ranges.iter().map(|(_, last)| *last).max().unwrap_or(0);
                let server = || Arc::new(self.seed.sibling(address.clone()));
                node(&server, address, anchor, Keys::in_slot(anchor))
            })
            .collect();
        let keys = Keys::of_cluster();
        let slot = slot_of(keys.lease().as_bytes());
        // Over the connection of that node: one that is used only now and then ends unnoticed.
        let host = &nodes[usize::from(owners[usize::from(slot)])].server;
        let home = node(&|| Arc::clone(host), host.address(), slot, keys);
        self.hold(&joined).await?;
        Ok(View {
            nodes,
            owners: Some(owners),
            home: Some(home),
        })
    }

    /// Takes the lease of servers that joined, if we have the others'.
    async fn hold(&self, joined: &[Arc<Tenure>]) -> Result<(), EdgeError> {
        let owner = self
            .owner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(owner) = owner else { return Ok(()) };
        for tenure in joined {
            if let Lease::TakenBy(other) = tenure.renew(&owner).await? {
                return Err(other.lease_lost(tenure.place()));
            }
        }
        Ok(())
    }

    /// Asks the server of the plan, then the others, who serves which slots: address and ranges of each master, in the
    /// order of their first slot.
    async fn masters(&self, known: Option<&View>) -> Result<Vec<Master>, EdgeError> {
        let mut command = ::redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let others = known.iter().flat_map(|view| &view.nodes);
        let mut failure = None;
        for server in std::iter::once(&self.seed).chain(others.map(|node| &node.server)) {
            match server.ask::<Value>("to show its slots", &command).await {
                Ok(answer) => {
                    return read_slots(&answer, server.address()).ok_or_else(|| {
                        EdgeError::new(
                            ErrorKind::Refused,
                            format!(
                                "{} tells its slots in a way that is not known",
                                server.place
                            ),
                        )
                    });
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            EdgeError::new(ErrorKind::Internal, "a cluster without a server to ask")
        }))
    }

    /// Takes every lease for `owner`, or none.
    pub(super) async fn take(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        let view = self.view().await?;
        let mut taken: Vec<&Arc<Tenure>> = Vec::new();
        for tenure in view.tenures() {
            if let Lease::TakenBy(other) = tenure.take(owner).await? {
                for tenure in taken {
                    tenure.release(owner).await?;
                }
                return Ok(Lease::TakenBy(other));
            }
            taken.push(tenure);
        }
        *self.owner.write().unwrap_or_else(PoisonError::into_inner) = Some(owner.clone());
        if view.is_cluster() {
            // From here on, who opens a connection finds our claim.
            for node in &view.nodes {
                fence::end_connections(&node.server, fence::WRITER).await?;
            }
        }
        Ok(Lease::Held)
    }

    /// Renews every lease.
    pub(super) async fn renew(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        let view = self.view().await?;
        for tenure in view.tenures() {
            if let Lease::TakenBy(other) = tenure.renew(owner).await? {
                return Ok(Lease::TakenBy(other));
            }
        }
        Ok(Lease::Held)
    }

    /// Gives every lease back that is ours.
    pub(super) async fn release(&self, owner: &LeaseOwner) -> Result<(), EdgeError> {
        let view = self.view().await?;
        *self.owner.write().unwrap_or_else(PoisonError::into_inner) = None;
        for tenure in view.tenures() {
            tenure.release(owner).await?;
        }
        Ok(())
    }

    /// Returns who holds any of the leases.
    pub(super) async fn owner(&self) -> Result<Option<LeaseOwner>, EdgeError> {
        let view = self.view().await?;
        for tenure in view.tenures() {
            if let Some(owner) = tenure.owner().await? {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    /// Removes every claim that is ours.
    pub(super) async fn retire(&self) -> Result<(), EdgeError> {
        let view = self.view().await?;
        for tenure in view.tenures() {
            tenure.retire().await?;
        }
        Ok(())
    }
}

/// Address of a master, and its ranges of slots, both ends included.
type Master = (Address, Vec<(u16, u16)>);

/// Reads the answer to `CLUSTER SLOTS` of the server at `asked`: `[[0, 5460, [host, port, id, ...], replica...], ...]`.
fn read_slots(answer: &Value, asked: &Address) -> Option<Vec<Master>> {
    let Value::Array(ranges) = answer else {
        return None;
    };
    let mut masters: Vec<Master> = Vec::new();
    let mut rows = Vec::new();
    for range in ranges {
        let Value::Array(parts) = range else {
            return None;
        };
        let [
            Value::Int(first),
            Value::Int(last),
            Value::Array(master),
            ..,
        ] = &parts[..]
        else {
            return None;
        };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        if first > last || last >= SLOTS {
            return None;
        }
        let [host, Value::Int(port), ..] = &master[..] else {
            return None;
        };
        let host = match host {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            Value::SimpleString(text) => text,
            Value::Nil => "",
            _ => return None,
        };
        // A node that does not know its own name means the one it was asked under.
        let host = match (host, asked) {
            ("" | "?", Address::Tcp { host, .. }) => host,
            ("" | "?", Address::Unix(_)) => "127.0.0.1",
            (host, _) => host,
        };
        let address = Address::Tcp {
            host: host.to_owned(),
            port: u16::try_from(*port).ok()?,
        };
        rows.push((first, last, address));
    }
    rows.sort();
    for (first, last, address) in rows {
        match masters.iter_mut().find(|(known, _)| *known == address) {
            Some((_, ranges)) => ranges.push((first, last)),
            None => masters.push((address, vec![(first, last)])),
        }
    }
    Some(masters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            Value::Array(vec![
                Value::BulkString(host.into()),
                Value::Int(port),
                Value::BulkString(b"e3ecb8c4".to_vec()),
            ]),
        ])
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.into(),
            port,
        }
    }

    #[test]
    fn slots_are_read_by_master() {
        let answer = Value::Array(vec![
            range(5461, 10_922, "b", 2),
            range(0, 5459, "", 1),
            range(5460, 5460, "b", 2),
        ]);
        assert_eq!(
            read_slots(&answer, &tcp("seed", 9)),
            Some(vec![
                (tcp("seed", 1), vec![(0, 5459)]),
                (tcp("b", 2), vec![(5460, 5460), (5461, 10_922)]),
            ])
        );
    }

    #[test]
    fn what_is_no_map_of_slots_is_not_taken_for_one() {
        for answer in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(5, 4, "a", 1)]),
            Value::Array(vec![range(0, 16_384, "a", 1)]),
            Value::Array(vec![range(0, 1, "a", 70_000)]),
        ] {
            assert_eq!(read_slots(&answer, &tcp("seed", 9)), None, "{answer:?}");
        }
    }
}
