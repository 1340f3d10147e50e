//! Reads `information_schema` of the connected database.

use sqlx::{MySqlConnection, Row, mysql::MySqlRow};

use crate::source::{
    ReadModel,
    quote::{self, Dialect},
    shape::{Catalogue, Column, ColumnKind, KeyKind, KeyType, UniqueIndex},
};

/// Returns every table and view, sorted.
pub(super) async fn tables(connection: &mut MySqlConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name",
    )
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| text(row, 0))
    .collect()
}

/// Returns the tables that look like read models, sorted.
pub(super) async fn read_models(
    connection: &mut MySqlConnection,
) -> Result<Vec<ReadModel>, sqlx::Error> {
    let names = sqlx::query(
        "SELECT table_name FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' \
         AND (table_name LIKE '%|_storage' ESCAPE '|' OR table_name LIKE '%|_search' ESCAPE '|' OR table_name IN ( \
           SELECT table_name FROM information_schema.columns \
           WHERE table_schema = DATABASE() AND column_name IN ('key', 'data') \
           GROUP BY table_name HAVING COUNT(*) = 2)) \
         ORDER BY table_name",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut found = Vec::new();
    for row in &names {
        let name = text(row, 0)?;
        // A table may be gone by now.
        if let Some(catalogue) = table(connection, &name).await? {
            found.push(ReadModel::of(vec![name], &catalogue));
        }
    }
    Ok(found)
}

/// Returns what is known of `table`, or `None` where there is none of exactly that name.
pub(super) async fn table(
    connection: &mut MySqlConnection,
    table: &str,
) -> Result<Option<Catalogue>, sqlx::Error> {
    // Numbers as text, for their types differ between servers and versions.
    let found = sqlx::query(
        "SELECT table_name, COALESCE(CAST(table_rows AS CHAR), '0'), CAST(data_length AS CHAR) \
         FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
    )
    .bind(table)
    .fetch_all(&mut *connection)
    .await?;
    let mut exact = None;
    for row in &found {
        // information_schema compares without regard to case; names are meant exactly.
        if text(row, 0)? == table {
            exact = Some(row);
        }
    }
    let Some(row) = exact else { return Ok(None) };
    let mut catalogue = Catalogue {
        table: None,
        columns: Vec::new(),
        unique: Vec::new(),
        estimated_rows: text(row, 1)?.parse().unwrap_or(0),
        estimated_bytes: text(row, 2)?.parse().ok(),
    };
    // The bare comparison lets the server open this one table only; the second keeps its exact name.
    let columns = sqlx::query(
        "SELECT column_name, data_type, column_type, is_nullable, COALESCE(character_set_name, '') \
         FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND BINARY table_name = ? \
         ORDER BY ordinal_position",
    )
    .bind(table)
    .bind(table)
    .fetch_all(&mut *connection)
    .await?;
    for row in &columns {
        let (data_type, type_text) = (text(row, 1)?, text(row, 2)?);
        catalogue.columns.push(Column {
            name: text(row, 0)?,
            kind: kind(&data_type, &type_text, &text(row, 4)?),
            key: key(&data_type, &type_text),
            is_id: is_id(&data_type, &type_text),
            nullable: text(row, 3)? != "NO",
            indexed: false,
            type_text,
        });
    }

    let parts = sqlx::query(
        "SELECT index_name, column_name, CASE WHEN sub_part IS NULL THEN 'whole' ELSE 'prefix' END, \
         COALESCE(collation, ''), CAST(non_unique AS CHAR), CAST(seq_in_index AS CHAR) \
         FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? AND BINARY table_name = ? \
         ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
    )
    .bind(table)
    .bind(table)
    .fetch_all(&mut *connection)
    .await?;
    let mut last = None;
    let mut direction = String::new();
    for row in &parts {
        let name = text(row, 0)?;
        if text(row, 5)? == "1" {
            let first = text(row, 1)?;
            let mut columns = catalogue.columns.iter_mut();
            if let Some(column) = columns.find(|column| column.name == first) {
                column.indexed = true;
            }
        }
        if text(row, 4)? != "0" {
            continue;
        }
        if last.as_ref() != Some(&name) {
            let Some(quoted) = quote::identifier(Dialect::Mysql, &name) else {
                continue;
            };
            catalogue.unique.push(UniqueIndex {
                hint: format!("FORCE INDEX ({quoted})"),
                columns: Vec::new(),
            });
            last = Some(name);
            direction = text(row, 3)?;
        }
        if let Some(index) = catalogue.unique.last_mut() {
            // A unique prefix of a column says nothing of the whole, and an index with columns in both directions is not
            // sorted as the pages are: no column has the empty name.
            let whole = text(row, 2)? == "whole" && text(row, 3)? == direction;
            index
                .columns
                .push(if whole { text(row, 1)? } else { String::new() });
        }
    }
    Ok(Some(catalogue))
}

fn kind(data_type: &str, type_text: &str, charset: &str) -> ColumnKind {
    match data_type.to_ascii_lowercase().as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => ColumnKind::Integer {
            unsigned: type_text.to_ascii_lowercase().contains("unsigned"),
        },
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => {
            match charset {
                "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => ColumnKind::Bytes,
                _ => ColumnKind::ForeignText,
            }
        }
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "json" => {
            ColumnKind::Bytes
        }
        _ => ColumnKind::Other,
    }
}

/// Returns how a column serves in a cursor. Values are cast back to what they were: compared as bare text, a decimal
/// would be compared as a floating-point number. Text is bound bare: the column's own collation wins over that of a
/// parameter, and a latin1 column has its parameter converted, not itself.
fn key(data_type: &str, type_text: &str) -> Option<KeyType> {
    let data_type = data_type.to_ascii_lowercase();
    Some(match data_type.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => {
            KeyType::bare(if type_text.to_ascii_lowercase().contains("unsigned") {
                KeyKind::Uint
            } else {
                KeyKind::Int
            })
        }
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            KeyType::bare(KeyKind::Text)
        }
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            KeyType::bare(KeyKind::Bytes)
        }
        "decimal" => {
            // `decimal(10,2) unsigned`: all digits, those behind the point.
            let scale = type_text.split([',', ')']).nth(1)?.trim();
            KeyType::cast(
                KeyKind::Decimal,
                format!("DECIMAL(65,{})", scale.parse::<u8>().ok()?),
            )
        }
        "date" => KeyType::cast(KeyKind::Date, "DATE"),
        "datetime" | "timestamp" => KeyType::cast(KeyKind::Timestamp, "DATETIME(6)"),
        "time" => KeyType::cast(KeyKind::Time, "TIME(6)"),
        "uuid" => KeyType::cast(KeyKind::Uuid, "UUID"),
        _ => return None,
    })
}

/// Returns whether the text of a value finds it again. BIT reads as bytes, numbers with a floating point are shortened.
fn is_id(data_type: &str, type_text: &str) -> bool {
    let compared_as_text = ["enum", "set", "year", "inet4", "inet6"];
    key(data_type, type_text).is_some()
        || compared_as_text.contains(&data_type.to_ascii_lowercase().as_str())
}

/// NULL reads as empty. Names are text on MariaDB and binary text on MySQL 8, hence unchecked.
fn text(row: &MySqlRow, column: usize) -> Result<String, sqlx::Error> {
    let bytes: Option<&[u8]> = row.try_get_unchecked(column)?;
    Ok(String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned())
}
