//! What is known of a resource's way through its publisher, and of the deaths that may lead there.
//!
//! ```text
//! begun -> called -> acknowledged -> called -> ... -> (every id is out) -> bound -> compared
//!          called -> (died, outcome unknown) called, the same ids again
//! ```
//!
//! A call is journaled before it is made and after it was answered: what was answered is never asked for again, and
//! what was not is asked for once more, which does no harm.

use serde::{Deserialize, Serialize};

use super::{IllegalTransition, event::PartitionPlan};
use crate::{
    cursor::Cursor,
    ids::{ChunkSeq, PartitionId},
};

/// How much of a resource goes to its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoverScope {
    /// Every entity; every row is compared afterwards.
    Resource,
    /// The entities of its broken rows; the rows that are dead letters are read again afterwards.
    Rows,
}

/// Deaths for memory while one partition, cut down to a single row, was walked alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Which partition.
    pub partition: PartitionId,
    /// The last chunk it had stored: with another one, counting begins anew.
    pub chunk: ChunkSeq,
    /// How many deaths in a row.
    pub count: u32,
}

/// A resource in the hands of its publisher, or back from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// How much of it.
    pub scope: HandoverScope,
    /// Why, in one line without row values.
    pub why: String,
    /// Who publishes: `console`, `sql`.
    pub by: String,
    /// When it began, milliseconds since 1970.
    pub since_ms: i64,
    /// About how many ids there are.
    pub of: u64,
    /// Ids of the calls that were acknowledged.
    pub ids: u64,
    /// Calls that were acknowledged.
    pub calls: u64,
    /// The last place whose id is out: the id itself, or the number of the dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
    /// A call whose outcome is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<IdChunk>,
    /// Entities of called dead letters that know none themselves, in no order; `None` before the first call, and for good once
    /// a release that did not keep them made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entities: Option<Vec<String>>,
    /// The first partition that was cut afterwards, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<PartitionId>,
    /// When everything was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
}

/// Begins the word for whoever carries a resource over in our place, as the plan's `sync:` says.
const DELEGATED: &str = "sync: ";

impl Handover {
    /// Returns what is journaled of a publisher that carries a whole resource over: `sync: console`.
    #[must_use]
    pub fn delegated(to: &str) -> String {
        format!("{DELEGATED}{to}")
    }

    /// Returns whether the publisher carries a whole resource over, as opposed to regenerating its rows.
    #[must_use]
    pub fn is_delegated(&self) -> bool {
        is_delegated(&self.by)
    }
}

/// Returns whether `by` is the word for whoever carries a resource over in our place.
#[must_use]
pub fn is_delegated(by: &str) -> bool {
    by.starts_with(DELEGATED)
}

/// The ids of one call, by where they end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdChunk {
    /// The last place among them.
    pub until: Cursor,
    /// How many.
    pub ids: u64,
    /// Those that were asked for because their dead letters know no entity: the call may move the rows, and then nobody
    /// could ask again. `None` in the journals of releases that did not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entities: Option<Vec<String>>,
}

/// What a run keeps of a resource beside its state and its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fallback {
    /// Deaths that count towards `after_crashes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge: Option<Charge>,
    /// The way through the publisher, if it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
}

/// What can happen to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackEvent {
    /// The process was killed for memory while this partition was walked alone, one row at a time.
    Charged {
        /// Which partition.
        partition: PartitionId,
    },
    /// The resource, or its broken rows, go to the publisher.
    Begun {
        /// How much.
        scope: HandoverScope,
        /// Why, in one line without row values.
        why: String,
        /// Who publishes.
        by: String,
        /// About how many ids there are.
        of: u64,
    },
    /// The publisher is about to be called.
    Called(IdChunk),
    /// It answered that all is well.
    Acknowledged,
    /// Bounds are taken again; what was regenerated is compared from here on.
    Bound {
        /// Fingerprint of the columns used.
        columns: String,
        /// The source's own estimate of rows.
        estimated_rows: u64,
        /// Which one of several things of the same name rows go to, where the target can tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incarnation: Option<String>,
        /// What is to be read.
        partitions: Vec<PartitionPlan>,
    },
    /// Rows that were dead letters are read again: those that are still broken are dead letters of their new place.
    Mended,
}

impl Handover {
    /// Returns whether the publisher was called by a release that did not keep for whom: where the rows of dead letters that
    /// know no entity went, nobody can tell any more.
    #[must_use]
    pub const fn forgot_entities(&self) -> bool {
        self.entities.is_none() && self.was_called()
    }

    const fn was_called(&self) -> bool {
        self.open.is_some() || self.after.is_some()
    }

    fn keep(&mut self, entities: Option<&[String]>) {
        let first = !self.was_called();
        match entities {
            Some(more) if first || self.entities.is_some() => {
                let kept = self.entities.get_or_insert_default();
                kept.extend_from_slice(more);
                kept.sort_unstable();
                kept.dedup();
            }
            _ => self.entities = None,
        }
    }
}

impl Fallback {
    /// Takes in an event that is about the handover alone.
    pub(super) fn apply(
        &mut self,
        at_ms: i64,
        chunk: ChunkSeq,
        event: &FallbackEvent,
    ) -> Result<(), IllegalTransition> {
        let illegal = |from: &str| IllegalTransition::new("fallback", from, event.label());
        match event {
            FallbackEvent::Charged { partition } => {
                let before = self
                    .charge
                    .filter(|had| had.partition == *partition && had.chunk == chunk)
                    .map_or(0, |had| had.count);
                self.charge = Some(Charge {
                    partition: *partition,
                    chunk,
                    count: before + 1,
                });
            }
            FallbackEvent::Begun { scope, why, by, of } => {
                self.charge = None;
                self.handover = Some(Handover {
                    scope: *scope,
                    why: why.clone(),
                    by: by.clone(),
                    since_ms: at_ms,
                    of: *of,
                    ids: 0,
                    calls: 0,
                    after: None,
                    open: None,
                    entities: None,
                    bound: None,
                    ended_ms: None,
                });
            }
            FallbackEvent::Called(chunk) => {
                let handover = self.handover.as_mut().ok_or_else(|| illegal("none"))?;
                handover.keep(chunk.entities.as_deref());
                handover.open = Some(chunk.clone());
            }
            FallbackEvent::Acknowledged => {
                let handover = self.handover.as_mut().ok_or_else(|| illegal("none"))?;
                let chunk = handover.open.take().ok_or_else(|| illegal("nothing out"))?;
                handover.ids += chunk.ids;
                handover.calls += 1;
                handover.after = Some(chunk.until);
            }
            FallbackEvent::Bound { partitions, .. } => {
                let handover = self.handover.as_mut().ok_or_else(|| illegal("none"))?;
                handover.bound = partitions.first().map(|partition| partition.id);
            }
            FallbackEvent::Mended => {
                let handover = self.handover.as_mut().ok_or_else(|| illegal("none"))?;
                handover.ended_ms = Some(at_ms);
            }
        }
        Ok(())
    }

    /// Returns whether only rows that were dead letters went to the publisher.
    #[must_use]
    pub fn is_of_rows(&self) -> bool {
        self.handover
            .as_ref()
            .is_some_and(|handover| handover.scope == HandoverScope::Rows)
    }

    /// Returns whether `partition` reads rows again that another partition read before.
    #[must_use]
    pub fn reads_again(&self, partition: PartitionId) -> bool {
        self.is_of_rows()
            && self
                .handover
                .as_ref()
                .and_then(|handover| handover.bound)
                .is_some_and(|first| partition >= first)
    }
}

impl FallbackEvent {
    /// Returns the word for the event.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Charged { .. } => "charged",
            Self::Begun { .. } => "begun",
            Self::Called(_) => "called",
            Self::Acknowledged => "acknowledged",
            Self::Bound { .. } => "bound",
            Self::Mended => "mended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::KeyValue;

    fn begun() -> Fallback {
        let mut fallback = Fallback::default();
        let event = FallbackEvent::Begun {
            scope: HandoverScope::Resource,
            why: "w".into(),
            by: "sql".into(),
            of: 3,
        };
        fallback.apply(7, ChunkSeq(0), &event).unwrap();
        fallback
    }

    fn called(id: u64) -> FallbackEvent {
        FallbackEvent::Called(IdChunk {
            until: Cursor::single(KeyValue::Uint(id)),
            ids: 2,
            entities: Some(vec![id.to_string()]),
        })
    }

    #[test]
    fn a_call_counts_only_when_it_was_answered_and_only_once() {
        let mut fallback = begun();
        let chunk = ChunkSeq(0);
        fallback.apply(8, chunk, &called(5)).unwrap();
        // The process died: the same ids again.
        fallback.apply(9, chunk, &called(5)).unwrap();
        assert_eq!(fallback.handover.as_ref().unwrap().after, None);
        fallback
            .apply(9, chunk, &FallbackEvent::Acknowledged)
            .unwrap();
        let handover = fallback.handover.as_ref().unwrap();
        assert_eq!((handover.ids, handover.calls), (2, 1));
        assert_eq!(handover.after, Some(Cursor::single(KeyValue::Uint(5))));
        assert!(
            fallback
                .apply(9, chunk, &FallbackEvent::Acknowledged)
                .is_err()
        );
    }

    #[test]
    fn what_a_call_asked_for_is_kept_unless_an_older_release_made_one_before() {
        let kept = |fallback: &Fallback| fallback.handover.as_ref().unwrap().entities.clone();
        let mut fallback = begun();
        assert!(!fallback.handover.as_ref().unwrap().forgot_entities());
        for id in [5, 5, 9] {
            fallback.apply(8, ChunkSeq(0), &called(id)).unwrap();
        }
        assert_eq!(kept(&fallback), Some(vec!["5".into(), "9".into()]));

        let mut older = begun();
        // As format 2 wrote it.
        let call = r#"{"called":{"until":[{"uint":5}],"ids":1}}"#;
        older
            .apply(8, ChunkSeq(0), &serde_json::from_str(call).unwrap())
            .unwrap();
        assert!(older.handover.as_ref().unwrap().forgot_entities());
        older.apply(8, ChunkSeq(0), &called(5)).unwrap();
        assert!(older.handover.as_ref().unwrap().forgot_entities());
        let stored = serde_json::to_string(&begun()).unwrap();
        assert!(!stored.contains("entities"), "{stored}");
    }

    #[test]
    fn nothing_is_called_before_it_began() {
        let mut fallback = Fallback::default();
        assert!(fallback.apply(1, ChunkSeq(0), &called(1)).is_err());
    }

    #[test]
    fn deaths_are_charged_in_a_row_at_one_place() {
        let mut fallback = Fallback::default();
        let charged = |partition| FallbackEvent::Charged {
            partition: PartitionId(partition),
        };
        for (partition, chunk, count) in [(1, 4, 1), (1, 4, 2), (1, 5, 1), (2, 5, 1), (2, 5, 2)] {
            fallback
                .apply(1, ChunkSeq(chunk), &charged(partition))
                .unwrap();
            assert_eq!(fallback.charge.unwrap().count, count);
        }
    }
}
