//! What the admin endpoint of a standalone tells beside the control plane's state.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    admin::Surroundings,
    fleet::{GatewayName, host, state::StatePaths},
    model::ObjectKey,
};

/// Inputs, process, and the proxies on this host.
#[derive(Debug)]
pub(super) struct StandaloneSurroundings {
    inputs: Vec<PathBuf>,
    paths: StatePaths,
    /// Why the fleet as a whole does not follow; nothing once every Gateway has been placed.
    waits: Mutex<Option<String>>,
}

impl StandaloneSurroundings {
    pub(super) fn new(inputs: Vec<PathBuf>, paths: StatePaths) -> Self {
        Self { inputs, paths, waits: Mutex::new(Some("the Gateways are not placed yet".into())) }
    }

    pub(super) fn set_placed(&self) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Surroundings for StandaloneSurroundings {
    fn about(&self) -> Vec<(&'static str, Value)> {
        vec![("inputs", json!(self.inputs)), ("pid", std::process::id().into())]
    }

    fn proxy(&self, gateway: &ObjectKey) -> Value {
        let Ok(name) = GatewayName::try_from(gateway) else {
            return json!({"ready": false, "message": "the Gateway's name cannot name a proxy"});
        };
        let status = host::status(&self.paths.gateway(&name));
        json!({
            "ready": status.ready,
            "pid": status.pid,
            "restarts": status.restarts,
            "message": status.message,
        })
    }

    fn not_ready(&self) -> Option<String> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
