//! GatewayClasses, Gateways and their listeners.

use std::sync::Arc;

use serde::Deserialize;

use super::{Hostname, InvalidHostname, Meta, Selector};

/// A GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// Metadata.
    pub meta: Meta,
    /// spec.controllerName.
    pub controller: Arc<str>,
    /// Whether spec.parametersRef is set.
    pub has_parameters: bool,
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Metadata.
    pub meta: Meta,
    /// spec.gatewayClassName.
    pub class: Arc<str>,
    /// spec.listeners.
    pub listeners: Vec<ListenerSpec>,
}

/// A listener as written.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSpec {
    /// Its name, unique in the Gateway.
    pub name: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its protocol, any text.
    pub protocol: Arc<str>,
    /// Its hostname; none stands for every host.
    pub hostname: Result<Option<Hostname>, InvalidHostname>,
    /// tls.mode.
    pub tls_mode: TlsMode,
    /// tls.certificateRefs: group, kind, namespace, name.
    pub certificates: Vec<super::BackendRef>,
    /// Whether `tls` is set at all.
    pub has_tls: bool,
    /// Whether `filters` is set (GatewayListenerFilters, experimental); not supported yet.
    pub has_filters: bool,
    /// allowedRoutes.
    pub allowed: AllowedRoutes,
}

/// tls.mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsMode {
    /// TLS ends at the Gateway.
    #[default]
    Terminate,
    /// TLS ends at the backend.
    Passthrough,
}

/// allowedRoutes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllowedRoutes {
    /// Which namespaces.
    pub from: From,
    /// Which kinds; empty means all that the protocol supports.
    pub kinds: Vec<RouteKind>,
}

/// allowedRoutes.namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum From {
    /// Every namespace.
    All,
    /// The Gateway's own.
    #[default]
    Same,
    /// Namespaces with these labels.
    Selector(Selector),
}

/// A kind of route: group and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, Deserialize)]
pub struct RouteKind {
    /// Group.
    #[serde(default = "group")]
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
}

fn group() -> Arc<str> {
    "gateway.networking.k8s.io".into()
}
