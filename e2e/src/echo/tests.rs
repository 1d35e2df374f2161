//! The echo backend against real clients: a test that relies on it must not have to doubt it.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::Message;

use super::cert::Authority;
use super::grpc::{EchoReply, EchoRequest};
use super::{ANY_LOOPBACK, Echo, EchoConfig, TlsConfig};

type TestClient = Client<HttpConnector, Full<Bytes>>;

async fn start() -> (Echo, TestClient, String) {
    let echo = Echo::start(EchoConfig::http("one")).await.unwrap();
    let base = format!("http://{}", echo.addresses().http.unwrap());
    (echo, Client::builder(TokioExecutor::new()).build_http(), base)
}

fn get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
}

async fn json(response: Response<hyper::body::Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn http1_and_http2_share_a_port() {
    let (_echo, http1, base) = start().await;
    let http2: TestClient = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for (client, proto) in [(http1, "HTTP/1.1"), (http2, "HTTP/2.0")] {
        let request = Request::get(format!("{base}/a/b?c=d"))
            .header("X-Two", "1")
            .header("X-Two", "2")
            .body(Full::default());
        let answer = json(client.request(request.unwrap()).await.unwrap()).await;
        assert_eq!(answer["proto"], proto);
        assert_eq!(answer["path"], "/a/b?c=d");
        assert_eq!(answer["host"], base.strip_prefix("http://").unwrap());
        assert_eq!(answer["instance"], "one");
        assert_eq!(answer["headers"]["x-two"], serde_json::json!(["1", "2"]));
        assert_eq!(answer["headers"].get("host"), None);
    }
}

#[tokio::test]
async fn answers_are_steered_by_the_request() {
    let (echo, client, base) = start().await;
    let status = |uri: String| {
        let client = client.clone();
        async move { client.request(get(&uri)).await.unwrap().status() }
    };
    assert_eq!(status(format!("{base}/status/503")).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(format!("{base}/x/status/404")).await, StatusCode::NOT_FOUND);
    assert_eq!(status(format!("{base}/status/9")).await, StatusCode::BAD_REQUEST);
    let failing = format!("{base}/r?fail=2&id=u&code=502");
    assert_eq!(status(failing.clone()).await, StatusCode::BAD_GATEWAY);
    assert_eq!(status(failing.clone()).await, StatusCode::BAD_GATEWAY);
    assert_eq!(status(failing).await, StatusCode::OK);

    let before = std::time::Instant::now();
    assert_eq!(status(format!("{base}/?delay=200ms")).await, StatusCode::OK);
    assert!(before.elapsed() >= Duration::from_millis(200));

    let request = Request::get(&base).header("X-Echo-Set-Header", "a: 1, b:2").body(Full::default()).unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.headers()["a"], "1");
    assert_eq!(response.headers()["b"], "2");

    let body = Bytes::from(vec![7; 3_000_000]);
    let request = Request::post(format!("{base}/echo-body")).body(Full::new(body.clone())).unwrap();
    let answer = client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, body);
    let bytes = client.request(get(&format!("{base}/bytes/100000"))).await.unwrap();
    assert_eq!(bytes.into_body().collect().await.unwrap().to_bytes().len(), 100_000);

    let seen = json(client.request(get(&format!("{base}/_seen?path=%2Fr"))).await.unwrap()).await;
    assert_eq!(seen["count"], 3);
    assert_eq!(seen["requests"].as_array().unwrap().len(), 3);
    assert_eq!(echo.counts()["/r"], 3);
    assert_eq!(echo.seen("/r").len(), 3);
}

#[tokio::test]
async fn grpc_answers_any_method() {
    let (_echo, _, base) = start().await;
    let channel = tonic::transport::Endpoint::from_shared(base).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    let call = |message: &str| {
        let mut request = tonic::Request::new(EchoRequest { message: message.to_owned() });
        request.metadata_mut().insert("x-test", "yes".parse().unwrap());
        request
    };
    let path = http::uri::PathAndQuery::from_static("/pkg.Service/Do");
    let codec = || tonic_prost::ProstCodec::<EchoRequest, EchoReply>::default();
    client.ready().await.unwrap();
    let reply = client.unary(call("hello"), path.clone(), codec()).await.unwrap().into_inner();
    assert_eq!((reply.service.as_str(), reply.method.as_str()), ("pkg.Service", "Do"));
    assert_eq!((reply.message.as_str(), reply.instance.as_str()), ("hello", "one"));
    assert!(reply.headers.iter().any(|header| header.name == "x-test" && header.value == "yes"));

    let mut failing = call("hello");
    failing.metadata_mut().insert("x-echo-grpc-status", "14".parse().unwrap());
    client.ready().await.unwrap();
    let error = client.unary::<EchoRequest, EchoReply, _>(failing, path, codec()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn websocket_echoes() {
    let (echo, _, _) = start().await;
    let address = echo.addresses().http.unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    socket.send(Message::text("?request")).await.unwrap();
    let about: Value =
        serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
    assert_eq!(about["path"], "/ws");
    echo.shutdown().await;
    assert!(matches!(socket.next().await, None | Some(Ok(Message::Close(_)) | Err(_))));
}

#[tokio::test]
async fn tcp_and_udp_name_the_instance() {
    let mut config = EchoConfig::http("two");
    config.http = None;
    config.tcp = Some(ANY_LOOPBACK);
    config.udp = Some(ANY_LOOPBACK);
    let echo = Echo::start(config).await.unwrap();
    let mut stream = TcpStream::connect(echo.addresses().tcp.unwrap()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "two:hello");

    let socket = UdpSocket::bind(ANY_LOOPBACK).await.unwrap();
    socket.send_to(b"hello", echo.addresses().udp.unwrap()).await.unwrap();
    let mut buffer = [0; 64];
    let length =
        tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"two:hello");
    echo.shutdown().await;
}

#[tokio::test]
async fn tls_tells_what_was_agreed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test").unwrap();
    let server = authority.server(&["a.example".to_owned()]).unwrap();
    let client = authority.client("someone").unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca"), authority.certificate()).unwrap();
    std::fs::write(path("crt"), &server.certificate).unwrap();
    std::fs::write(path("key"), &server.key).unwrap();
    let mut config = EchoConfig::http("tls");
    config.tls = Some(TlsConfig {
        address: ANY_LOOPBACK,
        certificate: path("crt"),
        key: path("key"),
        client_ca: Some(path("ca")),
    });
    let echo = Echo::start(config).await.unwrap();

    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls_pki_types::CertificateDer::from_pem_file(path("ca")).unwrap()).unwrap();
        rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
    };
    let request = |config: rustls::ClientConfig| {
        let address = echo.addresses().https.unwrap();
        async move {
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
            let stream = TcpStream::connect(address).await.unwrap();
            let stream = connector.connect("a.example".try_into().unwrap(), stream).await?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            let request =
                Request::get("/").header("host", "a.example").body(Full::<Bytes>::default()).unwrap();
            sender.send_request(request).await.map_err(std::io::Error::other)
        }
    };
    let certificate =
        rustls_pki_types::CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap();
    let response = request(builder().with_client_auth_cert(vec![certificate], key).unwrap()).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_11);
    let answer = json(response).await;
    assert_eq!(answer["tls"]["serverName"], "a.example");
    assert_eq!(answer["tls"]["version"], "TLSv1_3");
    let shown = answer["tls"]["peerCertificates"][0].as_str().unwrap();
    assert_eq!(shown.replace('\n', ""), client.certificate.replace(['\r', '\n'], ""));
    assert!(request(builder().with_no_client_auth()).await.is_err(), "a client certificate is required");
    echo.shutdown().await;
}
