//! What `expect.php` says a restored shop holds, compared with what Redis and the search server hold.

use std::{
    collections::{BTreeMap, HashSet},
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{redis_server::RedisServer, search_server::SearchServer};

/// So many pairs or documents are compared at a time; a million of them would not fit into memory.
const PAGE: usize = 1_000;

/// Begins the names of the shop's indexes.
pub const INDEX_PREFIX: &str = "t_shop";

/// PHP at work on a dump of the tables.
pub struct Expectation {
    child: Child,
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Compared {
    pub keys: usize,
    pub documents: usize,
    /// Documents by index.
    pub indexes: BTreeMap<String, u64>,
    /// Rows that PHP cannot export: table and id, in order.
    pub broken: Vec<(String, u64)>,
}

impl Expectation {
    /// Starts PHP for a shop whose values are packed, or not; returns where the dump has to go.
    pub fn start(gzip: bool) -> (Self, ChildStdin) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/spryker");
        let mut child = Command::new("php")
            .args([
                "-n",
                "-d",
                "serialize_precision=-1",
                "-d",
                "display_errors=stderr",
            ])
            .arg(format!("{folder}/expect.php"))
            .arg(format!("{folder}/tables.tsv"))
            .args([INDEX_PREFIX, "DE,AT"])
            .arg(if gzip { "gzip" } else { "none" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("php starts; on Debian it is in the package php-cli");
        let stdin = child.stdin.take().expect("a pipe");
        (Self { child }, stdin)
    }

    /// Reads what PHP says to its end and asserts that both servers hold it, and nothing else.
    pub fn compare(mut self, redis: &RedisServer, search: &SearchServer) -> Compared {
        let client = redis::Client::open(redis.url(0)).expect("a URL");
        let mut connection = client.get_connection().expect("redis answers");
        let mut found = Compared::default();
        let mut pairs = Vec::with_capacity(PAGE);
        let mut documents = Vec::with_capacity(PAGE);
        // A key that is expected twice would hide one that should not be there.
        let mut keys = HashSet::new();
        let lines = BufReader::new(self.child.stdout.take().expect("a pipe")).lines();
        for line in lines {
            let line = line.expect("a line");
            let fields: Vec<_> = line.split(' ').collect();
            match *fields.as_slice() {
                ["R", key, value] => {
                    let key = bytes(key);
                    assert!(
                        keys.insert(key.clone()),
                        "{} is expected twice",
                        key.escape_ascii()
                    );
                    pairs.push((key, bytes(value)));
                }
                ["S", index, id, document] => {
                    let [index, id] =
                        [index, id].map(|field| String::from_utf8(bytes(field)).expect("text"));
                    let document = serde_json::from_slice(&bytes(document)).expect("JSON");
                    *found.indexes.entry(index.clone()).or_default() += 1;
                    documents.push((index, id, document));
                }
                ["D", table, id] => found
                    .broken
                    .push((table.to_owned(), id.parse().expect("an id"))),
                _ => panic!("php said something else: {line}"),
            }
            if pairs.len() == PAGE {
                found.keys += same_values(&mut connection, &mut pairs);
            }
            if documents.len() == PAGE {
                found.documents += same_documents(search, &mut documents);
            }
        }
        assert!(self.child.wait().expect("php ends").success(), "php failed");
        found.keys += same_values(&mut connection, &mut pairs);
        found.documents += same_documents(search, &mut documents);
        assert_eq!(
            redis.ask::<usize>(0, &redis::cmd("DBSIZE")),
            found.keys,
            "keys in Redis"
        );
        assert_eq!(counts(search), found.indexes, "documents by index");
        found.broken.sort_unstable();
        found
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns how many documents each index of the shop holds; empty ones are left out.
fn counts(search: &SearchServer) -> BTreeMap<String, u64> {
    search.must("POST", &format!("/{INDEX_PREFIX}_*/_refresh"), &Value::Null);
    let listed = search.must(
        "GET",
        &format!("/_cat/indices/{INDEX_PREFIX}_*?format=json"),
        &Value::Null,
    );
    let rows = listed.as_array().expect("a list").iter();
    let names = rows.map(|row| row["index"].as_str().expect("a name").to_owned());
    names
        .map(|name| {
            let count = search.must("GET", &format!("/{name}/_count"), &Value::Null);
            (name, count["count"].as_u64().expect("a number"))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Asserts that Redis holds these pairs, empties the list, and returns how many they were.
fn same_values(connection: &mut redis::Connection, pairs: &mut Vec<(Vec<u8>, Vec<u8>)>) -> usize {
    if pairs.is_empty() {
        return 0;
    }
    let keys: Vec<_> = pairs.iter().map(|(key, _)| key).collect();
    let values: Vec<Option<Vec<u8>>> = redis::cmd("MGET")
        .arg(keys)
        .query(connection)
        .expect("MGET");
    let count = pairs.len();
    for ((key, wanted), found) in pairs.drain(..).zip(values) {
        let key = key.escape_ascii();
        let found = found.unwrap_or_else(|| panic!("{key} is missing"));
        assert!(
            found == wanted,
            "{key} is {}, where PHP has {}",
            found.escape_ascii(),
            wanted.escape_ascii()
        );
    }
    count
}

/// As [`same_values`], for documents of search indexes.
fn same_documents(search: &SearchServer, documents: &mut Vec<(String, String, Value)>) -> usize {
    if documents.is_empty() {
        return 0;
    }
    let asked: Vec<_> = documents
        .iter()
        .map(|(index, id, _)| json!({ "_index": index, "_id": id }))
        .collect();
    let answer = search.must("POST", "/_mget", &json!({ "docs": asked }));
    let found = answer["docs"].as_array().expect("documents");
    assert_eq!(found.len(), documents.len());
    for ((index, id, wanted), found) in documents.iter().zip(found) {
        assert_eq!(found["found"], true, "{id} is missing in {index}");
        assert_eq!(&found["_source"], wanted, "{id} in {index}");
    }
    let count = documents.len();
    documents.clear();
    count
}

/// Writes one line of the dump.
pub fn tell(dump: &mut impl Write, line: &str) {
    dump.write_all(line.as_bytes())
        .and_then(|()| dump.write_all(b"\n"))
        .expect("php listens");
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => panic!("not hexadecimal: {hex}"),
    };
    hex.as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
