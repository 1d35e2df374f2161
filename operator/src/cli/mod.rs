//! The command line: arguments in, text and exit codes out. Everything that decides lives in the library's other modules.

mod check;
mod cluster;
mod logs;
mod manifests;
mod operator;
mod preflight;
mod proxy;
mod render;
mod standalone;
mod status;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};

/// A Kubernetes Gateway API implementation on Envoy.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, about, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Resolve manifests offline: problems with file and line, and the conditions that the objects would get.
    ///
    /// Exits with 1 if a document is broken, an object is not accepted, or a reference cannot be followed.
    #[command(
        after_help = "Examples:\n  portolan check manifests/\n  portolan check gateway.yaml routes.yaml -o json"
    )]
    Check {
        /// Files or folders with manifests in YAML or JSON.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// How to show the conditions.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Show the Envoy configuration that manifests become, as YAML by Gateway and resource type. Keys are redacted.
    #[command(
        after_help = "Examples:\n  portolan render manifests/\n  portolan render manifests/ --gateway default/web"
    )]
    Render {
        /// Files or folders with manifests in YAML or JSON.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Only this Gateway.
        #[arg(long, value_name = "NAMESPACE/NAME")]
        gateway: Option<String>,
    },
    /// Serve manifests on this host: a supervised Envoy per Gateway, following every edit.
    ///
    /// Ctrl-C drains and ends everything it started. If it is killed instead, its proxies go on serving, and the next start
    /// with the same paths attaches to them.
    #[command(
        after_help = "Examples:\n  portolan standalone manifests/\n  portolan standalone gateway.yaml routes/ --bind 127.0.0.1 --ports auto\n  portolan standalone manifests/ --admin 127.0.0.1:9900"
    )]
    Standalone(standalone::StandaloneArgs),
    /// Run the control plane in a cluster: watch its API server, serve proxies, write statuses.
    ///
    /// Run it in a pod, two replicas or more; one of them leads. `portolan preflight` tells what it needs.
    #[command(
        after_help = "Example:\n  portolan operator --kubeconfig ~/.kube/config --admin 127.0.0.1:9900"
    )]
    Operator(operator::OperatorArgs),
    /// Tell what a cluster lacks before Portolan can be installed in it: CRDs, versions, permissions.
    ///
    /// Asks the API server and changes nothing. Exits with 1 if something is missing.
    #[command(
        after_help = "Examples:\n  portolan preflight --context staging\n  kubectl exec -n portolan-system deploy/portolan -- portolan preflight --as-operator"
    )]
    Preflight(preflight::PreflightArgs),
    /// Show how the Gateways and routes of a running standalone, or of a cluster, stand.
    ///
    /// Exits with 1 if no standalone runs, or several do and no paths are named, or the cluster does not answer.
    #[command(
        after_help = "Examples:\n  portolan status\n  portolan status manifests/ -o yaml\n  portolan status manifests/ --wait 30\n  portolan status --cluster --context staging"
    )]
    Status {
        /// The paths that the standalone was given.
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        cluster: cluster::MaybeCluster,
        /// How to show it.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
        /// Wait until a standalone runs and every Gateway and route is programmed, at most this long. Exits with 1 if that
        /// does not come.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Supervise the Envoy of one Gateway. Standalone and operator start it; people rarely do.
    #[command(
        after_help = "Example:\n  portolan proxy --gateway default/web --xds-socket /run/portolan/xds.sock --state-dir /run/portolan"
    )]
    Proxy(proxy::ProxyCommand),
    /// Print the version.
    Version,
}

/// How to show a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people.
    Table,
    /// Status as it would be written, as YAML.
    Yaml,
    /// The same as JSON.
    Json,
}

/// Runs the command line.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Check { paths, output } => check::check(&paths, output),
        Command::Render { paths, gateway } => render::run(&paths, gateway.as_deref()),
        Command::Standalone(args) => standalone::standalone(args),
        Command::Operator(args) => operator::operator(args),
        Command::Preflight(args) => preflight::run(&args),
        Command::Status { paths, cluster, output, wait } => {
            status::status(&paths, &cluster, output, wait.map(Duration::from_secs))
        }
        Command::Proxy(args) => proxy::proxy(args),
        Command::Version => writeln!(io::stdout(), "portolan {}", env!("CARGO_PKG_VERSION")).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A closed pipe is the reader's choice (`| head`), not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "portolan: {error}");
            ExitCode::from(2)
        }
    }
}
