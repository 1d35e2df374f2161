//! B9: how many instructions resolving, lowering and encoding take in process. The count is the same on a busy machine, so a
//! small regression shows; it belongs to one version of the compiler.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

use super::{
    Bench, BenchError,
    report::{Plot, Report, Series, count},
};

const CHANGES: usize = 100;

/// What is counted: everything for the first time, or one change.
const COLD: &str = "cold";
const CHANGE: &str = "change";

pub(super) async fn run(bench: &Bench, program: &Path) -> Result<Report, BenchError> {
    let mut report = Report::new("B9", "resolve, lower and encode, in process");
    let sizes = &bench.sizes.counted;
    report.input("changes", CHANGES);
    report.note("rustc", rustc().await);
    let callgrind =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    if !callgrind.is_ok_and(|status| status.success()) {
        report.note("not_counted", "valgrind is not installed: apt-get install valgrind");
        return Ok(report);
    }
    let mut points = Vec::new();
    for &routes in sizes {
        let change = counted(program, CHANGE, routes, CHANGES).await? / count(CHANGES);
        report.figure(&format!("instructions_per_change_among_{routes}"), change);
        points.push((count(routes), change / 1e3));
    }
    if let Some(&routes) = sizes.iter().find(|routes| **routes >= 1_000) {
        let cold = counted(program, COLD, routes, 0).await? / count(routes);
        report.figure(&format!("instructions_per_route_cold_{routes}"), cold);
    }
    report.plot = Some(Plot {
        x: "routes",
        y: "thousand instructions per change",
        series: vec![Series::line("resolve, lower, encode", points)],
    });
    Ok(report)
}

/// What the compiler calls itself: counts of another one are not comparable.
async fn rustc() -> String {
    let version = Command::new("rustc").arg("--version").output().await;
    version.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default()
}

async fn counted(program: &Path, what: &str, routes: usize, changes: usize) -> Result<f64, BenchError> {
    let start = |why: String| BenchError::Start { what: "the counted program", why };
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*counted_{what}*"))
        .arg(program)
        .env("PORTOLAN_BENCH_ROUTES", routes.to_string())
        .env("PORTOLAN_BENCH_CHANGES", changes.to_string())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(std::time::Duration::from_mins(10), done).await;
    let done = done.map_err(|_| BenchError::Late { of: "valgrind counts".into(), seconds: 600 })??;
    let said = String::from_utf8_lossy(&done.stderr);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<f64>().ok());
    match collected.filter(|count| *count > 0.0) {
        Some(count) if done.status.success() => Ok(count),
        _ => Err(start(format!("{} (were its symbols stripped?)\n{said}", done.status))),
    }
}
