//! ConfigMaps, reduced to the key that Portolan uses.

use std::sync::Arc;

use super::Meta;

/// A ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// Metadata.
    pub meta: Meta,
    /// `ca.crt`: certificates of authorities in PEM.
    pub authorities: Option<Arc<str>>,
}
