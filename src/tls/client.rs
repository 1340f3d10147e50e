//! The TLS side of sockets that are our own.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{TlsConfig, Verify, pem};
use crate::error::{EdgeError, ErrorKind};

/// Returns what a connection to `place` begins its handshake with. Reads the files that `tls` names.
///
/// # Errors
///
/// `Refused` for a file that cannot be used, or a key that is not the certificate's.
pub fn client(place: &str, tls: &TlsConfig) -> Result<Arc<ClientConfig>, EdgeError> {
    let unusable = |what: &str, why: String| {
        EdgeError::new(
            ErrorKind::Refused,
            format!("the {what} for {place} cannot be used: {why}"),
        )
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| EdgeError::new(ErrorKind::Internal, "TLS cannot be set up").because(e))?;
    let trusting = if tls.verify == Verify::None {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        let roots = Arc::new(roots(tls).map_err(|why| unusable("`tls.ca`", why))?);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|e| unusable("`tls.ca`", e.to_string()))?;
        if tls.verify == Verify::Ca {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName(inner)))
        } else {
            builder.with_webpki_verifier(inner)
        }
    };
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(Arc::new(trusting.with_no_client_auth()));
    };
    let cert = pem::certificates(cert).map_err(|e| unusable("`tls.cert`", e.to_string()))?;
    let key = pem::private_key(key).map_err(|e| unusable("`tls.key`", e.to_string()))?;
    trusting
        .with_client_auth_cert(cert, key)
        .map(Arc::new)
        .map_err(|_| {
            unusable(
                "`tls.key`",
                "it is not the key of the certificate in `tls.cert`".into(),
            )
        })
}

fn roots(tls: &TlsConfig) -> Result<RootCertStore, String> {
    let Some(ca) = &tls.ca else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(ca).map_err(|e| e.to_string())? {
        roots
            .add(certificate)
            .map_err(|_| "it holds a certificate that cannot be read".to_owned())?;
    }
    Ok(roots)
}

/// `verify: ca`: as the verifier inside, for whatever name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last: with this answer, everything else was right.
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `verify: none`: whoever answers, as long as the key is the certificate's.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
