//! `portolan operator`: the control plane in a cluster.
//!
//! The core is the standalone's; its edges are an API server instead of files, and Deployments instead of processes. Every
//! replica watches, resolves and serves xDS. The leader alone writes statuses and fleets. A replica is ready when
//! everything has been read once; until then it serves no proxy.

mod placing;
mod releases;
mod surroundings;

use std::{net::SocketAddr, sync::Arc};

use kube::Client;
use portolan_xds::ads::{AdsServer, ServerConfig};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::surroundings::OperatorSurroundings;
use crate::{
    admin::Admin,
    events,
    leader::{Candidate, Elector, Leadership},
    metrics::Metrics,
    runtime::{self, Dirty, Handle, KeepNothing},
    source::kubernetes::{self, Cluster, ClusterError, Releases, SecretAccess, connect},
    status::Writer,
};

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
}

/// How proxies connect.
#[derive(Debug)]
pub struct Xds {
    /// Where.
    pub listener: TcpListener,
    /// The server's certificate, and who may connect.
    pub tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    /// The trust domain of their identities.
    pub trust_domain: Arc<str>,
}

/// What differs from install to install, or is left out in a test.
#[derive(Debug, Default)]
pub struct Parts {
    /// Where proxies connect; nowhere without it.
    pub xds: Option<Xds>,
}

/// Why an operator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no API server to talk to.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The admin endpoint.
    #[error("the admin endpoint cannot listen on {at}: {source}")]
    Admin {
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

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// Where it cannot start; what goes wrong later is logged and shown in the status.
pub async fn run(cluster: &Cluster, options: Options, parts: Parts) -> Result<(), OperatorError> {
    let system = |what| move |source| OperatorError::System { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT"))?;
    let client = connect(cluster).await?;
    let operator = Operator::start(client, options, parts).await?;
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
    /// Starts everything.
    ///
    /// # Errors
    /// Where a port or a thread is refused.
    pub async fn start(client: Client, options: Options, parts: Parts) -> Result<Self, OperatorError> {
        tracing::info!(identity = %options.identity, namespace = %options.namespace, secrets = ?options.secrets, "operator starts");
        let refused = |source| OperatorError::Admin { at: options.admin, source };
        let listener = TcpListener::bind(options.admin).await.map_err(refused)?;
        let metrics = Arc::new(Metrics::default());
        let environment = releases::environment(&Releases::new());
        let (handle, core) = runtime::start(Arc::clone(&metrics), Box::new(KeepNothing), environment)
            .map_err(|source| OperatorError::System { what: "a thread", source })?;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());

        // Whoever follows does so before there is something to follow.
        let dirty = Arc::new(Dirty::default());
        // The core ends only when we say so, in [`Operator::end`].
        let _ = handle.follow(Arc::clone(&dirty));
        let source =
            kubernetes::start(&client, options.secrets, &handle, Arc::clone(&metrics), &tasks, &shutdown);
        source.observations.follow(Arc::clone(&dirty));
        tasks.spawn(placing::follow(handle.clone()));
        tasks.spawn(releases::follow(source.releases.clone(), handle.clone()));

        let candidate = Candidate {
            namespace: options.namespace,
            name: LEASE.into(),
            identity: options.identity.clone(),
        };
        let (elector, leadership) = Elector::new(&client, candidate);
        let (events, sending) = events::channel(client.clone(), &options.identity, Arc::clone(&metrics));
        tasks.spawn(until(shutdown.clone(), sending));
        let writer = Writer::new(
            client,
            handle.clone(),
            Arc::clone(&source.observations),
            leadership.clone(),
            events,
            Arc::clone(&metrics),
        );
        let (writing, electing) = (Stage::default(), Stage::default());
        // Who has not read everything would take away what others wrote rightly: it must not lead.
        let (synced, stop) = (source.synced.clone(), electing.stop.clone());
        electing.tasks.spawn(async move {
            if synced.run_until_cancelled(stop.cancelled()).await.is_none() {
                elector.run(stop).await;
            }
        });
        writing.tasks.spawn(writer.run(dirty, writing.stop.clone()));

        let server = AdsServer::new(Arc::clone(handle.hub()), ServerConfig::default());
        let admin = Admin {
            handle: handle.clone(),
            registry: Arc::clone(server.registry()),
            metrics,
            surroundings: Arc::new(OperatorSurroundings {
                identity: options.identity,
                leadership: leadership.clone(),
                waiting: Arc::clone(&source.waiting),
                registry: Arc::clone(server.registry()),
            }),
        };
        tasks.spawn(admin.serve_tcp(listener, shutdown.clone()));
        if let Some(xds) = parts.xds {
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                if let Err(error) = server.serve_tls(xds.listener, xds.tls, xds.trust_domain, shutdown).await
                {
                    tracing::error!(%error, "the xDS port broke");
                }
            });
        }
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

/// Works until then.
async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    // Whether it ended or was ended is the same to whoever waits for it.
    let _ = stop.run_until_cancelled(work).await;
}
