//! The `portolan` command with its fail points: see `runtime::HOLD_RESOLVING`. Not for use.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    portolan::cli::run(portolan::cli::Cli::parse())
}
