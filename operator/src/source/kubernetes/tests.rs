//! The source against an API server in memory that breaks off, forgets, refuses and falls silent.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Kubernetes, SecretAccess, start};
use crate::{
    metrics::Metrics,
    model::Kind,
    resolve::{Environment, Provenance},
    runtime::{self, Handle, KeepNothing},
    twin::Twin,
};

struct Source {
    handle: Handle,
    kubernetes: Kubernetes,
    shutdown: CancellationToken,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.handle.stop();
    }
}

fn source(twin: &Twin) -> Source {
    let metrics = Arc::new(Metrics::default());
    let environment =
        Environment { provenance: Provenance::Kubernetes, bundle: None, ..Environment::default() };
    let (handle, _) = runtime::start(Arc::clone(&metrics), Box::new(KeepNothing), environment).unwrap();
    let shutdown = CancellationToken::new();
    let (tasks, secrets) = (TaskTracker::new(), SecretAccess::Referenced);
    let kubernetes = start(&twin.client(), secrets, &handle, metrics, &tasks, &shutdown);
    Source { handle, kubernetes, shutdown }
}

impl Source {
    async fn is_synced(&self) -> bool {
        self.handle.ask(|core| core.is_synced()).await.unwrap()
    }

    /// All objects that the core knows.
    async fn knows(&self) -> BTreeSet<String> {
        let keys = self.handle.ask(|core| core.engine().world().keys()).await.unwrap();
        keys.iter().map(ToString::to_string).collect()
    }

    async fn comes_to_know(&self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        until("the objects in the core", async || self.knows().await, |known| *known == expected).await;
    }
}

/// Waits for a condition, with a deadline.
async fn until<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    mut good: impl FnMut(&T) -> bool,
) -> T {
    for _ in 0..1_500 {
        let answer = ask().await;
        if good(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: {:#?}", ask().await);
}

fn route(name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "apps"}, "spec": {},
    })
}

fn twin() -> Twin {
    let twin = Twin::new();
    twin.install_crds();
    twin
}

#[tokio::test]
async fn a_watch_whose_history_is_gone_starts_over_and_loses_no_deletion() {
    let twin = twin();
    twin.put(route("kept"));
    twin.put(route("gone"));
    let source = source(&twin);
    source.comes_to_know(&["HTTPRoute/apps/gone", "HTTPRoute/apps/kept"]).await;
    // The watch cannot go on where it was: 410.
    twin.refuse("watch=true", 500);
    twin.cut();
    twin.delete(Kind::HttpRoute, "apps", "gone");
    twin.put(route("new"));
    twin.compact();
    twin.refuse("watch=true", 0);
    source.comes_to_know(&["HTTPRoute/apps/kept", "HTTPRoute/apps/new"]).await;
}

#[tokio::test]
async fn a_watch_that_is_refused_without_end_starts_over() {
    let twin = twin();
    twin.put(route("gone"));
    let source = source(&twin);
    source.comes_to_know(&["HTTPRoute/apps/gone"]).await;
    // An API server that was restored from a backup: it never had the version that the watch goes on from.
    twin.refuse("httproutes?&watch=true", 504);
    twin.cut();
    twin.delete(Kind::HttpRoute, "apps", "gone");
    source.comes_to_know(&[]).await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let twin = twin();
    for number in 0..1_201 {
        twin.put(route(&format!("r{number}")));
    }
    let source = source(&twin);
    until("all routes", async || source.knows().await.len(), |count| *count == 1_201).await;
    assert_eq!(twin.requests("httproutes?").iter().filter(|it| it.contains("limit=")).count(), 3);
    // The list is whole before the first sync is.
    assert!(until("the sync", async || source.is_synced().await, |synced| *synced).await);
}

#[tokio::test]
async fn nothing_is_served_while_a_kind_is_forbidden_and_it_is_said_which() {
    let twin = twin();
    twin.refuse("httproutes?", 403);
    let source = source(&twin);
    let waiting = async || source.kubernetes.waiting.list();
    let told =
        until("what is waited for", waiting, |list| list.len() == 1 && list[0].contains("see the roles"))
            .await;
    assert!(told[0].starts_with("HTTPRoute ("), "{told:?}");
    assert!(!source.is_synced().await);
}

#[tokio::test]
async fn a_role_that_is_given_later_lets_the_sync_go_on() {
    let twin = twin();
    twin.refuse("httproutes?", 403);
    let source = source(&twin);
    let waiting = async || source.kubernetes.waiting.list().len();
    until("what is waited for", waiting, |count| *count == 1).await;
    twin.refuse("httproutes?", 0);
    until("the sync", async || source.is_synced().await, |synced| *synced).await;
}

/// A class of ours and a Gateway whose listener has a certificate.
fn gateway_with(twin: &Twin, secret: &str) {
    twin.put(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "portolan"},
        "spec": {"controllerName": "portolan.dev/gateway-controller"},
    }));
    twin.put(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "web", "namespace": "apps"},
        "spec": {"gatewayClassName": "portolan", "listeners": [
            {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": secret}]}},
        ]},
    }));
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_stops_nobody_else() {
    let twin = twin();
    gateway_with(&twin, "hidden");
    twin.refuse("/namespaces/apps/secrets", 403);
    let source = source(&twin);
    until("the sync", async || source.is_synced().await, |synced| *synced).await;
    assert_eq!(source.knows().await.len(), 2);
    // Once it may be read it is.
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden", "namespace": "apps"},
        "type": "kubernetes.io/tls", "data": {"tls.crt": "YQ==", "tls.key": "Yg=="},
    });
    twin.put(secret);
    twin.refuse("/namespaces/apps/secrets", 0);
    source.comes_to_know(&["Gateway/apps/web", "GatewayClass/portolan", "Secret/apps/hidden"]).await;
}

#[tokio::test]
async fn the_sync_waits_for_secrets_and_asks_for_no_others() {
    let twin = twin();
    gateway_with(&twin, "cert");
    twin.silence("secrets?");
    let source = source(&twin);
    let waiting = async || source.kubernetes.waiting.list();
    until("what is waited for", waiting, |list| *list == ["Secret/apps/cert"]).await;
    assert!(!source.is_synced().await);
    let asked = twin.requests("secrets");
    assert!(
        asked
            .iter()
            .all(|it| it.contains("/namespaces/apps/secrets?") && it.contains("metadata.name%3Dcert")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn an_object_that_does_not_parse_is_a_problem_and_its_last_good_version_stays() {
    let twin = twin();
    twin.put(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "apps"},
        "spec": {"ports": [{"port": 80}]},
    }));
    let source = source(&twin);
    source.comes_to_know(&["Service/apps/shop"]).await;
    twin.put(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "apps"},
        "spec": {"ports": "none"},
    }));
    let problems = async || {
        let told = source.handle.ask(|core| core.problems().to_vec()).await.unwrap();
        told.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let told = until("the problem", problems, |list| list.len() == 1).await;
    assert!(told[0].starts_with("Service/apps/shop: error: "), "{told:?}");
    assert_eq!(source.knows().await.len(), 1);
    twin.delete(Kind::Service, "apps", "shop");
    until("no problem", problems, Vec::is_empty).await;
}

fn bundle(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": format!("certificates.k8s.io/{version}"), "kind": "ClusterTrustBundle",
        "metadata": {"name": name}, "spec": {"trustBundle": "some"},
    })
}

impl Source {
    /// Whether the kind of a ClusterTrustBundle counts as installed.
    fn serves_bundles(&self) -> bool {
        self.kubernetes.releases.borrow().contains_key(&Kind::ClusterTrustBundle)
    }
}

#[tokio::test]
async fn cluster_trust_bundles_are_read_in_the_version_that_is_served() {
    for version in ["v1", "v1beta1"] {
        let twin = twin();
        twin.serve_bundles(Some(version));
        twin.put(bundle("example.com:ca:one", version));
        let source = source(&twin);
        source.comes_to_know(&["ClusterTrustBundle/example.com:ca:one"]).await;
        assert!(source.serves_bundles());
        twin.put(bundle("other", version));
        source.comes_to_know(&["ClusterTrustBundle/example.com:ca:one", "ClusterTrustBundle/other"]).await;
    }
}

#[tokio::test]
async fn an_api_server_without_cluster_trust_bundles_is_not_asked_for_them() {
    let twin = twin();
    let source = source(&twin);
    until("the sync", async || source.is_synced().await, |synced| *synced).await;
    assert!(!source.serves_bundles());
    assert_eq!(twin.requests("clustertrustbundles"), Vec::<String>::new());
}

#[tokio::test]
async fn the_sync_waits_until_it_is_known_whether_cluster_trust_bundles_are_served() {
    let twin = twin();
    twin.silence("certificates.k8s.io");
    twin.serve_bundles(Some("v1"));
    let source = source(&twin);
    let waiting = async || source.kubernetes.waiting.list();
    let told = until("what is waited for", waiting, |list| list.len() == 1).await;
    assert!(told[0].starts_with("whether ClusterTrustBundle of certificates.k8s.io is served"), "{told:?}");
    assert!(!source.is_synced().await);
}

#[tokio::test]
async fn cluster_trust_bundles_that_may_not_be_read_stop_nobody() {
    for refused in ["/clustertrustbundles?", "GET /apis/certificates.k8s.io/v1"] {
        let twin = twin();
        twin.serve_bundles(Some("v1beta1"));
        twin.put(bundle("hidden", "v1beta1"));
        twin.refuse(refused, 403);
        let source = source(&twin);
        until("the sync", async || source.is_synced().await, |synced| *synced).await;
        assert_eq!(source.knows().await, BTreeSet::new());
    }
}
