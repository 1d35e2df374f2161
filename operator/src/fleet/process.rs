//! Processes that outlive whoever started them, and how to know them again.
//!
//! A process id alone is reused; with the start time (field 22 of `/proc/<pid>/stat`) and the boot it is not. Signals go
//! through a pidfd that is opened before the identity is checked, so they never reach a stranger.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process, for as long as the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    /// Which boot.
    pub boot: String,
}

impl ProcessId {
    /// This process.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn current() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has that id now.
    ///
    /// # Errors
    /// Where there is none, or `/proc` cannot be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let stat = Stat::parse(&stat)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { pid, start_time: stat.start_time, boot })
    }

    /// Whether it still runs. One that ended and was not waited for does not.
    pub fn is_alive(&self) -> bool {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        let ended = Stat::parse(&text).is_none_or(|stat| matches!(stat.state, 'Z' | 'X' | 'x'));
        !ended && Self::of(self.pid).is_ok_and(|now| now == *self)
    }

    /// Sends a signal, unless the process ended. Tells whether it was there to be signalled.
    ///
    /// # Errors
    /// Where the system refuses, such as for another user's process.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
        let gone = |error: rustix::io::Errno| {
            if error == rustix::io::Errno::SRCH { Ok(false) } else { Err(error.into()) }
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(error) => return gone(error),
        };
        if !self.is_alive() {
            return Ok(false);
        }
        pidfd_send_signal(handle, signal).map_or_else(gone, |()| Ok(true))
    }

    /// Waits until it ended, at most that long. Tells whether it did.
    pub async fn ended_within(&self, limit: Duration) -> bool {
        let ended = async {
            while self.is_alive() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    /// Ends it: SIGTERM, then after the grace SIGKILL. Returns once it is gone.
    ///
    /// # Errors
    /// Where a signal is refused, or the process survives SIGKILL for some seconds (stuck in the kernel).
    pub async fn end(&self, grace: Duration) -> io::Result<()> {
        if !self.signal(Signal::TERM)? || self.ended_within(grace).await {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        if self.ended_within(Duration::from_secs(5)).await {
            return Ok(());
        }
        Err(io::Error::other(format!("process {} does not end", self.pid)))
    }
}

struct Stat {
    state: char,
    start_time: u64,
}

impl Stat {
    /// From the text of `/proc/<pid>/stat`. The second field is the program's name in parentheses, and may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // The state is field 3; 18 more fields lie before field 22.
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(Self { state, start_time })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        let text = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.start_time), ('S', 777));
        assert!(Stat::parse("42 (a) S 1").is_none());
    }

    #[tokio::test]
    async fn a_process_is_known_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        assert!(id.is_alive());
        let stranger = ProcessId { start_time: id.start_time + 1, ..id.clone() };
        assert!(!stranger.is_alive());
        assert!(!stranger.signal(Signal::KILL).unwrap(), "another process of that id is left alone");
        id.end(Duration::from_secs(5)).await.unwrap();
        assert!(!id.is_alive(), "a zombie is not alive");
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        assert!(!id.signal(Signal::TERM).unwrap());
    }
}
