//! Secrets, reduced to the keys that Portolan uses.

use std::{fmt, sync::Arc};

use super::Meta;

/// A Secret of type `kubernetes.io/tls`, or any other reduced to its type. `Debug` shows no content.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Metadata.
    pub meta: Meta,
    /// `type`.
    pub type_: Arc<str>,
    /// `tls.crt`, decoded.
    pub certificate: Option<Arc<[u8]>>,
    /// `tls.key`, decoded.
    pub key: Option<Arc<[u8]>>,
    /// The pair before, where this one replaced a good pair and cannot be used itself. The object does not say it: whoever
    /// saw the version before tells it (`runtime::pairs`).
    pub before: Option<Box<Secret>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("meta", &self.meta).field("type", &self.type_).finish_non_exhaustive()
    }
}
