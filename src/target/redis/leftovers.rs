//! Keys of rekindle itself that lie on the servers, whoever left them there.

use std::collections::BTreeMap;

use super::{cluster::View, keys};
use crate::{error::EdgeError, ids::RunId, target::Leftover};

/// Keys that a server looks at for one answer.
const COUNT: u32 = 1_000;

/// Returns what runs left on the servers of `view`: their markers, and the claims of whoever wrote last.
pub(super) async fn find(view: &View) -> Result<Vec<Leftover>, EdgeError> {
    let mut markers: BTreeMap<RunId, u64> = BTreeMap::new();
    for node in &view.nodes {
        let mut cursor = 0u64;
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg("rekindle:*")
                .arg("COUNT")
                .arg(COUNT);
            let (next, found): (u64, Vec<Vec<u8>>) =
                node.server.ask("to list its keys", &scan).await?;
            for run in found.iter().filter_map(|key| keys::run_of(key)) {
                *markers.entry(run).or_default() += 1;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    let cli = view.nodes[0].server.cli();
    let where_to = if view.is_cluster() {
        "on each master, as on this one: "
    } else {
        ""
    };
    let found = markers.into_iter().map(|(run, count)| Leftover {
        what: format!("{count} of its markers"),
        by_hand: format!("{where_to}{cli} --scan --pattern 'rekindle:*{run}:*' | xargs {cli} del"),
        run: Some(run),
    });
    Ok(found.collect())
}
