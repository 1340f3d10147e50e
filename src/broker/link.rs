//! Connections to the broker: one for what is published, which a broker short of memory or disk stops reading, and one for
//! all else, which still gets answers then.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    options::ConfirmSelectOptions,
    runtime,
    tcp::{AMQPUriTcpExt as _, RustlsConnector},
    uri::{AMQPScheme, AMQPUri},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Mutex, task::AbortHandle, time::timeout};

use super::{error, management::Management};
use crate::{
    error::{EdgeError, ErrorKind},
    plan::BrokerConfig,
    tls::{self, TlsConfig},
};

/// How long a broker may take to answer: a busy node syncs its disk before it confirms.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long connecting may take. A node that boots answers within it or refuses at once.
const TO_CONNECT: Duration = Duration::from_secs(10);

/// Seconds between signs of life. A broker that vanished without a word is noticed after two of them.
const HEARTBEAT: u16 = 10;

/// A vhost of the broker of a plan. Connects when it is needed, and anew after a loss.
pub struct Broker {
    uri: AMQPUri,
    tls: TlsConfig,
    place: String,
    declares: bool,
    /// Who knows what consumers hold; none where the plan names nobody, or it is another broker's.
    pub(super) management: Option<Management>,
    publishing: Mutex<Option<Arc<Link>>>,
    asking: Mutex<Option<Arc<Link>>>,
}

/// One connection.
pub(super) struct Link {
    connection: Connection,
    place: String,
    /// Why the broker stopped reading, while it does.
    blocked: Arc<std::sync::Mutex<Option<String>>>,
    listening: AbortHandle,
}

impl Broker {
    /// Reads the settings. Connects to nothing.
    ///
    /// # Errors
    ///
    /// `Refused` for a URL that cannot be used.
    pub fn new(url: &SecretString, config: &BrokerConfig) -> Result<Self, EdgeError> {
        // The parser's own words may repeat the URL, which holds a password.
        let mut uri: AMQPUri = url.expose_secret().parse().map_err(|_| {
            EdgeError::new(
                ErrorKind::Refused,
                "`broker.url` cannot be read as `amqp://user:password@host:5672/vhost`",
            )
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let main: Option<AMQPUri> = config.url.expose_secret().parse().ok();
        let is_main = main.is_some_and(|main| {
            (&main.authority.host, main.authority.port) == (&uri.authority.host, uri.authority.port)
        });
        let tls = config.tls.clone().unwrap_or_default();
        let management = config.management.as_ref().filter(|_| is_main);
        let management = management
            .map(|url| Management::new(url, &tls))
            .transpose()?;
        let (host, port) = (&uri.authority.host, uri.authority.port);
        Ok(Self {
            place: format!("rabbitmq at {host}:{port}, vhost {}", uri.vhost),
            uri,
            tls,
            management,
            declares: config.declare,
            publishing: Mutex::default(),
            asking: Mutex::default(),
        })
    }

    /// Returns what errors and reports call it: `rabbitmq at mq.test:5672, vhost shop`.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns the name of the vhost.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Returns a text that is equal for the same broker and vhost, without secrets.
    #[must_use]
    pub fn identity(&self) -> String {
        let authority = &self.uri.authority;
        format!(
            "amqp:{}:{}/{}",
            authority.host, authority.port, self.uri.vhost
        )
    }

    /// Returns whether queues that are missing are made.
    pub(super) const fn declares(&self) -> bool {
        self.declares
    }

    /// Returns a channel for questions and for what is received.
    pub(super) async fn channel(&self) -> Result<Channel, EdgeError> {
        self.live(&self.asking).await?.channel().await
    }

    /// Returns the connection for what is published.
    pub(super) async fn publishing(&self) -> Result<Arc<Link>, EdgeError> {
        self.live(&self.publishing).await
    }

    /// Returns why the broker takes no messages now, without asking it.
    pub(super) async fn blocked(&self) -> Option<String> {
        let link = self.publishing.lock().await.clone()?;
        link.blocked()
    }

    async fn live(&self, slot: &Mutex<Option<Arc<Link>>>) -> Result<Arc<Link>, EdgeError> {
        let mut slot = slot.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.is_up()) {
            return Ok(Arc::clone(link));
        }
        // First, so that what the old one still holds is given back.
        *slot = None;
        let link = Arc::new(Link::open(&self.uri, &self.tls, &self.place).await?);
        *slot = Some(Arc::clone(&link));
        Ok(link)
    }
}

impl Link {
    async fn open(uri: &AMQPUri, tls: &TlsConfig, place: &str) -> Result<Self, EdgeError> {
        let connection = timeout(TO_CONNECT, connect(uri, tls, place)?)
            .await
            .map_err(|_| {
                let mut error = error::silent(place, "the connection");
                error.kind = ErrorKind::Connection;
                error
            })?
            .map_err(|error| error::of(place, "refused the connection", &error))?;
        let blocked = Arc::new(std::sync::Mutex::new(None));
        let mut events = Box::pin(connection.events_listener());
        let told = Arc::clone(&blocked);
        let listening = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let now = match event {
                    Event::ConnectionBlocked(why) => Some(why),
                    Event::ConnectionUnblocked => None,
                    _ => continue,
                };
                *told.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
        });
        Ok(Self {
            connection,
            place: place.to_owned(),
            blocked,
            listening: listening.abort_handle(),
        })
    }

    /// Returns what errors call it.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    /// Returns why the broker stopped reading from this connection.
    pub(super) fn blocked(&self) -> Option<String> {
        self.blocked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn channel(&self) -> Result<Channel, EdgeError> {
        let opened = timeout(PATIENCE, self.connection.create_channel()).await;
        opened
            .map_err(|_| error::silent(&self.place, "a new channel"))?
            .map_err(|error| error::of(&self.place, "opened no channel", &error))
    }

    /// Returns a channel on which every message is confirmed.
    pub(super) async fn confirming(&self) -> Result<Channel, EdgeError> {
        let channel = self.channel().await?;
        let selected = timeout(
            PATIENCE,
            channel.confirm_select(ConfirmSelectOptions::default()),
        );
        selected
            .await
            .map_err(|_| error::silent(&self.place, "a wish for confirms"))?
            .map_err(|error| error::of(&self.place, "confirms nothing", &error))?;
        Ok(channel)
    }
}

/// Begins to connect; TLS is our own, for the client's takes neither files nor `verify`.
fn connect(
    uri: &AMQPUri,
    tls: &TlsConfig,
    place: &str,
) -> Result<impl Future<Output = lapin::Result<Connection>>, EdgeError> {
    let properties = ConnectionProperties::default().with_connection_name("rekindle".into());
    let connector = match uri.scheme {
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => Some(RustlsConnector::from(tls::client(place, tls)?)),
    };
    let mut plain = uri.clone();
    plain.scheme = AMQPScheme::AMQP;
    Ok(async move {
        let open = async move |uri: AMQPUri, runtime| {
            let stream = uri.connect_async(&runtime).await?;
            Ok(match &connector {
                None => stream,
                Some(connector) => stream.into_rustls(connector, &uri.authority.host).await?,
            })
        };
        Connection::connector(plain, runtime::default_runtime()?, open, properties).await
    })
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Returns the error of a broker that takes no messages.
pub(super) fn blocked(place: &str, why: &str) -> EdgeError {
    EdgeError::new(
        ErrorKind::Busy,
        format!("blocked by broker: {place} takes no messages: {why}"),
    )
}
