//! Certificates of authorities: what clients and backends are validated against.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    RefFrom,
    grant::{RefError, named, resolve_ref},
};
use crate::{
    model::{ConfigMap, Kind, ObjectRef},
    world::View,
};

/// Why a reference to authorities cannot be used. Each API field has its own reasons for the three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AuthorityError {
    /// Not a ConfigMap.
    Kind(String),
    /// No ReferenceGrant allows it.
    NotPermitted(String),
    /// It does not exist, or holds no certificate.
    Invalid(String),
}

/// Follows a reference to authorities: a ConfigMap with PEM certificates in `ca.crt`, the one kind that the API wants
/// everybody to support.
pub(super) fn authorities(
    view: &View<'_>,
    from: &RefFrom<'_>,
    reference: &ObjectRef,
) -> Result<Arc<str>, AuthorityError> {
    if !reference.group.is_empty() || *reference.kind != *Kind::ConfigMap.as_str() {
        return Err(AuthorityError::Kind(format!(
            "{} {}: expected a ConfigMap of the core group",
            named(&reference.group, &reference.kind),
            reference.name
        )));
    }
    let map: Arc<ConfigMap> = resolve_ref(view, from, reference.namespace.as_ref(), &reference.name)
        .map_err(|error| match error {
            RefError::NotPermitted { .. } => AuthorityError::NotPermitted(error.to_string()),
            RefError::NotFound(_) => AuthorityError::Invalid(error.to_string()),
        })?
        .into_inner();
    let key = &map.meta.key;
    let Some(bundle) = &map.authorities else {
        return Err(AuthorityError::Invalid(format!("{key}: data has no ca.crt")));
    };
    check(bundle).map_err(|message| AuthorityError::Invalid(format!("{key}: ca.crt {message}")))?;
    Ok(bundle.clone())
}

/// Whether Envoy can load a bundle: it rejects one without a certificate or with one that does not parse.
fn check(bundle: &str) -> Result<(), String> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(bundle.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("holds no certificate".into());
    }
    for (position, certificate) in certificates.iter().enumerate() {
        if let Err(error) = x509_parser::parse_x509_certificate(certificate) {
            return Err(format!(
                "holds a certificate, number {}, that does not parse: {error}",
                position + 1
            ));
        }
    }
    Ok(())
}

/// Several bundles as one.
pub(super) fn join(bundles: &[Arc<str>]) -> Arc<str> {
    let lines = bundles.iter().map(|bundle| bundle.trim_end()).collect::<Vec<_>>();
    (lines.join("\n") + "\n").into()
}
