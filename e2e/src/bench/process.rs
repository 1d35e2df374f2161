//! What the system says of a process: CPU time and memory.

use std::{fs, io, path::Path, time::Duration};

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Now.
    pub(super) resident: u64,
    /// The most there ever was.
    pub(super) peak: u64,
}

/// The resident memory of a process.
pub(super) fn memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |field: &str| -> io::Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        number.map(|kib| kib * 1024).ok_or_else(|| unexpected(field))
    };
    Ok(Memory { resident: kib("VmRSS:")?, peak: kib("VmHWM:")? })
}

/// The name of each thread that lives, and the CPU time that it has spent.
pub(super) fn threads(pid: u32) -> io::Result<Vec<(String, Duration)>> {
    let mut threads = Vec::new();
    for thread in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))? {
        let thread = thread?.path();
        let read = |file: &str| fs::read_to_string(thread.join(file));
        // A thread may end while it is looked at.
        let (Ok(name), Ok(schedstat)) = (read("comm"), read("schedstat")) else { continue };
        let nanos = schedstat.split(' ').next().and_then(|text| text.parse().ok());
        let spent = Duration::from_nanos(nanos.ok_or_else(|| unexpected("time in schedstat"))?);
        threads.push((name.trim().to_owned(), spent));
    }
    Ok(threads)
}

/// CPU time of a process, user and system, threads that have ended included; in steps of 10 ms.
pub(super) fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields 14 and 15, counted after the command, which may hold spaces; in hundredths of a second on Linux.
    let after = stat.rsplit_once(')').map(|(_, after)| after).ok_or_else(|| unexpected("command"))?;
    let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().map_err(|_| unexpected("times in stat"))?;
    Ok(Duration::from_millis(ticks * 10))
}

pub(super) fn unexpected(what: &str) -> io::Error {
    io::Error::other(format!("/proc shows no {what}"))
}
