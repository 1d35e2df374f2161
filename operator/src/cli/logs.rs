//! Logs of long-running commands: to standard error, for people or as JSON.

use std::io::IsTerminal as _;

use clap::Args;
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Debug, Clone, Args)]
pub(super) struct LogArgs {
    /// What to log: a level, or directives as in `info,portolan_xds=debug`.
    #[arg(long, value_name = "FILTER", env = "PORTOLAN_LOG", default_value = "info")]
    log: String,
    /// Log as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
}

impl LogArgs {
    /// Starts logging. A filter that cannot be read is told and replaced by `info`.
    pub(super) fn start(&self) {
        let (filter, complaint) = match EnvFilter::try_new(&self.log) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new("info"), Some(error)),
        };
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        // A second start in one process keeps the first one.
        let _ = if self.log_json { builder.json().try_init() } else { builder.try_init() };
        if let Some(error) = complaint {
            tracing::warn!(filter = %self.log, %error, "--log is not a filter: logging `info`");
        }
    }
}
