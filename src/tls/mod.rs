//! TLS to every server: what a plan says about it, and what the drivers need to hear.
//!
//! ```text
//! plan `tls:` -> TlsConfig -> client   (redis: our own sockets)
//!                          -> drivers  (databases, search: options of their own TLS)
//! handshake fails -> fault (which side refused, and why)
//! ```
//!
//! One crypto provider, ring, for all of them.

mod client;
mod drivers;
mod fault;
mod pem;

use std::path::PathBuf;

pub use self::{
    client::client,
    drivers::{SearchTls, mysql, postgres, search},
    fault::{NO_TLS, explain},
    pem::{PemError, certificates, private_key},
};

/// `tls:` of a source or a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the certificates of the authorities to trust; the public ones without it.
    pub ca: Option<PathBuf>,
    /// PEM file with our own certificate and those between it and its authority; always with `key`.
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of `cert`, without a password.
    pub key: Option<PathBuf>,
    /// How much of the server's certificate has to be right.
    pub verify: Verify,
}

/// How much of the server's certificate has to be right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// Signed by a trusted authority, in force, and for the name we connect to.
    #[default]
    Full,
    /// The same, for whatever name.
    Ca,
    /// Nothing: the connection is encrypted, to whoever answers.
    None,
}

impl Verify {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Full, Self::Ca, Self::None];

    /// Returns the word of the plan.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Ca => "ca",
            Self::None => "none",
        }
    }
}

/// Makes ring the provider of libraries that take the one of the process. Ours are told which; the first call wins.
pub fn install_provider() {
    // Refused when somebody was first, as in a test binary of many tests: then it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
