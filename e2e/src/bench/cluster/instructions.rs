//! B9: how many instructions resolving, lowering and encoding take in process. The count is the same on a busy machine, so a
//! small regression shows; it belongs to one version of the compiler.

use std::{fs, path::Path, process::Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use super::{
    Bench, BenchError,
    report::{Plot, Report, Series, count},
};

const CHANGES: usize = 100;
/// Enough where each writes a file.
const FEW_CHANGES: usize = 10;

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
        let change = instructions(program, CHANGE, routes, CHANGES).await? / count(CHANGES);
        report.figure(&format!("instructions_per_change_among_{routes}"), change);
        points.push((count(routes), change / 1e3));
    }
    // More than one of them, where there is: what a list costs per object must not follow its length.
    let cold_among: Vec<usize> = sizes.iter().copied().filter(|routes| *routes >= 1_000).collect();
    for &routes in &cold_among {
        let cold = instructions(program, COLD, routes, 0).await? / count(routes);
        report.figure(&format!("instructions_per_route_cold_{routes}"), cold);
    }
    if let Some(&routes) = cold_among.first().filter(|_| bench.sizes.allocations) {
        let change = allocations(program, CHANGE, routes, FEW_CHANGES).await? / count(FEW_CHANGES);
        report.figure(&format!("allocations_per_change_among_{routes}"), change);
        let cold = allocations(program, COLD, routes, 0).await? / count(routes);
        report.figure(&format!("allocations_per_route_cold_{routes}"), cold);
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

/// How many instructions are run inside of the function.
async fn instructions(program: &Path, what: &str, routes: usize, changes: usize) -> Result<f64, BenchError> {
    let options = ["--callgrind-out-file=/dev/null".into(), format!("--toggle-collect=*counted_{what}*")];
    let said = callgrind(program, &options, routes, changes).await?;
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<f64>().ok());
    collected.filter(|count| *count > 0.0).ok_or_else(|| nothing(&said))
}

/// How often memory is asked for inside of the function. `--toggle-collect` counts calls outside of it as well, so what came before is
/// forgotten where it begins, and each part is written where it was left.
async fn allocations(program: &Path, what: &str, routes: usize, changes: usize) -> Result<f64, BenchError> {
    let folder = TempDir::with_prefix("portolan-bench-callgrind-")?;
    let options = [
        format!("--callgrind-out-file={}", folder.path().join("calls").display()),
        "--compress-strings=no".into(),
        format!("--zero-before=*counted_{what}*"),
        format!("--dump-before=*left_{what}*"),
    ];
    let said = callgrind(program, &options, routes, changes).await?;
    let (mut parts, mut sum) = (0, 0.0);
    for part in fs::read_dir(folder.path())? {
        let part = part?.path();
        // The one without a number is what came after the last.
        if part.extension().is_some() {
            parts += 1;
            sum += asked_for_memory(&fs::read_to_string(part)?);
        }
    }
    if parts == changes.max(1) && sum > 0.0 { Ok(sum) } else { Err(nothing(&said)) }
}

fn nothing(said: &str) -> BenchError {
    let why = format!("callgrind counted nothing (were its symbols stripped?)\n{said}");
    BenchError::Start { what: "the counted program", why }
}

/// Runs the program under callgrind; gives what that says.
async fn callgrind(
    program: &Path,
    options: &[String],
    routes: usize,
    changes: usize,
) -> Result<String, BenchError> {
    let done = Command::new("valgrind")
        .arg("--tool=callgrind")
        .args(options)
        .arg(program)
        .env("PORTOLAN_BENCH_ROUTES", routes.to_string())
        .env("PORTOLAN_BENCH_CHANGES", changes.to_string())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(std::time::Duration::from_mins(10), done).await;
    let done = done.map_err(|_| BenchError::Late { of: "valgrind counts".into(), seconds: 600 })??;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() {
        Ok(said)
    } else {
        Err(BenchError::Start { what: "the counted program", why: format!("{}\n{said}", done.status) })
    }
}

/// Functions of the C library that ask for memory.
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// How often memory was asked for, in a file of callgrind's format: `cfn=` names the function that is called, and `calls=COUNT …` says
/// how often.
fn asked_for_memory(calls: &str) -> f64 {
    let (mut called, mut sum) = ("", 0.0);
    for line in calls.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            called = name;
        } else if let Some(count) = line.strip_prefix("calls=").filter(|_| ALLOCATORS.contains(&called)) {
            sum += count.split(' ').next().and_then(|count| count.parse::<f64>().ok()).unwrap_or_default();
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_ask_for_memory_are_counted_by_whom_they_call() {
        let calls = "fn=main\n12 3\ncfn=malloc\ncalls=5 10\n12 99\ncfn=free\ncalls=4 10\n12 9\n\
                     fn=malloc\n1 1\n\nfn=other\ncfn=malloc\ncalls=2 10\n12 9\ncfn=realloc\ncalls=1 0\n12 9\n";
        assert!((asked_for_memory(calls) - 8.0).abs() < f64::EPSILON);
    }
}
