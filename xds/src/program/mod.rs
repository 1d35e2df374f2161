//! The program of one Gateway: from IR pieces to resources in its store, incrementally, surviving rejections.
//!
//! [`Program::apply`] lowers exactly the pieces of a delta. [`Program::on_ack`] and [`Program::on_nack`] tell it what
//! proxies said; what they reject is put back and blamed on its origin (see `admission`). Everything is pure: the clock
//! is an argument, and the store is the caller's.

mod admission;
mod chunk;
mod frozen;
mod heed;
mod host;
mod hosts;
#[cfg(test)]
mod late_tests;
mod leaving;
#[cfg(test)]
mod leaving_tests;
mod publish;
mod render;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

pub use chunk::ResourceKey;
pub use frozen::Frozen;
pub use render::{RenderError, render};

use admission::Admission;
use chunk::{Chunk, ChunkKey, Part};
use host::OriginChange;
use hosts::Table;
use leaving::Leaving;
use publish::Published;

use crate::{
    GatewayKey,
    ir::{
        ChainTraffic, Cluster, ClusterName, Delta, Endpoints, FilterChain, Listener, ListenerName, Origin,
        RouteTable, RouteTableName, Secret, SecretName, Transport, VirtualHostKey,
    },
    store::{ResourceType, Seq, Store, Version},
};

/// What [`Program::apply`] and the answers of proxies changed in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The resources that were added, replaced or removed.
    pub changed: BTreeSet<ResourceKey>,
    /// The store's number after it.
    pub seq: Seq,
}

/// An object that Envoy rejects. What it last accepted of it is still served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    /// The object.
    pub origin: Origin,
    /// Where it was rejected.
    pub resource: ResourceKey,
    /// Envoy's words.
    pub message: Arc<str>,
}

/// The program of one Gateway.
#[derive(Debug)]
pub struct Program {
    gateway: GatewayKey,
    listeners: BTreeMap<ListenerName, Arc<Listener>>,
    tables: BTreeMap<RouteTableName, Table>,
    clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    endpoints: BTreeMap<ClusterName, Arc<Endpoints>>,
    secrets: BTreeMap<SecretName, Arc<Secret>>,
    leaving: Leaving,
    admission: Admission,
    published: BTreeMap<ResourceKey, Published>,
    dirty: BTreeSet<ResourceKey>,
    moved: BTreeSet<Origin>,
    origin_seqs: BTreeMap<Origin, Seq>,
    unattributed: BTreeMap<ResourceKey, Arc<str>>,
    restored: BTreeMap<ChunkKey, Frozen>,
    /// What other replicas have put back, by chunk.
    told: BTreeMap<ChunkKey, Vec<Frozen>>,
}

impl Program {
    /// A program without any piece.
    pub fn new(gateway: GatewayKey) -> Self {
        Self {
            gateway,
            listeners: BTreeMap::new(),
            tables: BTreeMap::new(),
            clusters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            secrets: BTreeMap::new(),
            leaving: Leaving::default(),
            admission: Admission::default(),
            published: BTreeMap::new(),
            dirty: BTreeSet::new(),
            moved: BTreeSet::new(),
            origin_seqs: BTreeMap::new(),
            unattributed: BTreeMap::new(),
            restored: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Whose program it is.
    pub fn gateway(&self) -> &GatewayKey {
        &self.gateway
    }

    /// Applies a delta: lowers what it touched, and puts the result into `store`. `now` is the moment of the change.
    pub fn apply(&mut self, delta: Delta, store: &mut Store, now: Instant) -> Applied {
        let seq = store.seq().next();
        for (name, cluster) in delta.clusters {
            self.set_cluster(&name, cluster, seq);
        }
        for (name, endpoints) in delta.endpoints {
            self.set_endpoints(&name, endpoints, seq, now);
        }
        for (name, secret) in delta.secrets {
            self.set_secret(&name, secret, seq);
        }
        for (name, listener) in delta.listeners {
            self.set_listener(&name, listener, seq);
        }
        for (name, head) in delta.tables {
            match head {
                Some(head) => self.set_table(&name, head),
                None => self.remove_table(&name),
            }
        }
        for (key, host) in delta.virtual_hosts {
            match host {
                Some(host) => self.set_host(&key, host, seq),
                None => self.remove_host(&key),
            }
        }
        self.publish(store, now)
    }

    /// Takes out of a delta what would end sessions: the removal of UDP listeners with their clusters. For proxies that drain:
    /// connections outlive their listener, but Envoy forgets the sessions of a UDP listener that is removed.
    pub fn hold_back_datagrams(&self, delta: &mut Delta) -> Delta {
        let gone = |name: &ListenerName| matches!(delta.listeners.get(name), Some(None));
        let held: Vec<&Arc<Listener>> =
            self.listeners.iter().filter(|(name, _)| gone(name)).map(|(_, one)| one).collect();
        let held = held.into_iter().filter(|one| one.transport == Transport::Udp);
        let mut back = Delta::default();
        for listener in held {
            back.listeners.extend(delta.listeners.remove_entry(&listener.name));
            for chain in &listener.chains {
                let ChainTraffic::Udp { cluster } = &chain.traffic else { continue };
                back.clusters.extend(delta.clusters.remove_entry(cluster));
                back.endpoints.extend(delta.endpoints.remove_entry(cluster));
            }
        }
        back
    }

    /// A proxy acknowledged these versions of resources of one type, or said when it connected that it has them.
    ///
    /// The latter matters after a restart: what nobody acknowledged counts as unproven, and would be put back by a
    /// rejection of its neighbour.
    pub fn on_ack(
        &mut self,
        kind: ResourceType,
        resources: &[(Arc<str>, Version)],
        store: &mut Store,
        now: Instant,
    ) -> Applied {
        for (name, version) in resources {
            let key = ResourceKey { kind, name: Arc::clone(name) };
            let Some(published) = self.published.get_mut(&key) else { continue };
            let Some(through) = published.acknowledge(*version) else { continue };
            self.unattributed.remove(&key);
            self.admission.prove(&key, through);
        }
        self.publish(store, now)
    }

    /// A proxy rejected a response with these versions of resources of one type, `built` of the store as of that edit, and
    /// said why. One proxy's word is enough. Answers that are out of date do no harm.
    pub fn on_nack(
        &mut self,
        kind: ResourceType,
        resources: &[(Arc<str>, Version)],
        built: Seq,
        message: &str,
        store: &mut Store,
        now: Instant,
    ) -> Applied {
        let message: Arc<str> = message.into();
        let mut alone = true;
        let mut known = Vec::new();
        for (name, version) in resources {
            let key = ResourceKey { kind, name: Arc::clone(name) };
            match self.published.get(&key).filter(|published| published.seq_of(*version).is_some()) {
                Some(published) => {
                    alone &= published.is_undisturbed_since(built);
                    known.push(key);
                }
                None => alone = false,
            }
        }
        let put_back = self.admission.reject(kind, &known, built, alone, &message);
        if put_back.is_empty() && alone {
            for (name, version) in resources {
                let key = ResourceKey { kind, name: Arc::clone(name) };
                if self.published.get(&key).is_some_and(|published| published.current() == Some(*version)) {
                    self.unattributed.insert(key, Arc::clone(&message));
                }
            }
        }
        for key in &put_back {
            self.touch(key);
        }
        self.publish(store, now)
    }

    /// Goes on with trials that got no answer, and lets endpoints go whose time is over. Call it at [`Program::deadline`].
    pub fn tick(&mut self, store: &mut Store, now: Instant) -> Applied {
        for name in self.leaving.due(now) {
            self.touch(&whole(ResourceType::Endpoints, &name));
        }
        self.publish(store, now)
    }

    /// When [`Program::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.admission.deadline().into_iter().chain(self.leaving.deadline()).min()
    }

    /// The objects that Envoy rejects, each once per resource, sorted.
    pub fn rejections(&self) -> Vec<Rejection> {
        let rejections: BTreeSet<Rejection> = self
            .admission
            .blamed()
            .map(|blamed| Rejection {
                origin: blamed.origin.clone(),
                resource: blamed.key.resource.clone(),
                message: Arc::clone(blamed.message),
            })
            .collect();
        rejections.into_iter().collect()
    }

    /// Rejections of current resources that no object explains: all their content was accepted before. A port that is
    /// taken on one node is such a case.
    pub fn unattributed(&self) -> &BTreeMap<ResourceKey, Arc<str>> {
        &self.unattributed
    }

    /// The version of a resource that a proxy acknowledged last.
    pub fn accepted(&self, resource: &ResourceKey) -> Option<Version> {
        self.published.get(resource)?.acknowledged()
    }

    /// The edit of the store with which an origin's content last went out. The content is in force when proxies
    /// acknowledged through it and [`Program::rejections`] does not name the origin.
    pub fn origin_seq(&self, origin: &Origin) -> Option<Seq> {
        self.origin_seqs.get(origin).copied()
    }

    /// The origins whose newest content is neither acknowledged nor blamed.
    pub fn origins_pending(&self) -> BTreeSet<Origin> {
        self.admission.pending()
    }

    fn set_cluster(&mut self, name: &ClusterName, cluster: Option<Arc<Cluster>>, seq: Seq) {
        let key = whole(ResourceType::Cluster, name);
        let endpoints = whole(ResourceType::Endpoints, name);
        self.dirty.insert(endpoints.resource.clone());
        let Some(cluster) = cluster else {
            self.clusters.remove(name);
            self.endpoints.remove(name);
            self.leaving.forget(name);
            self.drop_chunk(&endpoints);
            self.drop_chunk(&key);
            return;
        };
        let before = self.clusters.insert(Arc::clone(name), Arc::clone(&cluster)).map(Chunk::Cluster);
        let origin = cluster.origin.clone();
        self.change_chunk(key, &origin, before, &Chunk::Cluster(cluster), seq);
    }

    fn set_endpoints(
        &mut self,
        name: &ClusterName,
        endpoints: Option<Arc<Endpoints>>,
        seq: Seq,
        now: Instant,
    ) {
        let key = whole(ResourceType::Endpoints, name);
        let Some(endpoints) = endpoints else {
            self.endpoints.remove(name);
            self.leaving.forget(name);
            self.drop_chunk(&key);
            return;
        };
        if let Some(before) = self.endpoints.get(name)
            && self.is_of_datagrams(name)
        {
            self.leaving.change(name, before, &endpoints, now);
        }
        let before = self.endpoints.insert(Arc::clone(name), Arc::clone(&endpoints)).map(Chunk::Endpoints);
        let origin = Origin::new(format!("Endpoints/{name}"));
        self.change_chunk(key, &origin, before, &Chunk::Endpoints(endpoints), seq);
    }

    /// Whether a UDP listener sends to a cluster.
    fn is_of_datagrams(&self, name: &ClusterName) -> bool {
        let sends = |chain: &Arc<FilterChain>| matches!(&chain.traffic, ChainTraffic::Udp { cluster } if cluster == name);
        let udp = self.listeners.values().filter(|listener| listener.transport == Transport::Udp);
        udp.flat_map(|listener| &listener.chains).any(sends)
    }

    fn set_secret(&mut self, name: &SecretName, secret: Option<Arc<Secret>>, seq: Seq) {
        let key = whole(ResourceType::Secret, name);
        let Some(secret) = secret else {
            self.secrets.remove(name);
            self.drop_chunk(&key);
            return;
        };
        let before = self.secrets.insert(Arc::clone(name), Arc::clone(&secret)).map(Chunk::Secret);
        let origin = Origin::new(format!("Secret/{name}"));
        self.change_chunk(key, &origin, before, &Chunk::Secret(secret), seq);
    }

    fn set_listener(&mut self, name: &ListenerName, listener: Option<Arc<Listener>>, seq: Seq) {
        let resource = ResourceKey { kind: ResourceType::Listener, name: Arc::clone(name) };
        let chain_key =
            |chain: &Arc<str>| ChunkKey { resource: resource.clone(), part: Part::Chain(Arc::clone(chain)) };
        self.dirty.insert(resource.clone());
        let Some(listener) = listener else {
            self.listeners.remove(name);
            self.admission.remove_resource(&resource);
            return;
        };
        let mut before: BTreeMap<_, _> = self
            .listeners
            .insert(Arc::clone(name), Arc::clone(&listener))
            .iter()
            .flat_map(|listener| listener.chains.iter())
            .map(|chain| (Arc::clone(&chain.name), Arc::clone(chain)))
            .collect();
        for chain in &listener.chains {
            let old = before.remove(&chain.name).map(Chunk::Chain);
            let new = Chunk::Chain(Arc::clone(chain));
            self.change_chunk(chain_key(&chain.name), &chain.origin, old, &new, seq);
        }
        for gone in before.keys() {
            self.drop_chunk(&chain_key(gone));
        }
    }

    fn set_table(&mut self, name: &RouteTableName, head: Arc<RouteTable>) {
        let table = self.tables.entry(Arc::clone(name)).or_default();
        if table.set_head(head) {
            self.dirty.insert(hosts::table_resource(name));
            self.dirty.extend(table.domains().map(|domain| hosts::host_resource(name, domain)));
        }
    }

    fn remove_table(&mut self, name: &RouteTableName) {
        self.dirty.insert(hosts::table_resource(name));
        let Some(table) = self.tables.remove(name) else { return };
        for domain in table.domains() {
            let host = hosts::host_resource(name, domain);
            self.admission.remove_resource(&host);
            self.dirty.insert(host);
        }
    }

    fn set_host(&mut self, key: &VirtualHostKey, host: Arc<crate::ir::VirtualHost>, seq: Seq) {
        let table = self.tables.entry(Arc::clone(&key.table)).or_default();
        self.moved.extend(table.owners_to_tell(&key.domain, &host));
        let changes = table.set_host(&key.domain, host);
        let resource = hosts::host_resource(&key.table, &key.domain);
        self.dirty.insert(resource.clone());
        for OriginChange { origin, before, after } in changes {
            let chunk = hosts::routes_key(&resource, &origin);
            if let Some(after) = after {
                self.change_chunk(chunk, &origin, before.map(Chunk::Routes), &Chunk::Routes(after), seq);
            } else {
                self.drop_chunk(&chunk);
                self.moved.insert(origin);
            }
        }
    }

    fn remove_host(&mut self, key: &VirtualHostKey) {
        let resource = hosts::host_resource(&key.table, &key.domain);
        self.dirty.insert(resource.clone());
        let Some(table) = self.tables.get_mut(&key.table) else { return };
        for origin in table.remove_host(&key.domain) {
            self.admission.remove(&hosts::routes_key(&resource, &origin));
            self.moved.insert(origin);
        }
    }

    fn change_chunk(
        &mut self,
        key: ChunkKey,
        origin: &Origin,
        before: Option<Chunk>,
        after: &Chunk,
        seq: Seq,
    ) {
        if before.as_ref() == Some(after) {
            return;
        }
        self.touch(&key);
        if let Some(frozen) = self.restored.remove(&key) {
            let (known_bad, message) = (frozen.content() == after.fingerprint(), frozen.message());
            let proven = frozen.into_proven();
            if known_bad {
                self.admission.change_blamed(key, origin.clone(), proven, message);
                return;
            }
            self.moved.insert(origin.clone());
            self.admission.change(&key, origin, proven, after, seq);
            return;
        }
        if let Some(frozen) = self.told_of(&key, after).cloned() {
            self.admission.blame(&key, origin, before, &frozen, false);
            return;
        }
        if self.admission.change(&key, origin, before, after, seq) {
            self.moved.insert(origin.clone());
        }
    }

    fn drop_chunk(&mut self, key: &ChunkKey) {
        self.admission.remove(key);
        self.touch(key);
    }

    /// Marks what a chunk is part of to be built anew.
    fn touch(&mut self, key: &ChunkKey) {
        self.dirty.insert(key.resource.clone());
    }
}

fn whole(kind: ResourceType, name: &Arc<str>) -> ChunkKey {
    ChunkKey { resource: ResourceKey { kind, name: Arc::clone(name) }, part: Part::Whole }
}
