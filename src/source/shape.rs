//! Checks the names of a plan against a source's catalogue. Pure: the drivers read the catalogue, this judges it.

use super::{
    TableShape,
    quote::{self, Dialect},
};
use crate::{
    error::{EdgeError, ErrorKind},
    nearest::nearest,
    plan::RowSource,
};

/// How a column's values come over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    /// Any integer type.
    Integer {
        /// Whether it holds no negatives and twice the positives.
        unsigned: bool,
    },
    /// Text in UTF-8, or binary: the stored bytes are what we get.
    Bytes,
    /// Text in another character set: the server converts it.
    ForeignText,
    /// Anything else: read as its text form.
    Other,
}

/// One column as the catalogue has it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    /// The type as the server spells it, for example `bigint(20) unsigned`.
    pub type_text: String,
    pub kind: ColumnKind,
    pub nullable: bool,
}

/// A unique index over whole columns.
#[derive(Debug, Clone)]
pub(super) struct UniqueIndex {
    /// How a query names it to force its use: `` FORCE INDEX (`PRIMARY`) ``.
    pub hint: String,
    pub columns: Vec<String>,
}

/// What the catalogue says about one table.
#[derive(Debug, Clone)]
pub(super) struct Catalogue {
    /// The table as a query names it, quoted, where that is more than the plan's own name: with its schema.
    pub table: Option<String>,
    pub columns: Vec<Column>,
    pub unique: Vec<UniqueIndex>,
    pub estimated_rows: u64,
    pub estimated_bytes: Option<u64>,
}

/// A table whose names were found in the catalogue: the SQL pieces of every query on it.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    /// The quoted table.
    pub table: String,
    /// Forces the cursor's own index.
    pub hint: String,
    /// The quoted cursor column.
    pub cursor: String,
    pub unsigned: bool,
    /// The expression that gives the key's bytes.
    pub key: String,
    /// The expression that gives the value's bytes.
    pub value: String,
    /// The expressions that give the bytes of the columns beside them.
    pub beside: Vec<String>,
    /// The quoted column that `--ids` names.
    pub ids_column: String,
    /// Its plain name, for messages.
    pub ids_name: String,
    pub ids_kind: ColumnKind,
    /// `where:`, as the plan has it.
    pub condition: Option<String>,
    pub shape: TableShape,
}

/// Returns the SQL pieces of `from`, every name checked exactly (case included) and quoted.
///
/// # Errors
///
/// As [`Source::describe`](super::Source::describe), the missing table excepted: see [`missing_table`].
pub(super) fn check(
    dialect: Dialect,
    place: &str,
    from: &RowSource,
    catalogue: &Catalogue,
) -> Result<Checked, EdgeError> {
    let quoted = |name: &str| {
        quote::identifier(dialect, name).ok_or_else(|| {
            EdgeError::new(
                ErrorKind::Refused,
                format!(
                    "a name of `{}` at {place} is empty or holds a NUL",
                    from.table.escape_default()
                ),
            )
        })
    };
    let column = |name: &str| find_column(place, &from.table, name, &catalogue.columns);

    let table = match &catalogue.table {
        Some(table) => table.clone(),
        None => quoted(&from.table)?,
    };
    let (cursor, hint, unsigned) = check_cursor(place, from, catalogue)?;
    let key = column(&from.key)?;
    let value = column(&from.value)?;
    let entity = from.entity.as_deref().map(&column).transpose()?;
    let ids = entity.unwrap_or(cursor);

    let mut used = vec![cursor, key, value];
    used.extend(entity);
    let mut beside = Vec::new();
    for name in from.beside() {
        let column = column(name)?;
        used.push(column);
        beside.push(bytes_of(dialect, column, &quoted(name)?));
    }
    Ok(Checked {
        table,
        hint,
        cursor: quoted(&cursor.name)?,
        unsigned,
        key: bytes_of(dialect, key, &quoted(&key.name)?),
        value: bytes_of(dialect, value, &quoted(&value.name)?),
        beside,
        ids_column: quoted(&ids.name)?,
        ids_name: ids.name.clone(),
        ids_kind: ids.kind,
        condition: from.condition.clone(),
        shape: TableShape {
            fingerprint: fingerprint(&used),
            estimated_rows: catalogue.estimated_rows,
            estimated_bytes: catalogue.estimated_bytes,
            cursor_unsigned: unsigned,
        },
    })
}

/// Returns the error for a table that the catalogue does not have, with the nearest of `tables`.
pub(super) fn missing_table(place: &str, table: &str, tables: &[String]) -> EdgeError {
    EdgeError::new(
        ErrorKind::Missing,
        format!(
            "{place} has no table `{}`{}",
            table.escape_default(),
            did_you_mean(table, tables.iter().map(String::as_str))
        ),
    )
}

fn find_column<'a>(
    place: &str,
    table: &str,
    name: &str,
    columns: &'a [Column],
) -> Result<&'a Column, EdgeError> {
    columns
        .iter()
        .find(|column| column.name == name)
        .ok_or_else(|| {
            EdgeError::new(
                ErrorKind::Missing,
                format!(
                    "table `{table}` at {place} has no column `{}`{}",
                    name.escape_default(),
                    did_you_mean(name, columns.iter().map(|column| column.name.as_str()))
                ),
            )
        })
}

/// Returns the cursor column, the hint that forces its index, and whether it is unsigned.
fn check_cursor<'a>(
    place: &str,
    from: &RowSource,
    catalogue: &'a Catalogue,
) -> Result<(&'a Column, String, bool), EdgeError> {
    for name in &from.cursor {
        find_column(place, &from.table, name, &catalogue.columns)?;
    }
    let usable = |column: &Column| -> Option<(String, bool)> {
        let ColumnKind::Integer { unsigned } = column.kind else {
            return None;
        };
        if column.nullable {
            return None;
        }
        let index = catalogue
            .unique
            .iter()
            .find(|index| index.columns == [column.name.as_str()])?;
        Some((index.hint.clone(), unsigned))
    };
    if let [only] = from.cursor.as_slice() {
        let column = find_column(place, &from.table, only, &catalogue.columns)?;
        if let Some((hint, unsigned)) = usable(column) {
            return Ok((column, hint, unsigned));
        }
    }

    let why = match from.cursor.as_slice() {
        [only] => {
            let column = find_column(place, &from.table, only, &catalogue.columns)?;
            match column.kind {
                ColumnKind::Integer { .. } if column.nullable => "it may be NULL".to_owned(),
                ColumnKind::Integer { .. } => "it has no unique index of its own".to_owned(),
                _ => format!("its type is {}", column.type_text),
            }
        }
        several => format!("it has {} columns", several.len()),
    };
    let candidates: Vec<&str> = catalogue
        .columns
        .iter()
        .filter(|column| usable(column).is_some())
        .map(|column| column.name.as_str())
        .collect();
    let advice = if candidates.is_empty() {
        "; no column of the table would do: it needs an integer NOT NULL column with a PRIMARY or UNIQUE index of its own"
            .to_owned()
    } else {
        format!("; `{}` would do", candidates.join("` or `"))
    };
    Err(EdgeError::new(
        ErrorKind::Refused,
        format!(
            "`{}` of table `{}` at {place} cannot be the cursor: {why}{advice}",
            from.cursor.join(", "),
            from.table
        ),
    ))
}

fn bytes_of(dialect: Dialect, column: &Column, quoted: &str) -> String {
    match (dialect, column.kind) {
        // SQLite has types per value, not per column: the reader turns numbers into text.
        (Dialect::Sqlite, _) | (Dialect::Mysql | Dialect::Postgres, ColumnKind::Bytes) => {
            quoted.to_owned()
        }
        // So that OCTET_LENGTH counts the bytes that are sent, not those that are stored.
        (Dialect::Mysql, ColumnKind::ForeignText) => format!("CONVERT({quoted} USING utf8mb4)"),
        (Dialect::Mysql, ColumnKind::Integer { .. } | ColumnKind::Other) => {
            format!("CAST({quoted} AS CHAR)")
        }
        // The bytes themselves: the server's conversion on the way out comes after OCTET_LENGTH.
        (Dialect::Postgres, ColumnKind::ForeignText) => format!("convert_to({quoted}, 'UTF8')"),
        (Dialect::Postgres, ColumnKind::Integer { .. } | ColumnKind::Other) => {
            format!("CAST({quoted} AS text)")
        }
    }
}

/// Names and types of the used columns, in the order cursor, key, value, entity, beside: `id bigint(20) not null; ...`.
fn fingerprint(used: &[&Column]) -> String {
    let mut text = String::new();
    for column in used {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&column.name);
        text.push(' ');
        text.push_str(&column.type_text);
        if !column.nullable {
            text.push_str(" not null");
        }
    }
    text
}

/// Returns `; did you mean ...?` with up to three names that are near `wanted`, or nothing.
fn did_you_mean<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    match nearest(wanted, names, 3).as_slice() {
        [] => String::new(),
        near => format!("; did you mean `{}`?", near.join("` or `")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn from(cursor: &[&str]) -> RowSource {
        RowSource {
            table: "url".into(),
            cursor: cursor.iter().map(|&name| name.to_owned()).collect(),
            key: "key".into(),
            value: "data".into(),
            entity: None,
            store: None,
            condition: None,
        }
    }

    pub fn catalogue() -> Catalogue {
        let column = |name: &str, type_text: &str, kind, nullable| Column {
            name: name.into(),
            type_text: type_text.into(),
            kind,
            nullable,
        };
        Catalogue {
            table: None,
            columns: vec![
                column(
                    "id_url",
                    "bigint(20) unsigned",
                    ColumnKind::Integer { unsigned: true },
                    false,
                ),
                column(
                    "fk_url",
                    "int(11)",
                    ColumnKind::Integer { unsigned: false },
                    false,
                ),
                column(
                    "fk_old",
                    "int(11)",
                    ColumnKind::Integer { unsigned: false },
                    true,
                ),
                column("key", "varchar(255)", ColumnKind::Bytes, true),
                column("data", "text", ColumnKind::ForeignText, true),
            ],
            unique: vec![
                UniqueIndex {
                    hint: "FORCE INDEX (`PRIMARY`)".into(),
                    columns: vec!["id_url".into()],
                },
                UniqueIndex {
                    hint: "FORCE INDEX (`two`)".into(),
                    columns: vec!["fk_url".into(), "key".into()],
                },
            ],
            estimated_rows: 7,
            estimated_bytes: None,
        }
    }

    fn refusal(from: &RowSource) -> (ErrorKind, String) {
        let error =
            check(Dialect::Mysql, "mariadb at h:1/d", from, &catalogue()).expect_err("refused");
        (error.kind, error.message)
    }

    #[test]
    fn a_single_unique_integer_is_a_cursor() {
        let checked =
            check(Dialect::Mysql, "here", &from(&["id_url"]), &catalogue()).expect("checked");
        assert_eq!(checked.cursor, "`id_url`");
        assert_eq!(checked.hint, "FORCE INDEX (`PRIMARY`)");
        assert!(checked.unsigned);
        assert_eq!(checked.value, "CONVERT(`data` USING utf8mb4)");
        assert_eq!(checked.ids_name, "id_url");
        assert_eq!(
            checked.shape.fingerprint,
            "id_url bigint(20) unsigned not null; key varchar(255); data text"
        );
    }

    #[test]
    fn other_cursors_are_refused_with_what_would_do() {
        for (cursor, why) in [
            (&["key"][..], "its type is varchar(255)"),
            (&["fk_url"], "it has no unique index of its own"),
            (&["fk_old"], "it may be NULL"),
            (&["fk_url", "key"], "it has 2 columns"),
        ] {
            let (kind, message) = refusal(&from(cursor));
            assert_eq!(kind, ErrorKind::Refused);
            assert_eq!(
                message,
                format!(
                    "`{}` of table `url` at mariadb at h:1/d cannot be the cursor: {why}; `id_url` would do",
                    cursor.join(", ")
                )
            );
        }
    }

    #[test]
    fn missing_names_come_with_the_nearest() {
        let (kind, message) = refusal(&RowSource {
            value: "dta".into(),
            ..from(&["id_url"])
        });
        assert_eq!(kind, ErrorKind::Missing);
        assert_eq!(
            message,
            "table `url` at mariadb at h:1/d has no column `dta`; did you mean `data`?"
        );
        let (_, message) = refusal(&RowSource {
            key: "KEY".into(),
            ..from(&["id_url"])
        });
        assert!(message.ends_with("did you mean `key`?"), "{message}");
        let tables = [
            "spy_url_storage".to_owned(),
            "spy_product_search".to_owned(),
        ];
        assert_eq!(
            missing_table("here", "url_storage", &tables).message,
            "here has no table `url_storage`; did you mean `spy_url_storage`?"
        );
        assert_eq!(
            missing_table("here", "zzz", &tables).message,
            "here has no table `zzz`"
        );
    }
}
