//! The Services in front of a fleet.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use portolan_crds::fleet_config::{ExternalTrafficPolicy, ServiceType};
use portolan_xds::ir::Transport;

use crate::fleet::cluster::fleet::Fleet;

/// One Service; with static addresses one for each, since a Service asks for one address.
pub(super) fn services(fleet: &Fleet) -> Vec<Service> {
    // Kubernetes has no Service without ports; a fleet whose listeners are all gone keeps the one it has.
    if fleet.ports.is_empty() {
        return Vec::new();
    }
    fleet.services().into_iter().map(|(name, address)| service(fleet, name, address)).collect()
}

fn service(fleet: &Fleet, name: String, address: Option<IpAddr>) -> Service {
    let form = &fleet.settings.service;
    let outside = form.type_ != ServiceType::ClusterIP;
    let balanced = form.type_ == ServiceType::LoadBalancer;
    let address = address.map(|address| address.to_string());
    let mut metadata = fleet.meta(name);
    if !form.annotations.is_empty() {
        metadata.annotations.get_or_insert_default().extend(form.annotations.clone());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service_type(form.type_).to_owned()),
            selector: Some(fleet.selector()),
            ports: Some(
                fleet.ports.iter().map(|(port, transport)| service_port(*port, *transport)).collect(),
            ),
            cluster_ip: address.clone().filter(|_| !balanced),
            // Deprecated, and what load balancers agree on all the same (GEP-1762).
            load_balancer_ip: address.filter(|_| balanced),
            load_balancer_class: form.load_balancer_class.clone().filter(|_| balanced),
            external_traffic_policy: form
                .external_traffic_policy
                .filter(|_| outside)
                .map(|policy| traffic_policy(policy).to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn service_port(port: u16, transport: Transport) -> ServicePort {
    let (protocol, name) = match transport {
        Transport::Tcp => ("TCP", format!("tcp-{port}")),
        Transport::Udp => ("UDP", format!("udp-{port}")),
    };
    ServicePort {
        name: Some(name),
        port: port.into(),
        protocol: Some(protocol.to_owned()),
        target_port: Some(IntOrString::Int(port.into())),
        ..ServicePort::default()
    }
}

fn service_type(type_: ServiceType) -> &'static str {
    match type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}

fn traffic_policy(policy: ExternalTrafficPolicy) -> &'static str {
    match policy {
        ExternalTrafficPolicy::Cluster => "Cluster",
        ExternalTrafficPolicy::Local => "Local",
    }
}
