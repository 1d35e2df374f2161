//! Clusters and their endpoints.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Millis, Origin, SecretName};

/// The xDS name of a cluster: `<namespace>/<service>/<port>[/<policy hash>]`.
pub type ClusterName = Arc<str>;

/// How to speak to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AppProtocol {
    /// HTTP/1.1, with WebSocket upgrades allowed.
    Http1,
    /// HTTP/2 with prior knowledge (`kubernetes.io/h2c`, every GRPCRoute backend).
    Http2,
    /// No HTTP at all: connections or datagrams.
    Opaque,
}

/// One backend: a Service port under one policy. Its endpoints are a piece of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The xDS name.
    pub name: ClusterName,
    /// How to speak to it.
    pub protocol: AppProtocol,
    /// TLS towards the backend.
    pub tls: Option<UpstreamTls>,
    /// TLS towards those of its endpoints that name it: a cluster of several backends, each with its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sockets: BTreeMap<Arc<str>, UpstreamTls>,
    /// How long a TCP connection may take to be made.
    pub connect_timeout: Millis,
    /// Who is blamed when Envoy rejects it.
    pub origin: Origin,
}

/// TLS towards a backend (BackendTLSPolicy).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// The server name sent, and verified unless `subject_alt_names` is given.
    pub server_name: Arc<str>,
    /// Which authorities are trusted.
    pub trust: UpstreamTrust,
    /// Names of which one must be in the backend's certificate: DNS names or URIs.
    pub subject_alt_names: Vec<Arc<str>>,
    /// The certificate that the Gateway presents.
    pub client_certificate: Option<SecretName>,
}

/// Which authorities a backend's certificate may come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UpstreamTrust {
    /// The system's.
    System,
    /// Those of an SDS secret.
    Authorities(SecretName),
}

/// The addresses behind a cluster. Always sent, also when empty: Envoy waits for what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Sorted and distinct.
    pub endpoints: Vec<Endpoint>,
    /// The share that fails at once, as a weight beside those of the endpoints; 0 for none. Without any endpoint all
    /// fails anyway.
    pub nowhere: u32,
}

/// One address behind a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The topology zone, for later use.
    pub zone: Option<Arc<str>>,
    /// Its share, not 0.
    pub weight: u32,
    /// Which of the cluster's `sockets` leads to it; none is as the cluster says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Arc<str>>,
}
