//! FleetConfigs: how the proxies of a Gateway are run.

use std::sync::Arc;

use portolan_crds::fleet_config::FleetConfigSpec;

use super::Meta;

/// A FleetConfig.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// Metadata.
    pub meta: Meta,
    /// spec, or why it cannot be read.
    pub spec: Result<Arc<FleetConfigSpec>, String>,
}
