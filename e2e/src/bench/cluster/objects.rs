//! What the benchmarks write. No kubelet and no controller runs: Services, EndpointSlices and the readiness of fleets are plain
//! objects.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::api::{Kind, Object};

/// The Gateway of a site.
pub(super) const GATEWAY: &str = "web";
const API: &str = "gateway.networking.k8s.io/v1";

fn object(kind: Kind, namespace: &str, body: Value) -> Object {
    Object { kind, namespace: namespace.into(), body }
}

pub(super) fn namespace(name: &str) -> Object {
    object(Kind::Namespace, "", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
}

pub(super) fn class(name: &str, controller: &str) -> Object {
    let body = json!({
        "apiVersion": API, "kind": "GatewayClass",
        "metadata": {"name": name}, "spec": {"controllerName": controller},
    });
    object(Kind::Class, "", body)
}

/// A Gateway with one HTTP listener, for routes of all namespaces.
pub(super) fn gateway(namespace: &str, name: &str, class: &str, port: u16) -> Object {
    let body = json!({
        "apiVersion": API, "kind": "Gateway", "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "gatewayClassName": class,
            "listeners": [{
                "name": "http", "port": port, "protocol": "HTTP",
                "allowedRoutes": {"namespaces": {"from": "All"}},
            }],
        },
    });
    object(Kind::Gateway, namespace, body)
}

/// The hostname of a route. None is a part of another, so that each can be searched for.
pub(super) fn hostname(index: usize) -> String {
    format!("route-{index}.example.com")
}

/// The name of a route.
pub(super) fn route_name(index: usize) -> String {
    format!("route-{index}")
}

/// The name of a Service.
pub(super) fn service_name(index: usize) -> String {
    format!("backend-{index}")
}

/// A route as gateway-api-bench's probe has it: a hostname of its own, two rules, header filters, and a backend that does not
/// exist in the second rule. `parent` is the namespace and the name of its Gateway. `marker` goes into the proxy's configuration, and
/// answers carry it.
pub(super) fn route(
    namespace: &str,
    parent: (&str, &str),
    index: usize,
    backend: usize,
    marker: &str,
) -> Object {
    let name = route_name(index);
    let body = json!({
        "apiVersion": API, "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "parentRefs": [{"namespace": parent.0, "name": parent.1}],
            "hostnames": [hostname(index)],
            "rules": [rule(backend, marker), {
                "matches": [{"path": {"type": "PathPrefix", "value": "/missing"}}],
                "backendRefs": [{"name": "missing", "port": 80}],
            }],
        },
    });
    object(Kind::Route, namespace, body)
}

/// A patch that gives a route another marker.
pub(super) fn remarked(backend: usize, marker: &str) -> Value {
    json!({"spec": {"rules": [rule(backend, marker), {
        "matches": [{"path": {"type": "PathPrefix", "value": "/missing"}}],
        "backendRefs": [{"name": "missing", "port": 80}],
    }]}})
}

fn rule(backend: usize, marker: &str) -> Value {
    json!({
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "filters": [{
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "x-request", "value": "set"}], "remove": ["x-other"]},
        }, {
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": {"set": [{"name": "x-marker", "value": marker}]},
        }],
        "backendRefs": [{"name": service_name(backend), "port": 80}],
    })
}

pub(super) fn service(namespace: &str, index: usize) -> Object {
    let name = service_name(index);
    // Without an address of the cluster's: there is no room for thousands, and no proxy needs one.
    let body = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    object(Kind::Service, namespace, body)
}

/// The endpoints of a Service: two addresses that nobody has.
pub(super) fn slice(namespace: &str, index: usize) -> Object {
    let addresses = [address(index, 1), address(index, 2)];
    slice_at(namespace, index, &[&addresses[0], &addresses[1]], 8080)
}

/// The endpoints of a Service at one real address.
pub(super) fn slice_of(namespace: &str, index: usize, ip: IpAddr, port: u16) -> Object {
    slice_at(namespace, index, &[&ip.to_string()], port)
}

fn slice_at(namespace: &str, index: usize, addresses: &[&str], port: u16) -> Object {
    let name = service_name(index);
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true, "serving": true}}))
        .collect();
    let body = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    });
    object(Kind::Slice, namespace, body)
}

/// A patch that gives a Service other endpoints; the second address is the mark of the turn.
pub(super) fn moved(index: usize, second: &str) -> Value {
    json!({"endpoints": [
        {"addresses": [address(index, 1)], "conditions": {"ready": true, "serving": true}},
        {"addresses": [second], "conditions": {"ready": true, "serving": true}},
    ]})
}

/// An address of a Service's endpoint, one of 64 blocks of addresses.
pub(super) fn address(index: usize, block: usize) -> String {
    format!("10.{}.{}.{}", 64 + block, index / 250, 1 + index % 250)
}

pub(super) fn secret(namespace: &str, name: &str) -> Object {
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"namespace": namespace, "name": name}, "stringData": {"text": "nothing of anyone's"},
    });
    object(Kind::Secret, namespace, body)
}

pub(super) fn config_map(namespace: &str, name: &str) -> Object {
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name}, "data": {"turn": "none"},
    });
    object(Kind::ConfigMap, namespace, body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_searched_for_is_found_in_one_object_only() {
        let addresses: BTreeSet<String> =
            (0..10_000).flat_map(|index| [address(index, 1), address(index, 2)]).collect();
        assert_eq!(addresses.len(), 20_000);
        assert!(addresses.iter().all(|it| it.parse::<std::net::Ipv4Addr>().is_ok()));
        assert!(!hostname(11).contains(&hostname(1)) && !hostname(111).contains(&hostname(11)));
    }
}
