//! Shows that no change loses a request: `hack/mbb` builds it and runs it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use portolan_e2e::mbb::{CASES, Case, HEADER, Size};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a real Envoy under a steady loop of requests through changes of every kind. One lost request fails it.
#[derive(Debug, Parser)]
#[command(name = "portolan-mbb", version)]
struct Cli {
    /// The cases to run; all where none is named.
    #[arg(value_name = "CASE", value_parser = named)]
    cases: Vec<Case>,
    /// Fewer repetitions of the same cases.
    #[arg(long)]
    quick: bool,
    /// Tells the cases, and runs none.
    #[arg(long)]
    list: bool,
}

fn named(name: &str) -> Result<Case, String> {
    let known = || CASES.map(|case| case.name).join(", ");
    CASES
        .into_iter()
        .find(|case| case.name == name)
        .ok_or_else(|| format!("no case is called so; there are {}", known()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = async {
        let (mut interrupted, mut terminated) =
            (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?);
        tokio::select! {
            it = interrupted.recv() => it,
            it = terminated.recv() => it,
        }
    };
    let outcome = tokio::select! {
        outcome = run(&cli) => outcome,
        // Dropped, a case ends all that it started.
        _ = ended => Ok(false),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "portolan-mbb: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all passed.
async fn run(cli: &Cli) -> io::Result<bool> {
    let size = if cli.quick { Size::Quick } else { Size::Full };
    let cases = if cli.cases.is_empty() { &CASES[..] } else { &cli.cases };
    let mut out = io::stdout();
    if cli.list {
        for case in cases {
            writeln!(out, "{:<13} {}", case.name, case.about)?;
        }
        return Ok(true);
    }
    let started = std::time::Instant::now();
    let mut failed = Vec::new();
    writeln!(out, "       case       {HEADER}")?;
    for case in cases {
        let outcome = case.run(size).await;
        let verdict = if outcome.passed() { "ok" } else { "FAILED" };
        writeln!(out, "{verdict:<6} {:<13} {outcome}", case.name)?;
        for problem in &outcome.problems {
            writeln!(out, "    {}", problem.trim_end().replace('\n', "\n    "))?;
        }
        if !outcome.passed() {
            failed.push(case.name);
        }
    }
    let seconds = started.elapsed().as_secs();
    let count = cases.len();
    match failed.as_slice() {
        [] => writeln!(out, "{count} cases passed in {seconds} s: no request was lost")?,
        failed => {
            writeln!(out, "{} of {count} cases failed in {seconds} s: {}", failed.len(), failed.join(", "))?;
        }
    }
    Ok(failed.is_empty())
}
