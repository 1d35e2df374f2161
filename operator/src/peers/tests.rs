//! Two replicas in one process, over TLS on loopback, and model proxies: what those on the follower acknowledge and reject
//! is what the leader says.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use portolan_xds::{
    ads::{
        AdsServer, ServerConfig,
        client::{AdsClient, ClientOptions, Reject, StreamEnded, View},
    },
    ir::Transport,
    store::ResourceType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint, Uri},
};

use super::*;
use crate::{
    fleet::GatewayName,
    identity::Authorities,
    leader::{Leader, Throne},
    metrics::Metrics,
    model::{Kind, ObjectKey, parse},
    resolve::{Environment, Placement},
    runtime::{Handle, KeepNothing, start},
    source::Batch,
};

const LIMIT: Duration = Duration::from_secs(20);
const TRUST: &str = "portolan.internal";
const HOST: &str = "portolan.test";

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

fn web() -> ObjectKey {
    ObjectKey::new(Kind::Gateway, "default", "web")
}

fn named(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::HttpRoute, "default", name)
}

/// A replica that serves the Gateway `default/web`.
struct Replica {
    name: &'static str,
    handle: Handle,
    throne: Throne,
    connections: Arc<Connections>,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.handle.stop();
    }
}

impl Replica {
    async fn start(name: &'static str, authorities: &Authorities, manifests: &[String]) -> Self {
        let metrics = Arc::new(Metrics::default());
        let (handle, _) = start(Arc::clone(&metrics), Box::new(KeepNothing), Environment::default()).unwrap();
        let (throne, leadership) = Throne::new();
        let connections = Arc::new(Connections::new(metrics));
        let shutdown = CancellationToken::new();
        let door = Door::new(handle.clone(), leadership.clone(), Arc::clone(&connections), shutdown.clone());
        let server =
            AdsServer::new(Arc::clone(handle.hub()), ServerConfig::default()).with_replicas(Arc::new(door));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = authorities.server_config(HOST, Timestamp::now()).unwrap();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            let (_keep, configs) = watch::channel(config);
            server.serve_tls(listener, configs, TRUST, stop).await.unwrap();
        });
        let line = Line {
            handle: handle.clone(),
            leadership,
            identity: name.to_owned(),
            authorities: watch::channel(Arc::new(authorities.clone())).1,
            trust_domain: TRUST.into(),
            host: HOST.to_owned(),
            connections: Arc::clone(&connections),
        };
        tokio::spawn(line.run(shutdown.clone()));
        let replica = Self { name, handle, throne, connections, address, shutdown };
        replica.apply(BASE);
        for manifest in manifests {
            replica.apply(manifest);
        }
        replica.handle.synced().unwrap();
        let placement = Placement::bound([((80, Transport::Tcp), Ok(vec![([127, 0, 0, 1], 80).into()]))]);
        replica.handle.placed(web(), Some(placement)).unwrap();
        replica.handle.ask(|_| ()).await.unwrap();
        replica
    }

    fn apply(&self, yaml: &str) {
        let changes = yaml.split("\n---\n").map(|document| {
            let json: Value = serde_saphyr::from_str(document).unwrap();
            let object = parse(Kind::from_name(json["kind"].as_str().unwrap()).unwrap(), &json).unwrap();
            (object.key().clone(), Some(object))
        });
        let batch = Batch { changes: changes.collect(), problems: Vec::new(), seen: Instant::now() };
        self.handle.changes(batch).unwrap();
    }

    /// What the Lease says, when that replica holds it.
    fn sees(&self, leader: Option<&Replica>) {
        let told = leader.map(|leader| Leader {
            identity: leader.name.to_owned(),
            address: Some(leader.address.to_string()),
        });
        self.throne.set(leader.is_some_and(|leader| leader.name == self.name), told);
    }

    async fn condition(&self, key: &ObjectKey) -> Value {
        let type_ = if key.kind == Kind::Gateway { "Programmed" } else { "portolan.dev/Programmed" };
        let asked = key.clone();
        let shown = self.handle.ask(move |core| core.status(&asked)).await.unwrap().unwrap();
        let own = shown["conditions"].as_array();
        let conditions = own.or_else(|| shown["parents"][0]["conditions"].as_array()).unwrap();
        conditions.iter().find(|one| one["type"] == type_).unwrap().clone()
    }

    /// Waits until an object is programmed, or is not for this reason, and gives the message.
    async fn until(&self, key: &ObjectKey, reason: &str) -> String {
        let mut changes = self.handle.standing_changed();
        let until = tokio::time::Instant::now() + LIMIT;
        loop {
            changes.borrow_and_update();
            let found = self.condition(key).await;
            if found["reason"] == reason {
                return found["message"].as_str().unwrap().to_owned();
            }
            tokio::time::timeout_at(until, changes.changed())
                .await
                .unwrap_or_else(|_| panic!("{key} on {} never was {reason}: {found:#}", self.name))
                .unwrap();
        }
    }

    async fn connected(&self, wanted: Value) {
        let until = tokio::time::Instant::now() + LIMIT;
        while self.connections.shown() != wanted {
            assert!(tokio::time::Instant::now() < until, "{}", self.connections.shown());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A proxy of this replica that rejects routes with this text.
    async fn envoy(&self, authorities: &Authorities, rejects: Option<&'static str>, has: View) -> AdsClient {
        let reject = rejects.map(|text| {
            let reject: Reject = Arc::new(move |kind, _: &str, body: &[u8]| {
                let found = kind == ResourceType::VirtualHost
                    && body.windows(text.len()).any(|part| part == text.as_bytes());
                found.then(|| format!("cannot use {text}"))
            });
            reject
        });
        let known = !has.is_empty();
        let options =
            ClientOptions { node_id: "test".into(), reject, follow: true, has, ..ClientOptions::default() };
        let channel = channel(self.address, proxy_config(authorities)).await.unwrap();
        let client = AdsClient::open(channel, options).await.unwrap();
        client.subscribe_all(ResourceType::Cluster);
        client.subscribe_all(ResourceType::Listener);
        if known {
            // Envoy asks again for what its clusters and listeners refer to.
            client.subscribe(ResourceType::Endpoints, &["default/blue/80"]);
            client.subscribe(ResourceType::RouteConfiguration, &["default/web/80"]);
        }
        client
    }
}

fn proxy_config(authorities: &Authorities) -> Arc<rustls::ClientConfig> {
    let identity = authorities.proxy(TRUST, &GatewayName::new("default", "web").unwrap(), Timestamp::now());
    let identity = identity.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(identity.authorities.as_bytes()).unwrap()).unwrap();
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
    Arc::new(config)
}

async fn channel(
    to: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(config);
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(to).await?;
            let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://xds").connect_with_connector(connect).await
}

/// `a` leads and `b` follows; both know these.
async fn two(manifests: &[String]) -> (Authorities, Replica, Replica) {
    let authorities = Authorities::new(Timestamp::now()).unwrap();
    let a = Replica::start("a", &authorities, manifests).await;
    let b = Replica::start("b", &authorities, manifests).await;
    a.sees(Some(&a));
    b.sees(Some(&a));
    a.connected(serde_json::json!({"followers": ["b"], "leader": null})).await;
    b.connected(serde_json::json!({"followers": [], "leader": "a"})).await;
    (authorities, a, b)
}

fn table_has(view: &View, text: &str) -> bool {
    let hosts = view.get(&ResourceType::VirtualHost).into_iter().flatten();
    let mut of_table = hosts.filter(|(name, _)| name.starts_with("default/web/80/"));
    of_table.any(|(_, held)| held.body.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_of_the_follower_acknowledges_is_programmed() {
    let (authorities, leader, follower) = two(&[route("a", "one")]).await;
    assert_eq!(leader.until(&web(), "Pending").await, "no proxy is connected");
    let mut proxy = follower.envoy(&authorities, None, View::new()).await;
    leader.until(&web(), "Programmed").await;
    leader.until(&named("a"), "Programmed").await;
    // The leader is first, and waits for the other's proxy.
    leader.apply(&route("a", "two"));
    leader.until(&named("a"), "Pending").await;
    follower.apply(&route("a", "two"));
    proxy.wait_for(LIMIT, |view| table_has(view, "two")).await.unwrap();
    leader.until(&named("a"), "Programmed").await;
    // The follower is first, and the leader knows what its proxy has when it has the same.
    follower.apply(&route("a", "three"));
    proxy.wait_for(LIMIT, |view| table_has(view, "three")).await.unwrap();
    leader.apply(&route("a", "three"));
    leader.until(&named("a"), "Programmed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_proxy_counts_wherever_it_is() {
    let (authorities, leader, follower) = two(&[route("a", "one")]).await;
    // The follower's first: what is programmed then is so because of it, and the leader knows of it.
    let _there = follower.envoy(&authorities, None, View::new()).await;
    leader.until(&web(), "Programmed").await;
    let mut here = leader.envoy(&authorities, None, View::new()).await;
    here.wait_for(LIMIT, |view| table_has(view, "one")).await.unwrap();
    let both = "1 of 2 proxies have not acknowledged it yet";
    leader.apply(&route("a", "two"));
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        let found = leader.condition(&named("a")).await;
        if found["message"] == both {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{found}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    follower.apply(&route("a", "two"));
    leader.until(&named("a"), "Programmed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_of_the_follower_rejects_is_told_on_its_object_and_put_back_everywhere() {
    let all: Vec<String> = (0..20).map(|index| route(&format!("r{index}"), "good")).collect();
    let (authorities, leader, follower) = two(&all).await;
    let mut there = follower.envoy(&authorities, Some("poison"), View::new()).await;
    leader.until(&named("r3"), "Programmed").await;
    let edit = [route("r7", "poison"), route("r3", "better"), route("r9", "better")].join("\n---\n");
    leader.apply(&edit);
    follower.apply(&edit);
    let message = leader.until(&named("r7"), "Invalid").await;
    assert!(message.contains("cannot use poison"), "{message}");
    leader.until(&named("r3"), "Programmed").await;
    leader.until(&named("r9"), "Programmed").await;
    leader.until(&web(), "Programmed").await;
    there.wait_for(LIMIT, |view| table_has(view, "better")).await.unwrap();
    // A proxy of the leader is never sent what another's could not use.
    let mut here = leader.envoy(&authorities, None, View::new()).await;
    here.wait_for(LIMIT, |view| table_has(view, "better")).await.unwrap();
    assert!(!table_has(&here.view(), "poison"));
    for replica in [&leader, &follower] {
        replica.apply(&route("r7", "healed"));
    }
    leader.until(&named("r7"), "Programmed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_leaders_proxies_reject_the_follower_puts_back_too() {
    let (authorities, leader, follower) = two(&[route("a", "good"), route("b", "good")]).await;
    let _here = leader.envoy(&authorities, Some("poison"), View::new()).await;
    leader.until(&named("a"), "Programmed").await;
    leader.apply(&route("a", "poison"));
    leader.until(&named("a"), "Invalid").await;
    follower.apply(&route("a", "poison"));
    follower.until(&named("a"), "Invalid").await;
    let mut there = follower.envoy(&authorities, None, View::new()).await;
    there.wait_for(LIMIT, |view| table_has(view, "a.example.com")).await.unwrap();
    assert!(!table_has(&there.view(), "poison"), "it serves the same as the leader instead");
    leader.apply(&route("b", "better"));
    follower.apply(&route("b", "better"));
    leader.until(&named("b"), "Programmed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_lost_flips_nothing_and_its_proxies_count_again_when_they_reconnect() {
    let (authorities, leader, follower) = two(&[route("a", "one")]).await;
    let proxy = follower.envoy(&authorities, None, View::new()).await;
    leader.until(&named("a"), "Programmed").await;
    let since = leader.condition(&web()).await["lastTransitionTime"].clone();
    let has = proxy.view();
    drop((proxy, follower));
    leader.connected(serde_json::json!({"followers": [], "leader": null})).await;
    for key in [web(), named("a")] {
        assert_eq!(leader.condition(&key).await["status"], "True");
    }
    leader.apply(&route("a", "two"));
    assert_eq!(leader.until(&named("a"), "Pending").await, "no proxy is connected");
    let _proxy = leader.envoy(&authorities, None, has).await;
    leader.until(&named("a"), "Programmed").await;
    assert_eq!(leader.condition(&web()).await["lastTransitionTime"], since);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_another_replica_leads_the_lines_turn_round() {
    let (authorities, a, b) = two(&[route("a", "one")]).await;
    let _proxy = a.envoy(&authorities, None, View::new()).await;
    a.until(&named("a"), "Programmed").await;
    b.sees(None);
    a.sees(None);
    a.connected(serde_json::json!({"followers": [], "leader": null})).await;
    b.sees(Some(&b));
    a.sees(Some(&b));
    b.until(&named("a"), "Programmed").await;
    b.connected(serde_json::json!({"followers": ["a"], "leader": null})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_certificate_is_no_replicas_and_a_replicas_is_no_gateways() {
    let (authorities, leader, follower) = two(&[]).await;
    let report = async |to: &Replica, config| {
        let mut grpc = Grpc::new(channel(to.address, config).await.unwrap());
        grpc.ready().await.unwrap();
        let hello = Report::Hello { replica: "mallory".into() };
        let requests = tokio_stream::once(hello).chain(tokio_stream::pending());
        let path = PathAndQuery::from_static(PATH);
        let codec = codec::Json::<Report, Verdicts>::default();
        let answered = grpc.streaming(Request::new(requests), path, codec).await;
        answered.map_or_else(|status: Status| status.code(), |_| Code::Ok)
    };
    let replica = || authorities.replica_config(TRUST, Timestamp::now()).unwrap();
    let elsewhere = authorities.replica_config("elsewhere.local", Timestamp::now()).unwrap();
    assert_eq!(report(&leader, proxy_config(&authorities)).await, Code::PermissionDenied);
    assert_eq!(report(&leader, elsewhere).await, Code::PermissionDenied);
    assert_eq!(report(&follower, replica()).await, Code::Unavailable, "it does not lead");
    leader.connected(serde_json::json!({"followers": ["b"], "leader": null})).await;
    assert_eq!(report(&leader, replica()).await, Code::Ok);
    let channel = channel(leader.address, replica()).await.unwrap();
    let StreamEnded(status) = AdsClient::open(channel, ClientOptions::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

/// Messages are what another version of this program may have sent.
#[test]
fn a_report_reads_back() {
    let entry = Entry {
        resource: ResourceKey { kind: ResourceType::Cluster, name: "c".into() },
        version: Some(Version::of(b"x")),
        accepted: true,
    };
    let gateway = GatewayKey::new("apps", "web");
    let report =
        Report::Stream(StreamReport { gateway, stream: 7, entries: vec![entry], fresh: true, closed: false });
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    let _: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
}
