//! Which rows made a server refuse a whole chunk: an access control list (`~kv:*`) may know some keys and not others.
//!
//! The rows are asked for one by one inside a transaction that is given up: the right to a key is checked when a command
//! is queued, in a cluster before anybody asks whose slot it is, so nothing is written. That is one round trip for a
//! thousand rows, where halving the chunk would be ten for each culprit.

use std::collections::BTreeSet;

use tokio::time::timeout;

use super::{
    error,
    layout::Layout,
    server::Server,
    wire::{Reply, Wire, not_redis},
};
use crate::{chunk::Chunk, error::EdgeError, target::resp};

/// Asked before answers are read: they have to fit between two sockets.
const AT_A_TIME: usize = 1_000;

/// Why such a row goes nowhere.
pub(super) const REASON: &str = "the user of redis has no right to this key";

/// A row by its place in a chunk, and one of its keys as the server knows it.
pub(super) type Owned = (usize, Vec<u8>);

/// Returns the rows of `chunk` that go into `layout`, with `prefix` before their keys.
pub(super) fn written(prefix: &[u8], chunk: &Chunk, layout: &Layout) -> Vec<Owned> {
    let rejected: BTreeSet<usize> = layout.rejected.iter().map(|one| one.row).collect();
    let rows = chunk.rows().enumerate();
    rows.filter(|(at, _)| !rejected.contains(at))
        .map(|(at, row)| (at, [prefix, row.key].concat()))
        .collect()
}

/// Returns those of `rows` whose keys the user may not write with `command`, by their place in their chunk. None where
/// the server does not say which, or the command itself is what the user has no right to.
///
/// # Errors
///
/// `Connection` and `Timeout`.
pub(super) async fn forbidden(
    server: &Server,
    command: &[u8],
    rows: &[Owned],
) -> Result<BTreeSet<usize>, EdgeError> {
    let limit = server.patience(rows.iter().map(|(_, key)| key.len()).sum());
    timeout(limit, ask(server, command, rows))
        .await
        .unwrap_or_else(|_| Err(error::timed_out(&server.place, limit)))
}

async fn ask(
    server: &Server,
    command: &[u8],
    rows: &[Owned],
) -> Result<BTreeSet<usize>, EdgeError> {
    let broken = |e| error::socket(&server.place, e);
    let mut wire = Wire::open(server).await?;
    let mut found = BTreeSet::new();
    for rows in rows.chunks(AT_A_TIME) {
        resp::command(wire.out(), &[b"MULTI"]);
        for (_, key) in rows {
            resp::command(wire.out(), &[command, key, b""]);
            wire.spill().await.map_err(broken)?;
        }
        resp::command(wire.out(), &[b"DISCARD"]);
        wire.flush().await.map_err(broken)?;
        let Reply::Status(_) = wire.reply().await.map_err(broken)? else {
            // No right to transactions.
            return Ok(BTreeSet::new());
        };
        for (at, _) in rows {
            match wire.reply().await.map_err(broken)? {
                Reply::Error(text) if error::is_about_a_key(&text) => {
                    found.insert(*at);
                }
                // Queued, or a node that another one's key was shown to.
                Reply::Status(_) | Reply::Error(_) => {}
                _ => return Err(broken(not_redis())),
            }
        }
        // Whether it was still open or had been given up by the server: both end it.
        wire.reply().await.map_err(broken)?;
    }
    Ok(found)
}
