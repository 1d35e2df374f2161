//! What a supervisor says about its Envoy, in a file that anyone of the same user can read.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::files::{FileError, read_json, write_json};

/// The file's name in a proxy's state folder.
pub const FILE: &str = "status.json";

/// Where an Envoy is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyState {
    /// It was started and is not live yet.
    Starting,
    /// It is live: it has its first configuration and serves.
    Ready,
    /// It was live, and its admin interface does not say so now.
    NotReady,
    /// It died; the next start is waiting for its time.
    Restarting,
    /// It finishes what it has and then ends.
    Draining,
    /// It ended, and its supervisor with it.
    Stopped,
}

/// A supervisor's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// The Gateway, `<namespace>/<name>`.
    pub gateway: String,
    /// The supervisor's process id.
    pub supervisor: u32,
    /// Envoy's process id, while there is one.
    pub envoy: Option<u32>,
    /// Where it is in its life.
    pub state: ProxyState,
    /// Since when.
    pub since: Timestamp,
    /// How often Envoy died and was started again.
    pub restarts: u32,
    /// Whether Envoy's stream to the control plane is up; unknown before Envoy says so.
    pub connected: Option<bool>,
    /// Why it is not ready, or why it last died.
    pub message: Option<String>,
}

impl ProxyStatus {
    /// The report of a supervisor that has just started.
    pub fn starting(gateway: &str) -> Self {
        Self {
            gateway: gateway.to_owned(),
            supervisor: std::process::id(),
            envoy: None,
            state: ProxyState::Starting,
            since: Timestamp::now(),
            restarts: 0,
            connected: None,
            message: None,
        }
    }

    /// Writes it into a proxy's state folder.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), FileError> {
        write_json(&folder.join(FILE), self)
    }

    /// Reads it from a proxy's state folder, if there is one.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>, FileError> {
        read_json(&folder.join(FILE))
    }
}
