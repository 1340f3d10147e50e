//! Builds the queries that walk a table by its key. Pure: text in, text out.
//!
//! The page query gives four columns and those beside: cursor, key, value, length of the value in bytes. A value over the limit is
//! not sent: its column is NULL while its length is not, which tells it from a value that is NULL itself. The limit
//! on rows is a parameter like any other, so that the pages of a scan share two prepared statements.
//!
//! Single-column cursors only. Composite ones will need `a > ? OR (a = ? AND b > ?)` on MySQL and MariaDB, which
//! scan on row values, and `(a, b) > (?, ?)` on SQLite.

use std::{fmt::Write as _, sync::Arc};

use super::shape::{Checked, ColumnKind};
use crate::{
    cursor::{Cursor, KeyRange, KeyValue},
    error::{EdgeError, ErrorKind},
};

/// Most ids of one `--ids`. Ten thousand parameters are still prepared in milliseconds; MariaDB ends at 65,535.
const MOST_IDS: usize = 10_000;

/// One id of `--ids`, typed as its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Id {
    Key(KeyValue),
    Text(String),
}

/// Both forms of the page query.
#[derive(Debug, Clone)]
pub(super) struct PageSql {
    /// Parameters: value limit, until, ids..., rows.
    pub first: Arc<str>,
    /// Parameters: value limit, after, until, ids..., rows.
    pub next: Arc<str>,
}

/// Returns the page query of `table`, filtered by `ids` ids if there are any.
pub(super) fn page(table: &Checked, ids: Option<usize>) -> PageSql {
    PageSql {
        first: page_from(table, ids, false),
        next: page_from(table, ids, true),
    }
}

fn page_from(table: &Checked, ids: Option<usize>, after: bool) -> Arc<str> {
    let Checked {
        cursor,
        key,
        value,
        table: name,
        ..
    } = table;
    let mut sql = format!(
        "SELECT {cursor}, {key}, CASE WHEN OCTET_LENGTH({value}) > ? THEN NULL ELSE {value} END, \
         OCTET_LENGTH({value})"
    );
    for column in &table.beside {
        let _ = write!(sql, ", {column}");
    }
    let _ = write!(
        sql,
        " FROM {name}{} WHERE {}",
        hint(table, ids),
        condition(table)
    );
    if after {
        let _ = write!(sql, "{cursor} > ? AND ");
    }
    let _ = write!(sql, "{cursor} <= ?");
    push_ids(&mut sql, table, ids, " AND ");
    let _ = write!(sql, " ORDER BY {cursor} LIMIT ?");
    sql.into()
}

/// Returns the query that counts the rows of `table` exactly. Parameters: ids.
pub(super) fn count(table: &Checked, ids: Option<usize>) -> Arc<str> {
    let mut sql = format!(
        "SELECT COUNT(*) FROM {} WHERE {}1 = 1",
        table.table,
        condition(table)
    );
    push_ids(&mut sql, table, ids, " AND ");
    sql.into()
}

/// Returns the query for the mean length of key and value among the first 100 rows. Parameters: ids.
pub(super) fn sample(table: &Checked, ids: Option<usize>) -> Arc<str> {
    let Checked {
        cursor,
        key,
        value,
        table: name,
        ..
    } = table;
    let mut sql = format!(
        "SELECT COUNT(*), CAST(COALESCE(SUM(len), 0) AS UNSIGNED) FROM (SELECT COALESCE(OCTET_LENGTH({key}), 0) + \
         COALESCE(OCTET_LENGTH({value}), 0) AS len FROM {name}{} WHERE {}1 = 1",
        hint(table, ids),
        condition(table)
    );
    push_ids(&mut sql, table, ids, " AND ");
    let _ = write!(sql, " ORDER BY {cursor} LIMIT 100) AS sampled");
    sql.into()
}

/// Returns two queries without rows or parameters that fail when the plan's condition is not one whole condition.
///
/// The first has it bare, the second in brackets: `a) OR (b` passes only in brackets and would take the key range
/// apart, `1 LIMIT 5` passes only bare.
pub(super) fn condition_checks(table: &Checked) -> Option<[Arc<str>; 2]> {
    let condition = table.condition.as_deref()?;
    Some([
        format!("SELECT 1 FROM {} WHERE {condition}\nLIMIT 0", table.table).into(),
        format!(
            "SELECT 1 FROM {} WHERE ({condition}\n) LIMIT 0",
            table.table
        )
        .into(),
    ])
}

/// Without ids the cursor's own index is forced: a condition on an indexed column otherwise tempts the planner to
/// collect all its rows and sort them, again for every page. With ids the planner may use the index on the ids.
fn hint(table: &Checked, ids: Option<usize>) -> String {
    if ids.is_some() || table.hint.is_empty() {
        String::new()
    } else {
        format!(" {}", table.hint)
    }
}

/// The line break ends a `--` comment in the plan's condition.
fn condition(table: &Checked) -> String {
    table
        .condition
        .as_deref()
        .map_or_else(String::new, |condition| format!("({condition}\n) AND "))
}

fn push_ids(sql: &mut String, table: &Checked, ids: Option<usize>, joint: &str) {
    let Some(count) = ids else { return };
    if count == 0 {
        let _ = write!(sql, "{joint}1 = 0");
        return;
    }
    let _ = write!(sql, "{joint}{} IN (?", table.ids_column);
    for _ in 1..count {
        sql.push_str(", ?");
    }
    sql.push(')');
}

/// Returns `ids` typed as the column they are compared with.
///
/// # Errors
///
/// `Refused` for more than 10,000, or for one that cannot be a value of an integer column.
pub(super) fn typed_ids(table: &Checked, ids: &[String]) -> Result<Vec<Id>, EdgeError> {
    if ids.len() > MOST_IDS {
        return Err(EdgeError::new(
            ErrorKind::Refused,
            format!("`--ids` names {} ids; at most 10000 fit one run", ids.len()),
        ));
    }
    ids.iter()
        .map(|id| {
            let ColumnKind::Integer { unsigned } = table.ids_kind else {
                return Ok(Id::Text(id.clone()));
            };
            let parsed = if unsigned {
                id.parse().map(KeyValue::Uint)
            } else {
                id.parse().map(KeyValue::Int)
            };
            parsed.map(Id::Key).map_err(|_| {
                EdgeError::new(
                    ErrorKind::Refused,
                    format!(
                        "id `{}` of `--ids` is not a number that column `{}` can hold",
                        id.escape_default(),
                        table.ids_name
                    ),
                )
            })
        })
        .collect()
}

/// Returns the start and end of a single-column range.
pub(super) fn bounds(range: &KeyRange) -> Result<(Option<KeyValue>, KeyValue), EdgeError> {
    let after = range.after.as_ref().map(single).transpose()?;
    Ok((after, single(&range.until)?))
}

fn single(cursor: &Cursor) -> Result<KeyValue, EdgeError> {
    if let [only] = cursor.0.as_slice() {
        return Ok(only.clone());
    }
    Err(EdgeError::new(
        ErrorKind::Internal,
        format!(
            "a cursor of {} columns reached a source that knows one",
            cursor.0.len()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::RowSource,
        source::{
            quote::Dialect,
            shape::{self, tests as fixtures},
        },
    };

    fn table(condition: Option<&str>) -> Checked {
        let from = RowSource {
            condition: condition.map(str::to_owned),
            ..fixtures::from(&["id_url"])
        };
        shape::check(Dialect::Mysql, "here", &from, &fixtures::catalogue()).expect("checked")
    }

    #[test]
    fn the_page_query_reads_one_key_range_in_order() {
        let sql = page(&table(None), None);
        assert_eq!(
            &*sql.next,
            "SELECT `id_url`, `key`, CASE WHEN OCTET_LENGTH(CONVERT(`data` USING utf8mb4)) > ? THEN NULL ELSE \
             CONVERT(`data` USING utf8mb4) END, OCTET_LENGTH(CONVERT(`data` USING utf8mb4)) FROM `url` \
             FORCE INDEX (`PRIMARY`) WHERE `id_url` > ? AND `id_url` <= ? ORDER BY `id_url` LIMIT ?"
        );
        assert!(
            sql.first.contains("WHERE `id_url` <= ? ORDER BY"),
            "{}",
            sql.first
        );
    }

    #[test]
    fn condition_and_ids_stay_inside_the_range() {
        let sql = page(&table(Some("a = 1 OR b = 2 -- why")), Some(3)).next;
        assert!(
            sql.contains(
                "FROM `url` WHERE (a = 1 OR b = 2 -- why\n) AND `id_url` > ? AND `id_url` <= ? AND `id_url` IN (?, ?, ?) ORDER"
            ),
            "{sql}"
        );
        assert!(page(&table(None), Some(0)).next.contains("AND 1 = 0 ORDER"));
        assert_eq!(
            &*count(&table(Some("x")), Some(1)),
            "SELECT COUNT(*) FROM `url` WHERE (x\n) AND 1 = 1 AND `id_url` IN (?)"
        );
    }

    #[test]
    fn ids_are_typed_as_their_column() {
        let table = table(None);
        let ids = typed_ids(&table, &["18446744073709551615".into()]).expect("fits");
        assert_eq!(ids, [Id::Key(KeyValue::Uint(u64::MAX))]);
        for bad in ["-1", "1; drop table t", "", "1.5"] {
            let error = typed_ids(&table, &[bad.into()]).expect_err("no number");
            assert_eq!(error.kind, ErrorKind::Refused);
        }
        let many = vec!["1".to_owned(); MOST_IDS + 1];
        assert_eq!(
            typed_ids(&table, &many).expect_err("too many").message,
            "`--ids` names 10001 ids; at most 10000 fit one run"
        );
    }
}
