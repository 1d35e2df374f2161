//! Authorities, and what they sign. Pure but for the keys, which are random: times are given.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use portolan_xds::ads::{
    gateway_of_certificate, replica_spiffe_id, spiffe_id,
    tls::{TlsError, server_config},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::fleet::{GatewayName, cluster::Identity};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// How long an authority is valid.
const AUTHORITY_LIFE: i64 = 10 * YEAR;
/// How long before its end a successor is made.
const AUTHORITY_OVERLAP: i64 = YEAR;
/// How long a new authority is only trusted before it signs: every proxy's certificate is renewed in that time, and
/// brings the authorities along.
const SPREAD: i64 = 2 * DAY;
/// How long a certificate is valid.
const LIFE: i64 = DAY;
/// Certificates begin earlier than now: clocks differ.
const SKEW: i64 = HOUR;

/// What is wrong with certificates or keys.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// One could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS layer refuses them.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What was stored cannot be used.
    #[error("{what}: {reason}")]
    Stored {
        /// The entry.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing was stored.
    #[error("there is no authority: expected entries <id>.crt and <id>.key")]
    Empty,
}

/// A certificate authority.
#[derive(Clone)]
pub struct Authority {
    certificate: String,
    key: String,
    not_before: i64,
    not_after: i64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("id", &self.id())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A certificate with its key, PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS 8.
    pub key: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, valid from an hour before `now`.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn new(now: Timestamp) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let (not_before, not_after) = (now.as_second() - SKEW, now.as_second() + AUTHORITY_LIFE);
        let mut params = params(not_before, not_after, &format!("Portolan authority {}", now.as_second()))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), not_before, not_after })
    }

    /// From what was stored.
    fn read(what: &str, certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let wrong = |reason: String| IdentityError::Stored { what: what.to_owned(), reason };
        let text = |bytes: &[u8]| {
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| wrong("it is no PEM".to_owned()))
        };
        let (certificate, key) = (text(certificate)?, text(key)?);
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| wrong(format!("the certificate is no PEM: {error}")))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|error| wrong(format!("the certificate cannot be parsed: {error}")))?;
        let validity = parsed.validity();
        let authority = Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            certificate,
            key,
        };
        if !parsed.is_ca() {
            return Err(wrong("the certificate is not one of an authority".to_owned()));
        }
        let pair = KeyPair::from_pem(&authority.key)
            .map_err(|error| wrong(format!("the key cannot be used: {error}")))?;
        if parsed.public_key().subject_public_key.data != pair.public_key_raw() {
            return Err(wrong("the key is not that of the certificate".to_owned()));
        }
        Ok(authority)
    }

    /// A short, stable name.
    fn id(&self) -> String {
        blake3::hash(self.certificate.as_bytes()).to_hex().chars().take(16).collect()
    }

    fn is_valid(&self, now: i64) -> bool {
        now < self.not_after
    }

    fn sign(&self, params: &CertificateParams) -> Result<Issued, IdentityError> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// All authorities that are trusted, oldest first; never none.
#[derive(Clone, Debug)]
pub struct Authorities(Vec<Authority>);

impl Authorities {
    /// With one new authority.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn new(now: Timestamp) -> Result<Self, IdentityError> {
        Ok(Self(vec![Authority::new(now)?]))
    }

    /// From the data of a Secret.
    ///
    /// # Errors
    /// Names the entry that cannot be used.
    pub fn read(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, IdentityError> {
        let mut all = Vec::new();
        for (name, certificate) in data {
            let Some(id) = name.strip_suffix(".crt") else { continue };
            let key = data.get(&format!("{id}.key")).ok_or_else(|| IdentityError::Stored {
                what: format!("{id}.key"),
                reason: "it is missing".to_owned(),
            })?;
            all.push(Authority::read(id, certificate, key)?);
        }
        if all.is_empty() {
            return Err(IdentityError::Empty);
        }
        all.sort_by(|one, other| {
            (one.not_before, &one.certificate).cmp(&(other.not_before, &other.certificate))
        });
        Ok(Self(all))
    }

    /// As the data of a Secret.
    pub fn write(&self) -> BTreeMap<String, Vec<u8>> {
        let entry = |authority: &Authority| {
            let id = authority.id();
            let (certificate, key) = (authority.certificate.clone(), authority.key.clone());
            [(format!("{id}.crt"), certificate.into_bytes()), (format!("{id}.key"), key.into_bytes())]
        };
        self.0.iter().flat_map(entry).collect()
    }

    /// With a successor where the newest authority ends within a year, and without those that have ended; none where
    /// nothing is due.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn renewed(&self, now: Timestamp) -> Result<Option<Self>, IdentityError> {
        let seconds = now.as_second();
        let newest = self.0.iter().map(|authority| authority.not_after).max().unwrap_or_default();
        let mut all: Vec<_> =
            self.0.iter().filter(|authority| authority.is_valid(seconds)).cloned().collect();
        if newest - seconds < AUTHORITY_OVERLAP {
            all.push(Authority::new(now)?);
        }
        let changed = all.len() != self.0.len() || newest - seconds < AUTHORITY_OVERLAP;
        Ok(changed.then_some(Self(all)))
    }

    /// The certificates of all authorities, PEM.
    pub fn bundle(&self) -> String {
        self.0.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// Who signs: the newest that everybody has had the time to learn of, else the oldest.
    fn signer(&self, now: Timestamp) -> Result<&Authority, IdentityError> {
        let known = now.as_second() - SPREAD;
        self.0
            .iter()
            .rev()
            .find(|authority| authority.not_before <= known)
            .or(self.0.first())
            .ok_or(IdentityError::Empty)
    }

    /// A certificate for a TLS server of this name.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn server(&self, host: &str, now: Timestamp) -> Result<Issued, IdentityError> {
        let mut params = leaf(now, "Portolan operator")?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
        self.signer(now)?.sign(&params)
    }

    /// The configuration of a TLS server that has such a certificate and lets in clients of these authorities.
    ///
    /// # Errors
    /// As [`Authorities::server`].
    pub fn server_config(&self, host: &str, now: Timestamp) -> Result<Arc<ServerConfig>, IdentityError> {
        let (chain, key) = readable(&self.server(host, now)?)?;
        Ok(server_config(chain, key, self.roots()?)?)
    }

    /// A certificate for a TLS client of this URI.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn client(&self, uri: &str, now: Timestamp) -> Result<Issued, IdentityError> {
        let mut params = leaf(now, "Portolan client")?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        self.signer(now)?.sign(&params)
    }

    /// The configuration of a replica as the TLS client of another one.
    ///
    /// # Errors
    /// As [`Authorities::client`].
    pub fn replica_config(
        &self,
        trust_domain: &str,
        now: Timestamp,
    ) -> Result<Arc<ClientConfig>, IdentityError> {
        let (chain, key) = readable(&self.client(&replica_spiffe_id(trust_domain), now)?)?;
        let mut roots = RootCertStore::empty();
        for root in self.roots()? {
            roots.add(root).map_err(TlsError::from)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::from)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(TlsError::from)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        CertificateDer::pem_slice_iter(self.bundle().as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable("the authorities", &error))
    }

    /// What the proxies of a Gateway need: a certificate for it, and whom to trust.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn proxy(
        &self,
        trust_domain: &str,
        gateway: &GatewayName,
        now: Timestamp,
    ) -> Result<Identity, IdentityError> {
        let issued = self.client(&spiffe_id(trust_domain, gateway.key()), now)?;
        Ok(Identity { certificate: issued.certificate, key: issued.key, authorities: self.bundle() })
    }

    /// Whether the proxies of a Gateway need a new certificate: theirs is not one of this Gateway and of a trusted
    /// authority, or has spent two thirds of its life, or they do not know all authorities.
    pub fn is_stale(
        &self,
        trust_domain: &Arc<str>,
        gateway: &GatewayName,
        certificate: &[u8],
        authorities: &[u8],
        now: Timestamp,
    ) -> bool {
        let fresh = || -> Option<()> {
            let leaf = CertificateDer::from_pem_slice(certificate).ok()?;
            let named = gateway_of_certificate(&leaf, trust_domain).ok()?;
            let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
            let validity = parsed.validity();
            let trusted = self.0.iter().any(|authority| authority.has_signed(&parsed));
            let due = is_due(validity.not_before.timestamp(), validity.not_after.timestamp(), now);
            let complete = authorities == self.bundle().as_bytes();
            (named == *gateway.key() && trusted && !due && complete).then_some(())
        };
        fresh().is_none()
    }
}

/// A certificate and its key as the TLS layer wants them.
fn readable(
    issued: &Issued,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), IdentityError> {
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes())
        .map_err(|error| unreadable("this replica's certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())
        .map_err(|error| unreadable("this replica's key", &error))?;
    Ok((vec![certificate], key))
}

fn unreadable(what: &str, error: &rustls_pki_types::pem::Error) -> IdentityError {
    IdentityError::Stored { what: what.to_owned(), reason: error.to_string() }
}

impl Authority {
    fn has_signed(&self, certificate: &X509Certificate<'_>) -> bool {
        let signed = || -> Option<bool> {
            let own = CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()?;
            let (_, own) = X509Certificate::from_der(&own).ok()?;
            Some(own.subject() == certificate.issuer() && signature_holds(certificate, &own))
        };
        signed().unwrap_or(false)
    }
}

/// Checked as a client of TLS would, with the provider that TLS uses.
fn signature_holds(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    algorithms.all.iter().any(|algorithm| {
        algorithm
            .verify_signature(
                &issuer.public_key().subject_public_key.data,
                certificate.tbs_certificate.as_ref(),
                &certificate.signature_value.data,
            )
            .is_ok()
    })
}

/// Whether something of this validity has spent two thirds of it.
pub fn is_due(not_before: i64, not_after: i64, now: Timestamp) -> bool {
    now.as_second() >= not_before + (not_after - not_before) / 3 * 2
}

/// When a certificate that is made now is due.
pub(super) fn renewal() -> Duration {
    Duration::from_secs(((LIFE + SKEW) / 3 * 2 - SKEW).unsigned_abs())
}

fn leaf(now: Timestamp, name: &str) -> Result<CertificateParams, IdentityError> {
    let mut params = params(now.as_second() - SKEW, now.as_second() + LIFE, name)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(not_before: i64, not_after: i64, name: &str) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    let at = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| IdentityError::Stored {
            what: "the clock".to_owned(),
            reason: error.to_string(),
        })
    };
    params.not_before = at(not_before)?;
    params.not_after = at(not_after)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const TRUST: &str = "cluster.local";

    fn later(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW.as_second() + seconds).unwrap()
    }

    fn gateway(name: &str) -> GatewayName {
        GatewayName::new("apps", name).unwrap()
    }

    fn stale(authorities: &Authorities, identity: &Identity, name: &str, now: Timestamp) -> bool {
        let (certificate, roots) = (identity.certificate.as_bytes(), identity.authorities.as_bytes());
        authorities.is_stale(&TRUST.into(), &gateway(name), certificate, roots, now)
    }

    #[test]
    fn authorities_read_back_as_they_were_written() {
        let one = Authorities::new(NOW).unwrap();
        let two = one.renewed(later(AUTHORITY_LIFE - 1)).unwrap().unwrap();
        let read = Authorities::read(&two.write()).unwrap();
        assert_eq!(read.bundle(), two.bundle());
        assert_eq!(read.write(), two.write());
    }

    #[test]
    fn damaged_authorities_name_their_entry() {
        let (one, other) = (Authorities::new(NOW).unwrap().write(), Authorities::new(NOW).unwrap().write());
        let entry = |data: &BTreeMap<String, Vec<u8>>, suffix: &str| {
            data.iter()
                .find(|(name, _)| name.ends_with(suffix))
                .map(|(name, text)| (name.clone(), text.clone()))
        };
        let (certificate_name, _) = entry(&one, ".crt").unwrap();
        let (key_name, _) = entry(&one, ".key").unwrap();
        for (name, value, expected) in [
            (&certificate_name, Some(b"x".to_vec()), "no PEM"),
            (&certificate_name, Some(vec![0xff]), "no PEM"),
            (&key_name, Some(b"x".to_vec()), "key cannot be used"),
            (&key_name, entry(&other, ".key").map(|(_, text)| text), "not that of the certificate"),
            (&key_name, None, "missing"),
            (&certificate_name, None, "no authority"),
        ] {
            let mut data = one.clone();
            match value {
                Some(value) => data.insert(name.clone(), value),
                None => data.remove(name),
            };
            let error = Authorities::read(&data).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_leaf_is_no_authority() {
        let authorities = Authorities::new(NOW).unwrap();
        let leaf = authorities.client("spiffe://cluster.local/x", NOW).unwrap();
        let data = [
            ("a.crt".to_owned(), leaf.certificate.into_bytes()),
            ("a.key".to_owned(), leaf.key.into_bytes()),
        ];
        let error = Authorities::read(&data.into()).unwrap_err().to_string();
        assert!(error.contains("not one of an authority"), "{error}");
    }

    #[test]
    fn a_proxys_certificate_names_its_gateway_and_is_renewed_after_two_thirds_of_its_life() {
        let authorities = Authorities::new(NOW).unwrap();
        let identity = authorities.proxy(TRUST, &gateway("public"), NOW).unwrap();
        let leaf = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        assert_eq!(gateway_of_certificate(&leaf, &TRUST.into()).unwrap(), *gateway("public").key());
        assert!(!stale(&authorities, &identity, "public", NOW));
        let renewal = renewal().as_secs().cast_signed();
        assert!(!stale(&authorities, &identity, "public", later(renewal - 60)));
        assert!(stale(&authorities, &identity, "public", later(renewal + 60)));
        assert!(renewal < LIFE - 6 * HOUR, "there is time to renew it");
    }

    #[test]
    fn what_is_not_ours_is_replaced() {
        let (authorities, other) = (Authorities::new(NOW).unwrap(), Authorities::new(NOW).unwrap());
        let own = authorities.proxy(TRUST, &gateway("public"), NOW).unwrap();
        assert!(stale(&authorities, &own, "internal", NOW), "another Gateway's");
        let foreign = Identity {
            authorities: authorities.bundle(),
            ..other.proxy(TRUST, &gateway("public"), NOW).unwrap()
        };
        assert!(stale(&authorities, &foreign, "public", NOW), "another authority's with the same name");
        let unknown = Identity { authorities: String::new(), ..own.clone() };
        assert!(stale(&authorities, &unknown, "public", NOW), "without the authorities");
        let broken = Identity { certificate: "x".to_owned(), ..own };
        assert!(stale(&authorities, &broken, "public", NOW), "no certificate at all");
    }

    #[test]
    fn an_authority_is_known_to_all_before_it_signs() {
        let old = Authorities::new(NOW).unwrap();
        assert!(old.renewed(later(AUTHORITY_LIFE - AUTHORITY_OVERLAP)).unwrap().is_none());
        let turn = later(AUTHORITY_LIFE - AUTHORITY_OVERLAP + 1);
        let both = old.renewed(turn).unwrap().unwrap();
        assert!(both.renewed(turn).unwrap().is_none(), "once");
        let identity = old.proxy(TRUST, &gateway("public"), turn).unwrap();
        assert!(stale(&both, &identity, "public", turn), "it must learn of the new one");
        // Signed by the old one still: who knows only that one is not left behind.
        let signer = |now| both.signer(now).unwrap().id();
        assert_eq!(signer(turn), old.0[0].id());
        let settled = later(AUTHORITY_LIFE - AUTHORITY_OVERLAP + 1 + SPREAD);
        assert_eq!(signer(settled), both.0[1].id());
        let alone = both.renewed(later(AUTHORITY_LIFE + 1)).unwrap().unwrap();
        assert_eq!(alone.bundle(), both.0[1].certificate);
    }
}
