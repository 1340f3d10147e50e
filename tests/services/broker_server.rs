//! A vhost of its own on the test broker, with queues as the shop sets them up.

use std::{
    fs,
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{self, Command},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{shop::wait_until, support::server_url};

/// How long a message may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// An empty vhost `rk_<name>_<pid>`, gone with this value.
pub struct Vhost {
    name: String,
    /// Kept, as its channels end with it.
    connection: Connection,
    channel: Channel,
}

impl Vhost {
    pub async fn create(name: &str) -> Self {
        let name = format!("rk_{name}_{}", process::id());
        api("PUT", &format!("vhosts/{name}"), "{}");
        let rights = r#"{"configure":".*","write":".*","read":".*"}"#;
        api("PUT", &format!("permissions/{name}/app"), rights);
        let (connection, channel) = open(&name).await;
        Self {
            name,
            connection,
            channel,
        }
    }

    /// Connects anew, after the broker went away.
    pub async fn connect_again(&mut self) {
        (self.connection, self.channel) = open(&self.name).await;
    }

    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    /// Makes these queues, each with its queue of failed messages, as `queue:setup` of the shop does.
    pub async fn set_up(&self, queues: &[&str]) {
        for queue in queues {
            for name in [(*queue).to_owned(), format!("{queue}.error")] {
                self.channel
                    .queue_declare(
                        name.as_str().into(),
                        QueueDeclareOptions::durable(),
                        FieldTable::default(),
                    )
                    .await
                    .expect("a queue");
            }
            self.bind(queue).await;
            self.bind_as(&format!("{queue}.error"), queue, "error")
                .await;
        }
    }

    /// Makes the exchange of a queue that is there.
    pub async fn bind(&self, queue: &str) {
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let none = FieldTable::default();
        self.channel
            .exchange_declare(queue.into(), ExchangeKind::Direct, durable, none)
            .await
            .expect("an exchange");
        self.bind_as(queue, queue, "").await;
    }

    async fn bind_as(&self, queue: &str, exchange: &str, key: &str) {
        let bind = QueueBindOptions::default();
        let none = FieldTable::default();
        self.channel
            .queue_bind(queue.into(), exchange.into(), key.into(), bind, none)
            .await
            .expect("a binding");
    }

    /// Makes `queue`, without an exchange; it refuses what is sent while `most` messages lie in it.
    pub async fn set_up_limited(&self, queue: &str, most: u32) {
        let mut limit = FieldTable::default();
        limit.insert("x-max-length".into(), AMQPValue::LongUInt(most));
        limit.insert(
            "x-overflow".into(),
            AMQPValue::LongString("reject-publish".into()),
        );
        self.channel
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), limit)
            .await
            .expect("a queue");
    }

    /// Returns whether there is an exchange called `name`.
    pub fn has_exchange(&self, name: &str) -> bool {
        asked("GET", &format!("exchanges/{}/{name}", self.name), "")
    }

    /// Returns how many messages are ready in `queue`.
    pub async fn depth(&self, queue: &str) -> u32 {
        self.channel
            .queue_declare(
                queue.into(),
                QueueDeclareOptions::durable().passive(),
                FieldTable::default(),
            )
            .await
            .expect("the queue is there")
            .message_count()
    }

    /// Waits until `queue` has so many messages at least.
    pub async fn wait_for(&self, queue: &str, messages: u32) {
        let begun = std::time::Instant::now();
        while self.depth(queue).await < messages {
            assert!(begun.elapsed() < PATIENCE, "{messages} messages never came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn delete(&self, queue: &str) {
        self.channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await
            .expect("the queue is deleted");
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends `body` as the shop does.
    pub async fn publish(&self, queue: &str, body: &str) {
        self.publish_with(queue, "", body).await;
    }

    /// Sends `body` to the exchange of `queue` with this routing key.
    pub async fn publish_with(&self, queue: &str, key: &str, body: &str) {
        let properties = BasicProperties::default().with_delivery_mode(2);
        self.channel
            .basic_publish(
                queue.into(),
                key.into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                properties,
            )
            .await
            .expect("it is sent")
            .await
            .expect("it is confirmed");
    }

    /// Returns the first messages of `queue`, which go back to their places.
    pub async fn peek(&self, queue: &str, count: usize) -> Vec<Vec<u8>> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let mut bodies = Vec::new();
        for _ in 0..count {
            let got = channel
                .basic_get(queue.into(), BasicGetOptions::default())
                .await
                .expect("an answer");
            bodies.push(got.expect("a message").delivery.data);
        }
        // What was not acknowledged is back when this is answered.
        channel.close(200, "done".into()).await.expect("closed");
        bodies
    }

    /// Takes the first message of `queue`.
    pub async fn take(&self, queue: &str) {
        let own = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), own).await;
        got.expect("an answer").expect("a message");
    }

    /// Takes so many messages of `queue` and acknowledges none; they go back when the channel is closed.
    pub async fn hold(&self, queue: &str, count: u16) -> Channel {
        let channel = self.connection.create_channel().await.expect("a channel");
        let qos = channel.basic_qos(count, BasicQosOptions::default());
        qos.await.expect("a limit");
        channel
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a consumer");
        channel
    }

    /// Begins to take messages from `queue`.
    pub async fn consume(&self, queue: &str) -> Consumer {
        self.channel
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a consumer")
    }
}

async fn open(vhost: &str) -> (Connection, Channel) {
    let connection = Connection::connect(&url_of(vhost), ConnectionProperties::default())
        .await
        .expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    (connection, channel)
}

/// A way to the broker that can be cut.
pub struct Relay {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let (all, url) = (Arc::clone(&open), server_url("RABBITMQ_URL"));
        // Ends with the process, as its connections do.
        thread::spawn(move || {
            let url = url::Url::parse(&url).expect("RABBITMQ_URL is a URL");
            let to = format!(
                "{}:{}",
                url.host_str().expect("a host"),
                url.port().expect("a port")
            );
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(&to).expect("the broker answers");
                for (mut from, mut to) in [(&near, &far), (&far, &near)].map(|(a, b)| {
                    (
                        a.try_clone().expect("a socket"),
                        b.try_clone().expect("a socket"),
                    )
                }) {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                all.lock().expect("no panic").extend([near, far]);
            }
        });
        Self { port, open }
    }

    /// Returns the URL of `vhost` by this way.
    pub fn url(&self, vhost: &Vhost) -> String {
        let mut url = url::Url::parse(&vhost.url()).expect("a URL");
        url.set_port(Some(self.port)).expect("a port");
        url.into()
    }

    /// Ends every connection; returns how many there were.
    pub fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.open.lock().expect("no panic"));
        for one in &open {
            // It may be closed already.
            let _ = one.shutdown(Shutdown::Both);
        }
        open.len() / 2
    }
}

/// Waits for the next message.
pub async fn next(consumer: &mut Consumer) -> Delivery {
    tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("a message comes")
        .expect("the consumer goes on")
        .expect("a message")
}

impl Drop for Vhost {
    fn drop(&mut self) {
        api("DELETE", &format!("vhosts/{}", self.name), "");
    }
}

fn url_of(vhost: &str) -> String {
    let mut url = url::Url::parse(&server_url("RABBITMQ_URL")).expect("RABBITMQ_URL is a URL");
    url.set_path(vhost);
    url.into()
}

/// Has the broker's own tool do something, and waits until it is done.
pub fn control(words: &str) {
    let done = Command::new(server_url("RABBITMQ_CTL"))
        .args(words.split_whitespace())
        .status()
        .expect("the tool starts");
    assert!(done.success(), "{words}");
}

/// Ends the broker as a power cut does; returns when nobody listens on its port any more, which is where it comes again.
pub fn kill() {
    let node = Path::new(&server_url("RABBITMQ_DIR")).join("pid");
    let pid = fs::read_to_string(node).expect("the broker runs");
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), Signal::KILL).expect("it can be killed");
    let port: u16 = server_url("RABBITMQ_PORT").parse().expect("a port");
    wait_until("the broker is gone", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
}

/// Starts the killed broker again, on its port, with what its disk holds.
pub fn launch() {
    let up = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/up");
    let done = Command::new(up).arg("rabbitmq").output();
    let done = done.expect("the script starts");
    assert!(done.status.success(), "{done:?}");
}

/// Returns the URL of the broker's management plugin.
pub fn management() -> String {
    let url = server_url("RABBITMQ_API");
    url.strip_suffix("/api").unwrap_or(&url).to_owned()
}

/// Asks the broker's management plugin.
fn api(method: &str, path: &str, body: &str) {
    assert!(asked(method, path, body), "{method} {path}");
}

/// Asks the broker's management plugin; returns whether it did what was asked.
fn asked(method: &str, path: &str, body: &str) -> bool {
    let done = Command::new("curl")
        .args([
            "-sfo",
            "/dev/null",
            "-X",
            method,
            "-H",
            "content-type: application/json",
            "-d",
            body,
        ])
        .arg(format!("{}/{path}", server_url("RABBITMQ_API")))
        .status()
        .expect("curl starts");
    done.success()
}
