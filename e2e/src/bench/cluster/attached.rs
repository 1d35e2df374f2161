//! B3: many routes are attached at once, then removed: how soon the Gateway counts them rightly, and how many statuses are written
//! for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    Bench, BenchError,
    api::{Kind, WRITERS},
    meter::Meter,
    objects::{self, GATEWAY, route_name},
    report::{Plot, Report, Series, between, count, sorted},
    site::Site,
    watch::Seen,
};

/// How long no write must come before all are taken to have come.
const REST: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(400);

pub(super) async fn run(bench: &Bench) -> Result<Vec<Report>, BenchError> {
    let mut reports = Vec::new();
    for &routes in &bench.sizes.attached {
        reports.push(attach(bench, routes).await?);
    }
    // One plot for all sizes.
    let series = reports.iter_mut().filter_map(|report| report.plot.take()).flat_map(|plot| plot.series);
    let series: Vec<Series> = series.collect();
    if let Some(last) = reports.last_mut() {
        last.plot = Some(Plot { x: "share of the routes, %", y: "ms from seen to right status", series });
    }
    Ok(reports)
}

async fn attach(bench: &Bench, routes: usize) -> Result<Report, BenchError> {
    let mut report = Report::new("B3", "routes attached by several writers, then removed");
    report.input("routes", routes);
    report.input("writers", WRITERS);
    let site = Site::start(&bench.target, &bench.writer, &format!("bench-b3-{routes}")).await?;
    bench.writer.create(&objects::service(&site.namespace, 0)).await?;
    bench.writer.create(&objects::slice(&site.namespace, 0)).await?;
    let probe = site.probe().await?;
    let mut of_routes = site.watch(Kind::Route).await?;
    let mut of_gateway = site.watch(Kind::Gateway).await?;
    of_gateway.until("the Gateway has a status", LIMIT, |objects| objects.get(GATEWAY)?.settled).await?;
    tokio::time::sleep(REST).await;
    let gateway_writes_before = of_gateway.status_writes();

    let attached = |wanted: u64| {
        move |objects: &HashMap<String, Seen>| {
            let seen = objects.get(GATEWAY)?;
            (seen.attached == wanted).then_some(Instant::now())
        }
    };
    let wanted = u64::try_from(routes).unwrap_or(u64::MAX);
    let meter = Meter::start(&site, Some(&probe)).await?;
    let (cpu, start) = (site.cpu()?, Instant::now());
    let all = (0..routes).map(|index| site.route(index, 0, "attached"));
    let last = bench.writer.create_all(all).await?;
    report.figure("writing_seconds", (last - start).as_secs_f64());
    let right = of_gateway.until("attachedRoutes counts all routes", LIMIT, attached(wanted)).await?;
    let setup = (between(last, right) / 1e3).max(0.0);
    report.figure("attached_right_after_last_write_s", setup);
    site.settled(&mut of_routes, routes).await?;
    tokio::time::sleep(REST).await;
    let gateway_writes = of_gateway.status_writes() - gateway_writes_before;
    let per_route = count(of_routes.status_writes()) / count(routes);
    report.figure("cpu_ms_per_route", (site.cpu()? - cpu) * 1e3 / count(routes));
    report.figure("status_writes_per_route", per_route);
    report.figure("gateway_status_writes", count(gateway_writes));
    let stale: Vec<f64> = of_routes.read(|objects| objects.values().filter_map(Seen::staleness).collect());
    report.times("status_staleness", &stale);
    if let Some(metrics) = site.metrics().await? {
        report.figure("status_conflicts", metrics.sum("portolan_status_writes_total", "result=\"conflict\""));
    }

    meter.stop(&site, &mut report).await?;

    let (cpu, before) = (site.cpu()?, of_gateway.status_writes());
    let last = bench.writer.delete_many(Kind::Route, &site.namespace, (0..routes).map(route_name)).await?;
    let right = of_gateway.until("attachedRoutes is 0", LIMIT, attached(0)).await?;
    let teardown = (between(last, right) / 1e3).max(0.0);
    tokio::time::sleep(REST).await;
    report.figure("removed_right_after_last_write_s", teardown);
    report.figure("gateway_status_writes_of_removal", count(of_gateway.status_writes() - before));
    report.figure("removal_cpu_ms_per_route", (site.cpu()? - cpu) * 1e3 / count(routes));
    report.bar("attachedRoutes right after the last write, s", 1.0, setup);
    report.bar("attachedRoutes right after the last deletion, s", 1.0, teardown);
    report.bar("status writes per route", 1.0, per_route);
    report.bar("status writes of the Gateway", 50.0, count(gateway_writes));
    report.plot = Some(Plot {
        series: vec![Series::line(format!("{routes} routes"), shares(&stale))],
        ..Plot::default()
    });
    drop(probe);
    site.end().await?;
    Ok(report)
}

/// Sorted times, each with the share in percent that is not later.
fn shares(times: &[f64]) -> Vec<(f64, f64)> {
    let sorted = sorted(times);
    // A hundred points draw the same line as thousands.
    let step = sorted.len().div_ceil(100).max(1);
    let all = sorted.iter().enumerate().map(|(at, ms)| (100.0 * count(at) / count(sorted.len()), *ms));
    all.step_by(step).collect()
}
