//! Looks again at rows that were not what they should be, until each is sure, in order, or known to move.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    Trouble, depth,
    repair::Mender,
    shared_keys::Writes,
    walk::{Asker, Walker, joined, pair, pause},
};
use crate::{
    chunk::Chunk,
    compare::subset,
    cursor::KeyRange,
    engine::sink::shown_key,
    failpoint,
    plan::TargetConfig,
    scratch::{Counts, Doubt, FIRST_KEYS, Settlement},
    target::Stored,
};

/// How often rows are looked at before they count as moving. What a shop publishes takes a second or two.
const LOOKS: u32 = 6;

/// The wait before rows that changed meanwhile are looked at once more.
const PAUSE: Duration = Duration::from_millis(500);

/// A row that is not what it should be.
struct Seen {
    /// Tells it from all others.
    pair: String,
    /// Its key, as it is shown.
    key: String,
    /// A hash of what was expected.
    hash: u64,
    /// What is there.
    stored: Stored,
}

/// Settles every doubt of a resource, several side by side.
pub(super) async fn settle_all(walker: &Arc<Walker>) -> Result<(), Trouble> {
    let last = Arc::new(AtomicI64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..walker
        .context
        .verify
        .plan
        .defaults
        .parallel_partitions
        .max(1)
    {
        let (walker, last) = (Arc::clone(walker), Arc::clone(&last));
        tasks.spawn(async move {
            let mut asker = walker.asker();
            let mut mender = walker.context.verify.repair.as_ref().map(|repair| {
                repair.mender(&walker.target, &walker.resource.name, &walker.resource.to)
            });
            while let Some(doubt) = walker.claim(&last)? {
                let settlement = walker.settle(&mut asker, mender.as_mut(), &doubt).await?;
                let name = &walker.resource.name;
                walker.scratch().settled(name, doubt.id, &settlement)?;
            }
            Ok(())
        });
    }
    joined(tasks).await
}

impl Walker {
    /// Returns the next doubt that nobody has yet.
    fn claim(&self, last: &AtomicI64) -> Result<Option<Doubt>, Trouble> {
        loop {
            let before = last.load(Ordering::SeqCst);
            let Some(doubt) = self.scratch().next_doubt(&self.resource.name, before)? else {
                return Ok(None);
            };
            let swapped =
                last.compare_exchange(before, doubt.id, Ordering::SeqCst, Ordering::SeqCst);
            if swapped.is_ok() {
                return Ok(Some(doubt));
            }
        }
    }

    /// Looks at the rows of `doubt` until nothing about them is open, and rewrites what surely differs.
    async fn settle(
        &self,
        asker: &mut Asker,
        mut mender: Option<&mut Mender>,
        doubt: &Doubt,
    ) -> Result<Settlement, Trouble> {
        let mut before = self.scratch().suspects(doubt.id)?;
        // What was the same twice and not what the target holds, or was rewritten.
        let mut sure: BTreeMap<String, (Stored, String)> = BTreeMap::new();
        let (mut left, mut moving) = (Vec::new(), 0);
        let mut shared: Vec<String> = Vec::new();
        let mut stop = self.context.verify.stop.clone();
        let repair = self.context.verify.repair.as_ref();
        let catches_up = repair.is_some_and(|repair| repair.catches_up());
        for look in 1..=LOOKS {
            let (seen, rows) = self.look(asker, &doubt.range, &mut shared).await?;
            let mut certain = Vec::new();
            left.clear();
            for (at, one) in seen.iter().enumerate() {
                let same = before.get(&one.pair) == Some(&one.hash);
                if same {
                    left.push(one.pair.clone());
                }
                // What was read after the moment to catch up to is good enough for it, however often it changes.
                if same || (catches_up && look < LOOKS) {
                    certain.push(at);
                    sure.entry(one.pair.clone())
                        .or_insert_with(|| (one.stored, one.key.clone()));
                }
            }
            moving = seen.len() - left.len();
            before = seen
                .into_iter()
                .map(|one| (one.pair, one.hash))
                .collect::<HashMap<_, _>>();
            match mender.as_deref_mut().filter(|_| look < LOOKS) {
                Some(mender) if !certain.is_empty() => {
                    mender.write(&subset(&rows, &certain), &mut stop).await?;
                }
                _ if moving == 0 => break,
                _ => pause(&mut stop, PAUSE).await?,
            }
        }
        if mender.is_none() {
            // What came in order by itself meanwhile is no difference.
            sure.retain(|pair, _| left.contains(pair));
        }
        Ok(Settlement {
            shared,
            ..settlement(sure, left.len(), moving)
        })
    }

    /// Reads the rows of `range` and returns those that the target does not hold as they are. Keys that several rows write go
    /// to `shared`, and of their rows only the last one counts.
    async fn look(
        &self,
        asker: &mut Asker,
        range: &KeyRange,
        shared: &mut Vec<String>,
    ) -> Result<(Vec<Seen>, Chunk), Trouble> {
        let mut rows = self.read(range);
        let mut seen = Vec::new();
        let mut different = Chunk::default();
        while let Some(filled) = rows.inbox.recv().await {
            let sample = self.sample(&filled.chunk);
            let chunk = sample.as_ref().unwrap_or(&filled.chunk);
            let depth = depth(self.context.verify.level);
            let found = asker.ask(chunk, depth).await?;
            for (row, stored) in chunk.rows().zip(found) {
                if matches!(stored, Stored::Missing | Stored::Differs) {
                    if let Some(writes) = self.writes_shared(&row)? {
                        let mut key = self.shown(row.key);
                        if let Writes::Before(Some(other)) = &writes {
                            key = format!("{key} (that of `{other}` stands)");
                        }
                        if !shared.contains(&key) && shared.len() < FIRST_KEYS {
                            shared.push(key);
                        }
                        if writes != Writes::Last && !failpoint::mutant("shared_keys_flip") {
                            continue;
                        }
                    }
                    let beside: Vec<_> = row.beside().collect();
                    different.push(row.cursor, row.key, row.value, &beside);
                    seen.push(Seen {
                        pair: pair(&row),
                        key: self.shown(row.key),
                        hash: self.hash(&row),
                        stored,
                    });
                }
            }
            self.done_with(filled);
        }
        rows.ended().await?;
        Ok((seen, different))
    }

    /// Returns a key as it is in the target, for people.
    pub(super) fn shown(&self, key: &[u8]) -> String {
        match self.context.verify.plan.targets.get(&self.resource.to) {
            Some(TargetConfig::Redis(redis)) => format!("{}{}", redis.prefix, shown_key(key)),
            _ => shown_key(key),
        }
    }
}

fn settlement(sure: BTreeMap<String, (Stored, String)>, left: usize, moving: usize) -> Settlement {
    let mut settlement = Settlement::default();
    for (stored, key) in sure.into_values() {
        if stored == Stored::Missing {
            settlement.missing.push(key);
        } else {
            settlement.different.push(key);
        }
    }
    let (missing, different) = (settlement.missing.len(), settlement.different.len());
    settlement.counts = Counts {
        missing: missing as u64,
        different: different as u64,
        repaired: (missing + different).saturating_sub(left) as u64,
        moving: moving as u64,
        ..Counts::default()
    };
    settlement
}
