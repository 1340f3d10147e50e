//! Reads `sqlite_schema` and the table pragmas.

use rusqlite::Connection;

use super::count;
use crate::source::{
    quote::{self, Dialect},
    shape::{Catalogue, Column, ColumnKind, UniqueIndex},
};

/// Returns every table and view, sorted.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Returns what is known of `table`, or `None` where there is none of exactly that name.
pub(super) fn table(connection: &Connection, table: &str) -> rusqlite::Result<Option<Catalogue>> {
    let mut listed = connection.prepare(
        "SELECT type = 'table', wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
    )?;
    let mut listed = listed.query([table])?;
    let Some(row) = listed.next()? else {
        return Ok(None);
    };
    let (is_table, without_rowid): (bool, bool) = (row.get(0)?, row.get(1)?);

    let mut columns = Vec::new();
    let mut primary = Vec::new();
    let mut info =
        connection.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)")?;
    let mut info = info.query([table])?;
    while let Some(row) = info.next()? {
        let name: String = row.get(0)?;
        let type_text: String = row.get(1)?;
        if row.get::<_, u32>(3)? > 0 {
            primary.push(name.clone());
        }
        columns.push(Column {
            kind: if type_text.to_ascii_uppercase().contains("INT") {
                ColumnKind::Integer { unsigned: false }
            } else {
                ColumnKind::Bytes
            },
            name,
            type_text,
            nullable: !row.get::<_, bool>(2)?,
        });
    }

    let mut unique = Vec::new();
    let mut rowid = None;
    if let [only] = primary.as_slice()
        && let Some(column) = columns.iter_mut().find(|column| column.name == *only)
        && is_table
        && (without_rowid || column.type_text.eq_ignore_ascii_case("INTEGER"))
    {
        // The table itself is the index; `NOT INDEXED` leaves the planner nothing else.
        column.nullable = false;
        if !without_rowid {
            rowid = Some(column.name.clone());
        }
        unique.push(UniqueIndex {
            hint: if without_rowid {
                String::new()
            } else {
                "NOT INDEXED".to_owned()
            },
            columns: vec![column.name.clone()],
        });
    }
    let mut indexes = connection.prepare(
        "SELECT i.name, c.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c \
         WHERE i.\"unique\" = 1 AND i.partial = 0 ORDER BY i.name, c.seqno",
    )?;
    let mut indexes = indexes.query([table])?;
    let mut last = None;
    while let Some(row) = indexes.next()? {
        let name: String = row.get(0)?;
        if last.as_ref() != Some(&name) {
            unique.push(UniqueIndex {
                hint: String::new(),
                columns: Vec::new(),
            });
            last = Some(name);
        }
        if let Some(index) = unique.last_mut() {
            // An expression has no name.
            index
                .columns
                .push(row.get::<_, Option<String>>(1)?.unwrap_or_default());
        }
    }
    Ok(Some(Catalogue {
        table: None,
        estimated_rows: estimated_rows(connection, table, rowid.as_deref())?,
        estimated_bytes: None,
        columns,
        unique,
    }))
}

/// The statistics of ANALYZE; else the span of the row ids; else a count that ends at 100,000.
fn estimated_rows(
    connection: &Connection,
    table: &str,
    rowid: Option<&str>,
) -> rusqlite::Result<u64> {
    let analyzed: bool = connection.query_row(
        "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'",
        [],
        |row| row.get(0),
    )?;
    if analyzed {
        let mut statistics = connection
            .prepare("SELECT stat FROM sqlite_stat1 WHERE tbl = ?1 AND stat IS NOT NULL LIMIT 1")?;
        let mut statistics = statistics.query([table])?;
        if let Some(row) = statistics.next()? {
            let stat: String = row.get(0)?;
            if let Some(rows) = stat.split(' ').next().and_then(|rows| rows.parse().ok()) {
                return Ok(rows);
            }
        }
    }
    let Some(quoted) = quote::identifier(Dialect::Sqlite, table) else {
        return Ok(0);
    };
    let bounded = connection
        .query_row(
            &format!("SELECT COUNT(*) FROM (SELECT 1 FROM {quoted} LIMIT 100000)"),
            [],
            |row| count(row, 0),
        )?
        .unwrap_or(0);
    let Some(column) = rowid
        .filter(|_| bounded == 100_000)
        .and_then(|column| quote::identifier(Dialect::Sqlite, column))
    else {
        return Ok(bounded);
    };
    let (low, high): (i64, i64) = connection.query_row(
        &format!(
            "SELECT (SELECT MIN({column}) FROM {quoted}), (SELECT MAX({column}) FROM {quoted})"
        ),
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(high.abs_diff(low).saturating_add(1))
}
