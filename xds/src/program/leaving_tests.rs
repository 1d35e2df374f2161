//! Endpoints that leave: at once, or in two steps.

use std::time::Duration;

use portolan_xds_proto::envoy::config::core::v3::{HealthStatus, address, socket_address::PortSpecifier};
use portolan_xds_proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier,
};
use prost::Message;

use super::tests::{Model, cluster, origin};
use super::*;
use crate::ir::Endpoint;

/// A Gateway's UDP listener, its cluster, and endpoints on these ports.
fn datagrams(name: &Arc<str>, ports: &[u16]) -> Delta {
    let chain = FilterChain {
        name: "udp".into(),
        server_name: None,
        tls: None,
        traffic: ChainTraffic::Udp { cluster: name.clone() },
        origin: origin(0),
    };
    let listener = Listener {
        name: name.clone(),
        port: 53,
        transport: Transport::Udp,
        bind: vec!["127.0.0.1:53".parse().unwrap()],
        access_log: None,
        chains: vec![Arc::new(chain)],
    };
    let mut delta = only_endpoints(name, ports);
    delta.clusters.insert(name.clone(), Some(cluster(name, origin(0))));
    delta.listeners.insert(name.clone(), Some(Arc::new(listener)));
    delta
}

fn only_endpoints(name: &Arc<str>, ports: &[u16]) -> Delta {
    let endpoint =
        |port: &u16| Endpoint { address: ([10, 0, 0, 1], *port).into(), zone: None, weight: 1, socket: None };
    let endpoints = Endpoints { endpoints: ports.iter().map(endpoint).collect(), nowhere: 0 };
    Delta { endpoints: [(name.clone(), Some(Arc::new(endpoints)))].into(), ..Delta::default() }
}

/// The ports of the endpoints that are served, and of those that leave.
fn served_endpoints(model: &Model, name: &str) -> (Vec<u32>, Vec<u32>) {
    let live = model.store.get(ResourceType::Endpoints, name).unwrap();
    let decoded = ClusterLoadAssignment::decode(live.resource.body().to_bytes()).unwrap();
    let all = decoded.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let (leaving, staying): (Vec<_>, Vec<_>) =
        all.partition(|one| one.health_status() == HealthStatus::Draining);
    let ports = |all: Vec<LbEndpoint>| all.iter().map(port).collect();
    (ports(staying), ports(leaving))
}

fn port(endpoint: &LbEndpoint) -> u32 {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { panic!("an endpoint") };
    let address = endpoint.address.as_ref().unwrap().address.as_ref().unwrap();
    let address::Address::SocketAddress(address) = address else { panic!("a socket") };
    let Some(PortSpecifier::PortValue(port)) = address.port_specifier else { panic!("a port") };
    port
}

#[test]
fn an_endpoint_of_datagrams_leaves_in_two_steps() {
    let mut model = Model::new();
    let name: Arc<str> = "apps/public/53/udp".into();
    model.apply(datagrams(&name, &[1, 2]));
    assert_eq!(model.program.deadline(), None);
    model.apply(only_endpoints(&name, &[2, 3]));
    assert_eq!(served_endpoints(&model, &name), (vec![2, 3], vec![1]));
    let first = model.program.deadline().unwrap();
    // One that comes back does not leave; another one's time begins with its own change.
    model.now += Duration::from_secs(1);
    model.apply(only_endpoints(&name, &[1]));
    assert_eq!(served_endpoints(&model, &name), (vec![1], vec![2, 3]));
    let second = model.program.deadline().unwrap();
    assert!(second > first);
    model.now += Duration::from_secs(9);
    model.program.tick(&mut model.store, model.now);
    assert_eq!(served_endpoints(&model, &name), (vec![1], vec![2, 3]));
    model.now = second;
    model.program.tick(&mut model.store, model.now);
    assert_eq!(served_endpoints(&model, &name), (vec![1], vec![]));
    assert_eq!(model.program.deadline(), None);
    // Without any other endpoint, too.
    model.apply(only_endpoints(&name, &[]));
    assert_eq!(served_endpoints(&model, &name), (vec![], vec![1]));
    // Gone with its cluster.
    let clusters = [(name.clone(), None)].into();
    model.apply(Delta { clusters, ..Delta::default() });
    assert_eq!(model.program.deadline(), None);
}

#[test]
fn an_endpoint_of_connections_leaves_at_once() {
    let mut model = Model::new();
    let name: Arc<str> = "apps/b/80".into();
    let mut both = only_endpoints(&name, &[1]);
    both.clusters.insert(name.clone(), Some(cluster(&name, origin(0))));
    model.apply(both);
    model.apply(only_endpoints(&name, &[2]));
    assert_eq!(served_endpoints(&model, &name), (vec![2], vec![]));
    assert_eq!(model.program.deadline(), None);
}
