//! Secrets that go out over SDS.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// The SDS name of a secret: `<namespace>/<name>`, the same wherever it is referenced.
pub type SecretName = Arc<str>;

/// A secret for Envoy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// The SDS name.
    pub name: SecretName,
    /// What it holds.
    pub body: SecretBody,
}

/// What a secret holds. `Debug` and serialisation never show a private key.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretBody {
    /// A certificate chain and its private key, both PEM.
    Certificate {
        /// Leaf first.
        chain: Arc<str>,
        /// The private key. Never shown.
        key: Arc<str>,
    },
    /// Certificates of authorities, PEM, concatenated.
    Authorities {
        /// The certificates.
        bundle: Arc<str>,
    },
}

impl fmt::Debug for SecretBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { chain, .. } => f
                .debug_struct("Certificate")
                .field("chain_bytes", &chain.len())
                .field("key", &"[redacted]")
                .finish(),
            Self::Authorities { bundle } => {
                f.debug_struct("Authorities").field("bundle_bytes", &bundle.len()).finish()
            }
        }
    }
}

impl Serialize for SecretBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}
