//! Where a Redis server is and how to get a connection to it.

use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, aio::MultiplexedConnection,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{Mutex, OnceCell},
    time::timeout,
};

use super::{
    error,
    socket::{Address, Socket},
    wire::Wire,
};
use crate::{
    chunk::Chunk,
    error::{EdgeError, ErrorKind},
    tls::TlsConfig,
};

/// How long a server may take to accept a connection and to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to answer. The driver's own default of 500 ms fails on a server that saves or frees
/// much memory; much more than this and a dead peer holds a run up for no reason.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest key or value that Redis takes unless it is told otherwise (`proto-max-bulk-len`).
const USUAL_LONGEST: usize = 512 * 1024 * 1024;

/// The least that `proto-max-bulk-len` can be.
const LEAST_LONGEST: usize = 1024 * 1024;

/// One second more of patience for each of these, so that a slow line does not look like a dead server.
const BYTES_PER_SECOND: usize = 1024 * 1024;

/// One Redis server and database.
pub(super) struct Server {
    address: Address,
    tls: Option<TlsConfig>,
    login: RedisConnectionInfo,
    /// `redis at host:port/db`, or `redis at unix:/path?db=0`.
    pub(super) place: String,
    pub(super) response_timeout: Duration,
    /// The connection for everything but chunks; gone after an error, so the next use connects again.
    control: Mutex<Option<MultiplexedConnection>>,
    /// `proto-max-bulk-len`, once somebody needed it.
    longest: OnceCell<usize>,
}

impl Server {
    /// Reads `url` (`redis://user:password@host:port/db`). Connects to nothing.
    pub(super) fn parse(
        target: &str,
        url: &SecretString,
        tls: Option<&TlsConfig>,
        response_timeout: Duration,
    ) -> Result<Self, EdgeError> {
        // Neither this nor any later error shows the URL: it holds the password.
        let wrong = |why: &str| {
            EdgeError::new(
                ErrorKind::Refused,
                format!("the URL of target `{target}` {why}"),
            )
        };
        let url = url.expose_secret();
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let (secured, form) = match scheme {
            "redis" | "valkey" => (false, "redis://user:password@host:port/db"),
            "rediss" | "valkeys" => (true, "rediss://user:password@host:port/db"),
            "unix" | "redis+unix" | "valkey+unix" => (false, "unix:///path/to/socket?db=0"),
            _ => {
                return Err(wrong(
                    "begins with neither `redis://` nor `rediss://` nor `unix://`",
                ));
            }
        };
        let shaped = || wrong(&format!("is not of the form `{form}`"));
        let info = url.into_connection_info().map_err(|_| shaped())?;
        let login = info.redis_settings().clone();
        let address = match info.addr().clone() {
            ConnectionAddr::Tcp(host, port)
            | ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                ..
            } => Address::Tcp {
                // Numbers of version 6 come in the brackets of the URL from one parser and without from another.
                host: host.trim_matches(['[', ']']).to_owned(),
                port,
            },
            ConnectionAddr::Unix(path) => Address::Unix(path),
            _ => return Err(shaped()),
        };
        let database = match address {
            Address::Tcp { .. } => format!("/{}", login.db()),
            Address::Unix(_) => format!("?db={}", login.db()),
        };
        Ok(Self {
            place: format!("redis at {}{database}", address.shown()),
            address,
            tls: secured.then(|| tls.cloned().unwrap_or_default()),
            login,
            response_timeout,
            control: Mutex::new(None),
            longest: OnceCell::new(),
        })
    }

    /// Returns `redis://host:port/db`, or `redis+unix:/path?db=0`, without credentials. With and without TLS it is the
    /// same server.
    pub(super) fn identity(&self) -> String {
        let address = self.place.trim_start_matches("redis at ");
        match &self.address {
            Address::Tcp { .. } => format!("redis://{address}"),
            Address::Unix(_) => format!("redis+{address}"),
        }
    }

    pub(super) fn db(&self) -> i64 {
        self.login.db()
    }

    /// Returns the user (if any) and password to log in with.
    pub(super) fn credentials(&self) -> Option<(Option<&str>, &str)> {
        self.login
            .password()
            .map(|password| (self.login.username(), password))
    }

    /// Returns how long a chunk of so many bytes may take.
    pub(super) fn patience(&self, bytes: usize) -> Duration {
        let seconds = u64::try_from(bytes / BYTES_PER_SECOND).unwrap_or(u64::MAX);
        self.response_timeout
            .saturating_add(Duration::from_secs(seconds))
    }

    /// Returns the server of the same login at `address`: a node of its cluster.
    pub(super) fn sibling(&self, address: Address) -> Self {
        Self {
            place: format!("redis at {}/{}", address.shown(), self.login.db()),
            address,
            tls: self.tls.clone(),
            login: self.login.clone(),
            response_timeout: self.response_timeout,
            control: Mutex::new(None),
            longest: OnceCell::new(),
        }
    }

    /// Returns how a person reaches the database: `redis-cli -h cache.test -p 6379 -n 3`, without user and password.
    pub(super) fn cli(&self) -> String {
        let tls = if self.tls.is_some() { " --tls" } else { "" };
        match &self.address {
            Address::Tcp { host, port } => {
                format!("redis-cli -h {host} -p {port}{tls} -n {}", self.db())
            }
            Address::Unix(path) => format!("redis-cli -s {} -n {}", path.display(), self.db()),
        }
    }

    /// Returns the database `db` of the same server, for the same login.
    pub(super) fn neighbour(&self, db: i64) -> Self {
        let database = match &self.address {
            Address::Tcp { .. } => format!("/{db}"),
            Address::Unix(_) => format!("?db={db}"),
        };
        Self {
            place: format!("redis at {}{database}", self.address.shown()),
            login: self.login.clone().set_db(db),
            ..self.sibling(self.address.clone())
        }
    }

    /// Returns the longest key or value that the server takes, as far as it matters for `chunk`: asked only when there
    /// is one that a server might be set to refuse. It would end the connection in mid-chunk, without a word that
    /// reaches us.
    pub(super) async fn longest(&self, chunk: &Chunk) -> Result<usize, EdgeError> {
        if chunk
            .rows()
            .all(|row| row.value.len() <= LEAST_LONGEST && row.key.len() <= LEAST_LONGEST)
        {
            return Ok(USUAL_LONGEST);
        }
        self.longest
            .get_or_try_init(|| async {
                let mut get = ::redis::cmd("CONFIG");
                get.arg("GET").arg("proto-max-bulk-len");
                match self.ask::<Vec<String>>("to show its limits", &get).await {
                    Ok(pair) => Ok(pair
                        .get(1)
                        .and_then(|limit| limit.parse().ok())
                        .unwrap_or(USUAL_LONGEST)),
                    // Many may not ask, and hosted servers have no such command: nobody changed it there.
                    Err(error)
                        if matches!(error.kind, ErrorKind::Credentials | ErrorKind::Refused) =>
                    {
                        Ok(USUAL_LONGEST)
                    }
                    Err(error) => Err(error),
                }
            })
            .await
            .copied()
    }

    pub(super) fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Opens a connection to the server.
    pub(super) async fn dial(&self) -> Result<Box<dyn Socket>, EdgeError> {
        let dialled = self.address.dial(&self.place, self.tls.as_ref());
        timeout(CONNECT_TIMEOUT, dialled).await.map_err(|_| {
            let mut error = error::timed_out(&self.place, CONNECT_TIMEOUT);
            if self.tls.is_some() {
                // A plain Redis may take the handshake for the beginning of a long line, and waits for its end.
                error.message += " to the TLS handshake; it may not speak TLS on this port";
            }
            error
        })?
    }

    /// Returns what to say of a connection that ended before the first answer, if anything.
    pub(super) fn hint(&self) -> &'static str {
        match (&self.address, &self.tls) {
            (Address::Tcp { .. }, None) => {
                " before it answered anything; if it wants TLS there, begin the URL with `rediss://`"
            }
            (Address::Tcp { .. }, Some(_)) => {
                " before it answered anything; it may want a client certificate (`tls.cert`, `tls.key`)"
            }
            (Address::Unix(_), _) => " before it answered anything",
        }
    }

    /// Sends `cmd` over the control connection and returns its answer; `doing` names it in errors (`the lease`).
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        doing: &str,
        cmd: &Cmd,
    ) -> Result<T, EdgeError> {
        let mut control = self.control.lock().await;
        // Out of its place while in use: after an error, or when the caller stops waiting, it is not used again.
        let (mut connection, fresh) = match control.take() {
            Some(connection) => (connection, false),
            None => (self.connect().await?, true),
        };
        let answer = cmd.query_async(&mut connection).await.map_err(|e| {
            let mut error = self.driver_error(doing, &e);
            if fresh && error.kind == ErrorKind::Connection {
                error.message += self.hint();
            }
            error
        })?;
        *control = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, EdgeError> {
        // The login is ours: the driver reports every refusal of it as a wrong password, also "too many clients".
        let stream = Wire::open(self).await?.into_stream();
        let nothing_to_do = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.response_timeout));
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&nothing_to_do, stream, config)
                .await
                .map_err(|e| self.driver_error("the login", &e))?;
        // Ends by itself when the connection is dropped.
        tokio::spawn(driver);
        Ok(connection)
    }

    fn driver_error(&self, doing: &str, error: &RedisError) -> EdgeError {
        error::driver(&self.place, doing, self.response_timeout, error)
    }
}
