//! Certificates of authorities: what clients and backends are validated against.

use std::sync::Arc;

use super::{
    RefFrom,
    engine::State,
    grant::{RefError, named, resolve_ref},
};
use crate::{
    model::{ConfigMap, Kind, ObjectKey, ObjectRef, check_authorities},
    world::{Read, View},
};

/// Why a reference to authorities cannot be used. Each API field has its own reasons for the three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AuthorityError {
    /// Of a kind that holds no authorities, or that nobody can make objects of here.
    Kind(String),
    /// No ReferenceGrant allows it.
    NotPermitted(String),
    /// It does not exist, or holds no certificate.
    Invalid(String),
}

/// Follows a reference to authorities: PEM certificates in a ConfigMap's `ca.crt`, the one kind that the API wants everybody
/// to support, or in a ClusterTrustBundle (GEP-5075).
pub(super) fn authorities(
    view: &View<'_>,
    state: &State,
    from: &RefFrom<'_>,
    reference: &ObjectRef,
) -> Result<Arc<str>, AuthorityError> {
    let is = |kind: Kind| *reference.group == *kind.group() && *reference.kind == *kind.as_str();
    let (key, field, bundle) = if is(Kind::ConfigMap) {
        config_map(view, from, reference)?
    } else if is(Kind::ClusterTrustBundle) {
        trust_bundle(view, state, reference)?
    } else {
        return Err(AuthorityError::Kind(format!(
            "{} {}: expected a ConfigMap of the core group, or a ClusterTrustBundle of {}",
            named(&reference.group, &reference.kind),
            reference.name,
            Kind::ClusterTrustBundle.group(),
        )));
    };
    check_authorities(&bundle)
        .map_err(|message| AuthorityError::Invalid(format!("{key}: {field} {message}")))?;
    Ok(bundle)
}

/// Whose authorities, the field that holds them, and they.
type Found = (ObjectKey, &'static str, Arc<str>);

fn config_map(view: &View<'_>, from: &RefFrom<'_>, reference: &ObjectRef) -> Result<Found, AuthorityError> {
    let map: Arc<ConfigMap> = resolve_ref(view, from, reference.namespace.as_ref(), &reference.name)
        .map_err(|error| match error {
            RefError::NotPermitted { .. } => AuthorityError::NotPermitted(error.to_string()),
            RefError::NotFound(_) => AuthorityError::Invalid(error.to_string()),
        })?
        .into_inner();
    let key = map.meta.key.clone();
    match &map.authorities {
        Some(bundle) => Ok((key, "ca.crt", bundle.clone())),
        None => Err(AuthorityError::Invalid(format!("{key}: data has no ca.crt"))),
    }
}

/// Everybody may read a ClusterTrustBundle, so there is no grant to ask for. Where the API server does not serve the kind, the
/// reason is that of a kind (GEP-5075, "API Availability"): it tells a cluster's problem from a reference's.
fn trust_bundle(view: &View<'_>, state: &State, reference: &ObjectRef) -> Result<Found, AuthorityError> {
    let kind = Kind::ClusterTrustBundle;
    let key = ObjectKey::new(kind, "", reference.name.clone());
    view.record(Read::Environment);
    if state.environment.absent.contains(&kind) {
        return Err(AuthorityError::Kind(format!(
            "{key}: the API server does not serve {kind} of {}; use a ConfigMap, or turn the API on",
            kind.group()
        )));
    }
    if let Some(namespace) = &reference.namespace {
        return Err(AuthorityError::Invalid(format!(
            "{key}: is of no namespace: remove namespace {namespace} from the reference"
        )));
    }
    match view.cluster_trust_bundle(&key) {
        Some(bundle) => Ok((key, "spec.trustBundle", bundle.authorities.clone())),
        None => Err(AuthorityError::Invalid(format!("{key} does not exist"))),
    }
}

/// Several bundles as one.
pub(super) fn join(bundles: &[Arc<str>]) -> Arc<str> {
    let lines = bundles.iter().map(|bundle| bundle.trim_end()).collect::<Vec<_>>();
    (lines.join("\n") + "\n").into()
}
