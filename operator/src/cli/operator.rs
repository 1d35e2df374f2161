//! `portolan operator`: arguments and logs.

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
};

use clap::Args;
use tokio::runtime::{Builder, Runtime};

use super::logs;
use crate::{
    fleet::cluster::Installation,
    operator::{Options, run},
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
    /// Where proxies connect, by mutual TLS.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:18000")]
    xds: SocketAddr,
    /// Where other replicas reach that port, such as the pod's address: an IP, or IP:PORT where the port is not --xds's.
    /// Without it, this replica as a leader does not know what proxies of other replicas acknowledge.
    #[arg(long, value_name = "IP[:PORT]", env = "POD_IP", value_parser = peer_address)]
    peer_address: Option<SocketAddr>,
    /// The name by which proxies reach that port; portolan.NAMESPACE.svc where not given.
    #[arg(long, value_name = "HOST")]
    xds_host: Option<String>,
    /// The port of that name.
    #[arg(long, value_name = "PORT", default_value_t = 18_000)]
    xds_port: u16,
    /// The image of the proxies, unless a FleetConfig names another.
    #[arg(long, value_name = "IMAGE", env = "PORTOLAN_PROXY_IMAGE", default_value = concat!("portolan.dev/portolan-proxy:v", env!("CARGO_PKG_VERSION")))]
    proxy_image: String,
    #[command(flatten)]
    logs: logs::LogArgs,
}

/// An address of this replica, with port 0 for the one that it listens on.
fn peer_address(text: &str) -> Result<SocketAddr, String> {
    let ip = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    ip.or_else(|_| text.parse())
        .map_err(|_| "expected an IP address, or one with a port: 10.0.0.7:18000".to_owned())
}

/// Runs it; `false` when it could not start.
pub(super) fn operator(args: OperatorArgs) -> io::Result<bool> {
    args.logs.start();
    let installation = Installation {
        namespace: args.namespace.clone(),
        proxy_image: args.proxy_image,
        xds_host: args.xds_host.unwrap_or_else(|| format!("portolan.{}.svc", args.namespace)),
        xds_port: args.xds_port,
    };
    let options = Options {
        namespace: args.namespace,
        identity: identity(args.name),
        secrets: args.secret_access,
        admin: args.admin,
        xds: args.xds,
        peer_address: args.peer_address,
        installation,
    };
    let (objects, proxies) = (thread("objects")?, thread("proxies")?);
    match objects.block_on(run(&args.cluster, options, proxies.handle())) {
        Ok(()) => Ok(true),
        Err(error) => {
            writeln!(io::stderr(), "portolan: {error}")?;
            Ok(false)
        }
    }
}

/// A runtime of one thread. What the API server sends and what proxies send have one each: a long list holds no proxy up. More
/// than one would cost more than it brings (docs/decisions/0006): tokio wakes a second thread for every event, which finds
/// nothing to do.
fn thread(name: &str) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build()
}

/// Two replicas never have the same, nor a replica before and after a restart: a pod keeps its name when its container
/// is started again.
fn identity(name: Option<String>) -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}_{:x}_{}", name.unwrap_or_else(host), started.as_nanos(), std::process::id())
}
