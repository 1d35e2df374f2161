//! Backends: from a reference to a cluster, and from EndpointSlices to its addresses.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use portolan_xds::ir::{AppProtocol, Cluster, ClusterName, Endpoint, Endpoints, Millis, Origin};

use super::{
    Fault, RefFrom,
    grant::{RefError, resolve_ref},
};
use crate::{
    model::{BackendRef, Kind, ObjectKey, Route, Service},
    world::View,
};

/// A cluster before it is resolved: its identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId {
    /// The Service's namespace.
    pub namespace: Arc<str>,
    /// The Service's name.
    pub service: Arc<str>,
    /// The Service's port number.
    pub port: u16,
    /// How to speak to it.
    pub protocol: AppProtocol,
}

impl ClusterId {
    /// The xDS name: `<namespace>/<service>/<port>`, and `/h2` where HTTP/2 is spoken, since one Service port can be
    /// reached by a GRPCRoute and by an HTTPRoute, and a change of protocol must make a new cluster that warms first.
    pub fn name(&self) -> ClusterName {
        let suffix = if self.protocol == AppProtocol::Http2 { "/h2" } else { "" };
        format!("{}/{}/{}{suffix}", self.namespace, self.service, self.port).into()
    }
}

/// Follows a backendRef.
pub(super) fn backend(view: &View<'_>, route: &Route, reference: &BackendRef) -> Result<ClusterId, Fault> {
    let kind = route.meta.key.kind;
    if !reference.group.is_empty() || *reference.kind != *Kind::Service.as_str() {
        return Err(Fault::new(
            "InvalidKind",
            format!(
                "{}/{} {} is not a kind of backend: expected a Service",
                reference.group, reference.kind, reference.name
            ),
        ));
    }
    let from = RefFrom { kind, namespace: &route.meta.key.namespace };
    let service: Arc<Service> = resolve_ref(view, &from, reference.namespace.as_ref(), &reference.name)
        .map_err(|error| {
            let reason = match error {
                RefError::NotPermitted { .. } => "RefNotPermitted",
                RefError::NotFound(_) => "BackendNotFound",
            };
            Fault::new(reason, error.to_string())
        })?
        .into_inner();
    let key = &service.meta.key;
    let Some(number) = reference.port else {
        return Err(Fault::new(
            "BackendNotFound",
            format!("{key}: the reference names no port, which a Service needs"),
        ));
    };
    if service.external_name {
        return Err(Fault::new(
            "UnsupportedProtocol",
            format!("{key} is of type ExternalName, which Portolan does not route to"),
        ));
    }
    let Some(port) = service.ports.iter().find(|port| port.port == number && port.tcp) else {
        let known: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
        return Err(Fault::new(
            "BackendNotFound",
            format!("{key} has no TCP port {number}; it has {}", known.join(", ")),
        ));
    };
    let protocol = match port.app_protocol.as_deref() {
        _ if kind == Kind::GrpcRoute => AppProtocol::Http2,
        // GEP-1911; grpc is the name that IANA and older users know.
        Some("kubernetes.io/h2c" | "grpc") => AppProtocol::Http2,
        Some("kubernetes.io/wss") => {
            return Err(Fault::new(
                "UnsupportedProtocol",
                format!("{key} port {number}: appProtocol kubernetes.io/wss needs TLS towards the backend"),
            ));
        }
        _ => AppProtocol::Http1,
    };
    Ok(ClusterId { namespace: key.namespace.clone(), service: key.name.clone(), port: number, protocol })
}

/// Resolves [`super::Unit::Cluster`].
pub(super) fn cluster(id: &ClusterId) -> Cluster {
    let origin = ObjectKey::new(Kind::Service, id.namespace.clone(), id.service.clone());
    Cluster {
        name: id.name(),
        protocol: id.protocol,
        tls: None,
        connect_timeout: Millis(5_000),
        origin: Origin::new(origin.to_string()),
    }
}

/// Resolves [`super::Unit::Endpoints`]: the ready addresses of every slice that has the Service port's name.
pub(super) fn endpoints(view: &View<'_>, id: &ClusterId) -> Endpoints {
    let key = ObjectKey::new(Kind::Service, id.namespace.clone(), id.service.clone());
    let Some(service) = view.service(&key) else { return Endpoints::default() };
    let Some(port) = service.ports.iter().find(|port| port.port == id.port && port.tcp) else {
        return Endpoints::default();
    };
    let mut endpoints = BTreeSet::new();
    for slice in view.slices_of(&id.namespace, &id.service) {
        for (_, number) in slice.ports.iter().filter(|(name, _)| *name == port.name) {
            for (address, zone) in slice.ready.iter().filter(|(address, _)| !link_local(*address)) {
                endpoints
                    .insert(Endpoint { address: SocketAddr::new(*address, *number), zone: zone.clone() });
            }
        }
    }
    Endpoints { endpoints: endpoints.into_iter().collect() }
}

/// Link-local addresses reach the node's metadata services and are refused everywhere (design: security at the edge).
fn link_local(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some_and(|mapped| mapped.is_link_local())
        }
    }
}
