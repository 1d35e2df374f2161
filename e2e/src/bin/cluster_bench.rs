//! Measures a control plane on a real API server. `hack/bench` starts the API server, builds the binaries and runs it.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum as _};
use tokio::signal::unix::{SignalKind, signal};

use portolan_e2e::bench::cluster::{BenchError, Name, Options, Target, TlsFiles, gate, run};

/// Runs benchmarks on the API server that $KUBECONFIG names, which should be empty. Prints one JSON line per benchmark.
#[derive(Debug, Parser)]
#[command(name = "portolan-cluster-bench", version)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
struct Cli {
    /// Which benchmarks; all where none is named. B0 is always run.
    #[arg(value_name = "NAME", value_enum, ignore_case = true)]
    names: Vec<Name>,
    /// Fewer and shorter runs.
    #[arg(long)]
    quick: bool,
    /// B7 for 30 minutes.
    #[arg(long)]
    soak: bool,
    /// Without a real Envoy.
    #[arg(long)]
    no_envoy: bool,
    /// Write results, plots and the table into this folder of documents.
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
    /// Hold ratios against those recorded in this file; fail on a regression.
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Record the ratios in the file of --gate.
    #[arg(long, requires = "gate")]
    record_gate: bool,
    /// The profile of the binaries: each has ratios of its own.
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
    /// The program whose instructions are counted (`cargo bench -p portolan --bench instructions --no-run`).
    #[arg(long, value_name = "PATH")]
    instructions: Option<PathBuf>,
    /// The `portolan` binary.
    #[arg(long, value_name = "PATH", required_unless_present = "xds")]
    portolan: Option<PathBuf>,
    /// The same binary with fail points (`portolan-held`): endpoints are measured while resolving is held, too.
    #[arg(long, value_name = "PATH", conflicts_with = "xds")]
    held: Option<PathBuf>,
    /// Let the operator use these processors only (`taskset --cpu-list`).
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Measure another control plane, which runs already: its ADS port.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "class")]
    xds: Option<SocketAddr>,
    /// The node id of its proxies; {namespace} and {gateway} stand for the Gateway's.
    #[arg(long, value_name = "ID", default_value = "{namespace}/{gateway}")]
    node: String,
    /// Its GatewayClass, which exists.
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Its process, for CPU time and memory.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// The client's certificate, where its port wants TLS.
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca", "tls_name"])]
    tls_cert: Option<PathBuf>,
    /// The key of that.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The authorities of its port's certificate.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The name in its port's certificate.
    #[arg(long, value_name = "HOST")]
    tls_name: Option<String>,
}

impl Cli {
    fn options(self) -> Result<Options, BenchError> {
        let target = match (self.xds, self.class, self.portolan) {
            (Some(xds), Some(class), _) => {
                let tls = match (self.tls_cert, self.tls_key, self.tls_ca, self.tls_name) {
                    (Some(certificate), Some(key), Some(authorities), Some(server_name)) => {
                        Some(TlsFiles { certificate, key, authorities, server_name })
                    }
                    _ => None,
                };
                Target::Other { xds, node_id: self.node, class, tls, pid: self.pid }
            }
            (_, _, Some(portolan)) => Target::Ours { portolan, cpus: self.cpus },
            _ => return Err(BenchError::Setting("name --portolan, or --xds and --class".into())),
        };
        let plain =
            matches!(&target, Target::Ours { cpus: None, .. }) && self.profile == "release" && !self.no_envoy;
        if self.record.is_some() && !plain {
            let why = "--record is for the figures of our release binary on all processors, with an Envoy";
            return Err(BenchError::Setting(why.into()));
        }
        let names = if self.names.is_empty() { Name::value_variants().to_vec() } else { self.names };
        Ok(Options {
            target,
            names,
            quick: self.quick,
            soak: self.soak,
            envoy: !self.no_envoy,
            instructions: self.instructions,
            held: self.held,
            record: self.record,
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = async {
        let (mut interrupted, mut terminated) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        Err(BenchError::Setting("ended before it was through".into()))
    };
    let outcome = tokio::select! {
        outcome = measure(Cli::parse()) => outcome,
        // Dropped, a benchmark ends the processes that it started.
        ended = ended => ended,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "portolan-cluster-bench: {what}");
}

/// Tells whether the gate, if there is one, is passed.
async fn measure(cli: Cli) -> Result<bool, BenchError> {
    let (file, record, profile) = (cli.gate.clone(), cli.record_gate, cli.profile.clone());
    let options = cli.options()?;
    let complete = options.envoy && Name::value_variants().iter().all(|name| options.names.contains(name));
    // Who reads them went away: the run has no purpose, and ends with the next line.
    let lines = run(options, |line| _ = writeln!(std::io::stdout(), "{line}")).await?;
    let Some(file) = file else { return Ok(true) };
    let verdict = gate(&file, &profile, &lines, complete, record)?;
    for text in &verdict.held {
        say(&format!("holds      {text}"));
    }
    for text in &verdict.failed {
        say(&format!("REGRESSION {text}"));
    }
    Ok(verdict.failed.is_empty())
}
