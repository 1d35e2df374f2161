//! What the admin endpoint of an operator tells beside the control plane's state.

use std::sync::Arc;

use portolan_xds::{GatewayKey, ads::SharedRegistry};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    admin::Surroundings, leader::Leadership, model::ObjectKey, peers::Connections,
    source::kubernetes::Waiting,
};

/// Who this replica is, what it waits for, which proxies are connected to it.
pub(super) struct OperatorSurroundings {
    pub(super) identity: String,
    pub(super) leadership: Leadership,
    pub(super) waiting: Arc<Waiting>,
    pub(super) placed: watch::Receiver<bool>,
    pub(super) registry: Arc<SharedRegistry>,
    pub(super) connections: Arc<Connections>,
}

impl Surroundings for OperatorSurroundings {
    fn about(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("replica", json!(self.identity)),
            ("leads", json!(self.leadership.holds())),
            ("peers", self.connections.shown()),
        ]
    }

    fn proxy(&self, gateway: &ObjectKey) -> Value {
        let key = GatewayKey::new(gateway.namespace.clone(), gateway.name.clone());
        let connected = self.registry.read(|registry| registry.of(&key).count());
        json!({"ready": connected > 0, "connected": connected})
    }

    fn not_ready(&self) -> Option<String> {
        let waiting = self.waiting.list();
        if !waiting.is_empty() {
            return Some(format!("not read yet: {}", waiting.join(", ")));
        }
        (!*self.placed.borrow()).then(|| "the Gateways are not placed yet".into())
    }
}
