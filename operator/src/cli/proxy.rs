//! `portolan proxy`: the supervisor of one Envoy as a process.

use std::io::{self, Write as _};

use clap::Args;

use super::logs;
use crate::fleet::proxy::{ProxyArgs, run};

/// Arguments of `portolan proxy`.
#[derive(Debug, Clone, Args)]
pub(super) struct ProxyCommand {
    #[command(flatten)]
    proxy: ProxyArgs,
    #[command(flatten)]
    logs: logs::LogArgs,
}

/// Runs it until it is told to stop; `false` when it could not start or ended badly.
pub(super) fn proxy(command: ProxyCommand) -> io::Result<bool> {
    command.logs.start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match runtime.block_on(run(command.proxy)) {
        Ok(()) => Ok(true),
        Err(error) => {
            writeln!(io::stderr(), "portolan: {error}")?;
            Ok(false)
        }
    }
}
