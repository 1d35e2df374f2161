//! A change of what one Gateway's Envoys should do.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    Cluster, ClusterName, Endpoints, Listener, ListenerName, RouteTable, RouteTableName, Secret, SecretName,
    VirtualHost, VirtualHostKey,
};

/// What changed: `Some` adds or replaces a piece, `None` removes it. The last word on a piece wins.
///
/// A delta may name pieces in any order, and must leave the whole consistent: every chain's table, every route's
/// cluster and every referenced secret exists after it.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Listeners by name.
    pub listeners: BTreeMap<ListenerName, Option<Arc<Listener>>>,
    /// Route tables by name.
    pub tables: BTreeMap<RouteTableName, Option<Arc<RouteTable>>>,
    /// Virtual hosts by table and domain. Removing a table removes its hosts.
    pub virtual_hosts: BTreeMap<VirtualHostKey, Option<Arc<VirtualHost>>>,
    /// Clusters by name.
    pub clusters: BTreeMap<ClusterName, Option<Arc<Cluster>>>,
    /// Endpoints by cluster name.
    pub endpoints: BTreeMap<ClusterName, Option<Arc<Endpoints>>>,
    /// Secrets by name.
    pub secrets: BTreeMap<SecretName, Option<Arc<Secret>>>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
            && self.tables.is_empty()
            && self.virtual_hosts.is_empty()
            && self.clusters.is_empty()
            && self.endpoints.is_empty()
            && self.secrets.is_empty()
    }

    /// Lays a later delta over this one.
    pub fn merge(&mut self, later: Self) {
        self.listeners.extend(later.listeners);
        self.tables.extend(later.tables);
        self.virtual_hosts.extend(later.virtual_hosts);
        self.clusters.extend(later.clusters);
        self.endpoints.extend(later.endpoints);
        self.secrets.extend(later.secrets);
    }
}

/// The name of a piece, for messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PieceId {
    /// A listener.
    Listener(ListenerName),
    /// A route table.
    Table(RouteTableName),
    /// A virtual host.
    VirtualHost(VirtualHostKey),
    /// A cluster.
    Cluster(ClusterName),
    /// The endpoints of a cluster.
    Endpoints(ClusterName),
    /// A secret.
    Secret(SecretName),
}

impl fmt::Display for PieceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listener {name}"),
            Self::Table(name) => write!(f, "route table {name}"),
            Self::VirtualHost(key) => write!(f, "virtual host {} of {}", key.domain, key.table),
            Self::Cluster(name) => write!(f, "cluster {name}"),
            Self::Endpoints(name) => write!(f, "endpoints of {name}"),
            Self::Secret(name) => write!(f, "secret {name}"),
        }
    }
}
