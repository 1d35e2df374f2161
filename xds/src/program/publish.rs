//! Builds the resources that changed, and puts them into the store.

use std::{sync::Arc, time::Instant};

use super::{
    Applied, Program, ResourceKey,
    admission::Serving,
    chunk::{Chunk, ChunkKey, Part},
    whole,
};
use crate::{
    ir::{ChainTraffic, Cluster, FilterChain, Listener, SecretName, UpstreamTrust},
    lower,
    store::{Child, Resource, ResourceType, Seq, Store, Version, domain_of, table_of},
};

/// How many versions of a resource may be unanswered before the oldest is forgotten. The answer to a forgotten one is
/// ignored; a newer one decides.
const REMEMBERED_VERSIONS: usize = 64;

/// Which versions of a resource went out, and which was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Oldest first.
    versions: Vec<(Version, Seq)>,
    acknowledged: Option<Version>,
    /// The newest edit in which content that nobody acknowledged stopped being served.
    disturbed: Seq,
}

impl Published {
    /// The newest edit in which this version went out.
    pub(super) fn seq_of(&self, version: Version) -> Option<Seq> {
        self.versions.iter().rev().find(|(known, _)| *known == version).map(|(_, seq)| *seq)
    }

    pub(super) fn current(&self) -> Option<Version> {
        self.versions.last().map(|(version, _)| *version)
    }

    /// The version that was acknowledged last.
    pub(super) fn acknowledged(&self) -> Option<Version> {
        self.acknowledged
    }

    /// Whether all that the resource contained at that edit, and nobody has acknowledged, is still served.
    pub(super) fn is_undisturbed_since(&self, edit: Seq) -> bool {
        self.disturbed <= edit
    }

    /// Notes an acknowledgement, and returns the edit through which content is proven.
    pub(super) fn acknowledge(&mut self, version: Version) -> Option<Seq> {
        let through = self.seq_of(version)?;
        self.acknowledged = Some(version);
        Some(through)
    }

    fn push(&mut self, version: Version, seq: Seq) {
        if self.versions.len() >= REMEMBERED_VERSIONS {
            self.versions.remove(0);
        }
        self.versions.push((version, seq));
    }
}

impl Program {
    /// Puts what is dirty into the store, and begins trials that are due.
    pub(super) fn publish(&mut self, store: &mut Store, now: Instant) -> Applied {
        let mut applied = Applied::default();
        // What is put back goes into the store before a part of it is admitted again: a resource that comes back with
        // the bytes that were rejected must be a new edit, or it would never be sent.
        while self.begin_due(store.seq().next(), now) {
            let seq = store.seq().next();
            let left = self.admission.take_left();
            let mut served = Vec::new();
            let mut edit = store.edit(now);
            for key in std::mem::take(&mut self.dirty) {
                let built = self.build(&key);
                let changed = if let Some(resource) = built {
                    let version = resource.version();
                    let changed = edit.upsert(key.kind, resource);
                    served.push((key.clone(), version));
                    changed
                } else {
                    self.published.remove(&key);
                    self.unattributed.remove(&key);
                    edit.remove(key.kind, &key.name)
                };
                if changed {
                    applied.changed.insert(key);
                }
            }
            for (key, version) in served {
                if store.seq() < seq {
                    // Nothing became different, so there was no edit, and the next one gets this number.
                    self.admission.date_back(&key, seq, store.seq());
                }
                self.note_published(&key, version, store.seq(), left.contains(&key));
            }
        }
        applied.seq = store.seq();
        for origin in std::mem::take(&mut self.moved) {
            self.origin_seqs.insert(origin, store.seq());
        }
        applied
    }

    /// Whether there is something to publish; begins trials only when nothing else waits.
    fn begin_due(&mut self, seq: Seq, now: Instant) -> bool {
        if self.dirty.is_empty() {
            for (key, origin) in self.admission.advance(now, seq) {
                self.touch(&key);
                self.moved.insert(origin);
            }
        }
        !self.dirty.is_empty()
    }

    /// Content that was acknowledged before is proven as it goes out: proxies that have it are not sent it again.
    fn note_published(&mut self, key: &ResourceKey, version: Version, seq: Seq, disturbed: bool) {
        let published = self.published.entry(key.clone()).or_default();
        published.push(version, seq);
        if disturbed {
            published.disturbed = seq;
        }
        if published.acknowledged == Some(version) {
            self.admission.prove(key, seq);
        }
    }

    /// The resource to serve, or none if it is to be absent.
    fn build(&mut self, key: &ResourceKey) -> Option<Resource> {
        let name = Arc::clone(&key.name);
        let chunk = whole(key.kind, &name);
        match key.kind {
            ResourceType::RouteConfiguration => {
                let head = self.tables.get(&name)?.head.as_ref()?;
                Some(Resource::of(name, &lower::table::head(head), Vec::new()))
            }
            ResourceType::VirtualHost => {
                let table = self.tables.get_mut(table_of(&name))?;
                let body = table.host(domain_of(&name), &self.admission)?;
                Some(Resource::with_body(name, body, Vec::new()))
            }
            ResourceType::Listener => self.build_listener(&name, key),
            ResourceType::Cluster => {
                let desired = self.clusters.get(&name)?;
                let cluster = match self.admission.serving(&chunk) {
                    Serving::Desired => desired,
                    Serving::Proven(Some(Chunk::Cluster(proven))) => proven,
                    Serving::Proven(_) => return None,
                };
                Some(Resource::of(name, &lower::cluster(cluster), cluster_children(cluster)))
            }
            ResourceType::Endpoints => {
                self.clusters.get(&name)?;
                let desired = self.endpoints.get(&name);
                let endpoints = match self.admission.serving(&chunk) {
                    Serving::Desired => desired,
                    Serving::Proven(Some(Chunk::Endpoints(proven))) => Some(proven),
                    Serving::Proven(_) => None,
                };
                // Envoy waits for a missing assignment, so it is never missing.
                Some(endpoints.map_or_else(
                    || Resource::empty_endpoints(Arc::clone(&name)),
                    |endpoints| {
                        let assignment = lower::endpoints(&name, endpoints, self.leaving.of(&name));
                        Resource::of(Arc::clone(&name), &assignment, Vec::new())
                    },
                ))
            }
            ResourceType::Secret => {
                let desired = self.secrets.get(&name)?;
                let secret = match self.admission.serving(&chunk) {
                    Serving::Desired => desired,
                    Serving::Proven(Some(Chunk::Secret(proven))) => proven,
                    Serving::Proven(_) => return None,
                };
                Some(Resource::of(name, &lower::secret(secret), Vec::new()))
            }
        }
    }

    /// A listener without any chain is absent: Envoy rejects it.
    fn build_listener(&self, name: &Arc<str>, key: &ResourceKey) -> Option<Resource> {
        let desired = self.listeners.get(name)?;
        let served = |chain: &Arc<FilterChain>| {
            let key = ChunkKey { resource: key.clone(), part: Part::Chain(Arc::clone(&chain.name)) };
            match self.admission.serving(&key) {
                Serving::Desired => Some(Arc::clone(chain)),
                Serving::Proven(Some(Chunk::Chain(proven))) => Some(Arc::clone(proven)),
                Serving::Proven(_) => None,
            }
        };
        let chains: Vec<Arc<FilterChain>> = desired.chains.iter().filter_map(served).collect();
        if chains.is_empty() {
            return None;
        }
        let listener = Listener { chains, ..Listener::clone(desired) };
        Some(Resource::of(Arc::clone(name), &lower::listener(&listener), listener_children(&listener)))
    }
}

fn secrets<'a>(names: impl Iterator<Item = &'a SecretName>) -> Vec<Child> {
    let mut children: Vec<Child> = names.map(|name| (ResourceType::Secret, Arc::clone(name))).collect();
    children.sort();
    children.dedup();
    children
}

fn cluster_children(cluster: &Cluster) -> Vec<Child> {
    let mut children = vec![(ResourceType::Endpoints, Arc::clone(&cluster.name))];
    let Some(tls) = &cluster.tls else { return children };
    let authorities = match &tls.trust {
        UpstreamTrust::System => None,
        UpstreamTrust::Authorities(name) => Some(name),
    };
    children.extend(secrets(authorities.into_iter().chain(&tls.client_certificate)));
    children
}

fn listener_children(listener: &Listener) -> Vec<Child> {
    let tls = listener.chains.iter().filter_map(|chain| chain.tls.as_ref());
    let mut children = secrets(tls.flat_map(|tls| {
        tls.certificates
            .iter()
            .chain(tls.client_validation.as_ref().map(|validation| &validation.authorities))
    }));
    let tables = listener.chains.iter().filter_map(|chain| match &chain.traffic {
        ChainTraffic::Http { routes } => Some((ResourceType::RouteConfiguration, routes.to_string().into())),
        ChainTraffic::Tcp { .. } | ChainTraffic::Udp { .. } | ChainTraffic::Closed => None,
    });
    children.extend(tables);
    children
}
