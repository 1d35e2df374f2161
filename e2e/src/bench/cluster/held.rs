//! `endpoints-held`: endpoints change while resolving is blocked. Their lane must not wait for it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Bench, BenchError,
    api::Kind,
    meter::Meter,
    objects::{remarked, route_name, service_name},
    report::{Plot, Report, Series, count},
    scale::move_endpoint,
    site::Site,
};

/// Among routes that are there already. `binary` has fail points.
pub(super) async fn run(bench: &Bench, site: &mut Site, binary: &Path) -> Result<Report, BenchError> {
    let routes = bench.sizes.scale;
    let mut report = Report::new("endpoints-held", "an EndpointSlice changes while resolving is blocked");
    report.input("routes", routes);
    let before = site.run_instead(binary).await?;
    let probe = site.probe().await?;
    let mut slices = site.watch(Kind::Slice).await?;
    let known = service_name(routes / 2);
    slices.until("the slices are known", Duration::from_mins(1), |all| all.get(&known).map(drop)).await?;
    let meter = Meter::start(site, Some(&probe)).await?;
    site.operator()?.hold()?;
    let start = Instant::now();
    // This one waits, and holds whatever comes after it on the way of translation.
    let marker = "held-while-endpoints-move";
    probe.expect(marker)?;
    let of = (Kind::Route, site.homes.of(1), &*route_name(1));
    site.writer.patch(of, &remarked(1, marker)).await?;
    // Long enough for it to have arrived.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut times = Vec::new();
    while start.elapsed() < bench.sizes.held {
        times.push(move_endpoint(site, &probe, &mut slices, routes, (252, times.len())).await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    site.operator()?.release()?;
    let (held, released) = (start.elapsed(), Instant::now());
    let came = probe.came(marker).await?;
    report.input("changes", times.len());
    meter.stop(site, &mut report).await?;
    report.figure("held_s", held.as_secs_f64());
    report.figure("route_after_release_ms", came.saturating_duration_since(released).as_secs_f64() * 1e3);
    // Whether it was blocked at all: else the figures say nothing.
    report.bar("routes that passed the block", 0.0, if came < released { 1.0 } else { 0.0 });
    let (_, p99) = report.times("t2_t1", &times);
    report.bar(
        format!("EndpointSlice event to probe p99 while resolving is blocked, {routes} routes, ms"),
        20.0,
        p99,
    );
    let cloud = times.into_iter().enumerate().map(|(at, ms)| (count(at), ms)).collect();
    report.plot = Some(Plot { x: "change", y: "ms", series: vec![Series::cloud("t2−t1", cloud)] });
    drop(probe);
    site.run_instead(&before).await?;
    Ok(report)
}
