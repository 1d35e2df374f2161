//! `portolan operator`: the control plane in a cluster.
//!
//! The core is the standalone's; its edges are an API server instead of files, and Deployments instead of processes. Every
//! replica watches, resolves and serves xDS. The leader alone writes statuses and fleets. A replica is ready when
//! everything has been read once; until then it serves no proxy.

mod placing;
mod releases;
mod surroundings;

use std::{net::SocketAddr, sync::Arc};

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
    leader::{Candidate, Elector},
    metrics::Metrics,
    runtime::{self, Dirty, KeepNothing},
    source::kubernetes::{self, Cluster, ClusterError, Releases, SecretAccess, connect},
    status::Writer,
};

/// The Lease that replicas ask for.
const LEASE: &str = "portolan";

/// How to run an operator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which API server.
    pub cluster: Cluster,
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
pub async fn run(options: Options, parts: Parts) -> Result<(), OperatorError> {
    let system = |what| move |source| OperatorError::System { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT"))?;
    let stop = CancellationToken::new();
    let running = run_until(options, parts, stop.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    running.await
}

/// Runs until `stop`.
///
/// # Errors
/// As [`run`].
pub async fn run_until(options: Options, parts: Parts, stop: CancellationToken) -> Result<(), OperatorError> {
    let client = connect(&options.cluster).await?;
    tracing::info!(identity = %options.identity, namespace = %options.namespace, secrets = ?options.secrets, "operator starts");
    let metrics = Arc::new(Metrics::default());
    let (handle, core) =
        runtime::start(Arc::clone(&metrics), Box::new(KeepNothing), releases::environment(&Releases::new()))
            .map_err(|source| OperatorError::System { what: "a thread", source })?;
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());

    // Whoever follows does so before there is something to follow.
    let dirty = Arc::new(Dirty::default());
    // The core ends only when we say so, below.
    let _ = handle.follow(Arc::clone(&dirty));
    let source =
        kubernetes::start(&client, options.secrets, &handle, Arc::clone(&metrics), &tasks, &shutdown);
    source.observations.follow(Arc::clone(&dirty));

    let candidate =
        Candidate { namespace: options.namespace, name: LEASE.into(), identity: options.identity.clone() };
    let (elector, leadership) = Elector::new(&client, candidate);
    let (resign, elector) = (CancellationToken::new(), elector);
    let elector = tokio::spawn(elector.run(resign.clone()));
    let (events, sending) = events::channel(client.clone(), &options.identity, Arc::clone(&metrics));
    let ended = shutdown.clone().cancelled_owned();
    tasks.spawn(async move {
        tokio::select! {
            () = sending => {}
            () = ended => {}
        }
    });
    let writer = Writer::new(
        client.clone(),
        handle.clone(),
        Arc::clone(&source.observations),
        leadership.clone(),
        events,
        Arc::clone(&metrics),
    );
    let stop_writing = CancellationToken::new();
    let writer = tokio::spawn(writer.run(dirty, stop_writing.clone()));

    tasks.spawn(placing::follow(handle.clone()));
    tasks.spawn(releases::follow(source.releases.clone(), handle.clone()));
    let server = AdsServer::new(Arc::clone(handle.hub()), ServerConfig::default());
    let admin = Admin {
        handle: handle.clone(),
        registry: Arc::clone(server.registry()),
        metrics,
        surroundings: Arc::new(OperatorSurroundings {
            identity: options.identity,
            leadership,
            waiting: Arc::clone(&source.waiting),
            registry: Arc::clone(server.registry()),
        }),
    };
    let refused = |source| OperatorError::Admin { at: options.admin, source };
    let listener = TcpListener::bind(options.admin).await.map_err(refused)?;
    tasks.spawn(admin.serve_tcp(listener, shutdown.clone()));
    if let Some(xds) = parts.xds {
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            if let Err(error) = server.serve_tls(xds.listener, xds.tls, xds.trust_domain, shutdown).await {
                tracing::error!(%error, "the xDS port broke");
            }
        });
    }

    stop.cancelled().await;
    tracing::info!("operator ends");
    // First the writes, then the Lease, so that the next leader finds nobody writing; proxies last.
    stop_writing.cancel();
    log_panic(writer.await);
    resign.cancel();
    log_panic(elector.await);
    shutdown.cancel();
    handle.stop();
    tasks.close();
    tasks.wait().await;
    // It ends on its own; a panic there was told by its log.
    let _ = tokio::task::spawn_blocking(move || core.join()).await;
    tracing::info!("operator ended");
    Ok(())
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a defect of Portolan: a task failed; please report it");
    }
}
