//! Chunks: the smallest parts of resources that one object answers for.

use std::{fmt, sync::Arc};

use prost::Message;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    ir::{Cluster, Endpoints, FilterChain, Origin, Route, RouteRank, Secret},
    lower,
    store::ResourceType,
};

/// A resource of a Gateway, by type and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    /// Its type.
    pub kind: ResourceType,
    /// Its xDS name.
    pub name: Arc<str>,
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Which part of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Part {
    /// All of it: clusters, endpoints and secrets.
    Whole,
    /// One filter chain of a listener.
    Chain(Arc<str>),
    /// The routes of one object in one virtual host.
    Routes(Origin),
}

/// A chunk's identity. Chunks of one resource, and resources of one type, are neighbours in its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChunkKey {
    pub(super) resource: ResourceKey,
    pub(super) part: Part,
}

/// A chunk's content.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Chunk {
    Routes(Vec<Arc<Route>>),
    Chain(Arc<FilterChain>),
    Cluster(Arc<Cluster>),
    Endpoints(Arc<Endpoints>),
    Secret(Arc<Secret>),
}

impl Chunk {
    /// A hash of the content, the same in every process.
    pub(super) fn fingerprint(&self) -> u128 {
        let bytes = match self {
            Self::Secret(secret) => lower::secret(secret).encode_to_vec(),
            Self::Endpoints(endpoints) => serde_json::to_vec(endpoints).unwrap_or_default(),
            other => serde_json::to_vec(&other.keep()).unwrap_or_default(),
        };
        xxh3_128(&bytes)
    }

    /// The form that can be kept across restarts. Secrets and endpoints are not kept: they are soon out of date.
    pub(super) fn keep(&self) -> Option<Kept> {
        match self {
            Self::Routes(routes) => Some(Kept::Routes(
                routes.iter().map(|route| (route.rank.clone(), Route::clone(route))).collect(),
            )),
            Self::Chain(chain) => Some(Kept::Chain(Arc::clone(chain))),
            Self::Cluster(cluster) => Some(Kept::Cluster(Arc::clone(cluster))),
            Self::Endpoints(_) | Self::Secret(_) => None,
        }
    }
}

/// A chunk's content, as it is kept across restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Kept {
    /// A route's own form leaves its rank out.
    Routes(Vec<(RouteRank, Route)>),
    Chain(Arc<FilterChain>),
    Cluster(Arc<Cluster>),
}

impl From<Kept> for Chunk {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Routes(routes) => Self::Routes(
                routes.into_iter().map(|(rank, route)| Arc::new(Route { rank, ..route })).collect(),
            ),
            Kept::Chain(chain) => Self::Chain(chain),
            Kept::Cluster(cluster) => Self::Cluster(cluster),
        }
    }
}
