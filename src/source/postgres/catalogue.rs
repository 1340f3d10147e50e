//! Reads the system catalogue of the connected database, with the rights of any user.

use sqlx::{PgConnection, Row, postgres::types::Oid};

use crate::source::{
    ReadModel,
    quote::{self, Dialect},
    shape::{Catalogue, Column, ColumnKind, KeyKind, KeyType, UniqueIndex},
};

/// Tables and views: those that the search path finds by their bare names, the others as `schema.name`.
const TABLES: &str = "SELECT CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN c.relname::text \
      ELSE n.nspname::text || '.' || c.relname::text END AS name \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
      AND NOT c.relispartition \
    ORDER BY 1";

/// Tables that look like read models: whether the search path finds them by their bare names, schema, name, and rows
/// as the last ANALYZE saw them.
const READ_MODELS: &str = "SELECT pg_catalog.pg_table_is_visible(c.oid), n.nspname::text, c.relname::text, \
      GREATEST(c.reltuples, 0)::bigint \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
      AND NOT c.relispartition \
      AND (c.relname::text ~ '_(storage|search)$' OR (SELECT COUNT(*) FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname IN ('key', 'data')) = 2) \
    ORDER BY c.relname, n.nspname";

/// What `$1` means: first a bare name on the search path, even one with a dot in it, then `schema.name`. A table
/// whose rows are partly those of tables that inherit from it has no index over all of them.
const TABLE: &str = "SELECT c.oid, n.nspname::text, c.relname::text, \
      c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid), \
      CASE WHEN c.relkind = 'p' THEN (SELECT COALESCE(SUM(pg_catalog.pg_table_size(relid)), 0)::bigint \
        FROM pg_catalog.pg_partition_tree(c.oid)) ELSE pg_catalog.pg_table_size(c.oid) END \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
      AND (c.relname::text = $1 AND pg_catalog.pg_table_is_visible(c.oid) OR n.nspname::text || '.' || c.relname::text = $1) \
    ORDER BY c.relname::text = $1 AND pg_catalog.pg_table_is_visible(c.oid) DESC, n.nspname LIMIT 1";

/// The columns of `$1`. A domain counts as the type below it, as far as it goes down, and may bring its own NOT NULL.
const COLUMNS: &str = "WITH RECURSIVE base (attnum, typ, required) AS ( \
      SELECT attnum, atttypid, attnotnull FROM pg_catalog.pg_attribute \
        WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped \
      UNION ALL SELECT b.attnum, t.typbasetype, b.required OR t.typnotnull \
        FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typ AND t.typtype = 'd') \
    SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), \
      CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text ELSE '' END, b.required, \
      EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
        JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree' \
        WHERE i.indrelid = $1 AND i.indkey[0] = b.attnum AND i.indisvalid AND i.indpred IS NULL) \
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typ AND t.typtype <> 'd' \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = b.attnum \
    ORDER BY b.attnum";

/// The unique indexes of `$1` that hold every row, whole columns, and the order that a page asks for: no condition,
/// no expression, finished, never deferred; compared as the column is, all ascending or all descending.
const UNIQUE: &str = "SELECT (SELECT array_agg(a.attname::text ORDER BY k) \
      FROM generate_series(0, i.indnkeyatts - 1) AS k \
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k]) \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
    JOIN pg_catalog.pg_am m ON m.oid = c.relam AND m.amname = 'btree' \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indisready AND i.indislive \
      AND i.indpred IS NULL AND i.indexprs IS NULL \
      AND NOT EXISTS (SELECT FROM generate_series(0, i.indnkeyatts - 1) AS k \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] \
        JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[k] \
        WHERE i.indcollation[k] <> a.attcollation OR NOT (o.opcdefault OR o.opcname = 'varchar_ops') \
          OR i.indoption[k] NOT IN (0, 3) OR i.indoption[k] <> i.indoption[0]) \
    ORDER BY i.indisprimary DESC, i.indexrelid";

/// Returns every table and view, sorted.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(TABLES).fetch_all(connection).await
}

/// Returns the tables that look like read models, sorted.
pub(super) async fn read_models(
    connection: &mut PgConnection,
) -> Result<Vec<ReadModel>, sqlx::Error> {
    let mut found = Vec::new();
    for row in sqlx::query(READ_MODELS).fetch_all(&mut *connection).await? {
        let (visible, schema, name): (bool, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let mut names = vec![format!("{schema}.{name}")];
        if visible {
            names.insert(0, name);
        }
        match table(connection, &names[0]).await {
            Ok(Some(catalogue)) => found.push(ReadModel::of(names, &catalogue)),
            // A table may be gone by now.
            Ok(None) => {}
            // No right to read it, or policies that hide rows: it is there all the same. Outside of a transaction the
            // session goes on.
            Err(sqlx::Error::Database(_)) => {
                let rows: i64 = row.try_get(3)?;
                found.push(ReadModel::unreadable(names, rows.try_into().unwrap_or(0)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Returns what is known of `table`, or `None` where there is none of exactly that name.
pub(super) async fn table(
    connection: &mut PgConnection,
    table: &str,
) -> Result<Option<Catalogue>, sqlx::Error> {
    let Some(found) = sqlx::query(TABLE)
        .bind(table)
        .fetch_optional(&mut *connection)
        .await?
    else {
        return Ok(None);
    };
    let oid: Oid = found.try_get(0)?;
    let names: [String; 2] = [found.try_get(1)?, found.try_get(2)?];
    let inherited: bool = found.try_get(3)?;
    let bytes: i64 = found.try_get(4)?;
    let quoted = names
        .iter()
        .filter_map(|name| quote::identifier(Dialect::Postgres, name))
        .collect::<Vec<_>>()
        .join(".");

    let utf8: bool = sqlx::query_scalar("SELECT current_setting('server_encoding') = 'UTF8'")
        .fetch_one(&mut *connection)
        .await?;
    let mut columns = Vec::new();
    for row in sqlx::query(COLUMNS)
        .bind(oid)
        .fetch_all(&mut *connection)
        .await?
    {
        columns.push(Column {
            name: row.try_get(0)?,
            type_text: row.try_get(1)?,
            kind: kind(row.try_get(2)?, utf8),
            key: key(row.try_get(2)?),
            // What is no key is compared by its text, of which there is one for each value.
            is_id: true,
            nullable: !row.try_get::<bool, _>(3)?,
            indexed: row.try_get(4)?,
        });
    }
    let mut unique = Vec::new();
    if !inherited {
        for columns in sqlx::query_scalar(UNIQUE)
            .bind(oid)
            .fetch_all(&mut *connection)
            .await?
        {
            unique.push(UniqueIndex {
                // The session is pinned so that the planner takes it: there are no hints.
                hint: String::new(),
                columns,
            });
        }
    }
    Ok(Some(Catalogue {
        estimated_rows: estimate(connection, &format!("SELECT FROM {quoted}")).await?,
        estimated_bytes: bytes.try_into().ok(),
        table: Some(quoted),
        columns,
        unique,
    }))
}

/// Returns how many rows the planner expects of `query`. It counts the pages of the file as it is now, so that it
/// knows of rows that no ANALYZE has seen yet.
pub(super) async fn estimate(
    connection: &mut PgConnection,
    query: &str,
) -> Result<u64, sqlx::Error> {
    let sql = format!("EXPLAIN (FORMAT JSON) {query}").into();
    let plan = sqlx::raw_sql(quote::statement(&sql))
        .fetch_one(connection)
        .await?;
    Ok(planned_rows(plan.try_get_unchecked(0)?))
}

/// Returns how many rows the answer to an EXPLAIN in JSON expects.
pub(super) fn planned_rows(plan: &str) -> u64 {
    serde_json::from_str(plan)
        .ok()
        .and_then(|plan: serde_json::Value| plan[0]["Plan"]["Plan Rows"].as_u64())
        .unwrap_or(0)
}

fn kind(name: &str, utf8: bool) -> ColumnKind {
    match name {
        "int2" | "int4" | "int8" => ColumnKind::Integer { unsigned: false },
        "bytea" => ColumnKind::Bytes,
        "text" | "varchar" | "bpchar" if utf8 => ColumnKind::Bytes,
        "text" | "varchar" | "bpchar" => ColumnKind::ForeignText,
        _ => ColumnKind::Other,
    }
}

/// Returns how a column serves in a cursor. Not floating-point numbers, and no type where one value has several texts.
fn key(name: &str) -> Option<KeyType> {
    Some(match name {
        "int2" | "int4" | "int8" => KeyType::bare(KeyKind::Int),
        "text" | "varchar" => KeyType::bare(KeyKind::Text),
        // Compared with a text it would be one, without its blanks and its index.
        "bpchar" => KeyType::cast(KeyKind::Text, name),
        "bytea" => KeyType::bare(KeyKind::Bytes),
        "numeric" => KeyType::cast(KeyKind::Decimal, name),
        "date" => KeyType::cast(KeyKind::Date, name),
        "timestamp" | "timestamptz" => KeyType::cast(KeyKind::Timestamp, name),
        "time" => KeyType::cast(KeyKind::Time, name),
        "uuid" => KeyType::cast(KeyKind::Uuid, name),
        _ => return None,
    })
}
