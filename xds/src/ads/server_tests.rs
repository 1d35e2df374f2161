//! The server over real connections: a Unix socket, and mutual TLS on loopback.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portolan_xds_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use portolan_xds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate as Pem, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use super::client::{AdsClient, ClientOptions, StreamEnded, version_of};
use super::*;
use crate::GatewayKey;
use crate::store::{Resource, ResourceType, Seq};

const LIMIT: Duration = Duration::from_secs(20);

/// One Gateway, `apps/public`, and every event of its streams.
struct World {
    gateway: GatewayKey,
    store: Arc<SharedStore>,
    ready: AtomicBool,
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
}

impl Programs for World {
    fn store(&self, gateway: &GatewayKey) -> Option<Arc<SharedStore>> {
        (*gateway == self.gateway).then(|| Arc::clone(&self.store))
    }

    fn on_event(&self, gateway: &GatewayKey, _: StreamId, event: Event) {
        assert_eq!(*gateway, self.gateway);
        self.events.lock().unwrap().push(event);
        self.count.send_modify(|count| *count += 1);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl World {
    fn new() -> Arc<Self> {
        let world = Self {
            gateway: GatewayKey::new("apps", "public"),
            store: Arc::new(SharedStore::default()),
            ready: AtomicBool::new(true),
            events: Mutex::new(Vec::new()),
            count: watch::Sender::new(0),
        };
        Arc::new(world)
    }

    fn put(&self, kind: ResourceType, name: &str, body: &str) {
        let resource = Resource::new(name, body.as_bytes().to_vec().into(), Vec::new());
        self.store.edit(|edit| edit.upsert(kind, resource));
    }

    async fn wait_for_event(&self, wanted: impl Fn(&Event) -> bool) {
        let mut count = self.count.subscribe();
        let waiting = async {
            while !self.events.lock().unwrap().iter().any(&wanted) {
                count.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.expect("the event comes");
    }
}

struct Running<'a> {
    world: Arc<World>,
    server: AdsServer<World>,
    socket: std::path::PathBuf,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    _folder: &'a tempfile::TempDir,
}

fn serve_unix<'a>(world: &Arc<World>, folder: &'a tempfile::TempDir, config: ServerConfig) -> Running<'a> {
    let socket = folder.path().join("ads.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = AdsServer::new(Arc::clone(world), config);
    let shutdown = CancellationToken::new();
    let (serving, gateway, token) = (server.clone(), world.gateway.clone(), shutdown.clone());
    let task = tokio::spawn(async move { serving.serve_unix(listener, gateway, token).await });
    Running { world: Arc::clone(world), server, socket, shutdown, task, _folder: folder }
}

async fn channel(running: &Running<'_>) -> Channel {
    let uri = format!("unix:{}", running.socket.display());
    Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
}

fn has(view: &client::View, kind: ResourceType, name: &str, body: &str) -> bool {
    view.get(&kind)
        .and_then(|held| held.get(name))
        .is_some_and(|held| held.version == version_of(body.as_bytes()) && *held.body == *body.as_bytes())
}

#[tokio::test]
async fn a_proxy_on_a_unix_socket_gets_its_gateway_and_every_change() {
    let world = World::new();
    world.put(ResourceType::Cluster, "a", "1");
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&world, &folder, ServerConfig::default());
    let options = ClientOptions { node_id: "pod-1".to_owned(), ..ClientOptions::default() };
    let mut client = AdsClient::connect_unix(&running.socket, options).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    client.subscribe_all(ResourceType::Listener);
    client.wait_for(LIMIT, |view| has(view, ResourceType::Cluster, "a", "1")).await.unwrap();
    world.put(ResourceType::Cluster, "a", "2");
    client.wait_for(LIMIT, |view| has(view, ResourceType::Cluster, "a", "2")).await.unwrap();
    world.wait_for_event(|event| matches!(event, Event::Progress { acked_through: Seq(2) })).await;
    let entry = running.server.registry().read(|registry| registry.iter().next().unwrap().1.clone());
    assert_eq!((&*entry.summary.node.id, entry.summary.acked_through), ("pod-1", Seq(2)));
    drop(client);
    world.wait_for_event(|event| matches!(event, Event::Closed { .. })).await;
    assert!(running.server.registry().read(Registry::is_empty));
}

#[tokio::test]
async fn what_a_client_asks_for_with_the_stream_comes_without_another_word() {
    let world = World::new();
    world.put(ResourceType::Cluster, "a", "1");
    world.put(ResourceType::Listener, "l", "1");
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&world, &folder, ServerConfig::default());
    let first = vec![ResourceType::Cluster, ResourceType::Listener];
    let options = ClientOptions { first, ..ClientOptions::default() };
    let mut client = AdsClient::connect_unix(&running.socket, options).await.unwrap();
    let both = |view: &client::View| {
        has(view, ResourceType::Cluster, "a", "1") && has(view, ResourceType::Listener, "l", "1")
    };
    client.wait_for(LIMIT, both).await.unwrap();
}

#[tokio::test]
async fn a_rejection_is_told_with_the_reason() {
    let world = World::new();
    world.put(ResourceType::Cluster, "bad", "1");
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&world, &folder, ServerConfig::default());
    let options = ClientOptions {
        reject: Some(Arc::new(|_, name, _| (name == "bad").then(|| "no such thing".to_owned()))),
        ..ClientOptions::default()
    };
    let client = AdsClient::connect_unix(&running.socket, options).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    let told =
        |event: &Event| matches!(event, Event::Nacked { message, .. } if &**message == "bad: no such thing");
    world.wait_for_event(told).await;
    assert!(client.get(ResourceType::Cluster, "bad").is_none());
}

#[tokio::test]
async fn a_reconnecting_proxy_is_sent_nothing_that_it_has() {
    let world = World::new();
    for name in ["a", "b"] {
        world.put(ResourceType::Cluster, name, "1");
    }
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&world, &folder, ServerConfig::default());
    let mut client = AdsClient::connect_unix(&running.socket, ClientOptions::default()).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    client.wait_for(LIMIT, |view| has(view, ResourceType::Cluster, "b", "1")).await.unwrap();
    let options = ClientOptions { has: client.view(), ..ClientOptions::default() };
    drop(client);
    world.put(ResourceType::Cluster, "b", "2");
    let mut client = AdsClient::connect_unix(&running.socket, options).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    let first = tokio::time::timeout(LIMIT, client.responses.recv()).await.unwrap().unwrap();
    let names: Vec<_> = first.response.resources.iter().map(|each| each.name.as_str()).collect();
    assert_eq!(names, ["b"]);
}

#[tokio::test]
async fn streams_are_refused_before_the_first_sync() {
    let world = World::new();
    world.ready.store(false, Ordering::Relaxed);
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&world, &folder, ServerConfig::default());
    let refused = AdsClient::connect_unix(&running.socket, ClientOptions::default()).await.unwrap_err();
    assert_eq!(refused.0.code(), Code::Unavailable, "{refused}");
    world.ready.store(true, Ordering::Relaxed);
    AdsClient::connect_unix(&running.socket, ClientOptions::default()).await.unwrap();
}

#[tokio::test]
async fn everything_but_delta_ads_is_unimplemented() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&World::new(), &folder, ServerConfig::default());
    let channel = channel(&running).await;
    let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
    let none = futures::stream::empty::<DiscoveryRequest>();
    let refused = client.stream_aggregated_resources(none).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("DELTA_GRPC"), "{refused}");
    let mut other = tonic::client::Grpc::new(channel);
    other.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(
        "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
    );
    let codec = tonic_prost::ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryRequest>::default();
    let request = tonic::Request::new(DeltaDiscoveryRequest::default());
    let refused = other.unary(request, path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn shutdown_ends_the_streams_and_returns() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&World::new(), &folder, ServerConfig::default());
    let mut client = AdsClient::connect_unix(&running.socket, ClientOptions::default()).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    client.wait_for(LIMIT, |view| view.contains_key(&ResourceType::Cluster)).await.unwrap();
    running.shutdown.cancel();
    let status = client.wait_for_end(LIMIT).await.unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    tokio::time::timeout(LIMIT, running.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_proxy_is_told_why_its_request_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = ServerConfig { max_request_bytes: 100, ..ServerConfig::default() };
    let running = serve_unix(&World::new(), &folder, config);
    let options = ClientOptions { node_id: "long".repeat(100), ..ClientOptions::default() };
    let mut client = AdsClient::connect_unix(&running.socket, options).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    let status = client.wait_for_end(LIMIT).await.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("at most 100"), "{status}");
}

#[tokio::test]
async fn a_gateway_that_goes_ends_its_streams() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&World::new(), &folder, ServerConfig::default());
    let mut client = AdsClient::connect_unix(&running.socket, ClientOptions::default()).await.unwrap();
    running.world.store.close();
    let status = client.wait_for_end(LIMIT).await.unwrap();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}

#[tokio::test]
async fn a_proxy_that_does_not_read_is_dropped_and_costs_bounded_memory() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let config = ServerConfig { read_timeout: Duration::from_millis(200), ..ServerConfig::default() };
    let running = serve_unix(&world, &folder, config);
    let mut client =
        AggregatedDiscoveryServiceClient::new(channel(&running).await).max_decoding_message_size(usize::MAX);
    // Larger than every window and socket buffer together, so that it cannot be written unread.
    let large = "x".repeat(4 << 20);
    for kind in ResourceType::ORDER {
        world.put(kind, "a", &large);
    }
    let requests = ResourceType::ORDER.map(|kind| DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: vec!["a".to_owned()],
        ..DeltaDiscoveryRequest::default()
    });
    let held = futures::StreamExt::chain(futures::stream::iter(requests), futures::stream::pending());
    let unread = client.delta_aggregated_resources(held).await.unwrap();
    let dropped = |event: &Event| matches!(event, Event::Closed { reason } if reason.contains("not read"));
    world.wait_for_event(dropped).await;
    drop(unread);
}

// ---- Mutual TLS ----

struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, names: &[&str], uris: &[&str], usage: ExtendedKeyUsagePurpose) -> (Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn client(&self, uris: &[&str]) -> Identity {
        let (certificate, key) = self.sign(&[], uris, ExtendedKeyUsagePurpose::ClientAuth);
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }

    fn server(&self) -> Arc<rustls::ServerConfig> {
        let (certificate, key) = self.sign(&["localhost"], &[], ExtendedKeyUsagePurpose::ServerAuth);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        tls::server_config(vec![certificate.der().clone()], key, [self.certificate.der().clone()]).unwrap()
    }
}

struct Secured {
    world: Arc<World>,
    authority: Authority,
    address: std::net::SocketAddr,
    configs: watch::Sender<Arc<rustls::ServerConfig>>,
    _stop: tokio_util::sync::DropGuard,
}

async fn serve_tls() -> Secured {
    let world = World::new();
    world.put(ResourceType::Cluster, "a", "1");
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (configs, receiver) = watch::channel(authority.server());
    let server = AdsServer::new(Arc::clone(&world), ServerConfig::default());
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move { server.serve_tls(listener, receiver, "cluster.local", token).await });
    Secured { world, authority, address, configs, _stop: shutdown.drop_guard() }
}

impl Secured {
    async fn connect(
        &self,
        authority: &Authority,
        identity: Option<Identity>,
    ) -> Result<AdsClient, StreamEnded> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Pem::from_pem(authority.certificate.pem()))
            .domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        let unreachable =
            |error: tonic::transport::Error| StreamEnded(Status::unavailable(error.to_string()));
        let channel = endpoint.tls_config(tls).unwrap().connect().await.map_err(unreachable)?;
        AdsClient::open(channel, ClientOptions::default()).await
    }

    async fn refusal(&self, identity: Option<Identity>) -> Status {
        self.connect(&self.authority, identity).await.map(drop).unwrap_err().0
    }
}

const RIGHT: &str = "spiffe://cluster.local/ns/apps/gateway/public";

#[tokio::test]
async fn a_certificate_of_the_gateway_is_served() {
    let secured = serve_tls().await;
    let identity = secured.authority.client(&[RIGHT]);
    let mut client = secured.connect(&secured.authority, Some(identity)).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    client.wait_for(LIMIT, |view| has(view, ResourceType::Cluster, "a", "1")).await.unwrap();
}

#[tokio::test]
async fn a_missing_certificate_is_unauthenticated() {
    let secured = serve_tls().await;
    assert_eq!(secured.refusal(None).await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_certificate_of_another_form_or_trust_domain_is_denied() {
    let secured = serve_tls().await;
    let cases: BTreeMap<&str, Vec<&str>> = [
        ("no URI", vec![]),
        ("two URIs", vec![RIGHT, "spiffe://cluster.local/ns/apps/gateway/other"]),
        ("another domain", vec!["spiffe://other/ns/apps/gateway/public"]),
        ("a service account", vec!["spiffe://cluster.local/ns/apps/sa/public"]),
    ]
    .into();
    for (case, uris) in cases {
        let status = secured.refusal(Some(secured.authority.client(&uris))).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{case}: {status}");
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_exist_is_not_found() {
    let secured = serve_tls().await;
    let identity = secured.authority.client(&["spiffe://cluster.local/ns/apps/gateway/other"]);
    assert_eq!(secured.refusal(Some(identity)).await.code(), Code::NotFound);
}

#[tokio::test]
async fn a_certificate_of_another_authority_does_not_get_through() {
    let secured = serve_tls().await;
    let identity = Authority::new().client(&[RIGHT]);
    let status = secured.refusal(Some(identity)).await;
    assert!(!matches!(status.code(), Code::Ok | Code::NotFound), "{status}");
    assert!(secured.world.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_rotated_server_certificate_serves_new_connections_and_keeps_the_old() {
    let secured = serve_tls().await;
    let identity = secured.authority.client(&[RIGHT]);
    let mut old = secured.connect(&secured.authority, Some(identity.clone())).await.unwrap();
    old.subscribe_all(ResourceType::Cluster);
    let next = Authority::new();
    secured.configs.send_replace(next.server());
    assert!(secured.connect(&secured.authority, Some(identity)).await.is_err());
    secured.connect(&next, Some(next.client(&[RIGHT]))).await.unwrap();
    secured.world.put(ResourceType::Cluster, "a", "2");
    old.wait_for(LIMIT, |view| has(view, ResourceType::Cluster, "a", "2")).await.unwrap();
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let secured = serve_tls().await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(secured.authority.certificate.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(secured.address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    assert!(connector.connect(name, stream).await.is_err());
}

#[tokio::test]
async fn ten_thousand_resources_arrive_in_bounded_responses() {
    let world = World::new();
    world.store.edit(|edit| {
        for index in 0..10_000 {
            let name = format!("cluster-{index:05}");
            edit.upsert(ResourceType::Cluster, Resource::new(name.as_str(), name.clone().into(), Vec::new()));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let running = serve_unix(&world, &folder, ServerConfig::default());
    let started = Instant::now();
    let mut client = AdsClient::connect_unix(&running.socket, ClientOptions::default()).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    let all = |view: &client::View| view.get(&ResourceType::Cluster).is_some_and(|it| it.len() == 10_000);
    client.wait_for(LIMIT, all).await.unwrap();
    eprintln!("10,000 clusters in {:?}", started.elapsed());
    for _ in 0..5 {
        let received = client.responses.recv().await.unwrap();
        assert!(received.response.resources.len() <= 2_000);
    }
}
