//! Services and EndpointSlices, reduced to what routing uses.

use std::{net::IpAddr, sync::Arc};

use portolan_xds::ir::Transport;

use super::Meta;

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Metadata.
    pub meta: Meta,
    /// spec.ports.
    pub ports: Vec<ServicePort>,
    /// Whether spec.type is ExternalName, which Portolan does not route to.
    pub external_name: bool,
}

impl Service {
    /// The port of that number and transport: a Service can have both on one number.
    pub fn port(&self, number: u16, transport: Transport) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number && port.transport == Some(transport))
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name: EndpointSlices refer to it by this name, empty when the Service has one unnamed port.
    pub name: Arc<str>,
    /// The number that backendRefs use.
    pub port: u16,
    /// `appProtocol` (GEP-1911).
    pub app_protocol: Option<Arc<str>>,
    /// Its transport; none for one that Portolan does not carry.
    pub transport: Option<Transport>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Metadata.
    pub meta: Meta,
    /// The Service, from the label `kubernetes.io/service-name`.
    pub service: Arc<str>,
    /// Port names and numbers.
    pub ports: Vec<(Arc<str>, u16)>,
    /// Ready addresses and their zones. Addresses that are no IP are left out.
    pub ready: Vec<(IpAddr, Option<Arc<str>>)>,
}
