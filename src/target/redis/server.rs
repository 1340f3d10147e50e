//! Where a Redis server is and how to get a connection to it.

use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisConnectionInfo, RedisError, Value, aio::MultiplexedConnection,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::Mutex,
    time::timeout,
};

use super::{error, wire::Wire};
use crate::error::{EdgeError, ErrorKind};

/// How long a server may take to accept a connection and to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to answer. The driver's own default of 500 ms fails on a server that saves or frees
/// much memory; much more than this and a dead peer holds a run up for no reason.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// One Redis server and database.
pub(super) struct Server {
    host: String,
    port: u16,
    login: RedisConnectionInfo,
    /// `redis at host:port/db`.
    pub(super) place: String,
    pub(super) response_timeout: Duration,
    /// The connection for everything but chunks; gone after an error, so the next use connects again.
    control: Mutex<Option<MultiplexedConnection>>,
}

impl Server {
    /// Reads `url` (`redis://user:password@host:port/db`). Connects to nothing.
    pub(super) fn parse(
        target: &str,
        url: &SecretString,
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
        match url.split_once(':').map_or("", |(scheme, _)| scheme) {
            "redis" | "valkey" => {}
            "rediss" | "valkeys" => {
                return Err(wrong(
                    "asks for TLS (`rediss://`), which is not supported; use `redis://`",
                ));
            }
            "unix" | "redis+unix" | "valkey+unix" => {
                return Err(wrong(
                    "names a unix socket, which is not supported; use `redis://host:port/db`",
                ));
            }
            _ => return Err(wrong("does not begin with `redis://`")),
        }
        let info = url
            .into_connection_info()
            .map_err(|_| wrong("is not of the form `redis://user:password@host:port/db`"))?;
        let ConnectionAddr::Tcp(host, port) = info.addr().clone() else {
            return Err(wrong(
                "is not of the form `redis://user:password@host:port/db`",
            ));
        };
        let login = info.redis_settings().clone();
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        Ok(Self {
            place: format!("redis at {shown}:{port}/{}", login.db()),
            host,
            port,
            login,
            response_timeout,
            control: Mutex::new(None),
        })
    }

    /// Returns `redis://host:port/db`, without credentials.
    pub(super) fn identity(&self) -> String {
        format!("redis://{}", self.place.trim_start_matches("redis at "))
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

    /// Opens a TCP connection. The name is looked up each time, so that a failover by DNS is followed.
    pub(super) async fn dial(&self) -> Result<TcpStream, EdgeError> {
        let place = &self.place;
        let dialled = async {
            let addresses = lookup_host((self.host.as_str(), self.port))
                .await
                .map_err(|e| {
                    // Told apart by text: the standard library has no kind of its own for either.
                    let passing = e.to_string().contains("emporary failure");
                    let kind = if passing {
                        ErrorKind::Connection
                    } else {
                        ErrorKind::Missing
                    };
                    EdgeError::new(kind, format!("cannot look up the host of {place}")).because(e)
                })?;
            let mut failure = None;
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(e) => failure = Some(error::socket(place, e)),
                }
            }
            Err(failure.unwrap_or_else(|| {
                EdgeError::new(
                    ErrorKind::Missing,
                    format!("the host of {place} has no address"),
                )
            }))
        };
        let stream = timeout(CONNECT_TIMEOUT, dialled)
            .await
            .map_err(|_| error::timed_out(place, CONNECT_TIMEOUT))??;
        stream
            .set_nodelay(true)
            .map_err(|e| error::socket(place, e))?;
        Ok(stream)
    }

    /// Sends `cmd` over the control connection and returns its answer; `doing` names it in errors (`the lease`).
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        doing: &str,
        cmd: &Cmd,
    ) -> Result<T, EdgeError> {
        let mut control = self.control.lock().await;
        // Out of its place while in use: after an error, or when the caller stops waiting, it is not used again.
        let mut connection = match control.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answer = cmd
            .query_async(&mut connection)
            .await
            .map_err(|e| self.driver_error(doing, &e))?;
        *control = Some(connection);
        Ok(answer)
    }

    /// Sends the commands of `pipeline` over the control connection and returns the answer to each, refusals included
    /// where the pipeline says so.
    pub(super) async fn ask_all(
        &self,
        doing: &str,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, EdgeError> {
        let mut control = self.control.lock().await;
        let mut connection = match control.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answers = pipeline
            .query_async(&mut connection)
            .await
            .map_err(|e| self.driver_error(doing, &e))?;
        *control = Some(connection);
        Ok(answers)
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
