//! A store in memory that keeps rows and the evidence for them, fails before and after it wrote, and loses what it held.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use rekindle::{
    chunk::Chunk,
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, PartitionId, ResourceName, RunId},
    target::{
        ChunkWriter, Evidence, Extent, Lease, LeaseOwner, PartitionKey, Recorded, Target, Written,
    },
};

use super::world::{World, locked};

pub type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the store holds.
#[derive(Clone, Default)]
pub struct Store {
    pub rows: Content,
    /// How often it was made anew.
    made: u32,
    /// The last chunk of a partition, and the claim it was written under.
    markers: HashMap<(String, PartitionId), (ChunkSeq, u64)>,
    /// Who wrote last: a number that is new whenever somebody else did, and the state file.
    claim: (u64, String),
    lease: Option<LeaseOwner>,
    /// So many writers were told off because somebody else wrote here.
    pub strangers: u32,
}

impl Store {
    /// Somebody else fills the store with rows of their own, and gives it back.
    pub fn written_by_another(&mut self) {
        self.claim = (self.claim.0 + 1, "another".to_owned());
        for value in self.rows.values_mut().step_by(3) {
            *value = b"another's".to_vec();
        }
        self.strangers += 1;
    }
}

pub struct ModelTarget {
    /// Whether chunks leave a marker behind, as in Redis; else the store itself is the evidence, as an index is.
    pub marks: bool,
    pub world: Arc<World>,
    pub store: Arc<Mutex<Store>>,
    /// What it goes back to when it is restored from a dump.
    pub dump: Arc<Mutex<Store>>,
}

struct Writer {
    marks: bool,
    made: u32,
    world: Arc<World>,
    store: Arc<Mutex<Store>>,
    dump: Arc<Mutex<Store>>,
    of: (String, PartitionId),
    claim: u64,
}

impl ModelTarget {
    async fn answered(&self) -> Result<(), EdgeError> {
        self.world.call().await;
        if self.world.is_troubled() {
            return Err(self.world.error("the store"));
        }
        Ok(())
    }

    fn take(&self, owner: &LeaseOwner) -> Lease {
        let mut store = locked(&self.store);
        if let Some(other) = store.lease.as_ref().filter(|one| one.state != owner.state) {
            return Lease::TakenBy(other.clone());
        }
        let mine = format!("{} {}", owner.state, owner.run);
        if store.claim.1 != mine {
            store.claim = (store.claim.0 + 1, mine);
        }
        store.lease = Some(owner.clone());
        Lease::Held
    }
}

#[async_trait]
impl Target for ModelTarget {
    fn place(&self) -> &'static str {
        "the model's store"
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        Ok("store".to_owned())
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, EdgeError> {
        Ok(Vec::new())
    }

    async fn take_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        self.answered().await?;
        Ok(self.take(owner))
    }

    async fn renew_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        self.answered().await?;
        Ok(self.take(owner))
    }

    async fn release_lease(&self, owner: &LeaseOwner) -> Result<(), EdgeError> {
        let mut store = locked(&self.store);
        store.lease.take_if(|one| one.state == owner.state);
        Ok(())
    }

    async fn lease_owner(&self) -> Result<Option<LeaseOwner>, EdgeError> {
        Ok(locked(&self.store).lease.clone())
    }

    async fn incarnation(&self, _: &ResourceName) -> Result<Option<String>, EdgeError> {
        let store = locked(&self.store);
        Ok((!self.marks).then(|| format!("{} {}", store.made, store.claim.0)))
    }

    async fn evidence(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError> {
        self.answered().await?;
        let store = locked(&self.store);
        let evidence = recorded.iter().map(|one| {
            if !self.marks {
                let now = format!("{} {}", store.made, store.claim.0);
                return if one.incarnation.as_ref() == Some(&now) {
                    Evidence::Stands
                } else {
                    Evidence::UpToChunk(ChunkSeq(0))
                };
            }
            let marker = store.markers.get(&(run.to_string(), one.partition.id));
            match marker.filter(|(_, claim)| *claim == store.claim.0) {
                Some((chunk, _)) if *chunk >= one.chunk => Evidence::Stands,
                Some((chunk, _)) => Evidence::UpToChunk(*chunk),
                None => Evidence::UpToChunk(ChunkSeq(0)),
            }
        });
        Ok(evidence.collect())
    }

    async fn writer(
        &self,
        run: &RunId,
        partition: &PartitionKey,
        _: ChunkSeq,
        _: Option<u64>,
    ) -> Result<Box<dyn ChunkWriter>, EdgeError> {
        self.answered().await?;
        let (made, claim) = {
            let store = locked(&self.store);
            (store.made, store.claim.0)
        };
        Ok(Box::new(Writer {
            marks: self.marks,
            made,
            world: Arc::clone(&self.world),
            store: Arc::clone(&self.store),
            dump: Arc::clone(&self.dump),
            of: (run.to_string(), partition.id),
            claim,
        }))
    }

    async fn forget(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        self.answered().await?;
        let mut store = locked(&self.store);
        for one in partitions {
            store.markers.remove(&(run.to_string(), one.id));
        }
        Ok(())
    }

    async fn clear(&self, _: &ResourceName, _: &Extent) -> Result<(), EdgeError> {
        self.answered().await
    }
}

impl Writer {
    /// What happens to a store from outside while it is written to.
    fn disaster(&self) {
        match self.world.draw(400) {
            0 => {
                self.world.note("flush");
                let mut store = locked(&self.store);
                store.rows.clear();
                store.markers.clear();
                store.made += 1;
            }
            1 if self.marks => {
                self.world.note("older dump");
                let dump = locked(&self.dump).clone();
                let mut store = locked(&self.store);
                store.rows = dump.rows;
                store.markers = dump.markers;
            }
            2..=20 => *locked(&self.dump) = locked(&self.store).clone(),
            _ => {}
        }
    }

    fn apply(&self, seq: ChunkSeq, chunk: &Chunk, rows: usize) -> Result<(), EdgeError> {
        let mut store = locked(&self.store);
        let before = store
            .markers
            .get(&self.of)
            .map_or(ChunkSeq(0), |(chunk, claim)| {
                if *claim == self.claim {
                    *chunk
                } else {
                    ChunkSeq(0)
                }
            });
        let lost = if self.marks {
            before.0 + 1 < seq.0
        } else {
            store.made != self.made
        };
        if store.claim.0 != self.claim || lost {
            let text = "what was written before is gone";
            return Err(EdgeError::new(ErrorKind::EvidenceLost, text));
        }
        for row in chunk.rows().take(rows) {
            store.rows.insert(row.key.to_vec(), row.value.to_vec());
        }
        if self.marks && rows == chunk.row_count() {
            store.markers.insert(self.of.clone(), (seq, self.claim));
        }
        Ok(())
    }
}

#[async_trait]
impl ChunkWriter for Writer {
    async fn write(&mut self, seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        self.world.call().await;
        self.disaster();
        let rows = chunk.row_count();
        if self.world.is_troubled() {
            // Nothing of it, a part of it, all of it: an error says nothing about rows.
            let written = match self.world.draw(3) {
                0 => 0,
                1 => rows / 2,
                _ => rows,
            };
            self.apply(seq, chunk, written)?;
            return Err(self.world.error("the write"));
        }
        self.apply(seq, chunk, rows)?;
        // It may die with the answer on its way.
        self.world.call().await;
        Ok(Written::default())
    }
}
