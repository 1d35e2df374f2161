//! The core with a real ADS server and client around it: manifests in, acknowledgements back, no Envoy.

mod lane;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portolan_xds::{
    GatewayKey,
    ads::{
        AdsServer, ServerConfig,
        client::{AdsClient, ClientOptions, View},
    },
    program::Frozen,
    store::ResourceType,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    fleet::files::listen_private,
    model::{Kind, parse},
    resolve::{Placement, Provenance},
    source::Change,
};

const LIMIT: Duration = Duration::from_secs(20);

const BASE: &str = "
kind: GatewayClass
metadata: {name: portolan}
spec: {controllerName: portolan.dev/gateway-controller}
---
kind: Gateway
metadata: {name: web, generation: 1}
spec: {gatewayClassName: portolan, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
kind: Service
metadata: {name: blue}
spec: {ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: blue, labels: {kubernetes.io/service-name: blue}}
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
";

fn route(name: &str, value: &str) -> String {
    format!(
        "
kind: HTTPRoute
metadata: {{name: {name}, generation: 1}}
spec:
  parentRefs: [{{name: web}}]
  hostnames: [{name}.example.com]
  rules:
  - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-value, value: {value}}}]}}}}]
    backendRefs: [{{name: blue, port: 80}}]
"
    )
}

/// Remembers in memory what a state folder would.
#[derive(Debug, Clone, Default)]
struct KeepInMemory(Arc<Mutex<BTreeMap<GatewayKey, Vec<Frozen>>>>);

impl Keep for KeepInMemory {
    fn load(&self, gateway: &GatewayKey) -> Vec<Frozen> {
        self.0.lock().unwrap().get(gateway).cloned().unwrap_or_default()
    }

    fn keep(&self, gateway: &GatewayKey, frozen: &[Frozen]) {
        self.0.lock().unwrap().insert(gateway.clone(), frozen.to_vec());
    }
}

struct Rig {
    handle: Handle,
    shutdown: CancellationToken,
    folder: tempfile::TempDir,
}

impl Rig {
    /// A control plane that knows these manifests and serves the Gateway `default/web`.
    async fn with(yaml: &str, keep: KeepInMemory) -> Self {
        Self::within(Environment::default(), yaml, keep).await
    }

    async fn within(environment: Environment, yaml: &str, keep: KeepInMemory) -> Self {
        let (handle, _) = start(Arc::default(), Box::new(keep), environment).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rig = Self { handle, shutdown: CancellationToken::new(), folder };
        rig.apply(BASE);
        rig.apply(yaml);
        rig.handle.synced().unwrap();
        let placement = Placement::bound([((80, Transport::Tcp), Ok(vec![([127, 0, 0, 1], 80).into()]))]);
        rig.handle.placed(web(), Some(placement)).unwrap();
        rig.handle.ask(|_| ()).await.unwrap();
        let server = AdsServer::new(Arc::clone(rig.handle.hub()), ServerConfig::default());
        let listener = listen_private(&rig.socket()).unwrap();
        let key = GatewayKey::new("default", "web");
        let shutdown = rig.shutdown.clone();
        tokio::spawn(async move { server.serve_unix(listener, key, shutdown).await });
        rig
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("xds.sock")
    }

    fn apply(&self, yaml: &str) {
        self.handle.changes(batch(changes(yaml))).unwrap();
    }

    /// Waits until a condition of an object is as wanted, and gives its message.
    async fn until(&self, key: &ObjectKey, type_: &str, status: &str, reason: &str) -> String {
        let mut changes = self.handle.standing_changed();
        let until = tokio::time::Instant::now() + LIMIT;
        loop {
            changes.borrow_and_update();
            let (asked, wanted) = (key.clone(), type_.to_owned());
            let shown = self.handle.ask(move |core| core.status(&asked)).await.unwrap().unwrap();
            let own = shown["conditions"].as_array();
            let conditions = own.or_else(|| shown["parents"][0]["conditions"].as_array()).unwrap();
            let found = conditions.iter().find(|one| one["type"] == *wanted);
            if let Some(found) = found.filter(|one| one["status"] == status && one["reason"] == reason) {
                assert!(found["lastTransitionTime"].is_string(), "{found}");
                return found["message"].as_str().unwrap().to_owned();
            }
            tokio::time::timeout_at(until, changes.changed())
                .await
                .unwrap_or_else(|_| panic!("{type_} never was {status}/{reason}: {shown:#}"))
                .unwrap();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.handle.stop();
    }
}

fn changes(yaml: &str) -> Vec<Change> {
    let objects = yaml.split("\n---\n").map(|document| {
        let json: Value = serde_saphyr::from_str(document).unwrap();
        let object = parse(Kind::from_name(json["kind"].as_str().unwrap()).unwrap(), &json).unwrap();
        (object.key().clone(), Some(object))
    });
    objects.collect()
}

fn batch(changes: Vec<Change>) -> Batch {
    Batch { changes, problems: Vec::new(), seen: Instant::now() }
}

fn web() -> ObjectKey {
    ObjectKey::new(Kind::Gateway, "default", "web")
}

fn named(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::HttpRoute, "default", name)
}

async fn envoy(socket: &Path, rejects: Option<&'static str>, has: View) -> AdsClient {
    let reject = rejects.map(|text| {
        let reject: portolan_xds::ads::client::Reject = Arc::new(move |kind, _: &str, body: &[u8]| {
            let found = kind == ResourceType::VirtualHost
                && body.windows(text.len()).any(|part| part == text.as_bytes());
            found.then(|| format!("cannot use {text}"))
        });
        reject
    });
    let known = !has.is_empty();
    let options =
        ClientOptions { node_id: "test".into(), reject, follow: true, has, ..ClientOptions::default() };
    let client = AdsClient::connect_unix(socket, options).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    client.subscribe_all(ResourceType::Listener);
    if known {
        // Envoy asks again for what its clusters and listeners refer to.
        client.subscribe(ResourceType::Endpoints, &["default/blue/80"]);
        client.subscribe(ResourceType::RouteConfiguration, &["default/web/80"]);
    }
    client
}

fn table_has(view: &View, text: &str) -> bool {
    let hosts = view.get(&ResourceType::VirtualHost).into_iter().flatten();
    let mut of_table = hosts.filter(|(name, _)| name.starts_with("default/web/80/"));
    of_table.any(|(_, held)| held.body.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn programmed_is_what_every_proxy_acknowledged() {
    let rig = Rig::with(&route("a", "one"), KeepInMemory::default()).await;
    let why = rig.until(&web(), "Programmed", "False", "Pending").await;
    assert_eq!(why, "no proxy is connected");
    let mut proxy = envoy(&rig.socket(), None, View::new()).await;
    rig.until(&web(), "Programmed", "True", "Programmed").await;
    rig.until(&named("a"), "portolan.dev/Programmed", "True", "Programmed").await;
    rig.apply(&route("a", "two"));
    proxy.wait_for(LIMIT, |view| table_has(view, "two")).await.unwrap();
    rig.until(&named("a"), "portolan.dev/Programmed", "True", "Programmed").await;
    // A proxy that leaves takes nothing back.
    drop(proxy);
    rig.until(&web(), "Programmed", "True", "Programmed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_rejects_is_told_on_its_object_and_harms_no_other() {
    let keep = KeepInMemory::default();
    let all: Vec<String> = (0..20).map(|index| route(&format!("r{index}"), "good")).collect();
    let rig = Rig::with(&all.join("\n---\n"), keep.clone()).await;
    let mut proxy = envoy(&rig.socket(), Some("poison"), View::new()).await;
    rig.until(&named("r3"), "portolan.dev/Programmed", "True", "Programmed").await;

    rig.apply(&[route("r7", "poison"), route("r3", "better"), route("r9", "better")].join("\n---\n"));
    let message = rig.until(&named("r7"), "portolan.dev/Programmed", "False", "Invalid").await;
    assert!(message.contains("cannot use poison"), "{message}");
    rig.until(&named("r3"), "portolan.dev/Programmed", "True", "Programmed").await;
    rig.until(&web(), "Programmed", "True", "Programmed").await;
    proxy
        .wait_for(LIMIT, |view| table_has(view, "better") && table_has(view, "r7.example.com"))
        .await
        .unwrap();
    assert!(!table_has(&proxy.view(), "poison"));

    // Another control plane with the same memory does not try it again.
    let second = Rig::with(&all.join("\n---\n"), keep).await;
    second.apply(&route("r7", "poison"));
    let mut fresh = envoy(&second.socket(), Some("poison"), View::new()).await;
    fresh.wait_for(LIMIT, |view| table_has(view, "r8.example.com")).await.unwrap();
    assert!(!table_has(&fresh.view(), "poison"));
    second.until(&named("r7"), "portolan.dev/Programmed", "False", "Invalid").await;

    rig.apply(&route("r7", "healed"));
    rig.until(&named("r7"), "portolan.dev/Programmed", "True", "Programmed").await;
    proxy.wait_for(LIMIT, |view| table_has(view, "healed")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_control_plane_resends_nothing() {
    let manifests = route("a", "one");
    let rig = Rig::with(&manifests, KeepInMemory::default()).await;
    let proxy = envoy(&rig.socket(), None, View::new()).await;
    rig.until(&named("a"), "portolan.dev/Programmed", "True", "Programmed").await;
    let has = proxy.view();
    drop((proxy, rig));

    let rig = Rig::with(&manifests, KeepInMemory::default()).await;
    let mut proxy = envoy(&rig.socket(), None, has).await;
    rig.until(&named("a"), "portolan.dev/Programmed", "True", "Programmed").await;
    rig.until(&web(), "Programmed", "True", "Programmed").await;
    while let Ok(received) = proxy.responses.try_recv() {
        let response = received.response;
        assert!(response.resources.is_empty(), "resent {}", response.type_url);
        assert!(response.removed_resources.is_empty(), "removed {}", response.type_url);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_before_the_first_sync() {
    let (handle, _) = start(Arc::default(), Box::new(KeepNothing), Environment::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig { handle, shutdown: CancellationToken::new(), folder };
    rig.apply(BASE);
    rig.handle.ask(|_| ()).await.unwrap();
    assert!(!portolan_xds::ads::Programs::is_ready(&**rig.handle.hub()));
    assert!(rig.handle.wanted().borrow().is_empty());
    rig.handle.synced().unwrap();
    rig.handle.ask(|_| ()).await.unwrap();
    assert!(portolan_xds::ads::Programs::is_ready(&**rig.handle.hub()));
    assert_eq!(rig.handle.wanted().borrow().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_gateway_loses_its_streams() {
    let rig = Rig::with(&route("a", "one"), KeepInMemory::default()).await;
    let mut proxy = envoy(&rig.socket(), None, View::new()).await;
    rig.until(&web(), "Programmed", "True", "Programmed").await;
    rig.handle.changes(batch(vec![(web(), None)])).unwrap();
    proxy
        .wait_for(LIMIT, |view| view.get(&ResourceType::Listener).is_none_or(BTreeMap::is_empty))
        .await
        .unwrap();
    rig.handle.forget(web()).unwrap();
    let status = proxy.wait_for_end(LIMIT).await.unwrap();
    assert!(status.message().contains("is gone"), "{status}");
}
