//! Which rows changed since a moment, by a column that every change sets. Pure: the SQL that asks for the moment, and the
//! condition that rows changed since.
//!
//! The watermark is the greatest value before the first row is read, less an overlap: values are set before they are
//! committed. A lower watermark is never wrong, it only has more rows compared.

use std::sync::Arc;

use super::{
    Changes, Since,
    quote::{self, Dialect},
    shape::{Checked, Column, ColumnKind, KeyKind, KeyType},
};
use crate::{
    cursor::KeyValue,
    error::{EdgeError, ErrorKind},
    plan::{ChangeColumn, Overlap},
};

/// What a date and time without a time zone may be behind the server's clock, and a value that is ahead of it says nothing: no
/// zone is further west.
const WESTERNMOST_HOURS: u32 = 12;

/// So few rows are looked for by the column's own index, and sorted anew for each page: more of them are found sooner along the
/// key, where every row of the table is looked at once.
const FEW: u64 = 10_000;

/// Longest overlap, so that every server can take it from a date of today: three centuries.
const LONGEST_MS: u64 = 10_000_000_000_000;

/// How the column's values are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number that grows with each change of any row.
    Number,
    /// A day or a moment.
    Time {
        /// Whether values mean the same wherever they were written.
        zoned: bool,
    },
}

/// A column that tells when rows changed, as the catalogue has it.
#[derive(Debug, Clone)]
struct ChangedBy {
    /// The quoted column.
    quoted: String,
    /// Its plain name, for messages.
    name: String,
    kind: Kind,
    key: KeyType,
    dialect: Dialect,
    /// Whether an index begins with it that a condition on it can use.
    indexed: bool,
}

/// Rows of a table that changed since a watermark.
#[derive(Debug, Clone)]
pub(super) struct Changed {
    by: ChangedBy,
    pub watermark: Arc<KeyValue>,
    /// Whether the planner may look for them by the column's own index.
    pub few: bool,
}

/// What gives a watermark.
#[derive(Debug)]
pub(super) struct Latest {
    /// Asks for the text of the greatest value of all rows; for times, less the overlap. No parameters.
    pub sql: Arc<str>,
    kind: Kind,
    key: KeyKind,
    overlap: u64,
}

/// Returns how the table tells which rows changed; `None` where it lacks the column.
///
/// # Errors
///
/// As [`Source::changes`](super::Source::changes).
pub(super) fn of(
    place: &str,
    table: &Checked,
    by: &ChangeColumn,
) -> Result<Option<Changes>, EdgeError> {
    let Some(found) = ChangedBy::find(place, table, &by.name)? else {
        return Ok(None);
    };
    found.overlap(place, by.overlap)?;
    Ok(Some(Changes {
        indexed: found.indexed,
    }))
}

/// Returns what gives the watermark; `None` where the table lacks the column.
///
/// # Errors
///
/// As [`of`].
pub(super) fn latest(
    place: &str,
    table: &Checked,
    by: &ChangeColumn,
) -> Result<Option<Latest>, EdgeError> {
    let Some(found) = ChangedBy::find(place, table, &by.name)? else {
        return Ok(None);
    };
    let overlap = found.overlap(place, by.overlap)?;
    Ok(Some(Latest {
        sql: found.latest(&table.table, overlap).into(),
        kind: found.kind,
        key: found.key.kind,
        overlap,
    }))
}

impl Latest {
    /// Returns the watermark, given what the query gave; `None` where no row has a value that can be read.
    pub fn watermark(&self, latest: Option<String>) -> Option<KeyValue> {
        let latest = latest?;
        Some(match (self.kind, self.key) {
            (Kind::Number, key) => {
                let number = latest.parse::<i128>().ok()? - i128::from(self.overlap);
                if key == KeyKind::Uint {
                    KeyValue::Uint(u64::try_from(number).unwrap_or(0))
                } else {
                    KeyValue::Int(i64::try_from(number).unwrap_or(i64::MIN))
                }
            }
            (Kind::Time { .. }, KeyKind::Date) => KeyValue::Date(latest),
            (Kind::Time { .. }, _) => KeyValue::Timestamp(latest),
        })
    }
}

impl ChangedBy {
    /// Returns the column `name` of `table`; `None` where it has none of that name.
    ///
    /// # Errors
    ///
    /// `Refused` for a column whose values do not grow: text, and whatever else is neither a date nor a whole number.
    fn find(place: &str, table: &Checked, name: &str) -> Result<Option<Self>, EdgeError> {
        let Some(column) = table.columns.iter().find(|one| one.name == name) else {
            return Ok(None);
        };
        let found = kind(table.dialect, column).zip(column.key.clone());
        let (Some((kind, key)), Some(quoted)) = (found, quote::identifier(table.dialect, name))
        else {
            return Err(cannot_tell(place, table, column));
        };
        // SQLite has to look at each value to know its moment.
        let by_index = table.dialect != Dialect::Sqlite || kind == Kind::Number;
        Ok(Some(Self {
            quoted,
            name: column.name.clone(),
            kind,
            key,
            dialect: table.dialect,
            indexed: column.indexed && by_index,
        }))
    }

    /// Returns how far before the greatest value rows count as changed: milliseconds, or a number.
    ///
    /// # Errors
    ///
    /// `Refused` where the plan names a time for a column of numbers, or a number for one of times.
    fn overlap(&self, place: &str, overlap: Option<Overlap>) -> Result<u64, EdgeError> {
        let name = &self.name;
        match (self.kind, overlap) {
            (Kind::Number, None) => Ok(Overlap::NUMBER),
            (Kind::Number, Some(Overlap::Number(number))) => Ok(number),
            (Kind::Number, Some(Overlap::Time(_))) => Err(refused(format!(
                "`{name}` at {place} holds numbers: the `overlap` of its `catch_up` has to be a whole number, for example `{}`",
                Overlap::NUMBER
            ))),
            (Kind::Time { .. }, None) => Ok(millis(Overlap::TIME)),
            (Kind::Time { .. }, Some(Overlap::Time(time))) => Ok(millis(time)),
            (Kind::Time { .. }, Some(Overlap::Number(_))) => Err(refused(format!(
                "`{name}` at {place} holds dates: the `overlap` of its `catch_up` has to be a time, for example `5m`"
            ))),
        }
    }

    /// Returns the query for the text of the greatest value in `table`; for times, less `overlap`.
    ///
    /// A time ahead of the clock would hide every change until then: it counts as now. Ahead by more than the overlap it is no
    /// clock that is a little fast, and where values have no zone it counts as the earliest now there is, for an application
    /// may write its own local time.
    fn latest(&self, table: &str, overlap: u64) -> String {
        let column = &self.quoted;
        let Kind::Time { zoned } = self.kind else {
            return match self.dialect {
                Dialect::Mysql => format!("SELECT CAST(MAX({column}) AS CHAR) FROM {table}"),
                Dialect::Postgres => format!("SELECT CAST(MAX({column}) AS text) FROM {table}"),
                // Texts and bytes are greater than all numbers, and no whole numbers.
                Dialect::Sqlite => format!(
                    "SELECT CASE typeof(m) WHEN 'integer' THEN CAST(m AS TEXT) END FROM (SELECT MAX({column}) AS m FROM {table})"
                ),
            };
        };
        let hours = if zoned { 0 } else { WESTERNMOST_HOURS };
        let cast = self.key.cast.as_deref().unwrap_or_default();
        // Now in whole seconds, as many columns keep no more: what is written a moment later is never before it.
        match self.dialect {
            Dialect::Mysql => format!(
                "SELECT CAST(CAST(CASE WHEN m - INTERVAL {overlap}000 MICROSECOND > UTC_TIMESTAMP(6) \
                 THEN UTC_TIMESTAMP() - INTERVAL {hours} HOUR WHEN m > UTC_TIMESTAMP(6) THEN UTC_TIMESTAMP() \
                 ELSE m END - INTERVAL {overlap}000 MICROSECOND AS {cast}) AS CHAR) \
                 FROM (SELECT CAST(MAX({column}) AS DATETIME(6)) AS m FROM {table}) AS latest"
            ),
            Dialect::Postgres => {
                let (moment, now) = if zoned {
                    ("timestamptz", "now()")
                } else {
                    ("timestamp", "now() AT TIME ZONE 'UTC'")
                };
                format!(
                    "SELECT CAST(CAST(CASE WHEN m - o > n THEN date_trunc('second', n) - interval '{hours} hours' \
                     WHEN m > n THEN date_trunc('second', n) ELSE m END - o AS {cast}) AS text) \
                     FROM (SELECT CAST(MAX({column}) AS {moment}) AS m, {now} AS n, interval '{overlap} milliseconds' AS o \
                     FROM {table}) AS latest"
                )
            }
            Dialect::Sqlite => format!(
                "SELECT strftime('%Y-%m-%d %H:%M:%f', CASE WHEN m - o > n THEN unixepoch('now') - {hours} * 3600 \
                 WHEN m > n THEN unixepoch('now') ELSE m END - o, 'unixepoch') \
                 FROM (SELECT MAX({}) AS m, unixepoch('now', 'subsec') AS n, {overlap} / 1000.0 AS o FROM {table})",
                moment(column)
            ),
        }
    }

    /// Returns the rows that changed since a watermark.
    ///
    /// # Errors
    ///
    /// `SchemaChanged` where the column has another type by now.
    fn since(self, place: &str, since: &Since) -> Result<Changed, EdgeError> {
        let Since {
            watermark, rows, ..
        } = since;
        let number = matches!(watermark, KeyValue::Int(_) | KeyValue::Uint(_));
        if !self.key.kind.holds(watermark) || number != (self.kind == Kind::Number) {
            return Err(changed_under_the_run(place, &self.name));
        }
        Ok(Changed {
            few: self.indexed && rows.is_some_and(|rows| rows <= FEW),
            watermark: Arc::new(watermark.clone()),
            by: self,
        })
    }
}

/// Returns the error for a column whose values do not grow, with those of the table that do.
fn cannot_tell(place: &str, table: &Checked, column: &Column) -> EdgeError {
    let times: Vec<_> = table
        .columns
        .iter()
        .filter(|one| matches!(kind(table.dialect, one), Some(Kind::Time { .. })))
        .map(|one| format!("`{}`", one.name))
        .collect();
    let advice = if times.is_empty() {
        "without `column` every row is compared".to_owned()
    } else {
        format!("{} would do", times.join(" or "))
    };
    refused(format!(
        "`{}` of table `{}` at {place} cannot tell which rows changed: its type is {}, and not a date, a date and time, or a \
         whole number; {advice}",
        column.name, table.name, column.type_text
    ))
}

impl Checked {
    /// Returns the table with its rows restricted to those that changed since a watermark, if there is one.
    ///
    /// # Errors
    ///
    /// `SchemaChanged` where the column is gone or has another type by now.
    pub fn changed_since(mut self, place: &str, since: Option<&Since>) -> Result<Self, EdgeError> {
        if let Some(since) = since {
            let by = ChangedBy::find(place, &self, &since.column)?
                .ok_or_else(|| changed_under_the_run(place, &since.column))?;
            self.changed = Some(by.since(place, since)?);
        }
        Ok(self)
    }

    /// Returns whether its rows are walked along the key, as opposed to looked for by the column that tells changes.
    pub fn is_walked(&self) -> bool {
        self.changed.as_ref().is_none_or(|changed| !changed.few)
    }
}

fn changed_under_the_run(place: &str, column: &str) -> EdgeError {
    EdgeError::new(
        ErrorKind::SchemaChanged,
        format!(
            "`{column}` at {place} is gone, or has another type: which rows changed since the run began cannot be told"
        ),
    )
}

impl Changed {
    /// Returns the condition in parts: what is before the watermark, the type that it is cast to, and what comes after it. A
    /// row that says nothing may have changed.
    pub fn condition(&self) -> (String, &KeyType, String) {
        let ChangedBy { quoted, key, .. } = &self.by;
        if self.by.dialect == Dialect::Sqlite && matches!(self.by.kind, Kind::Time { .. }) {
            let at = moment(quoted);
            return (
                format!("({at} >= unixepoch("),
                key,
                format!(", 'subsec') OR {at} IS NULL)"),
            );
        }
        (
            format!("({quoted} >= "),
            key,
            format!(" OR {quoted} IS NULL)"),
        )
    }
}

/// Returns the expression for the moment that a value of SQLite names, in seconds since 1970: in one of its own spellings,
/// with a time zone or without, or as a number.
fn moment(column: &str) -> String {
    format!("unixepoch({column}, 'auto', 'subsec')")
}

/// Returns how the column tells changes; `None` where it does not.
fn kind(dialect: Dialect, column: &Column) -> Option<Kind> {
    let declared = column.type_text.to_ascii_lowercase();
    match (dialect, column.kind, column.key.as_ref()?.kind) {
        (_, ColumnKind::Integer { .. }, _) => Some(Kind::Number),
        (Dialect::Sqlite, _, _) => {
            let named = declared.contains("date") || declared.contains("timestamp");
            named.then_some(Kind::Time { zoned: false })
        }
        (Dialect::Mysql, _, KeyKind::Timestamp) => Some(Kind::Time {
            zoned: declared.starts_with("timestamp"),
        }),
        (Dialect::Postgres, _, KeyKind::Timestamp) => Some(Kind::Time {
            zoned: column.key.as_ref()?.cast.as_deref() == Some("timestamptz"),
        }),
        (_, _, KeyKind::Date) => Some(Kind::Time { zoned: false }),
        _ => None,
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(LONGEST_MS, |millis| millis.min(LONGEST_MS))
}

fn refused(message: String) -> EdgeError {
    EdgeError::new(ErrorKind::Refused, message)
}
