//! Redis as a target. Chunks travel over connections of their own; everything else over the driver.
//!
//! Three kinds of keys are rekindle's own and carry no prefix: `rekindle:lease`, `rekindle:writer`, and one marker
//! `rekindle:<run>:<partition>` for each partition. A run that is done leaves none of them.

mod compare;
mod error;
mod evidence;
mod info;
mod lease;
mod server;
mod wire;
mod writer;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use self::{info::Info, lease::Tenure, server::Server, writer::RedisWriter};
use super::{ChunkWriter, Evidence, Lease, LeaseOwner, PartitionKey, Recorded, Stored, Target};
use crate::{
    chunk::Chunk,
    error::EdgeError,
    ids::{ChunkSeq, ResourceName, RunId},
    plan::RedisConfig,
};

type SharedServer = Arc<Server>;

/// A Redis server that a plan fills.
pub struct RedisTarget {
    server: SharedServer,
    tenure: Arc<Tenure>,
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
        let server = Arc::new(Server::parse(name, &config.url, limit)?);
        Ok(Self {
            tenure: Arc::new(Tenure::new(Arc::clone(&server))),
            server,
            prefix: config.prefix.clone(),
            allow_eviction: config.allow_eviction,
        })
    }
}

#[async_trait]
impl Target for RedisTarget {
    fn place(&self) -> &str {
        &self.server.place
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        Info::read(&self.server)
            .await?
            .check(&self.server.place, self.allow_eviction)?;
        Ok(self.server.identity())
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, EdgeError> {
        Ok(Info::read(&self.server).await?.facts(self.server.db()))
    }

    async fn take_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        self.tenure.take(owner).await
    }

    async fn renew_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        self.tenure.renew(owner).await
    }

    async fn release_lease(&self, owner: &LeaseOwner) -> Result<(), EdgeError> {
        self.tenure.release(owner).await
    }

    async fn lease_owner(&self) -> Result<Option<LeaseOwner>, EdgeError> {
        self.tenure.owner().await
    }

    async fn evidence(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError> {
        // A policy that was changed meanwhile drops keys and spares the markers, which are the freshest.
        Info::read(&self.server)
            .await?
            .check(&self.server.place, self.allow_eviction)?;
        evidence::read(&self.server, run, recorded).await
    }

    /// Connects with the first chunk: a server that is down then is the engine's to wait for.
    async fn writer(
        &self,
        run: &RunId,
        partition: &PartitionKey,
        _stored: ChunkSeq,
        _length: Option<u64>,
    ) -> Result<Box<dyn ChunkWriter>, EdgeError> {
        Ok(Box::new(RedisWriter::new(
            Arc::clone(&self.server),
            Arc::clone(&self.tenure),
            &self.prefix,
            run,
            partition.id,
        )))
    }

    async fn compare(&self, chunk: &Chunk) -> Result<Vec<Stored>, EdgeError> {
        compare::compare(&self.server, self.prefix.as_bytes(), chunk).await
    }

    async fn forget(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        evidence::forget(&self.server, run, partitions).await
    }

    async fn retire(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        evidence::forget(&self.server, run, partitions).await?;
        self.tenure.retire().await
    }

    async fn clear(&self, _resource: &ResourceName, _partial: bool) -> Result<(), EdgeError> {
        // Keys are shared with whoever else writes them; the same rows write the same keys again.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn target(url: &str) -> Result<RedisTarget, EdgeError> {
        RedisTarget::new(
            "storage",
            &RedisConfig {
                url: url.into(),
                prefix: "kv:".into(),
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
        ] {
            let target = target(url).unwrap();
            assert_eq!(target.place(), place);
            assert_eq!(
                target.server.identity(),
                place.replace("redis at ", "redis://")
            );
        }
    }

    #[test]
    fn urls_that_cannot_be_used_are_refused_without_being_shown() {
        for url in [
            "rediss://:hunter2@cache.test",
            "unix:///run/redis.sock?pass=hunter2",
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
