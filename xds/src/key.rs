//! The identity of a Gateway, as this crate needs it: a store, a socket, a certificate belong to one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Namespace and name of a Gateway. Written `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayKey {
    /// The Gateway's namespace.
    pub namespace: Arc<str>,
    /// The Gateway's name.
    pub name: Arc<str>,
}

impl GatewayKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for GatewayKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// The text is not `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a Gateway: expected <namespace>/<name>")]
pub struct InvalidGatewayKey(String);

impl FromStr for GatewayKey {
    type Err = InvalidGatewayKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::new(namespace, name))
            }
            _ => Err(InvalidGatewayKey(text.to_owned())),
        }
    }
}

impl Serialize for GatewayKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GatewayKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_and_read_as_namespace_and_name() {
        let key = GatewayKey::new("apps", "public");
        assert_eq!(key.to_string(), "apps/public");
        assert_eq!(serde_json::to_string(&key).unwrap(), r#""apps/public""#);
        assert_eq!(serde_json::from_str::<GatewayKey>(r#""apps/public""#).unwrap(), key);
    }

    #[test]
    fn a_text_of_another_shape_is_refused() {
        for text in ["", "apps", "apps/", "/public", "a/b/c"] {
            assert!(text.parse::<GatewayKey>().is_err(), "{text:?}");
        }
    }
}
