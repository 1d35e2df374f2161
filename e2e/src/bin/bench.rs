//! Measures the `portolan` binary as a whole. `hack/bench` builds it and runs it with the settings that are published.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::Parser;
use portolan_e2e::bench::{Hostnames, Load, RunError, Setting, Summary, run};
use serde_json::{Map, Value, json};

/// Measures `portolan standalone` on a folder of manifests, through a delta ADS client. Prints one JSON line per figure.
#[derive(Debug, Parser)]
#[command(name = "portolan-bench", version)]
struct Cli {
    /// The `portolan` binary.
    #[arg(long, value_name = "PATH")]
    portolan: PathBuf,
    /// How many HTTPRoutes, one per file; several values are measured in turn.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100,10000")]
    routes: Vec<usize>,
    /// How many Services with endpoints; at most one per route.
    #[arg(long, value_name = "N", default_value_t = 100)]
    services: usize,
    /// Hostnames of the routes.
    #[arg(long, value_enum, default_value = "own")]
    hostnames: Hostnames,
    /// How many edits are measured in a run.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..))]
    edits: u16,
    /// How many runs; the figures are their medians. Runs of different sizes take turns.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
    /// Let the control plane use these processors only (`taskset --cpu-list`).
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "portolan-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(cli: Cli) -> Result<(), RunError> {
    let settings: Vec<Setting> = cli
        .routes
        .iter()
        .map(|&routes| Setting {
            portolan: cli.portolan.clone(),
            load: Load { routes, services: cli.services.clamp(1, routes.max(1)), hostnames: cli.hostnames },
            edits: cli.edits.into(),
            cpus: cli.cpus.clone(),
        })
        .collect();
    let mut summaries: Vec<Summary> = settings.iter().map(|_| Summary::default()).collect();
    for turn in 1..=cli.runs {
        for (setting, summary) in settings.iter().zip(&mut summaries) {
            let _ = writeln!(std::io::stderr(), "run {turn} of {}: {:?}", cli.runs, setting.load);
            summary.add(run(setting).await?);
        }
    }
    for (setting, summary) in settings.iter().zip(&summaries) {
        for line in summary.lines(&inputs(setting)) {
            writeln!(std::io::stdout(), "{line}")?;
        }
    }
    Ok(())
}

fn inputs(setting: &Setting) -> Map<String, Value> {
    let mut inputs = Map::new();
    inputs.insert("routes".into(), setting.load.routes.into());
    inputs.insert("services".into(), setting.load.services.into());
    inputs.insert("hostnames".into(), json!(setting.load.hostnames));
    inputs.insert("edits".into(), setting.edits.into());
    inputs.insert("cpus".into(), json!(setting.cpus));
    inputs
}
