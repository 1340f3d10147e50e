//! Keeps the log small: a prefix of it becomes one summary, the chain goes on.

use rusqlite::{Connection, TransactionBehavior, params};

use super::{
    chain::{Hash, Log, link},
    clock,
    error::JournalError,
    store::{Store, checkpoint},
};
use crate::machine::Event;

/// When the log is compacted, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events after the summary before it is time.
    pub events: u64,
    /// Bytes of their bodies before it is time.
    pub bytes: u64,
    /// Events that stay, so that a target that lost its latest chunks can be brought back to an earlier one.
    pub keep: u64,
}

impl Default for Limits {
    /// 20,000 chunk events take about 5 MB; the file, its log and a large summary then stay well below 20 MB however
    /// many rows there are. Fewer would replay less at open, but forget chunks that a target may still go back to.
    fn default() -> Self {
        Self {
            events: 20_000,
            bytes: 8 << 20,
            keep: 2_000,
        }
    }
}

impl Limits {
    pub(super) const fn are_passed_by(&self, log: &Log) -> bool {
        log.tail_events() > self.events || (log.tail_bytes > self.bytes && log.tail_events() > 1)
    }
}

/// Replaces the log up to the events that stay by a summary, in one transaction.
pub(super) fn compact(store: &mut Store) -> Result<(), JournalError> {
    let path = store.files.database.clone();
    let fail = |error| JournalError::sqlite("write to", &path, error);
    let (cut, kept_bytes) =
        cut(&store.connection, &store.log, store.settings.limits).map_err(fail)?;
    if cut <= store.log.summary {
        return Ok(());
    }
    let before = Log::replay(&store.connection, Some(cut)).map_err(|fault| fault.at(&path))?;
    let event = Event::Compacted {
        dead_letters: before.letters.groups(),
        ledger: Box::new(before.ledger),
    };
    let body =
        serde_json::to_string(&event).map_err(|error| JournalError::Encoding(error.into()))?;
    let (at_ms, label) = (clock::now_ms(), event.label());
    let seal: Hash = link(&before.hash, cut, at_ms, label, &body);

    let transaction = store
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fail)?;
    transaction
        .execute("DELETE FROM event WHERE seq <= ?1", [cut.cast_signed()])
        .map_err(fail)?;
    transaction
        .execute(
            "INSERT INTO event (seq, at_ms, label, body, hash, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![cut.cast_signed(), at_ms, label, body, before.hash, seal],
        )
        .map_err(fail)?;
    transaction.commit().map_err(fail)?;
    (store.log.summary, store.log.tail_bytes) = (cut, kept_bytes);
    // The pages set free are used again; the log is cut so that both together stay small.
    checkpoint(&store.connection).map_err(fail)
}

/// Returns the last event that goes into the summary, and the bytes of those that stay: at most `keep` events and
/// a quarter of the bytes, so that a compaction is never due again at once.
fn cut(connection: &Connection, log: &Log, limits: Limits) -> rusqlite::Result<(u64, u64)> {
    let mut statement = connection.prepare(
        "SELECT octet_length(body) FROM event WHERE seq > ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let mut rows = statement.query([
        log.summary.cast_signed(),
        i64::try_from(limits.keep).unwrap_or(i64::MAX),
    ])?;
    let (mut cut, mut bytes) = (log.seq, 0);
    while let Some(row) = rows.next()? {
        let length = row.get::<_, i64>(0)?.cast_unsigned();
        if bytes + length > limits.bytes / 4 {
            break;
        }
        bytes += length;
        cut -= 1;
    }
    Ok((cut, bytes))
}
