//! `portolan standalone`: arguments, logs, and a first look at what came of it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{Format, logs, status};
use crate::{
    fleet::{ports::PortPolicy, state::StatePaths},
    standalone::{Options, run},
};

/// How long the first table waits for every Gateway to be programmed.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// How API ports become bound ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PortsChoice {
    /// The same number, or the listener is PortUnavailable.
    Exact,
    /// The same number where this user may bind it; else another one, shown in the status.
    Auto,
}

/// Arguments of `portolan standalone`.
#[derive(Debug, Clone, Args)]
pub(super) struct StandaloneArgs {
    /// Files or folders with manifests in YAML or JSON; they are watched.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The Envoy binary. Found on PATH or in the cache folder where not given.
    #[arg(long, value_name = "PATH", env = "PORTOLAN_ENVOY")]
    envoy: Option<PathBuf>,
    /// One address for all Gateways. Without it each gets a loopback address of its own, stable by name.
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// How a listener's port becomes a bound port. The default suits this user.
    #[arg(long, value_enum)]
    ports: Option<PortsChoice>,
    /// Also serve the admin endpoint (health, metrics, status, debug) on this address. It needs no login: keep it on
    /// loopback.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Envoy's worker threads; one per processor where not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Option<u32>,
    /// How long a stop waits for connections to end by themselves, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_time: u64,
    /// How long proxies go on serving when this process is gone, in seconds; 0 is for ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    max_detached: u64,
    /// Envoy's log level; its log is in the state folder.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["trace", "debug", "info", "warning", "error", "critical", "off"])]
    envoy_log_level: String,
    /// Start no Envoy. Ports are placed and configuration is served on each Gateway's xDS socket, for a proxy or a test
    /// client that you run yourself.
    #[arg(long)]
    no_proxies: bool,
    #[command(flatten)]
    logs: logs::LogArgs,
}

/// Runs it; `false` when it could not start or ended badly.
pub(super) fn standalone(args: StandaloneArgs) -> io::Result<bool> {
    args.logs.start();
    let options = Options {
        inputs: args.paths.clone(),
        envoy: args.envoy,
        bind: args.bind,
        ports: match args.ports {
            None => PortPolicy::detect(),
            Some(PortsChoice::Exact) => PortPolicy::Exact,
            Some(PortsChoice::Auto) => PortPolicy::auto(),
        },
        admin: args.admin,
        concurrency: args.concurrency,
        drain_time: Duration::from_secs(args.drain_time),
        max_detached: Duration::from_secs(args.max_detached),
        envoy_log_level: args.envoy_log_level,
        proxies: !args.no_proxies,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run(options, |paths| {
        // Scripts ask `portolan status`; a person at a terminal is shown what it would say.
        if io::stdout().is_terminal() {
            tokio::spawn(first_look(paths.clone()));
        }
    }));
    match ended {
        Ok(()) => Ok(true),
        Err(error) => {
            writeln!(io::stderr(), "portolan: {error}")?;
            Ok(false)
        }
    }
}

async fn first_look(paths: StatePaths) {
    let until = tokio::time::Instant::now() + FIRST_LOOK;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Ok(document) = status::ask(&paths).await else { continue };
        if status::is_settled(&document) || tokio::time::Instant::now() >= until {
            // Nobody reads: then nobody misses it.
            let _ = status::show(&document, Format::Table);
            return;
        }
    }
}
