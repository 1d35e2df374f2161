//! Where content that Envoy rejected is remembered, so that a restart does not try it again (design: after a NACK).

use std::{fmt, path::PathBuf};

use portolan_xds::{GatewayKey, program::Frozen};

use crate::fleet::{
    GatewayName,
    files::{private_folder, read_json, remove, write_json},
};

/// Keeps what was put back, by Gateway.
pub trait Keep: Send + fmt::Debug {
    /// What was kept last. What cannot be read counts as nothing: Envoy is asked again.
    fn load(&self, gateway: &GatewayKey) -> Vec<Frozen>;

    /// Replaces what is kept; nothing to keep forgets the Gateway.
    fn keep(&self, gateway: &GatewayKey, frozen: &[Frozen]);
}

/// Remembers nothing: for tests and for commands that end.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepNothing;

impl Keep for KeepNothing {
    fn load(&self, _: &GatewayKey) -> Vec<Frozen> {
        Vec::new()
    }

    fn keep(&self, _: &GatewayKey, _: &[Frozen]) {}
}

/// Remembers it in a private folder, one file per Gateway.
#[derive(Debug, Clone)]
pub struct KeepInFolder(pub PathBuf);

impl KeepInFolder {
    fn path(&self, gateway: &GatewayKey) -> Option<PathBuf> {
        let name = GatewayName::new(&gateway.namespace, &gateway.name).ok()?;
        Some(self.0.join(format!("{}.json", name.folder())))
    }
}

impl Keep for KeepInFolder {
    fn load(&self, gateway: &GatewayKey) -> Vec<Frozen> {
        let Some(path) = self.path(gateway) else { return Vec::new() };
        read_json(&path)
            .unwrap_or_else(|error| {
                tracing::warn!(%gateway, %error, "what Envoy rejected before is unknown; it is asked again");
                None
            })
            .unwrap_or_default()
    }

    fn keep(&self, gateway: &GatewayKey, frozen: &[Frozen]) {
        let Some(path) = self.path(gateway) else { return };
        let kept = if frozen.is_empty() {
            remove(&path)
        } else {
            private_folder(&self.0).and_then(|()| write_json(&path, &frozen))
        };
        if let Err(error) = kept {
            tracing::warn!(%gateway, %error, "what Envoy rejected cannot be kept; a restart will ask it again");
        }
    }
}
