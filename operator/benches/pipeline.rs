//! What the pure parts cost: parsing, resolving, lowering with encoding; everything cold, and one route changed among N.
//!
//! `hack/bench pure` runs it and prints one JSON line per figure; `cargo bench -p portolan --bench pipeline` shows what
//! criterion says. Everything runs on one thread.

#![allow(clippy::unwrap_used, missing_docs)] // a benchmark may stop at once

mod world;

use std::{
    fs,
    hint::black_box,
    path::PathBuf,
    time::{Duration, Instant},
};

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, measurement::WallTime};
use portolan::{
    model::{Object, ObjectKey},
    source::files::Files,
};
use serde_json::{Value, json};

use self::world::{Hostnames, Pipeline, changed_route, class, gateway, object, route, service, slice, world};

/// A folder with one file per route.
struct Folder {
    path: tempfile::TempDir,
    files: Files,
}

impl Folder {
    fn new(routes: usize) -> Self {
        let path = tempfile::tempdir().unwrap();
        for (index, json) in [class(), gateway(), service(), slice()].iter().enumerate() {
            fs::write(path.path().join(format!("base-{index}.yaml")), yaml(json)).unwrap();
        }
        for index in 0..routes {
            let text = yaml(&route(Hostnames::Own, index, "v"));
            fs::write(path.path().join(format!("route-{index}.yaml")), text).unwrap();
        }
        let files = Files::new([path.path()]);
        Self { path, files }
    }

    fn change(&self, routes: usize, turn: usize) -> PathBuf {
        let index = turn * 7919 % routes;
        let path = self.path.path().join(format!("route-{index}.yaml"));
        fs::write(&path, yaml(&route(Hostnames::Own, index, &format!("v{turn}")))).unwrap();
        path
    }
}

fn yaml(json: &Value) -> String {
    serde_saphyr::to_string(json).unwrap()
}

fn cold(criterion: &mut Criterion, sizes: &[usize]) {
    let mut group = criterion.benchmark_group("cold");
    group.sample_size(10);
    for &routes in sizes {
        group.bench_function(BenchmarkId::new("read and parse files", routes), |bencher| {
            let folder = Folder::new(routes);
            bencher.iter(|| {
                let batch = Files::new([folder.path.path()]).scan();
                assert_eq!(batch.changes.len(), routes + 4, "{:?}", batch.problems);
            });
        });
    }
    for hostnames in Hostnames::ALL {
        for &routes in sizes {
            let name = |what: &str| BenchmarkId::new(format!("{what} ({})", hostnames.name()), routes);
            group.bench_function(name("resolve"), |bencher| {
                let setup = || (Pipeline::new(), world(hostnames, routes));
                let run = |(mut pipeline, world): (Pipeline, _)| {
                    let delta = pipeline.resolve_all(world);
                    (pipeline, delta)
                };
                bencher.iter_batched(setup, run, BatchSize::PerIteration);
            });
            group.bench_function(name("lower and encode"), |bencher| {
                let setup = || {
                    let mut pipeline = Pipeline::new();
                    let delta = pipeline.resolve_all(world(hostnames, routes));
                    (pipeline, delta)
                };
                let run = |(mut pipeline, delta): (Pipeline, _)| {
                    pipeline.lower(delta);
                    pipeline
                };
                bencher.iter_batched(setup, run, BatchSize::PerIteration);
            });
            group.bench_function(name("resolve, lower and encode"), |bencher| {
                let setup = || (Pipeline::new(), world(hostnames, routes));
                let run = |(mut pipeline, world): (Pipeline, _)| {
                    let delta = pipeline.resolve_all(world);
                    pipeline.lower(delta);
                    pipeline
                };
                bencher.iter_batched(setup, run, BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

fn one_changed(criterion: &mut Criterion, sizes: &[usize]) {
    let mut group = criterion.benchmark_group("one route changed");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for &routes in sizes {
        let mut folder = Folder::new(routes);
        folder.files.scan();
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("read and parse", routes), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    turn += 1;
                    let path = folder.change(routes, turn);
                    let start = Instant::now();
                    let batch = folder.files.refresh(&[path]);
                    took += start.elapsed();
                    assert_eq!(batch.changes.len(), 1, "{:?}", batch.problems);
                }
                took
            });
        });
    }
    for hostnames in Hostnames::ALL {
        for &routes in sizes {
            stages(&mut group, hostnames, routes);
        }
    }
    group.finish();
}

fn stages(group: &mut BenchmarkGroup<'_, WallTime>, hostnames: Hostnames, routes: usize) {
    let mut pipeline = Pipeline::warm(hostnames, routes);
    let mut turn = 0;
    let mut measure = |what: &str, stage: fn(&mut Pipeline, (ObjectKey, Option<Object>)) -> Duration| {
        let id = BenchmarkId::new(format!("{what} ({})", hostnames.name()), routes);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    turn += 1;
                    took += stage(&mut pipeline, object(&changed_route(hostnames, routes, turn)));
                    pipeline.acknowledge();
                }
                took
            });
        });
    };
    measure("resolve", |pipeline, change| {
        let start = Instant::now();
        let delta = black_box(pipeline.resolve(change));
        let took = start.elapsed();
        pipeline.lower(delta);
        took
    });
    measure("lower and encode", |pipeline, change| {
        let delta = pipeline.resolve(change);
        let start = Instant::now();
        pipeline.lower(delta);
        start.elapsed()
    });
}

/// Writes criterion's estimates as JSON lines, for `hack/bench`, which says where they are.
fn print_figures(home: PathBuf) {
    let mut folders = vec![home];
    let mut figures = Vec::new();
    while let Some(folder) = folders.pop() {
        let read = |name: &str| -> Option<Value> {
            serde_json::from_slice(&fs::read(folder.join("new").join(name)).ok()?).ok()
        };
        if let (Some(about), Some(estimates)) = (read("benchmark.json"), read("estimates.json")) {
            let microseconds = |value: &Value| (value.as_f64().unwrap() / 100.0).round() / 10.0;
            let median = &estimates["median"];
            figures.push(json!({
                "figure": format!("{}: {}", about["group_id"].as_str().unwrap(), about["function_id"].as_str().unwrap()),
                "routes": about["value_str"].as_str().unwrap().parse::<usize>().unwrap(),
                "median_us": microseconds(&median["point_estimate"]),
                "median_95_us": [
                    microseconds(&median["confidence_interval"]["lower_bound"]),
                    microseconds(&median["confidence_interval"]["upper_bound"]),
                ],
            }));
        }
        folders.extend(fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    figures.sort_by_key(|figure| (figure["figure"].to_string(), figure["routes"].as_u64()));
    for figure in figures {
        // A benchmark reports to a person.
        #[allow(clippy::print_stdout)]
        {
            println!("{figure}");
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // `cargo test --benches` runs each once: a small size shows that it works.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[usize] = if measures { &[100, 1_000, 10_000] } else { &[100] };
    cold(&mut criterion, if measures { &[10_000] } else { sizes });
    one_changed(&mut criterion, sizes);
    criterion.final_summary();
    if let Some(home) = std::env::var_os("PORTOLAN_BENCH_FIGURES") {
        print_figures(home.into());
    }
}
