//! The Services in front of a fleet.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use portolan_crds::fleet_config::{ExternalTrafficPolicy, ServiceType};
use portolan_xds::ir::Transport;

use crate::fleet::cluster::fleet::{Fleet, Front};

/// One Service; with several addresses one for each, since a Service asks for one address and has one reach.
pub(super) fn services(fleet: &Fleet) -> Vec<Service> {
    // Kubernetes has no Service without ports; a fleet whose listeners are all gone keeps the one it has.
    if fleet.ports.is_empty() {
        return Vec::new();
    }
    fleet.services().into_iter().map(|front| service(fleet, front)).collect()
}

fn service(fleet: &Fleet, Front { name, address, inside }: Front) -> Service {
    let form = &fleet.settings.service;
    let type_ = if inside { ServiceType::ClusterIP } else { form.type_ };
    let outside = type_ != ServiceType::ClusterIP;
    let balanced = type_ == ServiceType::LoadBalancer;
    let address = address.map(|address| address.to_string());
    let mut metadata = fleet.meta(name);
    if !form.annotations.is_empty() {
        metadata.annotations.get_or_insert_default().extend(form.annotations.clone());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service_type(type_).to_owned()),
            selector: Some(fleet.selector()),
            ports: Some(
                fleet.ports.iter().map(|(port, transport)| service_port(*port, *transport)).collect(),
            ),
            // Proxies listen on both families. In a cluster that has one, this is that one.
            ip_family_policy: Some("PreferDualStack".to_owned()),
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
