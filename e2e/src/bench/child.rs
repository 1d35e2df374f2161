//! A `portolan` under measurement: on the processors it is given, with its log kept, ended in order.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// See the module. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Measured {
    child: Child,
    log: PathBuf,
    /// When it was started.
    pub(super) started: Instant,
}

impl Measured {
    /// Starts this binary, with what is added to its command, on these processors only, if any are named. It logs into this file.
    pub(super) fn start(
        binary: &Path,
        cpus: Option<&str>,
        log: PathBuf,
        add: impl FnOnce(&mut Command),
    ) -> io::Result<Self> {
        let mut command = match cpus {
            None => Command::new(binary),
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", cpus]).arg(binary);
                command
            }
        };
        add(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let started = Instant::now();
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", binary.display())))?;
        Ok(Self { child, log, started })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// If it has ended: how, and the end of its log.
    pub(super) fn ended(&mut self) -> io::Result<Option<String>> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| format!("{status}\n{}", self.log())))
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to end, and waits until it has. The error has the end of its log.
    pub(super) async fn stop(mut self) -> io::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(30);
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                let why = format!("does not end after SIGTERM\n{}", self.log());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
