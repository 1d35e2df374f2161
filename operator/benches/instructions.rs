//! How many instructions resolving, lowering and encoding take: a number that is the same on a busy machine.
//!
//! `PORTOLAN_BENCH_ROUTES` says among how many routes, `PORTOLAN_BENCH_CHANGES` how many are changed, one after the other.
//! `hack/bench b9` runs it under `valgrind --tool=callgrind`, which counts only inside of the functions whose names start
//! with `counted_`, and calls that ask for memory up to the functions whose names start with `left_`. By itself it prints what the
//! clock says.

#![allow(clippy::unwrap_used, missing_docs)] // a benchmark may stop at once

mod world;

use std::time::Instant;

use portolan::model::{Object, ObjectKey};

use self::world::{Hostnames, Pipeline, changed_route, object, world};

/// Everything is resolved, lowered and encoded for the first time.
#[inline(never)]
fn counted_cold(pipeline: &mut Pipeline, world: Vec<(ObjectKey, Option<Object>)>) {
    let delta = pipeline.resolve_all(world);
    pipeline.lower(delta);
}

/// One changed route is.
#[inline(never)]
fn counted_change(pipeline: &mut Pipeline, change: (ObjectKey, Option<Object>)) {
    let delta = pipeline.resolve(change);
    pipeline.lower(delta);
}

/// Where counting of calls ends: valgrind knows a moment by a function that is called.
#[inline(never)]
fn left_cold() {
    std::hint::black_box("cold");
}

/// The same.
#[inline(never)]
fn left_change() {
    std::hint::black_box("change");
}

fn main() {
    let number =
        |name: &str, otherwise: usize| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    // Small where it is only seen to work, as by `cargo test --benches`.
    let (routes, changes) = (number("PORTOLAN_BENCH_ROUTES", 10), number("PORTOLAN_BENCH_CHANGES", 3));
    let mut pipeline = Pipeline::new();
    let world = world(Hostnames::Own, routes);
    let start = Instant::now();
    counted_cold(&mut pipeline, world);
    left_cold();
    let cold = start.elapsed();
    pipeline.acknowledge();
    let mut took = std::time::Duration::ZERO;
    for turn in 0..changes {
        let change = object(&changed_route(Hostnames::Own, routes, turn));
        let start = Instant::now();
        counted_change(&mut pipeline, change);
        left_change();
        took += start.elapsed();
        pipeline.acknowledge();
    }
    // A benchmark reports to a person.
    #[allow(clippy::print_stdout)]
    {
        println!("{routes} routes cold: {cold:?}; {changes} changes: {took:?}");
    }
}
