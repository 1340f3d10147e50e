//! Tells rows that write one key from rows that differ.
//!
//! Of two rows with one key a target can hold only one, so the other one looks different, and rewriting it would only make the
//! first look different the next time. So where rows are doubted, all are read once more, in order, and of those that write a
//! doubted key with different content the last one stands: it alone is compared and rewritten.

use xxhash_rust::xxh3::Xxh3;

use super::{
    Trouble,
    walk::{Walker, pair},
};
use crate::{chunk::Row, engine::retry::retrying, plan::TargetConfig, report, scratch::Writer};

/// Bits of the filter that keeps keys out which nobody doubts: 1 MiB. With a million doubts it lets an eighth of the other
/// keys through, which costs time and nothing else.
const BITS: usize = 1 << 23;

/// Which keys are doubted, and now and then some others.
struct Doubted(Vec<u64>);

impl Doubted {
    fn new() -> Self {
        Self(vec![0; BITS / 64])
    }

    const fn place(hash: u128) -> (usize, u64) {
        let bit = hash as usize % BITS;
        (bit / 64, 1 << (bit % 64))
    }

    fn add(&mut self, hash: u128) {
        let (word, bit) = Self::place(hash);
        self.0[word] |= bit;
    }

    fn has(&self, hash: u128) -> bool {
        let (word, bit) = Self::place(hash);
        self.0[word] & bit != 0
    }
}

/// The place of a row among those that write its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// Another one comes later.
    Before,
    /// It stands.
    Last,
}

impl Walker {
    /// Finds out which doubted keys several rows write, unless that is known already.
    pub(super) async fn find_shared_keys(&self) -> Result<(), Trouble> {
        let name = &self.resource.name;
        let done = format!("writers:{name}");
        if self.scratch().note(&done)?.is_some() {
            return Ok(());
        }
        let mut doubted = Doubted::new();
        let mut any = false;
        self.scratch().each_suspect(name, |pair| {
            // Place and key, the key as 32 digits.
            let key = pair.rsplit(' ').next();
            if let Some(key) = key.and_then(|key| u128::from_str_radix(key, 16).ok()) {
                doubted.add(key);
                any = true;
            }
        })?;
        if any {
            self.scratch().clear_writers(name)?;
            self.context.emit(&report::Event::Notice {
                text: format!(
                    "{name}: its rows are read once more, for keys that several of them write"
                ),
            });
            let verify = &self.context.verify;
            let retry = &verify.plan.defaults.retry;
            let all = || verify.source.partition(&self.query, 1);
            for range in retrying(retry, |_, _| {}, all).await? {
                let mut rows = self.read(&range);
                while let Some(filled) = rows.inbox.recv().await {
                    let writers: Vec<_> = filled
                        .chunk
                        .rows()
                        .filter(|row| doubted.has(key(row)))
                        .map(|row| Writer {
                            name: self.name(&row),
                            pair: pair(&row),
                            hash: Self::content(&row),
                        })
                        .collect();
                    self.scratch().add_writers(name, &writers)?;
                    self.done_with(filled);
                }
                rows.ended().await?;
            }
            self.scratch().keep_shared_keys(name)?;
        }
        Ok(self.scratch().set_note(&done, "")?)
    }

    /// Returns how a row writes its key where several do so, with different content.
    pub(super) fn writes_shared(&self, row: &Row<'_>) -> Result<Option<Writes>, Trouble> {
        let last = self
            .scratch()
            .last_writer(&self.resource.name, &self.name(row))?;
        Ok(last.map(|last| {
            if last == pair(row) {
                Writes::Last
            } else {
                Writes::Before
            }
        }))
    }

    /// Returns a hash of what a row writes to: documents of one key lie in the indexes of their stores.
    fn name(&self, row: &Row<'_>) -> [u8; 16] {
        let plan = &self.context.verify.plan;
        let mut hash = Xxh3::new();
        hash.update(row.key);
        if !matches!(
            plan.targets.get(&self.resource.to),
            Some(TargetConfig::Redis(_))
        ) {
            for column in row.beside() {
                hash.update(b"\0");
                hash.update(column.unwrap_or_default());
            }
        }
        hash.digest128().to_be_bytes()
    }
}

/// Returns the hash of the key that [`pair`] ends with.
fn key(row: &Row<'_>) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(row.key);
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_forgets_no_key_and_knows_few_others() {
        let hash = |number: u32| {
            let mut hash = Xxh3::new();
            hash.update(&number.to_le_bytes());
            hash.digest128()
        };
        let mut doubted = Doubted::new();
        (0..100_000).for_each(|number| doubted.add(hash(number)));
        assert!((0..100_000).all(|number| doubted.has(hash(number))));
        let others = (100_000..200_000).filter(|number| doubted.has(hash(*number)));
        assert!(others.count() < 2_000, "a filter that filters nothing");
    }
}
