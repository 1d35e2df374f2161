//! Where a piece of configuration came from.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The API object that a piece of the IR came from, opaque to this crate: it is only compared, shown and given back to
/// the operator when Envoy rejects the piece.
///
/// The operator writes `Kind/namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin(Arc<str>);

impl Origin {
    /// An origin from its text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text that the operator gave.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
