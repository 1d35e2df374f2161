//! `portolan proxy`: the supervisor as a process of its own.
//!
//! It takes the lock of its state folder (two supervisors never run for one Gateway), ends an Envoy that a killed
//! predecessor left, writes the bootstrap and supervises. SIGTERM or Ctrl-C drains; a second one ends at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use portolan_xds::bootstrap::{BootstrapConfig, XdsEndpoint};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::envoy::{self, Environment, EnvoyError};
use super::files::{FileError, private_folder, read_json, remove};
use super::lock::{Lock, LockError};
use super::process::ProcessId;
use super::state::check_socket;
use super::status::{ProxyState, ProxyStatus};
use super::supervisor::{ENVOY_FILE, Ended, ProxyConfig, Stop, Supervisor, SupervisorError};
use super::{GatewayName, state::SocketError};

/// The lock of a proxy's state folder; it holds the supervisor's process id and start time.
pub const LOCK_FILE: &str = "proxy.lock";

/// How long a left-over Envoy may take to end.
const LEFT_OVER_GRACE: Duration = Duration::from_secs(2);
/// How long Envoy may take to end after SIGTERM.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// Runs and supervises the Envoy of one Gateway.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// The Gateway that this proxy serves.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub gateway: GatewayName,
    /// Unix socket of the xDS server for this Gateway.
    #[arg(long, value_name = "PATH")]
    pub xds_socket: PathBuf,
    /// Folder for the bootstrap, the status, and the lock; made where it is missing.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: PathBuf,
    /// Unix socket for Envoy's admin interface; `admin.sock` in the state folder if absent.
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// The Envoy binary; else PORTOLAN_ENVOY, `envoy` on PATH, or the cache folder.
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// Envoy's worker threads; one per processor if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: Option<u32>,
    /// Seconds that a stop waits for connections to end by themselves.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain_time: u64,
    /// Seconds that the proxy serves without a control plane before it drains and ends; 0 is for ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub max_detached: u64,
    /// Envoy's log level.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["trace", "debug", "info", "warning", "error", "critical", "off"])]
    pub log_level: String,
}

impl ProxyArgs {
    /// Where Envoy's admin interface is.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin_socket.clone().unwrap_or_else(|| self.state_dir.join("admin.sock"))
    }
}

/// Why a proxy did not start, or gave up.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Another supervisor runs for this Gateway.
    #[error("the proxy of Gateway {gateway} is {source}")]
    Locked {
        /// The Gateway.
        gateway: GatewayName,
        /// Who holds the lock.
        source: LockError,
    },
    /// The Envoy of a killed supervisor still runs and does not end.
    #[error("cannot end the Envoy that an earlier proxy of Gateway {gateway} left (pid {pid}): {source}")]
    LeftOver {
        /// The Gateway.
        gateway: GatewayName,
        /// Envoy's process id.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no Envoy to run.
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
    /// A socket's path is too long.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The bootstrap could not be written as JSON.
    #[error("cannot write Envoy's bootstrap: {0}")]
    Bootstrap(String),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// The supervisor gave up.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

/// Runs a proxy until it is told to stop; its Envoy gets everything from the xDS socket.
///
/// # Errors
/// As [`run_with`].
pub async fn run(args: ProxyArgs) -> Result<(), ProxyError> {
    run_with(args, ads_bootstrap).await
}

/// The bootstrap of an Envoy that gets its configuration from the arguments' xDS socket.
fn ads_bootstrap(args: &ProxyArgs) -> Result<String, ProxyError> {
    let bootstrap = portolan_xds::bootstrap::bootstrap(&BootstrapConfig {
        node_id: format!("{}/{}", args.gateway, std::process::id()),
        node_cluster: args.gateway.to_string(),
        admin_socket: args.admin_socket(),
        xds: XdsEndpoint::Unix(args.xds_socket.clone()),
        max_heap_bytes: None,
        max_connections: None,
        cluster_stats: false,
    });
    portolan_xds::bootstrap::to_json(&bootstrap).map_err(|error| ProxyError::Bootstrap(error.to_string()))
}

/// [`run`] with another bootstrap: one that needs no control plane, in tests.
///
/// # Errors
/// Where another one runs, Envoy is missing or cannot be started, or the state folder cannot be used. What went wrong
/// is also in the folder's status, once the lock was taken.
pub async fn run_with(
    args: ProxyArgs,
    bootstrap: impl FnOnce(&ProxyArgs) -> Result<String, ProxyError>,
) -> Result<(), ProxyError> {
    // First, so that a signal during the start is not lost.
    let signals = Signals::new().map_err(ProxyError::Signals)?;
    private_folder(&args.state_dir)?;
    let lock = match Lock::take(&args.state_dir.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(source) => return Err(ProxyError::Locked { gateway: args.gateway, source }),
    };
    let result = supervise(&args, bootstrap, signals).await;
    if let Err(error) = &result {
        let failed = ProxyStatus {
            state: ProxyState::Stopped,
            message: Some(error.to_string()),
            ..ProxyStatus::starting(&args.gateway.to_string())
        };
        if let Err(error) = failed.write(&args.state_dir) {
            tracing::warn!(%error, "status not written");
        }
    }
    drop(lock);
    result
}

async fn supervise(
    args: &ProxyArgs,
    bootstrap: impl FnOnce(&ProxyArgs) -> Result<String, ProxyError>,
    signals: Signals,
) -> Result<(), ProxyError> {
    end_left_over(&args.state_dir).await.map_err(|(pid, source)| ProxyError::LeftOver {
        gateway: args.gateway.clone(),
        pid,
        source,
    })?;
    check_socket(&args.admin_socket())?;
    check_socket(&args.xds_socket)?;
    let envoy = envoy::find(args.envoy.as_deref(), &Environment::current())?;
    let version = envoy::check(&envoy).await?;
    tracing::info!(gateway = %args.gateway, envoy = %envoy.display(), %version, "supervising");
    let supervisor = Supervisor::new(ProxyConfig {
        gateway: args.gateway.to_string(),
        envoy,
        bootstrap: bootstrap(args)?,
        folder: args.state_dir.clone(),
        admin_socket: args.admin_socket(),
        concurrency: args.concurrency,
        log_level: args.log_level.clone(),
        drain_time: Duration::from_secs(args.drain_time),
        kill_grace: KILL_GRACE,
        max_detached: (args.max_detached > 0).then(|| Duration::from_secs(args.max_detached)),
    });
    let stop = Stop::default();
    let ended = tokio::select! {
        ended = supervisor.run(stop.clone()) => ended?,
        // Never returns: a signal only tells the supervisor.
        () = signals.forward(&stop) => Ended::Stopped,
    };
    tracing::info!(gateway = %args.gateway, ?ended, "ended");
    Ok(())
}

/// Ends the Envoy of a supervisor that was killed. Call it with the folder's lock held, or once its holder is gone.
///
/// # Errors
/// Envoy's process id, and why it does not end.
pub async fn end_left_over(folder: &Path) -> Result<(), (u32, std::io::Error)> {
    let path = folder.join(ENVOY_FILE);
    // An unreadable file names nothing to end.
    if let Some(id) = read_json::<ProcessId>(&path).ok().flatten() {
        if id.is_alive() {
            tracing::warn!(pid = id.pid, "ending the Envoy that an earlier supervisor left");
        }
        id.end(LEFT_OVER_GRACE).await.map_err(|error| (id.pid, error))?;
    }
    remove(&path).map_err(|error| (0, std::io::Error::other(error)))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // Received so that a closing terminal ends nothing.
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn forward(mut self, stop: &Stop) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.hang_up.recv() => continue,
            }
            if stop.drain.is_cancelled() {
                stop.now.cancel();
            }
            stop.drain.cancel();
        }
    }
}
