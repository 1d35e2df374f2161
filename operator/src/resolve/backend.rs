//! Backends: from a reference to a cluster, and from EndpointSlices to its addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use portolan_xds::ir::{AppProtocol, Cluster, ClusterName, Endpoint, Endpoints, Millis, Origin, Transport};

use super::{
    BackendTls, Connection, Fault, Provenance, RefFrom,
    engine::State,
    grant::{RefError, named, resolve_ref},
    policy,
};
use crate::{
    model::{BackendRef, Kind, ObjectKey, Service, ServicePort},
    world::{Read, View},
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
    /// TLS towards it.
    pub tls: Option<Arc<BackendTls>>,
}

impl ClusterId {
    /// The xDS name: `<namespace>/<service>/<port>`, and `/h2` where HTTP/2 is spoken, since one Service port can be
    /// reached by a GRPCRoute and by an HTTPRoute, and a change of protocol must make a new cluster that warms first. The
    /// same holds for TLS: `/<policy hash>`.
    pub fn name(&self) -> ClusterName {
        let protocol = if self.protocol == AppProtocol::Http2 { "/h2" } else { "" };
        let policy = self.tls.as_ref().map(|tls| format!("/{}", tls.hash())).unwrap_or_default();
        format!("{}/{}/{}{protocol}{policy}", self.namespace, self.service, self.port).into()
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendPort {
    /// The Service's namespace.
    pub namespace: Arc<str>,
    /// The Service's name.
    pub service: Arc<str>,
    /// The port's number.
    pub port: u16,
    /// Its transport.
    pub transport: Transport,
}

/// A backend that a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTarget {
    /// The port.
    pub port: BackendPort,
    /// How it is spoken to.
    pub connection: Connection,
}

/// Follows a backendRef to a port that objects of this kind can use.
pub(super) fn target(
    view: &View<'_>,
    state: &State,
    from: &RefFrom<'_>,
    reference: &BackendRef,
) -> Result<(BackendTarget, ServicePort), Fault> {
    if !reference.group.is_empty() || *reference.kind != *Kind::Service.as_str() {
        return Err(Fault::new(
            "InvalidKind",
            format!(
                "{} {} is not a kind of backend: expected a Service",
                named(&reference.group, &reference.kind),
                reference.name
            ),
        ));
    }
    let service: Arc<Service> = resolve_ref(view, from, reference.namespace.as_ref(), &reference.name)
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
    let transport = if from.kind == Kind::UdpRoute { Transport::Udp } else { Transport::Tcp };
    let Some(port) = service.port(number, transport) else {
        let known: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
        return Err(Fault::new(
            "BackendNotFound",
            format!("{key} has no {transport} port {number}; it has {}", known.join(", ")),
        ));
    };
    let found =
        BackendPort { namespace: key.namespace.clone(), service: key.name.clone(), port: number, transport };
    let connection = match transport {
        Transport::Tcp => policy::connection(view, state, &service, port),
        Transport::Udp => Connection::Plain,
    };
    Ok((BackendTarget { port: found, connection }, port.clone()))
}

/// Follows a backendRef of what forwards requests. No cluster is one that must not be reached: see
/// [`Connection::Refused`]. Whoever refers to it is not to blame, and its reference is fine. `speaks` is the protocol of what refers to
/// it, where that decides; else the port's own.
pub(super) fn backend(
    view: &View<'_>,
    state: &State,
    from: &RefFrom<'_>,
    reference: &BackendRef,
    speaks: Option<AppProtocol>,
) -> Result<Option<ClusterId>, Fault> {
    let (BackendTarget { port, connection }, spec) = target(view, state, from, reference)?;
    let BackendPort { namespace, service, port, .. } = port;
    let protocol = match spec.app_protocol.as_deref() {
        _ if from.kind == Kind::GrpcRoute => AppProtocol::Http2,
        // GEP-1911; grpc is the name that IANA and older users know.
        Some("kubernetes.io/h2c" | "grpc") => AppProtocol::Http2,
        Some("kubernetes.io/wss") if connection == Connection::Plain => {
            let what = format!("Service/{namespace}/{service} port {port}: appProtocol kubernetes.io/wss");
            let how = "needs TLS towards the backend: say by a BackendTLSPolicy whom to trust";
            return Err(Fault::new("UnsupportedProtocol", format!("{what} {how}")));
        }
        _ => AppProtocol::Http1,
    };
    let protocol = speaks.unwrap_or(protocol);
    Ok(match connection {
        Connection::Plain => Some(ClusterId { namespace, service, port, protocol, tls: None }),
        Connection::Tls(tls) => Some(ClusterId { namespace, service, port, protocol, tls: Some(tls) }),
        Connection::Refused => None,
    })
}

/// Resolves [`super::Unit::Cluster`].
pub(super) fn cluster(id: &ClusterId) -> Cluster {
    let origin = ObjectKey::new(Kind::Service, id.namespace.clone(), id.service.clone());
    Cluster {
        name: id.name(),
        protocol: id.protocol,
        tls: id.tls.as_ref().map(|tls| tls.tls.clone()),
        sockets: BTreeMap::new(),
        connect_timeout: Millis(5_000),
        origin: Origin::new(origin.to_string()),
    }
}

/// Addresses with their zones.
type Addresses = BTreeSet<(SocketAddr, Option<Arc<str>>)>;

/// Where a cluster's addresses come from: all that it takes to follow them without resolving anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSource {
    namespace: Arc<str>,
    service: Arc<str>,
    /// The name that slices know the port by.
    port: Arc<str>,
    provenance: Provenance,
}

impl EndpointSource {
    fn of(view: &View<'_>, state: &State, of: &BackendPort) -> Option<Self> {
        let key = ObjectKey::new(Kind::Service, of.namespace.clone(), of.service.clone());
        let service = view.service(&key)?;
        let port = service.port(of.port, of.transport)?.name.clone();
        view.record(Read::Environment);
        let provenance = state.environment.provenance;
        Some(Self { namespace: of.namespace.clone(), service: of.service.clone(), port, provenance })
    }

    /// The ready addresses with their zones: those of every slice that has the port's name. Tells whether any slice has it, or none
    /// has a port: a Service without pods has a slice without ports, in place of those that it had.
    fn addresses(&self, view: &View<'_>) -> (Addresses, bool) {
        let slices = view.slices_of(&self.namespace, &self.service);
        let mut addresses = Addresses::new();
        let mut known = slices.iter().all(|slice| slice.ports.is_empty());
        for slice in slices {
            for (_, number) in slice.ports.iter().filter(|(name, _)| *name == self.port) {
                known = true;
                let ready = slice.ready.iter().filter(|(address, _)| allowed(*address, self.provenance));
                addresses
                    .extend(ready.map(|(address, zone)| (SocketAddr::new(*address, *number), zone.clone())));
            }
        }
        (addresses, known)
    }

    /// The assignment that these slices make; none where they have ports and none has the port's name: they are of another version of
    /// the Service.
    pub fn endpoints(&self, slices: &View<'_>) -> Option<Endpoints> {
        let (addresses, known) = self.addresses(slices);
        known.then(|| assignment(addresses))
    }
}

/// A cluster's addresses, and where they come from; from nowhere where its Service has no such port.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointsOut {
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) source: Option<EndpointSource>,
}

/// Resolves [`super::Unit::Endpoints`].
pub(super) fn endpoints(view: &View<'_>, state: &State, id: &ClusterId) -> EndpointsOut {
    let port = BackendPort {
        namespace: id.namespace.clone(),
        service: id.service.clone(),
        port: id.port,
        transport: Transport::Tcp,
    };
    let source = EndpointSource::of(view, state, &port);
    let addresses = source.as_ref().map(|source| source.addresses(view).0).unwrap_or_default();
    EndpointsOut { endpoints: Arc::new(assignment(addresses)), source }
}

fn assignment(addresses: Addresses) -> Endpoints {
    let endpoints = addresses.into_iter();
    let endpoints = endpoints.map(|(address, zone)| Endpoint { address, zone, weight: 1, socket: None });
    Endpoints { endpoints: endpoints.collect(), nowhere: 0 }
}

/// The ready addresses of a Service's port, with their zones.
pub(super) fn addresses(view: &View<'_>, state: &State, of: &BackendPort) -> Addresses {
    EndpointSource::of(view, state, of).map(|source| source.addresses(view).0).unwrap_or_default()
}

/// Whether a proxy may connect to an address. Link-local addresses reach the node's metadata services and are refused
/// everywhere. Loopback is the proxy's own host: whoever runs Portolan on files may name it, tenants of a cluster may
/// not. Nothing listens at a multicast or broadcast address, and an unspecified one means loopback.
fn allowed(address: IpAddr, provenance: Provenance) -> bool {
    let address = address.to_canonical();
    let (link_local, nowhere) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
    };
    let local = address.is_loopback() || address.is_unspecified();
    !link_local && !nowhere && !address.is_multicast() && (!local || provenance == Provenance::Files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_a_proxy_may_connect_to() {
        for (address, files, kubernetes) in [
            ("10.0.0.1", true, true),
            ("fd00::1", true, true),
            ("127.0.0.1", true, false),
            ("127.8.8.8", true, false),
            ("::1", true, false),
            ("::ffff:127.0.0.1", true, false),
            ("0.0.0.0", true, false),
            ("::", true, false),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("224.0.0.1", false, false),
            ("ff02::1", false, false),
            ("255.255.255.255", false, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(allowed(address, Provenance::Files), files, "{address} from files");
            assert_eq!(allowed(address, Provenance::Kubernetes), kubernetes, "{address} from Kubernetes");
        }
    }
}
