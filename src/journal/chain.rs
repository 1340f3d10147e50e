//! The event log as a chain: every row is hashed over the one before, and adds up to a ledger.

use rusqlite::{Connection, Row};
use xxhash_rust::xxh3::Xxh3;

use super::{error::Fault, letters::Letters};
use crate::{
    ids::{ChunkSeq, PartitionId, RunId},
    machine::{Event, IllegalTransition, Ledger, PartitionEvent},
};

/// 128 bits of XXH3: against accidents, not against an adversary who can write the file.
pub(super) type Hash = [u8; 16];

/// What the first event is hashed over.
const GENESIS: Hash = [0; 16];

/// Returns the hash of an event that comes after one with the hash `previous`.
pub(super) fn link(previous: &Hash, seq: u64, at_ms: i64, label: &str, body: &str) -> Hash {
    let mut hasher = Xxh3::new();
    hasher.update(previous);
    hasher.update(&seq.to_le_bytes());
    hasher.update(&at_ms.to_le_bytes());
    hasher.update(&(label.len() as u64).to_le_bytes());
    hasher.update(label.as_bytes());
    hasher.update(body.as_bytes());
    hasher.digest128().to_be_bytes()
}

/// What a log adds up to, from its first row to its last.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    pub(super) ledger: Ledger,
    pub(super) letters: Letters,
    /// Number of the last event; 0 before the first.
    pub(super) seq: u64,
    /// Hash of the last event.
    pub(super) hash: Hash,
    /// Number of the summary that stands for the events up to it; 0 for none.
    pub(super) summary: u64,
    /// Bytes of the bodies after the summary.
    pub(super) tail_bytes: u64,
}

/// An event on its way into the table.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) seq: u64,
    pub(super) label: &'static str,
    pub(super) place: Place,
    pub(super) body: String,
    pub(super) hash: Hash,
}

/// The columns that only serve to find an event again; they follow from its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) run: Option<RunId>,
    pub(super) partition: Option<PartitionId>,
    pub(super) chunk: Option<ChunkSeq>,
}

/// Why an event was not appended.
#[derive(Debug)]
pub(super) enum AppendError {
    Illegal(IllegalTransition),
    Encoding(serde_json::Error),
}

pub(super) const COLUMNS: &str =
    "seq, at_ms, label, run, partition, chunk, body, hash, seal FROM event";

impl Log {
    /// Adds `event`; after an error the log is of no use any more.
    pub(super) fn append(&mut self, at_ms: i64, event: &Event) -> Result<Line, AppendError> {
        let body = serde_json::to_string(event).map_err(AppendError::Encoding)?;
        let place = self
            .apply(at_ms, event, body.len())
            .map_err(AppendError::Illegal)?;
        let label = event.label();
        self.seq += 1;
        self.hash = link(&self.hash, self.seq, at_ms, label, &body);
        Ok(Line {
            seq: self.seq,
            label,
            place,
            body,
            hash: self.hash,
        })
    }

    /// Returns what the rows up to number `until` (all of them for `None`) add up to, having checked each.
    pub(super) fn replay(connection: &Connection, until: Option<u64>) -> Result<Self, Fault> {
        let mut log = Self {
            hash: GENESIS,
            ..Self::default()
        };
        let mut statement =
            connection.prepare(&format!("SELECT {COLUMNS} WHERE seq <= ?1 ORDER BY seq"))?;
        let mut rows = statement.query([until.map_or(i64::MAX, u64::cast_signed)])?;
        while let Some(row) = rows.next()? {
            log.accept(row)?;
        }
        Ok(log)
    }

    fn accept(&mut self, row: &Row<'_>) -> Result<(), Fault> {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        let fault = |what: String| Fault::event(seq, what);
        let typed = |_| fault("a column has the wrong type".to_owned());
        let at_ms: i64 = row.get(1).map_err(typed)?;
        let text = |index: usize| {
            row.get_ref(index)?
                .as_str()
                .map_err(|_| fault("a column has the wrong type".to_owned()))
        };
        let (label, body) = (text(2)?, text(6)?);
        let hash: Hash = row.get(7).map_err(typed)?;
        let seal: Option<Hash> = row.get(8).map_err(typed)?;
        let decode = || {
            serde_json::from_str::<Event>(body)
                .map_err(|error| fault(format!("its body cannot be read ({error})")))
        };

        if let Some(seal) = seal {
            if self.seq != 0 {
                return Err(fault(
                    "a summary stands in the middle of the log".to_owned(),
                ));
            }
            if link(&hash, seq, at_ms, label, body) != seal {
                return Err(fault("its hash does not fit its content".to_owned()));
            }
            let event = decode()?;
            self.apply(at_ms, &event, 0)
                .map_err(|error| fault(error.to_string()))?;
            (self.seq, self.hash, self.summary) = (seq, hash, seq);
            return Ok(());
        }
        if seq != self.seq + 1 {
            return Err(fault(format!("event {} is missing", self.seq + 1)));
        }
        if link(&self.hash, seq, at_ms, label, body) != hash {
            return Err(fault(
                "its hash does not fit its content and the event before".to_owned(),
            ));
        }
        let event = decode()?;
        let place = self
            .apply(at_ms, &event, body.len())
            .map_err(|error| fault(error.to_string()))?;
        let stored = Place {
            run: row
                .get::<_, Option<String>>(3)
                .map_err(typed)?
                .map(|text| RunId::from_text(&text)),
            partition: row
                .get::<_, Option<i64>>(4)
                .map_err(typed)?
                .map(|id| PartitionId(id.cast_unsigned())),
            chunk: row
                .get::<_, Option<i64>>(5)
                .map_err(typed)?
                .map(|chunk| ChunkSeq(chunk.cast_unsigned())),
        };
        if label != event.label() || place != stored {
            return Err(fault("its columns do not fit its body".to_owned()));
        }
        (self.seq, self.hash) = (seq, hash);
        Ok(())
    }

    fn apply(
        &mut self,
        at_ms: i64,
        event: &Event,
        bytes: usize,
    ) -> Result<Place, IllegalTransition> {
        self.ledger.apply(at_ms, event)?;
        let place = self.place(event);
        self.letters.apply(&self.ledger, at_ms, event);
        self.tail_bytes += bytes as u64;
        Ok(place)
    }

    fn place(&self, event: &Event) -> Place {
        let of_partition = |id: PartitionId, chunk| Place {
            run: self.ledger.partition(id).map(|(run, ..)| run.id.clone()),
            partition: Some(id),
            chunk,
        };
        match event {
            Event::Chunk {
                partition,
                progress,
                ..
            } => of_partition(*partition, Some(progress.chunk)),
            Event::Partition {
                partition,
                event: PartitionEvent::Rewound(to),
            } => of_partition(*partition, Some(to.chunk)),
            Event::Partition { partition, .. } | Event::PartitionCut { partition, .. } => {
                of_partition(*partition, None)
            }
            Event::RunPlanned { run, .. }
            | Event::PlanChanged { run, .. }
            | Event::AttemptStarted { run, .. }
            | Event::AttemptEnded { run, .. }
            | Event::Run { run, .. }
            | Event::Step { run, .. }
            | Event::Identified { run, .. }
            | Event::ResourceBound { run, .. }
            | Event::Resource { run, .. }
            | Event::Fallback { run, .. } => Place {
                run: Some(run.clone()),
                ..Place::default()
            },
            Event::Noted { run, .. } => Place {
                run: run.clone(),
                ..Place::default()
            },
            Event::DeadLettersDropped { .. }
            | Event::DeadLettersSettled { .. }
            | Event::Compacted { .. } => Place::default(),
        }
    }

    /// Returns how many events come after the summary.
    pub(super) const fn tail_events(&self) -> u64 {
        self.seq - self.summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Old state files are checked with it: a change here needs a new format.
    #[test]
    fn the_hash_of_a_row_never_changes() {
        let hash = link(&GENESIS, 1, 1_763_720_000_000, "run_planned", "{}");
        let text = format!("{:032x}", u128::from_be_bytes(hash));
        assert_eq!(text, "8a9d27b7525519ea94694ddedd773a36");
    }

    #[test]
    fn a_hash_depends_on_every_part_of_its_row() {
        let base = link(&GENESIS, 7, 5, "chunk", "{}");
        for other in [
            link(&base, 7, 5, "chunk", "{}"),
            link(&GENESIS, 8, 5, "chunk", "{}"),
            link(&GENESIS, 7, 6, "chunk", "{}"),
            link(&GENESIS, 7, 5, "chun", "k{}"),
            link(&GENESIS, 7, 5, "chunk", "[]"),
        ] {
            assert_ne!(other, base);
        }
    }
}
