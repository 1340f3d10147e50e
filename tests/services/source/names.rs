//! Names from a plan are names to every engine, whatever they are made of: none becomes a statement.

use std::sync::Arc;

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use rekindle::{
    error::ErrorKind,
    plan::{RowSource, SourceKind},
    source::{RowQuery, Source},
};
use tempfile::TempDir;

use super::{all, keys, rows::Rows, url_table, walk};
use crate::{postgres::PgDatabase, support::Database};

/// What ends names, strings, statements and comments, what stands for values in them, and what two encodings take for
/// each other.
const PARTS: &str = r#"'|"|`|;|--|/*|*/|#|\|\'|\"|?|$1|:a|@@x|%s|(|)|,|=|.| |a|B|ß|é|¿|' OR 1=1|; DROP TABLE bystander"#;

fn names() -> Vec<String> {
    let parts: Vec<&str> = PARTS.split('|').collect();
    let name = proptest::collection::vec(proptest::sample::select(parts), 1..5)
        .prop_map(|parts| parts.concat())
        // Servers cut blanks at the end, and names at 63 bytes.
        .prop_filter("a name that is kept", |name| {
            !name.ends_with(' ') && name.len() < 60 && name != "." && name != "bystander"
        });
    let mut runner = TestRunner::new(Config::default());
    let drawn = (0..60).map(|_| name.new_tree(&mut runner).expect("a name").current());
    let mut names: Vec<String> = drawn.collect();
    names.sort_by_key(|name| name.to_lowercase());
    names.dedup_by_key(|name| name.to_lowercase());
    names
}

/// A table of this name, whose columns have names like it, with one row.
fn made(name: &str, quote: char) -> String {
    let quoted = |name: &str| {
        let inner = name.replace(quote, &format!("{quote}{quote}"));
        format!("{quote}{inner}{quote}")
    };
    let columns = ["", "k", "v"].map(|end| quoted(&format!("{name}{end}")));
    let table = quoted(name);
    let [id, key, value] = columns;
    format!(
        "CREATE TABLE {table} ({id} INT NOT NULL PRIMARY KEY, {key} VARCHAR(20), {value} VARCHAR(20)); \
         INSERT INTO {table} VALUES (1, 'k', 'v')"
    )
}

/// Asserts that each name reads its own table, and that one which is not there is only missing.
async fn assert_names(source: Arc<dyn Source>, names: &[String]) {
    for name in names {
        let from = RowSource {
            cursor: vec![name.clone()],
            key: format!("{name}k"),
            value: format!("{name}v"),
            ..url_table(name)
        };
        let described = source.describe(&from).await;
        described.unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut rows = Rows::new(10, 10);
        let query = RowQuery {
            from: from.clone(),
            ..all(name)
        };
        walk(&*source, &query, 2, &mut rows).await;
        assert_eq!(rows.kept.len(), 1, "{name}");
        for absent in [
            RowSource {
                table: format!("{name}; DROP TABLE bystander"),
                ..from.clone()
            },
            RowSource {
                table: format!("{name}\0"),
                ..from.clone()
            },
            RowSource {
                key: format!("{name}\0; DROP TABLE bystander"),
                ..from.clone()
            },
            RowSource {
                key: format!("{name}' OR '"),
                ..from.clone()
            },
        ] {
            let error = source.describe(&absent).await.expect_err("it is not there");
            // No text of PostgreSQL holds a NUL, not even one that is looked for.
            let is_odd = error.kind == ErrorKind::Refused
                && [&absent.table, &absent.key]
                    .iter()
                    .any(|name| name.contains('\0'));
            assert!(is_odd || error.kind == ErrorKind::Missing, "{error}");
        }
    }
    let mut rows = Rows::new(10, 10);
    walk(&*source, &all("bystander"), 1, &mut rows).await;
    assert_eq!(rows.kept.len(), 1, "the table beside them");
}

const BYSTANDER: &str = "CREATE TABLE bystander (id INT NOT NULL PRIMARY KEY, `key` VARCHAR(9), data VARCHAR(9)); \
    INSERT INTO bystander VALUES (1, 'k', 'v');";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_names_are_names_to_every_engine_whatever_they_are_made_of() {
    let names = names();
    assert!(names.len() > 30, "{}", names.len());

    let mut database = Database::create("names").await;
    database.execute(BYSTANDER).await;
    for name in &names {
        database.execute(made(name, '`')).await;
    }
    assert_names(super::connect(&database).await, &names).await;

    let mut database = PgDatabase::create("names").await;
    database.execute(BYSTANDER.replace('`', "\"")).await;
    for name in &names {
        database.execute(made(name, '"')).await;
    }
    let source = keys::connect(SourceKind::Postgres, database.url()).await;
    assert_names(source, &names).await;

    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("names.db");
    let db = rusqlite::Connection::open(&path).expect("opens");
    db.execute_batch(BYSTANDER).expect("runs");
    for name in &names {
        db.execute_batch(&made(name, '"')).expect("runs");
    }
    let source = keys::connect(SourceKind::Sqlite, format!("sqlite:{}", path.display())).await;
    assert_names(source, &names).await;
}
