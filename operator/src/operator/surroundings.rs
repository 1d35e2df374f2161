//! What the admin endpoint of an operator tells beside the control plane's state.

use std::sync::Arc;

use portolan_xds::{GatewayKey, ads::SharedRegistry};
use serde_json::{Value, json};

use crate::{admin::Surroundings, leader::Leadership, model::ObjectKey, source::kubernetes::Waiting};

/// Who this replica is, what it waits for, which proxies are connected to it.
pub(super) struct OperatorSurroundings {
    pub(super) identity: String,
    pub(super) leadership: Leadership,
    pub(super) waiting: Arc<Waiting>,
    pub(super) registry: Arc<SharedRegistry>,
}

impl Surroundings for OperatorSurroundings {
    fn about(&self) -> Vec<(&'static str, Value)> {
        vec![("replica", json!(self.identity)), ("leads", json!(self.leadership.holds()))]
    }

    fn proxy(&self, gateway: &ObjectKey) -> Value {
        let key = GatewayKey::new(gateway.namespace.clone(), gateway.name.clone());
        let connected = self.registry.read(|registry| registry.of(&key).count());
        json!({"ready": connected > 0, "connected": connected})
    }

    fn not_ready(&self) -> Option<String> {
        let waiting = self.waiting.list();
        (!waiting.is_empty()).then(|| format!("not read yet: {}", waiting.join(", ")))
    }
}
