//! Redis as a target. Chunks travel over connections of their own; everything else over the driver.
//!
//! Three kinds of keys are rekindle's own and carry no prefix: `rekindle:lease`, `rekindle:writer`, and one marker
//! `rekindle:<run>:<partition>` for each partition. A run that is done leaves none of them.

mod applier;
mod cluster;
mod cluster_writer;
mod compare;
mod conditions;
mod culprits;
mod error;
mod evidence;
mod fence;
mod info;
mod inventory;
mod keys;
mod layout;
mod lease;
mod leftovers;
mod proof;
mod server;
mod slots;
mod socket;
mod wire;
mod writer;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

#[cfg(feature = "failpoints")]
pub use self::writer::answered;
use self::{
    applier::RedisApplier,
    cluster::{Cluster, View},
    cluster_writer::ClusterWriter,
    compare::RedisComparer,
    info::Info,
    inventory::RedisInventory,
    server::Server,
    writer::RedisWriter,
};
use super::{
    Applier, ChunkWriter, Comparer, Condition, Evidence, Extent, Inventory, Lease, LeaseOwner,
    Leftover, PartitionKey, Recorded, Target,
};
use crate::{
    error::EdgeError,
    ids::{ChunkSeq, ResourceName, RunId},
    plan::RedisConfig,
};

type SharedServer = Arc<Server>;

/// A Redis server, or a cluster of them, that a plan fills.
pub struct RedisTarget {
    server: SharedServer,
    cluster: Arc<Cluster>,
    prefix: String,
    allow_eviction: bool,
}

impl RedisTarget {
    /// Reads the settings of target `name`. Connects to nothing.
    ///
    /// # Errors
    ///
    /// `Refused` for a URL that is broken or asks for what is not supported.
    pub fn new(name: &str, config: &RedisConfig) -> Result<Self, EdgeError> {
        Self::with_response_timeout(name, config, server::RESPONSE_TIMEOUT)
    }

    /// As [`RedisTarget::new`], waiting for answers no longer than `limit` (30 s otherwise).
    ///
    /// # Errors
    ///
    /// As [`RedisTarget::new`].
    pub fn with_response_timeout(
        name: &str,
        config: &RedisConfig,
        limit: Duration,
    ) -> Result<Self, EdgeError> {
        let server = Arc::new(Server::parse(
            name,
            &config.url,
            config.tls.as_ref(),
            limit,
        )?);
        Ok(Self {
            cluster: Arc::new(Cluster::new(Arc::clone(&server))),
            server,
            prefix: config.prefix.clone(),
            allow_eviction: config.allow_eviction,
        })
    }
}

impl RedisTarget {
    /// Returns what every server says about itself, having checked that a restore into it would last.
    async fn checked(&self) -> Result<Arc<View>, EdgeError> {
        let view = self.cluster.view().await?;
        for node in &view.nodes {
            Info::read(&node.server)
                .await?
                .check(&node.server.place, self.allow_eviction)?;
        }
        Ok(view)
    }

    /// Returns `outcome`. After an error the servers may be others: a master was replaced, slots were moved.
    fn watched<T>(&self, outcome: Result<T, EdgeError>) -> Result<T, EdgeError> {
        if outcome.is_err() {
            self.cluster.doubt();
        }
        outcome
    }

    async fn evidence_of(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError> {
        // A policy that was changed meanwhile drops keys and spares the markers, which are the freshest.
        let view = self.checked().await?;
        let mut least = vec![Evidence::Stands; recorded.len()];
        for node in &view.nodes {
            let found = evidence::read(&node.server, node.tenure.keys(), run, recorded).await?;
            for (least, found) in least.iter_mut().zip(found) {
                *least = evidence::lesser(*least, found);
            }
        }
        Ok(least)
    }

    async fn forget_all(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        for node in &self.cluster.view().await?.nodes {
            evidence::forget(&node.server, node.tenure.keys(), run, partitions).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Target for RedisTarget {
    fn place(&self) -> &str {
        &self.server.place
    }

    /// The address of the plan, also of a cluster: its nodes come and go, and each has an id of its own.
    async fn identity(&self) -> Result<String, EdgeError> {
        self.watched(self.checked().await)?;
        Ok(self.server.identity())
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, EdgeError> {
        let mut infos = Vec::new();
        for node in &self.cluster.view().await?.nodes {
            infos.push(self.watched(Info::read(&node.server).await)?);
        }
        Ok(Info::facts(&infos, self.server.db()))
    }

    async fn conditions(&self) -> Result<Vec<Condition>, EdgeError> {
        let view = self.cluster.view().await?;
        self.watched(conditions::of(&view, &self.prefix, self.allow_eviction).await)
    }

    async fn used_percent(&self) -> Result<Option<f64>, EdgeError> {
        Ok(Info::read(&self.server).await?.used_percent())
    }

    async fn take_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        self.watched(self.cluster.take(owner).await)
    }

    async fn renew_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        self.watched(self.cluster.renew(owner).await)
    }

    async fn release_lease(&self, owner: &LeaseOwner) -> Result<(), EdgeError> {
        self.watched(self.cluster.release(owner).await)
    }

    async fn lease_owner(&self) -> Result<Option<LeaseOwner>, EdgeError> {
        self.watched(self.cluster.owner().await)
    }

    async fn evidence(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError> {
        self.watched(self.evidence_of(run, recorded).await)
    }

    /// Connects with the first chunk: a server that is down then is the engine's to wait for.
    async fn writer(
        &self,
        run: &RunId,
        partition: &PartitionKey,
        _stored: ChunkSeq,
        _length: Option<u64>,
    ) -> Result<Box<dyn ChunkWriter>, EdgeError> {
        let view = self.cluster.view().await?;
        if view.is_cluster() {
            let (seed, cluster) = (Arc::clone(&self.server), Arc::clone(&self.cluster));
            let writer = ClusterWriter::new(seed, cluster, &self.prefix, run, partition.id);
            return Ok(Box::new(writer));
        }
        let node = &view.nodes[0];
        Ok(Box::new(RedisWriter::new(
            Arc::clone(&node.server),
            Arc::clone(&node.tenure),
            &self.prefix,
            run,
            partition.id,
        )))
    }

    async fn comparer(
        &self,
        _resource: &ResourceName,
    ) -> Result<Option<Box<dyn Comparer>>, EdgeError> {
        let comparer = RedisComparer::new(Arc::clone(&self.cluster), &self.prefix);
        Ok(Some(Box::new(comparer)))
    }

    async fn applier(&self) -> Result<Option<Box<dyn Applier>>, EdgeError> {
        let applier = RedisApplier::new(Arc::clone(&self.cluster), &self.prefix);
        Ok(Some(Box::new(applier)))
    }

    async fn inventory(
        &self,
        _resources: &[ResourceName],
    ) -> Result<Option<Box<dyn Inventory>>, EdgeError> {
        let inventory = RedisInventory::begin(Arc::clone(&self.cluster), &self.prefix);
        Ok(Some(Box::new(self.watched(inventory.await)?)))
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, EdgeError> {
        let view = self.cluster.view().await?;
        self.watched(leftovers::find(&view).await)
    }

    async fn forget(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        self.watched(self.forget_all(run, partitions).await)
    }

    async fn retire(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        self.watched(self.forget_all(run, partitions).await)?;
        self.watched(self.cluster.retire().await)
    }

    async fn clear(&self, _resource: &ResourceName, _extent: &Extent) -> Result<(), EdgeError> {
        // Keys are shared with whoever else writes them; the same rows write the same keys again.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::ErrorKind,
        plan::{Compression, ValueForm},
    };

    fn target(url: &str) -> Result<RedisTarget, EdgeError> {
        RedisTarget::new(
            "storage",
            &RedisConfig {
                url: url.into(),
                tls: None,
                prefix: "kv:".into(),
                value: ValueForm::Raw,
                compress: Compression::None,
                allow_eviction: false,
            },
        )
    }

    #[test]
    fn the_place_names_host_port_and_db_without_credentials() {
        for (url, place) in [
            (
                "redis://user:hunter2@cache.test/3",
                "redis at cache.test:6379/3",
            ),
            ("redis://:hunter2@[::1]:7000", "redis at [::1]:7000/0"),
            ("valkey://127.0.0.1:7000/", "redis at 127.0.0.1:7000/0"),
            ("rediss://:hunter2@[::1]:7000/1", "redis at [::1]:7000/1"),
            ("valkeys://cache.test", "redis at cache.test:6379/0"),
        ] {
            let target = target(url).unwrap();
            assert_eq!(target.place(), place);
            assert_eq!(
                target.server.identity(),
                place.replace("redis at ", "redis://")
            );
        }
        for scheme in ["unix", "redis+unix"] {
            let target = target(&format!("{scheme}:///run/r.sock?db=3&pass=hunter2")).unwrap();
            assert_eq!(target.place(), "redis at unix:/run/r.sock?db=3");
            assert_eq!(target.server.identity(), "redis+unix:/run/r.sock?db=3");
        }
    }

    #[test]
    fn urls_that_cannot_be_used_are_refused_without_being_shown() {
        for url in [
            "rediss://:hunter2@cache.test#insecure",
            "unix:///run/redis.sock?pass=hunter2&db=x",
            "http://:hunter2@cache.test",
            "redis://:hunter2@cache.test/seven",
            "redis://:hunter2@",
            "hunter2",
        ] {
            let Err(error) = target(url) else {
                panic!("{url} was accepted");
            };
            assert_eq!(error.kind, ErrorKind::Refused);
            assert!(error.message.contains("`storage`"), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
