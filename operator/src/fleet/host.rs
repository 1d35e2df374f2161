//! The fleet of a standalone: one `portolan proxy` process per Gateway on this host.
//!
//! A proxy is started detached, so it outlives a killed standalone; the next one finds it by its state folder and attaches
//! again. It is stopped when its Gateway goes, or on a clean stop. Dropping a [`HostFleet`] ends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;

use super::GatewayName;
use super::backoff::{Backoff, jitter};
use super::files::{FileError, private_folder, remove};
use super::lock::Lock;
use super::process::ProcessId;
use super::proxy::{LOCK_FILE, end_left_over};
use super::state::StatePaths;
use super::status::{FILE as STATUS_FILE, ProxyState, ProxyStatus};

/// The log of a proxy, in its state folder; the one before it has `.1` appended.
pub const LOG_FILE: &str = "proxy.log";
/// Which Gateway a folder is for.
const GATEWAY_FILE: &str = "gateway";

/// How long a proxy may take beyond its drain time before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// First and longest wait before a proxy that ended is started again.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// A proxy that ran this long has not failed to start.
const SETTLED: Duration = Duration::from_mins(1);

/// How proxies are run.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The `portolan` binary, usually `std::env::current_exe()`.
    pub program: PathBuf,
    /// Where everything of this standalone is.
    pub paths: StatePaths,
    /// The Envoy binary. Nothing is started without one; what runs already is attached to and stopped as ever.
    pub envoy: Option<PathBuf>,
    /// Envoy's worker threads; one per processor if absent.
    pub concurrency: Option<u32>,
    /// How long a stop waits for connections to end by themselves.
    pub drain_time: Duration,
    /// How long a proxy serves without a standalone; zero is for ever.
    pub max_detached: Duration,
    /// Envoy's log level.
    pub log_level: String,
}

/// Why a proxy could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The process could not be started.
    #[error("cannot start the proxy of Gateway {gateway} ({}): {source}", program.display())]
    Spawn {
        /// The Gateway.
        gateway: GatewayName,
        /// What was run.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The process, or an Envoy that it left, does not end.
    #[error("cannot stop the proxy of Gateway {gateway} (pid {pid}): {source}")]
    Stop {
        /// The Gateway.
        gateway: GatewayName,
        /// The process.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What [`HostFleet::ensure`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// The proxy runs, and did when we last looked.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// The proxy outlived an earlier standalone.
    Attached {
        /// Its process id.
        pid: u32,
    },
    /// The proxy was started.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// No proxy runs, and this fleet starts none.
    NotStarted,
    /// The proxy ended again and again; it is started at the next call after that long.
    Waiting {
        /// How long to wait.
        wait: Duration,
    },
}

/// How the proxy of a Gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetStatus {
    /// Whether its Envoy is live.
    pub ready: bool,
    /// The supervisor's process id, while it runs.
    pub pid: Option<u32>,
    /// How often Envoy was started again.
    pub restarts: u32,
    /// Why it is not ready.
    pub message: Option<String>,
}

#[derive(Debug)]
struct Running {
    process: ProcessId,
    since: Instant,
}

#[derive(Debug)]
struct Proxy {
    running: Option<Running>,
    backoff: Backoff,
    not_before: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct HostFleet {
    config: HostConfig,
    proxies: BTreeMap<GatewayName, Proxy>,
}

impl HostFleet {
    /// A fleet without any proxy yet.
    pub fn new(mut config: HostConfig) -> Self {
        // Proxies run in another folder than we do.
        for path in [&mut config.program].into_iter().chain(&mut config.envoy) {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
        Self { config, proxies: BTreeMap::new() }
    }

    /// The Gateways whose proxies outlived an earlier standalone: their ports are ours ([`super::ports::Ports::trust`]), and
    /// those that are no longer wanted are to be stopped.
    ///
    /// # Errors
    /// Where the state folder cannot be read.
    pub fn left_over(&self) -> Result<Vec<GatewayName>, FileError> {
        let mut found = Vec::new();
        for folder in self.folders()? {
            let name = std::fs::read_to_string(folder.join(GATEWAY_FILE)).ok();
            let gateway = name.and_then(|name| name.trim().parse::<GatewayName>().ok());
            let alive = Lock::holder(&folder.join(LOCK_FILE)).is_some();
            found.extend(gateway.filter(|_| alive));
        }
        found.sort();
        Ok(found)
    }

    fn folders(&self) -> Result<Vec<PathBuf>, FileError> {
        let root = self.config.paths.gateways();
        let entries = match std::fs::read_dir(&root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FileError::on("read", &root))?,
        };
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(FileError::on("read", &root))).collect()
    }

    /// Sees to it that the Gateway's proxy runs: attaches to one that does, or starts one. Call it again and again (every
    /// second, say): a proxy that ended is started again, ever more slowly while it keeps ending. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Where its folder cannot be made, or the process cannot be started.
    pub fn ensure(&mut self, gateway: &GatewayName) -> Result<Ensured, HostError> {
        let now = Instant::now();
        let folder = self.config.paths.gateway(gateway);
        let known = self.proxies.contains_key(gateway);
        let proxy = self.proxies.entry(gateway.clone()).or_insert_with(|| Proxy {
            running: None,
            backoff: Backoff::new(WAITS.0, WAITS.1),
            not_before: now,
        });
        if let Some(running) = &proxy.running {
            if running.process.is_alive() {
                return Ok(Ensured::Running { pid: running.process.pid });
            }
            if running.since.elapsed() >= SETTLED {
                proxy.backoff.reset();
            }
            proxy.running = None;
            proxy.not_before = now + proxy.backoff.fail(jitter());
        }
        if let Some(process) = Lock::holder(&folder.join(LOCK_FILE)) {
            let pid = process.pid;
            proxy.running = Some(Running { process, since: now });
            return Ok(if known { Ensured::Running { pid } } else { Ensured::Attached { pid } });
        }
        let Some(envoy) = &self.config.envoy else { return Ok(Ensured::NotStarted) };
        let wait = proxy.not_before.saturating_duration_since(now);
        if !wait.is_zero() {
            return Ok(Ensured::Waiting { wait });
        }
        match start(&self.config, envoy, gateway, &folder) {
            Ok(process) => {
                let pid = process.pid;
                proxy.running = Some(Running { process, since: now });
                Ok(Ensured::Started { pid })
            }
            Err(error) => {
                proxy.not_before = now + proxy.backoff.fail(jitter());
                Err(error)
            }
        }
    }

    /// Drains and ends the Gateway's proxy, if one runs, and forgets its folder. The future takes as long as the drain
    /// does, and needs the fleet no more: others go on meanwhile. Do not call [`HostFleet::ensure`] before it is done.
    ///
    /// # Errors
    /// Where the process does not end.
    pub fn stop(
        &mut self,
        gateway: &GatewayName,
    ) -> impl Future<Output = Result<(), HostError>> + Send + use<> {
        // A proxy that was just started holds no lock yet.
        let started = self.proxies.remove(gateway).and_then(|proxy| proxy.running);
        let (config, gateway) = (self.config.clone(), gateway.clone());
        async move { stop(&config, &gateway, started.map(|running| running.process)).await }
    }

    /// Drains and ends several proxies at the same time; see [`HostFleet::stop`]. Returns what went wrong.
    pub async fn stop_all(&mut self, gateways: &BTreeSet<GatewayName>) -> Vec<HostError> {
        let stops: Vec<_> = gateways.iter().map(|gateway| self.stop(gateway)).collect();
        futures::future::join_all(stops).await.into_iter().filter_map(Result::err).collect()
    }

    /// All Gateways that [`HostFleet::ensure`] was called for.
    pub fn gateways(&self) -> BTreeSet<GatewayName> {
        self.proxies.keys().cloned().collect()
    }

    /// How the Gateway's proxy is, by its own report and by whether it still runs.
    pub fn status(&self, gateway: &GatewayName) -> FleetStatus {
        let mut status = status(&self.config.paths.gateway(gateway));
        let started = self.proxies.get(gateway).and_then(|proxy| proxy.running.as_ref());
        if let Some(running) = started.filter(|running| status.pid.is_none() && running.process.is_alive()) {
            status.pid = Some(running.process.pid);
            status.message = Some("the proxy starts".to_owned());
        }
        status
    }
}

/// How the proxy of a state folder is; also for those who only look on (`portolan status`).
pub fn status(folder: &Path) -> FleetStatus {
    let pid = Lock::holder(&folder.join(LOCK_FILE)).map(|process| process.pid);
    let report = match ProxyStatus::read(folder) {
        Ok(Some(report)) => report,
        Ok(None) => {
            let message = if pid.is_some() { "the proxy starts" } else { "no proxy runs" };
            return FleetStatus { ready: false, pid, restarts: 0, message: Some(message.to_owned()) };
        }
        Err(error) => {
            return FleetStatus { ready: false, pid, restarts: 0, message: Some(error.to_string()) };
        }
    };
    // What a process says that is gone, or one before it, is history.
    let current = pid == Some(report.supervisor);
    let ready = current && report.state == ProxyState::Ready;
    let message = match (ready, current, report.message) {
        (true, _, _) => None,
        (_, true, Some(message)) => Some(message),
        (_, true, None) => Some("Envoy starts".to_owned()),
        (_, false, Some(message)) if pid.is_none() && report.state == ProxyState::Stopped => {
            Some(format!("the proxy ended: {message}"))
        }
        (_, false, _) if pid.is_none() => {
            Some(format!("the proxy was killed; see {}", folder.join(LOG_FILE).display()))
        }
        (_, false, _) => Some("the proxy starts".to_owned()),
    };
    FleetStatus { ready, pid, restarts: report.restarts, message }
}

fn start(
    config: &HostConfig,
    envoy: &Path,
    gateway: &GatewayName,
    folder: &Path,
) -> Result<ProcessId, HostError> {
    private_folder(folder)?;
    super::files::write_private(&folder.join(GATEWAY_FILE), format!("{gateway}\n").as_bytes())?;
    remove(&folder.join(STATUS_FILE))?;
    let log = open_log(folder)?;
    let again = log.try_clone().map_err(FileError::on("open", &folder.join(LOG_FILE)))?;
    let spawn_error =
        |source| HostError::Spawn { gateway: gateway.clone(), program: config.program.clone(), source };
    let mut command = Command::new(&config.program);
    command
        .arg("proxy")
        .args(["--gateway", &gateway.to_string()])
        .arg("--xds-socket")
        .arg(config.paths.xds_socket(gateway))
        .arg("--admin-socket")
        .arg(config.paths.admin_socket(gateway))
        .arg("--state-dir")
        .arg(folder)
        .arg("--envoy")
        .arg(envoy)
        .args(["--drain-time", &config.drain_time.as_secs().to_string()])
        .args(["--max-detached", &config.max_detached.as_secs().to_string()])
        .args(["--log-level", &config.log_level]);
    if let Some(concurrency) = config.concurrency {
        command.args(["--concurrency", &concurrency.to_string()]);
    }
    // A group of its own: a terminal's Ctrl-C ends the standalone, which then decides. The runtime reaps the child when the
    // handle is dropped.
    let child = command
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(again)
        .spawn()
        .map_err(spawn_error)?;
    let pid = child.id().unwrap_or_default();
    ProcessId::of(pid).map_err(spawn_error)
}

/// A new log; the last one is kept, older ones are not.
fn open_log(folder: &Path) -> Result<std::fs::File, FileError> {
    let path = folder.join(LOG_FILE);
    let before = folder.join(format!("{LOG_FILE}.1"));
    match std::fs::rename(&path, &before) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(FileError::on("rename", &path)(error));
        }
        _ => {}
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(FileError::on("open", &path))
}

async fn stop(
    config: &HostConfig,
    gateway: &GatewayName,
    started: Option<ProcessId>,
) -> Result<(), HostError> {
    let folder = config.paths.gateway(gateway);
    let started = started.filter(ProcessId::is_alive);
    if let Some(process) = started.or_else(|| Lock::holder(&folder.join(LOCK_FILE))) {
        let failed = |source| HostError::Stop { gateway: gateway.clone(), pid: process.pid, source };
        process.signal(Signal::TERM).map_err(failed)?;
        if !process.ended_within(config.drain_time + STOP_GRACE).await {
            tracing::warn!(%gateway, pid = process.pid, "the proxy does not end; killing it");
            process.end(Duration::ZERO).await.map_err(failed)?;
        }
    }
    end_left_over(&folder).await.map_err(|(pid, source)| HostError::Stop {
        gateway: gateway.clone(),
        pid,
        source,
    })?;
    for socket in [config.paths.admin_socket(gateway), config.paths.xds_socket(gateway)] {
        remove(&socket)?;
    }
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::on("remove", &folder)(error).into())
        }
        _ => Ok(()),
    }
}
