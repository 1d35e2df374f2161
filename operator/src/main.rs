//! The `portolan` command.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    portolan::cli::run(portolan::cli::Cli::parse())
}
