//! `portolan operator` against a real API server: statuses, foreign entries, replicas, restarts, roles.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use portolan_e2e::{
    apiserver::{ApiServer, Objects, Replica, Turn, crds, until},
    echo::cert::Authority,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A class of ours, a Gateway of it and a Service, all named by their namespace.
fn web(namespace: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {namespace}}}
spec: {{controllerName: portolan.dev/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web, namespace: {namespace}}}
spec:
  gatewayClassName: {namespace}
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
---
apiVersion: v1
kind: Service
metadata: {{name: shop, namespace: {namespace}}}
spec: {{ports: [{{port: 80}}]}}
---
"
    )
}

fn route(namespace: &str, name: &str, backend: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]
---
"
    )
}

/// The conditions of an entry, as `Type=Status Reason`.
fn conditions(of: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = of["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .iter()
        .map(|one| format!("{}={} {}", text(&one["type"]), text(&one["status"]), text(&one["reason"])))
        .collect()
}

/// Waits until an object, or one of its parent entries, has a condition, of its newest generation.
async fn has(objects: &Objects, namespace: &str, kind: &str, name: &str, condition: &str) -> Value {
    let good = |object: &Option<Value>| {
        let Some(object) = object else { return false };
        let parents = object["status"]["parents"].as_array().cloned().unwrap_or_default();
        parents.iter().chain([&object["status"]]).any(|entry| {
            conditions(entry).iter().any(|it| it == condition)
                && entry["conditions"][0]["observedGeneration"] == object["metadata"]["generation"]
        })
    };
    let ask = async || objects.gateway_api(kind, namespace, name).await;
    until(&format!("{kind} {name}: {condition}"), ask, good).await.unwrap()
}

async fn versions(objects: &Objects, namespace: &str, names: &[(&str, &str)]) -> Vec<Value> {
    let mut versions = Vec::new();
    for (kind, name) in names {
        let object = objects.gateway_api(kind, namespace, name).await.unwrap();
        versions.push(object["metadata"]["resourceVersion"].clone());
    }
    versions
}

#[tokio::test]
async fn manifests_get_a_status_and_what_others_wrote_stays() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    let _replica = Replica::ready(&server.configuration(), &namespace, "a").await;
    objects.apply(&web(&namespace)).await;
    objects.apply(&route(&namespace, "good", "shop")).await;
    objects.apply(&route(&namespace, "bad", "nothing")).await;
    has(&objects, "", "GatewayClass", &namespace, "Accepted=True Accepted").await;
    has(&objects, "", "GatewayClass", &namespace, "SupportedVersion=True SupportedVersion").await;
    let finalizers = async || {
        objects.gateway_api("GatewayClass", "", &namespace).await.unwrap()["metadata"]["finalizers"].clone()
    };
    let held = json!(["gateway-exists-finalizer.gateway.networking.k8s.io"]);
    until("the class is held", finalizers, |list| *list == held).await;
    has(&objects, &namespace, "Gateway", "web", "Accepted=True Accepted").await;
    has(&objects, &namespace, "HTTPRoute", "good", "ResolvedRefs=True ResolvedRefs").await;
    has(&objects, &namespace, "HTTPRoute", "bad", "ResolvedRefs=False BackendNotFound").await;

    // Another controller's entry and another's condition, in the middle of ours.
    let foreign = json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "other"},
        "controllerName": "example.com/other",
        "conditions": [{"type": "Odd", "status": "Unknown", "reason": "R", "message": " m ", "lastTransitionTime": "2001-01-01T00:00:00Z"}],
    });
    let mut parents =
        objects.gateway_api("HTTPRoute", &namespace, "bad").await.unwrap()["status"]["parents"].clone();
    parents.as_array_mut().unwrap().insert(0, foreign.clone());
    objects.patch_status("HTTPRoute", &namespace, "bad", &json!({"parents": parents})).await;
    // As the API server writes it: in its own order of fields.
    let foreign =
        objects.gateway_api("HTTPRoute", &namespace, "bad").await.unwrap()["status"]["parents"][0].clone();
    assert_eq!(foreign["controllerName"], "example.com/other");
    objects.apply(&route(&namespace, "bad", "shop")).await;
    let after = has(&objects, &namespace, "HTTPRoute", "bad", "ResolvedRefs=True ResolvedRefs").await;
    assert_eq!(after["status"]["parents"][0].to_string(), foreign.to_string());

    // A route that leaves takes our entry along and no other.
    let gone = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: bad, namespace: {namespace}}}, spec: {{parentRefs: []}}}}"
    );
    objects.apply(&gone).await;
    let ask = async || {
        objects.gateway_api("HTTPRoute", &namespace, "bad").await.unwrap()["status"]["parents"].clone()
    };
    until("our entry is gone", ask, |parents| *parents == json!([foreign])).await;
    objects.clear(&namespace).await;
    let ask = async || objects.gateway_api("GatewayClass", "", &namespace).await;
    until("the class is let go", ask, Option::is_none).await;
}

#[tokio::test]
async fn what_is_wrong_is_an_event_on_its_object() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    let replica = Replica::ready(&server.configuration(), &namespace, "a").await;
    objects.apply(&[web(&namespace), route(&namespace, "bad", "nothing")].concat()).await;
    has(&objects, &namespace, "HTTPRoute", "bad", "ResolvedRefs=False BackendNotFound").await;
    let events = async || objects.list("events.k8s.io/v1", "Event", &namespace).await;
    let found = |events: &Vec<Value>| {
        events.iter().any(|event| event["reason"] == "BackendNotFound" && event["regarding"]["name"] == "bad")
    };
    until("the event", events, found).await;
    // A restart tells nothing again.
    let count = events().await.len();
    assert_eq!(replica.terminate().await, Some(0));
    let replica = Replica::ready(&server.configuration(), &namespace, "b").await;
    replica.comes_to_lead().await;
    objects.apply(&route(&namespace, "good", "shop")).await;
    has(&objects, &namespace, "HTTPRoute", "good", "Accepted=True Accepted").await;
    assert_eq!(events().await.len(), count);
    objects.clear(&namespace).await;
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_its_work_goes_on() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    let first = Replica::ready(&server.configuration(), &namespace, "a").await;
    first.comes_to_lead().await;
    let second = Replica::ready(&server.configuration(), &namespace, "b").await;
    objects.apply(&[web(&namespace), route(&namespace, "r", "shop")].concat()).await;
    has(&objects, &namespace, "HTTPRoute", "r", "ResolvedRefs=True ResolvedRefs").await;
    // Nobody writes what is written.
    let all = [("Gateway", "web"), ("HTTPRoute", "r")];
    let before = versions(&objects, &namespace, &all).await;
    assert!(!second.leads().await);
    first.signal(Signal::KILL);
    objects.apply(&route(&namespace, "later", "nothing")).await;
    has(&objects, &namespace, "HTTPRoute", "later", "ResolvedRefs=False BackendNotFound").await;
    assert!(second.leads().await);
    assert_eq!(versions(&objects, &namespace, &all[1..]).await, before[1..]);
    objects.clear(&namespace).await;
}

#[tokio::test]
async fn a_leader_that_ends_gives_its_lease_back() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    let first = Replica::ready(&server.configuration(), &namespace, "a").await;
    first.comes_to_lead().await;
    let second = Replica::ready(&server.configuration(), &namespace, "b").await;
    assert_eq!(first.terminate().await, Some(0));
    let before = std::time::Instant::now();
    second.comes_to_lead().await;
    assert!(
        before.elapsed() < Duration::from_secs(8),
        "{:?}: it waited for the lease to run out",
        before.elapsed()
    );
}

#[tokio::test]
async fn a_suspended_leader_writes_nothing_late() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    let first = Replica::ready(&server.configuration(), &namespace, "a").await;
    first.comes_to_lead().await;
    let second = Replica::ready(&server.configuration(), &namespace, "b").await;
    objects.apply(&[web(&namespace), route(&namespace, "r", "shop")].concat()).await;
    has(&objects, &namespace, "HTTPRoute", "r", "ResolvedRefs=True ResolvedRefs").await;
    // It stops with work before it: many changes that it has seen none of, or some of.
    for number in 0..20 {
        objects.apply(&route(&namespace, &format!("r{number}"), "nothing")).await;
        if number == 5 {
            first.signal(Signal::STOP);
        }
    }
    second.comes_to_lead().await;
    for number in 0..20 {
        let name = format!("r{number}");
        has(&objects, &namespace, "HTTPRoute", &name, "ResolvedRefs=False BackendNotFound").await;
    }
    // Somebody empties what it would write: the leader of today mends it, and no other.
    let names: Vec<String> = (0..20).map(|number| format!("r{number}")).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| ("HTTPRoute", name.as_str())).collect();
    let before = versions(&objects, &namespace, &all).await;
    first.signal(Signal::CONT);
    until("it follows", async || first.leads().await, |leads| !leads).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(versions(&objects, &namespace, &all).await, before);
    assert!(second.leads().await);
    objects.clear(&namespace).await;
}

/// The roles that reading needs, without those in `without`.
fn reading(without: &str) -> String {
    let kinds = [
        "backendtlspolicies",
        "gatewayclasses",
        "gateways",
        "grpcroutes",
        "httproutes",
        "listenersets",
        "referencegrants",
        "tcproutes",
        "tlsroutes",
        "udproutes",
    ];
    let kinds: Vec<&str> = kinds.into_iter().filter(|kind| *kind != without).collect();
    format!(
        r#"[
{{"apiGroups": ["gateway.networking.k8s.io"], "resources": {kinds:?}, "verbs": ["list", "watch"]}},
{{"apiGroups": ["portolan.dev"], "resources": ["fleetconfigs"], "verbs": ["list", "watch"]}},
{{"apiGroups": [""], "resources": ["services", "namespaces", "configmaps"], "verbs": ["list", "watch"]}},
{{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "update"]}},
{{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}},
{{"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["get", "list", "watch"]}},
{{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}},
]"#
    )
}

#[tokio::test]
async fn a_missing_role_is_named_and_keeps_the_replica_from_being_ready() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    let account = server.account(&namespace, &reading("httproutes")).await;
    let replica = Replica::start(&account, &namespace, "a");
    let named = |answer: &Option<(u16, String)>| {
        answer.as_ref().is_some_and(|(status, why)| {
            *status == 503
                && why.contains("HTTPRoute (")
                && why.contains("cannot list resource \"httproutes\"")
        })
    };
    until("the reason", async || replica.ask("/readyz").await, named).await;
    // The role is given: it goes on by itself.
    server.account(&namespace, &reading("")).await;
    let ready = |answer: &Option<(u16, String)>| answer.as_ref().is_some_and(|(status, _)| *status == 200);
    until("it is ready", async || replica.ask("/readyz").await, ready).await;
}

#[tokio::test]
async fn crds_may_be_installed_after_the_operator() {
    let server = ApiServer::own("late");
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    let _replica = Replica::ready(&server.configuration(), &namespace, "a").await;
    objects.install(&crds("standard")).await;
    objects.apply(&[web(&namespace), route(&namespace, "r", "shop")].concat()).await;
    has(&objects, &namespace, "Gateway", "web", "Accepted=True Accepted").await;
    has(&objects, &namespace, "HTTPRoute", "r", "ResolvedRefs=True ResolvedRefs").await;
}

#[tokio::test]
async fn an_api_server_that_is_away_for_a_while_changes_nothing() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    let (gate, kubeconfig) = server.behind_a_gate().await;
    let replica = Replica::ready(&kubeconfig, &namespace, "a").await;
    replica.comes_to_lead().await;
    objects
        .apply(
            &[web(&namespace), route(&namespace, "kept", "shop"), route(&namespace, "gone", "shop")].concat(),
        )
        .await;
    has(&objects, &namespace, "HTTPRoute", "gone", "ResolvedRefs=True ResolvedRefs").await;
    gate.close();
    objects.delete(&route(&namespace, "gone", "shop")).await;
    until("it does not lead any more", async || replica.leads().await, |leads| !leads).await;
    assert_eq!(replica.ask("/readyz").await.map(|(status, _)| status), Some(200), "it goes on serving");
    gate.release();
    let attached = async || {
        let gateway = objects.gateway_api("Gateway", &namespace, "web").await.unwrap();
        gateway["status"]["listeners"][0]["attachedRoutes"].clone()
    };
    until("the deletion is known", attached, |count| *count == 1).await;
    objects.clear(&namespace).await;
}

/// An operator that starts before its API server: it waits, says for what, and goes on by itself.
#[tokio::test]
async fn an_api_server_that_is_not_there_yet_is_waited_for() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("operator").await;
    // Free a moment ago: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let replica = Replica::start(&server.kubeconfig_at(address), &namespace, "a");
    let told = |answer: &Option<(u16, String)>| {
        answer.as_ref().is_some_and(|(status, why)| {
            *status == 503 && why.contains(&address.to_string()) && why.contains("Connection refused")
        })
    };
    until("it says what it waits for", async || replica.ask("/readyz").await, told).await;
    assert_eq!(
        replica.ask("/healthz").await.map(|(status, _)| status),
        Some(200),
        "a restart would not help"
    );
    let logged = |log: &String| {
        let tries = log.lines().filter(|line| line.contains("cannot be used yet"));
        let clear = tries.filter(|line| line.contains(&address.to_string()) && line.contains("refused"));
        clear.count() >= 2
    };
    until("it tries again", async || replica.log(), logged).await;
    let _gate = server.gate_at(address).await;
    let ready = |answer: &Option<(u16, String)>| answer.as_ref().is_some_and(|(status, _)| *status == 200);
    until("it is ready", async || replica.ask("/readyz").await, ready).await;
    replica.comes_to_lead().await;
    assert_eq!(replica.terminate().await, Some(0));

    // Who has waited enough ends it.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let replica = Replica::start(&server.kubeconfig_at(address), &namespace, "b");
    until("it waits", async || replica.ask("/readyz").await, Option::is_some).await;
    assert_eq!(replica.terminate().await, Some(0));
}

/// A BackendTLSPolicy about the Service `shop` with these authorities.
fn policy(namespace: &str, bundle: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: shop, namespace: {namespace}}}
spec:
  targetRefs: [{{group: '', kind: Service, name: shop}}]
  validation:
    hostname: shop.test
    caCertificateRefs: [{{group: certificates.k8s.io, kind: ClusterTrustBundle, name: '{bundle}'}}]
---
"
    )
}

fn trust_bundle(name: &str, authority: &Authority) -> String {
    let pem = serde_json::to_string(authority.certificate()).unwrap();
    format!(
        "{{apiVersion: certificates.k8s.io/v1beta1, kind: ClusterTrustBundle, metadata: {{name: '{name}'}}, spec: {{trustBundle: {pem}}}}}\n---\n"
    )
}

/// Waits until the policy `shop` says this of its references.
async fn references_are(objects: &Objects, namespace: &str, condition: &str) {
    let ask = async || objects.gateway_api("BackendTLSPolicy", namespace, "shop").await;
    let good = |object: &Option<Value>| {
        let ancestor = object.as_ref().map(|object| object["status"]["ancestors"][0].clone());
        ancestor.is_some_and(|of| conditions(&of).iter().any(|it| it == condition))
    };
    until(condition, ask, good).await;
}

#[tokio::test]
async fn cluster_trust_bundles_of_a_real_api_server_are_followed() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("bundles").await;
    let _replica = Replica::ready(&server.configuration(), &namespace, "a").await;
    objects.apply(&web(&namespace)).await;
    objects.apply(&route(&namespace, "r", "shop")).await;
    objects.apply(&policy(&namespace, &namespace)).await;
    let class = has(&objects, "", "GatewayClass", &namespace, "Accepted=True Accepted").await;
    let features = class["status"]["supportedFeatures"].as_array().unwrap();
    assert!(features.contains(&json!({"name": "ClusterTrustBundle"})), "{features:?}");
    references_are(&objects, &namespace, "ResolvedRefs=False InvalidCACertificateRef").await;
    let bundle = trust_bundle(&namespace, &Authority::new("test").unwrap());
    objects.apply(&bundle).await;
    references_are(&objects, &namespace, "ResolvedRefs=True ResolvedRefs").await;
    // One that is there in another version of itself is read anew: nothing but its content tells (it has no generation).
    let before = trust_bundle(&namespace, &Authority::new("other").unwrap());
    objects.apply(&before).await;
    objects.delete(&bundle).await;
    references_are(&objects, &namespace, "ResolvedRefs=False InvalidCACertificateRef").await;
}
