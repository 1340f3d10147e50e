//! Which rows of a resource are looked at again before a run is done, and what can be said afterwards.

use std::collections::BTreeMap;

use super::retry::{is_tried_again, retrying};
use crate::{
    error::{EdgeError, chain},
    ids::ResourceName,
    machine::Watermark,
    plan::{CatchUp, Resource, RetryPolicy},
    report::human,
    source::{RowQuery, Since, Source},
};

/// Returns what a person should know of how `resource` is caught up with, if anything.
///
/// # Errors
///
/// As [`Source::changes`].
pub async fn warning(
    resource: &Resource,
    source: &dyn Source,
) -> Result<Option<String>, EdgeError> {
    let Some(by) = resource.catch_up.as_ref().and_then(CatchUp::column) else {
        return Ok(None);
    };
    let (name, table, column) = (&resource.name, &resource.from.table, &by.name);
    Ok(match source.changes(&resource.from, by).await? {
        None => Some(format!(
            "`{name}`: table `{table}` has no column `{column}`, so that catching up compares every row"
        )),
        Some(changes) if !changes.indexed => Some(format!(
            "`{name}`: no index finds the rows of table `{table}` whose `{column}` is recent, so that catching up reads the whole \
             table"
        )),
        Some(_) => None,
    })
}

/// Which rows of a resource are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// All of them; with a reason where the plan names a column that could have told.
    All(Option<String>),
    /// Those that changed.
    Changed(Since),
}

/// Returns which rows of each of `resources` are compared, given the watermarks that were taken when they were bound.
///
/// # Errors
///
/// What the source says for longer than `retry`. What will not pass is no error: then every row is compared.
pub async fn reaches(
    resources: &[(Resource, Option<Watermark>)],
    query: impl Fn(&Resource) -> RowQuery,
    source: &dyn Source,
    retry: &RetryPolicy,
) -> Result<BTreeMap<ResourceName, Reach>, EdgeError> {
    let mut reaches = BTreeMap::new();
    for (resource, watermark) in resources {
        let asking = reach(resource, watermark.as_ref(), query(resource), source, retry);
        let reach = match asking.await {
            Err(error) if !is_tried_again(&error) => Reach::All(Some(chain(&error).join(": "))),
            reach => reach?,
        };
        reaches.insert(resource.name.clone(), reach);
    }
    Ok(reaches)
}

async fn reach(
    resource: &Resource,
    watermark: Option<&Watermark>,
    query: RowQuery,
    source: &dyn Source,
    retry: &RetryPolicy,
) -> Result<Reach, EdgeError> {
    let Some(by) = resource.catch_up.as_ref().and_then(CatchUp::column) else {
        return Ok(Reach::All(None));
    };
    let column = &by.name;
    let found = retrying(retry, |_, _| {}, || source.changes(&resource.from, by)).await?;
    let Some(changes) = found else {
        return Ok(Reach::All(Some(format!(
            "table `{}` has no column `{column}`",
            resource.from.table
        ))));
    };
    let Some(watermark) = watermark.filter(|had| had.column == *column) else {
        return Ok(Reach::All(Some(format!(
            "nothing was known of `{column}` when its first row was read"
        ))));
    };
    let mut since = Since {
        column: column.clone(),
        watermark: watermark.value.clone(),
        rows: None,
    };
    if changes.indexed {
        let query = RowQuery {
            since: Some(since.clone()),
            ..query
        };
        since.rows = Some(retrying(retry, |_, _| {}, || source.count(&query)).await?);
    }
    Ok(Reach::Changed(since))
}

/// What can be said of a resource that was caught up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The moment that was caught up to, milliseconds since 1970.
    pub at_ms: i64,
    /// Since when rows counted as changed; `None` where every row was compared.
    pub since: Option<Since>,
    /// All of it in words.
    pub words: String,
}

impl Reach {
    /// Returns what holds after every row of it was compared from `at_ms` on.
    pub fn reached(self, at_ms: i64) -> Reached {
        Reached {
            at_ms,
            words: self.level(at_ms),
            since: match self {
                Self::Changed(since) => Some(since),
                Self::All(_) => None,
            },
        }
    }

    /// Returns in words what holds of the target after every row of it was compared from `at_ms` on.
    fn level(&self, at_ms: i64) -> String {
        let at = human::moment(at_ms);
        match self {
            Self::Changed(Since {
                column, watermark, ..
            }) => format!(
                "rows changed since {watermark} (by `{column}`) are as the source had them at {at}"
            ),
            Self::All(None) => format!("every row is as the source had it at {at}"),
            Self::All(Some(why)) => format!("{why}, so every row is as the source had it at {at}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::KeyValue;

    #[test]
    fn what_is_reached_is_said_in_plain_words() {
        let at_ms = 1_700_000_000_000;
        let at = human::moment(at_ms);
        let changed = Reach::Changed(Since {
            column: "updated_at".into(),
            watermark: KeyValue::Timestamp("2024-02-29 11:55:00".into()),
            rows: Some(3),
        });
        assert_eq!(
            changed.level(at_ms),
            format!(
                "rows changed since 2024-02-29 11:55:00 (by `updated_at`) are as the source had them at {at}"
            )
        );
        assert_eq!(
            Reach::All(Some("table `t` has no column `x`".into())).level(at_ms),
            format!("table `t` has no column `x`, so every row is as the source had it at {at}")
        );
        assert_eq!(
            Reach::All(None).level(at_ms),
            format!("every row is as the source had it at {at}")
        );
    }
}
