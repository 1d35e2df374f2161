//! On what it was measured, in a sentence.

use std::{fs, process::Command};

/// As the system tells it; what it does not tell is left out.
pub(super) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "an unknown model".into());
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib = memory.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let said = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).output();
        done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default()
    };
    let mut commit = said("git", &["rev-parse", "--short", "HEAD"]);
    // But what this harness writes itself.
    let others = [".", ":!docs", ":!e2e/bench-baseline.json"];
    let asked = [&["status", "--porcelain", "--untracked-files=no", "--"][..], &others].concat();
    if !said("git", &asked).is_empty() {
        commit.push_str(" with changes");
    }
    format!(
        "{processors} processors ({model}), {} GiB, Linux {}; {}; commit {commit}; load average at the start {load}",
        kib.div_ceil(1 << 20),
        kernel.trim(),
        said("rustc", &["--version"]),
    )
}
