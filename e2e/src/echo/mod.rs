//! The echo backend: says what reached it, so that a test can tell what a proxy did to a request.
//!
//! One instance serves HTTP/1.1, HTTP/2 (prior knowledge), gRPC and WebSocket on one port, the same over TLS
//! on another, and plain TCP and UDP echoes on two more. It runs inside a test ([`Echo::start`]) or as the
//! `portolan-echo` command. Everything it promises over HTTP is listed at [`http`].

pub mod cert;
pub mod grpc;
pub mod http;
mod l4;
mod query;
pub mod record;
mod serve;
#[cfg(test)]
mod tests;
mod tls;
mod websocket;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use record::{Record, Seen};

/// A free port on loopback: what every listener of the echo backend binds unless told otherwise.
pub const ANY_LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How long [`Echo::shutdown`] waits for open connections before it drops them.
const GRACE: Duration = Duration::from_secs(5);

/// Why the echo backend did not start.
#[derive(Debug, thiserror::Error)]
pub enum EchoError {
    /// A listener's address could not be bound.
    #[error("cannot listen on {protocol} {address}: {source}")]
    Bind {
        /// `http`, `https`, `tcp` or `udp`.
        protocol: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate or key could not be read or used.
    #[error("cannot use TLS file {path}: {reason}")]
    Tls {
        /// The file in question.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where and how the TLS listener serves.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// The address to bind.
    pub address: SocketAddr,
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file with the authorities that clients must come from; without it no client certificate is asked for.
    pub client_ca: Option<PathBuf>,
}

/// What one echo backend is called and where it listens.
#[derive(Debug, Clone)]
pub struct EchoConfig {
    /// The name every answer carries, so that a test sees which backend was chosen.
    pub instance: String,
    /// The namespace told in answers.
    pub namespace: String,
    /// The pod name told in answers.
    pub pod: String,
    /// HTTP/1.1, HTTP/2, gRPC and WebSocket in clear text.
    pub http: Option<SocketAddr>,
    /// The same over TLS.
    pub tls: Option<TlsConfig>,
    /// TCP echo.
    pub tcp: Option<SocketAddr>,
    /// UDP echo.
    pub udp: Option<SocketAddr>,
}

impl EchoConfig {
    /// A backend of that name with only the clear-text HTTP listener, on a free loopback port.
    pub fn http(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            namespace: "default".to_owned(),
            pod: instance.to_owned(),
            http: Some(ANY_LOOPBACK),
            tls: None,
            tcp: None,
            udp: None,
        }
    }
}

/// The addresses that were really bound.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Addresses {
    /// Clear-text HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    /// HTTP over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<SocketAddr>,
    /// TCP echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<SocketAddr>,
    /// UDP echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<SocketAddr>,
}

/// What all connections of one backend share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) instance: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) record: Record,
}

/// A running echo backend. Dropping it closes its listeners and connections.
#[derive(Debug)]
pub struct Echo {
    addresses: Addresses,
    state: Arc<State>,
    stop: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

impl Echo {
    /// Binds every configured listener, then serves until [`Echo::shutdown`] or drop.
    ///
    /// # Errors
    /// Names the address that could not be bound, or the TLS file that could not be used.
    pub async fn start(config: EchoConfig) -> Result<Self, EchoError> {
        let state = Arc::new(State {
            instance: config.instance,
            namespace: config.namespace,
            pod: config.pod,
            record: Record::default(),
        });
        let echo = Self {
            addresses: Addresses::default(),
            state,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        echo.listen(config.http, config.tls, config.tcp, config.udp).await
    }

    async fn listen(
        mut self,
        http: Option<SocketAddr>,
        tls: Option<TlsConfig>,
        tcp: Option<SocketAddr>,
        udp: Option<SocketAddr>,
    ) -> Result<Self, EchoError> {
        let context = serve::Context {
            state: self.state.clone(),
            stop: self.stop.clone(),
            abort: self.abort.clone(),
            tasks: self.tasks.clone(),
        };
        if let Some(address) = http {
            let (listener, address) = bind_tcp("http", address).await?;
            self.addresses.http = Some(address);
            self.tasks.spawn(serve::clear_text(listener, context.clone()));
        }
        if let Some(config) = tls {
            let acceptor = tls::acceptor(&config)?;
            let (listener, address) = bind_tcp("https", config.address).await?;
            self.addresses.https = Some(address);
            self.tasks.spawn(serve::over_tls(listener, acceptor, context.clone()));
        }
        if let Some(address) = tcp {
            let (listener, address) = bind_tcp("tcp", address).await?;
            self.addresses.tcp = Some(address);
            self.tasks.spawn(l4::tcp(listener, context.clone()));
        }
        if let Some(address) = udp {
            let bind_error = |source| EchoError::Bind { protocol: "udp", address, source };
            let socket = UdpSocket::bind(address).await.map_err(bind_error)?;
            self.addresses.udp = Some(socket.local_addr().map_err(bind_error)?);
            self.tasks.spawn(l4::udp(socket, context));
        }
        Ok(self)
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How many requests arrived for each path, paths of the control endpoints excluded.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.state.record.counts()
    }

    /// The requests that arrived for a path, oldest first (the newest thousand of all paths are kept).
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        self.state.record.seen(path)
    }

    /// Forgets what [`Echo::counts`] and [`Echo::seen`] tell.
    pub fn forget(&self) {
        self.state.record.forget();
    }

    /// Stops accepting, lets requests in flight finish for a few seconds, then closes what is left.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

async fn bind_tcp(
    protocol: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), EchoError> {
    let bind_error = |source| EchoError::Bind { protocol, address, source };
    let listener = TcpListener::bind(address).await.map_err(bind_error)?;
    let bound = listener.local_addr().map_err(bind_error)?;
    Ok((listener, bound))
}
