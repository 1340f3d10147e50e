//! The one place where names of the plan become SQL, and where built SQL is handed to a driver.
//!
//! Names reach [`identifier`] only after `shape` found them in the source's own catalogue; quoting makes them
//! harmless even so.

use std::sync::Arc;

use sqlx::AssertSqlSafe;

/// Whose SQL is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// MariaDB and MySQL: `` `name` ``.
    Mysql,
    /// SQLite: `"name"`.
    Sqlite,
    /// PostgreSQL: `"name"`.
    Postgres,
}

/// Returns `name` quoted for `dialect`, or `None` for a name that no server can hold: empty, or with a NUL.
///
/// The quote itself is doubled, and inside quotes no other character has a meaning. On MySQL that holds because
/// sessions pin `sql_mode` and the connection's character set is utf8mb4, whose later bytes are never a backtick.
pub(super) fn identifier(dialect: Dialect, name: &str) -> Option<String> {
    if name.is_empty() || name.contains('\0') {
        return None;
    }
    let quote = match dialect {
        Dialect::Mysql => '`',
        Dialect::Sqlite | Dialect::Postgres => '"',
    };
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push(quote);
    for c in name.chars() {
        if c == quote {
            quoted.push(quote);
        }
        quoted.push(c);
    }
    quoted.push(quote);
    Some(quoted)
}

/// Passes SQL that this room built from checked, quoted names, bound parameters and the plan's own condition.
pub(super) fn statement(sql: &Arc<str>) -> AssertSqlSafe<Arc<str>> {
    AssertSqlSafe(Arc::clone(sql))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_are_doubled_and_nothing_else_changes() {
        let cases = [
            (Dialect::Mysql, "url", "`url`"),
            (Dialect::Mysql, "a`b", "`a``b`"),
            (Dialect::Mysql, "a\"b'c\\", "`a\"b'c\\`"),
            (
                Dialect::Mysql,
                "x`; drop table t; -- ",
                "`x``; drop table t; -- `",
            ),
            (Dialect::Sqlite, "a\"b", "\"a\"\"b\""),
            (
                Dialect::Sqlite,
                "x\"; drop table t; -- ",
                "\"x\"\"; drop table t; -- \"",
            ),
            (Dialect::Sqlite, "größe", "\"größe\""),
            (Dialect::Postgres, "a\"b`c", "\"a\"\"b`c\""),
        ];
        for (dialect, name, quoted) in cases {
            assert_eq!(identifier(dialect, name).as_deref(), Some(quoted));
        }
    }

    #[test]
    fn names_that_no_server_can_hold_are_refused() {
        for dialect in [Dialect::Mysql, Dialect::Sqlite, Dialect::Postgres] {
            assert_eq!(identifier(dialect, ""), None);
            assert_eq!(identifier(dialect, "a\0b"), None);
        }
    }

    proptest! {
        /// SQLite itself reads the quoted text as exactly one name: a table of any name can be made and read, and
        /// the tables beside it stay.
        #[test]
        fn sqlite_reads_any_quoted_name_as_that_name(name in "[^\0]{0,12}[\"'`;]{0,4}[^\0]{1,12}") {
            prop_assume!(!name.to_ascii_lowercase().starts_with("sqlite_"));
            let quoted = identifier(Dialect::Sqlite, &name).expect("has no NUL");
            let db = rusqlite::Connection::open_in_memory().expect("memory");
            db.execute_batch("CREATE TABLE bystander (x)").expect("create");
            prop_assume!(!name.eq_ignore_ascii_case("bystander"));
            db.execute_batch(&format!("CREATE TABLE {quoted} ({quoted} INTEGER)")).expect("create");
            let tables: Vec<String> = db
                .prepare("SELECT name FROM sqlite_schema ORDER BY rowid").expect("prepare")
                .query_map([], |row| row.get(0)).expect("query")
                .collect::<Result<_, _>>().expect("rows");
            prop_assert_eq!(tables, vec!["bystander".to_owned(), name]);
        }

        /// A reader that knows only "a doubled backtick is one backtick" gets the name back and nothing after it.
        #[test]
        fn mysql_quoting_is_one_closed_name(name in "[^\0]{0,8}(`|; drop table t|\"|\\\\|--|/\\*){1,3}[^\0]{0,8}") {
            let quoted = identifier(Dialect::Mysql, &name).expect("has no NUL");
            let mut chars = quoted.chars();
            prop_assert_eq!(chars.next(), Some('`'));
            let mut read = String::new();
            loop {
                match chars.next() {
                    Some('`') => match chars.next() {
                        Some('`') => read.push('`'),
                        rest => { prop_assert_eq!(rest, None); break; }
                    },
                    Some(c) => read.push(c),
                    None => prop_assert!(false, "not closed"),
                }
            }
            prop_assert_eq!(read, name);
        }
    }
}
