//! A Gateway's key, checked: its parts become names of folders, sockets and arguments.

use std::fmt;
use std::str::FromStr;

use portolan_xds::GatewayKey;
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::ObjectKey;

/// Longest name that is part of a folder's name as it is; longer ones are cut and hashed (names may have 253
/// letters, namespaces 63, a file name 255).
const FOLDER: usize = 200;

/// A Gateway's namespace and name, both plain DNS names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GatewayName(GatewayKey);

/// Text that is not `<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a Gateway's name: expected <namespace>/<name>, both of lower-case letters, digits, '-' and '.'"
)]
pub struct GatewayNameError(String);

impl GatewayName {
    /// Joins the two parts.
    ///
    /// # Errors
    /// Where a part is empty, too long, or has letters that no Kubernetes name has.
    pub fn new(namespace: &str, name: &str) -> Result<Self, GatewayNameError> {
        let plain = |part: &str| {
            let allowed = |letter: u8| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"-.".contains(&letter)
            };
            (1..=253).contains(&part.len()) && part.bytes().all(allowed)
        };
        if plain(namespace) && plain(name) {
            Ok(Self(GatewayKey::new(namespace, name)))
        } else {
            Err(GatewayNameError(format!("{namespace}/{name}")))
        }
    }

    /// The same, as xDS knows it.
    pub fn key(&self) -> &GatewayKey {
        &self.0
    }

    /// A folder's name, unique among Gateways: `_` stands in no Kubernetes name.
    pub fn folder(&self) -> String {
        let plain = format!("{}_{}", self.0.namespace, self.0.name);
        if plain.len() <= FOLDER {
            return plain;
        }
        let start: String = plain.chars().take(FOLDER).collect();
        format!("{start}-{}", self.hash())
    }

    /// 16 hex digits that stand for the name where space is short.
    pub fn hash(&self) -> String {
        blake3::hash(self.to_string().as_bytes()).to_hex().chars().take(16).collect()
    }
}

impl TryFrom<&ObjectKey> for GatewayName {
    type Error = GatewayNameError;

    fn try_from(key: &ObjectKey) -> Result<Self, Self::Error> {
        Self::new(&key.namespace, &key.name)
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GatewayName {
    type Err = GatewayNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| GatewayNameError(text.to_owned()))?;
        Self::new(namespace, name)
    }
}

impl<'de> Deserialize<'de> for GatewayName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!("infra/gw.a-1".parse::<GatewayName>().unwrap().folder(), "infra_gw.a-1");
        for wrong in ["gw", "a/b/c", "/b", "a/", "A/b", "a/../b", "a/b c"] {
            assert!(wrong.parse::<GatewayName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn long_names_have_distinct_folders() {
        let name =
            |last: &str| GatewayName::new(&"n".repeat(63), &format!("{}{last}", "g".repeat(250))).unwrap();
        assert_ne!(name("a").folder(), name("b").folder());
        assert!(name("a").folder().len() < 255);
    }
}
