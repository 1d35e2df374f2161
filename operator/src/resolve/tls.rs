//! A Gateway's certificates.

use std::{collections::BTreeMap, sync::Arc};

use portolan_xds::ir::{self, SecretBody};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    Fault, Protocol, RefFrom,
    grant::{RefError, named, resolve_ref},
};
use crate::{
    model::{Kind, ListenerSpec, ObjectKey, ObjectRef, Secret},
    world::View,
};

/// The certificates of a Gateway's listeners.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsOut {
    /// By listener name; listeners without TLS are absent.
    pub listeners: BTreeMap<Arc<str>, ListenerTls>,
}

/// The certificates of one listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerTls {
    /// Those that can be used, in the listener's order.
    pub certificates: Vec<Certificate>,
    /// What is wrong with the others; the first one gives the reason.
    pub faults: Vec<Fault>,
}

/// A certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What goes out over SDS.
    pub secret: Arc<ir::Secret>,
    /// The first second since the epoch at which it, or a certificate of its chain, is expired.
    pub expires: i64,
}

impl TlsOut {
    /// When certificates expire.
    pub(super) fn expiries(&self) -> impl Iterator<Item = i64> {
        self.listeners.values().flat_map(|tls| &tls.certificates).map(|one| one.expires)
    }
}

/// Resolves [`super::Unit::Tls`].
pub(super) fn tls(view: &View<'_>, key: &ObjectKey) -> Option<TlsOut> {
    let gateway = view.gateway(key)?;
    let mut out = TlsOut::default();
    let terminates = |one: &&ListenerSpec| {
        Protocol::from_spec(&one.protocol, one.tls_mode).is_some_and(Protocol::terminates)
    };
    for listener in gateway.listeners.iter().filter(terminates) {
        let mut tls = ListenerTls::default();
        if listener.certificates.is_empty() {
            tls.faults.push(Fault::new(
                "InvalidCertificateRef",
                "tls.certificateRefs: a listener that terminates TLS needs at least one certificate",
            ));
        }
        for (position, reference) in listener.certificates.iter().enumerate() {
            match certificate(view, key, reference) {
                Ok((secret, expires)) => {
                    tls.certificates.push(Certificate { secret: Arc::new(secret), expires });
                }
                Err(fault) => tls.faults.push(fault.at(format!("tls.certificateRefs[{position}]"))),
            }
        }
        out.listeners.insert(listener.name.clone(), tls);
    }
    Some(out)
}

fn certificate(
    view: &View<'_>,
    gateway: &ObjectKey,
    reference: &ObjectRef,
) -> Result<(ir::Secret, i64), Fault> {
    let invalid = |message: String| Fault::new("InvalidCertificateRef", message);
    if !reference.group.is_empty() || *reference.kind != *Kind::Secret.as_str() {
        return Err(invalid(format!(
            "{} {}: expected a Secret of the core group",
            named(&reference.group, &reference.kind),
            reference.name
        )));
    }
    let from = RefFrom { kind: Kind::Gateway, namespace: &gateway.namespace };
    let secret: Arc<Secret> = resolve_ref(view, &from, reference.namespace.as_ref(), &reference.name)
        .map_err(|error| match error {
            RefError::NotPermitted { .. } => Fault::new("RefNotPermitted", error.to_string()),
            RefError::NotFound(_) => invalid(error.to_string()),
        })?
        .into_inner();
    let key = &secret.meta.key;
    let (chain, private, expires) =
        read_pair(&secret).map_err(|message| invalid(format!("{key}: {message}")))?;
    let name = format!("{}/{}", key.namespace, key.name).into();
    Ok((ir::Secret { name, body: SecretBody::Certificate { chain, key: private } }, expires))
}

/// The chain and key as PEM and the moment of expiry, after everything that Envoy would reject has been checked.
fn read_pair(secret: &Secret) -> Result<(Arc<str>, Arc<str>, i64), String> {
    if &*secret.type_ != "kubernetes.io/tls" {
        return Err(format!("type is {}, expected kubernetes.io/tls", secret.type_));
    }
    let text = |field: &str, bytes: &Option<Arc<[u8]>>| -> Result<String, String> {
        let bytes = bytes.as_deref().ok_or_else(|| format!("{field} is missing"))?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| format!("{field} is not PEM"))
    };
    let (chain, key) = (text("tls.crt", &secret.certificate)?, text("tls.key", &secret.key)?);
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("tls.crt is not PEM: {error}"))?;
    let mut expires = i64::MAX;
    for (position, certificate) in certificates.iter().enumerate() {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| format!("tls.crt: certificate {} does not parse: {error}", position + 1))?;
        expires = expires.min(parsed.validity().not_after.timestamp().saturating_add(1));
    }
    if certificates.is_empty() {
        return Err("tls.crt holds no certificate".into());
    }
    // The message of a failed key never quotes the key.
    let private =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "tls.key holds no private key in PEM")?;
    let signer = rustls::crypto::ring::sign::any_supported_type(&private).map_err(
        |_| "tls.key is of an unsupported kind: expected RSA (2048 bits or more), ECDSA or Ed25519",
    )?;
    match rustls::sign::CertifiedKey::new(certificates, signer).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok((chain.into(), key.into(), expires))
        }
        Err(_) => Err("tls.key is not the key of tls.crt's first certificate".into()),
    }
}
