//! The small database that every run restores, and what a target must hold of it.

use std::{collections::BTreeMap, path::Path};

use rusqlite::Connection;

/// One row of a resource's table.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its cursor.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// Its value; NULL is a dead letter.
    pub value: Option<String>,
}

/// Every row by resource, in key order.
pub type Shop = BTreeMap<&'static str, Vec<Row>>;

/// Returns three resources of 60 rows with gaps, a NULL, an empty value, a value of several hundred bytes and ids up
/// to 2^62. `url` and `page` are walked side by side, `menu` comes after `url`.
pub fn shop() -> Shop {
    let row = |resource: &str, id: i64| Row {
        id,
        key: format!("{resource}:{id}"),
        value: match (resource, id) {
            ("url", 45) => None,
            ("url", 7) => Some(String::new()),
            ("page", 104) => Some("ä\r\n$3".repeat(100)),
            _ => Some(format!("{{\"{resource}\": {id}}}")),
        },
    };
    let rows = |resource: &'static str, ids: Vec<i64>| {
        (
            resource,
            ids.into_iter().map(|id| row(resource, id)).collect(),
        )
    };
    BTreeMap::from([
        rows("url", (3..16).chain(40..50).collect()),
        rows(
            "page",
            (1..10).chain(101..115).chain([1 << 31, 1 << 62]).collect(),
        ),
        rows("menu", (100..112).collect()),
    ])
}

/// Returns the shop of a search server, or of messages: as [`shop`], with documents for what is none.
pub fn documents() -> Shop {
    let mut shop = shop();
    for row in shop.values_mut().flatten() {
        match row.key.as_str() {
            "url:7" => row.value = Some("{\"empty\": \"\"}".to_owned()),
            "page:104" => {
                row.value = Some(format!("{{\"text\": \"{}\"}}", "ä\\r\\n$3".repeat(100)));
            }
            _ => {}
        }
    }
    shop
}

/// Writes the shop into a new SQLite file.
pub fn write(shop: &Shop, path: &Path) {
    let connection = Connection::open(path).expect("a SQLite file can be made");
    for (resource, rows) in shop {
        connection
            .execute_batch(&format!(
                "CREATE TABLE {resource} (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT)"
            ))
            .expect("a table");
        for row in rows {
            connection
                .execute(
                    &format!("INSERT INTO {resource} VALUES (?1, ?2, ?3)"),
                    (row.id, &row.key, &row.value),
                )
                .expect("a row");
        }
    }
}

/// Makes the database in which the publisher notes what it was called with. It mends nothing: what was broken is read
/// again and stays a dead letter.
pub fn write_publisher(path: &Path) {
    let connection = Connection::open(path).expect("a SQLite file can be made");
    connection
        .execute_batch("CREATE TABLE called (id INTEGER PRIMARY KEY)")
        .expect("a table");
}

/// Steps around the resources. None of them can be done twice, nor undone twice: `mkdir` and `rmdir` refuse.
pub fn steps(jenkins: &str) -> String {
    format!(
        "prepare:\n  \
         - maintenance: {{ on: \"mkdir flag\", check: \"test -d flag\", off: \"rmdir flag\" }}\n  \
         - shell: {{ run: \"mkdir migrated && echo migrate >> calls\", check: \"test -d migrated\" }}\n\
         finish:\n  \
         - shell: {{ run: \"mkdir warmed && echo warm >> calls\", check: \"test -d warmed\" }}\n  \
         - maintenance_off: {{}}\n  \
         - jenkins_build: {{ job: shop/resync, shell: a }}\n\
         jenkins: {{ url: \"{jenkins}\", user: deploy, token: \"${{file:token}}\" }}\n"
    )
}

/// The broker at `url`, which the program may make queues at.
pub fn broker(url: &str) -> String {
    format!("broker: {{ url: \"{url}\", declare: true }}\n")
}

/// How the rows get to their target.
pub enum By<'a> {
    /// They are written there. The broken row of `url` goes to a publisher.
    Writing,
    /// The same, with resources that have a type, as those of an index.
    Documents,
    /// As messages in queues whose names begin like this.
    Queues(&'a str),
}

/// Returns the plan that restores the shop at `shop` to `target`, with `more` at its end.
pub fn plan(shop: &Path, target: &str, by: &By, more: &str) -> String {
    let resource = |name: &str, after: &str| {
        let fallback = if name == "url" && !matches!(by, By::Queues(_)) {
            "    fallback:\n      ids: { table: url, column: id }\n      by: { sql: { url: \"sqlite:publisher.db\", \
             statement: \"INSERT OR REPLACE INTO called SELECT value FROM json_each('[{ids}]')\" } }\n"
        } else {
            ""
        };
        let own = match by {
            By::Writing => String::new(),
            By::Documents => format!("    type: {name}\n"),
            By::Queues(prefix) => format!("    sync: queue\n    queue: {prefix}.{name}\n"),
        };
        format!(
            "  - name: {name}\n    after: [{after}]\n    to: storage\n{own}    \
             from: {{ table: {name}, cursor: [id], key: key, value: value, entity: id }}\n{fallback}"
        )
    };
    format!(
        "version: 1\nname: shop\nsource: {{ url: \"sqlite:{}\" }}\ntargets:\n  storage: {target}\n\
         defaults:\n  chunk: {{ rows: 5 }}\n  retry: {{ attempts: 4, base: 2ms, cap: 10ms, within: 100ms }}\n\
         resources:\n{}{}{}{more}",
        shop.display(),
        resource("url", ""),
        resource("page", ""),
        resource("menu", "url"),
    )
}
