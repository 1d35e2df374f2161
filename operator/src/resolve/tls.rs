//! Certificates of listeners, of a Gateway and of its ListenerSets, and what a Gateway shows to backends.

use std::{collections::BTreeMap, sync::Arc};

use portolan_xds::ir::{self, SecretBody};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    Fault, Protocol, RefFrom, Unit,
    class::class_of,
    engine::State,
    grant::{Granted, RefError, named, resolve_ref},
};
use crate::{
    model::{Kind, ListenerSpec, ObjectKey, ObjectRef, Secret},
    world::{Read, View},
};

/// The certificates of the listeners of a Gateway or of a ListenerSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsOut {
    /// By listener name; listeners without TLS are absent.
    pub listeners: BTreeMap<Arc<str>, ListenerTls>,
    /// What the Gateway shows to backends (GatewayBackendTLS.clientCertificateRef).
    pub client: Option<Result<Certificate, Fault>>,
}

/// The certificates of one listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerTls {
    /// Those that can be used, in the listener's order.
    pub certificates: Vec<Certificate>,
    /// What is wrong with the others; the first one gives the reason.
    pub faults: Vec<Fault>,
    /// Whether a good pair stands in for every one that is wrong: then the listener goes on as before.
    pub stands: bool,
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
    /// What the Gateway shows to backends.
    pub(super) fn client_secret(&self) -> Option<&Arc<ir::Secret>> {
        self.client.as_ref()?.as_ref().ok().map(|certificate| &certificate.secret)
    }

    /// When certificates expire.
    pub(super) fn expiries(&self) -> impl Iterator<Item = i64> {
        self.listeners.values().flat_map(|tls| &tls.certificates).map(|one| one.expires)
    }
}

/// Resolves [`super::Unit::Tls`].
pub(super) fn tls(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<TlsOut> {
    let (listeners, reference) = if key.kind == Kind::ListenerSet {
        (view.listener_set(key)?.listeners.clone(), None)
    } else {
        let gateway = view.gateway(key)?;
        class_of(view, state, &gateway)?;
        (gateway.listeners.clone(), gateway.client_certificate.clone())
    };
    let mut out = TlsOut::default();
    let terminates = |one: &&ListenerSpec| {
        Protocol::from_spec(&one.protocol, one.tls_mode).is_some_and(Protocol::terminates)
    };
    for listener in listeners.iter().filter(terminates) {
        let mut tls = ListenerTls { stands: true, ..ListenerTls::default() };
        if listener.certificates.is_empty() {
            tls.stands = false;
            tls.faults.push(Fault::new(
                "InvalidCertificateRef",
                "tls.certificateRefs: a listener that terminates TLS needs at least one certificate",
            ));
        }
        for (position, reference) in listener.certificates.iter().enumerate() {
            match certificate(view, key, reference) {
                Ok(certificate) => tls.certificates.push(certificate),
                Err((fault, before)) => {
                    tls.faults.push(fault.at(format!("tls.certificateRefs[{position}]")));
                    tls.stands &= before.is_some();
                    tls.certificates.extend(before);
                }
            }
        }
        out.listeners.insert(listener.name.clone(), tls);
    }
    out.client = reference.map(|reference| client(view, key, &reference));
    Some(out)
}

/// The secret is named by where it is used, so that an edit of the reference changes no cluster. As with listeners, the
/// pair before one that went bad goes on.
fn client(view: &View<'_>, gateway: &ObjectKey, reference: &ObjectRef) -> Result<Certificate, Fault> {
    let found = certificate(view, gateway, reference).or_else(|(fault, before)| before.ok_or(fault));
    let mut certificate = found.map_err(|fault| {
        let reason =
            if fault.reason == "RefNotPermitted" { fault.reason } else { "InvalidClientCertificateRef" };
        Fault::new(reason, fault.message).at("tls.backend.clientCertificateRef")
    })?;
    let name = format!("{}/{}/client", gateway.namespace, gateway.name).into();
    certificate.secret = Arc::new(ir::Secret { name, body: certificate.secret.body.clone() });
    Ok(certificate)
}

/// The name of the secret that a Gateway shows to backends, if it has one.
pub(super) fn client_certificate(
    view: &View<'_>,
    state: &State,
    gateway: &ObjectKey,
) -> Option<ir::SecretName> {
    view.record(Read::Output(Unit::Tls(gateway.clone())));
    state.tls(gateway)?.client_secret().map(|secret| secret.name.clone())
}

/// A certificate; or what is wrong with it, and the one before it that goes on where a rotation went wrong.
fn certificate(
    view: &View<'_>,
    owner: &ObjectKey,
    reference: &ObjectRef,
) -> Result<Certificate, (Fault, Option<Certificate>)> {
    let invalid = |message: String| Fault::new("InvalidCertificateRef", message);
    let secret = find(view, owner, reference).map_err(|fault| (fault, None))?;
    let key = &secret.meta.key;
    usable(&secret).map_err(|message| {
        let before = secret.before.as_deref().and_then(|before| usable(before).ok());
        let goes_on = if before.is_some() { "; the pair before it goes on" } else { "" };
        (invalid(format!("{key}: {message}{goes_on}")), before)
    })
}

/// A Secret's pair as it goes out.
fn usable(secret: &Secret) -> Result<Certificate, String> {
    let (chain, key, expires) = read_pair(secret)?;
    let name = format!("{}/{}", secret.meta.key.namespace, secret.meta.key.name).into();
    let secret = Arc::new(ir::Secret { name, body: SecretBody::Certificate { chain, key } });
    Ok(Certificate { secret, expires })
}

/// Whether a Secret holds a certificate and the key to it, in forms that Envoy accepts.
pub fn holds_pair(secret: &Secret) -> bool {
    read_pair(secret).is_ok()
}

/// The Secret behind a reference that is granted.
fn find(view: &View<'_>, owner: &ObjectKey, reference: &ObjectRef) -> Result<Arc<Secret>, Fault> {
    let invalid = |message: String| Fault::new("InvalidCertificateRef", message);
    if !reference.group.is_empty() || *reference.kind != *Kind::Secret.as_str() {
        return Err(invalid(format!(
            "{} {}: expected a Secret of the core group",
            named(&reference.group, &reference.kind),
            reference.name
        )));
    }
    let from = RefFrom { kind: owner.kind, namespace: &owner.namespace };
    let found = resolve_ref(view, &from, reference.namespace.as_ref(), &reference.name);
    found.map(Granted::into_inner).map_err(|error| match error {
        RefError::NotPermitted { .. } => Fault::new("RefNotPermitted", error.to_string()),
        RefError::NotFound(_) => invalid(error.to_string()),
    })
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
