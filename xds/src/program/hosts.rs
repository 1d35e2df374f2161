//! A route table with its virtual hosts, each with its encoded bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    admission::{Admission, Serving},
    chunk::{Chunk, ChunkKey, Part, ResourceKey},
};
use crate::{
    ir::{Origin, Route, RouteRank, RouteTable, RouteTableName, VirtualHost},
    lower::table,
    store::ResourceType,
};

/// One RouteConfiguration. The head may come after its hosts inside a delta, so it is optional.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) head: Option<Arc<RouteTable>>,
    head_bytes: Bytes,
    hosts: BTreeMap<Arc<str>, Host>,
    stale: BTreeSet<Arc<str>>,
}

#[derive(Debug, Default)]
struct Host {
    desired: Arc<VirtualHost>,
    /// Routes as they were encoded last; reused while equal.
    encoded: BTreeMap<RouteRank, (Arc<Route>, Bytes)>,
    bytes: Bytes,
}

/// How the routes of one origin in one host changed.
pub(super) struct OriginChange {
    pub(super) origin: Origin,
    pub(super) before: Option<Vec<Arc<Route>>>,
    pub(super) after: Option<Vec<Arc<Route>>>,
}

pub(super) fn resource(table: &RouteTableName) -> ResourceKey {
    ResourceKey { kind: ResourceType::RouteConfiguration, name: Arc::clone(table) }
}

pub(super) fn routes_key(table: &RouteTableName, domain: &Arc<str>, origin: &Origin) -> ChunkKey {
    let part = Part::Routes { domain: Arc::clone(domain), origin: origin.clone() };
    ChunkKey { resource: resource(table), part }
}

impl Table {
    /// The head and the virtual hosts by domain, for people.
    pub(super) fn pieces(&self) -> serde_json::Value {
        let hosts: BTreeMap<_, _> = self.hosts.iter().map(|(domain, host)| (domain, &host.desired)).collect();
        serde_json::json!({"head": self.head, "hosts": hosts})
    }

    /// Replaces the head. Redirects depend on it, so every host is encoded anew if it changed.
    pub(super) fn set_head(&mut self, head: Arc<RouteTable>) {
        if self.head.as_ref() == Some(&head) {
            return;
        }
        self.head_bytes = table::head(&head);
        self.head = Some(head);
        for (domain, host) in &mut self.hosts {
            host.encoded.clear();
            self.stale.insert(Arc::clone(domain));
        }
    }

    /// Replaces a host, and says what that means per origin.
    pub(super) fn set_host(&mut self, domain: &Arc<str>, desired: Arc<VirtualHost>) -> Vec<OriginChange> {
        let host = self.hosts.entry(Arc::clone(domain)).or_default();
        let changes = compare(&host.desired, &desired);
        host.desired = desired;
        self.stale.insert(Arc::clone(domain));
        changes
    }

    /// Removes a host, and says which origins had routes in it.
    pub(super) fn remove_host(&mut self, domain: &Arc<str>) -> Vec<Origin> {
        self.stale.remove(domain);
        let host = self.hosts.remove(domain).unwrap_or_default();
        by_origin(&host.desired).into_keys().cloned().collect()
    }

    /// The desired routes of an origin in a host.
    pub(super) fn routes_of(&self, domain: &str, origin: &Origin) -> Option<Vec<Arc<Route>>> {
        let host = self.hosts.get(domain)?;
        Some(host.desired.routes.iter().filter(|route| route.origin == *origin).cloned().collect())
    }

    /// Marks a host to be encoded anew.
    pub(super) fn touch(&mut self, domain: &Arc<str>) {
        self.stale.insert(Arc::clone(domain));
    }

    /// The bytes to serve; encodes what is stale.
    pub(super) fn assemble(&mut self, admission: &Admission) -> Option<Bytes> {
        let head = Arc::clone(self.head.as_ref()?);
        for domain in std::mem::take(&mut self.stale) {
            if let Some(host) = self.hosts.get_mut(&domain) {
                host.encode(&domain, &head, admission);
            }
        }
        Some(table::assemble(&self.head_bytes, self.hosts.values().map(|host| &host.bytes)))
    }
}

impl Host {
    fn encode(&mut self, domain: &Arc<str>, head: &RouteTable, admission: &Admission) {
        let served = served_routes(&self.desired, &head.name, domain, admission);
        let mut known = std::mem::take(&mut self.encoded);
        for route in served {
            let bytes = match known.remove(&route.rank) {
                Some((same, bytes)) if Arc::ptr_eq(&same, &route) || same == route => bytes,
                _ => table::route_chunk(&route, head),
            };
            self.encoded.insert(route.rank.clone(), (route, bytes));
        }
        let chunks = self.encoded.values().map(|(_, bytes)| bytes);
        self.bytes = table::virtual_host_chunk(domain, chunks, self.desired.misdirected);
    }
}

/// The routes of a host, with those that are put back replaced by what was acknowledged.
fn served_routes(
    desired: &VirtualHost,
    table: &RouteTableName,
    domain: &Arc<str>,
    admission: &Admission,
) -> Vec<Arc<Route>> {
    let origins = by_origin(desired);
    let mut served = Vec::with_capacity(desired.routes.len());
    for (origin, routes) in origins {
        match admission.serving(&routes_key(table, domain, origin)) {
            Serving::Desired => served.extend(routes.into_iter().cloned()),
            Serving::Proven(Some(Chunk::Routes(proven))) => served.extend(proven.iter().cloned()),
            Serving::Proven(_) => {}
        }
    }
    served
}

fn by_origin(host: &VirtualHost) -> BTreeMap<&Origin, Vec<&Arc<Route>>> {
    let mut origins: BTreeMap<&Origin, Vec<&Arc<Route>>> = BTreeMap::new();
    for route in &host.routes {
        origins.entry(&route.origin).or_default().push(route);
    }
    origins
}

fn compare(before: &VirtualHost, after: &VirtualHost) -> Vec<OriginChange> {
    let (before, after) = (by_origin(before), by_origin(after));
    let origins: BTreeSet<&Origin> = before.keys().chain(after.keys()).copied().collect();
    let own = |routes: Option<&Vec<&Arc<Route>>>| {
        routes.map(|routes| routes.iter().map(|route| Arc::clone(route)).collect())
    };
    origins
        .into_iter()
        .filter(|origin| before.get(origin) != after.get(origin))
        .map(|origin| OriginChange {
            origin: origin.clone(),
            before: own(before.get(origin)),
            after: own(after.get(origin)),
        })
        .collect()
}
