//! The broker's management plugin: the only one to tell what consumers hold. Nothing of a run waits for it.
//!
//! ```text
//! GET /api/queues/<vhost>/<queue>?columns=messages_unacknowledged -> {"messages_unacknowledged":500}
//! ```

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use elasticsearch::{
    auth::Credentials,
    http::{
        Method,
        headers::HeaderMap,
        transport::{SingleNodeConnectionPool, Transport, TransportBuilder},
    },
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use crate::{
    error::{EdgeError, ErrorKind},
    tls::{self, TlsConfig},
};

/// How long it may take to answer: whoever looks at queues every few seconds does not wait longer for a number.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it is left alone after it did not answer.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The management plugin of a broker. Never shown with `{:?}`: its transport holds the password.
pub(super) struct Management {
    transport: Transport,
    /// `rabbitmq management at mq.test:15672`
    place: String,
    silent_until: Mutex<Option<Instant>>,
}

impl Management {
    /// Reads the settings. Connects to nothing.
    ///
    /// # Errors
    ///
    /// `Refused` for a URL or certificates that cannot be used.
    pub(super) fn new(url: &SecretString, tls: &TlsConfig) -> Result<Self, EdgeError> {
        let wrong = || EdgeError::new(ErrorKind::Refused, "`broker.management` cannot be used");
        let mut url = Url::parse(url.expose_secret()).map_err(|_| wrong())?;
        let host = url.host_str().ok_or_else(wrong)?;
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let place = format!("rabbitmq management at {host}:{port}");
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = decoded(url.username());
        let password = decoded(url.password().unwrap_or_default());
        url.set_username("")
            .and_then(|()| url.set_password(None))
            .map_err(|()| wrong())?;
        if !url.path().ends_with('/') {
            // Paths are joined to it, which replaces what comes after the last slash.
            url.set_path(&format!("{}/", url.path()));
        }
        let is_tls = url.scheme() == "https";
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url))
            .disable_proxy()
            .enable_meta_header(false)
            .timeout(PATIENCE)
            .auth(Credentials::Basic(user, password));
        if is_tls {
            builder = builder.cert_validation(tls::search(&place, Some(tls))?.validation);
        }
        Ok(Self {
            transport: builder.build().map_err(|_| wrong())?,
            place,
            silent_until: Mutex::default(),
        })
    }

    /// Returns how many messages of `queue` consumers hold; `None` where that is not known. It is a few seconds old: the plugin
    /// counts every five.
    pub(super) async fn unacked(&self, vhost: &str, queue: &str) -> Option<u64> {
        let silent_until = *self.silent();
        if silent_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        match self.ask(vhost, queue).await {
            Ok(unacked) => unacked,
            Err(error) => {
                tracing::warn!(%error, "messages that consumers hold are not counted");
                *self.silent() = Some(Instant::now() + LEFT_ALONE);
                None
            }
        }
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.silent_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when it answers this user.
    ///
    /// # Errors
    ///
    /// `Timeout`, `Connection`, `Credentials`, `Refused` for any other answer.
    pub(super) async fn reach(&self) -> Result<(), EdgeError> {
        // The least that one may see who may see queues.
        self.get("api/overview", "node").await.map(drop)
    }

    async fn ask(&self, vhost: &str, queue: &str) -> Result<Option<u64>, EdgeError> {
        let part = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let path = format!("api/queues/{}/{}", part(vhost), part(queue));
        let body = self.get(&path, "messages_unacknowledged").await?;
        let queue: Value = serde_json::from_slice(&body).map_err(|_| {
            EdgeError::new(
                ErrorKind::Refused,
                format!("{} answered with something else than JSON", self.place),
            )
        })?;
        // Before it first counted, a queue of these columns is `[]`.
        Ok(queue.get("messages_unacknowledged").and_then(Value::as_u64))
    }

    /// Returns these columns of what lies at `path`.
    async fn get(&self, path: &str, columns: &str) -> Result<Bytes, EdgeError> {
        let place = &self.place;
        let columns = [("columns", columns)];
        let sent = self.transport.send(
            Method::Get,
            path,
            HeaderMap::new(),
            Some(&columns),
            None::<String>,
            Some(PATIENCE),
        );
        // The texts of the client hold the URL, and are not repeated.
        let silent = |error: elasticsearch::Error| {
            if error.is_timeout() {
                let waited = PATIENCE.as_secs();
                let text = format!("{place} did not answer within {waited} s");
                return EdgeError::new(ErrorKind::Timeout, text);
            }
            let (kind, why) = tls::explain(&error)
                .unwrap_or_else(|| (ErrorKind::Connection, "nothing answers there".to_owned()));
            EdgeError::new(kind, format!("no connection to {place}: {why}"))
        };
        let response = sent.await.map_err(silent)?;
        let status = response.status_code().as_u16();
        if status != 200 {
            let (kind, why) = match status {
                401 | 403 => (
                    ErrorKind::Credentials,
                    "refused the user, who needs the tag `monitoring`",
                ),
                404 => (ErrorKind::Missing, "knows no such queue"),
                _ => (ErrorKind::Refused, "refused the question"),
            };
            return Err(EdgeError::new(kind, format!("{place} {why} ({status})")));
        }
        response.bytes().await.map_err(silent)
    }
}
