//! Checks the names of a plan against a source's catalogue. Pure: the drivers read the catalogue, this judges it.

use super::{
    TableShape,
    changes::Changed,
    quote::{self, Dialect},
};
use crate::{
    cursor::KeyValue,
    error::{EdgeError, ErrorKind, Subject},
    nearest::nearest,
    plan::{Beside, RowSource},
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

/// As what a column's values stand in a [`Cursor`](crate::cursor::Cursor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Int,
    Uint,
    Text,
    Bytes,
    Decimal,
    Timestamp,
    Date,
    Time,
    Uuid,
    /// SQLite: each value has its own type.
    Any,
}

impl KeyKind {
    /// Returns whether a column of this kind reads as `key`.
    pub const fn holds(self, key: &KeyValue) -> bool {
        match key {
            _ if matches!(self, Self::Any) => true,
            KeyValue::Int(_) => matches!(self, Self::Int),
            KeyValue::Uint(_) => matches!(self, Self::Uint),
            KeyValue::Text(_) => matches!(self, Self::Text),
            KeyValue::Bytes(_) => matches!(self, Self::Bytes),
            KeyValue::Decimal(_) => matches!(self, Self::Decimal),
            KeyValue::Timestamp(_) => matches!(self, Self::Timestamp),
            KeyValue::Date(_) => matches!(self, Self::Date),
            KeyValue::Time(_) => matches!(self, Self::Time),
            KeyValue::Uuid(_) => matches!(self, Self::Uuid),
        }
    }
}

/// How a column's values go into a cursor and back into a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyType {
    pub kind: KeyKind,
    /// The type that a bound value is cast to, so that it is compared as the column compares, by its index: without it
    /// MariaDB compares a decimal with a text as two floating-point numbers.
    pub cast: Option<String>,
}

impl KeyType {
    /// Returns a type whose values are bound as they are.
    pub const fn bare(kind: KeyKind) -> Self {
        Self { kind, cast: None }
    }

    /// Returns a type whose values are bound as text and cast.
    pub fn cast(kind: KeyKind, sql_type: impl Into<String>) -> Self {
        Self {
            kind,
            cast: Some(sql_type.into()),
        }
    }
}

/// One column as the catalogue has it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    /// The type as the server spells it, for example `bigint(20) unsigned`.
    pub type_text: String,
    pub kind: ColumnKind,
    /// How it serves as a column of the cursor; `None` where it cannot: floating-point numbers are not exact, and an
    /// ENUM is sorted by its place and compared by its text.
    pub key: Option<KeyType>,
    /// Whether the text of each value finds the rows with that value again: what the entity of a row needs.
    pub is_id: bool,
    pub nullable: bool,
    /// Whether an index of all rows begins with it.
    pub indexed: bool,
}

/// A unique index over whole columns, all of them in the same direction.
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

/// One column of the cursor.
#[derive(Debug, Clone)]
pub(super) struct CursorColumn {
    /// The quoted column: what is compared and sorted.
    pub quoted: String,
    /// The expression that gives its value as `key.kind` is read.
    pub selected: String,
    pub key: KeyType,
}

/// The column that `--ids` names.
#[derive(Debug, Clone)]
pub(super) struct IdsColumn {
    pub quoted: String,
    /// Its plain name, for messages.
    pub name: String,
    pub kind: ColumnKind,
    /// `None` for types that cannot be a key: ids are then bound as text.
    pub key: Option<KeyType>,
    /// The expression that gives the text of an id, where the bare column may not be compared with every id: SQLite has types
    /// per value.
    pub form: Option<String>,
    pub affinity: Affinity,
}

/// What SQLite makes of values that are put into a column, or compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    /// Numbers where they can be.
    Integer,
    /// Text, but for bytes.
    Text,
    /// Every value keeps a type of its own.
    None,
}

impl Affinity {
    fn of(column: &Column) -> Self {
        let declared = column.type_text.to_ascii_uppercase();
        if matches!(column.kind, ColumnKind::Integer { .. }) {
            Self::Integer
        } else if ["CHAR", "CLOB", "TEXT"]
            .iter()
            .any(|name| declared.contains(name))
        {
            Self::Text
        } else {
            Self::None
        }
    }
}

/// A table whose names were found in the catalogue: the SQL pieces of every query on it.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub dialect: Dialect,
    /// The quoted table.
    pub table: String,
    /// Its plain name, for messages.
    pub name: String,
    /// Forces the cursor's own index.
    pub hint: String,
    /// The columns of the cursor, in the order of their index.
    pub cursor: Vec<CursorColumn>,
    /// The expression that gives the key's bytes.
    pub key: String,
    /// The expression that gives the value's bytes.
    pub value: String,
    /// The expressions that give the bytes of the columns beside them.
    pub beside: Vec<String>,
    /// What `--ids` filters; `None` where no entity is named and the cursor has several columns.
    pub ids: Option<IdsColumn>,
    /// `where:`, as the plan has it.
    pub condition: Option<String>,
    /// Every column of the table.
    pub columns: Vec<Column>,
    /// Where only rows are read that changed.
    pub changed: Option<Changed>,
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
    if let Some(error) = missing_columns(place, from, &catalogue.columns) {
        return Err(error);
    }
    let column = |name: &str| find_column(place, &from.table, name, &catalogue.columns);

    let table = match &catalogue.table {
        Some(table) => table.clone(),
        None => quoted(&from.table)?,
    };
    let (cursor, hint) = check_cursor(place, from, catalogue)?;
    let key = column(&from.key)?;
    let value = column(&from.value)?;
    let entity = from.entity.as_deref().map(&column).transpose()?;
    check_entity(place, &from.table, entity)?;
    let ids = match (entity, cursor.as_slice()) {
        (Some(entity), _) => Some(entity),
        (None, [(only, _)]) => Some(*only),
        _ => None,
    };

    let mut used: Vec<&Column> = cursor.iter().map(|(column, _)| *column).collect();
    used.extend([key, value]);
    used.extend(entity);
    let (mut beside, mut absent) = (Vec::new(), Vec::new());
    for Beside { name, optional } in from.beside() {
        if optional && !catalogue.columns.iter().any(|one| one.name == name) {
            beside.push("NULL".to_owned());
            absent.push(name.to_owned());
            continue;
        }
        let column = column(name)?;
        used.push(column);
        beside.push(bytes_of(dialect, column, &quoted(name)?));
    }
    let single_integer = matches!(
        cursor.as_slice(),
        [(
            Column {
                kind: ColumnKind::Integer { .. },
                ..
            },
            _
        )]
    );
    let read = if from.reads_ids { id_of } else { bytes_of };
    Ok(Checked {
        dialect,
        table,
        name: from.table.clone(),
        hint,
        cursor: cursor
            .into_iter()
            .map(|(column, key)| {
                let quoted = quoted(&column.name)?;
                Ok(CursorColumn {
                    selected: selected(dialect, key.kind, &quoted),
                    quoted,
                    key: key.clone(),
                })
            })
            .collect::<Result<_, EdgeError>>()?,
        key: read(dialect, key, &quoted(&key.name)?),
        value: bytes_of(dialect, value, &quoted(&value.name)?),
        beside,
        ids: ids
            .map(|column| {
                let name = quoted(&column.name)?;
                Ok::<_, EdgeError>(IdsColumn {
                    affinity: Affinity::of(column),
                    form: (dialect == Dialect::Sqlite).then(|| id_of(dialect, column, &name)),
                    quoted: name,
                    name: column.name.clone(),
                    kind: column.kind,
                    key: column.key.clone(),
                })
            })
            .transpose()?,
        condition: from.condition.clone(),
        columns: catalogue.columns.clone(),
        changed: None,
        shape: TableShape {
            fingerprint: fingerprint(&used),
            unique_keys: has_unique_keys(dialect, from, key, &absent, catalogue),
            estimated_rows: catalogue.estimated_rows,
            estimated_bytes: catalogue.estimated_bytes,
            single_integer,
            absent,
        },
    })
}

/// Returns whether an index sees to it that no two rows write one key.
///
/// Not in SQLite, which keeps `1` and `'1'` apart, that are one key; and not for a type whose texts are not exact.
fn has_unique_keys(
    dialect: Dialect,
    from: &RowSource,
    key: &Column,
    absent: &[String],
    catalogue: &Catalogue,
) -> bool {
    let mut unique = catalogue.unique.iter();
    dialect != Dialect::Sqlite
        && key.key.is_some()
        && from.key_columns(absent).len() == 1
        && unique.any(|index| index.columns == [from.key.as_str()])
}

/// Returns the error for columns that are not what they were when the resource was bound.
pub fn schema_changed(table: &str, had: &str, now: &str) -> EdgeError {
    EdgeError::new(
        ErrorKind::SchemaChanged,
        format!(
            "the columns of `{table}` changed under the run: they were [{had}], now [{now}]; put them back, or begin anew with \
             `--new`"
        ),
    )
}

/// Returns the error for a table that the catalogue does not have, with the nearest of `tables`.
pub(super) fn missing_table(place: &str, table: &str, tables: &[String]) -> EdgeError {
    let near = near(table, tables.iter().map(String::as_str));
    EdgeError::new(
        ErrorKind::Missing,
        format!(
            "{place} has no table `{}`{}",
            table.escape_default(),
            did_you_mean(&near)
        ),
    )
    .about(Subject::Table { near })
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
            let near = near(name, columns.iter().map(|column| column.name.as_str()));
            missing_column(place, table, (name.to_owned(), near), Vec::new())
        })
}

/// Returns the error for every column of the plan that the table has not, the optional ones excepted; `None` where it has all.
fn missing_columns(place: &str, from: &RowSource, columns: &[Column]) -> Option<EdgeError> {
    let names = || columns.iter().map(|column| column.name.as_str());
    let beside = from.beside().filter(|one| !one.optional);
    let wanted = from
        .cursor
        .iter()
        .map(String::as_str)
        .chain([from.key.as_str(), from.value.as_str()])
        .chain(from.entity.as_deref())
        .chain(beside.map(|one| one.name));
    let mut missing: Vec<(String, Vec<String>)> = Vec::new();
    for name in wanted {
        let is_told = missing.iter().any(|(told, _)| told == name);
        if !is_told && !names().any(|known| known == name) {
            missing.push((name.to_owned(), near(name, names())));
        }
    }
    let mut missing = missing.into_iter();
    let first = missing.next()?;
    Some(missing_column(place, &from.table, first, missing.collect()))
}

fn missing_column(
    place: &str,
    table: &str,
    (name, near): (String, Vec<String>),
    more: Vec<(String, Vec<String>)>,
) -> EdgeError {
    let others: Vec<_> = more
        .iter()
        .map(|(name, near)| format!(", nor `{}`{}", name.escape_default(), did_you_mean(near)))
        .collect();
    EdgeError::new(
        ErrorKind::Missing,
        format!(
            "table `{table}` at {place} has no column `{}`{}{}",
            name.escape_default(),
            did_you_mean(&near),
            others.concat()
        ),
    )
    .about(Subject::Column { name, near, more })
}

/// Refuses an entity whose ids would not find its rows again.
fn check_entity(place: &str, table: &str, entity: Option<&Column>) -> Result<(), EdgeError> {
    let Some(inexact) = entity.filter(|one| !one.is_id) else {
        return Ok(());
    };
    Err(EdgeError::new(
        ErrorKind::Refused,
        format!(
            "`{}` of table `{table}` at {place} cannot be the entity: its type is {}, whose values have no text that finds them \
             again; name another column as `from.entity`, or none",
            inexact.name, inexact.type_text
        ),
    ))
}

/// A column and how it serves in the cursor.
type TypedColumn<'a> = (&'a Column, &'a KeyType);

/// Returns the cursor's columns with their types, and the hint that forces their index.
fn check_cursor<'a>(
    place: &str,
    from: &RowSource,
    catalogue: &'a Catalogue,
) -> Result<(Vec<TypedColumn<'a>>, String), EdgeError> {
    let columns: Vec<&Column> = from
        .cursor
        .iter()
        .map(|name| find_column(place, &from.table, name, &catalogue.columns))
        .collect::<Result<_, _>>()?;
    let typed: Option<Vec<_>> = columns
        .iter()
        .map(|column| Some((*column, column.key.as_ref()?)))
        .collect();
    let index = catalogue
        .unique
        .iter()
        .find(|index| index.columns == from.cursor);
    if let (Some(typed), Some(index)) = (typed, index)
        && columns.iter().all(|column| !column.nullable)
    {
        return Ok((typed, index.hint.clone()));
    }

    let why = columns
        .iter()
        .find_map(|column| {
            let name = match columns.len() {
                1 => "it".to_owned(),
                _ => format!("`{}`", column.name),
            };
            if column.key.is_none() {
                Some(format!("the type of {name} is {}", column.type_text))
            } else {
                column.nullable.then(|| format!("{name} may be NULL"))
            }
        })
        .unwrap_or_else(|| match columns.len() {
            1 => "it has no unique index of its own".to_owned(),
            _ => "no unique index has exactly these columns in this order".to_owned(),
        });
    let candidates: Vec<String> = catalogue
        .unique
        .iter()
        .filter(|index| {
            index.columns.iter().all(|name| {
                catalogue
                    .columns
                    .iter()
                    .any(|column| column.name == *name && column.key.is_some() && !column.nullable)
            })
        })
        .map(|index| index.columns.join(", "))
        .collect();
    let advice = if candidates.is_empty() {
        "; no index of the table would do: it needs a PRIMARY or UNIQUE index whose columns are NOT NULL and neither \
         floating-point numbers nor parts of columns"
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
    )
    .about(Subject::Cursor {
        why,
        would_do: candidates,
    }))
}

/// Returns the expression that gives a cursor column's value as it is read.
fn selected(dialect: Dialect, kind: KeyKind, quoted: &str) -> String {
    match (dialect, kind) {
        (Dialect::Sqlite, _)
        | (_, KeyKind::Int | KeyKind::Uint | KeyKind::Text | KeyKind::Bytes | KeyKind::Any) => {
            quoted.to_owned()
        }
        (Dialect::Mysql, _) => format!("CAST({quoted} AS CHAR)"),
        (Dialect::Postgres, _) => format!("CAST({quoted} AS text)"),
    }
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

/// Returns the expression that gives a column's value as the text that stands for it in `--ids`.
fn id_of(dialect: Dialect, column: &Column, quoted: &str) -> String {
    let is_binary = matches!(&column.key, Some(key) if key.kind == KeyKind::Bytes);
    match dialect {
        Dialect::Sqlite => format!(
            "CASE typeof({quoted}) WHEN 'blob' THEN '0x' || lower(hex({quoted})) ELSE CAST({quoted} AS TEXT) END"
        ),
        Dialect::Mysql if is_binary => format!("CONCAT('0x', LOWER(HEX({quoted})))"),
        Dialect::Postgres if is_binary => format!("('0x' || encode({quoted}, 'hex'))"),
        Dialect::Mysql | Dialect::Postgres => bytes_of(dialect, column, quoted),
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

/// Returns up to three names that are near `wanted`.
fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let near = nearest(wanted, names, 3);
    near.into_iter().map(str::to_owned).collect()
}

/// Returns `; did you mean ...?` with these names, or nothing.
fn did_you_mean(near: &[String]) -> String {
    match near {
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
            more_keys: crate::plan::MoreKeys::default(),
            condition: None,
            reads_ids: false,
        }
    }

    pub fn catalogue() -> Catalogue {
        let column = |name: &str, type_text: &str, kind, nullable| Column {
            name: name.into(),
            type_text: type_text.into(),
            kind,
            key: match kind {
                ColumnKind::Integer { unsigned: true } => Some(KeyType::bare(KeyKind::Uint)),
                ColumnKind::Integer { unsigned: false } => Some(KeyType::bare(KeyKind::Int)),
                ColumnKind::Bytes => Some(KeyType::bare(KeyKind::Text)),
                ColumnKind::Other if type_text.starts_with("decimal") => {
                    Some(KeyType::cast(KeyKind::Decimal, "DECIMAL(65,2)"))
                }
                _ => None,
            },
            is_id: type_text != "double",
            nullable,
            indexed: false,
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
                column("store", "varchar(2)", ColumnKind::Bytes, false),
                column("price", "decimal(10,2)", ColumnKind::Other, false),
                column("weight", "double", ColumnKind::Other, false),
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
                UniqueIndex {
                    hint: "FORCE INDEX (`three`)".into(),
                    columns: vec!["store".into(), "price".into(), "fk_url".into()],
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
        assert_eq!(checked.cursor.len(), 1);
        assert_eq!(checked.cursor[0].quoted, "`id_url`");
        assert_eq!(checked.cursor[0].key.kind, KeyKind::Uint);
        assert_eq!(checked.hint, "FORCE INDEX (`PRIMARY`)");
        assert!(checked.shape.single_integer);
        assert_eq!(checked.value, "CONVERT(`data` USING utf8mb4)");
        assert_eq!(checked.ids.expect("one column").name, "id_url");
        assert_eq!(
            checked.shape.fingerprint,
            "id_url bigint(20) unsigned not null; key varchar(255); data text"
        );
    }

    #[test]
    fn an_index_over_the_key_keeps_rows_from_writing_one_key() {
        let unique = |dialect, key: &str, more: bool| {
            let mut catalogue = catalogue();
            for columns in [["key"], ["weight"]] {
                catalogue.unique.push(UniqueIndex {
                    hint: String::new(),
                    columns: columns.map(str::to_owned).to_vec(),
                });
            }
            let mapping = more.then(|| crate::plan::KeyColumn {
                name: "store".into(),
                optional: false,
            });
            let from = RowSource {
                key: key.into(),
                more_keys: crate::plan::MoreKeys {
                    aliases: None,
                    mapping,
                },
                ..from(&["id_url"])
            };
            let checked = check(dialect, "here", &from, &catalogue).expect("checked");
            checked.shape.unique_keys
        };
        assert!(unique(Dialect::Mysql, "key", false));
        assert!(!unique(Dialect::Mysql, "key", true), "further keys");
        assert!(!unique(Dialect::Mysql, "store", false), "no index");
        assert!(!unique(Dialect::Mysql, "weight", false), "no exact text");
        assert!(!unique(Dialect::Sqlite, "key", false), "no types");
    }

    #[test]
    fn several_columns_of_one_unique_index_are_a_cursor() {
        let cursor = from(&["store", "price", "fk_url"]);
        let checked = check(Dialect::Mysql, "here", &cursor, &catalogue()).expect("checked");
        assert_eq!(checked.hint, "FORCE INDEX (`three`)");
        assert!(!checked.shape.single_integer);
        assert!(checked.ids.is_none(), "no single column to filter by");
        let selected: Vec<&str> = checked.cursor.iter().map(|one| &*one.selected).collect();
        assert_eq!(selected, ["`store`", "CAST(`price` AS CHAR)", "`fk_url`"]);
        assert!(checked.shape.fingerprint.starts_with(
            "store varchar(2) not null; price decimal(10,2) not null; fk_url int(11) not null; key"
        ));
    }

    #[test]
    fn other_cursors_are_refused_with_what_would_do() {
        for (cursor, why) in [
            (&["weight"][..], "the type of it is double"),
            (&["fk_url"], "it has no unique index of its own"),
            (&["fk_old"], "it may be NULL"),
            (&["fk_url", "key"], "`key` may be NULL"),
            (&["store", "weight"], "the type of `weight` is double"),
            (
                &["price", "store", "fk_url"],
                "no unique index has exactly these columns in this order",
            ),
        ] {
            let (kind, message) = refusal(&from(cursor));
            assert_eq!(kind, ErrorKind::Refused);
            assert_eq!(
                message,
                format!(
                    "`{}` of table `url` at mariadb at h:1/d cannot be the cursor: {why}; `id_url` or `store, price, fk_url` \
                     would do",
                    cursor.join(", ")
                )
            );
        }
    }

    #[test]
    fn what_has_no_exact_text_is_no_entity() {
        let (kind, message) = refusal(&RowSource {
            entity: Some("weight".into()),
            ..from(&["id_url"])
        });
        assert_eq!(kind, ErrorKind::Refused);
        assert!(
            message.starts_with("`weight` of table `url` at mariadb at h:1/d cannot be the entity: its type is double,"),
            "{message}"
        );
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
