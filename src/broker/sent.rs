//! A target whose rows, of some resources, get to it through the shop's queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;

use super::{
    link::{self, Broker},
    vhosts::Vhosts,
    writer::QueueWriter,
};
use crate::{
    error::{EdgeError, ErrorKind},
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
    async fn backlog_of(&self, queue: &str) -> Result<Vec<Backlog>, EdgeError> {
        let mut found = Vec::new();
        for vhost in self.vhosts.each() {
            let depth = vhost.broker.depth(queue).await?;
            found.push(Backlog {
                queue: self.vhosts.label(vhost, queue),
                ready: depth.ready,
                unacked: vhost.broker.unacked(queue).await,
                consumers: depth.consumers,
            });
        }
        Ok(found)
    }

    /// Looks for what rows of `resource` go through, and takes all of it for missing that is not what it has to be.
    async fn fits(&self, broker: &Broker, resource: &ResourceName) -> Result<(), EdgeError> {
        if let Some(queue) = self.queues.get(resource) {
            broker.fits(&queue.name).await?;
        }
        for behind in self.drains.get(resource).into_iter().flatten() {
            // Those are somebody else's, and never made.
            broker.depth(behind).await?;
        }
        Ok(())
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
            let found = match self.backlog_of(name).await {
                Ok(found) => found,
                Err(error) if error.kind == ErrorKind::Missing => {
                    facts.push((format!("queue {name}"), "not there yet".to_owned()));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for queue in found {
                let consumers = match queue.consumers {
                    0 => "nobody consumes it".to_owned(),
                    1 => "1 consumer".to_owned(),
                    many => format!("{many} consumers"),
                };
                let unacked = queue.unacked.map_or_else(String::new, |unacked| {
                    format!(" and {unacked} unacknowledged")
                });
                let found = format!("{} messages{unacked}, {consumers}", queue.ready);
                facts.push((format!("queue {}", queue.queue), found));
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
                None => self.fits(broker, resource).await?,
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
            found.extend(self.backlog_of(name).await?);
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
