//! What the role of a source may do beside reading.

use sqlx::{PgConnection, Row};

/// Returns one of the rights to change something that this role has on a table of the database, ``INSERT on `public.url` ``;
/// `None` for a role that may only read. That the session is read-only plays no part.
pub(super) async fn to_write(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let sql = "\
        SELECT r.word || ' on `' || n.nspname || '.' || c.relname || '`' \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS r (word) \
        WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg|_%' ESCAPE '|' \
          AND pg_catalog.has_table_privilege(c.oid, r.word) \
        ORDER BY n.nspname, c.relname, r.word LIMIT 1";
    let row = sqlx::raw_sql(sql).fetch_optional(connection).await?;
    row.map(|row| row.try_get_unchecked(0)).transpose()
}
