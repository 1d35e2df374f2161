//! Which replicas are connected: for the status of this one, and its metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};

use crate::metrics::Metrics;

/// A connection of another replica, for the life of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// See the module.
#[derive(Debug)]
pub struct Connections {
    metrics: Arc<Metrics>,
    next: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    followers: BTreeMap<PeerId, String>,
    leader: Option<String>,
}

impl Connections {
    /// None yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, next: AtomicU64::new(1), known: Mutex::default() }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn next(&self) -> PeerId {
        PeerId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A follower is connected, or is no more.
    pub(super) fn follower(&self, peer: PeerId, name: Option<String>) {
        self.change(|known| match name {
            Some(name) => _ = known.followers.insert(peer, name),
            None => _ = known.followers.remove(&peer),
        });
    }

    /// This replica is connected to its leader, or is no more.
    pub(super) fn leader(&self, name: Option<String>) {
        self.change(|known| known.leader = name);
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        self.metrics.on_peers(known.followers.len() + usize::from(known.leader.is_some()));
    }

    /// As JSON: the followers that tell this replica, and the leader that it tells.
    pub fn shown(&self) -> Value {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let followers: Vec<&String> = known.followers.values().collect();
        json!({"followers": followers, "leader": known.leader})
    }
}
