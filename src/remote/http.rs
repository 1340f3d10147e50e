//! HTTP as every client here speaks it: our TLS, no proxy, no redirect followed unseen, and errors without the URL.

use std::time::Duration;

use reqwest::{Client, redirect::Policy};

use crate::{
    error::{EdgeError, ErrorKind, chain},
    tls::{self, TlsConfig},
};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Returns a client for `place`, whose server may take `answer` for a whole answer.
///
/// # Errors
///
/// `Refused` for files of `tls` that cannot be used.
pub fn client(place: &str, tls: Option<&TlsConfig>, answer: Duration) -> Result<Client, EdgeError> {
    let config = match tls {
        Some(tls) => tls::client(place, tls)?,
        None => tls::client(place, &TlsConfig::default())?,
    };
    Client::builder()
        .use_preconfigured_tls((*config).clone())
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(answer)
        .build()
        .map_err(|error| {
            let what = format!("no client for {place} can be made");
            EdgeError::new(ErrorKind::Internal, what).because(error.without_url())
        })
}

/// Returns the error for a request to `place` that got no answer. The request may have arrived all the same.
#[must_use]
pub fn unanswered(place: &str, error: reqwest::Error) -> EdgeError {
    // Its text has the URL in it, and that may have a password in it.
    let error = error.without_url();
    if error.is_timeout() {
        return EdgeError::new(
            ErrorKind::Timeout,
            format!("{place} did not answer in time"),
        );
    }
    let why = chain(&error).pop().unwrap_or_default();
    EdgeError::new(
        ErrorKind::Connection,
        format!("{place} cannot be reached: {why}"),
    )
}
