//! GatewayClasses, Gateways and their listeners.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Filter, Hostname, InvalidHostname, Meta, ObjectKey, ObjectRef, ParametersRef, Selector};

/// A GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// Metadata.
    pub meta: Meta,
    /// spec.controllerName.
    pub controller: Arc<str>,
    /// spec.parametersRef.
    pub parameters: Option<ParametersRef>,
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
    /// spec.allowedListeners: which namespaces' ListenerSets; none takes none.
    pub allowed_sets: Option<From>,
    /// spec.addresses.
    pub addresses: Vec<Address>,
    /// spec.infrastructure.
    pub infrastructure: Infrastructure,
    /// spec.tls.frontend.
    pub frontend: Frontend,
    /// spec.tls.backend.clientCertificateRef.
    pub client_certificate: Option<ObjectRef>,
}

/// A ListenerSet: listeners that somebody adds to a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSet {
    /// Metadata.
    pub meta: Meta,
    /// spec.parentRef, if it names a Gateway.
    pub gateway: Option<ObjectKey>,
    /// spec.listeners.
    pub listeners: Vec<ListenerSpec>,
}

/// An address that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// `IPAddress`, `Hostname` or another type.
    #[serde(rename = "type", default = "ip_address")]
    pub type_: Arc<str>,
    /// The address; none asks for any of the type.
    pub value: Option<Arc<str>>,
    /// From where it should be reachable (experimental).
    pub routability: Option<Arc<str>>,
}

impl Address {
    /// The `routability` of an address that can be reached inside the cluster only (AddressRoutability).
    pub const CLUSTER: &'static str = "Cluster";

    /// Whether it is to be reachable inside the cluster only.
    pub fn inside(&self) -> bool {
        self.routability.as_deref() == Some(Self::CLUSTER)
    }
}

fn ip_address() -> Arc<str> {
    "IPAddress".into()
}

/// What the objects of a Gateway's fleet carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Infrastructure {
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Annotations.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// Parameters, in the Gateway's namespace.
    pub parameters_ref: Option<ParametersRef>,
}

/// How clients of HTTPS listeners are validated (GEP-91).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontend {
    /// On every port that has no entry of its own.
    pub default: Option<Validation>,
    /// By port; an entry without validation switches it off.
    pub per_port: BTreeMap<u16, Option<Validation>>,
}

/// Asking clients for certificates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Where the authorities are.
    pub ca_certificate_refs: Vec<ObjectRef>,
    /// Whether clients without a valid certificate are let in.
    #[serde(default)]
    pub mode: ValidationMode,
}

/// FrontendTLSValidation.mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ValidationMode {
    /// They are refused.
    #[default]
    AllowValidOnly,
    /// They are let in.
    AllowInsecureFallback,
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
    /// tls.certificateRefs.
    pub certificates: Vec<ObjectRef>,
    /// Whether `tls` is set at all.
    pub has_tls: bool,
    /// filters.requests: what happens to a request before a route is picked (GEP-5224, experimental), or why it cannot be
    /// read.
    pub filters: Result<Vec<Filter>, String>,
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

/// allowedRoutes.namespaces, and allowedListeners.namespaces.
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
