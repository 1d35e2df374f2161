//! Where a Gateway's addresses can be reached from: the real operator under the shipped roles, and Services as a real API
//! server assigns them (AddressRoutability, experimental).

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use portolan_e2e::apiserver::{ApiServer, Objects, Replica, until};
use serde_json::{Value, json};

const SYSTEM: &str = "portolan-system";
const GATEWAY: &str = "gateway.networking.k8s.io/v1";

fn gateway(name: &str, addresses: &Value) -> String {
    let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    json!({
        "apiVersion": GATEWAY, "kind": "Gateway",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"gatewayClassName": "portolan", "addresses": addresses, "listeners": listeners},
    })
    .to_string()
}

async fn until_gateway(objects: &Objects, name: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    let ask = async || objects.gateway_api("Gateway", "default", name).await.unwrap();
    until(&format!("Gateway {name}: {what}"), ask, good).await
}

fn condition<'a>(gateway: &'a Value, type_: &str) -> Option<&'a Value> {
    gateway["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == type_)
}

/// The Services of a Gateway's fleet.
async fn services(objects: &Objects, gateway: &str) -> Vec<Value> {
    let mut all = objects.list("v1", "Service", "default").await;
    all.retain(|one| one["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] == gateway);
    all
}

/// The address of the fleet's one Service inside the cluster, once the status has it.
async fn inside(objects: &Objects, gateway: &str) -> Value {
    let told = |it: &Value| it["status"]["addresses"].as_array().is_some_and(|all| !all.is_empty());
    let status = until_gateway(objects, gateway, "an address", told).await["status"]["addresses"].clone();
    let all = services(objects, gateway).await;
    let found =
        all.iter().find(|one| one["spec"]["type"] == "ClusterIP").expect("a Service of type ClusterIP");
    let address = found["spec"]["clusterIP"].clone();
    assert_eq!(status, json!([{"type": "IPAddress", "value": address, "routability": "Cluster"}]));
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_inside_the_cluster_is_a_cluster_ip_of_its_own() {
    let server = ApiServer::own("routability");
    let objects = server.objects().await;
    for folder in ["config/crd/gateway-api/experimental", "config/crd/portolan"] {
        objects.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)).await;
    }
    server.kubectl(&["apply", "--server-side", "--kustomize", "config/default"]).unwrap();
    let account = server.account_named(SYSTEM, "portolan").await;
    let replica = Replica::ready(&account, SYSTEM, "a").await;
    replica.comes_to_lead().await;

    // Nothing but the inside: no Service leads to it from elsewhere.
    objects.apply(&gateway("inner", &json!([{"routability": "Cluster"}]))).await;
    let given = inside(&objects, "inner").await;
    let all = services(&objects, "inner").await;
    assert_eq!(all.len(), 1, "{all:?}");

    // Beside the address for everybody, which comes first.
    objects.apply(&gateway("both", &json!([{}, {"routability": "Cluster"}]))).await;
    let first = inside(&objects, "both").await;
    assert_ne!(first, given);
    let both = services(&objects, "both").await;
    assert_eq!(both.len(), 2, "{both:?}");
    let balanced = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}).to_string();
    let patch =
        ["patch", "service", "both-portolan", "--subresource", "status", "--type", "merge", "--patch"];
    server.kubectl(&[&patch[..], &[&balanced]].concat()).unwrap();
    let expected = json!([
        {"type": "IPAddress", "value": "192.0.2.7"},
        {"type": "IPAddress", "value": first, "routability": "Cluster"}
    ]);
    until_gateway(&objects, "both", "both addresses", |it| it["status"]["addresses"] == expected).await;

    // One that is asked for by value.
    let value = if given == "10.96.0.77" || first == "10.96.0.77" { "10.96.0.78" } else { "10.96.0.77" };
    let asked = json!({"spec": {"addresses": [{"value": value, "routability": "Cluster"}]}});
    objects.patch(GATEWAY, "Gateway", "default", "inner", &asked).await;
    let expected = json!([{"type": "IPAddress", "value": value, "routability": "Cluster"}]);
    until_gateway(&objects, "inner", "its address", |it| it["status"]["addresses"] == expected).await;
    let one = async || services(&objects, "inner").await;
    until("the other Service is gone", one, |all| all.len() == 1 && all[0]["spec"]["clusterIP"] == value)
        .await;

    // It keeps it when everybody may come.
    let asked = json!({"spec": {"addresses": [{}, {"value": value, "routability": "Cluster"}]}});
    objects.patch(GATEWAY, "Gateway", "default", "inner", &asked).await;
    until("a Service for everybody", one, |all| all.iter().any(|it| it["spec"]["type"] == "LoadBalancer"))
        .await;
    until_gateway(&objects, "inner", "its address still", |it| it["status"]["addresses"] == expected).await;

    // What cannot be had, and what nobody gives.
    let outside = json!([{"value": "192.0.2.1", "routability": "Cluster"}]);
    objects.apply(&gateway("outside", &outside)).await;
    let refused = |it: &Value| {
        condition(it, "Programmed").is_some_and(|one| {
            one["reason"] == "AddressNotUsable" && one["message"].as_str().unwrap().contains("192.0.2.1")
        })
    };
    until_gateway(&objects, "outside", "a refusal", refused).await;
    objects.apply(&gateway("far", &json!([{"routability": "example.org/region"}]))).await;
    let unsupported = |it: &Value| {
        condition(it, "Accepted").is_some_and(|one| {
            one["reason"] == "UnsupportedAddress"
                && one["message"].as_str().unwrap().contains("example.org/region")
        })
    };
    until_gateway(&objects, "far", "a refusal", unsupported).await;
    assert!(services(&objects, "far").await.is_empty());

    // The class says so.
    let class = objects.get((GATEWAY, "GatewayClass", "", "portolan")).await.unwrap();
    let features = class["status"]["supportedFeatures"].as_array().unwrap();
    for name in ["GatewayAddressRoutability", "GatewayAddressRoutabilityCluster"] {
        assert!(features.contains(&json!({"name": name})), "{name}: {features:?}");
    }
    assert_eq!(replica.terminate().await, Some(0));
}
