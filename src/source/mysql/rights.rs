//! What the user of a source may do beside reading.

use sqlx::{MySqlConnection, Row};

/// Returns one of the rights to change something that this user has in the connected database, `INSERT`; `None` for a user
/// who may only read. Rights that come with a role count where the role is in use.
///
/// The views show whoever may look into the tables of rights those of every user, so the user is compared.
pub(super) async fn to_write(
    connection: &mut MySqlConnection,
) -> Result<Option<String>, sqlx::Error> {
    // The name of a database is a pattern here: `shop\_%`.
    let sql = "\
        SELECT CAST(MIN(PRIVILEGE_TYPE) AS CHAR) FROM ( \
          SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES \
          UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES \
            WHERE DATABASE() LIKE TABLE_SCHEMA \
          UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES \
            WHERE TABLE_SCHEMA = DATABASE() \
        ) AS rights \
        WHERE PRIVILEGE_TYPE IN ('INSERT', 'UPDATE', 'DELETE', 'DROP', 'ALTER', 'CREATE') \
          AND (GRANTEE = CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', \
                 SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''') \
               OR GRANTEE = CURRENT_ROLE())";
    let row = sqlx::raw_sql(sql).fetch_one(connection).await?;
    row.try_get_unchecked(0)
}
