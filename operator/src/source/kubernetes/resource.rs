//! How each kind is asked for: its resource in the API, and which objects of it are worth asking for.
//!
//! Derived from the kind wherever the API has a rule, so that a new kind needs a line here only if it is special.

use kube::core::{ApiResource, GroupVersionKind};
use portolan_crds::names::{API_GROUP, GATEWAY_API_GROUP, labels::SERVICE_NAME};

use crate::model::Kind;

/// How Secrets are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SecretAccess {
    /// Each by its name, once an accepted object refers to it: Roles in the namespaces that hold them are enough.
    #[default]
    Referenced,
    /// All Secrets of the type kubernetes.io/tls in the cluster: needs a ClusterRole on Secrets.
    All,
}

/// What is watched of a kind as a whole; `None` where objects are watched by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) labels: Option<&'static str>,
    pub(super) fields: Option<&'static str>,
}

/// See [`Watched`].
pub(super) fn watched(kind: Kind, secrets: SecretAccess) -> Option<Watched> {
    let whole = Watched { labels: None, fields: None };
    match kind {
        Kind::Secret => match secrets {
            SecretAccess::Referenced => None,
            SecretAccess::All => Some(Watched { fields: Some("type=kubernetes.io/tls"), ..whole }),
        },
        // Slices without it belong to no Service.
        Kind::EndpointSlice => Some(Watched { labels: Some(SERVICE_NAME), ..whole }),
        _ => Some(whole),
    }
}

/// The versions that can be read, the one that is preferred first. An install that serves only others of a kind does not
/// have the kind.
pub(super) fn versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        // v1 is of Kubernetes 1.37 (GEP-5075). Both have the same fields.
        Kind::ClusterTrustBundle => &["v1", "v1beta1"],
        _ if kind.group() == API_GROUP => &["v1alpha1"],
        _ => &["v1"],
    }
}

/// The version that is read of a kind that has one.
pub(super) fn version(kind: Kind) -> &'static str {
    versions(kind).first().copied().unwrap_or("v1")
}

/// A kind's resource.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    resource_in(kind, version(kind))
}

/// A kind's resource in one of its versions.
pub(super) fn resource_in(kind: Kind, version: &str) -> ApiResource {
    // Its plural follows from the kind, as those of all kinds here do; a test holds it against the schemas.
    ApiResource::from_gvk(&GroupVersionKind::gvk(kind.group(), version, kind.as_str()))
}

/// Whether a kind is defined by a CRD, which an install may lack.
pub(super) fn is_custom(kind: Kind) -> bool {
    [GATEWAY_API_GROUP, API_GROUP].contains(&kind.group())
}

/// Whether a kind is one of Kubernetes itself that an API server may be told not to serve.
pub(super) fn is_optional(kind: Kind) -> bool {
    kind == Kind::ClusterTrustBundle
}

/// The name of a kind's CRD.
pub(super) fn crd_name(kind: Kind) -> String {
    let resource = resource(kind);
    format!("{}.{}", resource.plural, resource.group)
}

/// Whether objects of a kind have a status that Portolan writes.
pub(crate) fn has_status(kind: Kind) -> bool {
    is_custom(kind) && !matches!(kind, Kind::ReferenceGrant | Kind::FleetConfig)
}

#[cfg(test)]
mod tests {
    use portolan_crds::schema::schema;

    use super::*;

    #[test]
    fn resources_are_those_of_the_schemas() {
        for kind in Kind::ALL {
            for version in versions(kind) {
                let known = schema(kind.group(), version, kind.as_str())
                    .unwrap_or_else(|| panic!("{kind} has no schema"));
                let resource = resource_in(kind, version);
                assert_eq!(resource.plural, known.plural, "{kind}");
                assert_eq!(resource.api_version, known.api_version(), "{kind}");
                assert_eq!(kind.cluster_scoped(), !known.namespaced, "{kind}");
                assert_eq!(is_custom(kind), known.structural, "{kind}");
            }
        }
        assert_eq!(crd_name(Kind::HttpRoute), "httproutes.gateway.networking.k8s.io");
    }

    #[test]
    fn secrets_are_watched_as_a_kind_only_where_that_was_chosen() {
        assert_eq!(watched(Kind::Secret, SecretAccess::Referenced), None);
        let all = watched(Kind::Secret, SecretAccess::All).unwrap();
        assert_eq!(all.fields, Some("type=kubernetes.io/tls"));
    }
}
