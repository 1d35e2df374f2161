//! Listeners, their filter chains, and the route tables that HTTP chains point to.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{AccessLog, ClusterName, Origin, SecretName};

/// The xDS name of a listener: `<gateway namespace>/<gateway>/<port>` and `/udp` appended for UDP.
pub type ListenerName = Arc<str>;

/// The xDS name of a RouteConfiguration: `<gateway namespace>/<gateway>/<port>[/<server name>]`.
pub type RouteTableName = Arc<str>;

/// The transport that a listener binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// One bound port of a Gateway. All Gateway API listeners on that port are filter chains of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The xDS name.
    pub name: ListenerName,
    /// The port in the API. Redirects and names use it; the bound port may differ on a laptop.
    pub port: u16,
    /// TCP or UDP.
    pub transport: Transport,
    /// The addresses to bind, at least one. Several on a dual-stack host.
    pub bind: Vec<SocketAddr>,
    /// What is logged of each request; nothing by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<Arc<AccessLog>>,
    /// In any order; lowering sorts by name. Server names are distinct, at most one chain has none.
    pub chains: Vec<Arc<FilterChain>>,
}

/// What happens to the connections of one server name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterChain {
    /// Unique in the listener and stable: it names the Gateway API listener, never a position.
    pub name: Arc<str>,
    /// SNI to match: exact, or `*.suffix`; none matches every connection that no other chain matches.
    pub server_name: Option<Arc<str>>,
    /// TLS to terminate; none means plain text (or, with a server name, passthrough).
    pub tls: Option<DownstreamTls>,
    /// What is inside.
    pub traffic: ChainTraffic,
    /// Who is blamed when Envoy rejects this chain.
    pub origin: Origin,
}

/// What a filter chain carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainTraffic {
    /// HTTP/1.1 and HTTP/2, routed by a route table.
    Http {
        /// The RouteConfiguration's name.
        routes: RouteTableName,
    },
    /// Connections, passed on as they are.
    Tcp {
        /// The cluster's name.
        cluster: ClusterName,
    },
    /// Datagrams, passed on by session. The only chain of a UDP listener.
    Udp {
        /// The cluster's name.
        cluster: ClusterName,
    },
    /// Nothing: connections are closed at once. A listener that cannot be served keeps its server name from a chain
    /// with a wider one.
    Closed,
}

/// Terminating TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownstreamTls {
    /// Certificates, in the listener's order. At least one.
    pub certificates: Vec<SecretName>,
    /// Ask clients for certificates.
    pub client_validation: Option<ClientValidation>,
}

/// Asking clients for certificates (GEP-91).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientValidation {
    /// The SDS secret that holds the authorities.
    pub authorities: SecretName,
    /// `AllowInsecureFallback`: clients without a valid certificate are let in.
    pub insecure_fallback: bool,
}

/// The head of a RouteConfiguration; its virtual hosts are pieces of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// The xDS name.
    pub name: RouteTableName,
    /// The listener's port in the API: what a redirect without a port uses.
    pub port: u16,
    /// Whether requests come over TLS: what a redirect without a scheme uses.
    pub tls: bool,
}
