//! Throw-away certificates for tests and the quickstart: one authority, and what it signs.
//!
//! Private keys are written with mode 0600 from the first byte. Names never reach a public authority.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A name that cannot stand in a certificate, or a failure of the cryptography behind it.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS#8).
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).field("key", &"redacted").finish()
    }
}

/// A certificate authority that lives as long as this value.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority of that common name, valid for about two years.
    pub fn new(name: &str) -> Result<Self, CertError> {
        let mut params = params(&[], name)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server of these host names or IP addresses.
    pub fn server(&self, hosts: &[String]) -> Result<Pair, CertError> {
        let name = hosts.first().map_or("server", String::as_str);
        self.issue(params(hosts, name)?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a server that also has a URI, such as a SPIFFE ID.
    pub fn server_with_uri(&self, hosts: &[String], uri: &str) -> Result<Pair, CertError> {
        let name = hosts.first().map_or("server", String::as_str);
        let mut params = params(hosts, name)?;
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a server that expired at the end of the year before last.
    pub fn expired_server(&self, hosts: &[String]) -> Result<Pair, CertError> {
        let name = hosts.first().map_or("server", String::as_str);
        let mut params = params(hosts, name)?;
        params.not_before = rcgen::date_time_ymd(this_year() - 3, 1, 1);
        params.not_after = rcgen::date_time_ymd(this_year() - 1, 1, 1);
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client of that common name (also its DNS name).
    pub fn client(&self, name: &str) -> Result<Pair, CertError> {
        self.issue(params(&[name.to_owned()], name)?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Pair, CertError> {
        params.extended_key_usages = vec![purpose];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}

fn params(hosts: &[String], name: &str) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, name);
    let year = this_year();
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + 2, 1, 1);
    Ok(params)
}

/// The Gregorian year, exact enough for a validity that starts a year ago.
fn this_year() -> i32 {
    const SECONDS: u64 = 31_556_952;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    1970 + i32::try_from(since_epoch / SECONDS).unwrap_or_default()
}

/// Writes `ca.crt`, `tls.crt` and `tls.key` into a folder (made with mode 0700 where missing), replacing each
/// file in one step, and with a name also `secret.yaml`: the pair as a Secret of type `kubernetes.io/tls`.
pub fn write(folder: &Path, hosts: &[String], secret: Option<(&str, &str)>) -> Result<(), CertError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| CertError::Write { path: folder.to_owned(), source })?;
    let authority = Authority::new("Portolan test authority")?;
    let pair = authority.server(hosts)?;
    replace(&folder.join("ca.crt"), 0o644, authority.certificate())?;
    replace(&folder.join("tls.crt"), 0o644, &pair.certificate)?;
    replace(&folder.join("tls.key"), 0o600, &pair.key)?;
    if let Some((namespace, name)) = secret {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             type: kubernetes.io/tls\ndata:\n  tls.crt: {}\n  tls.key: {}\n",
            encode(&pair.certificate),
            encode(&pair.key),
        );
        replace(&folder.join("secret.yaml"), 0o600, &text)?;
    }
    Ok(())
}

fn replace(path: &Path, mode: u32, text: &str) -> Result<(), CertError> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| {
        fs::remove_file(&temporary).ok();
        CertError::Write { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_written_twice_and_keys_stay_private() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = ["a.example".to_owned(), "127.0.0.1".to_owned()];
        write(folder.path(), &hosts, Some(("default", "cert"))).unwrap();
        let first = fs::read(folder.path().join("tls.key")).unwrap();
        write(folder.path(), &hosts, Some(("default", "cert"))).unwrap();
        assert_ne!(first, fs::read(folder.path().join("tls.key")).unwrap());
        for private in ["tls.key", "secret.yaml"] {
            let mode = fs::metadata(folder.path().join(private)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{private}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn debug_shows_no_key() {
        let pair = Authority::new("test").unwrap().server(&["a.example".to_owned()]).unwrap();
        assert!(!format!("{pair:?}").contains("PRIVATE KEY"));
    }
}
