//! The nodes of a cluster, and how to get an answer from one of them.
//!
//! The driver carries requests and nothing else: which node is asked, how long, and what an answer means is decided
//! here. Nothing of it may be shown with `{:?}`: that prints the password.

use std::{
    error::Error as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use elasticsearch::{
    auth::Credentials,
    http::{
        Method,
        headers::{
            AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
        },
        transport::{SingleNodeConnectionPool, Transport, TransportBuilder},
    },
};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::answer::Answer;
use crate::{
    error::{EdgeError, ErrorKind},
    plan::SearchConfig,
    tls::{self, SearchTls},
};

/// How long a node may take for anything but a load of documents.
const CONTROL: Duration = Duration::from_secs(15);

/// How long a node may take for a load of documents. A merge or a full collection of garbage takes seconds, and the server
/// itself waits up to `SHARD_WAIT` for a shard that is moving.
const BULK: Duration = Duration::from_mins(1);

/// How long a node that did not answer is passed over while others do.
const DEAD: Duration = Duration::from_secs(5);

/// The servers' own default. Ours is known to fit more than one chunk, and no single document grows beyond it.
const MOST_BODY: usize = 100 * 1024 * 1024;

struct Node {
    transport: Transport,
    dead_until: Mutex<Option<Instant>>,
}

/// The nodes of a plan's target.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    next: AtomicUsize,
    /// `search at host:9200, other:9200`.
    pub(super) place: String,
    most_body: AtomicUsize,
    gzip: bool,
}

/// What is asked of a cluster.
pub(super) struct Request<'a> {
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    body: Option<Bytes>,
    documents: bool,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self::new(Method::Get, path)
    }

    pub(super) fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            query: &[],
            body: None,
            documents: false,
        }
    }

    pub(super) fn query(mut self, query: &'a [(&'a str, &'a str)]) -> Self {
        self.query = query;
        self
    }

    pub(super) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(body.to_string().into());
        self
    }

    /// JSON that is written already.
    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// Lines of documents.
    pub(super) fn documents(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self.documents = true;
        self
    }
}

impl Cluster {
    /// Reads the settings of target `name`. Connects to nothing.
    ///
    /// # Errors
    ///
    /// `Refused` for a URL or a key that cannot be used.
    pub(super) fn new(name: &str, config: &SearchConfig) -> Result<Self, EdgeError> {
        let mut nodes = Vec::new();
        let mut places = Vec::new();
        for url in &config.urls {
            let (node, place) = node(name, url, config)?;
            nodes.push(node);
            places.push(place);
        }
        if nodes.is_empty() {
            return Err(wrong(name, "names no node"));
        }
        Ok(Self {
            nodes,
            next: AtomicUsize::new(0),
            place: format!("search at {}", places.join(", ")),
            most_body: AtomicUsize::new(MOST_BODY),
            gzip: config.gzip,
        })
    }

    /// Returns the most bytes a request may have, as far as is known.
    pub(super) fn most_body(&self) -> usize {
        self.most_body.load(Ordering::Relaxed)
    }

    /// Takes note that requests of more than `bytes` are refused.
    pub(super) fn limit_body(&self, bytes: usize) {
        self.most_body.fetch_min(bytes.max(1), Ordering::Relaxed);
    }

    /// Returns what a node answers, whatever its status is.
    ///
    /// # Errors
    ///
    /// `Connection`, `Timeout`, or `Missing` for a host name that is not known.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Answer, EdgeError> {
        let mut last = None;
        // Another node is asked only where the first cannot have heard: repeating is the engine's.
        for node in self.order() {
            match self.ask(node, &request).await {
                Ok(answer) => {
                    *node
                        .dead_until
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = None;
                    return Ok(answer);
                }
                Err(fault) => {
                    *node
                        .dead_until
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + DEAD);
                    let heard = fault.heard;
                    last = Some(fault.error);
                    if heard {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            EdgeError::new(ErrorKind::Internal, format!("{} has no node", self.place))
        }))
    }

    /// As [`Cluster::send`], with an error for every answer that is no success.
    pub(super) async fn expect(
        &self,
        doing: &str,
        request: Request<'_>,
    ) -> Result<Answer, EdgeError> {
        let answer = self.send(request).await?;
        if answer.is_success() {
            Ok(answer)
        } else {
            Err(answer.refusal(&self.place, doing))
        }
    }

    /// Returns the nodes in turn, those that failed a moment ago last.
    fn order(&self) -> Vec<&Node> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len().max(1);
        let (before, from) = self.nodes.split_at(first);
        let mut nodes: Vec<_> = from.iter().chain(before).collect();
        let now = Instant::now();
        nodes.sort_by_key(|node| {
            node.dead_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .filter(|until| *until > now)
        });
        nodes
    }

    async fn ask(&self, node: &Node, request: &Request<'_>) -> Result<Answer, Fault> {
        let mut headers = HeaderMap::new();
        let mut limit = CONTROL;
        if request.documents {
            limit = BULK;
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-ndjson"),
            );
            if self.gzip {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        let sent = node.transport.send(
            request.method,
            request.path,
            headers,
            Some(request.query),
            request.body.clone(),
            Some(limit),
        );
        let answered = async {
            let response = sent.await?;
            let status = response.status_code().as_u16();
            let wait = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                .map(Duration::from_secs);
            Ok(Answer {
                status,
                wait,
                body: response.bytes().await?,
            })
        };
        answered
            .await
            .map_err(|error: elasticsearch::Error| self.fault(&error, limit))
    }

    /// Names an error of the driver. Its own texts hold URLs, and are not repeated.
    fn fault(&self, error: &elasticsearch::Error, limit: Duration) -> Fault {
        let place = &self.place;
        if error.is_timeout() {
            let text = format!("{place} did not answer within {} s", limit.as_secs());
            return Fault {
                error: EdgeError::new(ErrorKind::Timeout, text),
                heard: true,
            };
        }
        if let Some((kind, why)) = tls::explain(error) {
            return Fault {
                error: EdgeError::new(kind, format!("no TLS connection to {place}: {why}")),
                heard: false,
            };
        }
        let mut unknown_host = false;
        let mut unheard = false;
        let mut io = None;
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            unknown_host |= text.contains("dns error");
            unheard |= text.contains("tcp connect error");
            if let Some(found) = cause.downcast_ref::<std::io::Error>() {
                io = Some(found.kind());
            }
            next = cause.source();
        }
        let (kind, text) = match io {
            _ if unknown_host => (
                ErrorKind::Missing,
                format!("{place}: the host name is not known"),
            ),
            Some(io) => (ErrorKind::Connection, format!("cannot reach {place}: {io}")),
            None => (
                ErrorKind::Connection,
                format!("{place} closed the connection"),
            ),
        };
        Fault {
            error: EdgeError::new(kind, text),
            heard: !(unknown_host || unheard),
        }
    }
}

struct Fault {
    error: EdgeError,
    /// Whether the node may have received the request.
    heard: bool,
}

fn wrong(target: &str, why: &str) -> EdgeError {
    // Neither this nor any later error shows the URL: it holds the password.
    EdgeError::new(
        ErrorKind::Refused,
        format!("the URL of target `{target}` {why}"),
    )
}

fn authorization(credentials: &Credentials) -> HeaderValue {
    let text = match credentials {
        Credentials::Basic(user, password) => {
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{user}:{password}"))
            )
        }
        Credentials::EncodedApiKey(key) => format!("ApiKey {key}"),
        _ => String::new(),
    };
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Returns a node and what it is called.
fn node(
    target: &str,
    url: &SecretString,
    config: &SearchConfig,
) -> Result<(Node, String), EdgeError> {
    let mut url = Url::parse(url.expose_secret()).map_err(|_| wrong(target, "is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(
            target,
            "begins with neither `http://` nor `https://`",
        ));
    }
    let is_tls = url.scheme() == "https";
    let host = url
        .host_str()
        .ok_or_else(|| wrong(target, "names no host"))?;
    let place = format!("{host}:{}", url.port_or_known_default().unwrap_or(9200));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    let credentials = match &config.api_key {
        Some(key) => {
            let key = key.expose_secret();
            if HeaderValue::try_from(format!("ApiKey {key}")).is_err() {
                return Err(EdgeError::new(
                    ErrorKind::Refused,
                    format!("the `api_key` of target `{target}` has a character that no key has"),
                ));
            }
            Some(Credentials::EncodedApiKey(key.to_owned()))
        }
        None if user.is_empty() && password.is_empty() => None,
        None => Some(Credentials::Basic(user, password)),
    };
    url.set_username("")
        .and_then(|()| url.set_password(None))
        .map_err(|()| wrong(target, "cannot be used"))?;
    if !url.path().ends_with('/') {
        // The driver joins paths to it, which replaces what comes after the last slash.
        url.set_path(&format!("{}/", url.path()));
    }
    let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url))
        .disable_proxy()
        .enable_meta_header(false)
        .timeout(BULK)
        .header(
            HeaderName::from_static("x-opaque-id"),
            HeaderValue::from_static("rekindle"),
        );
    let tls = config
        .tls
        .as_ref()
        .filter(|_| is_tls)
        .map(|tls| tls::search(&place, Some(tls)))
        .transpose()?;
    if let Some(credentials) = credentials {
        // The driver takes one way to log in: beside a certificate, a password is a header like any other.
        if tls.as_ref().is_some_and(|tls| tls.certificate.is_some()) {
            builder = builder.header(AUTHORIZATION, authorization(&credentials));
        } else {
            builder = builder.auth(credentials);
        }
    }
    if let Some(SearchTls {
        validation,
        certificate,
    }) = tls
    {
        builder = builder.cert_validation(validation);
        if let Some(certificate) = certificate {
            builder = builder.auth(Credentials::Certificate(certificate));
        }
    }
    let transport = builder
        .build()
        .map_err(|_| wrong(target, "cannot be used"))?;
    let node = Node {
        transport,
        dead_until: Mutex::new(None),
    };
    Ok((node, place))
}
