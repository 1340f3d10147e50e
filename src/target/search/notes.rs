//! The one index of our own, `rekindle`: who writes, who wrote last, and what was changed for loading.
//!
//! ```text
//! lease                 {"owner":{"state":"9c1f...","host":"batch-2",...},"renewed_ms":1795249690844}
//! writer:shop_de_page   {"state":"9c1f...","run":"7F3K2M"}
//! load:shop_de_page     {"uuid":"...","settings":{"index.refresh_interval":null,"index.number_of_replicas":"1"}}
//! ```
//!
//! Documents are read by id only, which needs no refresh and no mapping.

use elasticsearch::http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    index,
    node::{Cluster, Request},
};
use crate::error::EdgeError;

/// The index.
const INDEX: &str = "rekindle";

/// A document as it was read.
pub(super) struct Note<T> {
    pub(super) content: T,
    /// Where it stands in the order of changes: a change that names them happens only if nobody else changed it meanwhile.
    pub(super) version: (i64, i64),
}

#[derive(Deserialize)]
struct Read<T> {
    #[serde(rename = "_source")]
    source: Option<T>,
    #[serde(rename = "_seq_no", default)]
    seq_no: i64,
    #[serde(rename = "_primary_term", default)]
    primary_term: i64,
}

/// When a document is written.
#[derive(Clone, Copy)]
pub(super) enum If {
    /// There is none.
    Absent,
    /// Nobody changed it since it was read.
    Unchanged((i64, i64)),
    Always,
}

fn document(id: &str) -> String {
    format!("/{INDEX}/_doc{}", index::path([id]))
}

/// Returns document `id`; `None` without it or without the index.
pub(super) async fn read<T: DeserializeOwned>(
    cluster: &Cluster,
    id: &str,
) -> Result<Option<Note<T>>, EdgeError> {
    let path = document(id);
    let answer = cluster.send(Request::get(&path)).await?;
    if answer.status == 404 {
        return Ok(None);
    }
    if !answer.is_success() {
        return Err(answer.refusal(&cluster.place, "to show its index `rekindle`"));
    }
    let read: Read<T> = answer.json(&cluster.place)?;
    Ok(read.source.map(|content| Note {
        content,
        version: (read.seq_no, read.primary_term),
    }))
}

/// Returns the documents `ids`, in their order.
pub(super) async fn read_all<T: DeserializeOwned>(
    cluster: &Cluster,
    ids: &[String],
) -> Result<Vec<Option<T>>, EdgeError> {
    #[derive(Deserialize)]
    struct All<T> {
        docs: Vec<Read<T>>,
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let path = format!("/{INDEX}/_mget");
    let request = Request::new(Method::Post, &path).json(&json!({ "ids": ids }));
    let answer = cluster.send(request).await?;
    if answer.status == 404 {
        return Ok(ids.iter().map(|_| None).collect());
    }
    if !answer.is_success() {
        return Err(answer.refusal(&cluster.place, "to show its index `rekindle`"));
    }
    let all: All<T> = answer.json(&cluster.place)?;
    Ok(all.docs.into_iter().map(|one| one.source).collect())
}

/// Writes document `id`; returns whether the condition held. Creates the index where it is missing.
pub(super) async fn write(
    cluster: &Cluster,
    id: &str,
    content: &Value,
    condition: If,
) -> Result<bool, EdgeError> {
    let path = document(id);
    let (seq_no, primary_term);
    let mut query = Vec::new();
    match condition {
        If::Absent => query.push(("op_type", "create")),
        If::Unchanged(version) => {
            (seq_no, primary_term) = (version.0.to_string(), version.1.to_string());
            query.extend([
                ("if_seq_no", seq_no.as_str()),
                ("if_primary_term", primary_term.as_str()),
            ]);
        }
        If::Always => {}
    }
    if !exists(cluster).await? {
        create(cluster).await?;
    }
    let request = Request::new(Method::Put, &path).query(&query).json(content);
    let answer = cluster.send(request).await?;
    match answer.status {
        409 => Ok(false),
        _ if answer.is_success() => Ok(true),
        _ => Err(answer.refusal(&cluster.place, "a write to its index `rekindle`")),
    }
}

/// Removes document `id` if nobody changed it since it was read.
pub(super) async fn remove(cluster: &Cluster, id: &str, condition: If) -> Result<(), EdgeError> {
    let path = document(id);
    let (seq_no, primary_term);
    let mut query = Vec::new();
    if let If::Unchanged(version) = condition {
        (seq_no, primary_term) = (version.0.to_string(), version.1.to_string());
        query.extend([
            ("if_seq_no", seq_no.as_str()),
            ("if_primary_term", primary_term.as_str()),
        ]);
    }
    let answer = cluster
        .send(Request::new(Method::Delete, &path).query(&query))
        .await?;
    match answer.status {
        404 | 409 => Ok(()),
        _ if answer.is_success() => Ok(()),
        _ => Err(answer.refusal(&cluster.place, "to remove from its index `rekindle`")),
    }
}

async fn exists(cluster: &Cluster) -> Result<bool, EdgeError> {
    let path = format!("/{INDEX}");
    let answer = cluster.send(Request::new(Method::Head, &path)).await?;
    Ok(answer.status != 404)
}

/// Creates the index; does nothing when somebody else just did.
async fn create(cluster: &Cluster) -> Result<(), EdgeError> {
    let path = format!("/{INDEX}");
    // A copy where there is a second node: without it, the loss of one node would stop every run.
    let mut settings =
        json!({ "number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": true });
    for _ in 0..2 {
        let body = json!({ "settings": { "index": settings }, "mappings": { "dynamic": false } });
        let answer = cluster
            .send(Request::new(Method::Put, &path).json(&body))
            .await?;
        if answer.is_success() || answer.says("resource_already_exists_exception") {
            return Ok(());
        }
        if answer.status != 400 || settings.get("hidden").is_none() {
            return Err(answer.refusal(&cluster.place, "to create the index `rekindle`"));
        }
        // Elasticsearch before 7.7 knows no hidden indexes.
        if let Some(settings) = settings.as_object_mut() {
            settings.remove("hidden");
        }
    }
    Ok(())
}
