//! Elasticsearch 7 to 9 and OpenSearch 1 to 3 as a target, by one code path: plain JSON, and nothing that only one of them
//! knows.
//!
//! The evidence of all chunks of a resource is that its indexes are still the ones it began with: each has a random id
//! from the moment it is created. What a server acknowledged in an index outlives its death, because it writes its log
//! first; what it lost, it lost with the index.

mod answer;
mod applier;
mod compare;
mod index;
mod inventory;
mod lease;
mod load;
mod node;
mod notes;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

#[cfg(feature = "failpoints")]
pub use self::writer::{Sifted, sifted};
use self::{
    applier::SearchApplier,
    compare::SearchComparer,
    inventory::SearchInventory,
    node::{Cluster, Request},
    notes::If,
    writer::SearchWriter,
};
use super::{
    Applier, ChunkWriter, Comparer, Condition, Evidence, Extent, Inventory, Lease, LeaseOwner,
    Leftover, PartitionKey, Recorded, Target,
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, ResourceName, RunId},
    plan::{Load, Routing, SearchConfig},
};

/// A cluster of Elasticsearch or OpenSearch that a plan fills.
pub struct SearchTarget {
    shared: Arc<Shared>,
}

/// What the target and its writers share.
struct Shared {
    cluster: Cluster,
    indexes: BTreeMap<ResourceName, Routing>,
    load: Load,
    gzip: bool,
    /// Who holds the lease, once it was taken.
    owner: std::sync::Mutex<Option<LeaseOwner>>,
    /// Indexes that are ready to be written to, by name and id.
    ready: tokio::sync::Mutex<BTreeSet<String>>,
}

/// Who wrote to an index last. A run that finds another one there can prove nothing: rows of both lie in it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct LastWriter {
    state: String,
    run: String,
}

fn last_writer_id(index: &str) -> String {
    format!("writer:{index}")
}

impl SearchTarget {
    /// Reads the settings of target `name`. Connects to nothing.
    ///
    /// # Errors
    ///
    /// `Refused` for a URL that cannot be used.
    pub fn new(name: &str, config: &SearchConfig) -> Result<Self, EdgeError> {
        Ok(Self {
            shared: Arc::new(Shared {
                cluster: Cluster::new(name, config)?,
                indexes: config.indexes.clone(),
                load: config.load,
                gzip: config.gzip,
                owner: std::sync::Mutex::default(),
                ready: tokio::sync::Mutex::default(),
            }),
        })
    }
}

impl Shared {
    fn routing(&self, resource: &ResourceName) -> Result<&Routing, EdgeError> {
        self.indexes.get(resource).ok_or_else(|| {
            EdgeError::new(
                ErrorKind::Internal,
                format!("resource `{resource}` has no index"),
            )
        })
    }

    fn owner(&self) -> Option<LeaseOwner> {
        self.owner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns every index of the plan, each once.
    fn all_indexes(&self) -> Vec<&str> {
        let names: BTreeSet<_> = self.indexes.values().flat_map(Routing::indexes).collect();
        names.into_iter().collect()
    }

    /// Returns the indexes of a resource as they are.
    ///
    /// # Errors
    ///
    /// `Missing` for one that is not there; `Busy` once the run is at work: it was there when it began, so somebody is
    /// creating it anew.
    async fn incarnation(&self, resource: &ResourceName) -> Result<String, EdgeError> {
        let routing = self.routing(resource)?;
        if let Some(found) = index::incarnation(&self.cluster, routing).await? {
            return Ok(found);
        }
        let kind = match self.owner() {
            Some(_) => ErrorKind::Busy,
            None => ErrorKind::Missing,
        };
        Err(index::missing(&self.cluster, routing, kind).await)
    }

    /// Gets the indexes of `routing` ready to be written to, once for each.
    async fn make_ready(
        &self,
        run: &RunId,
        routing: &Routing,
        incarnation: &str,
    ) -> Result<(), EdgeError> {
        let mut ready = self.ready.lock().await;
        if ready.contains(incarnation) {
            return Ok(());
        }
        let state = self.owner().map(|owner| owner.state).unwrap_or_default();
        let writer = json!({ "state": state, "run": run.as_str() });
        for name in routing.indexes() {
            notes::write(&self.cluster, &last_writer_id(name), &writer, If::Always).await?;
            load::begin(&self.cluster, name, self.load).await?;
        }
        ready.insert(incarnation.to_owned());
        Ok(())
    }

    /// Returns whether somebody else was the last to write to an index of `routing`.
    async fn is_overwritten(&self, run: &RunId, routing: &Routing) -> Result<bool, EdgeError> {
        let ids: Vec<_> = routing.indexes().map(last_writer_id).collect();
        let writers: Vec<Option<LastWriter>> = notes::read_all(&self.cluster, &ids).await?;
        let state = self.owner().map(|owner| owner.state);
        Ok(writers.into_iter().flatten().any(|last| {
            last.run != run.as_str() || state.as_ref().is_some_and(|state| *state != last.state)
        }))
    }

    /// Asks the nodes how large a request may be. Where they do not say, nothing is learnt.
    async fn learn_limit(&self) {
        #[derive(Deserialize)]
        struct Nodes {
            nodes: BTreeMap<String, Node>,
        }
        #[derive(Deserialize)]
        struct Node {
            http: Http,
        }
        #[derive(Deserialize)]
        struct Http {
            max_content_length_in_bytes: usize,
        }
        let query = [("filter_path", "nodes.*.http.max_content_length_in_bytes")];
        let asked = self
            .cluster
            .send(Request::get("/_nodes/http").query(&query))
            .await;
        if let Ok(answer) = asked
            && let Ok(found) = serde_json::from_slice::<Nodes>(&answer.body)
        {
            for node in found.nodes.values() {
                self.cluster
                    .limit_body(node.http.max_content_length_in_bytes);
            }
        }
    }

    async fn put_back(&self) -> Result<(), EdgeError> {
        load::end(&self.cluster, &self.all_indexes()).await
    }
}

/// `GET /`
#[derive(Deserialize)]
struct Greeting {
    cluster_name: String,
    cluster_uuid: String,
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    #[serde(default)]
    distribution: Option<String>,
}

impl Greeting {
    async fn read(cluster: &Cluster) -> Result<Self, EdgeError> {
        let answer = cluster
            .expect("to say what it is", Request::get("/"))
            .await?;
        let greeting: Self = answer.json(&cluster.place)?;
        if greeting.cluster_uuid == "_na_" {
            return Err(EdgeError::new(
                ErrorKind::Busy,
                format!("{} has no master, or is starting", cluster.place),
            ));
        }
        Ok(greeting)
    }

    fn product(&self) -> String {
        let name = match self.version.distribution.as_deref() {
            Some("opensearch") => "OpenSearch",
            Some(other) => other,
            None => "Elasticsearch",
        };
        format!("{name} {}", self.version.number)
    }
}

#[async_trait]
impl Target for SearchTarget {
    fn place(&self) -> &str {
        &self.shared.cluster.place
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        // Not the addresses: the same cluster may be reached by other nodes tomorrow.
        let greeting = Greeting::read(&self.shared.cluster).await?;
        Ok(format!(
            "search:{}/{}",
            greeting.cluster_name, greeting.cluster_uuid
        ))
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, EdgeError> {
        let cluster = &self.shared.cluster;
        let greeting = Greeting::read(cluster).await?;
        let mut facts = vec![
            ("version".to_owned(), greeting.product()),
            (
                "cluster".to_owned(),
                format!(
                    "{} {}",
                    greeting.cluster_name,
                    index::health(cluster).await?
                ),
            ),
        ];
        let names = self.shared.all_indexes();
        facts.extend(index::facts(cluster, &names).await?);
        for name in load::left_over(cluster, &names).await? {
            facts.push((
                format!("index {name}"),
                "still has the settings that an unfinished run gave it for loading; the next run puts them back"
                    .to_owned(),
            ));
        }
        Ok(facts)
    }

    async fn conditions(&self) -> Result<Vec<Condition>, EdgeError> {
        let shared = &self.shared;
        let mut found = Vec::new();
        for index in shared.all_indexes() {
            let facts = index::Facts::read(&shared.cluster, index).await?;
            let index = index.to_owned();
            if facts.documents.is_none() {
                let prefixed = index::prefixed(&shared.cluster, &index).await;
                found.push(Condition::IndexMissing { index, prefixed });
                continue;
            }
            if let Some(setting) = facts.block {
                let index = index.clone();
                found.push(Condition::IndexBlocked { index, setting });
            }
            if facts.is_dynamic {
                found.push(Condition::IndexDynamic { index });
            }
        }
        Ok(found)
    }

    async fn take_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        let lease = lease::take(&self.shared.cluster, owner).await?;
        if lease == Lease::Held {
            *self
                .shared
                .owner
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(owner.clone());
        }
        Ok(lease)
    }

    async fn renew_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        lease::take(&self.shared.cluster, owner).await
    }

    async fn release_lease(&self, owner: &LeaseOwner) -> Result<(), EdgeError> {
        // An attempt that ends in order leaves no index without copies behind, even if the run waits for days.
        let put_back = match self.shared.owner() {
            Some(ours) if ours.state == owner.state => self.shared.put_back().await,
            _ => Ok(()),
        };
        lease::release(&self.shared.cluster, owner).await?;
        put_back
    }

    async fn lease_owner(&self) -> Result<Option<LeaseOwner>, EdgeError> {
        lease::owner(&self.shared.cluster).await
    }

    async fn incarnation(&self, resource: &ResourceName) -> Result<Option<String>, EdgeError> {
        self.shared.incarnation(resource).await.map(Some)
    }

    async fn evidence(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError> {
        let shared = &self.shared;
        let mut stands: BTreeMap<&ResourceName, bool> = BTreeMap::new();
        for one in recorded {
            let resource = &one.partition.resource;
            if stands.contains_key(resource) {
                continue;
            }
            let routing = shared.routing(resource)?;
            let now = index::incarnation(&shared.cluster, routing).await?;
            let same = now.is_some() && now == one.incarnation;
            stands.insert(
                resource,
                same && !shared.is_overwritten(run, routing).await?,
            );
        }
        let found = recorded.iter().map(|one| {
            if stands.get(&one.partition.resource) == Some(&true) {
                Evidence::Stands
            } else {
                Evidence::UpToChunk(ChunkSeq(0))
            }
        });
        Ok(found.collect())
    }

    async fn writer(
        &self,
        run: &RunId,
        partition: &PartitionKey,
        _stored: ChunkSeq,
        _length: Option<u64>,
    ) -> Result<Box<dyn ChunkWriter>, EdgeError> {
        let shared = &self.shared;
        let incarnation = shared.incarnation(&partition.resource).await?;
        let routing = shared.routing(&partition.resource)?;
        shared.make_ready(run, routing, &incarnation).await?;
        Ok(Box::new(SearchWriter::new(
            Arc::clone(shared),
            &partition.resource,
            incarnation,
        )?))
    }

    async fn comparer(
        &self,
        resource: &ResourceName,
    ) -> Result<Option<Box<dyn Comparer>>, EdgeError> {
        let comparer = SearchComparer::new(Arc::clone(&self.shared), resource)?;
        Ok(Some(Box::new(comparer)))
    }

    async fn applier(&self) -> Result<Option<Box<dyn Applier>>, EdgeError> {
        Ok(Some(Box::new(SearchApplier::new(Arc::clone(&self.shared)))))
    }

    async fn inventory(
        &self,
        resources: &[ResourceName],
    ) -> Result<Option<Box<dyn Inventory>>, EdgeError> {
        let inventory = SearchInventory::begin(Arc::clone(&self.shared), resources).await?;
        Ok(Some(Box::new(inventory)))
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, EdgeError> {
        let cluster = &self.shared.cluster;
        let names = self.shared.all_indexes();
        let left = load::left_over(cluster, &names).await?.into_iter();
        let found = left.map(|name| Leftover {
            run: None,
            what: format!("index `{name}` still has the settings that a run gave it for loading"),
            by_hand: format!(
                "the next run into it puts them back; by hand: what they were is in GET rekindle/_doc/load:{name}"
            ),
        });
        Ok(found.collect())
    }

    async fn forget(&self, _run: &RunId, _partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        // Nothing is kept for a partition. Who wrote last stays: another run that waits has to know.
        Ok(())
    }

    async fn clear(&self, _resource: &ResourceName, _extent: &Extent) -> Result<(), EdgeError> {
        // Documents of others may lie in the index; the same rows write the same ids again.
        Ok(())
    }

    async fn settle(&self, resources: &[ResourceName]) -> Result<(), EdgeError> {
        let shared = &self.shared;
        shared.put_back().await?;
        let names: BTreeSet<_> = resources
            .iter()
            .filter_map(|resource| shared.indexes.get(resource))
            .flat_map(Routing::indexes)
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        index::refresh(&shared.cluster, &names.into_iter().collect::<Vec<_>>()).await
    }
}
