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

/// Returns the rows of `chunk`, by their place in it, whose keys the user may not write with `command`. None where the
/// server does not say which, or the command itself is what the user has no right to.
///
/// # Errors
///
/// `Connection` and `Timeout`.
pub(super) async fn forbidden(
    server: &Server,
    command: &[u8],
    prefix: &[u8],
    chunk: &Chunk,
    layout: &Layout,
) -> Result<BTreeSet<usize>, EdgeError> {
    let limit = server.patience(chunk.byte_count());
    let asked = ask(server, command, prefix, chunk, layout);
    timeout(limit, asked)
        .await
        .unwrap_or_else(|_| Err(error::timed_out(&server.place, limit)))
}

async fn ask(
    server: &Server,
    command: &[u8],
    prefix: &[u8],
    chunk: &Chunk,
    layout: &Layout,
) -> Result<BTreeSet<usize>, EdgeError> {
    let broken = |e| error::socket(&server.place, e);
    let rejected: BTreeSet<usize> = layout.rejected.iter().map(|one| one.row).collect();
    let rows: Vec<_> = chunk
        .rows()
        .enumerate()
        .filter(|(at, _)| !rejected.contains(at))
        .collect();
    let mut wire = Wire::open(server).await?;
    let mut found = BTreeSet::new();
    for rows in rows.chunks(AT_A_TIME) {
        resp::command(wire.out(), &[b"MULTI"]);
        for (_, row) in rows {
            resp::array(wire.out(), 3);
            resp::bulk(wire.out(), &[command]);
            resp::bulk(wire.out(), &[prefix, row.key]);
            resp::bulk(wire.out(), &[b""]);
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
