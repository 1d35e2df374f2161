//! Processes that a world started, found again by what they recorded in the state folder.

use std::path::Path;
use std::time::{Duration, Instant};

use portolan::fleet::process::ProcessId;
use portolan::fleet::proxy::LOCK_FILE;
use portolan::fleet::state::StatePaths;
use portolan::fleet::supervisor::ENVOY_FILE;
use rustix::process::Signal;

/// The supervisor and the Envoy of one Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The Gateway, `<namespace>_<name>`.
    pub folder: String,
    /// `portolan proxy`.
    pub supervisor: Option<ProcessId>,
    /// Envoy.
    pub envoy: Option<ProcessId>,
}

/// The proxies that run for a standalone, whether it runs or not.
pub fn proxies(paths: &StatePaths) -> Vec<Proxy> {
    let Ok(entries) = std::fs::read_dir(paths.gateways()) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let folder = entry.path();
        let proxy = Proxy {
            folder: entry.file_name().to_string_lossy().into_owned(),
            supervisor: recorded(&folder.join(LOCK_FILE)),
            envoy: recorded(&folder.join(ENVOY_FILE)),
        };
        if proxy.supervisor.is_some() || proxy.envoy.is_some() {
            found.push(proxy);
        }
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    found
}

fn recorded(path: &Path) -> Option<ProcessId> {
    let text = std::fs::read(path).ok()?;
    serde_json::from_slice::<ProcessId>(&text).ok().filter(ProcessId::is_alive)
}

/// Waits until a process ended. Tells whether it did.
pub fn ended_within(process: &ProcessId, limit: Duration) -> bool {
    let started = Instant::now();
    while process.is_alive() {
        if started.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Kills what is left of a standalone's proxies; supervisors first, or they would start Envoy again.
pub fn kill_left_over(paths: &StatePaths) {
    for proxy in proxies(paths) {
        for process in [proxy.supervisor, proxy.envoy].into_iter().flatten() {
            process.signal(Signal::KILL).ok();
            ended_within(&process, Duration::from_secs(5));
        }
    }
}
