//! `portolan standalone`: manifests from files, one supervised Envoy per Gateway on this host.
//!
//! It is the operator's code with two other edges: files instead of an API server, processes instead of Deployments.
//! A clean stop drains every proxy and leaves nothing behind. A hard end leaves the proxies serving; the next start with
//! the same inputs finds them by the state folder and attaches again without resending what they have.

mod fleet;
mod surroundings;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use portolan_xds::ads::{AdsServer, ServerConfig};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinError,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{fleet::FleetTask, surroundings::StandaloneSurroundings};
use crate::{
    admin::Admin,
    fleet::{
        envoy::{self, EnvoyError},
        files::{FileError, listen_private, remove},
        host::{HostConfig, HostFleet},
        ports::{AddressPolicy, PortPolicy, Ports, SystemProbe},
        state::{self, SocketError, StateError, StateFolder, StatePaths, check_socket},
    },
    metrics::Metrics,
    resolve::Environment,
    runtime::{self, Handle, KeepInFolder},
    source::{
        Batch, Problem,
        files::{Files, watch},
    },
};

/// How to run a standalone.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files and folders with manifests.
    pub inputs: Vec<PathBuf>,
    /// The Envoy binary; found where not given.
    pub envoy: Option<PathBuf>,
    /// One address for all Gateways; one each where not given.
    pub bind: Option<IpAddr>,
    /// How API ports become bound ports.
    pub ports: PortPolicy,
    /// Where the admin endpoint listens besides its Unix socket.
    pub admin: Option<SocketAddr>,
    /// Envoy's worker threads.
    pub concurrency: Option<u32>,
    /// How long a stop waits for connections to end by themselves.
    pub drain_time: Duration,
    /// How long a proxy serves without a standalone; zero is for ever.
    pub max_detached: Duration,
    /// Envoy's log level.
    pub envoy_log_level: String,
    /// Whether proxies are started. Without, ports are placed and configuration is served all the same.
    pub proxies: bool,
}

/// Why a standalone cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// A socket's path is too long.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Envoy is missing or too old.
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
    /// The admin endpoint.
    #[error("the admin endpoint cannot listen on {at}: {source}")]
    Admin {
        /// An address or a path.
        at: String,
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
    /// A task failed: a defect.
    #[error("a defect of Portolan: a task failed ({0}); please report it")]
    Task(#[from] JoinError),
}

/// Runs until SIGINT or SIGTERM, then drains and ends every proxy. A second signal ends them at once. `started` is called
/// when the endpoint of `portolan status` answers.
///
/// # Errors
/// Where it cannot start; what goes wrong later is logged and shown in the status.
pub async fn run(options: Options, started: impl FnOnce(&StatePaths)) -> Result<(), StandaloneError> {
    let system = |what| move |source| StandaloneError::System { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT"))?;
    let paths = StatePaths::of(&options.inputs, &state::Environment::current())?;
    check_socket(&paths.api_socket())?;
    let envoy = if options.proxies {
        let envoy = envoy::find(options.envoy.as_deref(), &envoy::Environment::current())?;
        let version = envoy::check(&envoy).await?;
        tracing::info!(envoy = %envoy.display(), %version, "Envoy found");
        Some(envoy)
    } else {
        None
    };
    let folder = StateFolder::open(paths.clone())?;
    tracing::info!(inputs = ?options.inputs, state = %paths.folder().display(), "standalone starts");

    let metrics = Arc::new(Metrics::default());
    let keep = Box::new(KeepInFolder(paths.folder().join("rejected")));
    let (handle, core) =
        runtime::start(Arc::clone(&metrics), keep, Environment::default()).map_err(system("a thread"))?;
    let server = AdsServer::new(Arc::clone(handle.hub()), ServerConfig::default());
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());

    let surroundings = Arc::new(StandaloneSurroundings::new(options.inputs.clone(), paths.clone()));
    let admin = Admin {
        handle: handle.clone(),
        registry: Arc::clone(server.registry()),
        metrics,
        surroundings: Arc::clone(&surroundings) as _,
    };
    serve_admin(admin, &paths, options.admin, &tasks, &shutdown).await?;

    let mut files = Files::new(options.inputs.clone());
    let (first, files) = tokio::task::spawn_blocking(move || (files.scan(), files)).await?;
    let mut told = BTreeSet::new();
    log_problems(&first, &mut told);
    // The core ends only when we say so, below.
    let _ = handle.changes(first).and_then(|()| handle.synced());
    tasks.spawn(follow_files(files, told, handle.clone(), shutdown.clone()));

    let fleet = HostFleet::new(HostConfig {
        program: std::env::current_exe().map_err(system("the name of this program"))?,
        paths: paths.clone(),
        envoy,
        concurrency: options.concurrency,
        drain_time: options.drain_time,
        max_detached: options.max_detached,
        log_level: options.envoy_log_level.clone(),
    });
    let addresses = options.bind.map_or(AddressPolicy::Own, AddressPolicy::Shared);
    let ports = Ports::new(SystemProbe, options.ports, addresses, paths.key());
    let ports_file = paths.folder().join("ports.json");
    let ports = ports.load(&ports_file)?;
    let task = FleetTask::new(fleet, ports, ports_file, paths.clone(), server, handle.clone(), surroundings)?;
    let stop = CancellationToken::new();
    let mut fleet = tokio::spawn(task.run(stop.clone()));
    started(&paths);

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut fleet => return ended.map_err(Into::into),
    }
    tracing::info!(
        seconds = options.drain_time.as_secs(),
        "draining; a second signal ends every proxy at once"
    );
    stop.cancel();
    let killed = tokio::select! {
        ended = &mut fleet => { ended?; false }
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
    };
    if killed {
        fleet.abort();
        kill_all(&paths).await;
    }
    shutdown.cancel();
    handle.stop();
    tasks.close();
    tasks.wait().await;
    // It ends on its own; a panic there was told by its log.
    let _ = tokio::task::spawn_blocking(move || core.join()).await;
    remove(&paths.api_socket())?;
    drop(folder);
    tracing::info!("standalone ended");
    Ok(())
}

async fn serve_admin(
    admin: Admin,
    paths: &StatePaths,
    address: Option<SocketAddr>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), StandaloneError> {
    let socket = listen_private(&paths.api_socket())?;
    tasks.spawn(admin.clone().serve_unix(socket, shutdown.clone()));
    if let Some(address) = address {
        let refused = |source| StandaloneError::Admin { at: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        tasks.spawn(admin.serve_tcp(listener, shutdown.clone()));
    }
    Ok(())
}

/// Brings what changes in the files to the core.
async fn follow_files(
    files: Files,
    mut told: BTreeSet<Problem>,
    handle: Handle,
    shutdown: CancellationToken,
) {
    let (sender, mut batches) = mpsc::channel(16);
    let watching = watch(files, sender, shutdown);
    let following = async {
        while let Some(batch) = batches.recv().await {
            log_problems(&batch, &mut told);
            if handle.changes(batch).is_err() {
                return;
            }
        }
    };
    tokio::join!(watching, following);
}

/// Logs the problems that were not there before.
fn log_problems(batch: &Batch, told: &mut BTreeSet<Problem>) {
    let now: BTreeSet<Problem> = batch.problems.iter().cloned().collect();
    for problem in now.difference(told) {
        tracing::warn!("{problem}");
    }
    *told = now;
}

async fn kill_all(paths: &StatePaths) {
    let Ok(entries) = std::fs::read_dir(paths.gateways()) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        if let Some(supervisor) =
            crate::fleet::lock::Lock::holder(&folder.join(crate::fleet::proxy::LOCK_FILE))
            && let Err(error) = supervisor.end(Duration::ZERO).await
        {
            tracing::warn!(pid = supervisor.pid, %error, "a proxy does not end");
        }
        if let Err((pid, error)) = crate::fleet::proxy::end_left_over(&folder).await {
            tracing::warn!(pid, %error, "an Envoy does not end");
        }
    }
}
