//! B1: routes are created one after the other, and each is followed from its write to the first 200 and to its status. B2 does the
//! same while others change.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Bench, BenchError,
    api::Kind,
    envoy::Envoy,
    meter::Meter,
    objects::{self, hostname, route_name},
    probe::Probe,
    process,
    report::{Plot, Report, Series, between, count, slope, sorted},
    site::Site,
    user::{Backend, User},
    watch::Watch,
};
use crate::bench::figures::quantile;

/// Who follows a route.
pub(super) struct Followers {
    pub(super) probe: Arc<Probe>,
    pub(super) routes: Watch,
    /// A real Envoy, and its user.
    pub(super) envoy: Option<(Envoy, User)>,
}

/// What was seen of the routes so far, in milliseconds, in the order of creation.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The watch (t1) to the probe (t2): the control plane's own time.
    pub(super) t2_t1: Vec<f64>,
    /// The write's return (t0) to the first 200 (t4): what a user sees.
    pub(super) t4_t0: Vec<f64>,
    /// The probe to the first 200: Envoy's time, and half a poll.
    pub(super) t4_t2: Vec<f64>,
    /// The names and the times of the writes, for t5.
    written: Vec<(String, Instant)>,
}

impl Followers {
    /// Creates a route and follows it.
    pub(super) async fn follow(
        &mut self,
        site: &Site,
        index: usize,
        backend: usize,
        times: &mut Times,
    ) -> Result<(), BenchError> {
        let (host, marker, name) = (hostname(index), format!("created-{index}"), route_name(index));
        self.probe.expect(&host)?;
        let written = site.writer.create(&site.route(index, backend, &marker)).await?;
        let t4 = match &mut self.envoy {
            Some((_, user)) => Some(user.served(&host, &marker).await?),
            None => None,
        };
        let (t2, t1) = (self.probe.came(&host).await?, self.routes.seen(&name, &written.version).await?);
        times.t2_t1.push(between(t1, t2));
        if let Some(t4) = t4 {
            times.t4_t0.push(between(written.at, t4));
            times.t4_t2.push(between(t2, t4));
        }
        times.written.push((name, written.at));
        Ok(())
    }
}

impl Times {
    /// From each write to the right status (t5), of what has one.
    pub(super) fn t5_t0(&self, routes: &Watch) -> Vec<f64> {
        routes.read(|objects| {
            let settled = |(name, at): &(String, Instant)| Some(between(*at, objects.get(name)?.settled?));
            self.written.iter().filter_map(settled).collect()
        })
    }
}

pub(super) async fn run(bench: &Bench) -> Result<Report, BenchError> {
    let count_of = bench.sizes.probed;
    let mut report = Report::new("B1", "route probe: one route after the other");
    report.input("routes", count_of);
    report.input("envoy", bench.envoy);
    let site = Site::start(&bench.target, &bench.writer, "bench-b1").await?;
    let backend = Backend::start().await?;
    bench.writer.create(&objects::service(&site.namespace, 0)).await?;
    let (ip, port) = (backend.address.ip(), backend.address.port());
    bench.writer.create(&objects::slice_of(&site.namespace, 0, ip, port)).await?;
    let envoy = if bench.envoy { Some((site.envoy().await?, User::new(site.port))) } else { None };
    let mut followers =
        Followers { probe: Arc::new(site.probe().await?), routes: site.watch(Kind::Route).await?, envoy };

    let mut times = Times::default();
    // The first meets a Gateway that has no route yet, and an Envoy that may still start.
    followers.follow(&site, count_of, 0, &mut Times::default()).await?;
    let probe = Arc::clone(&followers.probe);
    let meter = Meter::start(&site, Some(&probe)).await?;
    let (cpu, start, traffic) = (site.cpu()?, Instant::now(), probe.traffic());
    let envoy_cpu = followers.envoy.as_ref().map(|(envoy, _)| process::cpu(envoy.pid())).transpose()?;
    // CPU time in ten parts: the last against the first shows what a change costs among many.
    let mut parts = Vec::new();
    for index in 0..count_of {
        if index % (count_of / 10).max(1) == 0 {
            parts.push((index, site.cpu()?));
        }
        followers.follow(&site, index, 0, &mut times).await?;
    }
    let took = start.elapsed();
    site.settled(&mut followers.routes, count_of + 1).await?;
    let cpu_after = site.cpu()?;
    parts.push((count_of, cpu_after));

    let per_route = |value: f64| value / count(count_of);
    report.times("t2_t1", &times.t2_t1);
    let last = &times.t2_t1[count_of - count_of / 10..];
    let last = sorted(last);
    let (p50, p99) = (quantile(&last, 0.5), quantile(&last, 0.99));
    report.note("t2_t1_p50_ms_by_decile", deciles(&times.t2_t1));
    let points: Vec<(f64, f64)> =
        times.t2_t1.iter().enumerate().map(|(index, ms)| (count(index), *ms)).collect();
    let per_million = slope(&points) * 1e3;
    report.figure("slope_us_per_route", per_million);
    report.times("t5_t0", &times.t5_t0(&followers.routes));
    report.figure("cpu_ms_per_route", per_route((cpu_after - cpu) * 1e3));
    report.note("cpu_ms_per_route_by_part", cpu_by_part(&parts));
    let traffic = probe.traffic().since(&traffic);
    report.figure("bytes_per_route", per_route(count(traffic.bytes)));
    report.figure("seconds", took.as_secs_f64());
    tokio::time::sleep(Duration::from_secs(2)).await;
    meter.stop(&site, &mut report).await?;
    report.figure("status_writes_per_route", count(followers.routes.status_writes()) / count(count_of + 1));
    report.bar(format!("t2-t1 p50 of the last tenth, N = {count_of}, ms"), 5.0, p50);
    report.bar(format!("t2-t1 p99 of the last tenth, N = {count_of}, ms"), 25.0, p99);
    report.bar("slope, µs per route", 1.0, per_million);
    report.bar("CPU per route, ms", 2.5, per_route((cpu_after - cpu) * 1e3));
    let mut plot =
        Plot { x: "routes", y: "ms", series: vec![Series::cloud("t2−t1 (control plane)", points)] };
    if let Some((envoy, user)) = &followers.envoy {
        report.times("t4_t0", &times.t4_t0);
        report.times("t4_t2", &times.t4_t2);
        report.note("t4_t0_p50_ms_by_decile", deciles(&times.t4_t0));
        if let Some(before) = envoy_cpu {
            let spent = process::cpu(envoy.pid())?.saturating_sub(before);
            report.figure("envoy_cpu_ms_per_route", per_route(spent.as_secs_f64() * 1e3));
        }
        report.figure("wrong_answers", count(user.wrong));
        report.bar("answers other than 200 and 404", 0.0, count(user.wrong));
        let points = times.t4_t0.iter().enumerate().map(|(index, ms)| (count(index), *ms)).collect();
        plot.series.push(Series::cloud("t4−t0 (write to first 200)", points));
    }
    report.plot = Some(plot);
    drop((probe, followers));
    site.end().await?;
    Ok(report)
}

/// The median of each tenth.
pub(super) fn deciles(times: &[f64]) -> Vec<f64> {
    let part = times.len().div_ceil(10).max(1);
    let medians = times.chunks(part).map(|chunk| quantile(&sorted(chunk), 0.5));
    medians.map(|median| (median * 1e3).round() / 1e3).collect()
}

fn cpu_by_part(parts: &[(usize, f64)]) -> Vec<f64> {
    let per_route = |pair: &[(usize, f64)]| match pair {
        [(from, before), (to, after)] => (after - before) * 1e3 / count(to - from),
        _ => f64::NAN,
    };
    parts.windows(2).map(per_route).map(|ms| (ms * 1e3).round() / 1e3).collect()
}
