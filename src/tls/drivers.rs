//! The TLS side of drivers that open their own sockets. They trust `ca` beside the public authorities, not instead.

use std::fs;

use elasticsearch::{
    auth::ClientCertificate,
    cert::{Certificate, CertificateValidation},
};
use sqlx::{
    mysql::{MySqlConnectOptions, MySqlSslMode},
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{TlsConfig, Verify};
use crate::error::{EdgeError, ErrorKind};

/// Returns `options` with TLS as `tls` wants it; unchanged without it, so that the URL decides.
#[must_use]
pub fn mysql(options: MySqlConnectOptions, tls: Option<&TlsConfig>) -> MySqlConnectOptions {
    let Some(tls) = tls else { return options };
    let mut options = options.ssl_mode(match tls.verify {
        Verify::Full => MySqlSslMode::VerifyIdentity,
        Verify::Ca => MySqlSslMode::VerifyCa,
        Verify::None => MySqlSslMode::Required,
    });
    if let Some(ca) = &tls.ca {
        options = options.ssl_ca(ca);
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

/// Returns `options` with TLS as `tls` wants it; unchanged without it, so that the URL decides.
#[must_use]
pub fn postgres(options: PgConnectOptions, tls: Option<&TlsConfig>) -> PgConnectOptions {
    let Some(tls) = tls else { return options };
    let mut options = options.ssl_mode(match tls.verify {
        Verify::Full => PgSslMode::VerifyFull,
        Verify::Ca => PgSslMode::VerifyCa,
        Verify::None => PgSslMode::Require,
    });
    if let Some(ca) = &tls.ca {
        options = options.ssl_root_cert(ca);
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

/// What `TransportBuilder` of the search client takes.
pub struct SearchTls {
    /// For `cert_validation`.
    pub validation: CertificateValidation,
    /// For `auth`, which takes one way to log in: a password goes into an `Authorization` header then.
    pub certificate: Option<ClientCertificate>,
}

/// Returns what the search client needs to hear of `tls`.
///
/// # Errors
///
/// `Refused` for a file that cannot be used, and for `verify: ca`, which that client cannot do.
pub fn search(place: &str, tls: Option<&TlsConfig>) -> Result<SearchTls, EdgeError> {
    let Some(tls) = tls else {
        return Ok(SearchTls {
            validation: CertificateValidation::Default,
            certificate: None,
        });
    };
    let unusable = |what: &str, why: &str| {
        EdgeError::new(
            ErrorKind::Refused,
            format!("{what} for {place} cannot be used: {why}"),
        )
    };
    // Checked when the plan was read: by now a file may have gone, and its error says so.
    let read = |key: &str, path| fs::read(path).map_err(|e| unusable(key, &e.to_string()));
    let validation = match (tls.verify, &tls.ca) {
        (Verify::None, _) => CertificateValidation::None,
        (Verify::Ca, _) => {
            let why = "over HTTP it can only be `full` or `none`";
            return Err(unusable("`tls.verify: ca`", why));
        }
        (Verify::Full, None) => CertificateValidation::Default,
        (Verify::Full, Some(ca)) => CertificateValidation::Full(
            Certificate::from_pem(&read("`tls.ca`", ca)?)
                .map_err(|_| unusable("`tls.ca`", "it holds no certificate in PEM form"))?,
        ),
    };
    let certificate = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let mut pem = read("`tls.cert`", cert)?;
            pem.push(b'\n');
            pem.extend(read("`tls.key`", key)?);
            Some(ClientCertificate::Pem(pem))
        }
        _ => None,
    };
    Ok(SearchTls {
        validation,
        certificate,
    })
}
