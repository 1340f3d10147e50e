//! A real search server with an index for each resource, asked by a client of our own.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{shop::Row, support::server_url};

/// The resources, each with an index of its own.
const RESOURCES: [&str; 3] = ["url", "page", "menu"];

/// What an index is set up with, which a run changes while it loads.
const SETTINGS: [(&str, &str); 2] = [
    ("index.refresh_interval", "30s"),
    ("index.number_of_replicas", "1"),
];

/// A server that one run at a time has for itself: the lease is one for the whole cluster.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    port: u16,
}

impl Search {
    /// Returns the server that `tests/servers/up` started.
    pub fn shared() -> Self {
        let url = server_url("ELASTICSEARCH_URL");
        let port = url.trim_end_matches('/').rsplit(':').next();
        Self {
            port: port
                .and_then(|port| port.parse().ok())
                .expect("a URL with a port"),
        }
    }

    /// Returns the target of a plan that writes here.
    pub fn target(self) -> String {
        format!(
            "{{ elasticsearch: {{ url: \"http://127.0.0.1:{}\", index: \"t_{{type}}\", \
             load: {{ refresh: off, replicas: 0 }} }} }}",
            self.port
        )
    }

    /// Makes every index anew.
    pub fn reset(self) {
        self.must("DELETE", "/t_*,rekindle?ignore_unavailable=true", None);
        let settings: BTreeMap<_, _> = SETTINGS.into();
        let body = json!({ "settings": settings }).to_string();
        for resource in RESOURCES {
            self.must("PUT", &format!("/t_{resource}"), Some(&body));
        }
    }

    /// Returns everything here: documents by index and id, what the indexes are set to, and the names of notes of rekindle's
    /// own. What stands in those differs from run to run.
    pub fn content(self) -> BTreeMap<String, Vec<u8>> {
        let mut content = BTreeMap::new();
        for resource in RESOURCES {
            let index = format!("t_{resource}");
            for hit in self.hits(&index) {
                let id = hit["_id"].as_str().expect("an id");
                let document = hit["_source"].to_string();
                content.insert(format!("{index}/{id}"), document.into_bytes());
            }
            let path = format!("/{index}/_settings?flat_settings=true");
            let found = self.must("GET", &path, None);
            for (name, _) in SETTINGS {
                let value = found[&index]["settings"][name].to_string();
                content.insert(format!("{name} of {index}"), value.into_bytes());
            }
        }
        for hit in self.hits("rekindle") {
            let id = hit["_id"].as_str().expect("an id");
            content.insert(format!("note {id}"), Vec::new());
        }
        content
    }

    /// Returns whether `content` has the row of `resource`.
    pub fn holds(content: &BTreeMap<String, Vec<u8>>, resource: &str, row: &Row) -> bool {
        let value = row.value.as_deref().unwrap_or_default();
        let wanted: Value = serde_json::from_str(value).expect("a document");
        let found = content.get(&format!("t_{resource}/{}", row.key));
        found.is_some_and(|found| *found == wanted.to_string().into_bytes())
    }

    /// Holds what an undisturbed run left against what was there before it: `rows` documents, and the settings.
    pub fn check(content: &BTreeMap<String, Vec<u8>>, rows: usize) {
        let documents = content.keys().filter(|key| key.starts_with("t_"));
        assert_eq!(documents.count(), rows, "{:?}", content.keys());
        for resource in RESOURCES {
            for (name, value) in SETTINGS {
                let found = &content[&format!("{name} of t_{resource}")];
                assert_eq!(*found, format!("{value:?}").into_bytes(), "{name}");
            }
        }
    }

    /// Returns every document of an index; none without the index.
    fn hits(self, index: &str) -> Vec<Value> {
        if self.ask("POST", &format!("/{index}/_refresh"), None).0 == 404 {
            return Vec::new();
        }
        let all = self.must("GET", &format!("/{index}/_search?size=1000"), None);
        all["hits"]["hits"].as_array().expect("hits").clone()
    }

    fn must(self, method: &str, path: &str, body: Option<&str>) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// Returns status and answer.
    fn ask(self, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
        self.try_ask(method, path, body)
            .unwrap_or_else(|| panic!("{method} {path}: no answer; tests/servers/up starts it"))
    }

    fn try_ask(self, method: &str, path: &str, body: Option<&str>) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_mins(1))).ok()?;
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        assert!(!head.contains("chunked"), "{head}");
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}
