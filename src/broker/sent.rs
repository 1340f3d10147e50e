//! A target whose rows, of some resources, get to it through the shop's queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;

use super::{
    link::{self, Broker},
    writer::QueueWriter,
};
use crate::{
    error::EdgeError,
    ids::{ChunkSeq, ResourceName, RunId},
    plan::QueueConfig,
    target::{
        Backlog, ChunkWriter, Comparer, Evidence, Extent, Inventory, Lease, LeaseOwner, Leftover,
        PartitionKey, Recorded, Target,
    },
};

/// Sends rows of some resources, and leaves all else to the target itself: lease, comparisons, rows of other resources.
pub(super) struct Sent {
    broker: Arc<Broker>,
    target: Arc<dyn Target>,
    queues: BTreeMap<ResourceName, QueueConfig>,
    place: String,
    /// The run that holds the lease, once it was taken.
    run: std::sync::Mutex<Option<RunId>>,
}

impl Sent {
    pub(super) fn new(
        broker: Arc<Broker>,
        target: Arc<dyn Target>,
        queues: BTreeMap<ResourceName, QueueConfig>,
    ) -> Self {
        Self {
            place: format!("{} (in part through {})", target.place(), broker.place()),
            broker,
            target,
            queues,
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
            None => self.broker.is_marked(name).await?,
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
        Ok(format!("{target} and {}", self.broker.identity()))
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, EdgeError> {
        let mut facts = self.target.facts().await?;
        let names: BTreeSet<_> = self.queues.values().map(|queue| &queue.name).collect();
        for name in names {
            let depth = self.broker.depth(name).await?;
            let consumers = match depth.consumers {
                0 => "nobody consumes it".to_owned(),
                1 => "1 consumer".to_owned(),
                many => format!("{many} consumers"),
            };
            facts.push((
                format!("queue {name}"),
                format!("{} messages, {consumers}", depth.ready),
            ));
        }
        Ok(facts)
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
        match self.run() {
            None if self.broker.declares() => Ok(None),
            None => self.broker.depth(&queue.name).await.map(|_| None),
            Some(run) => self.broker.mark(&run, resource, &queue.name).await,
        }
    }

    async fn evidence(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError> {
        // Also the probe of a broker that is waited for.
        if let Some(why) = self.broker.blocked().await {
            return Err(link::blocked(self.broker.place(), &why));
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
            Some(queue) => Ok(Box::new(QueueWriter::new(Arc::clone(&self.broker), queue))),
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

    async fn backlog(&self, resource: &ResourceName) -> Result<Option<Backlog>, EdgeError> {
        let Some(queue) = self.queues.get(resource) else {
            return self.target.backlog(resource).await;
        };
        let depth = self.broker.depth(&queue.name).await?;
        Ok(Some(Backlog {
            queue: queue.name.clone(),
            ready: depth.ready,
            consumers: depth.consumers,
        }))
    }

    async fn forget(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        let (own, sent) = self.apart(partitions);
        for resource in sent {
            self.broker.unmark(run, &resource).await?;
        }
        self.target.forget(run, &own).await
    }

    async fn retire(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        let (own, sent) = self.apart(partitions);
        for resource in sent {
            self.broker.unmark(run, &resource).await?;
        }
        self.target.retire(run, &own).await
    }

    async fn clear(&self, resource: &ResourceName, extent: &Extent) -> Result<(), EdgeError> {
        match self.queues.get(resource) {
            Some(queue) => self.broker.set_up(&queue.name).await,
            None => self.target.clear(resource, extent).await,
        }
    }

    async fn settle(&self, resources: &[ResourceName]) -> Result<(), EdgeError> {
        self.target.settle(resources).await
    }
}
