//! A vhost of our own on the test broker, where each worker has queues of its own names.

use std::process::{self, Command};

use crate::support::server_url;

/// The resources, each with an exchange of its own.
const RESOURCES: [&str; 3] = ["url", "page", "menu"];

/// The queues of one exchange: how their names end, and what is routed there.
const ENDS: [(&str, &str); 2] = [("", ""), (".error", "error")];

/// A vhost, gone with this value.
pub struct Vhost {
    name: String,
}

/// The queues of one worker.
#[derive(Debug, Clone)]
pub struct Queues {
    /// The URL of the vhost.
    pub url: String,
    vhost: String,
    /// How long their consumer rests when they are empty, in milliseconds.
    pub rest_ms: u32,
    /// What the names of its queues begin with.
    pub prefix: String,
}

impl Vhost {
    /// Makes one at the broker that `tests/servers/up` started.
    pub fn create() -> Self {
        let name = format!("rk_enumerator_{}", process::id());
        assert!(ask("PUT", &format!("vhosts/{name}"), "{}"), "no vhost");
        let rights = r#"{"configure":".*","write":".*","read":".*"}"#;
        let path = format!("permissions/{name}/app");
        assert!(ask("PUT", &path, rights), "no rights in {name}");
        Self { name }
    }

    /// Makes the queues of worker `lane` as the shop sets them up: a consumer does not wait until a run has.
    pub fn queues(&self, lane: u32) -> Queues {
        let prefix = format!("rk.{lane}");
        for resource in RESOURCES {
            let (vhost, exchange) = (&self.name, format!("{prefix}.{resource}"));
            let durable = r#"{"type":"direct","durable":true}"#;
            let path = format!("exchanges/{vhost}/{exchange}");
            assert!(ask("PUT", &path, durable), "no {path}");
            for (end, key) in ENDS {
                let queue = format!("{exchange}{end}");
                let path = format!("queues/{vhost}/{queue}");
                assert!(ask("PUT", &path, r#"{"durable":true}"#), "no {path}");
                let path = format!("bindings/{vhost}/e/{exchange}/q/{queue}");
                let key = format!(r#"{{"routing_key":"{key}"}}"#);
                assert!(ask("POST", &path, &key), "no {path}");
            }
        }
        let url = server_url("RABBITMQ_URL");
        let (server, _) = url.rsplit_once('/').expect("a URL with a vhost");
        Queues {
            url: format!("{server}/{}", self.name),
            vhost: self.name.clone(),
            rest_ms: 20,
            prefix,
        }
    }
}

impl Queues {
    /// Throws away what is in them.
    pub fn purge(&self) {
        for resource in RESOURCES {
            for (end, _) in ENDS {
                let queue = format!("{}.{resource}{end}", self.prefix);
                let path = format!("queues/{}/{queue}/contents", self.vhost);
                assert!(ask("DELETE", &path, ""), "{queue} is not emptied");
            }
        }
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        // A test that failed has more to say than this.
        ask("DELETE", &format!("vhosts/{}", self.name), "");
    }
}

/// Asks the management plugin; returns whether it did what was asked.
fn ask(method: &str, path: &str, body: &str) -> bool {
    let done = Command::new("curl")
        .args(["-sfo", "/dev/null", "-X", method, "-d", body])
        .args(["-H", "content-type: application/json"])
        .arg(format!("{}/{path}", server_url("RABBITMQ_API")))
        .status();
    done.expect("curl starts").success()
}
