//! Settings that are changed while an index is loaded, and put back afterwards, also after a crash: what they were is
//! written down in the cluster first, and whoever restores into the index next puts them back.

use elasticsearch::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    index,
    node::{Cluster, Request},
    notes::{self, If},
};
use crate::{error::EdgeError, plan::Load};

/// What an index had before.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    uuid: String,
    /// As they are put back; `null` for what was not set.
    settings: Map<String, Value>,
}

fn id(name: &str) -> String {
    format!("load:{name}")
}

/// Returns the settings of one index, without those that only hold by default.
async fn settings(cluster: &Cluster, name: &str) -> Result<Option<Map<String, Value>>, EdgeError> {
    #[derive(Deserialize)]
    struct Found {
        settings: Map<String, Value>,
    }
    let path = format!("{}/_settings", index::path([name]));
    let query = [("flat_settings", "true")];
    let answer = cluster.send(Request::get(&path).query(&query)).await?;
    if answer.status == 404 {
        return Ok(None);
    }
    if !answer.is_success() {
        return Err(answer.refusal(&cluster.place, "to show the settings of an index"));
    }
    let found: std::collections::BTreeMap<String, Found> = answer.json(&cluster.place)?;
    Ok(found.into_values().next().map(|found| found.settings))
}

fn uuid(settings: &Map<String, Value>) -> &str {
    settings
        .get("index.uuid")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

async fn change(cluster: &Cluster, name: &str, to: &Map<String, Value>) -> Result<(), EdgeError> {
    let path = format!("{}/_settings", index::path([name]));
    cluster
        .expect(
            "to change the settings of an index",
            Request::new(Method::Put, &path).json(&json!(to)),
        )
        .await?;
    Ok(())
}

/// Changes what `load` asks for in index `name`. Repeating it changes nothing more.
pub(super) async fn begin(cluster: &Cluster, name: &str, load: Load) -> Result<(), EdgeError> {
    let Some(now) = settings(cluster, name).await? else {
        return Ok(());
    };
    let mut wanted = Map::new();
    if load.refresh_off {
        wanted.insert("index.refresh_interval".to_owned(), json!("-1"));
    }
    // Where the server sets it by the number of nodes, a number of ours would not last.
    let by_nodes = now
        .get("index.auto_expand_replicas")
        .is_some_and(|value| value != "false");
    if let Some(replicas) = load.replicas.filter(|_| !by_nodes) {
        wanted.insert("index.number_of_replicas".to_owned(), json!(replicas));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let noted = notes::read::<Before>(cluster, &id(name)).await?;
    let had = noted.as_ref().filter(|had| had.content.uuid == uuid(&now));
    // What an earlier run noted is what the index really had: now it may have what that run changed.
    let mut before = had.map_or_else(Map::new, |had| had.content.settings.clone());
    for key in wanted.keys() {
        if !before.contains_key(key) {
            before.insert(key.clone(), now.get(key).cloned().unwrap_or(Value::Null));
        }
    }
    let note = json!(Before {
        uuid: uuid(&now).to_owned(),
        settings: before,
    });
    // First the note: killed right after it, nothing was changed.
    notes::write(cluster, &id(name), &note, If::Always).await?;
    change(cluster, name, &wanted).await
}

/// Puts back what was changed in `names`, by whichever run.
pub(super) async fn end(cluster: &Cluster, names: &[&str]) -> Result<(), EdgeError> {
    let ids: Vec<_> = names.iter().copied().map(id).collect();
    let noted = notes::read_all::<Before>(cluster, &ids).await?;
    for (name, before) in names.iter().zip(noted) {
        let Some(before) = before else { continue };
        let now = settings(cluster, name).await?;
        // An index that was created anew has settings of its own.
        if now.is_some_and(|now| uuid(&now) == before.uuid) {
            change(cluster, name, &before.settings).await?;
        }
        notes::remove(cluster, &id(name), If::Always).await?;
    }
    Ok(())
}

/// Returns which of `names` still have what a run changed for loading.
pub(super) async fn left_over<'a>(
    cluster: &Cluster,
    names: &[&'a str],
) -> Result<Vec<&'a str>, EdgeError> {
    let ids: Vec<_> = names.iter().copied().map(id).collect();
    let noted = notes::read_all::<Before>(cluster, &ids).await?;
    Ok(names
        .iter()
        .zip(noted)
        .filter_map(|(name, before)| before.map(|_| *name))
        .collect())
}
