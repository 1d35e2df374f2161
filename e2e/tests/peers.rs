//! Two operators on a real API server, and a proxy that is connected to the follower alone: the leader writes what that
//! proxy acknowledged and rejected.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use portolan::{fleet::GatewayName, identity::Authorities};
use portolan_e2e::apiserver::{ApiServer, Objects, Replica, Turn, until};
use portolan_xds::{
    ads::client::{AdsClient, ClientOptions, Reject, View},
    store::ResourceType,
};
use rustix::process::Signal;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};

const LIMIT: Duration = Duration::from_secs(30);

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

fn route(namespace: &str, name: &str, path: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: shop, port: 80}}]}}]
---
"
    )
}

/// The condition of an object, or of its first parent, that says whether it is programmed.
fn programmed(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let conditions = conditions.or_else(|| object["status"]["parents"][0]["conditions"].as_array());
    let is_it = |one: &&Value| one["type"] == "Programmed" || one["type"] == "portolan.dev/Programmed";
    conditions.into_iter().flatten().find(is_it).cloned().unwrap_or_default()
}

/// Waits until an object is programmed, or is not for this reason, as it is now.
async fn has(objects: &Objects, namespace: &str, kind: &str, name: &str, reason: &str) -> Value {
    let good = |object: &Value| {
        let found = programmed(object);
        found["reason"] == reason && found["observedGeneration"] == object["metadata"]["generation"]
    };
    let ask = async || objects.gateway_api(kind, namespace, name).await.unwrap();
    programmed(&until(&format!("{kind} {name}: {reason}"), ask, good).await)
}

/// Does what a cluster would: the fleet's pod is ready, and its Service has an address.
async fn fleet_serves(objects: &Objects, namespace: &str) {
    let fleet = async || {
        let of_fleet =
            |object: &&Value| object["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] == "web";
        let deployments = objects.list("apps/v1", "Deployment", namespace).await;
        let services = objects.list("v1", "Service", namespace).await;
        let name = |all: &[Value]| {
            all.iter().find(of_fleet).and_then(|it| Some(it["metadata"]["name"].as_str()?.to_owned()))
        };
        Some((name(&deployments)?, name(&services)?))
    };
    let (deployment, service) = until("the fleet is made", fleet, Option::is_some).await.unwrap();
    let ready = json!({"status": {"replicas": 1, "readyReplicas": 1}});
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}});
    let params = PatchParams::default();
    let client = objects.client();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    deployments.patch_status(&deployment, &params, &Patch::Merge(&ready)).await.unwrap();
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    services.patch_status(&service, &params, &Patch::Merge(&address)).await.unwrap();
}

/// A proxy of the Gateway, connected to a replica; it rejects paths with this text.
async fn proxy(
    authorities: &Authorities,
    namespace: &str,
    to: SocketAddr,
    rejects: &'static str,
    has: View,
) -> AdsClient {
    let gateway = GatewayName::new(namespace, "web").unwrap();
    let identity = authorities.proxy("portolan.internal", &gateway, Timestamp::now()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(identity.authorities.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, host) = (TlsConnector::from(Arc::new(config)), format!("portolan.{namespace}.svc"));
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, host) = (connector.clone(), ServerName::try_from(host.clone()).unwrap());
        async move {
            let stream = TcpStream::connect(to).await?;
            Ok::<_, io::Error>(TokioIo::new(connector.connect(host, stream).await?))
        }
    });
    let channel = Endpoint::from_static("http://xds").connect_with_connector(connect).await.unwrap();
    let reject: Reject = Arc::new(move |kind, _: &str, body: &[u8]| {
        let found = kind == ResourceType::VirtualHost
            && body.windows(rejects.len()).any(|part| part == rejects.as_bytes());
        found.then(|| format!("cannot use {rejects}"))
    });
    let known: Vec<(ResourceType, Vec<String>)> =
        has.iter().map(|(kind, held)| (*kind, held.keys().cloned().collect())).collect();
    let options = ClientOptions {
        node_id: "pod".into(),
        reject: Some(reject),
        follow: true,
        has,
        ..ClientOptions::default()
    };
    let client = AdsClient::open(channel, options).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    client.subscribe_all(ResourceType::Listener);
    // Envoy asks again for what its clusters and listeners refer to.
    let referred = [ResourceType::Endpoints, ResourceType::RouteConfiguration];
    for (kind, names) in known.iter().filter(|(kind, _)| referred.contains(kind)) {
        client.subscribe(*kind, &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    client
}

fn table_has(view: &View, text: &str) -> bool {
    let tables = view.get(&ResourceType::VirtualHost).into_iter().flat_map(BTreeMap::values);
    tables.flat_map(|held| held.body.windows(text.len())).any(|part| part == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_writes_what_a_proxy_of_the_follower_made_of_it() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("peers").await;
    objects.apply(&[web(&namespace), route(&namespace, "r", "/one")].concat()).await;
    let leader = Replica::ready(&server.configuration(), &namespace, "a").await;
    leader.comes_to_lead().await;
    let follower = Replica::ready(&server.configuration(), &namespace, "b").await;
    let followers = async || leader.status().await.map(|status| status["peers"]["followers"].clone());
    let one = |all: &Option<Value>| all.as_ref().is_some_and(|all| all.as_array().unwrap().len() == 1);
    until("the follower is connected", followers, one).await;
    fleet_serves(&objects, &namespace).await;
    has(&objects, &namespace, "HTTPRoute", "r", "Pending").await;

    let authorities = objects.authorities(&namespace).await;
    let to = follower.xds();
    let mut envoy = proxy(&authorities, &namespace, to, "/poison", View::new()).await;
    let before = has(&objects, &namespace, "Gateway", "web", "Programmed").await;
    has(&objects, &namespace, "HTTPRoute", "r", "Programmed").await;
    assert!(!follower.leads().await);

    // What it rejects is told on its route, and on no other.
    objects.apply(&[route(&namespace, "bad", "/poison"), route(&namespace, "good", "/other")].concat()).await;
    let rejected = has(&objects, &namespace, "HTTPRoute", "bad", "Invalid").await;
    assert!(rejected["message"].as_str().unwrap().contains("cannot use /poison"), "{rejected}");
    has(&objects, &namespace, "HTTPRoute", "good", "Programmed").await;
    envoy.wait_for(LIMIT, |view| table_has(view, "/other")).await.unwrap();

    // The follower dies, its proxy goes to the leader: nothing is taken back, and nothing is sent that it has.
    let view = envoy.view();
    follower.signal(Signal::KILL);
    envoy.wait_for_end(LIMIT).await.unwrap();
    let followers = async || leader.status().await.map(|status| status["peers"]["followers"].clone());
    until("the follower is gone", followers, |all| *all == Some(json!([]))).await;
    let mut envoy = proxy(&authorities, &namespace, leader.xds(), "/poison", view).await;
    objects.apply(&route(&namespace, "later", "/later")).await;
    envoy.wait_for(LIMIT, |view| table_has(view, "/later")).await.unwrap();
    has(&objects, &namespace, "HTTPRoute", "later", "Programmed").await;
    has(&objects, &namespace, "HTTPRoute", "bad", "Invalid").await;
    assert!(!table_has(&envoy.view(), "/poison"));
    let after = has(&objects, &namespace, "Gateway", "web", "Programmed").await;
    assert_eq!(after["lastTransitionTime"], before["lastTransitionTime"]);
    let kept = ["r", "good"].map(|name| (name, objects.gateway_api("HTTPRoute", &namespace, name)));
    for (name, route) in kept {
        assert_eq!(programmed(&route.await.unwrap())["status"], "True", "{name}");
    }
    objects.clear(&namespace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_rejected_is_known_after_all_replicas_were_killed() {
    let (_turn, server) = (Turn::take().await, ApiServer::shared().await);
    let objects = server.objects().await;
    let namespace = objects.namespace("memory").await;
    objects.apply(&[web(&namespace), route(&namespace, "r", "/one")].concat()).await;
    let replica = Replica::ready(&server.configuration(), &namespace, "a").await;
    replica.comes_to_lead().await;
    fleet_serves(&objects, &namespace).await;
    let authorities = objects.authorities(&namespace).await;
    let envoy = proxy(&authorities, &namespace, replica.xds(), "/poison", View::new()).await;
    objects.apply(&route(&namespace, "bad", "/poison")).await;
    has(&objects, &namespace, "HTTPRoute", "bad", "Invalid").await;
    let secret = ("v1", "Secret", namespace.as_str(), "portolan-rejections");
    let kept = async || objects.get(secret).await;
    until("what was rejected is kept", kept, |secret| secret.as_ref().is_some_and(holds_something)).await;
    replica.signal(Signal::KILL);
    drop((envoy, replica));

    // A proxy that knows nothing either: it is never sent what nobody asked it about.
    let replica = Replica::ready(&server.configuration(), &namespace, "b").await;
    replica.comes_to_lead().await;
    let mut envoy = proxy(&authorities, &namespace, replica.xds(), "nothing at all", View::new()).await;
    envoy.wait_for(LIMIT, |view| table_has(view, "/one")).await.unwrap();
    objects.apply(&route(&namespace, "later", "/later")).await;
    envoy.wait_for(LIMIT, |view| table_has(view, "/later")).await.unwrap();
    assert!(!table_has(&envoy.view(), "/poison"), "it was tried again");
    let rejected = has(&objects, &namespace, "HTTPRoute", "bad", "Invalid").await;
    assert!(rejected["message"].as_str().unwrap().contains("cannot use /poison"), "{rejected}");

    // Once it is right it is served, and nothing is kept of it.
    objects.apply(&route(&namespace, "bad", "/right")).await;
    envoy.wait_for(LIMIT, |view| table_has(view, "/right")).await.unwrap();
    has(&objects, &namespace, "HTTPRoute", "bad", "Programmed").await;
    until("nothing is kept any more", kept, |secret| !secret.as_ref().is_some_and(holds_something)).await;
    objects.clear(&namespace).await;
}

fn holds_something(secret: &Value) -> bool {
    secret["data"].as_object().is_some_and(|data| !data.is_empty())
}
