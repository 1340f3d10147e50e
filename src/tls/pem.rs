//! Certificates and keys out of PEM files.

use std::{fs, io, path::Path};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Why a PEM file cannot be used. Never says what is in it.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It is not there, or may not be read.
    #[error("{}", reason(.0))]
    Unreadable(#[source] io::Error),
    /// It has none of what it was named for.
    #[error("it holds no {0}")]
    Without(&'static str),
    /// It begins like PEM and goes on otherwise.
    #[error("it is damaged, or not in PEM form")]
    Broken,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}

/// Returns the certificates in the file at `path`, at least one.
///
/// # Errors
///
/// [`PemError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let bytes = fs::read(path).map_err(PemError::Unreadable)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| PemError::Broken)?;
    if found.is_empty() {
        return Err(PemError::Without("certificate in PEM form"));
    }
    Ok(found)
}

/// Returns the first private key in the file at `path`: PKCS#8, PKCS#1 or SEC1, without a password.
///
/// # Errors
///
/// [`PemError`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    use rustls::pki_types::pem::Error;
    let bytes = fs::read(path).map_err(PemError::Unreadable)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        Error::NoItemsFound => PemError::Without("private key in PEM form without a password"),
        _ => PemError::Broken,
    })
}
