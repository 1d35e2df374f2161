//! Kinds, keys and the metadata that resolving uses.

use std::{fmt, sync::Arc};

use serde::Serialize;

/// The kinds that Portolan resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// gateway.networking.k8s.io GatewayClass, cluster-scoped.
    GatewayClass,
    /// gateway.networking.k8s.io Gateway.
    Gateway,
    /// gateway.networking.k8s.io ListenerSet.
    ListenerSet,
    /// gateway.networking.k8s.io HTTPRoute.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// gateway.networking.k8s.io GRPCRoute.
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
    /// gateway.networking.k8s.io TLSRoute.
    #[serde(rename = "TLSRoute")]
    TlsRoute,
    /// gateway.networking.k8s.io TCPRoute.
    #[serde(rename = "TCPRoute")]
    TcpRoute,
    /// gateway.networking.k8s.io UDPRoute.
    #[serde(rename = "UDPRoute")]
    UdpRoute,
    /// gateway.networking.k8s.io BackendTLSPolicy.
    #[serde(rename = "BackendTLSPolicy")]
    BackendTlsPolicy,
    /// gateway.networking.k8s.io ReferenceGrant.
    ReferenceGrant,
    /// core Service.
    Service,
    /// discovery.k8s.io EndpointSlice.
    EndpointSlice,
    /// core Secret.
    Secret,
    /// core ConfigMap.
    ConfigMap,
    /// certificates.k8s.io ClusterTrustBundle, cluster-scoped.
    ClusterTrustBundle,
    /// core Namespace, cluster-scoped.
    Namespace,
    /// portolan.dev FleetConfig.
    FleetConfig,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 17] = [
        Self::GatewayClass,
        Self::Gateway,
        Self::ListenerSet,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::UdpRoute,
        Self::BackendTlsPolicy,
        Self::ReferenceGrant,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::ConfigMap,
        Self::ClusterTrustBundle,
        Self::Namespace,
        Self::FleetConfig,
    ];

    /// The kind's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::ClusterTrustBundle => "ClusterTrustBundle",
            Self::Namespace => "Namespace",
            Self::FleetConfig => "FleetConfig",
        }
    }

    /// The kind of an API name, if Portolan resolves it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::EndpointSlice => "discovery.k8s.io",
            Self::ClusterTrustBundle => "certificates.k8s.io",
            Self::FleetConfig => "portolan.dev",
            Self::Service | Self::Secret | Self::ConfigMap | Self::Namespace => "",
            _ => "gateway.networking.k8s.io",
        }
    }

    /// Whether objects of this kind live outside namespaces.
    pub fn cluster_scoped(self) -> bool {
        matches!(self, Self::GatewayClass | Self::ClusterTrustBundle | Self::Namespace)
    }

    /// Whether an API server is better asked for those objects that are referred to than for all there are.
    pub fn is_read_by_name(self) -> bool {
        matches!(self, Self::Secret)
    }

    /// Whether this is a kind of route.
    pub fn is_route(self) -> bool {
        matches!(self, Self::HttpRoute | Self::GrpcRoute | Self::TlsRoute | Self::TcpRoute | Self::UdpRoute)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which object: kind, namespace (empty for cluster-scoped kinds) and name. Shown as `Kind/namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// A key from its parts.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// A text that is not an object's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an object: expected <Kind>/<namespace>/<name>, or <Kind>/<name> for a kind without namespaces"
)]
pub struct InvalidObjectKey(String);

impl std::str::FromStr for ObjectKey {
    type Err = InvalidObjectKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidObjectKey(text.chars().take(300).collect());
        let (kind, rest) = text.split_once('/').ok_or_else(invalid)?;
        let kind = Kind::from_name(kind).ok_or_else(invalid)?;
        let (namespace, name) = match (kind.cluster_scoped(), rest.split_once('/')) {
            (true, None) => ("", rest),
            (false, Some((namespace, name))) if !namespace.is_empty() => (namespace, name),
            _ => return Err(invalid()),
        };
        if name.is_empty() || name.contains('/') {
            return Err(invalid());
        }
        Ok(Self::new(kind, namespace, name))
    }
}

/// The metadata that resolving and reporting use. Everything else is pruned at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Which object.
    pub key: ObjectKey,
    /// metadata.uid: tells an object from a later one of its name; empty for files.
    pub uid: Arc<str>,
    /// metadata.generation; files count edits.
    pub generation: i64,
    /// metadata.creationTimestamp in seconds since the epoch; 0 for files.
    pub created: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_shown() {
        for key in [
            ObjectKey::new(Kind::HttpRoute, "apps", "shop"),
            ObjectKey::new(Kind::GatewayClass, "", "portolan"),
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["", "HTTPRoute", "HTTPRoute/shop", "HTTPRoute/a/b/c", "GatewayClass/a/b", "Nothing/a/b"]
        {
            assert!(text.parse::<ObjectKey>().is_err(), "{text}");
        }
    }
}
