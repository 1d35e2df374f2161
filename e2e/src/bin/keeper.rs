//! Ends what a test started, when the test is gone however it went: a world in a static is never dropped, and a killed test
//! drops nothing.
//!
//! Started by the rig with the world's folder. Standard input is the leash: a line for each standalone that was started (its
//! process id, as JSON), and its end says that the test is gone.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::ExitCode;

use portolan_e2e::rig::keeper;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else { return ExitCode::from(2) };
    let lines = std::io::stdin().lock().lines().map_while(Result::ok);
    let started: Vec<_> = lines.filter_map(|line| serde_json::from_str(&line).ok()).collect();
    keeper::end(&folder, &started);
    ExitCode::SUCCESS
}
