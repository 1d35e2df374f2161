//! `portolan operator`: the control plane in a cluster.
//!
//! The core is the standalone's; its edges are an API server instead of files, and Deployments instead of processes. Every
//! replica watches, resolves and serves xDS. The leader alone writes statuses and fleets. A replica is ready when
//! everything has been read once; until then it serves no proxy.

mod fleets;
mod provisioning;
mod rejections;
mod releases;
mod surroundings;
mod waiting;

use std::{net::SocketAddr, sync::Arc};

use kube::Client;
use portolan_xds::ads::{AdsServer, ServerConfig};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    provisioning::{Known, Provisioning},
    rejections::Memory,
    surroundings::OperatorSurroundings,
};
use crate::{
    admin::Admin,
    events,
    fleet::cluster::Installation,
    identity::KeeperError,
    leader::{Candidate, Elector, Leadership},
    metrics::Metrics,
    peers::{Connections, Door, Line},
    runtime::{self, Dirty, Handle, Hub},
    source::kubernetes::{self, Cluster, ClusterError, Releases, SecretAccess, chain, connect_to},
    status::Writer,
};

/// The trust domain of the proxies' identities: they are trusted by this operator alone.
const TRUST_DOMAIN: &str = "portolan.internal";

/// The Lease that replicas ask for.
const LEASE: &str = "portolan";

/// How to run an operator.
#[derive(Debug, Clone)]
pub struct Options {
    /// The operator's own namespace: where its Lease is.
    pub namespace: String,
    /// This replica, uniquely.
    pub identity: String,
    /// How Secrets are read.
    pub secrets: SecretAccess,
    /// Where the admin endpoint listens.
    pub admin: SocketAddr,
    /// Where proxies connect.
    pub xds: SocketAddr,
    /// Where other replicas reach that port, with port 0 for the one that it really has; without an address they cannot
    /// tell this one what their proxies acknowledge.
    pub peer_address: Option<SocketAddr>,
    /// What is the same for every fleet.
    pub installation: Installation,
}

/// Why an operator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no API server to talk to.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is no authority for the proxies' certificates.
    #[error(transparent)]
    Identity(#[from] KeeperError),
    /// A port.
    #[error("{what} cannot listen on {at}: {source}")]
    Port {
        /// What listens there.
        what: &'static str,
        /// The address.
        at: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals or threads.
    #[error("the system refuses {what}: {source}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

/// Runs until SIGINT or SIGTERM. Proxies are served on a runtime of their own.
///
/// # Errors
/// Where it cannot start; what goes wrong later is logged and shown in the status.
pub async fn run(
    cluster: &Cluster,
    options: Options,
    proxies: &tokio::runtime::Handle,
) -> Result<(), OperatorError> {
    let system = |what| move |source| OperatorError::System { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT"))?;
    let (client, server) = connect_to(cluster).await?;
    let operator = tokio::select! {
        operator = Operator::start(client, &server, options, proxies) => operator?,
        // It waits for its API server, and nothing runs yet.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    operator.end().await;
    Ok(())
}

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    handle: Handle,
    leadership: Leadership,
    core: std::thread::JoinHandle<()>,
    /// What writes; it ends before the Lease is given back.
    writing: Stage,
    electing: Stage,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Tasks that end together.
#[derive(Debug, Default)]
struct Stage {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Operator {
    /// Starts everything, once the API server answers; `server` is its address, for people. Proxies are served on `proxies`.
    ///
    /// # Errors
    /// Where a port or a thread is refused, or the authorities' Secret is damaged.
    pub async fn start(
        client: Client,
        server: &str,
        options: Options,
        proxies: &tokio::runtime::Handle,
    ) -> Result<Self, OperatorError> {
        tracing::info!(identity = %options.identity, namespace = %options.namespace, secrets = ?options.secrets, "operator starts");
        let listener = bind("the admin endpoint", options.admin).await?;
        let xds = bind("the xDS port", options.xds).await?;
        let port = xds.local_addr().map_or(options.xds.port(), |at| at.port());
        let (keeper, listener) = waiting::open(&client, server, &options, listener).await?;
        let metrics = Arc::new(Metrics::default());
        let environment = releases::environment(&Releases::new());
        let (memory, kept) = Memory::open(&client, &options.namespace).await;
        let (handle, core) = runtime::start(Arc::clone(&metrics), Box::new(kept), environment)
            .map_err(|source| OperatorError::System { what: "a thread", source })?;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());

        // Whoever follows does so before there is something to follow.
        let dirty = Arc::new(Dirty::default());
        // The core ends only when we say so, in [`Operator::end`].
        let _ = handle.follow(Arc::clone(&dirty));
        let source =
            kubernetes::start(&client, options.secrets, &handle, Arc::clone(&metrics), &tasks, &shutdown);
        source.observations.follow(Arc::clone(&dirty));
        tasks.spawn(releases::follow(source.releases.clone(), handle.clone()));

        let candidate = Candidate {
            namespace: options.namespace,
            name: LEASE.into(),
            identity: options.identity.clone(),
            address: options.peer_address.map(|at| reached(at, port).to_string()),
        };
        let (elector, leadership) = Elector::new(&client, candidate);
        let (events, sending) = events::channel(client.clone(), &options.identity, Arc::clone(&metrics));
        tasks.spawn(until(shutdown.clone(), sending));
        let (writing, electing) = (Stage::default(), Stage::default());

        let connections = Arc::new(Connections::new(Arc::clone(&metrics)));
        let line = Line {
            handle: handle.clone(),
            leadership: leadership.clone(),
            identity: options.identity.clone(),
            authorities: keeper.authorities(),
            trust_domain: TRUST_DOMAIN.into(),
            host: options.installation.xds_host.clone(),
            connections: Arc::clone(&connections),
        };
        let provisioning = Provisioning {
            client: client.clone(),
            handle: handle.clone(),
            leadership: leadership.clone(),
            events: events.clone(),
            installation: options.installation,
            authorities: keeper.authorities(),
            synced: source.synced.clone(),
        };
        let Known { observed, placed } = provisioning.start(&writing, &tasks, &shutdown);
        let tls = keeper.server_configs();
        tasks.spawn(keeper.run(shutdown.clone()));

        let writer = Writer::new(
            client,
            handle.clone(),
            Arc::clone(&source.observations),
            leadership.clone(),
            events,
            Arc::clone(&metrics),
        );
        // Who has not read everything would take away what others wrote rightly: it must not lead.
        let (synced, observed, halt) = (source.synced.clone(), observed, electing.stop.clone());
        electing.tasks.spawn(async move {
            let known = async {
                synced.cancelled().await;
                turned_on(observed).await;
            };
            if halt.run_until_cancelled(known).await.is_some() {
                elector.run(halt).await;
            }
        });
        writing.tasks.spawn(writer.run(dirty, writing.stop.clone()));
        let memory = memory.run(handle.clone(), leadership.clone(), source.synced.clone());
        writing.tasks.spawn(until(writing.stop.clone(), memory));

        let door = Door::new(handle.clone(), leadership.clone(), Arc::clone(&connections), shutdown.clone());
        let server =
            AdsServer::new(Arc::clone(handle.hub()), ServerConfig::default()).with_replicas(Arc::new(door));
        tasks.spawn(line.run(shutdown.clone()));
        let admin = Admin {
            handle: handle.clone(),
            registry: Arc::clone(server.registry()),
            metrics,
            surroundings: Arc::new(OperatorSurroundings {
                identity: options.identity,
                leadership: leadership.clone(),
                waiting: Arc::clone(&source.waiting),
                placed: placed.clone(),
                registry: Arc::clone(server.registry()),
                connections,
            }),
        };
        tasks.spawn(admin.serve_tcp(listener, shutdown.clone()));
        tasks.spawn_on(serve(server, xds, tls, placed, shutdown.clone()), proxies);
        Ok(Self { handle, leadership, core, writing, electing, tasks, shutdown })
    }

    /// Asks the core.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether this replica leads.
    pub fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    /// Ends it in order.
    pub async fn end(self) {
        tracing::info!("operator ends");
        // First the writes, then the Lease, so that the next leader finds nobody writing; proxies last.
        self.writing.end().await;
        self.electing.end().await;
        self.shutdown.cancel();
        self.handle.stop();
        self.tasks.close();
        self.tasks.wait().await;
        // It ends on its own; a panic there was told by its log.
        let _ = tokio::task::spawn_blocking(move || self.core.join()).await;
        tracing::info!("operator ended");
    }
}

/// Serves proxies until then.
async fn serve(
    server: AdsServer<Hub>,
    xds: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    placed: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    // A proxy that reconnects must not be told that its listeners are gone.
    if stop.run_until_cancelled(turned_on(placed)).await.is_none() {
        return;
    }
    // It was bound on another runtime, and would wait for that one's thread.
    let moved = xds.into_std().and_then(TcpListener::from_std);
    let outcome = match moved {
        Ok(xds) => server.serve_tls(xds, tls, TRUST_DOMAIN, stop).await.map_err(|error| chain(&error)),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = outcome {
        tracing::error!(%error, "the xDS port broke");
    }
}

async fn bind(what: &'static str, at: SocketAddr) -> Result<TcpListener, OperatorError> {
    TcpListener::bind(at).await.map_err(|source| OperatorError::Port { what, at, source })
}

/// An address with this port, unless it has one.
fn reached(at: SocketAddr, port: u16) -> SocketAddr {
    if at.port() == 0 { SocketAddr::new(at.ip(), port) } else { at }
}

/// Waits until it is. A value that nobody sets any more stays off.
async fn turned_on(mut value: watch::Receiver<bool>) {
    if value.wait_for(|on| *on).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Works until then.
async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    // Whether it ended or was ended is the same to whoever waits for it.
    let _ = stop.run_until_cancelled(work).await;
}
