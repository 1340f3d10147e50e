//! A vhost of our own on the test broker, where each worker has queues of its own names.

use std::process::{self, Command};

use crate::support::server_url;

/// A vhost, gone with this value.
pub struct Vhost {
    name: String,
}

/// The queues of one worker.
#[derive(Debug, Clone)]
pub struct Queues {
    /// The URL of the vhost.
    pub url: String,
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

    /// Makes the queues of worker `lane`, for a consumer waits for nobody to make them. What they are bound to the program
    /// makes.
    pub fn queues(&self, lane: u32) -> Queues {
        let prefix = format!("rk.{lane}");
        for resource in ["url", "page", "menu"] {
            for end in ["", ".error"] {
                let path = format!("queues/{}/{prefix}.{resource}{end}", self.name);
                assert!(ask("PUT", &path, r#"{"durable":true}"#), "no {path}");
            }
        }
        let url = server_url("RABBITMQ_URL");
        let (server, _) = url.rsplit_once('/').expect("a URL with a vhost");
        Queues {
            url: format!("{server}/{}", self.name),
            prefix,
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
