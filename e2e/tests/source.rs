//! The Kubernetes source against a real API server: what changes arrives, what is deleted goes, whatever the network does.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, sync::Arc};

use kube::Client;
use portolan::{
    metrics::Metrics,
    model::{Kind, Object, ObjectKey},
    resolve::{Environment, Provenance},
    runtime::{self, Handle, KeepNothing},
    source::kubernetes::{self, Kubernetes, SecretAccess},
};
use portolan_e2e::apiserver::{ApiServer, Objects, client, crds, until};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A source with a core behind it.
struct Source {
    handle: Handle,
    kubernetes: Kubernetes,
    shutdown: CancellationToken,
}

impl Source {
    fn start(client: &Client, secrets: SecretAccess) -> Self {
        let metrics = Arc::new(Metrics::default());
        let environment =
            Environment { provenance: Provenance::Kubernetes, bundle: None, ..Environment::default() };
        let (handle, _) = runtime::start(Arc::clone(&metrics), Box::new(KeepNothing), environment).unwrap();
        let shutdown = CancellationToken::new();
        let kubernetes = kubernetes::start(client, secrets, &handle, metrics, &TaskTracker::new(), &shutdown);
        Self { handle, kubernetes, shutdown }
    }

    async fn synced(client: &Client, secrets: SecretAccess) -> Self {
        let source = Self::start(client, secrets);
        source.is_synced().await;
        source
    }

    async fn is_synced(&self) {
        let ask = async || (self.handle.ask(|core| core.is_synced()).await, self.kubernetes.waiting.list());
        let _ = until("the first sync", ask, |(synced, _)| *synced == Ok(true)).await;
    }

    /// The objects of a namespace that the core knows, as `Kind/name`.
    async fn knows(&self, namespace: &str) -> BTreeSet<String> {
        let keys = self.handle.ask(|core| core.engine().world().keys()).await.unwrap();
        let keys = keys.into_iter().filter(|key| *key.namespace == *namespace);
        keys.map(|key| format!("{}/{}", key.kind, key.name)).collect()
    }

    async fn comes_to_know(&self, namespace: &str, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        until("the objects in the core", async || self.knows(namespace).await, |known| *known == expected)
            .await;
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.handle.stop();
    }
}

fn route(namespace: &str, name: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{parentRefs: [{{name: web}}]}}
---
"
    )
}

/// A Gateway of a class that is ours, with an HTTPS listener.
fn gateway(namespace: &str, class: &str, secret: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {class}}}
spec: {{controllerName: portolan.dev/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web, namespace: {namespace}}}
spec:
  gatewayClassName: {class}
  listeners:
  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: {secret}}}]}}}}
---
"
    )
}

fn secret(namespace: &str, name: &str) -> String {
    let data = "{tls.crt: YQ==, tls.key: Yg==}";
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, type: kubernetes.io/tls, data: {data}}}\n---\n"
    )
}

#[tokio::test]
async fn what_changes_in_the_api_server_reaches_the_core() {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("source").await;
    objects.apply(&route(&namespace, "before")).await;
    let source = Source::synced(&server.client().await, SecretAccess::Referenced).await;
    source.comes_to_know(&namespace, &["HTTPRoute/before"]).await;
    let service = |labels: &str| {
        format!(
            r"
apiVersion: v1
kind: Service
metadata: {{name: shop, namespace: {namespace}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: shop-1, namespace: {namespace}, labels: {{{labels}}}}}
addressType: IPv4
endpoints: [{{addresses: [10.0.0.1]}}]
ports: [{{port: 8080}}]
---
"
        )
    };
    let all = ["EndpointSlice/shop-1", "HTTPRoute/after", "HTTPRoute/before", "Service/shop"];
    objects.apply(&service("kubernetes.io/service-name: shop")).await;
    objects.apply(&route(&namespace, "after")).await;
    source.comes_to_know(&namespace, &all).await;
    // A slice that belongs to no Service any more is gone, as far as Portolan is concerned.
    objects.delete(&route(&namespace, "before")).await;
    objects
        .patch_labels(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            &namespace,
            "shop-1",
            &json!({"kubernetes.io/service-name": null}),
        )
        .await;
    source.comes_to_know(&namespace, &["HTTPRoute/after", "Service/shop"]).await;
}

#[tokio::test]
async fn a_namespace_is_known_by_its_labels() {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("source").await;
    let source = Source::synced(&server.client().await, SecretAccess::Referenced).await;
    objects.patch_labels("v1", "Namespace", "", &namespace, &json!({"team": "blue"})).await;
    let key = ObjectKey::new(Kind::Namespace, "", namespace.as_str());
    let labels = async || {
        let key = key.clone();
        let known = source.handle.ask(move |core| core.engine().world().get(&key).cloned()).await.unwrap();
        match known {
            Some(Object::Namespace(namespace)) => namespace.labels.get("team").map(ToString::to_string),
            _ => None,
        }
    };
    until("the label", labels, |team| team.as_deref() == Some("blue")).await;
}

#[tokio::test]
async fn what_is_deleted_while_nothing_gets_through_is_gone_afterwards() {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("source").await;
    objects.apply(&[route(&namespace, "kept"), route(&namespace, "gone")].concat()).await;
    let (gate, kubeconfig) = server.behind_a_gate().await;
    let source = Source::synced(&client(kubeconfig).await, SecretAccess::Referenced).await;
    source.comes_to_know(&namespace, &["HTTPRoute/gone", "HTTPRoute/kept"]).await;
    gate.close();
    objects.delete(&route(&namespace, "gone")).await;
    objects.apply(&route(&namespace, "new")).await;
    // What is known stays in force meanwhile.
    assert_eq!(source.knows(&namespace).await.len(), 2);
    gate.release();
    source.comes_to_know(&namespace, &["HTTPRoute/kept", "HTTPRoute/new"]).await;
}

#[tokio::test]
async fn a_cut_connection_costs_nothing() {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("source").await;
    let (gate, kubeconfig) = server.behind_a_gate().await;
    let source = Source::synced(&client(kubeconfig).await, SecretAccess::Referenced).await;
    for turn in 0..3 {
        gate.cut();
        let name = format!("r{turn}");
        objects.apply(&route(&namespace, &name)).await;
        source.comes_to_know(&namespace, &[&format!("HTTPRoute/{name}")]).await;
        gate.cut();
        objects.delete(&route(&namespace, &name)).await;
        source.comes_to_know(&namespace, &[]).await;
    }
}

#[tokio::test]
async fn a_slow_watch_loses_nothing() {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("source").await;
    objects.apply(&route(&namespace, "gone")).await;
    let (gate, kubeconfig) = server.behind_a_gate().await;
    let source = Source::synced(&client(kubeconfig).await, SecretAccess::Referenced).await;
    gate.hold();
    objects.delete(&route(&namespace, "gone")).await;
    for turn in 0..20 {
        objects.apply(&route(&namespace, &format!("r{}", turn % 2))).await;
        objects.delete(&route(&namespace, &format!("r{}", turn % 2))).await;
    }
    objects.apply(&route(&namespace, "last")).await;
    gate.release();
    source.comes_to_know(&namespace, &["HTTPRoute/last"]).await;
}

#[tokio::test]
async fn a_secret_is_read_once_a_gateway_of_ours_refers_to_it() {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("source").await;
    objects.apply(&[secret(&namespace, "used"), secret(&namespace, "other")].concat()).await;
    let client = server.client().await;
    let source = Source::synced(&client, SecretAccess::Referenced).await;
    source.comes_to_know(&namespace, &[]).await;
    objects.apply(&gateway(&namespace, &namespace, "used")).await;
    source.comes_to_know(&namespace, &["Gateway/web", "Secret/used"]).await;
    // A start waits for the Secrets of the Gateways that there are.
    let later = Source::synced(&client, SecretAccess::Referenced).await;
    assert_eq!(later.knows(&namespace).await, BTreeSet::from(["Gateway/web".into(), "Secret/used".into()]));
    objects.apply(&gateway(&namespace, &namespace, "other")).await;
    source.comes_to_know(&namespace, &["Gateway/web", "Secret/other"]).await;
    objects.delete(&secret(&namespace, "other")).await;
    source.comes_to_know(&namespace, &["Gateway/web"]).await;
    objects.apply(&secret(&namespace, "other")).await;
    source.comes_to_know(&namespace, &["Gateway/web", "Secret/other"]).await;
    objects.delete(&gateway(&namespace, &namespace, "other")).await;
    source.comes_to_know(&namespace, &[]).await;
}

#[tokio::test]
async fn all_secrets_are_those_of_tls() {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("source").await;
    let opaque =
        format!("{{apiVersion: v1, kind: Secret, metadata: {{name: password, namespace: {namespace}}}}}");
    objects.apply(&[secret(&namespace, "one"), opaque].concat()).await;
    let source = Source::synced(&server.client().await, SecretAccess::All).await;
    source.comes_to_know(&namespace, &["Secret/one"]).await;
    objects.apply(&secret(&namespace, "two")).await;
    source.comes_to_know(&namespace, &["Secret/one", "Secret/two"]).await;
    objects.delete(&secret(&namespace, "one")).await;
    source.comes_to_know(&namespace, &["Secret/two"]).await;
}

/// Kinds come and go, and what they had with them.
#[tokio::test]
async fn crds_may_be_missing_and_come_and_go() {
    let server = ApiServer::own("crds");
    let objects = server.objects().await;
    let namespace = objects.namespace("source").await;
    // Nothing of the Gateway API is there: the source is complete all the same.
    let source = Source::synced(&server.client().await, SecretAccess::Referenced).await;
    objects.install(&crds("standard")).await;
    objects.apply(&route(&namespace, "r")).await;
    source.comes_to_know(&namespace, &["HTTPRoute/r"]).await;
    let release = source.kubernetes.releases.borrow().get(&Kind::HttpRoute).cloned().flatten();
    assert_eq!(release.unwrap().version.as_ref(), "v1.7.0");
    let file = crds("standard").join("gateway.networking.k8s.io_httproutes.yaml");
    objects.delete(&std::fs::read_to_string(&file).unwrap()).await;
    source.comes_to_know(&namespace, &[]).await;
    let releases = async || source.kubernetes.releases.borrow().keys().copied().collect::<Vec<_>>();
    let kinds = until("HTTPRoute is gone", releases, |kinds| !kinds.contains(&Kind::HttpRoute)).await;
    assert!(kinds.contains(&Kind::Gateway), "{kinds:?}");
    objects.install_file(&file).await;
    objects.apply(&route(&namespace, "again")).await;
    source.comes_to_know(&namespace, &["HTTPRoute/again"]).await;
    // A CRD that serves only another version is as good as none.
    stop_serving_v1(&objects).await;
    source.comes_to_know(&namespace, &[]).await;
}

async fn stop_serving_v1(objects: &Objects) {
    let name = "httproutes.gateway.networking.k8s.io";
    let of = ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name);
    let crd = objects.get(of).await.unwrap();
    let mut versions = crd["spec"]["versions"].clone();
    for version in versions.as_array_mut().unwrap() {
        version["served"] = (version["name"] != "v1").into();
    }
    objects
        .patch(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "",
            name,
            &json!({"spec": {"versions": versions}}),
        )
        .await;
}

/// An API server that starts answers before it knows its CRDs: nothing may be lost by that.
#[tokio::test]
async fn a_restart_of_the_api_server_takes_nothing_away() {
    let server = ApiServer::own("restart");
    let objects = server.objects().await;
    objects.install(&crds("standard")).await;
    let namespace = objects.namespace("source").await;
    objects.apply(&route(&namespace, "kept")).await;
    let source = Source::synced(&server.client().await, SecretAccess::Referenced).await;
    source.comes_to_know(&namespace, &["HTTPRoute/kept"]).await;
    let lost = tokio::spawn({
        let handle = source.handle.clone();
        let key = ObjectKey::new(Kind::HttpRoute, namespace.as_str(), "kept");
        async move {
            loop {
                let key = key.clone();
                if handle.ask(move |core| core.engine().world().get(&key).is_none()).await.unwrap() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    });
    server.restart();
    objects.apply(&route(&namespace, "new")).await;
    source.comes_to_know(&namespace, &["HTTPRoute/kept", "HTTPRoute/new"]).await;
    assert!(!lost.is_finished(), "the route was gone for a moment");
    lost.abort();
}
