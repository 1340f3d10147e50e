//! A target whose rows, of some resources, get to it through the shop's queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;

use super::{link, queue::Depth, vhosts::Vhosts, writer::QueueWriter};
use crate::{
    error::EdgeError,
    ids::{ChunkSeq, ResourceName, RunId},
    plan::QueueConfig,
    target::{
        Backlog, ChunkWriter, Comparer, Condition, Evidence, Extent, Inventory, Lease, LeaseOwner,
        Leftover, PartitionKey, Recorded, Target,
    },
};

/// Sends rows of some resources, and leaves all else to the target itself: lease, comparisons, rows of other resources.
pub(super) struct Sent {
    vhosts: Arc<Vhosts>,
    target: Arc<dyn Target>,
    queues: BTreeMap<ResourceName, QueueConfig>,
    /// Queues of the shop that lie behind, by resource.
    drains: BTreeMap<ResourceName, Vec<String>>,
    place: String,
    /// The run that holds the lease, once it was taken.
    run: std::sync::Mutex<Option<RunId>>,
}

impl Sent {
    pub(super) fn new(
        vhosts: Arc<Vhosts>,
        target: Arc<dyn Target>,
        queues: BTreeMap<ResourceName, QueueConfig>,
        drains: BTreeMap<ResourceName, Vec<String>>,
    ) -> Self {
        Self {
            place: if queues.is_empty() {
                target.place().to_owned()
            } else {
                format!("{} (in part through {})", target.place(), vhosts.place())
            },
            vhosts,
            target,
            queues,
            drains,
            run: std::sync::Mutex::default(),
        }
    }

    fn run(&self) -> Option<RunId> {
        self.run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns those of `partitions` whose rows the target itself gets, and the resources of the others.
    fn apart(&self, partitions: &[PartitionKey]) -> (Vec<PartitionKey>, BTreeSet<ResourceName>) {
        let (sent, own): (Vec<_>, Vec<_>) = partitions
            .iter()
            .partition(|one| self.queues.contains_key(&one.resource));
        let sent = sent.into_iter().map(|one| one.resource.clone());
        (own.into_iter().cloned().collect(), sent.collect())
    }

    async fn is_marked(&self, name: &str) -> Result<bool, EdgeError> {
        for vhost in self.vhosts.each() {
            if !vhost.broker.is_marked(name).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn unmark(
        &self,
        run: &RunId,
        resources: BTreeSet<ResourceName>,
    ) -> Result<(), EdgeError> {
        for resource in resources {
            for vhost in self.vhosts.each() {
                vhost.broker.unmark(run, &resource).await?;
            }
        }
        Ok(())
    }

    /// Returns what lies in `queue`, by vhost.
    async fn depths(&self, queue: &str) -> Result<Vec<(String, Depth)>, EdgeError> {
        let mut found = Vec::new();
        for vhost in self.vhosts.each() {
            let depth = vhost.broker.depth(queue).await?;
            found.push((self.vhosts.label(vhost, queue), depth));
        }
        Ok(found)
    }

    async fn evidence_of(
        &self,
        one: &Recorded,
        known: &mut BTreeMap<String, bool>,
    ) -> Result<Evidence, EdgeError> {
        let Some(name) = &one.incarnation else {
            return Ok(Evidence::Stands);
        };
        let stands = match known.get(name) {
            Some(stands) => *stands,
            None => self.is_marked(name).await?,
        };
        known.insert(name.clone(), stands);
        Ok(if stands {
            Evidence::Stands
        } else {
            Evidence::UpToChunk(ChunkSeq(0))
        })
    }
}

#[async_trait]
impl Target for Sent {
    fn place(&self) -> &str {
        &self.place
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        let target = self.target.identity().await?;
        if self.queues.is_empty() {
            return Ok(target);
        }
        Ok(format!("{target} and {}", self.vhosts.identity()))
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, EdgeError> {
        let mut facts = self.target.facts().await?;
        let own = self.queues.values().map(|queue| &queue.name);
        let names: BTreeSet<_> = own.chain(self.drains.values().flatten()).collect();
        for name in names {
            for (label, depth) in self.depths(name).await? {
                let consumers = match depth.consumers {
                    0 => "nobody consumes it".to_owned(),
                    1 => "1 consumer".to_owned(),
                    many => format!("{many} consumers"),
                };
                let found = format!("{} messages, {consumers}", depth.ready);
                facts.push((format!("queue {label}"), found));
            }
        }
        Ok(facts)
    }

    async fn conditions(&self) -> Result<Vec<Condition>, EdgeError> {
        self.target.conditions().await
    }

    async fn used_percent(&self) -> Result<Option<f64>, EdgeError> {
        self.target.used_percent().await
    }

    async fn take_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        let lease = self.target.take_lease(owner).await?;
        if lease == Lease::Held {
            *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner.run.clone());
        }
        Ok(lease)
    }

    async fn renew_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        self.target.renew_lease(owner).await
    }

    async fn release_lease(&self, owner: &LeaseOwner) -> Result<(), EdgeError> {
        self.target.release_lease(owner).await
    }

    async fn lease_owner(&self) -> Result<Option<LeaseOwner>, EdgeError> {
        self.target.lease_owner().await
    }

    /// Before a run holds the lease it only looks for the queue; afterwards it ties the evidence to it.
    async fn incarnation(&self, resource: &ResourceName) -> Result<Option<String>, EdgeError> {
        let Some(queue) = self.queues.get(resource) else {
            return self.target.incarnation(resource).await;
        };
        // Rows end there, whatever way they take.
        self.target.incarnation(resource).await?;
        let run = self.run();
        let mut name = None;
        for (at, vhost) in self.vhosts.each().enumerate() {
            let broker = &vhost.broker;
            match &run {
                // Made once the run begins; that there is somebody to ask is known before.
                None if broker.declares() => broker.reach().await?,
                None => drop(broker.depth(&queue.name).await?),
                Some(run) => {
                    let made = broker.mark(run, resource, &queue.name).await?;
                    // Called the same in each; where one takes none, none counts.
                    name = if at == 0 { made } else { name.and(made) };
                }
            }
        }
        Ok(name)
    }

    async fn evidence(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError> {
        // Also the probe of a broker that is waited for.
        for vhost in self.vhosts.each() {
            if let Some(why) = vhost.broker.blocked().await {
                return Err(link::blocked(vhost.broker.place(), &why));
            }
        }
        let is_sent = |one: &&Recorded| self.queues.contains_key(&one.partition.resource);
        let own: Vec<_> = recorded
            .iter()
            .filter(|one| !is_sent(one))
            .cloned()
            .collect();
        let mut own = self.target.evidence(run, &own).await?.into_iter();
        let mut known = BTreeMap::new();
        let mut found = Vec::with_capacity(recorded.len());
        for one in recorded {
            found.push(if is_sent(&one) {
                self.evidence_of(one, &mut known).await?
            } else {
                own.next().unwrap_or(Evidence::UpToChunk(ChunkSeq(0)))
            });
        }
        Ok(found)
    }

    async fn writer(
        &self,
        run: &RunId,
        partition: &PartitionKey,
        stored: ChunkSeq,
        length: Option<u64>,
    ) -> Result<Box<dyn ChunkWriter>, EdgeError> {
        match self.queues.get(&partition.resource) {
            Some(queue) => Ok(Box::new(QueueWriter::new(Arc::clone(&self.vhosts), queue))),
            None => self.target.writer(run, partition, stored, length).await,
        }
    }

    async fn comparer(
        &self,
        resource: &ResourceName,
    ) -> Result<Option<Box<dyn Comparer>>, EdgeError> {
        self.target.comparer(resource).await
    }

    async fn inventory(
        &self,
        resources: &[ResourceName],
    ) -> Result<Option<Box<dyn Inventory>>, EdgeError> {
        self.target.inventory(resources).await
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, EdgeError> {
        self.target.leftovers().await
    }

    async fn backlog(&self, resource: &ResourceName) -> Result<Vec<Backlog>, EdgeError> {
        let own = self.queues.get(resource).map(|queue| &queue.name);
        let behind = self.drains.get(resource).into_iter().flatten();
        let mut found = Vec::new();
        for name in own.into_iter().chain(behind) {
            let depths = self.depths(name).await?;
            found.extend(depths.into_iter().map(|(queue, depth)| Backlog {
                queue,
                ready: depth.ready,
                consumers: depth.consumers,
            }));
        }
        Ok(found)
    }

    async fn forget(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        let (own, sent) = self.apart(partitions);
        self.unmark(run, sent).await?;
        self.target.forget(run, &own).await
    }

    async fn retire(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        let (own, sent) = self.apart(partitions);
        self.unmark(run, sent).await?;
        self.target.retire(run, &own).await
    }

    async fn clear(&self, resource: &ResourceName, extent: &Extent) -> Result<(), EdgeError> {
        let Some(queue) = self.queues.get(resource) else {
            return self.target.clear(resource, extent).await;
        };
        for vhost in self.vhosts.each() {
            vhost.broker.set_up(&queue.name).await?;
        }
        Ok(())
    }

    async fn settle(&self, resources: &[ResourceName]) -> Result<(), EdgeError> {
        self.target.settle(resources).await
    }
}
