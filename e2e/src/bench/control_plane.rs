//! The `portolan standalone` under measurement, and what the system says of it.

use std::{io, path::Path, time::Duration};

use hyper::Method;
use portolan::fleet::{
    GatewayName,
    state::{Environment, StatePaths},
    unix_http,
};
use tempfile::TempDir;

use super::{
    RunError,
    child::Measured,
    process::{self, Memory},
};

/// The name of the thread that resolves and lowers.
const CORE_THREAD: &str = "resolve";

/// A running control plane. Dropping it kills it.
#[derive(Debug)]
pub(super) struct ControlPlane {
    pub(super) child: Measured,
    paths: StatePaths,
    /// Removed after the process has ended: fields are dropped in this order.
    _state: TempDir,
}

/// CPU time spent so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// By the whole process: user and system, all threads.
    pub(super) process: Duration,
    /// By the thread that resolves, lowers and encodes.
    pub(super) core: Duration,
}

impl ControlPlane {
    /// Starts it on a folder, without proxies; on these processors only, if any are named.
    pub(super) fn start(binary: &Path, folder: &Path, cpus: Option<&str>) -> Result<Self, RunError> {
        let state = TempDir::with_prefix("portolan-bench-state-")?;
        let environment = Environment {
            portolan_state: Some(state.path().into()),
            xdg_runtime_dir: Some(state.path().into()),
            ..Environment::default()
        };
        let paths = StatePaths::of(&[folder.to_owned()], &environment)
            .map_err(|error| RunError::Start(error.to_string()))?;
        let child = Measured::start(binary, cpus, state.path().join("log"), |command| {
            command
                .args(["standalone", "--no-proxies", "--ports", "auto"])
                .arg(folder)
                .env("PORTOLAN_STATE", state.path())
                .env("XDG_RUNTIME_DIR", state.path());
        });
        let child = child.map_err(|error| RunError::Start(error.to_string()))?;
        Ok(Self { child, paths, _state: state })
    }

    /// The socket that the Gateway's proxy would connect to.
    pub(super) fn xds_socket(&self) -> Result<std::path::PathBuf, RunError> {
        let name = GatewayName::new("default", "web").map_err(|error| RunError::Start(error.to_string()))?;
        Ok(self.paths.xds_socket(&name))
    }

    /// Fails when the process has ended, with the end of its log.
    pub(super) fn check(&mut self) -> Result<(), RunError> {
        self.child.ended()?.map_or(Ok(()), |how| Err(RunError::Ended(how)))
    }

    /// CPU time so far, of the threads that live.
    pub(super) fn cpu(&self) -> io::Result<Cpu> {
        let threads = process::threads(self.child.id())?;
        let core = threads.iter().find(|(name, _)| name == CORE_THREAD).map(|(_, spent)| *spent);
        let core = core.ok_or_else(|| process::unexpected("thread that resolves"))?;
        Ok(Cpu { process: threads.iter().map(|(_, spent)| *spent).sum(), core })
    }

    /// Resident memory.
    pub(super) fn memory(&self) -> io::Result<Memory> {
        process::memory(self.child.id())
    }

    /// The sum and the count of one of its histograms.
    pub(super) async fn histogram(&self, name: &str) -> Result<(f64, f64), RunError> {
        let (socket, patience) = (self.paths.api_socket(), Duration::from_secs(30));
        let (_, body) = unix_http::request(&socket, Method::GET, "/metrics", patience)
            .await
            .map_err(RunError::Metrics)?;
        let text = String::from_utf8_lossy(&body);
        let sample = |suffix: &str| {
            let values = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
                series.split('{').next().and_then(|series| series.strip_prefix(name)) == Some(suffix)
            });
            values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum::<f64>()
        };
        Ok((sample("_sum"), sample("_count")))
    }

    /// Ends it in order.
    pub(super) async fn stop(self) -> Result<(), RunError> {
        self.child.stop().await.map_err(|error| RunError::Ended(error.to_string()))
    }
}
