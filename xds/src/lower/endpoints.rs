//! Endpoints of a cluster.

use std::{collections::BTreeMap, sync::Arc};

use portolan_xds_proto::envoy::config::core::v3::{Address, HealthStatus, Locality, Pipe, address};
use portolan_xds_proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as ProtoEndpoint, LbEndpoint, LocalityLbEndpoints,
    lb_endpoint::HostIdentifier,
};

use super::wire;
use crate::ir::{Endpoint, Endpoints};

/// A path below something that is no folder: nothing can ever listen there, so connections and datagrams fail at once.
const NOWHERE: &str = "/dev/null/nowhere";

/// Lowers the endpoints of the cluster `name`: one locality per zone, all of one priority. Those that leave are told to be
/// `DRAINING`: they keep what they have, and get nothing new.
pub fn endpoints<'a>(
    name: &str,
    endpoints: &Endpoints,
    leaving: impl Iterator<Item = &'a Endpoint>,
) -> ClusterLoadAssignment {
    let mut zones: BTreeMap<Option<&Arc<str>>, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &endpoints.endpoints {
        zones.entry(endpoint.zone.as_ref()).or_default().push(endpoint);
    }
    let weight = |endpoint: &Endpoint| endpoint.weight;
    let first = endpoints.endpoints.first().map(weight);
    let even = endpoints.nowhere == 0 && endpoints.endpoints.iter().map(weight).all(|one| Some(one) == first);
    let localities = zones.into_iter().map(|(zone, mut members)| {
        members.sort_unstable();
        members.dedup();
        LocalityLbEndpoints {
            locality: zone.map(|zone| Locality { zone: zone.to_string(), ..Locality::default() }),
            lb_endpoints: members.into_iter().map(|one| endpoint(one, even)).collect(),
            ..LocalityLbEndpoints::default()
        }
    });
    let nowhere = (endpoints.nowhere > 0 && first.is_some()).then(|| {
        let pipe = Pipe { path: NOWHERE.to_owned(), ..Pipe::default() };
        let address = Address { address: Some(address::Address::Pipe(pipe)) };
        member(address, endpoints.nowhere, even)
    });
    let mut localities: Vec<LocalityLbEndpoints> = localities.collect();
    if let (Some(nowhere), Some(locality)) = (nowhere, localities.first_mut()) {
        locality.lb_endpoints.push(nowhere);
    }
    let mut leaving = leaving
        .map(|one| LbEndpoint { health_status: HealthStatus::Draining.into(), ..endpoint(one, even) })
        .peekable();
    if leaving.peek().is_some() {
        if localities.is_empty() {
            localities.push(LocalityLbEndpoints::default());
        }
        localities.first_mut().into_iter().for_each(|first| first.lb_endpoints.extend(leaving.by_ref()));
    }
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: localities,
        ..ClusterLoadAssignment::default()
    }
}

fn endpoint(endpoint: &Endpoint, even: bool) -> LbEndpoint {
    LbEndpoint {
        metadata: endpoint.socket.as_deref().map(wire::socket_metadata),
        ..member(wire::address(endpoint.address), endpoint.weight, even)
    }
}

fn member(address: Address, weight: u32, even: bool) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(ProtoEndpoint {
            address: Some(address),
            ..ProtoEndpoint::default()
        })),
        load_balancing_weight: if even { None } else { wire::uint(weight) },
        ..LbEndpoint::default()
    }
}
