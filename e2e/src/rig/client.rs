//! A client that shows everything and smooths over nothing: no pool, no redirects, no retries.
//!
//! A [`Target`] says where and how to connect, an [`Ask`] what to send, an [`Answer`] what came back. Asking a target opens a
//! fresh connection; a [`Connection`] is kept open.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::echo::cert::Pair;

/// Longest wait for a connection, or for one answer.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// The handshake of TLS failed.
    #[error("TLS handshake: {0}")]
    Tls(std::io::Error),
    /// The connection broke, or what came is not HTTP.
    #[error("{}", chain(.0))]
    Http(#[from] hyper::Error),
    /// The connection was closed before anything of the request was sent: it may be asked again on another one.
    #[error("not sent: {}", chain(.0))]
    Unsent(hyper::Error),
    /// Nothing came.
    #[error("no answer within {LIMIT:?}")]
    Late,
}

fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    tls: bool,
    server_name: Option<String>,
    http2: bool,
    own: Option<Arc<Pair>>,
}

impl Target {
    /// HTTP/1.1 in clear text.
    pub fn http(address: SocketAddr) -> Self {
        Self { address, tls: false, server_name: None, http2: false, own: None }
    }

    /// HTTP/1.1 over TLS, with that server name (SNI).
    pub fn https(address: SocketAddr, server_name: &str) -> Self {
        Self { address, tls: true, server_name: Some(server_name.to_owned()), http2: false, own: None }
    }

    /// HTTP/1.1 over TLS, without a server name.
    pub fn https_without_name(address: SocketAddr) -> Self {
        Self { address, tls: true, server_name: None, http2: false, own: None }
    }

    /// HTTP/2 instead of HTTP/1.1: by ALPN over TLS, by prior knowledge in clear text.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Shows this certificate where the server asks for one.
    #[must_use]
    pub fn showing(mut self, own: &Pair) -> Self {
        self.own = Some(Arc::new(own.clone()));
        self
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Where it is refused, or the handshake fails.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        tokio::time::timeout(LIMIT, self.open()).await.unwrap_or(Err(ClientError::Late))
    }

    async fn open(&self) -> Result<Connection, ClientError> {
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.map_err(|error| ClientError::Connect(self.address, error))?;
        stream.set_nodelay(true).map_err(|error| ClientError::Connect(self.address, error))?;
        if !self.tls {
            return self.speak(stream, None).await;
        }
        let protocols: &[&[u8]] = if self.http2 { &[b"h2"] } else { &[b"http/1.1"] };
        let connector =
            TlsConnector::from(tls::config(protocols, self.server_name.is_some(), self.own.as_deref()));
        // Without SNI the name is not sent, and any certificate is taken anyway.
        let name = self.server_name.clone().unwrap_or_else(|| "unnamed.example".to_owned());
        let name = ServerName::try_from(name).expect("a host name");
        let stream = connector.connect(name, stream).await.map_err(ClientError::Tls)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|one| one.as_ref().to_vec());
        self.speak(stream, certificate).await
    }

    async fn speak<S>(&self, stream: S, certificate: Option<Vec<u8>>) -> Result<Connection, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(stream);
        let (sender, driver) = if self.http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) = builder.timer(TokioTimer::new()).handshake(io).await?;
            (Sender::Http2(sender), tokio::spawn(async move { drop(connection.await) }).abort_handle())
        } else {
            // Headers as people write them, so that their case is known not to matter.
            let (sender, connection) = http1::Builder::new().title_case_headers(true).handshake(io).await?;
            (Sender::Http1(sender), tokio::spawn(async move { drop(connection.await) }).abort_handle())
        };
        Ok(Connection { sender, scheme: if self.tls { "https" } else { "http" }, certificate, driver })
    }

    /// Asks over a fresh connection, and closes it.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn try_ask(&self, ask: &Ask) -> Result<Answer, ClientError> {
        self.connect().await?.ask(ask).await
    }

    /// Asks over a fresh connection; fails the test where no answer comes.
    pub async fn ask(&self, ask: &Ask) -> Answer {
        self.try_ask(ask).await.unwrap_or_else(|error| panic!("{ask}: {error}"))
    }
}

/// A request that comes back was not sent.
fn lost(mut error: TrySendError<Request<Full<Bytes>>>) -> ClientError {
    let unsent = error.take_message().is_some();
    let error = error.into_error();
    if unsent { ClientError::Unsent(error) } else { ClientError::Http(error) }
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    scheme: &'static str,
    certificate: Option<Vec<u8>>,
    driver: AbortHandle,
}

impl Connection {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Where the connection breaks, or no answer comes in time.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Answer, ClientError> {
        tokio::time::timeout(LIMIT, self.exchange(ask)).await.unwrap_or(Err(ClientError::Late))
    }

    async fn exchange(&mut self, ask: &Ask) -> Result<Answer, ClientError> {
        let started = Instant::now();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(ClientError::Unsent)?;
                sender.try_send_request(ask.request(None)).await.map_err(lost)?
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(ClientError::Unsent)?;
                sender.try_send_request(ask.request(Some(self.scheme))).await.map_err(lost)?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let body = body.to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers,
            body,
            took: started.elapsed(),
        })
    }

    /// Whether the server closed it, or asked for no more requests on it.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// The certificate that the server showed, DER.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Whether the server showed this certificate, PEM.
    pub fn shows(&self, pem: &str) -> bool {
        let expected = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        self.certificate() == Some(expected.as_ref())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Ask {
    /// A GET of a path (with its query) on a host.
    pub fn get(host: &str, path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            host: host.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// With another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.parse().expect("a method");
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With more headers.
    #[must_use]
    pub fn headers(self, headers: &[(&str, &str)]) -> Self {
        headers.iter().fold(self, |ask, (name, value)| ask.header(name, value))
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// HTTP/2 has the scheme and the host in its address, HTTP/1.1 only the path, and the host as a header.
    fn request(&self, scheme: Option<&str>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        let uri = match scheme {
            Some(scheme) => format!("{scheme}://{}{}", self.host, self.path).parse::<Uri>(),
            None => self.path.parse::<Uri>(),
        };
        *request.uri_mut() = uri.expect("a path");
        let headers = request.headers_mut();
        if scheme.is_none() {
            headers.insert(hyper::header::HOST, HeaderValue::from_str(&self.host).expect("a host"));
        }
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().expect("a header name");
            headers.append(name, value.parse().expect("a header value"));
        }
        request
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.host, self.path)?;
        for (name, value) in &self.headers {
            write!(f, " {name}: {value}")?;
        }
        Ok(())
    }
}

/// What the echo backend says of a request that reached it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Echoed {
    /// Path and query.
    pub path: String,
    /// Host.
    pub host: String,
    /// Method.
    pub method: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub proto: String,
    /// Lines by lower-case name.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Length of the body.
    pub body_bytes: u64,
    /// Which backend.
    pub instance: String,
}

impl Echoed {
    /// The lines of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get(&name.to_ascii_lowercase()).into_iter().flatten().map(String::as_str).collect()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The trailers.
    pub trailers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// From asking to the end of the body.
    pub took: Duration,
}

impl Answer {
    /// The lines of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// The value of a header that has one line.
    pub fn line(&self, name: &str) -> Option<&str> {
        match self.header(name).as_slice() {
            [] => None,
            [line] => Some(line),
            lines => panic!("{name} has several lines: {lines:?}"),
        }
    }

    /// Which backend answered, if one did.
    pub fn instance(&self) -> Option<&str> {
        self.line("x-echo-instance")
    }

    /// What reached the backend; fails the test where no backend answered 200.
    pub fn echoed(&self) -> Echoed {
        assert_eq!(self.status, 200, "{self}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Short: the backend's name, or the status code where none answered 200.
    pub fn short(&self) -> String {
        match self.instance() {
            Some(instance) if self.status == 200 => instance.to_owned(),
            _ => self.status.to_string(),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}
