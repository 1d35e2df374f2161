//! What the ADS server sees of the core: a store per Gateway, and an ear for what proxies say.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use portolan_xds::{
    GatewayKey,
    ads::{Event, Programs, SharedStore, StreamId},
};

use super::{Input, inputs::Sender};
use crate::metrics::Metrics;

/// The stores of all Gateways. The core writes them, streams read them.
pub struct Hub {
    ready: AtomicBool,
    stores: RwLock<BTreeMap<GatewayKey, Arc<SharedStore>>>,
    inputs: Sender<Input>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl Hub {
    pub(super) fn new(inputs: Sender<Input>, metrics: Arc<Metrics>) -> Self {
        Self { ready: AtomicBool::new(false), stores: RwLock::default(), inputs, metrics }
    }

    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(super) fn add(&self, gateway: GatewayKey, store: Arc<SharedStore>) {
        self.stores.write().unwrap_or_else(PoisonError::into_inner).insert(gateway, store);
    }

    /// Ends a Gateway's streams and forgets its store.
    pub(super) fn remove(&self, gateway: &GatewayKey) {
        let store = self.stores.write().unwrap_or_else(PoisonError::into_inner).remove(gateway);
        if let Some(store) = store {
            store.close();
        }
    }
}

impl Programs for Hub {
    fn store(&self, gateway: &GatewayKey) -> Option<Arc<SharedStore>> {
        self.stores.read().unwrap_or_else(PoisonError::into_inner).get(gateway).cloned()
    }

    fn on_event(&self, gateway: &GatewayKey, stream: StreamId, event: Event) {
        self.metrics.on_stream_event(&event);
        if matches!(event, Event::Node(_) | Event::UnsupportedType { .. } | Event::UnsupportedName { .. }) {
            return;
        }
        // The protocol bounds what is on its way: one response per type and stream waits for its answer. The core
        // has stopped when sending fails, and then nobody listens.
        let _ = self.inputs.send(Input::Proxy(gateway.clone(), stream, event));
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
