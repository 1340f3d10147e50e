//! The three ways to a server: TCP, TLS over TCP, a unix socket.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use super::error;
use crate::{
    error::{EdgeError, ErrorKind},
    tls::{self, TlsConfig},
};

/// A connection, whatever it is made of.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for S {}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Address {
    /// By TCP, at a host name or a number.
    Tcp { host: String, port: u16 },
    /// At a path of this machine.
    Unix(PathBuf),
}

impl Address {
    /// Returns `host:port` or `unix:/path`.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Opens a connection. The name is looked up each time, so that a failover by DNS is followed; the first of its
    /// addresses that accepts is taken.
    pub(super) async fn dial(
        &self,
        place: &str,
        tls: Option<&TlsConfig>,
    ) -> Result<Box<dyn Socket>, EdgeError> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|e| unix(place, e))?;
                Ok(Box::new(stream))
            }
            Self::Tcp { host, port } => {
                // Its files are read each time: certificates are renewed while a run waits.
                let config = tls.map(|tls| tls::client(place, tls)).transpose()?;
                let stream = tcp(place, host, *port).await?;
                match config {
                    None => Ok(Box::new(stream)),
                    Some(config) => secured(place, host, stream, config).await,
                }
            }
        }
    }
}

async fn tcp(place: &str, host: &str, port: u16) -> Result<TcpStream, EdgeError> {
    let addresses = lookup_host((host, port)).await.map_err(|e| {
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
            Ok(stream) => {
                stream
                    .set_nodelay(true)
                    .map_err(|e| error::socket(place, e))?;
                return Ok(stream);
            }
            Err(e) => failure = Some(error::socket(place, e)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        EdgeError::new(
            ErrorKind::Missing,
            format!("the host of {place} has no address"),
        )
    }))
}

async fn secured(
    place: &str,
    host: &str,
    stream: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<Box<dyn Socket>, EdgeError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        EdgeError::new(
            ErrorKind::Refused,
            format!("the host of {place} is no name that a certificate can be for"),
        )
    })?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(EdgeError::new(
            ErrorKind::Connection,
            format!("{place} hung up during the TLS handshake: it may not speak TLS on this port"),
        )),
        Err(error) => Err(error::socket(place, error)),
    }
}

fn unix(place: &str, error: io::Error) -> EdgeError {
    match error.kind() {
        // Not for good: the socket is there again when the server is.
        io::ErrorKind::NotFound => EdgeError::new(
            ErrorKind::Connection,
            format!("there is no socket of {place}: is the server running?"),
        ),
        io::ErrorKind::PermissionDenied => EdgeError::new(
            ErrorKind::Credentials,
            format!("the socket of {place} may not be opened: permission denied"),
        ),
        _ => error::socket(place, error),
    }
}
