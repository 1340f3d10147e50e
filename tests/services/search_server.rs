//! A search server for one test: one that `tests/servers/up` started, emptied, or a private one with settings of its own.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{redis_server::free_port, shop::wait_until, support::server_url};

/// Documents by id.
pub type Documents = HashMap<String, Value>;

pub struct SearchServer {
    port: u16,
    private: Option<Private>,
}

struct Private {
    product: &'static str,
    settings: Vec<&'static str>,
    folder: TempDir,
    node: Option<Child>,
}

impl SearchServer {
    /// Returns the shared server of this product, without the indexes of earlier tests.
    pub fn shared(product: &str) -> Self {
        let url = server_url(&format!("{}_URL", product.to_uppercase()));
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
        let server = Self {
            port: port.expect("a URL with a port"),
            private: None,
        };
        server.ask("DELETE", "/t_*,rekindle?ignore_unavailable=true", None);
        server
    }

    /// Starts a node with these lines in its settings.
    pub fn private(product: &'static str, settings: &[&'static str]) -> Self {
        let mut server = Self {
            port: free_port(),
            private: Some(Private {
                product,
                settings: settings.to_vec(),
                folder: TempDir::new().expect("a folder for a node"),
                node: None,
            }),
        };
        server.launch();
        server
    }

    /// Starts a private node that is not running, with the data it had.
    pub fn launch(&mut self) {
        let port = self.port;
        let private = self.private.as_mut().expect("a private node");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/search-node.sh");
        let node = Command::new(script)
            .arg(private.product)
            .arg(private.folder.path())
            .arg(port.to_string())
            .args(&private.settings)
            .env("HEAP", "256m")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a search node starts");
        private.node = Some(node);
        wait_until("the node answers", || {
            self.try_ask(
                "GET",
                "/_cluster/health?wait_for_status=yellow&timeout=1s",
                None,
            )
            .is_some_and(|(status, _)| status == 200)
        });
    }

    /// Kills a private node.
    pub fn kill(&mut self) {
        if let Some(mut node) = self
            .private
            .as_mut()
            .and_then(|private| private.node.take())
        {
            node.kill().expect("the node can be killed");
            node.wait().expect("the node ends");
        }
    }

    /// Sends a signal to a private node.
    pub fn signal(&self, signal: Signal) {
        let node = self
            .private
            .as_ref()
            .and_then(|private| private.node.as_ref());
        kill_process(Pid::from_child(node.expect("a node")), signal).expect("it is there");
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns status and answer; a client of its own, so that the program under test plays no part.
    pub fn ask(&self, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
        self.try_ask(method, path, body)
            .unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    fn try_ask(&self, method: &str, path: &str, body: Option<&str>) -> Option<(u16, Value)> {
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

    /// As [`Self::ask`], for requests that have to succeed.
    #[track_caller]
    pub fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = body.to_string();
        let (status, answer) = self.ask(method, path, (!body.is_null()).then_some(&text));
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// Creates an index whose field `n` takes numbers only.
    pub fn create(&self, index: &str) {
        let body = json!({
            "settings": { "index": { "number_of_shards": 2, "number_of_replicas": 1, "refresh_interval": "30s" } },
            "mappings": { "properties": { "n": { "type": "long" }, "hash": { "type": "keyword" } } },
        });
        self.must("PUT", &format!("/{index}"), &body);
    }

    /// Returns one setting of an index, as it was set.
    pub fn setting(&self, index: &str, name: &str) -> Value {
        let found = self.must(
            "GET",
            &format!("/{index}/_settings?flat_settings=true"),
            &Value::Null,
        );
        found[index]["settings"][name].clone()
    }

    /// Returns every document that a search finds, without asking for a refresh.
    pub fn documents(&self, index: &str) -> Documents {
        let mut found = Documents::new();
        let mut page = self.must(
            "POST",
            &format!("/{index}/_search?scroll=1m"),
            &json!({ "size": 5000, "sort": ["_doc"] }),
        );
        loop {
            let hits = page["hits"]["hits"].as_array().expect("hits").clone();
            if hits.is_empty() {
                return found;
            }
            for hit in hits {
                let id = hit["_id"].as_str().expect("an id").to_owned();
                assert!(
                    found.insert(id, hit["_source"].clone()).is_none(),
                    "an id twice"
                );
            }
            page = self.must(
                "POST",
                "/_search/scroll",
                &json!({ "scroll": "1m", "scroll_id": page["_scroll_id"] }),
            );
        }
    }
}

impl Drop for SearchServer {
    fn drop(&mut self) {
        self.kill();
    }
}
