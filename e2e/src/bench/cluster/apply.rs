//! B5: how long a real Envoy takes to apply one changed route among many, end to end: write, acknowledgement, first answer that
//! shows it.

use std::time::{Duration, Instant};

use super::{
    Bench, BenchError,
    api::Kind,
    meter::Meter,
    objects::{self, hostname, remarked, route_name},
    process,
    report::{Plot, Report, Series, between, count, sorted},
    site::Site,
    user::{Backend, User},
};
use crate::bench::figures::{mib, quantile};

pub(super) async fn run(bench: &Bench) -> Result<Vec<Report>, BenchError> {
    let mut reports = Vec::new();
    for &routes in &bench.sizes.applied {
        reports.push(apply(bench, routes).await?);
    }
    // One plot for all sizes.
    let points = reports.iter().map(|report| {
        let of = |name: &str| report.get(name).unwrap_or(f64::NAN);
        (of("routes"), [of("t4_t0_p50_ms"), of("sent_to_ack_p50_ms"), of("envoy_cpu_ms_per_change")])
    });
    let points: Vec<_> = points.collect();
    let line =
        |name: &str, at: usize| Series::line(name, points.iter().map(|(x, ys)| (*x, ys[at])).collect());
    if let Some(last) = reports.last_mut() {
        let series = vec![
            line("write to first 200, p50", 0),
            line("sent to Envoy's acknowledgement, p50", 1),
            line("CPU of Envoy per change", 2),
        ];
        last.plot = Some(Plot { x: "routes", y: "ms", series });
    }
    Ok(reports)
}

async fn apply(bench: &Bench, routes: usize) -> Result<Report, BenchError> {
    let mut report = Report::new("B5", "Envoy applies one changed route among many");
    let turns = bench.sizes.applies;
    report.input("routes", routes);
    report.input("changes", turns);
    let site = Site::start(&bench.target, &bench.writer, &format!("bench-b5-{routes}")).await?;
    let backend = Backend::start().await?;
    bench.writer.create(&objects::service(&site.namespace, 0)).await?;
    let (ip, port) = (backend.address.ip(), backend.address.port());
    bench.writer.create(&objects::slice_of(&site.namespace, 0, ip, port)).await?;
    let (envoy, mut user) = (site.envoy().await?, User::new(site.port));
    let all = (0..routes).map(|index| site.route(index, 0, "first"));
    let start = Instant::now();
    let last = bench.writer.create_all(all).await?;
    let served = user.served(&hostname(routes - 1), "first").await?;
    report.figure("routes", count(routes));
    report.figure("loaded_s", (served - start).as_secs_f64());
    report.figure("last_served_after_last_write_s", (between(last, served) / 1e3).max(0.0));
    let mut of_routes = site.watch(Kind::Route).await?;
    site.settled(&mut of_routes, routes).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let (mut times, mut acks) = (Vec::new(), Vec::new());
    let meter = Meter::start(&site, None).await?;
    let (cpu, envoy_cpu) = (site.cpu()?, process::cpu(envoy.pid())?);
    for turn in 0..turns {
        let index = turn * 7919 % routes;
        let marker = format!("edit-{turn}-of-{index}-end");
        let answering = site.metrics().await?.map(|metrics| metrics.answering());
        let of = (Kind::Route, site.namespace.as_str(), &*route_name(index));
        let written = bench.writer.patch(of, &remarked(0, &marker)).await?;
        let served = user.served(&hostname(index), &marker).await?;
        times.push(between(written.at, served));
        // The acknowledgement may come a moment after the first answer.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let (Some(before), Some(after)) = (answering, site.metrics().await?) {
            acks.push((after.answering() - before) * 1e3);
        }
    }
    let spent = process::cpu(envoy.pid())?.saturating_sub(envoy_cpu);
    let (p50, _) = report.times("t4_t0", &times);
    if !acks.is_empty() {
        report.figure("sent_to_ack_p50_ms", quantile(&sorted(&acks), 0.5));
    }
    report.figure("envoy_cpu_ms_per_change", spent.as_secs_f64() * 1e3 / count(turns));
    report.figure("cpu_ms_per_change", (site.cpu()? - cpu) * 1e3 / count(turns));
    meter.stop(&site, &mut report).await?;
    report.figure("envoy_resident_mib", mib(process::memory(envoy.pid())?.resident));
    report.bar(format!("write to first 200 p50 at {routes} routes, ms"), 150.0, p50);
    report.figure("wrong_answers", count(user.wrong));
    report.bar("answers other than 200 and 404", 0.0, count(user.wrong));
    drop(envoy);
    site.end().await?;
    Ok(report)
}
