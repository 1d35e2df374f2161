//! `portolan operator`: arguments and logs.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

use clap::Args;

use super::logs;
use crate::{
    operator::{Options, Parts, run},
    source::kubernetes::{Cluster, SecretAccess},
};

/// Arguments of `portolan operator`.
#[derive(Debug, Clone, Args)]
pub(super) struct OperatorArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// The operator's own namespace: its Lease is in it.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = portolan_crds::names::SYSTEM_NAMESPACE)]
    namespace: String,
    /// This replica's name; the host's where not given.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    name: Option<String>,
    /// How Secrets with certificates are read. `referenced` needs a Role in each namespace that holds some; `all` needs a
    /// ClusterRole on Secrets.
    #[arg(long, value_enum, default_value_t = SecretAccess::Referenced)]
    secret_access: SecretAccess,
    /// Where the admin endpoint (health, metrics, status, debug) listens. It needs no login and shows no secret.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9900")]
    admin: SocketAddr,
    #[command(flatten)]
    logs: logs::LogArgs,
}

/// Runs it; `false` when it could not start.
pub(super) fn operator(args: OperatorArgs) -> io::Result<bool> {
    args.logs.start();
    let options = Options {
        namespace: args.namespace,
        identity: identity(args.name),
        secrets: args.secret_access,
        admin: args.admin,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match runtime.block_on(run(&args.cluster, options, Parts::default())) {
        Ok(()) => Ok(true),
        Err(error) => {
            writeln!(io::stderr(), "portolan: {error}")?;
            Ok(false)
        }
    }
}

/// Two replicas never have the same, nor a replica before and after a restart: a pod keeps its name when its container
/// is started again.
fn identity(name: Option<String>) -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}_{:x}_{}", name.unwrap_or_else(host), started.as_nanos(), std::process::id())
}
