//! Lists the documents of the plan's indexes, and removes some if nobody wrote them meanwhile.
//!
//! ```text
//! POST /index/_search?scroll=5m {"size":1000,"sort":["_doc"],"_source":false}    as every server knows it
//! POST /_mget                   (the engine asks the source)      POST /_bulk {"delete":{...,"if_seq_no":7,"if_primary_term":1}}
//! ```

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use elasticsearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Shared,
    answer::{Cause, Verdict},
    index,
    node::Request,
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::{ResourceName, StoredName},
    target::{Inventory, bulk::Lines},
};

/// Documents of one answer: ids only, some 100 kB.
const SIZE: u32 = 1_000;

/// How long a server keeps a listing between two questions.
const KEEP: &str = "5m";

/// The documents of one plan's target.
pub(super) struct SearchInventory {
    shared: Arc<Shared>,
    /// What the rows of each resource own, and its indexes.
    lines: BTreeMap<ResourceName, (Lines, Vec<String>)>,
    /// Indexes that are still to be listed; the last one is next.
    left: Vec<String>,
    /// The index that is listed, and the server's name for the listing.
    scroll: Option<(String, String)>,
    /// Where each watched document stands in the order of changes.
    watched: BTreeMap<StoredName, (i64, i64)>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "_scroll_id")]
    scroll: String,
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
}

impl SearchInventory {
    pub(super) async fn begin(
        shared: Arc<Shared>,
        resources: &[ResourceName],
    ) -> Result<Self, EdgeError> {
        let mut lines = BTreeMap::new();
        let mut left = Vec::new();
        for resource in resources {
            let routing = shared.routing(resource)?;
            let indexes: Vec<String> = routing.indexes().map(str::to_owned).collect();
            left.extend(indexes.iter().cloned());
            lines.insert(resource.clone(), (Lines::new(routing), indexes));
        }
        left.sort();
        left.dedup();
        let names: Vec<&str> = left.iter().map(String::as_str).collect();
        // What was written and is not searchable yet would not be listed.
        index::refresh(&shared.cluster, &names).await?;
        Ok(Self {
            shared,
            lines,
            left,
            scroll: None,
            watched: BTreeMap::new(),
        })
    }

    async fn page(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Page, EdgeError> {
        let cluster = &self.shared.cluster;
        let request = Request::new(Method::Post, path).query(query).json(body);
        let answer = cluster.expect("to list its documents", request).await?;
        answer.json(&cluster.place)
    }
}

#[async_trait]
impl Inventory for SearchInventory {
    async fn next(&mut self) -> Result<Option<Vec<StoredName>>, EdgeError> {
        let (place, page) = if let Some((place, id)) = self.scroll.take() {
            let body = json!({ "scroll": KEEP, "scroll_id": id });
            (place, self.page("/_search/scroll", &[], &body).await?)
        } else {
            let Some(place) = self.left.pop() else {
                return Ok(None);
            };
            let path = format!("{}/_search", index::path([place.as_str()]));
            let body = json!({ "size": SIZE, "sort": ["_doc"], "_source": false });
            let page = self.page(&path, &[("scroll", KEEP)], &body).await?;
            (place, page)
        };
        if page.hits.hits.is_empty() {
            let body = json!({ "scroll_id": page.scroll });
            let request = Request::new(Method::Delete, "/_search/scroll").json(&body);
            // A listing that stays behind ends by itself.
            self.shared.cluster.send(request).await.ok();
            return Ok(Some(Vec::new()));
        }
        let names = page.hits.hits.into_iter().map(|hit| StoredName {
            place: place.clone(),
            key: hit.id.into_bytes(),
        });
        let names = names.collect();
        self.scroll = Some((place, page.scroll));
        Ok(Some(names))
    }

    fn owned(
        &self,
        resource: &ResourceName,
        key: &[u8],
        beside: &[Option<&[u8]>],
    ) -> Vec<StoredName> {
        let Some((lines, indexes)) = self.lines.get(resource) else {
            return Vec::new();
        };
        let places = lines.places(beside.first().copied().flatten());
        // A store that the plan does not know may be any.
        let places = places.unwrap_or(0..indexes.len());
        indexes[places]
            .iter()
            .map(|place| StoredName {
                place: place.clone(),
                key: key.to_vec(),
            })
            .collect()
    }

    async fn groups(&mut self, names: Vec<StoredName>) -> Result<Vec<Vec<StoredName>>, EdgeError> {
        Ok(vec![names])
    }

    async fn gone(&mut self, names: &[StoredName]) -> Result<Vec<StoredName>, EdgeError> {
        self.watch(names).await?;
        let there = std::mem::take(&mut self.watched);
        let gone = names.iter().filter(|name| !there.contains_key(*name));
        Ok(gone.cloned().collect())
    }

    async fn watch(&mut self, names: &[StoredName]) -> Result<(), EdgeError> {
        #[derive(Deserialize)]
        struct All {
            docs: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(rename = "_seq_no")]
            seq_no: Option<i64>,
            #[serde(rename = "_primary_term")]
            primary_term: Option<i64>,
        }
        let cluster = &self.shared.cluster;
        let docs: Vec<_> = names
            .iter()
            .map(|name| {
                let id = String::from_utf8_lossy(&name.key);
                json!({ "_index": name.place, "_id": id, "_source": false })
            })
            .collect();
        let request = Request::new(Method::Post, "/_mget").json(&json!({ "docs": docs }));
        let answer = cluster.expect("to show documents", request).await?;
        let all: All = answer.json(&cluster.place)?;
        self.watched = names
            .iter()
            .zip(all.docs)
            .filter_map(|(name, one)| Some((name.clone(), (one.seq_no?, one.primary_term?))))
            .collect();
        Ok(())
    }

    async fn remove(&mut self, names: &[StoredName]) -> Result<Option<u64>, EdgeError> {
        #[derive(Deserialize)]
        struct Bulk<'a> {
            #[serde(borrow)]
            items: Vec<Item<'a>>,
        }
        #[derive(Deserialize)]
        struct Item<'a> {
            #[serde(borrow)]
            delete: Outcome<'a>,
        }
        #[derive(Deserialize)]
        struct Outcome<'a> {
            status: u16,
            #[serde(borrow, default)]
            error: Option<Cause<'a>>,
        }
        let watched = std::mem::take(&mut self.watched);
        let mut body = Vec::new();
        for name in names {
            let Some((seq_no, primary_term)) = watched.get(name) else {
                continue;
            };
            let line = json!({ "delete": {
                "_index": name.place, "_id": String::from_utf8_lossy(&name.key),
                "if_seq_no": seq_no, "if_primary_term": primary_term,
            } });
            body.extend_from_slice(line.to_string().as_bytes());
            body.push(b'\n');
        }
        if body.is_empty() {
            return Ok(Some(0));
        }
        let cluster = &self.shared.cluster;
        let query = [("filter_path", "items.*.status,items.*.error.type")];
        let request = Request::new(Method::Post, "/_bulk")
            .query(&query)
            .body(body.into());
        let answer = cluster.expect("to remove documents", request).await?;
        let bulk: Bulk<'_> = answer.json(&cluster.place)?;
        let mut removed = 0;
        for item in bulk.items {
            let outcome = item.delete;
            match outcome.status {
                200..300 => removed += 1,
                // Gone already, or written since it was looked at.
                404 | 409 => {}
                status => {
                    let cause = outcome.error.unwrap_or_default();
                    let place = &cluster.place;
                    return Err(match Verdict::of(status, &cause) {
                        Verdict::Trouble(kind, why) => {
                            EdgeError::new(kind, format!("{place} {why}"))
                        }
                        Verdict::Rejected(why) => {
                            EdgeError::new(ErrorKind::Refused, format!("{place}: {why}"))
                        }
                    });
                }
            }
        }
        Ok(Some(removed))
    }
}
