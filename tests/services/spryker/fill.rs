//! Writes a generated shop into a database, with few and long statements.

use std::fmt::Write as _;

use super::{
    rows::{Row, Suffix, counts, rows},
    tables::{Dialect, Table},
};

/// A statement ends with the row that passes this: far below what servers take, long enough to cost no round trips.
const STATEMENT_BYTES: usize = 1 << 20;

/// Ids that no row has. The shop's own export reads windows of a hundred ids and ends at the first one without a row: it
/// would send none of these tables at all, and if it began behind the first hole, nothing behind the second.
const HOLES: [std::ops::RangeInclusive<u64>; 2] = [1..=100, 1_001..=1_200];

/// What was written.
pub struct Written {
    pub rows: usize,
    /// Rows behind both holes.
    pub behind_holes: usize,
    /// The rows that cannot be restored: table and id, in order.
    pub planted: Vec<(&'static str, u64)>,
}

/// Hands the statements that make a shop of `total` rows to `run`, one after the other.
pub async fn fill(
    tables: &[Table],
    total: usize,
    dialect: Dialect,
    mut run: impl AsyncFnMut(String),
) -> Written {
    let mut written = Written {
        rows: 0,
        behind_holes: 0,
        planted: Vec::new(),
    };
    let ddl: Vec<_> = tables.iter().map(|table| table.ddl(dialect)).collect();
    run(ddl.concat()).await;
    run("BEGIN".to_owned()).await;
    let mut sql = String::new();
    for (table, count) in tables.iter().zip(counts(tables, total)) {
        let columns: Vec<_> = table
            .columns()
            .into_iter()
            .map(|column| dialect.quoted(column))
            .collect();
        let head = format!(
            "INSERT INTO {} ({}) VALUES ",
            table.name,
            columns.join(", ")
        );
        let mut begun = false;
        for row in rows(table, count) {
            sql.push_str(if begun { ", (" } else { &head });
            if !begun {
                sql.push('(');
            }
            begun = true;
            values(table, &row, dialect, &mut sql);
            sql.push(')');
            written.rows += 1;
            assert!(!HOLES.iter().any(|hole| hole.contains(&row.id)));
            written.behind_holes += usize::from(row.id > *HOLES[1].end());
            if row.planted {
                written.planted.push((table.name, row.id));
            }
            if sql.len() > STATEMENT_BYTES {
                run(std::mem::take(&mut sql)).await;
                begun = false;
            }
        }
        if begun {
            sql.push(';');
        }
    }
    sql.push_str("COMMIT");
    run(sql).await;
    written.planted.sort_unstable();
    written
}

fn values(table: &Table, row: &Row, dialect: Dialect, sql: &mut String) {
    sql.push_str(&row.id.to_string());
    if table.entity.is_some() {
        let _ = write!(sql, ", {}", row.entity);
    }
    let mut text = |value: Option<&str>| {
        sql.push_str(", ");
        let Some(value) = value else {
            return sql.push_str("NULL");
        };
        sql.push('\'');
        for char in value.chars() {
            // Backslashes are letters to PostgreSQL.
            if char == '\'' || (char == '\\' && dialect == Dialect::MariaDb) {
                sql.push(char);
            }
            sql.push(char);
        }
        sql.push('\'');
    };
    let number;
    match &row.suffix {
        None => {}
        Some(Suffix::Text(value)) => text(Some(value)),
        Some(Suffix::Number(value)) => {
            number = value.to_string();
            text(Some(&number));
        }
    }
    if table.columns().contains(&"store") {
        text(row.store);
    }
    if table.columns().contains(&"locale") {
        text(row.locale);
    }
    text(row.data.as_deref());
    if table.has_aliases() {
        text(row.aliases.as_deref());
    }
    if table.has_mapping_key() {
        text(row.mapping.as_deref());
    }
    text(Some(&row.key));
    if table.search {
        text(Some("{}"));
    }
}
