//! Who is let in on the xDS port, and what each gets: a proxy of one Gateway never gets a byte of another's secrets.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use portolan::{fleet::cluster::Identity, identity::Authorities};
use portolan_e2e::{
    echo::cert::{Authority, Pair},
    stage::{HOST, Stage, TRUST_DOMAIN},
};
use portolan_xds::{
    ads::client::{AdsClient, ClientOptions, StreamEnded},
    store::ResourceType,
};
use portolan_xds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use prost::Message as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};

const LIMIT: Duration = Duration::from_secs(20);

/// A connection that keeps what it reads, as it was before it was encrypted.
struct Tapped {
    stream: TlsStream<TcpStream>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.heard.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        read
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A client's side of TLS: whom it trusts, and what it shows.
fn client_config(authorities: &str, identity: Option<&Identity>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn connect(
    address: SocketAddr,
    config: rustls::ClientConfig,
    heard: Arc<Mutex<Vec<u8>>>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, heard) = (connector.clone(), Arc::clone(&heard));
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await?;
            Ok::<_, io::Error>(TokioIo::new(Tapped { stream, heard }))
        }
    });
    Endpoint::from_static("http://xds").connect_with_connector(connect).await
}

/// Opens a stream with this identity.
async fn open(
    stage: &Stage,
    identity: Option<&Identity>,
    options: ClientOptions,
) -> Result<(AdsClient, Arc<Mutex<Vec<u8>>>), StreamEnded> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let config = client_config(&stage.authorities.bundle(), identity);
    let unavailable = |error: tonic::transport::Error| StreamEnded(Status::unavailable(error.to_string()));
    let channel = connect(stage.address(), config, Arc::clone(&heard)).await.map_err(unavailable)?;
    Ok((AdsClient::open(channel, options).await?, heard))
}

async fn refusal(stage: &Stage, identity: Option<&Identity>) -> Code {
    open(stage, identity, ClientOptions::default()).await.map(drop).unwrap_err().0.code()
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["    ", line, "\n"]).collect()
}

/// Two Gateways in one namespace, each with a certificate of its own.
fn two_gateways(one: &Pair, other: &Pair) -> String {
    let gateway = |name: &str, pair: &Pair| {
        format!(
            "---
kind: Gateway
metadata: {{name: {name}, namespace: apps}}
spec:
  gatewayClassName: portolan
  listeners:
  - {{name: https, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: {name}}}]}}}}
---
kind: Secret
metadata: {{name: {name}, namespace: apps}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
            indented(&pair.certificate),
            indented(&pair.key)
        )
    };
    format!(
        "kind: GatewayClass
metadata: {{name: portolan}}
spec: {{controllerName: portolan.dev/gateway-controller}}
{}{}",
        gateway("one", one),
        gateway("other", other)
    )
}

fn pair(authority: &Authority, host: &str) -> Pair {
    authority.server(&[host.to_owned()]).unwrap()
}

async fn stage() -> (Stage, Pair, Pair) {
    let authority = Authority::new("test").unwrap();
    let (one, other) = (pair(&authority, "one.test"), pair(&authority, "other.test"));
    let stage = Stage::start(&two_gateways(&one, &other), Ipv4Addr::LOCALHOST.into()).await;
    (stage, one, other)
}

/// Lines of a key and its certificate that the other pair does not have: both certificates are of one authority.
fn marks<'a>(pair: &'a Pair, other: &Pair) -> Vec<&'a str> {
    let lines = pair.key.lines().chain(pair.certificate.lines());
    let own = |line: &&str| !other.key.contains(*line) && !other.certificate.contains(*line);
    let marks: Vec<_> = lines.filter(|line| line.len() >= 40).filter(own).collect();
    assert!(marks.len() > 4, "{marks:?}");
    marks
}

fn contains(heard: &[u8], text: &str) -> bool {
    heard.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_never_gets_a_byte_of_another_gateways_secrets() {
    let (stage, one, other) = stage().await;
    // It says that it is the other one, and asks for everything that is the other one's.
    let options = ClientOptions { node_id: "apps/other".to_owned(), ..ClientOptions::default() };
    let (mut client, heard) = open(&stage, Some(&stage.identity("apps/one")), options).await.unwrap();
    for kind in ResourceType::ORDER {
        client.subscribe(kind, &["apps/other", "apps/other/8443", "apps/other/8443/*", "*"]);
    }
    client.subscribe(ResourceType::Secret, &["apps/one"]);
    let own = |view: &portolan_xds::ads::client::View| {
        view.get(&ResourceType::Secret).is_some_and(|secrets| secrets.contains_key("apps/one"))
            && view.get(&ResourceType::Listener).is_some_and(|all| all.contains_key("apps/one/8443"))
    };
    client.wait_for(LIMIT, own).await.unwrap();
    // Whatever else was asked for is answered on the same stream before a name that is asked for now.
    client.subscribe(ResourceType::Secret, &["apps/none"]);
    tokio::time::timeout(LIMIT, async {
        loop {
            let received = client.responses.recv().await.expect("the stream goes on");
            if received.response.removed_resources.iter().any(|name| name == "apps/none") {
                return;
            }
        }
    })
    .await
    .expect("the last name is answered");
    let heard = heard.lock().unwrap();
    for mark in marks(&one, &other) {
        assert!(contains(&heard, mark), "its own pair is not where this test looks for pairs");
    }
    for mark in marks(&other, &one) {
        assert!(!contains(&heard, mark), "another Gateway's {mark}");
    }
    for (kind, resources) in client.view() {
        for (name, held) in resources.into_iter().filter(|(name, _)| name.contains("other")) {
            // Endpoints are always answered: of a cluster that there is not, there are none.
            assert_eq!(kind, ResourceType::Endpoints, "{name}");
            assert_eq!(ClusterLoadAssignment::decode(held.body).unwrap().endpoints, [], "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_is_refused() {
    let (stage, ..) = stage().await;
    assert_eq!(refusal(&stage, None).await, Code::Unauthenticated, "none");
    assert_eq!(
        refusal(&stage, Some(&stage.identity("apps/unknown"))).await,
        Code::NotFound,
        "no such Gateway"
    );
    let now = Timestamp::now();
    let proxy = |authorities: &Authorities, trust_domain: &str, now| {
        authorities.proxy(trust_domain, &"apps/one".parse().unwrap(), now).unwrap()
    };
    let foreign = proxy(&stage.authorities, "elsewhere.local", now);
    assert_eq!(refusal(&stage, Some(&foreign)).await, Code::PermissionDenied, "another trust domain");
    let stranger = proxy(&Authorities::new(now).unwrap(), TRUST_DOMAIN, now);
    assert_ne!(refusal(&stage, Some(&stranger)).await, Code::Ok, "another authority");
    let long_ago = Timestamp::from_second(now.as_second() - 3 * 24 * 3600).unwrap();
    let expired = proxy(&stage.authorities, TRUST_DOMAIN, long_ago);
    assert_ne!(refusal(&stage, Some(&expired)).await, Code::Ok, "an expired one");
    let server = stage.authorities.server(HOST, now).unwrap();
    let server = Identity { certificate: server.certificate, key: server.key, authorities: String::new() };
    assert_ne!(refusal(&stage, Some(&server)).await, Code::Ok, "the server's own");
    assert!(stage.registry().read(portolan_xds::ads::Registry::is_empty), "nobody of them got a stream");
    open(&stage, Some(&stage.identity("apps/one")), ClientOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewing_the_servers_certificate_ends_no_stream() {
    let (stage, ..) = stage().await;
    let (mut client, _) =
        open(&stage, Some(&stage.identity("apps/one")), ClientOptions::default()).await.unwrap();
    client.subscribe_all(ResourceType::Cluster);
    stage.renew(&stage.authorities);
    open(&stage, Some(&stage.identity("apps/one")), ClientOptions::default()).await.unwrap();
    client.subscribe(ResourceType::Secret, &["apps/one"]);
    let got = |view: &portolan_xds::ads::client::View| {
        view.get(&ResourceType::Secret).is_some_and(|secrets| secrets.contains_key("apps/one"))
    };
    client.wait_for(LIMIT, got).await.unwrap();
}
