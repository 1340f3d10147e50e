//! How many dead letters of a resource are too many, how that is said, and what lets it go on all the same.

use std::collections::BTreeMap;

use crate::{
    plan::DeadLetterLimit,
    report::human::{count, counted},
    target::NOT_IN_STORES,
};

/// Rows a resource must have before its dead letters are judged in percent.
const PERCENT_FROM_ROWS: u64 = 1000;

/// Begins what [`advice`] says, and is looked for in reasons that were journaled.
const RAISE: &str = "raise `dead_letters` to `{ max: ";

/// Different reasons that are counted. Servers put names of fields into theirs, so there may be as many as there are rows.
const MOST_REASONS: usize = 50;

/// Counts why rows of a resource became dead letters, since the process began.
#[derive(Debug, Default)]
pub struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    /// Counts one row.
    pub fn add(&mut self, reason: &str) {
        if let Some(count) = self.0.get_mut(reason) {
            *count += 1;
        } else if self.0.len() < MOST_REASONS {
            self.0.insert(reason.to_owned(), 1);
        }
    }

    /// Returns the commonest reason, as the end of a sentence; nothing where none was counted.
    pub fn commonest(&self) -> String {
        let most = self.0.iter().max_by_key(|(_, count)| **count);
        most.map_or_else(String::new, |(reason, _)| format!("; most often: {reason}"))
    }
}

/// Returns which bounds `dead` of `rows` rows are past; `None` where they are past none.
pub fn past(limit: DeadLetterLimit, dead: u64, rows: u64) -> Option<String> {
    let percent = percent(dead, rows);
    let of_rows = (dead > limit.max)
        .then(|| format!("the {} of `dead_letters.max`", counted(limit.max, "row")));
    let of_percent = (rows >= PERCENT_FROM_ROWS && percent > limit.percent)
        .then(|| format!("the {} % of `dead_letters.percent`", limit.percent));
    let bounds: Vec<_> = of_rows.into_iter().chain(of_percent).collect();
    (!bounds.is_empty()).then(|| bounds.join(" and "))
}

/// Returns why a resource with `dead` dead letters among its `rows` rows so far is stopped, if it is.
pub fn reason(limit: DeadLetterLimit, dead: u64, rows: u64) -> Option<String> {
    let bounds = past(limit, dead, rows)?;
    Some(format!(
        "{} of {} rows are dead letters ({:.1} %), more than {bounds}",
        count(dead),
        count(rows),
        percent(dead, rows),
    ))
}

/// Returns what a person may do about them where no publisher does, as the end of a sentence. `most` is as many rows as the
/// resource has: with less, it might have to be raised a second time.
/// `reason` is why they are too many: rows of stores that the plan forgot are not to be left out.
pub fn advice(most: u64, reason: &str) -> String {
    if reason.contains(NOT_IN_STORES) {
        return format!(
            "; add that store to `stores` of the plan, or {RAISE}{most}, percent: 100 }}` to go on without its rows"
        );
    }
    format!(
        "; {RAISE}{most}, percent: 100 }}` to go on with them, or mend the rows and begin anew with `--new`"
    )
}

/// Returns the `max` that [`advice`] in this reason names, if it is there.
fn raised(reason: &str) -> Option<u64> {
    let (_, after) = reason.split_once(RAISE)?;
    after.split_once(',')?.0.parse().ok()
}

/// Returns what to type about resources that are blocked for these reasons. `run` follows `rekindle run`, `plan` is the same
/// without a scope.
#[must_use]
pub fn next_of_blocked<'a>(
    reasons: impl IntoIterator<Item = &'a str>,
    run: &str,
    plan: &str,
) -> String {
    let reasons: Vec<_> = reasons.into_iter().collect();
    let of_stores = reasons
        .iter()
        .filter(|reason| reason.contains(NOT_IN_STORES));
    match of_stores.count() {
        0 => {}
        some => {
            let others = if some < reasons.len() {
                "mend the other causes, and "
            } else {
                ""
            };
            return format!(
                "{others}add the missing store to `stores` of the plan (`rekindle validate {plan}` checks its tables for more), \
                 then `rekindle run --accept-plan-change {run}` starts its resources over; rows that are not wanted can be left \
                 out with `where:`"
            );
        }
    }
    let raised: Vec<_> = reasons.into_iter().map(raised).collect();
    let Some(most) = raised.iter().flatten().max() else {
        return format!("mend the cause, then `rekindle run {run}` goes on from there");
    };
    let others = if raised.contains(&None) {
        "mend the other causes, and "
    } else {
        ""
    };
    format!(
        "{others}write `dead_letters: {{ max: {most}, percent: 100 }}` under `defaults:` (both: either alone stops it again), then \
         `rekindle run {run}` goes on, and `rekindle dead-letters retry {plan}` restores rows that were mended; or mend them \
         first, and `rekindle run {run} --new` reads every row again"
    )
}

/// Returns whether a resource is blocked for its dead letters, given the reason.
#[must_use]
pub fn is_for_dead_letters(reason: &str) -> bool {
    raised(reason).is_some()
}

fn percent(dead: u64, rows: u64) -> f64 {
    dead as f64 * 100.0 / rows.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: DeadLetterLimit = DeadLetterLimit {
        max: 1000,
        percent: 1.0,
    };

    #[test]
    fn the_bound_that_was_passed_is_named() {
        let said = |dead, rows| reason(LIMIT, dead, rows);
        assert_eq!(said(10, 1000), None);
        assert_eq!(said(999, 999), None);
        assert_eq!(
            said(1000, 10_000).unwrap(),
            "1,000 of 10,000 rows are dead letters (10.0 %), more than the 1 % of `dead_letters.percent`"
        );
        assert_eq!(
            said(1001, 1_000_000).unwrap(),
            "1,001 of 1,000,000 rows are dead letters (0.1 %), more than the 1,000 rows of `dead_letters.max`"
        );
        assert_eq!(
            past(LIMIT, 1500, 11_688).unwrap(),
            "the 1,000 rows of `dead_letters.max` and the 1 % of `dead_letters.percent`"
        );
    }

    #[test]
    fn what_to_type_next_has_the_numbers_of_every_reason() {
        let few = format!("too many{}", advice(5000, "too many"));
        let many = format!("too many{}", advice(60_000, "too many"));
        let next = |reasons: &[&str]| {
            next_of_blocked(reasons.iter().copied(), "p.yaml --only a", "p.yaml")
        };
        assert_eq!(
            next(&["no such table"]),
            "mend the cause, then `rekindle run p.yaml --only a` goes on from there"
        );
        let both = next(&[&few, &many]);
        assert!(
            both.starts_with(
                "write `dead_letters: { max: 60000, percent: 100 }` under `defaults:`"
            ),
            "{both}"
        );
        assert!(
            both.contains("`rekindle dead-letters retry p.yaml`"),
            "{both}"
        );
        let mixed = next(&[&few, "no such table"]);
        assert!(
            mixed.starts_with(
                "mend the other causes, and write `dead_letters: { max: 5000, percent: 100 }`"
            ),
            "{mixed}"
        );
        assert!(is_for_dead_letters(&few) && !is_for_dead_letters("no such table"));
    }

    #[test]
    fn a_store_that_the_plan_forgot_is_added_before_anything_is_raised() {
        let mut reasons = Reasons::default();
        assert_eq!(reasons.commonest(), "");
        reasons.add("the value is empty");
        for _ in 0..2 {
            reasons.add("its store `AT` is none of the plan's `stores`");
        }
        let why = format!("too many{}", reasons.commonest());
        assert_eq!(
            why,
            "too many; most often: its store `AT` is none of the plan's `stores`"
        );
        let why = format!("{why}{}", advice(5000, &why));
        assert!(is_for_dead_letters(&why), "{why}");
        let next = next_of_blocked([why.as_str()], "p.yaml --only a", "p.yaml");
        assert!(
            next.starts_with("add the missing store to `stores`")
                && next.contains("`rekindle run --accept-plan-change p.yaml --only a`")
                && !next.contains("dead_letters"),
            "{next}"
        );
        let next = next_of_blocked([why.as_str(), "no such table"], "p.yaml", "p.yaml");
        assert!(next.starts_with("mend the other causes, and add"), "{next}");
    }
}
