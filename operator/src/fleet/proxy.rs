//! `portolan proxy`: the supervisor as a process of its own.
//!
//! It takes the lock of its state folder (two supervisors never run for one Gateway), ends an Envoy that a killed
//! predecessor left, writes the bootstrap and supervises. SIGTERM or Ctrl-C drains; a second one ends at once.
//!
//! On a laptop its control plane is a Unix socket. In a pod it is the operator's Service, over mutual TLS with the
//! certificate of its Gateway, which Envoy reads again whenever it is renewed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use portolan_xds::bootstrap::{BootstrapConfig, XdsEndpoint, secret_files};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::admin::Admin;
use super::envoy::{self, Environment, EnvoyError};
use super::files::{FileError, private_folder, read_json, remove, write_private};
use super::lock::{Lock, LockError};
use super::pod;
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
pub const KILL_GRACE: Duration = Duration::from_secs(5);
/// In the state folder: the files that tell Envoy where its certificate is.
const SECRETS_FOLDER: &str = "sds";

/// Runs and supervises the Envoy of one Gateway.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// The Gateway that this proxy serves.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub gateway: GatewayName,
    /// Unix socket of the xDS server for this Gateway.
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present = "xds_address",
        conflicts_with = "xds_address"
    )]
    pub xds_socket: Option<PathBuf>,
    /// The xDS server's host and port, for a proxy in a pod. Its certificate must have this host's name.
    #[arg(long, value_name = "HOST:PORT", requires = "identity")]
    pub xds_address: Option<HostPort>,
    /// Folder with tls.crt, tls.key and ca.crt: what this proxy shows the xDS server, and whom it trusts. Renewed files
    /// are read without a restart.
    #[arg(long, value_name = "FOLDER", requires = "xds_address", conflicts_with = "xds_socket")]
    pub identity: Option<PathBuf>,
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
    #[arg(long, value_name = "N", env = pod::CONCURRENCY, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: Option<u32>,
    /// Bytes of memory that this proxy may use; Envoy sheds load before they are used up. No limit if absent.
    #[arg(long, value_name = "BYTES", env = pod::MEMORY)]
    pub memory: Option<u64>,
    /// What the control plane shows this proxy as; the Gateway and process id if absent.
    #[arg(long, value_name = "NAME", env = pod::NAME)]
    pub node: Option<String>,
    /// Also answer /ready, /live and /stats/prometheus on this port of all addresses.
    #[arg(long, value_name = "PORT")]
    pub pod_port: Option<u16>,
    /// Seconds that a stop waits for connections to end by themselves.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain_time: u64,
    /// Seconds that a stop goes on accepting connections at least: load balancers learn of it late.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub min_drain_time: u64,
    /// Seconds that the proxy serves without a control plane before it drains and ends; 0 is for ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub max_detached: u64,
    /// Envoy's log level.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["trace", "debug", "info", "warning", "error", "critical", "off"])]
    pub log_level: String,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A DNS name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Text that is not `<host>:<port>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not <host>:<port>, such as portolan.portolan-system.svc:18000")]
pub struct HostPortError(String);

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || HostPortError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
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
    /// Neither of the two ways to the control plane is given.
    #[error("no control plane is given: use --xds-socket, or --xds-address with --identity")]
    NoControlPlane,
    /// The port of the pod is taken.
    #[error("cannot listen on port {port}, which is reserved for the pod's probes and statistics: {source}")]
    PodPort {
        /// The port.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// The supervisor gave up.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

/// Runs a proxy until it is told to stop; its Envoy gets everything from the control plane.
///
/// # Errors
/// As [`run_with`].
pub async fn run(args: ProxyArgs) -> Result<(), ProxyError> {
    run_with(args, ads_bootstrap).await
}

/// The bootstrap of an Envoy that gets its configuration from the arguments' control plane. Writes the files that it
/// names into the state folder.
fn ads_bootstrap(args: &ProxyArgs) -> Result<String, ProxyError> {
    let bootstrap = portolan_xds::bootstrap::bootstrap(&BootstrapConfig {
        node_id: args.node.clone().unwrap_or_else(|| format!("{}/{}", args.gateway, std::process::id())),
        node_cluster: args.gateway.to_string(),
        admin_socket: args.admin_socket(),
        xds: endpoint(args)?,
        max_heap_bytes: args.memory.map(pod::max_heap),
        max_connections: args.memory.and_then(|_| pod::max_connections()),
        cluster_stats: false,
    });
    portolan_xds::bootstrap::to_json(&bootstrap).map_err(|error| ProxyError::Bootstrap(error.to_string()))
}

fn endpoint(args: &ProxyArgs) -> Result<XdsEndpoint, ProxyError> {
    match (&args.xds_socket, &args.xds_address, &args.identity) {
        (Some(socket), ..) => Ok(XdsEndpoint::Unix(socket.clone())),
        (None, Some(address), Some(identity)) => {
            let secrets = args.state_dir.join(SECRETS_FOLDER);
            private_folder(&secrets)?;
            let files = secret_files(identity).map_err(|error| ProxyError::Bootstrap(error.to_string()))?;
            for (name, text) in files {
                write_private(&secrets.join(name), text.as_bytes())?;
            }
            Ok(XdsEndpoint::Tls {
                host: address.host.clone(),
                port: address.port,
                server_name: address.host.clone(),
                secrets,
            })
        }
        // The command line has made sure of one of the two.
        (None, ..) => Err(ProxyError::NoControlPlane),
    }
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
    if let Some(socket) = &args.xds_socket {
        check_socket(socket)?;
    }
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
        min_drain_time: Duration::from_secs(args.min_drain_time),
        kill_grace: KILL_GRACE,
        max_detached: (args.max_detached > 0).then(|| Duration::from_secs(args.max_detached)),
    });
    let looked_at = match args.pod_port {
        None => None,
        Some(port) => {
            let listener = pod::listen(port).await.map_err(|source| ProxyError::PodPort { port, source })?;
            let admin = Admin::new(&args.admin_socket());
            Some(tokio::spawn(pod::serve(listener, supervisor.status(), admin)))
        }
    };
    let stop = Stop::default();
    let ended = tokio::select! {
        ended = supervisor.run(stop.clone()) => ended?,
        // Never returns: a signal only tells the supervisor.
        () = signals.forward(&stop) => Ended::Stopped,
    };
    if let Some(looked_at) = looked_at {
        looked_at.abort();
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        proxy: ProxyArgs,
    }

    fn parse(args: &[&str]) -> Result<ProxyArgs, clap::Error> {
        let all = ["proxy", "--gateway=a/b", "--state-dir=/s"].iter().chain(args);
        Command::try_parse_from(all).map(|command| command.proxy)
    }

    #[test]
    fn a_proxy_has_one_way_to_its_control_plane() {
        assert!(parse(&["--xds-socket=/x"]).is_ok());
        let pod = parse(&["--xds-address=portolan.portolan-system.svc:18000", "--identity=/i"]).unwrap();
        let address = HostPort { host: "portolan.portolan-system.svc".to_owned(), port: 18_000 };
        assert_eq!(pod.xds_address, Some(address));
        for wrong in [
            &[][..],
            &["--xds-address=a:1"],
            &["--identity=/i"],
            &["--xds-socket=/x", "--identity=/i"],
            &["--xds-socket=/x", "--xds-address=a:1", "--identity=/i"],
            &["--xds-address=a", "--identity=/i"],
            &["--xds-address=:1", "--identity=/i"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_ipv6_address_is_read() {
        assert_eq!("[::1]:18000".parse(), Ok(HostPort { host: "::1".to_owned(), port: 18_000 }));
    }

    #[test]
    fn a_pods_bootstrap_names_files_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        private_folder(&state).unwrap();
        let mut args = parse(&["--xds-address=xds.example:18000", "--identity=/etc/identity"]).unwrap();
        args.state_dir.clone_from(&state);
        args.memory = Some(100 << 20);
        let bootstrap = ads_bootstrap(&args).unwrap();
        for (name, contains) in
            [("certificate.json", "/etc/identity/tls.key"), ("authorities.json", "ca.crt")]
        {
            let file = state.join(SECRETS_FOLDER).join(name);
            assert!(bootstrap.contains(&file.display().to_string()), "{bootstrap}");
            assert!(std::fs::read_to_string(file).unwrap().contains(contains));
        }
        assert!(bootstrap.contains(&(80_u64 << 20).to_string()), "{bootstrap}");
    }
}
