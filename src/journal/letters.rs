//! Dead letters: their table, and the short form of it that the events add up to.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};
use xxhash_rust::xxh3::Xxh3;

use super::error::Fault;
use crate::{
    cursor::Cursor,
    error::ErrorKind,
    ids::{ChunkSeq, PartitionId, ResourceName, RunId},
    machine::{
        DeadLetter, Event, FallbackEvent, Ledger, PartitionEvent, ResourceEvent,
        event::{DeadLetterGroup, SettledGroup},
    },
};

/// Which dead letters stand, as count and checksum for each chunk that has some. Grows with those chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Letters(BTreeMap<(PartitionId, ChunkSeq), DeadLetterGroup>);

/// What an event does to the dead letters.
enum Effect<'a> {
    Nothing,
    /// A chunk brings some.
    Added {
        partition: PartitionId,
        chunk: ChunkSeq,
        letters: &'a [DeadLetter],
    },
    /// Those of later chunks vanish.
    Rewound {
        partition: PartitionId,
        to: ChunkSeq,
    },
    /// Those of partitions that are gone from the run vanish.
    Pruned {
        run: &'a RunId,
    },
    /// Those of a resource vanish, but for those of rows that were read again: its broken rows went to their publisher.
    Mended {
        run: &'a RunId,
        resource: &'a ResourceName,
    },
    /// Those of a resource vanish, in every run.
    Dropped {
        resource: &'a ResourceName,
    },
    /// Some of a resource are none any more.
    Settled(&'a [SettledGroup]),
    /// A summary says which stand.
    Replaced(&'a [DeadLetterGroup]),
}

impl<'a> Effect<'a> {
    fn of(event: &'a Event) -> Self {
        match event {
            Event::Chunk {
                partition,
                progress,
                dead_letters,
            } if !dead_letters.is_empty() => Self::Added {
                partition: *partition,
                chunk: progress.chunk,
                letters: dead_letters,
            },
            Event::Partition {
                partition,
                event: PartitionEvent::Rewound(to),
            } => Self::Rewound {
                partition: *partition,
                to: to.chunk,
            },
            Event::PlanChanged { run, .. }
            | Event::Resource {
                run,
                event: ResourceEvent::StartedOver { .. },
                ..
            }
            // Partitions that are bound again take the place of those before.
            | Event::Fallback {
                run,
                event: FallbackEvent::Bound { .. },
                ..
            } => Self::Pruned { run },
            Event::Fallback {
                run,
                resource,
                event: FallbackEvent::Mended,
            } => Self::Mended { run, resource },
            Event::DeadLettersDropped { resource, .. } => Self::Dropped { resource },
            Event::DeadLettersSettled { groups, .. } => Self::Settled(groups),
            Event::Compacted { dead_letters, .. } => Self::Replaced(dead_letters),
            _ => Self::Nothing,
        }
    }
}

impl Letters {
    /// Takes in `event`, which `ledger` already has.
    pub(super) fn apply(&mut self, ledger: &Ledger, at_ms: i64, event: &Event) {
        match Effect::of(event) {
            Effect::Nothing => {}
            Effect::Added {
                partition,
                chunk,
                letters,
            } => {
                let mut sum = Checksum::default();
                let rows = rows(ledger, at_ms, partition, chunk, letters);
                for row in &rows {
                    sum.add(row);
                }
                if let Some(group) = sum.group() {
                    self.0.insert((partition, chunk), group);
                }
            }
            Effect::Rewound { partition, to } => self
                .0
                .retain(|(of, chunk), _| *of != partition || *chunk <= to),
            Effect::Pruned { run } => {
                let kept: BTreeSet<PartitionId> = ledger
                    .run(run)
                    .into_iter()
                    .flat_map(|run| &run.resources)
                    .flat_map(|resource| &resource.partitions)
                    .map(|partition| partition.id)
                    .collect();
                self.0
                    .retain(|(id, _), group| group.run != *run || kept.contains(id));
            }
            Effect::Mended { run, resource } => {
                let again = read_again(ledger, run, resource);
                self.0.retain(|(id, _), group| {
                    group.run != *run
                        || group.resource != *resource
                        || again.is_some_and(|first| *id >= first)
                });
            }
            Effect::Dropped { resource } => self.0.retain(|_, group| group.resource != *resource),
            Effect::Settled(groups) => {
                for group in groups {
                    let place = (group.partition, group.chunk);
                    match &group.left {
                        Some(left) => self.0.insert(place, left.clone()),
                        None => self.0.remove(&place),
                    };
                }
            }
            Effect::Replaced(groups) => {
                self.0 = groups
                    .iter()
                    .map(|group| ((group.partition, group.chunk), group.clone()))
                    .collect();
            }
        }
    }

    /// Returns the groups in order, for a summary.
    pub(super) fn groups(&self) -> Vec<DeadLetterGroup> {
        self.0.values().cloned().collect()
    }

    /// Compares the table with what the events add up to.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), Fault> {
        let mut statement = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM dead_letter ORDER BY partition, chunk, n"
        ))?;
        let mut rows = statement.query([])?;
        let mut expected = self.0.values();
        let mut sum = Checksum::default();
        loop {
            let next = match rows.next()? {
                Some(row) => Some(LetterRow::read(row).map_err(|_| {
                    Fault::table("dead_letter", "unknown", "a column has the wrong type")
                })?),
                None => None,
            };
            let same_group = next.as_ref().is_some_and(|row| sum.is_of(row));
            if !same_group && let Some(found) = sum.group() {
                if expected.next() != Some(&found) {
                    return Err(Fault::table(
                        "dead_letter",
                        &format!("of partition {}, chunk {}", found.partition, found.chunk),
                        "differs from what the events add up to",
                    ));
                }
                sum = Checksum::default();
            }
            let Some(row) = next else { break };
            sum.add(&row);
        }
        match expected.next() {
            None => Ok(()),
            Some(group) => Err(Fault::table(
                "dead_letter",
                &format!("of partition {}, chunk {}", group.partition, group.chunk),
                "is missing",
            )),
        }
    }
}

/// Brings the table up to date with `event`, which `ledger` already has and whose partitions are already stored.
pub(super) fn project(
    connection: &Connection,
    ledger: &Ledger,
    at_ms: i64,
    event: &Event,
) -> rusqlite::Result<()> {
    match Effect::of(event) {
        Effect::Nothing | Effect::Replaced(_) => {}
        Effect::Added {
            partition,
            chunk,
            letters,
        } => {
            let mut statement = connection.prepare_cached(
                "INSERT INTO dead_letter (run, resource, partition, chunk, n, cursor, key, kind, reason, attempt, at_ms, entity)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?;
            for row in rows(ledger, at_ms, partition, chunk, letters) {
                statement.execute(params![
                    row.run,
                    row.resource,
                    row.partition,
                    row.chunk,
                    row.n,
                    row.cursor,
                    row.key,
                    row.kind,
                    row.reason,
                    row.attempt,
                    row.at_ms,
                    row.entity
                ])?;
            }
        }
        Effect::Rewound { partition, to } => {
            connection
                .prepare_cached("DELETE FROM dead_letter WHERE partition = ?1 AND chunk > ?2")?
                .execute([partition.0.cast_signed(), to.0.cast_signed()])?;
        }
        Effect::Pruned { run } => {
            connection
                .prepare_cached(
                    "DELETE FROM dead_letter WHERE run = ?1
                     AND partition NOT IN (SELECT id FROM partition WHERE run = ?1)",
                )?
                .execute([run.as_str()])?;
        }
        Effect::Settled(groups) => {
            let mut statement = connection.prepare_cached(
                "DELETE FROM dead_letter WHERE partition = ?1 AND chunk = ?2 AND n = ?3",
            )?;
            for group in groups {
                for n in &group.gone {
                    let chunk = group.chunk.0.cast_signed();
                    statement.execute([group.partition.0.cast_signed(), chunk, n.cast_signed()])?;
                }
            }
        }
        Effect::Mended { run, resource } => {
            let again = read_again(ledger, run, resource);
            connection
                .prepare_cached(
                    "DELETE FROM dead_letter WHERE run = ?1 AND resource = ?2 AND (?3 IS NULL OR partition < ?3)",
                )?
                .execute(params![
                    run.as_str(),
                    resource.as_str(),
                    again.map(|id| id.0.cast_signed())
                ])?;
        }
        Effect::Dropped { resource } => {
            connection
                .prepare_cached("DELETE FROM dead_letter WHERE resource = ?1")?
                .execute([resource.as_str()])?;
        }
    }
    Ok(())
}

/// Which dead letters are looked for.
#[derive(Debug, Clone)]
pub struct WhichLetters {
    /// Of this run.
    pub run: RunId,
    /// Of this resource.
    pub resource: ResourceName,
    /// Only of this kind.
    pub kind: Option<ErrorKind>,
    /// Only of partitions before this one.
    pub before: Option<PartitionId>,
    /// Only those after this number.
    pub after: i64,
    /// So many at most.
    pub limit: u32,
}

/// What finds the row of a dead letter again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterPlace {
    /// The number of the letter.
    pub number: i64,
    /// Where the row was.
    pub place: Cursor,
    /// The entity that it belongs to, if it was asked for.
    pub entity: Option<String>,
}

/// Returns the places of dead letters in the order of their numbers.
pub(super) fn places(
    connection: &Connection,
    which: &WhichLetters,
) -> rusqlite::Result<Vec<LetterPlace>> {
    let before = which.before.map(|id| id.0.cast_signed());
    connection
        .prepare_cached(
            "SELECT rowid, cursor, entity FROM dead_letter
             WHERE run = ?1 AND resource = ?2 AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR partition < ?4) AND rowid > ?5
             ORDER BY rowid LIMIT ?6",
        )?
        .query_map(
            params![
                which.run.as_str(),
                which.resource.as_str(),
                which.kind.map(ErrorKind::label),
                before,
                which.after,
                which.limit
            ],
            |row| {
                let place = serde_json::from_str(row.get_ref(1)?.as_str()?);
                let place = place.map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(
                        1,
                        rusqlite::types::Type::Text,
                        Box::new(error),
                    )
                })?;
                Ok(LetterPlace {
                    number: row.get(0)?,
                    place,
                    entity: row.get(2)?,
                })
            },
        )?
        .collect()
}

/// An event that is still to be recorded, and how many dead letters it settles.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The event.
    pub event: Event,
    /// How many rows they are of: several runs may have met one of them.
    pub count: u64,
}

/// Returns the event that settles the dead letters of `resource` at `cursors` (their exact texts), those of run `but`
/// apart; `None` where there are none.
pub(super) fn settled(
    connection: &Connection,
    resource: &ResourceName,
    cursors: &BTreeSet<String>,
    but: Option<&RunId>,
    how: String,
) -> rusqlite::Result<Option<Settled>> {
    let mut statement = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM dead_letter WHERE resource = ?1 AND (?2 IS NULL OR run <> ?2)
         ORDER BY partition, chunk, n"
    ))?;
    let mut rows = statement.query(params![resource.as_str(), but.map(RunId::as_str)])?;
    let mut groups: Vec<(SettledGroup, Checksum)> = Vec::new();
    let mut gone: BTreeSet<String> = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let row = LetterRow::read(row)?;
        let (partition, chunk) = (
            PartitionId(row.partition.cast_unsigned()),
            ChunkSeq(row.chunk.cast_unsigned()),
        );
        let same = groups
            .last()
            .is_some_and(|(group, _)| (group.partition, group.chunk) == (partition, chunk));
        if !same {
            let group = SettledGroup {
                partition,
                chunk,
                gone: Vec::new(),
                left: None,
            };
            groups.push((group, Checksum::default()));
        }
        let Some((group, left)) = groups.last_mut() else {
            continue;
        };
        let cursor = serde_json::from_str::<Cursor>(&row.cursor).map(|cursor| cursor.exact());
        match cursor {
            Ok(cursor) if cursors.contains(&cursor) => {
                group.gone.push(row.n.cast_unsigned());
                gone.insert(cursor);
            }
            _ => left.add(&row),
        }
    }
    let groups: Vec<_> = groups
        .into_iter()
        .filter(|(group, _)| !group.gone.is_empty())
        .map(|(group, left)| SettledGroup {
            left: left.group(),
            ..group
        })
        .collect();
    Ok((!gone.is_empty()).then(|| Settled {
        event: Event::DeadLettersSettled {
            resource: resource.clone(),
            how,
            groups,
        },
        count: gone.len() as u64,
    }))
}

/// Returns the first partition that reads dead letters of a resource again; `None` where none of their rows was left.
fn read_again(ledger: &Ledger, run: &RunId, resource: &ResourceName) -> Option<PartitionId> {
    let handover = &ledger.run(run)?.resource(resource)?.fallback.handover;
    handover.as_ref()?.bound
}

const COLUMNS: &str =
    "run, resource, partition, chunk, n, cursor, key, kind, reason, attempt, at_ms, entity";

/// A row of the table.
struct LetterRow {
    run: String,
    resource: String,
    partition: i64,
    chunk: i64,
    n: i64,
    cursor: String,
    key: Option<String>,
    kind: String,
    reason: String,
    attempt: i64,
    at_ms: i64,
    entity: Option<String>,
}

impl LetterRow {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            run: row.get(0)?,
            resource: row.get(1)?,
            partition: row.get(2)?,
            chunk: row.get(3)?,
            n: row.get(4)?,
            cursor: row.get(5)?,
            key: row.get(6)?,
            kind: row.get(7)?,
            reason: row.get(8)?,
            attempt: row.get(9)?,
            at_ms: row.get(10)?,
            entity: row.get(11)?,
        })
    }
}

fn rows(
    ledger: &Ledger,
    at_ms: i64,
    partition: PartitionId,
    chunk: ChunkSeq,
    letters: &[DeadLetter],
) -> Vec<LetterRow> {
    let Some((run, resource, _)) = ledger.partition(partition) else {
        return Vec::new();
    };
    let attempt = run.attempts.last().map_or(0, |attempt| attempt.number);
    (1..)
        .zip(letters)
        .map(|(n, letter)| LetterRow {
            run: run.id.as_str().to_owned(),
            resource: resource.name.as_str().to_owned(),
            partition: partition.0.cast_signed(),
            chunk: chunk.0.cast_signed(),
            n,
            cursor: super::projection::json(&letter.cursor),
            key: letter.key.clone(),
            kind: letter.kind.clone(),
            reason: letter.reason.clone(),
            attempt: attempt.into(),
            at_ms,
            entity: letter.entity.clone(),
        })
        .collect()
}

/// Counts and hashes the rows of one group.
#[derive(Default)]
struct Checksum {
    group: Option<DeadLetterGroup>,
    hasher: Xxh3,
}

impl Checksum {
    fn is_of(&self, row: &LetterRow) -> bool {
        self.group.as_ref().is_some_and(|group| {
            (group.partition.0, group.chunk.0)
                == (row.partition.cast_unsigned(), row.chunk.cast_unsigned())
        })
    }

    fn add(&mut self, row: &LetterRow) {
        let group = self.group.get_or_insert_with(|| DeadLetterGroup {
            run: RunId::from_text(&row.run),
            resource: row.resource.as_str().into(),
            partition: PartitionId(row.partition.cast_unsigned()),
            chunk: ChunkSeq(row.chunk.cast_unsigned()),
            count: 0,
            checksum: 0,
        });
        group.count += 1;
        for number in [row.n, row.attempt, row.at_ms] {
            self.hasher.update(&number.to_le_bytes());
        }
        let key = row.key.as_deref();
        self.hasher.update(&[u8::from(key.is_some())]);
        let texts = [&row.run, &row.resource, &row.cursor, &row.kind, &row.reason];
        for text in texts.into_iter().map(String::as_str).chain(key) {
            self.hasher.update(&(text.len() as u64).to_le_bytes());
            self.hasher.update(text.as_bytes());
        }
        // Nothing where there is none: groups of format 2 keep their checksums.
        if let Some(entity) = &row.entity {
            self.hasher.update(&(entity.len() as u64).to_le_bytes());
            self.hasher.update(entity.as_bytes());
        }
    }

    fn group(&self) -> Option<DeadLetterGroup> {
        self.group.as_ref().map(|group| DeadLetterGroup {
            checksum: self.hasher.digest(),
            ..group.clone()
        })
    }
}
