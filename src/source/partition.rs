//! Cuts a key into ranges of about equal rows by its first column, where that is an integer, with a bounded number of
//! probes on the index. Other keys stay whole here and are cut while they are walked.
//!
//! Halving `(min, max)` by arithmetic fails on real keys: with ids near 1 and near 2^62 in one table every cut falls
//! into the void between. So a segment always begins and ends at a key that exists: it is split at its arithmetic
//! middle, and both halves shrink to the keys next to the middle. First the widest segments are split (this
//! closes the voids), then those with the most rows by the engine's estimate (this finds the crowds). The cuts
//! then lie where the estimates say that each range gets its share.
//!
//! Estimates decide only how even the ranges are. That they cover each row once follows from the cuts ascending
//! and the last one being the greatest key.

use async_trait::async_trait;

use super::shape::{CursorColumn, KeyKind};
use crate::{
    cursor::{Cursor, KeyRange, KeyValue},
    error::EdgeError,
};

/// Splits by width. Seven give eight segments; a void between two crowds needs one.
const WIDTH_SPLITS: usize = 7;
/// Splits by rows. A crowd in 1 % of the keys is closed in after four, the rest spread over its inside. With the
/// seven before, all probes together stay below 60 (three a split).
const ROW_SPLITS: usize = 10;
/// Rows below which a range of its own is not worth a reader, a writer and a connection.
const MIN_ROWS: u64 = 2_000;

/// Answers from the index alone, each within a few pages of it. Numbers are values of the cursor's first column.
#[async_trait]
pub(super) trait Probe: Send {
    /// Returns the least and the greatest number; `None` for an empty table, and where the first column has no integers.
    async fn bounds(&mut self) -> Result<Option<(i128, i128)>, EdgeError>;
    /// Returns the greatest number at or below `middle`, and the least above it.
    async fn around(&mut self, middle: i128) -> Result<(Option<i128>, Option<i128>), EdgeError>;
    /// Returns whether the table surely has few rows; `keys` are its bounds, `rows` the limit.
    async fn is_small(&mut self, keys: (i128, i128), rows: u64) -> Result<bool, EdgeError>;
    /// Returns about how many rows have a number in `low..=high`.
    async fn estimate(&mut self, low: i128, high: i128) -> Result<u64, EdgeError>;
    /// Returns the greatest key, all its columns; with `first`, among those whose number is at or below that.
    async fn last(&mut self, first: Option<i128>) -> Result<Option<Cursor>, EdgeError>;
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    low: i128,
    high: i128,
    /// 0 until asked for.
    rows: u64,
}

impl Segment {
    const fn span(&self) -> i128 {
        self.high - self.low
    }
}

/// Returns at most `wanted` ranges that cover every key once. `cursor` are its columns.
pub(super) async fn ranges(
    probe: &mut dyn Probe,
    wanted: u32,
    cursor: &[CursorColumn],
) -> Result<Vec<KeyRange>, EdgeError> {
    let kind = cursor.first().map(|column| column.key.kind);
    let cuts = match kind {
        Some(KeyKind::Int | KeyKind::Uint | KeyKind::Any) => cuts(probe, wanted).await?,
        _ => Vec::new(),
    };
    let mut ends: Vec<Cursor> = Vec::new();
    if cuts.len() > 1 || cursor.len() == 1 {
        for cut in cuts {
            if cursor.len() == 1 {
                ends.push(key(cut, kind == Some(KeyKind::Uint)));
            } else if let Some(end) = probe.last(Some(cut)).await?
                && ends.last() != Some(&end)
            {
                // Two cuts without a row between them have the same key.
                ends.push(end);
            }
        }
    }
    if ends.is_empty() {
        ends.extend(probe.last(None).await?);
    }
    let mut after = None;
    Ok(ends
        .into_iter()
        .map(|until| KeyRange {
            after: after.replace(until.clone()),
            until,
        })
        .collect())
}

/// Every cut lies between two keys of the column, so it fits the column's type.
fn key(value: i128, unsigned: bool) -> Cursor {
    Cursor::single(if unsigned {
        KeyValue::Uint(u64::try_from(value).unwrap_or(u64::MAX))
    } else {
        KeyValue::Int(i64::try_from(value).unwrap_or(i64::MAX))
    })
}

/// Returns the ascending ends of the ranges; the last is the greatest key.
async fn cuts(probe: &mut dyn Probe, wanted: u32) -> Result<Vec<i128>, EdgeError> {
    let Some((low, high)) = probe.bounds().await? else {
        return Ok(Vec::new());
    };
    // Keys are unique: no more rows than numbers. Half of the least size leaves room for a poor estimate.
    if wanted <= 1
        || high - low < i128::from(MIN_ROWS)
        || probe.is_small((low, high), MIN_ROWS / 2).await?
    {
        return Ok(vec![high]);
    }

    let mut segments = vec![Segment { low, high, rows: 0 }];
    for _ in 0..WIDTH_SPLITS {
        let Some(widest) = pick(&segments, |segment| segment.span().unsigned_abs()) else {
            break;
        };
        split(probe, &mut segments, widest).await?;
    }
    for segment in &mut segments {
        segment.rows = probe.estimate(segment.low, segment.high).await?.max(1);
    }
    for _ in 0..ROW_SPLITS {
        let Some(fullest) = pick(&segments, |segment| u128::from(segment.rows)) else {
            break;
        };
        let parts = split(probe, &mut segments, fullest).await?;
        for segment in &mut segments[fullest..fullest + parts] {
            segment.rows = probe.estimate(segment.low, segment.high).await?.max(1);
        }
    }
    Ok(place(&segments, wanted, high))
}

/// Returns the place of the segment with the greatest weight among those that can be split.
fn pick(segments: &[Segment], weight: impl Fn(&Segment) -> u128) -> Option<usize> {
    segments
        .iter()
        .enumerate()
        .filter(|(_, segment)| segment.span() > 0)
        .max_by_key(|(_, segment)| weight(segment))
        .map(|(at, _)| at)
}

/// Splits one segment in its middle; returns how many now stand in its place.
async fn split(
    probe: &mut dyn Probe,
    segments: &mut Vec<Segment>,
    at: usize,
) -> Result<usize, EdgeError> {
    let Segment { low, high, .. } = segments[at];
    let (below, above) = probe.around(low + (high - low) / 2).await?;
    // Rows may go away between two probes; a side without any is left out.
    let left = below.filter(|below| *below >= low).map(|below| Segment {
        low,
        high: below,
        rows: 0,
    });
    let right = above.filter(|above| *above <= high).map(|above| Segment {
        low: above,
        high,
        rows: 0,
    });
    let mut parts: Vec<Segment> = left.into_iter().chain(right).collect();
    if parts.is_empty() {
        parts.push(Segment {
            low: high,
            high,
            rows: 0,
        });
    }
    let count = parts.len();
    segments.splice(at..=at, parts);
    Ok(count)
}

/// Returns the ends of ranges with about the same number of rows each.
fn place(segments: &[Segment], wanted: u32, last: i128) -> Vec<i128> {
    let total: u64 = segments.iter().map(|segment| segment.rows).sum();
    let parts = (total / MIN_ROWS).clamp(1, u64::from(wanted));
    let mut cuts = Vec::new();
    let mut rows_before = 0;
    let mut segments = segments.iter().peekable();
    for part in 1..parts {
        let share = u64::try_from(u128::from(total) * u128::from(part) / u128::from(parts))
            .unwrap_or(total);
        while let Some(segment) = segments.peek() {
            if rows_before + segment.rows > share {
                // Rows are taken as evenly spread inside a segment.
                let into = i128::from(share - rows_before);
                let cut = segment.low + segment.span() * into / i128::from(segment.rows);
                if cuts.last().is_none_or(|before| *before < cut) && cut < last {
                    cuts.push(cut);
                }
                break;
            }
            rows_before += segment.rows;
            segments.next();
        }
    }
    cuts.push(last);
    cuts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::source::shape::KeyType;

    struct Keys {
        sorted: Vec<i128>,
        /// Estimates are wrong by up to this factor, up and down in turn.
        wrong_by: u64,
        probes: usize,
    }

    impl Keys {
        fn new(keys: impl IntoIterator<Item = i128>) -> Self {
            let keys: BTreeSet<i128> = keys.into_iter().collect();
            Self {
                sorted: keys.into_iter().collect(),
                wrong_by: 1,
                probes: 0,
            }
        }

        fn sizes(&self, cuts: &[i128]) -> Vec<usize> {
            let mut before = 0;
            cuts.iter()
                .map(|cut| {
                    let end = self.sorted.partition_point(|key| key <= cut);
                    end - std::mem::replace(&mut before, end)
                })
                .collect()
        }
    }

    #[async_trait]
    impl Probe for Keys {
        async fn bounds(&mut self) -> Result<Option<(i128, i128)>, EdgeError> {
            self.probes += 1;
            Ok(self
                .sorted
                .first()
                .copied()
                .zip(self.sorted.last().copied()))
        }
        async fn around(
            &mut self,
            middle: i128,
        ) -> Result<(Option<i128>, Option<i128>), EdgeError> {
            self.probes += 1;
            let at = self.sorted.partition_point(|key| *key <= middle);
            Ok((
                at.checked_sub(1).map(|at| self.sorted[at]),
                self.sorted.get(at).copied(),
            ))
        }
        async fn is_small(&mut self, _: (i128, i128), rows: u64) -> Result<bool, EdgeError> {
            self.probes += 1;
            Ok((self.sorted.len() as u64) < rows)
        }
        async fn estimate(&mut self, low: i128, high: i128) -> Result<u64, EdgeError> {
            self.probes += 1;
            let end = self.sorted.partition_point(|key| *key <= high);
            let rows = (end - self.sorted.partition_point(|key| *key < low)) as u64;
            Ok(if self.probes.is_multiple_of(2) {
                rows * self.wrong_by
            } else {
                rows / self.wrong_by
            })
        }
        async fn last(&mut self, first: Option<i128>) -> Result<Option<Cursor>, EdgeError> {
            let below = |key: &&i128| first.is_none_or(|first| **key <= first);
            Ok(self.sorted.iter().rev().find(below).map(|key| {
                // Every number has rows 'a' and 'b' in a second column.
                Cursor(vec![
                    KeyValue::Int(i64::try_from(*key).unwrap_or(i64::MAX)),
                    KeyValue::Text("b".into()),
                ])
            }))
        }
    }

    fn run(keys: &mut Keys, wanted: u32) -> Vec<i128> {
        futures_util::FutureExt::now_or_never(cuts(keys, wanted))
            .expect("an in-memory probe never waits")
            .expect("an in-memory probe never fails")
    }

    fn spread(name: &str, all: impl IntoIterator<Item = i128>) {
        let mut keys = Keys::new(all);
        for wanted in [2_u32, 4, 8] {
            keys.probes = 0;
            let cuts = run(&mut keys, wanted);
            let sizes = keys.sizes(&cuts);
            assert_eq!(sizes.len(), wanted as usize, "{name}: {sizes:?}");
            let fair = keys.sorted.len() / wanted as usize;
            let most = sizes.iter().max().copied().unwrap_or(0);
            assert!(most <= fair * 3 / 2, "{name} into {wanted}: {sizes:?}");
            assert!(keys.probes < 60, "{name}: {} probes", keys.probes);
        }
    }

    #[test]
    fn ranges_stay_even_however_the_keys_are_spread() {
        let far = 1_i128 << 62;
        spread("dense", 1..=100_000);
        spread("gaps of 3", (1..=100_000).map(|key| key * 3));
        spread(
            "near 1 and near 2^62",
            (1..=60_000).chain(far..far + 40_000),
        );
        spread(
            "a hole in the middle",
            (1..=50_000).chain(90_000_000..90_050_000),
        );
        spread(
            "99 % of rows in 1 % of the keys",
            (0..1_000)
                .map(|key| key * 100_000)
                .chain(40_300_000..40_400_000),
        );
        spread(
            "unsigned to the end",
            (0..50_000).chain((1_i128 << 64) - 50_000..1_i128 << 64),
        );
        spread("negatives", -(1_i128 << 63)..-(1_i128 << 63) + 50_000);
        spread(
            "both signs",
            (-50_000..50_000).map(|key| key * 1_000_000_007),
        );
        spread(
            "three islands",
            (1..=30_000)
                .chain((1 << 31)..(1 << 31) + 30_000)
                .chain(far..far + 30_000),
        );
    }

    #[test]
    fn small_tables_are_not_cut() {
        assert_eq!(run(&mut Keys::new([]), 4), Vec::<i128>::new());
        assert_eq!(run(&mut Keys::new([7]), 4), [7]);
        assert_eq!(run(&mut Keys::new(1..=3_999), 4), [3_999]);
        assert_eq!(run(&mut Keys::new(1..=100_000), 1), [100_000]);
        assert_eq!(run(&mut Keys::new(1..=4_100), 8).len(), 2);
        let mut sparse = Keys::new((0..500).map(|key| key * 1_000_000));
        assert_eq!(run(&mut sparse, 8), [499_000_000]);
        assert!(
            sparse.probes <= 2,
            "a small table costs {} probes",
            sparse.probes
        );
    }

    #[test]
    fn ranges_chain_from_nothing_to_the_greatest_key() {
        let mut keys = Keys::new((1_i128 << 64) - 10_000..1_i128 << 64);
        let cursor = columns(&[KeyKind::Uint]);
        let ranges = futures_util::FutureExt::now_or_never(ranges(&mut keys, 4, &cursor))
            .expect("never waits")
            .expect("never fails");
        assert_eq!(ranges.len(), 4);
        assert_eq!(ranges[0].after, None);
        for pair in ranges.windows(2) {
            assert_eq!(pair[1].after.as_ref(), Some(&pair[0].until));
        }
        assert_eq!(ranges[3].until, Cursor::single(KeyValue::Uint(u64::MAX)));
    }

    fn columns(kinds: &[KeyKind]) -> Vec<CursorColumn> {
        let column = |kind: &KeyKind| CursorColumn {
            quoted: String::new(),
            selected: String::new(),
            key: KeyType::bare(*kind),
        };
        kinds.iter().map(column).collect()
    }

    #[test]
    fn a_key_of_several_columns_is_cut_at_whole_keys_by_its_integer() {
        let ranges_of = |kinds: &[KeyKind], keys: Vec<i128>| {
            futures_util::FutureExt::now_or_never(ranges(&mut Keys::new(keys), 4, &columns(kinds)))
                .expect("never waits")
                .expect("never fails")
        };
        let whole = |first| Cursor(vec![KeyValue::Int(first), KeyValue::Text("b".into())]);
        let cut = ranges_of(&[KeyKind::Int, KeyKind::Text], (1..=10_000).collect());
        assert_eq!(cut.len(), 4);
        assert_eq!(cut[3].until, whole(10_000));
        for pair in cut.windows(2) {
            assert_eq!(pair[1].after.as_ref(), Some(&pair[0].until));
            assert_eq!(pair[0].until.0[1], KeyValue::Text("b".into()));
        }
        // A first column that is no integer, or has few values, leaves one range; an empty table none.
        for (kinds, last) in [
            (&[KeyKind::Text, KeyKind::Int][..], 10_000),
            (&[KeyKind::Text], 10_000),
            (&[KeyKind::Int, KeyKind::Text], 3),
        ] {
            let one = ranges_of(kinds, (1..=last).collect());
            let until = whole(i64::try_from(last).expect("fits"));
            assert_eq!(one, [KeyRange { after: None, until }]);
            assert_eq!(ranges_of(kinds, Vec::new()), []);
        }
    }

    fn clustered() -> impl Strategy<Value = Vec<i128>> {
        let cluster = (any::<i64>(), 1_i128..1_000, 1_i128..4_000);
        prop::collection::vec(cluster, 1..6).prop_map(|clusters| {
            clusters
                .into_iter()
                .flat_map(|(start, step, rows)| {
                    (0..rows).map(move |row| i128::from(start) + row * step)
                })
                .filter(|key| *key <= i128::from(i64::MAX))
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_key_lies_in_exactly_one_range(keys in clustered(), wanted in 1_u32..12, wrong_by in 1_u64..50) {
            let mut keys = Keys::new(keys);
            keys.wrong_by = wrong_by;
            let cuts = run(&mut keys, wanted);
            prop_assert!(cuts.len() <= wanted as usize);
            prop_assert!(cuts.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", cuts);
            prop_assert_eq!(cuts.last(), keys.sorted.last());
            prop_assert_eq!(keys.sizes(&cuts).iter().sum::<usize>(), keys.sorted.len());
        }
    }
}
