//! The shipped roles are what the operator uses: under them nothing that it does is refused, and what they allow beyond
//! that has its reason below. What it did is in the API server's audit log.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use portolan::model::Kind;
use portolan_e2e::{
    apiserver::{ApiServer, Objects, Replica, until},
    echo::cert::Authority,
};
use serde_json::{Value, json};

const SYSTEM: &str = "portolan-system";

/// What the roles allow and this test does not see, with the reason. A reason that is no longer needed fails the test.
const UNSEEN: &[(&str, &str)] = &[
    ("create .*", "server-side apply that makes an object needs it; the log calls it patch"),
    ("update secrets", "authorities are replaced in their last year"),
];

/// What it sees in some runs and not in others, with the reason.
const SOMETIMES: &[(&str, &str)] = &[
    (
        "get .*\\.gateway\\.networking\\.k8s\\.io",
        "an object is read again when the write of its status met another's",
    ),
    ("patch events\\.events\\.k8s\\.io", "an event that comes again is counted on the first one"),
];

/// A verb on a resource, as `verb resource[.group][/subresource]`.
fn permission(verb: &str, group: &str, resource: &str, subresource: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    let slash = if subresource.is_empty() { "" } else { "/" };
    format!("{verb} {resource}{dot}{group}{slash}{subresource}")
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Everything that the roles of the kustomization allow.
fn allowed(server: &ApiServer) -> BTreeSet<String> {
    let rendered = server.kubectl(&["kustomize", "config/rbac"]).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered).unwrap();
    let mut all = BTreeSet::new();
    for rule in documents.iter().filter_map(|object| object["rules"].as_array()).flatten() {
        for (group, resource, verb) in texts(&rule["apiGroups"]).into_iter().flat_map(|group| {
            let of = texts(&rule["resources"]).into_iter();
            of.flat_map(move |name| texts(&rule["verbs"]).into_iter().map(move |verb| (group, name, verb)))
        }) {
            assert!(![group, resource, verb].contains(&"*"), "a role allows everything: {rule}");
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            all.insert(permission(verb, group, resource, subresource));
        }
    }
    all
}

/// What the operator's account asked for, and the answers' codes.
fn asked(server: &ApiServer) -> BTreeMap<String, BTreeSet<u64>> {
    let log = std::fs::read_to_string(server.kubeconfig().with_file_name("log").join("audit.log")).unwrap();
    let mut all: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let of = &event["objectRef"];
        if event["user"]["username"] != format!("system:serviceaccount:{SYSTEM}:portolan") || of.is_null() {
            continue;
        }
        let text = |name: &str| of[name].as_str().unwrap_or_default();
        let verb = event["verb"].as_str().unwrap_or_default();
        let permission = permission(verb, text("apiGroup"), text("resource"), text("subresource"));
        all.entry(permission).or_default().extend(event["responseStatus"]["code"].as_u64());
    }
    all
}

/// Whether Portolan resolves a resource of the Gateway API yet.
fn is_resolved(permission: &str) -> bool {
    let resource = permission.split([' ', '.', '/']).nth(1).unwrap_or_default();
    let plural = |kind: Kind| format!("{}s", kind.as_str().to_lowercase());
    let of_ours = permission.contains(".gateway.networking.k8s.io");
    let plural = |kind| plural(kind).replace("classs", "classes").replace("policys", "policies");
    !of_ours || Kind::ALL.into_iter().any(|kind| plural(kind) == resource)
}

fn manifests(authority: &Authority) -> String {
    let pair = authority.server(&["shop.test".to_owned()]).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "shop", "namespace": "default"},
        "stringData": {"tls.crt": pair.certificate, "tls.key": pair.key},
    });
    format!(
        "{secret}
---
apiVersion: portolan.dev/v1alpha1
kind: FleetConfig
metadata: {{name: web, namespace: default}}
spec: {{autoscaling: {{maxReplicas: 3}}, service: {{type: ClusterIP}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web, namespace: default}}
spec:
  gatewayClassName: portolan
  infrastructure: {{parametersRef: {{group: portolan.dev, kind: FleetConfig, name: web}}}}
  listeners:
  - {{name: http, port: 80, protocol: HTTP}}
  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: shop}}]}}}}
  - {{name: tls, port: 8443, protocol: TLS, tls: {{mode: Passthrough}}}}
  - {{name: tcp, port: 5432, protocol: TCP}}
  - {{name: udp, port: 5300, protocol: UDP}}
---
apiVersion: v1
kind: Service
metadata: {{name: shop, namespace: default}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: shop, namespace: default}}
spec:
  parentRef: {{name: web}}
  listeners: [{{name: more, port: 8080, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: shop, namespace: default}}
spec:
  targetRefs: [{{group: '', kind: Service, name: shop}}]
  validation: {{hostname: shop.test, wellKnownCACertificates: System}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: shop, namespace: default}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{{backendRefs: [{{name: shop, port: 80}}]}}]
{}",
        ROUTES
            .map(|(kind, names)| {
                format!(
                    "---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: shop, namespace: default}}
spec:
  parentRefs: [{{name: web}}]
  {names}
  rules: [{{backendRefs: [{{name: nothing, port: 80}}]}}]
"
                )
            })
            .concat()
    )
}

/// Kinds of routes besides HTTPRoute, and what theirs need more.
const ROUTES: [(&str, &str); 4] =
    [("GRPCRoute", ""), ("TLSRoute", "hostnames: [shop.test]"), ("TCPRoute", ""), ("UDPRoute", "")];

/// Waits until an object of the fleet is there, or is not.
async fn is_there(objects: &Objects, kind: (&str, &str), name: &str, there: bool) -> Option<Value> {
    let ask = async || objects.get((kind.0, kind.1, "default", name)).await;
    until(&format!("{} {name}: there {there}", kind.1), ask, |found| found.is_some() == there).await
}

const SERVICE: (&str, &str) = ("v1", "Service");
const ACCOUNT: (&str, &str) = ("v1", "ServiceAccount");
const SECRET: (&str, &str) = ("v1", "Secret");
const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");
const DAEMON_SET: (&str, &str) = ("apps/v1", "DaemonSet");
const AUTOSCALER: (&str, &str) = ("autoscaling/v2", "HorizontalPodAutoscaler");
const BUDGET: (&str, &str) = ("policy/v1", "PodDisruptionBudget");

/// Has the operator do everything that it does with a fleet.
async fn the_life_of_a_fleet(server: &ApiServer, objects: &Objects) {
    let configure = async |spec: Value| {
        // A merge takes nothing away: null does.
        let mut all = json!({"autoscaling": null, "replicas": null, "workload": null});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        objects.patch("portolan.dev/v1alpha1", "FleetConfig", "default", "web", &json!({"spec": all})).await;
    };
    let report = |kind: &str, status: &Value| {
        let patch = json!({"status": status}).to_string();
        let arguments =
            ["patch", kind, "web-portolan", "--subresource", "status", "--type", "merge", "--patch", &patch];
        server.kubectl(&arguments).unwrap();
    };
    for kind in [ACCOUNT, SERVICE, DEPLOYMENT, AUTOSCALER, BUDGET] {
        is_there(objects, kind, "web-portolan", true).await;
    }
    is_there(objects, SECRET, "web-portolan-xds", true).await;
    configure(json!({"replicas": 1})).await;
    is_there(objects, AUTOSCALER, "web-portolan", false).await;
    is_there(objects, BUDGET, "web-portolan", false).await;
    configure(json!({"workload": "DaemonSet"})).await;
    is_there(objects, DAEMON_SET, "web-portolan", true).await;
    let status = json!({"numberReady": 1, "currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0});
    report("daemonset", &status);
    is_there(objects, DEPLOYMENT, "web-portolan", false).await;
    configure(json!({})).await;
    is_there(objects, DEPLOYMENT, "web-portolan", true).await;
    report("deployment", &json!({"replicas": 1, "readyReplicas": 1}));
    is_there(objects, DAEMON_SET, "web-portolan", false).await;
    // An address of its own means another Service.
    let service = is_there(objects, SERVICE, "web-portolan", true).await.unwrap();
    let address = if service["spec"]["clusterIP"] == "10.96.0.77" { "10.96.0.78" } else { "10.96.0.77" };
    let addresses = json!({"spec": {"addresses": [{"type": "IPAddress", "value": address}]}});
    objects.patch("gateway.networking.k8s.io/v1", "Gateway", "default", "web", &addresses).await;
    let ask = async || objects.get((SERVICE.0, SERVICE.1, "default", "web-portolan")).await;
    let has = |found: &Option<Value>| found.as_ref().is_some_and(|it| it["spec"]["clusterIP"] == address);
    until("the address", ask, has).await;
    // Nobody collects garbage here: what is deleted the operator deletes.
    server.kubectl(&["delete", "gateway", "web"]).unwrap();
    for kind in [ACCOUNT, SERVICE, DEPLOYMENT] {
        is_there(objects, kind, "web-portolan", false).await;
    }
    is_there(objects, SECRET, "web-portolan-xds", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roles_allow_what_is_used_and_nothing_without_a_reason() {
    let server = ApiServer::own("roles");
    let objects = server.objects().await;
    for folder in ["config/crd/gateway-api/experimental", "config/crd/portolan"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        objects.install(&path).await;
    }
    server.kubectl(&["apply", "--server-side", "--kustomize", "config/default"]).unwrap();
    let account = server.account_named(SYSTEM, "portolan").await;
    let replica = Replica::ready(&account, SYSTEM, "a").await;
    replica.comes_to_lead().await;
    objects.apply(&manifests(&Authority::new("test").unwrap())).await;
    for kind in ["HTTPRoute"].into_iter().chain(ROUTES.map(|(kind, _)| kind)) {
        let ask = async || objects.gateway_api(kind, "default", "shop").await.unwrap();
        until(&format!("{kind} has a status"), ask, |it| !it["status"]["parents"][0].is_null()).await;
    }
    let ask = async || objects.gateway_api("BackendTLSPolicy", "default", "shop").await.unwrap();
    until("the policy has a status", ask, |it| !it["status"]["ancestors"][0].is_null()).await;
    let ask = async || objects.gateway_api("ListenerSet", "default", "shop").await.unwrap();
    until("the listener set has a status", ask, |it| !it["status"]["conditions"][0].is_null()).await;
    the_life_of_a_fleet(&server, &objects).await;
    assert_eq!(replica.terminate().await, Some(0));

    let (allowed, asked) = (allowed(&server), asked(&server));
    assert!(asked.len() > 30, "the audit log shows too little: {asked:?}");
    let refused: Vec<_> = asked.iter().filter(|(_, codes)| codes.contains(&403)).collect();
    assert!(refused.is_empty(), "the roles lack: {refused:?}");
    let unseen: Vec<&String> =
        allowed.iter().filter(|one| !asked.contains_key(*one) && is_resolved(one)).collect();
    let reasons: Vec<regex::Regex> = UNSEEN
        .iter()
        .chain(SOMETIMES)
        .map(|(pattern, _)| regex::Regex::new(&format!("^(?:{pattern})$")).unwrap())
        .collect();
    let without: Vec<_> = unseen.iter().filter(|one| !reasons.iter().any(|it| it.is_match(one))).collect();
    assert!(without.is_empty(), "allowed, and not used: {without:#?}");
    for (reason, (pattern, why)) in reasons.iter().zip(UNSEEN) {
        assert!(unseen.iter().any(|one| reason.is_match(one)), "not needed any more: {pattern}, {why}");
    }
}
