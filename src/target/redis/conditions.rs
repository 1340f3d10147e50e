//! What speaks against a restore into the servers.

use super::{cluster::View, info::Info, inventory, server::Server};
use crate::{error::EdgeError, target::Condition};

/// Questions to one other database, each for [`STEP`] keys: a database of millions of keys of somebody else is not read
/// through for the sake of a hint.
const STEPS: usize = 20;
const STEP: usize = 1000;

/// Most other databases that are looked into.
const NEIGHBOURS: usize = 4;

/// Returns the conditions of all servers; `prefix` is what the plan puts before its keys.
pub(super) async fn of(
    view: &View,
    prefix: &str,
    allow_eviction: bool,
) -> Result<Vec<Condition>, EdgeError> {
    let mut found = Vec::new();
    let mut free = Some(0_u64);
    for node in &view.nodes {
        let info = Info::read(&node.server).await?;
        if let Some(master) = info.master() {
            found.push(Condition::Replica { master });
        }
        if let Some(policy) = info.evicts().filter(|_| !allow_eviction) {
            found.push(Condition::Evicts {
                place: node.server.place.clone(),
                policy: policy.to_owned(),
            });
        }
        free = free
            .zip(info.free_bytes())
            .map(|(sum, more)| sum.saturating_add(more));
        // A cluster has one database. Without a prefix, keys there say nothing about whose they are.
        if !view.is_cluster()
            && !prefix.is_empty()
            && let Some(theirs) = elsewhere(&node.server, &info, prefix).await
        {
            let ours = node.server.db();
            found.push(Condition::OtherDatabase { ours, theirs });
        }
    }
    found.extend(free.map(Condition::Free));
    Ok(found)
}

/// Returns another database of `server` with keys that begin with `prefix`, where its own is empty. A user who may not look
/// there learns nothing: it is a hint, and no condition of a restore.
async fn elsewhere(server: &Server, info: &Info, prefix: &str) -> Option<i64> {
    let databases = info.databases();
    if databases.contains(&server.db()) {
        return None;
    }
    for db in databases.into_iter().take(NEIGHBOURS) {
        if holds(&server.neighbour(db), prefix).await.unwrap_or(false) {
            return Some(db);
        }
    }
    None
}

async fn holds(server: &Server, prefix: &str) -> Result<bool, EdgeError> {
    let mut cursor = "0".to_owned();
    for _ in 0..STEPS {
        let mut scan = ::redis::cmd("SCAN");
        scan.arg(&cursor)
            .arg("MATCH")
            .arg(inventory::pattern(prefix.as_bytes()))
            .arg("COUNT")
            .arg(STEP);
        let (next, keys): (String, Vec<Vec<u8>>) = server.ask("to list keys", &scan).await?;
        if !keys.is_empty() {
            return Ok(true);
        }
        if next == "0" {
            break;
        }
        cursor = next;
    }
    Ok(false)
}
