//! What a failed handshake means, in words that say which side refused and why.

use std::{error::Error as StdError, io};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::error::ErrorKind;

/// What is said of a server that answers a handshake with something else.
pub const NO_TLS: &str = "it does not speak TLS on this port";

/// Returns the kind and the reason of the TLS error somewhere in `error`'s chain, to be put after the place:
/// `its certificate is signed by no authority that is trusted here`. `None` if TLS is not what failed.
#[must_use]
pub fn explain(error: &(dyn StdError + 'static)) -> Option<(ErrorKind, String)> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<Error>() {
            return Some(reason(tls));
        }
        // Its `source` leaves out the error it was made from.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn reason(error: &Error) -> (ErrorKind, String) {
    let said = |text: &str| (ErrorKind::Refused, text.to_owned());
    match error {
        Error::InvalidCertificate(fault) => (ErrorKind::Refused, certificate(fault)),
        Error::AlertReceived(alert) => alerted(*alert),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => said(NO_TLS),
        Error::PeerIncompatible(_) => {
            said("it offers no version or cipher of TLS that is still safe")
        }
        Error::NoCertificatesPresented => said("it shows no certificate"),
        // Garbled bytes, a peer that misbehaves: may pass, as a broken connection does.
        other => (
            ErrorKind::Connection,
            format!("the TLS connection broke: {other}"),
        ),
    }
}

fn certificate(fault: &CertificateError) -> String {
    match fault {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by no authority that is trusted here; name its CA as `tls.ca`"
                .to_owned()
        }
        // The authority itself is shown as the server's certificate: rustls has no word of its own for it.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is one of an authority, not of a server".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or the clock here is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not in force yet, or the clock here is wrong".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            format!(
                "its certificate is for another name ({})",
                presented.join(", ")
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name".to_owned()
        }
        CertificateError::Revoked => "its certificate was revoked".to_owned(),
        other => format!("its certificate cannot be trusted: {other}"),
    }
}

fn alerted(alert: AlertDescription) -> (ErrorKind, String) {
    use AlertDescription as A;
    match alert {
        // TLS 1.2 has no alert of its own for it; `handshake_failure` is also "no cipher in common".
        A::CertificateRequired => (
            ErrorKind::Credentials,
            "it wants a client certificate; name one as `tls.cert` and `tls.key`".to_owned(),
        ),
        A::HandshakeFailure => (
            ErrorKind::Credentials,
            "it broke off the TLS handshake: it may want a client certificate (`tls.cert`, `tls.key`), or have no cipher \
             in common with us"
                .to_owned(),
        ),
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied => (
            ErrorKind::Credentials,
            format!("it refused our client certificate: {}", words(alert)),
        ),
        A::ProtocolVersion => (
            ErrorKind::Refused,
            "it offers no version of TLS that is still safe".to_owned(),
        ),
        A::UnrecognisedName => (
            ErrorKind::Refused,
            "it knows no server of this name".to_owned(),
        ),
        A::InternalError => (
            ErrorKind::Connection,
            "it broke off the TLS handshake by an error of its own".to_owned(),
        ),
        other => (
            ErrorKind::Connection,
            format!("it broke off the TLS handshake: {}", words(other)),
        ),
    }
}

/// Returns an alert as the standard writes it: `unknown ca`.
fn words(alert: AlertDescription) -> String {
    let mut words = String::new();
    let mut was_upper = true;
    for c in format!("{alert:?}").chars() {
        if c.is_uppercase() && !was_upper {
            words.push(' ');
        }
        was_upper = c.is_uppercase();
        words.extend(c.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_error_is_found_below_others() {
        let io = io::Error::new(
            io::ErrorKind::InvalidData,
            Error::AlertReceived(AlertDescription::CertificateRequired),
        );
        let sqlx = sqlx::Error::Io(io);
        let (kind, text) = explain(&sqlx).expect("a TLS error");
        assert_eq!(kind, ErrorKind::Credentials);
        assert!(text.contains("`tls.cert`"), "{text}");
        assert!(explain(&io::Error::from(io::ErrorKind::ConnectionReset)).is_none());
    }

    #[test]
    fn each_side_is_named() {
        for (error, kind, said) in [
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                ErrorKind::Refused,
                "its certificate is signed by no authority",
            ),
            (
                Error::InvalidCertificate(CertificateError::Expired),
                ErrorKind::Refused,
                "has expired",
            ),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                ErrorKind::Refused,
                "does not speak TLS",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                ErrorKind::Credentials,
                "refused our client certificate: unknown ca",
            ),
            (
                Error::AlertReceived(AlertDescription::CertificateExpired),
                ErrorKind::Credentials,
                "refused our client certificate: certificate expired",
            ),
            (
                Error::DecryptError,
                ErrorKind::Connection,
                "the TLS connection broke",
            ),
        ] {
            let (found, text) = explain(&error).expect("a TLS error");
            assert_eq!(found, kind, "{text}");
            assert!(text.contains(said), "{text}");
        }
    }
}
