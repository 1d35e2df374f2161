//! Endpoints of a cluster.

use std::{collections::BTreeMap, sync::Arc};

use portolan_xds_proto::envoy::config::core::v3::Locality;
use portolan_xds_proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as ProtoEndpoint, LbEndpoint, LocalityLbEndpoints,
    lb_endpoint::HostIdentifier,
};

use super::wire;
use crate::ir::{Endpoint, Endpoints};

/// Lowers the endpoints of the cluster `name`: one locality per zone, all of one priority.
pub fn endpoints(name: &str, endpoints: &Endpoints) -> ClusterLoadAssignment {
    let mut zones: BTreeMap<Option<&Arc<str>>, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &endpoints.endpoints {
        zones.entry(endpoint.zone.as_ref()).or_default().push(endpoint);
    }
    let localities = zones.into_iter().map(|(zone, mut members)| {
        members.sort_unstable();
        members.dedup();
        LocalityLbEndpoints {
            locality: zone.map(|zone| Locality { zone: zone.to_string(), ..Locality::default() }),
            lb_endpoints: members.into_iter().map(member).collect(),
            ..LocalityLbEndpoints::default()
        }
    });
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: localities.collect(),
        ..ClusterLoadAssignment::default()
    }
}

fn member(endpoint: &Endpoint) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(ProtoEndpoint {
            address: Some(wire::address(endpoint.address)),
            ..ProtoEndpoint::default()
        })),
        ..LbEndpoint::default()
    }
}
