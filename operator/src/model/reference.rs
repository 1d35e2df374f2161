//! References from one object to another.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A reference of a route to a parent. Status repeats it as the user wrote it, defaults included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// The parent's group.
    #[serde(default = "gateway_group")]
    pub group: Arc<str>,
    /// The parent's kind.
    #[serde(default = "gateway_kind")]
    pub kind: Arc<str>,
    /// The parent's namespace; the route's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// The parent's name.
    pub name: Arc<str>,
    /// Only this listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<Arc<str>>,
    /// Only listeners on this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

fn gateway_group() -> Arc<str> {
    "gateway.networking.k8s.io".into()
}

fn gateway_kind() -> Arc<str> {
    "Gateway".into()
}

/// A reference to an object whose content is used: a certificate, authorities.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ObjectRef {
    /// The object's group; empty is core.
    #[serde(default)]
    pub group: Arc<str>,
    /// The object's kind.
    #[serde(default = "secret_kind")]
    pub kind: Arc<str>,
    /// The object's namespace; that of the referring object when absent.
    pub namespace: Option<Arc<str>>,
    /// The object's name.
    pub name: Arc<str>,
}

/// SecretObjectReference.kind; references to authorities always say their kind.
fn secret_kind() -> Arc<str> {
    "Secret".into()
}

/// A reference to parameters of a GatewayClass or of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParametersRef {
    /// The object's group.
    pub group: Arc<str>,
    /// The object's kind.
    pub kind: Arc<str>,
    /// The object's namespace; only a GatewayClass can name one.
    pub namespace: Option<Arc<str>>,
    /// The object's name.
    pub name: Arc<str>,
}

/// A reference to a backend, of a rule or of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// The backend's group; empty is core.
    #[serde(default)]
    pub group: Arc<str>,
    /// The backend's kind.
    #[serde(default = "service_kind")]
    pub kind: Arc<str>,
    /// The backend's namespace; the route's own when absent.
    pub namespace: Option<Arc<str>>,
    /// The backend's name.
    pub name: Arc<str>,
    /// The Service's port.
    pub port: Option<u16>,
}

fn service_kind() -> Arc<str> {
    "Service".into()
}
