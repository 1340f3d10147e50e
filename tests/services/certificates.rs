//! An authority, and certificates of it that are right or wrong in one way.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// A folder with `NAME.pem` and `NAME.key` for each certificate.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes `ca` and, of it, `server` (for 127.0.0.1 and localhost), `other-name`, `expired` and `client`; `stranger`
    /// is another authority, and `stranger-client` of it.
    pub fn new() -> Self {
        let certificates = Self {
            folder: TempDir::new().expect("a folder"),
        };
        let ca = certificates.authority("ca");
        certificates.issue("server", &["127.0.0.1", "localhost"], &ca, |_| ());
        certificates.issue("other-name", &["cache.test"], &ca, |_| ());
        certificates.issue("expired", &["127.0.0.1"], &ca, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        certificates.issue("client", &["client"], &ca, |_| ());
        let stranger = certificates.authority("stranger");
        certificates.issue("stranger-client", &["client"], &stranger, |_| ());
        // Servers run as users of their own.
        for file in fs::read_dir(certificates.folder.path()).expect("the folder") {
            open_to_all(&file.expect("a file").path(), 0o644);
        }
        open_to_all(certificates.folder.path(), 0o755);
        certificates
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Returns the path as text.
    pub fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    fn authority(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        fs::write(self.path(&format!("{name}.pem")), issuer.pem()).expect("written");
        issuer
    }

    fn issue(
        &self,
        name: &str,
        names: &[&str],
        ca: &CertifiedIssuer<'static, KeyPair>,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let certificate = params.signed_by(&key, ca).expect("a certificate");
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).expect("written");
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }
}

fn open_to_all(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}
