//! The indexes rows go to: that they are there, and that they are still the same ones.

use std::collections::BTreeMap;

use elasticsearch::http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::node::{Cluster, Request};
use crate::{
    error::{EdgeError, ErrorKind},
    plan::Routing,
};

/// Letters that a path may hold as they are; the comma stands between names.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');

/// Returns names as a part of a path: `/shop_de_page,shop_at_page`.
pub(super) fn path<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names
        .into_iter()
        .map(|name| utf8_percent_encode(name, PATH).to_string())
        .collect();
    format!("/{}", names.join(","))
}

#[derive(Deserialize)]
struct Found {
    settings: Settings,
}

#[derive(Deserialize)]
struct Settings {
    index: Identity,
}

#[derive(Deserialize)]
struct Identity {
    uuid: String,
}

/// Returns the indexes that `names` stand for, each with the random id it got when it was created. Missing ones are left
/// out; for an alias it is the index behind it.
async fn find(cluster: &Cluster, names: &[&str]) -> Result<BTreeMap<String, String>, EdgeError> {
    let path = format!("{}/_settings", path(names.iter().copied()));
    // What this node knows: it is asked with every chunk, and a master far away should not be.
    let query = [
        ("filter_path", "*.settings.index.uuid"),
        ("ignore_unavailable", "true"),
        ("local", "true"),
    ];
    let answer = cluster.send(Request::get(&path).query(&query)).await?;
    if answer.status == 404 {
        return Ok(BTreeMap::new());
    }
    if !answer.is_success() {
        return Err(answer.refusal(&cluster.place, "to show the settings of its indexes"));
    }
    let found: BTreeMap<String, Found> = answer.json(&cluster.place)?;
    Ok(found
        .into_iter()
        .map(|(name, found)| (name, found.settings.index.uuid))
        .collect())
}

/// The most indexes that are named in place of a missing one.
const MOST_PREFIXED: usize = 3;

/// Returns some indexes whose names end in `_` and `name`; none where the cluster does not tell, as they are only a hint.
pub(super) async fn prefixed(cluster: &Cluster, name: &str) -> Vec<String> {
    let found = find(cluster, &[&format!("*_{name}")]).await;
    let names = found.unwrap_or_default().into_keys();
    names.take(MOST_PREFIXED).collect()
}

/// Returns a text that is the same as long as the indexes of `routing` are: their names and ids. `None` while one is
/// missing.
///
/// # Errors
///
/// `Refused` for a name that stands for several indexes.
pub(super) async fn incarnation(
    cluster: &Cluster,
    routing: &Routing,
) -> Result<Option<String>, EdgeError> {
    let names: Vec<_> = routing.indexes().collect();
    let found = find(cluster, &names).await?;
    if found.len() < names.len() {
        return Ok(None);
    }
    if found.len() > names.len() {
        return Err(EdgeError::new(
            ErrorKind::Refused,
            format!(
                "one of {} stands for several indexes on {}; name the index itself",
                names.join(", "),
                cluster.place
            ),
        ));
    }
    let texts: Vec<_> = found
        .iter()
        .map(|(name, uuid)| format!("{name}={uuid}"))
        .collect();
    Ok(Some(texts.join(" ")))
}

/// Returns the error for an index of `routing` that is not there.
pub(super) async fn missing(cluster: &Cluster, routing: &Routing, kind: ErrorKind) -> EdgeError {
    let mut absent = Vec::new();
    for name in routing.indexes() {
        match find(cluster, &[name]).await {
            Ok(found) if found.is_empty() => absent.push(format!("`{name}`")),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
    let (noun, it) = if absent.len() == 1 {
        ("index", "it")
    } else {
        ("indexes", "them")
    };
    EdgeError::new(
        kind,
        format!(
            "{} has no {noun} {}: a restore creates none, because the mapping would be guessed; create {it} the way \
             the shop does (Spryker: `vendor/bin/console search:setup:sources`)",
            cluster.place,
            absent.join(", ")
        ),
    )
}

/// Returns whether any of these documents, given as index and id, is there; a refresh is not needed for that.
pub(super) async fn holds_any(
    cluster: &Cluster,
    documents: &[(&str, &str)],
) -> Result<bool, EdgeError> {
    #[derive(Deserialize)]
    struct All {
        docs: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        found: bool,
    }
    if documents.is_empty() {
        return Ok(false);
    }
    let docs: Vec<_> = documents
        .iter()
        .map(|(index, id)| serde_json::json!({ "_index": index, "_id": id, "_source": false }))
        .collect();
    let request = Request::new(Method::Post, "/_mget").json(&serde_json::json!({ "docs": docs }));
    let answer = cluster.expect("to show documents", request).await?;
    let all: All = answer.json(&cluster.place)?;
    Ok(all.docs.iter().any(|one| one.found))
}

/// Makes what was written to the indexes visible to searches.
pub(super) async fn refresh(cluster: &Cluster, names: &[&str]) -> Result<(), EdgeError> {
    let path = format!("{}/_refresh", path(names.iter().copied()));
    let query = [
        ("ignore_unavailable", "true"),
        ("filter_path", "_shards.failed"),
    ];
    cluster
        .expect(
            "to refresh its indexes",
            Request::new(Method::Post, &path).query(&query),
        )
        .await?;
    Ok(())
}

/// Returns the health of the cluster in a word: `status green`.
pub(super) async fn health(cluster: &Cluster) -> Result<String, EdgeError> {
    #[derive(Deserialize)]
    struct Health {
        status: String,
    }
    let answer = cluster
        .expect("to show its health", Request::get("/_cluster/health"))
        .await?;
    let health: Health = answer.json(&cluster.place)?;
    Ok(format!("status {}", health.status))
}

/// What an index says of itself.
pub(super) struct Facts {
    /// `None` for an index that is not there.
    pub documents: Option<u64>,
    /// Whether it guesses the types of fields that it does not know.
    pub is_dynamic: bool,
    /// The setting by which it takes no writes.
    pub block: Option<String>,
}

impl Facts {
    /// Asks about the index `name`.
    pub(super) async fn read(cluster: &Cluster, name: &str) -> Result<Self, EdgeError> {
        #[derive(Deserialize)]
        struct Counted {
            count: u64,
        }
        let path = path([name]);
        let counted = format!("{path}/_count");
        let answer = cluster.send(Request::get(&counted)).await?;
        let documents = match answer.status {
            404 => None,
            _ if answer.is_success() => Some(answer.json::<Counted>(&cluster.place)?.count),
            _ => return Err(answer.refusal(&cluster.place, "to count its documents")),
        };
        if documents.is_none() {
            let (is_dynamic, block) = (false, None);
            return Ok(Self {
                documents,
                is_dynamic,
                block,
            });
        }
        let mapping = format!("{path}/_mapping");
        let query = [("filter_path", "*.mappings.dynamic")];
        let answer = cluster.send(Request::get(&mapping).query(&query)).await?;
        // Only what the index says at its top: `{"shop":{"mappings":{"dynamic":"strict"}}}`
        let text = String::from_utf8_lossy(&answer.body);
        let is_dynamic =
            answer.is_success() && !(text.contains("\"strict\"") || text.contains("\"false\""));
        Ok(Self {
            documents,
            is_dynamic,
            block: block(cluster, &path).await?,
        })
    }
}

/// Returns the setting by which the index at `path` takes no writes: `index.blocks.read_only`.
async fn block(cluster: &Cluster, path: &str) -> Result<Option<String>, EdgeError> {
    #[derive(Deserialize)]
    struct Blocked {
        settings: Outer,
    }
    #[derive(Deserialize)]
    struct Outer {
        index: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        blocks: BTreeMap<String, serde_json::Value>,
    }
    let settings = format!("{path}/_settings");
    let query = [("filter_path", "*.settings.index.blocks")];
    let answer = cluster.send(Request::get(&settings).query(&query)).await?;
    if !answer.is_success() {
        // Who may not see the settings of an index learns it by writing.
        return Ok(None);
    }
    // `{"shop":{"settings":{"index":{"blocks":{"read_only":"true"}}}}}`
    let found: BTreeMap<String, Blocked> = answer.json(&cluster.place)?;
    let set = found
        .into_values()
        .flat_map(|found| found.settings.index.blocks);
    let is_set = |value: &serde_json::Value| value == "true" || value == true;
    let mut blocks = set.filter(|(word, value)| {
        is_set(value) && matches!(&**word, "write" | "read_only" | "read_only_allow_delete")
    });
    Ok(blocks
        .next()
        .map(|(word, _)| format!("index.blocks.{word}")))
}

/// Returns what a dry run shows about each of the indexes `names`.
pub(super) async fn facts(
    cluster: &Cluster,
    names: &[&str],
) -> Result<Vec<(String, String)>, EdgeError> {
    let mut facts = Vec::new();
    for name in names {
        let found = Facts::read(cluster, name).await?;
        let fact = match found.documents {
            None => "missing".to_owned(),
            Some(documents) if found.is_dynamic => {
                format!(
                    "{documents} documents (dynamic mapping: fields it does not know are guessed)"
                )
            }
            Some(documents) => format!("{documents} documents"),
        };
        facts.push((format!("index {name}"), fact));
    }
    Ok(facts)
}
