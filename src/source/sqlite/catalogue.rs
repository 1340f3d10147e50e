//! Reads `sqlite_schema` and the table pragmas.

use rusqlite::Connection;

use super::count;
use crate::source::{
    ReadModel,
    quote::{self, Dialect},
    shape::{Catalogue, Column, ColumnKind, KeyKind, KeyType, UniqueIndex},
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

/// Returns the tables that look like read models, sorted.
pub(super) fn read_models(connection: &Connection) -> rusqlite::Result<Vec<ReadModel>> {
    let names: Vec<String> = connection
        .prepare(
            "SELECT m.name FROM sqlite_schema AS m \
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             AND (m.name GLOB '*_storage' OR m.name GLOB '*_search' \
               OR (SELECT COUNT(*) FROM pragma_table_xinfo(m.name) WHERE name IN ('key', 'data')) = 2) \
             ORDER BY m.name",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for name in names {
        // A table may be gone by now.
        if let Some(catalogue) = table(connection, &name)? {
            found.push(ReadModel::of(vec![name], &catalogue));
        }
    }
    Ok(found)
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
        // Unlike `table_info` it has the generated columns too; 1 is a hidden column of a virtual table.
        connection.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1")?;
    let mut info = info.query([table])?;
    while let Some(row) = info.next()? {
        let name: String = row.get(0)?;
        let type_text: String = row.get(1)?;
        let place: u32 = row.get(3)?;
        if place > 0 {
            primary.push((place, name.clone()));
        }
        // The engine's own rule for the affinity of a column.
        let declared = type_text.to_ascii_uppercase();
        let is_one_of = |names: &[&str]| names.iter().any(|name| declared.contains(name));
        let integer = is_one_of(&["INT"]);
        let real = !integer
            && !is_one_of(&["CHAR", "CLOB", "TEXT", "BLOB"])
            && is_one_of(&["REAL", "FLOA", "DOUB"]);
        columns.push(Column {
            kind: if integer {
                ColumnKind::Integer { unsigned: false }
            } else {
                ColumnKind::Bytes
            },
            // Only `--ids` minds: everything that is read has its own type.
            key: (!real).then(|| {
                KeyType::bare(if is_one_of(&["BLOB"]) {
                    KeyKind::Bytes
                } else {
                    KeyKind::Any
                })
            }),
            // Ids of any type are compared by their texts where the column does not make them one type.
            is_id: true,
            name,
            type_text,
            nullable: !row.get::<_, bool>(2)?,
            indexed: false,
        });
    }

    primary.sort_unstable();
    let primary: Vec<String> = primary.into_iter().map(|(_, name)| name).collect();
    let mut unique = Vec::new();
    let mut rowid = None;
    for column in &mut columns {
        // The columns of the key of a table without row ids are never NULL, declared so or not.
        column.nullable &= !(without_rowid && primary.contains(&column.name));
    }
    if let [only] = primary.as_slice()
        && let Some(column) = columns.iter_mut().find(|column| column.name == *only)
        && is_table
        && !without_rowid
        && column.type_text.eq_ignore_ascii_case("INTEGER")
    {
        // The table itself is the index; `NOT INDEXED` leaves the planner nothing else.
        column.nullable = false;
        rowid = Some(column.name.clone());
        unique.push(UniqueIndex {
            hint: "NOT INDEXED".to_owned(),
            columns: vec![column.name.clone()],
        });
    }
    unique.extend(indexes(connection, table, without_rowid)?);
    let mut first = connection.prepare(
        "SELECT c.name FROM pragma_index_list(?1) AS i, pragma_index_xinfo(i.name) AS c \
         WHERE i.partial = 0 AND c.seqno = 0 AND c.name IS NOT NULL",
    )?;
    let mut first = first.query([table])?;
    while let Some(row) = first.next()? {
        let name: String = row.get(0)?;
        if let Some(column) = columns.iter_mut().find(|column| column.name == name) {
            column.indexed = true;
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

/// Returns the unique indexes that sort as the table's columns do.
fn indexes(
    connection: &Connection,
    table: &str,
    without_rowid: bool,
) -> rusqlite::Result<Vec<UniqueIndex>> {
    let mut indexes = connection.prepare(
        "SELECT i.name, i.origin = 'pk', c.name, c.\"desc\", c.coll FROM pragma_index_list(?1) AS i, \
         pragma_index_xinfo(i.name) AS c WHERE i.\"unique\" = 1 AND i.partial = 0 AND c.key = 1 \
         ORDER BY i.origin <> 'pk', i.name, c.seqno",
    )?;
    let mut parts = indexes.query([table])?;
    let mut unique: Vec<UniqueIndex> = Vec::new();
    let mut last = None;
    let mut descends = false;
    while let Some(row) = parts.next()? {
        let name: String = row.get(0)?;
        if last.as_ref() != Some(&name) {
            descends = row.get(3)?;
            // The key of a table without row ids is the table, which no hint can name.
            let is_table = without_rowid && row.get(1)?;
            let quoted = quote::identifier(Dialect::Sqlite, &name).filter(|_| !is_table);
            unique.push(UniqueIndex {
                hint: quoted.map_or_else(String::new, |name| format!("INDEXED BY {name}")),
                columns: Vec::new(),
            });
            last = Some(name);
        }
        // An expression has no name. Where an index sorts in both directions, or otherwise than its column, a page in the
        // order of the columns could not be read from it: no column has the empty name.
        let column: Option<String> = row.get(2)?;
        let sorts: String = row.get(4)?;
        let column = match column {
            Some(column) => {
                let (_, collation, ..) =
                    connection.column_metadata(Some("main"), table, column.as_str())?;
                let same = collation
                    .is_some_and(|own| own.to_bytes().eq_ignore_ascii_case(sorts.as_bytes()));
                let known = ["BINARY", "NOCASE", "RTRIM"]
                    .iter()
                    .any(|one| sorts.eq_ignore_ascii_case(one));
                (same && known && descends == row.get::<_, bool>(3)?).then_some(column)
            }
            None => None,
        };
        if let Some(index) = unique.last_mut() {
            index.columns.push(column.unwrap_or_default());
        }
    }
    Ok(unique)
}

/// The least that a row takes in a file: its length, its id, its header and its place on the page.
const LEAST_ROW: u64 = 6;

/// The statistics of ANALYZE; else a count that ends at 100,000; else the span of the row ids, which says nothing
/// where ids lie far apart, and then what the file has room for.
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
    let bytes: i64 = connection.query_row(
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        [],
        |row| row.get(0),
    )?;
    let room = bytes.unsigned_abs() / LEAST_ROW;
    Ok(high.abs_diff(low).saturating_add(1).min(room))
}
