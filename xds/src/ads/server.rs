//! The gRPC edge: identity, limits, and one task per stream around the pure [`super::Stream`].
//!
//! Every request is identified first, whatever it asks for. Proxies are served `DeltaAggregatedResources` alone; a
//! method for the replicas of the control plane may be beside it ([`ReplicaMethod`]). Every other answers UNIMPLEMENTED.

use std::convert::Infallible;
use std::fmt;
use std::future::Ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use rustls::ServerConfig as TlsConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::identity::Authority;
use super::messages::{self, Incoming};
use super::session::{Session, SessionConfig};
use super::shared::{SharedRegistry, SharedStore};
use super::stream::StreamConfig;
use super::{Event, StreamId, tls};
use crate::GatewayKey;

const DELTA_PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// How many responses may wait for the proxy to read them. What is unsent beyond that stays in the state
/// machine, where a newer version replaces it.
const QUEUED_RESPONSES: usize = 2;

/// What the server publishes, and whom it tells.
pub trait Programs: Send + Sync + 'static {
    /// The store of a Gateway; nothing if there is no such Gateway.
    fn store(&self, gateway: &GatewayKey) -> Option<Arc<SharedStore>>;

    /// Something happened on a stream. Called in the order of events of a stream, from its task: return soon.
    /// The registry already shows the state after it.
    fn on_event(&self, gateway: &GatewayKey, stream: StreamId, event: Event);

    /// Whether every store is complete. Streams are refused before: a proxy must not be told that nothing
    /// exists because nothing has been read yet.
    fn is_ready(&self) -> bool;
}

/// A method by which replicas of a control plane talk to each other, on the port where proxies connect.
///
/// Whoever calls it has shown a certificate for `spiffe://<trust domain>/operator`; nobody else gets this far.
pub trait ReplicaMethod: Send + Sync + 'static {
    /// The path of its requests, `/<service>/<method>`.
    fn path(&self) -> &'static str;

    /// Answers a request.
    fn call(&self, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>>;
}

/// The limits and times of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Of each stream.
    pub stream: StreamConfig,
    /// How often an idle connection is probed.
    pub keepalive_interval: Duration,
    /// How long a probe may go unanswered before the connection is closed.
    pub keepalive_timeout: Duration,
    /// How long a proxy may leave queued responses unread before its stream is closed.
    pub read_timeout: Duration,
    /// The largest request, in bytes. A reconnecting proxy lists every resource that it has.
    pub max_request_bytes: usize,
    /// The most gRPC streams on one connection.
    pub max_streams: u32,
    /// When connections are closed to spread proxies over replicas. Never, if nothing.
    pub max_connection_age: Option<Duration>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            stream: StreamConfig::default(),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_mins(1),
            max_request_bytes: 64 << 20,
            max_streams: 16,
            max_connection_age: None,
        }
    }
}

/// The delta ADS server.
pub struct AdsServer<P> {
    programs: Arc<P>,
    registry: Arc<SharedRegistry>,
    config: ServerConfig,
    next_stream: Arc<AtomicU64>,
    replicas: Option<Arc<dyn ReplicaMethod>>,
}

impl<P> fmt::Debug for AdsServer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdsServer").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<P> Clone for AdsServer<P> {
    fn clone(&self) -> Self {
        Self {
            programs: Arc::clone(&self.programs),
            registry: Arc::clone(&self.registry),
            config: self.config,
            next_stream: Arc::clone(&self.next_stream),
            replicas: self.replicas.clone(),
        }
    }
}

impl<P: Programs> AdsServer<P> {
    /// A server of these programs. It listens nowhere yet; clones share the registry.
    pub fn new(programs: Arc<P>, config: ServerConfig) -> Self {
        let registry = Arc::new(SharedRegistry::default());
        Self { programs, registry, config, next_stream: Arc::new(AtomicU64::new(1)), replicas: None }
    }

    /// Serves replicas, too, where there is TLS.
    #[must_use]
    pub fn with_replicas(self, method: Arc<dyn ReplicaMethod>) -> Self {
        Self { replicas: Some(method), ..self }
    }

    /// Who is connected.
    pub fn registry(&self) -> &Arc<SharedRegistry> {
        &self.registry
    }

    /// Serves one Gateway on a Unix socket until `shutdown`, then ends its streams and returns.
    ///
    /// Whoever may open the socket is that Gateway's proxy: the caller sets the file's permissions.
    pub async fn serve_unix(
        &self,
        listener: UnixListener,
        gateway: GatewayKey,
        shutdown: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let (accepted, incoming) = mpsc::channel(16);
        tokio::spawn(tls::accept_unix(listener, accepted, shutdown.clone()));
        self.serve(incoming, Authority::Socket(gateway), shutdown).await
    }

    /// Serves every Gateway on a TCP socket with mutual TLS until `shutdown`, then ends the streams and
    /// returns. `tls` is read at every handshake; see [`tls::server_config`].
    ///
    /// A proxy's Gateway is in its client certificate: `spiffe://<trust domain>/ns/<namespace>/gateway/<name>`.
    pub async fn serve_tls(
        &self,
        listener: TcpListener,
        tls: watch::Receiver<Arc<TlsConfig>>,
        trust_domain: impl Into<Arc<str>>,
        shutdown: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let (accepted, incoming) = mpsc::channel(16);
        tokio::spawn(tls::accept_tls(listener, tls, accepted, shutdown.clone()));
        let authority = Authority::Certificate { trust_domain: trust_domain.into() };
        self.serve(incoming, authority, shutdown).await
    }

    async fn serve<IO>(
        &self,
        incoming: mpsc::Receiver<io::Result<IO>>,
        authority: Authority,
        shutdown: CancellationToken,
    ) -> Result<(), tonic::transport::Error>
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let gate = Gate { authority, server: self.clone(), shutdown: shutdown.clone() };
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(self.config.keepalive_interval))
            .http2_keepalive_timeout(Some(self.config.keepalive_timeout))
            .max_concurrent_streams(self.config.max_streams);
        if let Some(age) = self.config.max_connection_age {
            server = server.max_connection_age(age);
        }
        server
            .serve_with_incoming_shutdown(gate, ReceiverStream::new(incoming), shutdown.cancelled_owned())
            .await
    }
}

/// Identifies every request, then opens a stream for the one method that is served.
struct Gate<P> {
    authority: Authority,
    server: AdsServer<P>,
    shutdown: CancellationToken,
}

impl<P> Clone for Gate<P> {
    fn clone(&self) -> Self {
        Self {
            authority: self.authority.clone(),
            server: self.server.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}

impl<P: Programs> Service<http::Request<Body>> for Gate<P> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Self::Response, Infallible>>,
        BoxFuture<'static, Result<Self::Response, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = match self.replica(&request) {
            Ok(Some(method)) => return Either::Right(method.call(request).map(Ok).boxed()),
            Ok(None) => self.proxy(request),
            Err(status) => Err(status),
        };
        Either::Left(std::future::ready(Ok(answer.unwrap_or_else(Status::into_http))))
    }
}

impl<P: Programs> Gate<P> {
    /// The method that a replica asks for; nothing if the request is not for it.
    fn replica(&self, request: &http::Request<Body>) -> Result<Option<&Arc<dyn ReplicaMethod>>, Status> {
        let method = self.server.replicas.as_ref().filter(|method| method.path() == request.uri().path());
        if method.is_some()
            && let Err(status) = self.authority.admit_replica(request.extensions())
        {
            tracing::warn!(reason = status.message(), "refused a connection that is no replica's");
            return Err(status);
        }
        Ok(method)
    }

    /// Opens a stream, if this is a proxy that asks for one.
    fn proxy(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let gateway = self.authority.identify(request.extensions()).inspect_err(|status| {
            tracing::warn!(reason = status.message(), "refused a connection without identity");
        })?;
        if request.uri().path() != DELTA_PATH {
            return Err(Status::unimplemented(format!(
                "{} is not served: only DeltaAggregatedResources is (in the bootstrap, api_type: DELTA_GRPC)",
                request.uri().path()
            )));
        }
        let AdsServer { programs, registry, config, next_stream, .. } = &self.server;
        if !programs.is_ready() {
            return Err(Status::unavailable("the control plane is starting: its first sync is not complete"));
        }
        let store = programs
            .store(&gateway)
            .ok_or_else(|| Status::not_found(format!("there is no Gateway {gateway}")))?;
        let (responses, outgoing) = mpsc::channel(QUEUED_RESPONSES);
        let session = Session {
            programs: Arc::clone(programs),
            registry: Arc::clone(registry),
            store,
            gateway,
            id: StreamId(next_stream.fetch_add(1, Ordering::Relaxed)),
            config: SessionConfig { stream: config.stream, read_timeout: config.read_timeout },
            shutdown: self.shutdown.clone(),
        };
        let requests = Incoming::new(request.into_body(), config.max_request_bytes);
        tokio::spawn(session.run(requests, responses));
        Ok(messages::response(ReceiverStream::new(outgoing)))
    }
}
