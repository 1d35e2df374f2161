//! The process that ends a world's processes when the test is gone; see `src/bin/keeper.rs`.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portolan::fleet::process::ProcessId;
use rustix::process::Signal;

use super::processes::{ended_within, kill_left_over};
use super::world::state_paths;
use super::{binary, world};

/// A running keeper. Dropping it lets it work.
#[derive(Debug)]
pub(super) struct Keeper(Child);

impl Keeper {
    pub(super) fn start(folder: &Path) -> Self {
        let mut command = Command::new(binary::beside("portolan-keeper"));
        // A group of its own: Ctrl-C ends the tests, and then the keeper is needed.
        let child = command.arg(folder).stdin(Stdio::piped()).process_group(0).spawn();
        Self(child.expect("cargo builds the keeper with the tests of its package"))
    }

    /// One more standalone to end.
    pub(super) fn watch(&mut self, standalone: &ProcessId) {
        let line = serde_json::to_string(standalone).unwrap();
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// What the keeper does in the end: stops the standalones of a world, kills what they leave, and deletes the world's folder.
pub fn end(folder: &Path, standalones: &[ProcessId]) {
    for standalone in standalones {
        standalone.signal(Signal::TERM).ok();
        if !ended_within(standalone, world::END) {
            standalone.signal(Signal::KILL).ok();
            ended_within(standalone, Duration::from_secs(5));
        }
    }
    if let Ok(paths) = state_paths(folder) {
        kill_left_over(&paths);
    }
    std::fs::remove_dir_all(folder).ok();
}
