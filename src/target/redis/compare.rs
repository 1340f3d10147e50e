//! What Redis holds under the keys of a chunk, compared with what the writer would have stored there.
//!
//! ```text
//! GET key ...      -> value, compared as it comes in: no answer is held, however long it is
//! EXISTS key ...   -> where only presence is asked for
//! ```
//!
//! Single commands in a row and no `MGET`: they are as fast, a key of another type is told from a missing one, and the
//! nodes of a cluster take them.

use std::{collections::HashMap, io, sync::Arc};

use async_trait::async_trait;
use tokio::time::timeout;

use super::{
    cluster::Cluster,
    culprits::{self, Owned},
    error,
    socket::Address,
    wire::{Matched, Reply, Wire, not_redis},
};
use crate::{
    chunk::Chunk,
    error::EdgeError,
    target::{Comparer, Depth, Stored, resp},
};

/// Most keys of one question.
const KEYS: usize = 1_000;

/// Most bytes of values that one question is about, unless a single value is larger: the server holds its answers until
/// they are read.
const BYTES: usize = 512 * 1024;

/// Compares rows over connections of its own, one to each server.
pub(super) struct RedisComparer {
    cluster: Arc<Cluster>,
    prefix: Vec<u8>,
    /// Out of its place while in use: after an error, or when the caller stops waiting, it is not used again.
    wires: HashMap<Address, Wire>,
}

/// A key that a row owns, and what belongs there.
struct Expected<'a> {
    row: usize,
    key: Vec<u8>,
    value: &'a [u8],
}

/// What a server gave no answer to.
#[derive(Default)]
struct Refused {
    /// Keys that the user has no right to read.
    keys: Vec<Owned>,
    /// Whether anything else was refused.
    is_more_than_keys: bool,
    /// What it said, if it refused anything.
    text: Option<String>,
}

impl Refused {
    fn note(&mut self, one: &Expected<'_>, text: String) {
        if error::is_about_a_key(&text) {
            self.keys.push((one.row, one.key.clone()));
            self.text.get_or_insert(text);
        } else {
            self.is_more_than_keys = true;
            self.text = Some(text);
        }
    }
}

/// Returns every key that the rows of `chunk` own, with its value, as the writer stores them.
fn expected<'a>(prefix: &[u8], chunk: &'a Chunk) -> impl Iterator<Item = Expected<'a>> {
    chunk.rows().enumerate().map(move |(row, of)| Expected {
        row,
        key: [prefix, of.key].concat(),
        value: of.value,
    })
}

impl RedisComparer {
    pub(super) fn new(cluster: Arc<Cluster>, prefix: &str) -> Self {
        Self {
            cluster,
            prefix: prefix.as_bytes().to_vec(),
            wires: HashMap::new(),
        }
    }

    async fn ask(&mut self, chunk: &Chunk, depth: Depth) -> Result<Vec<Stored>, EdgeError> {
        let view = self.cluster.view().await?;
        let mut found = vec![Stored::Same; chunk.row_count()];
        let mut of_node: Vec<Vec<Expected<'_>>> = Vec::new();
        of_node.resize_with(view.nodes.len(), Vec::new);
        for one in expected(&self.prefix, chunk) {
            of_node[view.node_of(&one.key)].push(one);
        }
        for (node, mine) in view.nodes.iter().zip(of_node) {
            if mine.is_empty() {
                continue;
            }
            let server = &node.server;
            let mut wire = match self.wires.remove(server.address()) {
                Some(wire) => wire,
                None => Wire::open(server).await?.roomy(),
            };
            let mut rest = mine.as_slice();
            while !rest.is_empty() {
                let (part, left) = rest.split_at(fitting(rest.iter().map(|one| one.value.len())));
                rest = left;
                let bytes = part.iter().map(|one| one.value.len()).sum();
                let limit = server.patience(bytes);
                let exchanged = exchange(&mut wire, part, depth, &mut found);
                let refused = timeout(limit, exchanged)
                    .await
                    .map_err(|_| error::timed_out(&server.place, limit))?
                    .map_err(|e| error::socket(&server.place, e))?;
                let Some(text) = refused.text else { continue };
                let forbidden = culprits::forbidden(server, b"SET", &refused.keys).await?;
                if refused.is_more_than_keys || forbidden.len() < refused.keys.len() {
                    let (code, detail) = error::split(&text);
                    let place = &server.place;
                    return Err(error::refused(place, "the comparison", code, detail));
                }
                for row in forbidden {
                    found[row] = Stored::Unwritable;
                }
            }
            self.wires.insert(server.address().clone(), wire);
        }
        Ok(found)
    }
}

#[async_trait]
impl Comparer for RedisComparer {
    async fn compare(&mut self, chunk: &Chunk, depth: Depth) -> Result<Vec<Stored>, EdgeError> {
        let asked = self.ask(chunk, depth).await;
        if asked.is_err() {
            // The servers may be others: a master was replaced, slots were moved.
            self.cluster.doubt();
        }
        asked
    }
}

/// Asks about the keys of `part` and notes what is there; returns what the server gave no answer to.
async fn exchange(
    wire: &mut Wire,
    part: &[Expected<'_>],
    depth: Depth,
    found: &mut [Stored],
) -> io::Result<Refused> {
    let command: &[u8] = match depth {
        Depth::Presence => b"EXISTS",
        Depth::Content => b"GET",
    };
    for one in part {
        resp::command(wire.out(), &[command, &one.key]);
        wire.spill().await?;
    }
    wire.flush().await?;
    let mut refused = Refused::default();
    for one in part {
        let stored = match depth {
            Depth::Presence => match wire.reply().await? {
                Reply::Number(0) => Stored::Missing,
                Reply::Number(_) => Stored::Same,
                Reply::Error(text) => {
                    refused.note(one, text);
                    continue;
                }
                _ => return Err(not_redis()),
            },
            Depth::Content => match wire.matches(one.value).await? {
                Matched::Same => Stored::Same,
                Matched::Differs => Stored::Differs,
                Matched::Nothing => Stored::Missing,
                Matched::Refused(text) if text.starts_with("WRONGTYPE") => Stored::Differs,
                Matched::Refused(text) => {
                    refused.note(one, text);
                    continue;
                }
            },
        };
        found[one.row] = worse(found[one.row], stored);
    }
    Ok(refused)
}

/// Returns what a row is that owns keys of which one is `this` and another `that`.
const fn worse(this: Stored, that: Stored) -> Stored {
    match (this, that) {
        (Stored::Same, other) | (other, Stored::Same) => other,
        (Stored::Missing, Stored::Missing) => Stored::Missing,
        _ => Stored::Differs,
    }
}

/// Returns how many values go into one question: at least one.
fn fitting(lengths: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = |length: &usize| {
        bytes += length;
        bytes <= BYTES
    };
    lengths.take(KEYS).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_bounded_and_never_empty() {
        assert_eq!(fitting([BYTES * 3, 1].into_iter()), 1);
        assert_eq!(fitting([BYTES / 2; 5].into_iter()), 2);
        assert_eq!(fitting([1; KEYS * 2].into_iter()), KEYS);
    }

    #[test]
    fn a_row_is_whole_only_where_all_of_its_keys_are() {
        use Stored::{Differs, Missing, Same};
        for (this, that, row) in [
            (Same, Same, Same),
            (Same, Missing, Missing),
            (Differs, Same, Differs),
            (Missing, Missing, Missing),
            (Missing, Differs, Differs),
        ] {
            assert_eq!(worse(this, that), row);
            assert_eq!(worse(that, this), row);
        }
    }
}
