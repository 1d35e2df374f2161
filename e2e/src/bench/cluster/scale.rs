//! Benchmarks among thousands of routes, each with a Service and an EndpointSlice of its own, in fifty namespaces that are written
//! once: B4 (churn), `endpoints`, `proxy`, B8 (cold start) and B2 (B1's probe under that churn).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Bench, BenchError, Name,
    api::{Kind, Writer},
    cold, held,
    homes::Homes,
    meter::Meter,
    objects::{self, moved, remarked, route_name, service_name},
    probe::Probe,
    process,
    propagation::{Followers, Times},
    report::{Plot, Report, Series, between, count},
    site::Site,
    user::{Backend, User},
    watch::{Seen, Watch},
};
use crate::bench::figures::mib;

/// In how many namespaces the apps are.
const NAMESPACES: usize = 50;

/// Runs those of the benchmarks that are asked for.
pub(super) async fn run(bench: &Bench, names: &[Name]) -> Result<Vec<Report>, BenchError> {
    let routes = bench.sizes.scale;
    let wants = |name: Name| names.contains(&name);
    let mut site = Site::prepare(&bench.target, &bench.writer, "bench-scale", 1).await?;
    site.spread(NAMESPACES).await?;
    let homes = site.homes.clone();
    let backend = Backend::start().await?;
    bench.writer.create_all((0..routes).map(|index| objects::service(homes.of(index), index))).await?;
    let (ip, port) = (backend.address.ip(), backend.address.port());
    let slices = (0..routes).map(|index| match index {
        0 => objects::slice_of(homes.of(0), 0, ip, port),
        _ => objects::slice(homes.of(index), index),
    });
    bench.writer.create_all(slices).await?;
    let mut reports = Vec::new();
    site.run().await?;
    let mut of_routes = site.watch(Kind::Route).await?;
    {
        let all = (0..routes).map(|index| site.route(index, index, "first"));
        let (cpu, probe) = (site.cpu()?, Arc::new(site.probe().await?));
        bench.writer.create_all(all).await?;
        site.settled(&mut of_routes, routes).await?;
        let to_load = site.cpu()? - cpu;
        if wants(Name::B4) {
            reports.push(churn(bench, &site, &probe, to_load).await?);
        }
        if wants(Name::Endpoints) {
            reports.push(endpoints(bench, &site, &probe).await?);
        }
    }
    if wants(Name::Endpoints)
        && let Some(binary) = bench.held.as_deref().filter(|_| site.is_ours())
    {
        reports.push(held::run(bench, &mut site, binary).await?);
    }
    if wants(Name::Proxy) && bench.envoy {
        reports.push(proxy(bench, &site).await?);
    }
    if wants(Name::B8) && site.is_ours() {
        reports.push(cold::run(bench, &mut site).await?);
    }
    // The last one: it takes the many routes away.
    if wants(Name::B2) {
        reports.push(under_churn(bench, &site).await?);
    }
    site.end().await?;
    Ok(reports)
}

/// Changes an endpoint every two seconds and a route every second, as gateway-api-bench's route scale does.
struct Churn {
    stop: CancellationToken,
    changes: Arc<AtomicUsize>,
    task: JoinHandle<Result<(), BenchError>>,
}

impl Churn {
    /// Starts it; the probe expects each change, so that its size is known.
    fn start(writer: &Writer, homes: &Homes, routes: usize, probe: Option<Arc<Probe>>) -> Self {
        let (stop, changes) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (writer, homes, until, counted) =
            (writer.clone(), homes.clone(), stop.clone(), Arc::clone(&changes));
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            for turn in 1.. {
                if until.run_until_cancelled(tick.tick()).await.is_none() {
                    break;
                }
                // All over the place, and never the first, which has a real backend.
                let index = 1 + turn * 7919 % (routes - 1);
                let marker = format!("churn-{turn}-of-{index}-end");
                let expect = |text: &str| probe.as_ref().map_or(Ok(()), |probe| probe.expect(text));
                expect(&marker)?;
                let home = homes.of(index);
                writer.patch((Kind::Route, home, &route_name(index)), &remarked(index, &marker)).await?;
                counted.fetch_add(1, Ordering::Relaxed);
                if turn % 2 == 0 {
                    let second = format!("10.250.{}.{}", turn / 250 % 250, 1 + turn % 250);
                    expect(&second)?;
                    let of = (Kind::Slice, home, &*service_name(index));
                    writer.patch(of, &moved(index, &second)).await?;
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        Self { stop, changes, task }
    }

    /// Ends it; gives how many changes there were.
    async fn end(self) -> Result<usize, BenchError> {
        self.stop.cancel();
        match self.task.await {
            Ok(done) => done.map(|()| self.changes.load(Ordering::Relaxed)),
            Err(error) => Err(BenchError::Ended { what: "the churn", why: error.to_string() }),
        }
    }
}

/// B4.
async fn churn(bench: &Bench, site: &Site, probe: &Arc<Probe>, to_load: f64) -> Result<Report, BenchError> {
    let (routes, span) = (bench.sizes.scale, bench.sizes.churn);
    let mut report = Report::new("B4", "many routes, Services and EndpointSlices, then churn");
    report.input("routes", routes);
    report.input("seconds", span.as_secs());
    report.figure("cpu_seconds_to_load", to_load);
    tokio::time::sleep(Duration::from_secs(2)).await;
    if let Some(memory) = site.memory()? {
        report.figure("resident_before_churn_mib", mib(memory.resident));
    }
    let units = site.metrics().await?.map(|metrics| metrics.units());
    let meter = Meter::start(site, Some(probe)).await?;
    let (cpu, start, before) = (site.cpu()?, Instant::now(), probe.traffic());
    let churn = Churn::start(&bench.writer, &site.homes, routes, Some(Arc::clone(probe)));
    let mut resident = Vec::new();
    while start.elapsed() < span {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(memory) = site.memory()? {
            resident.push((start.elapsed().as_secs_f64(), mib(memory.resident)));
        }
    }
    let changes = churn.end().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (spent, seconds) = (site.cpu()? - cpu, start.elapsed().as_secs_f64());
    let traffic = probe.traffic().since(&before);
    report.input("changes", changes);
    report.figure("cores", spent / seconds);
    report.figure("cpu_ms_per_change", spent * 1e3 / count(changes));
    report.figure("bytes_per_change", count(traffic.bytes) / count(changes));
    report.figure("changed_bytes_per_change", count(traffic.changed) / count(changes));
    let ratio = count(traffic.bytes) / count(traffic.changed);
    report.figure("bytes_over_changed_bytes", ratio);
    report.note("resources", serde_json::json!(traffic.resources));
    if let (Some(before), Some(metrics)) = (units, site.metrics().await?) {
        report.figure("units_per_change", (metrics.units() - before) / count(changes));
    }
    meter.stop(site, &mut report).await?;
    if let Some(memory) = site.memory()? {
        report.bar("resident after churn, MiB", 150.0, mib(memory.resident));
    }
    report.bar("cores under churn", 0.02, spent / seconds);
    report.bar("bytes sent over bytes of the changed resources", 1.1, ratio);
    report.plot = Some(Plot {
        x: "seconds of churn",
        y: "resident MiB",
        series: vec![Series::line("control plane", resident)],
    });
    Ok(report)
}

/// `endpoints`: from the event of an EndpointSlice to the probe.
async fn endpoints(bench: &Bench, site: &Site, probe: &Probe) -> Result<Report, BenchError> {
    let (routes, turns) = (bench.sizes.scale, bench.sizes.turns);
    let mut report = Report::new("endpoints", "an EndpointSlice changes");
    report.input("routes", routes);
    report.input("changes", turns);
    let mut slices = site.watch(Kind::Slice).await?;
    let name = service_name(routes / 2);
    slices.until("the slices are known", Duration::from_mins(1), |all| all.get(&name).map(drop)).await?;
    let meter = Meter::start(site, Some(probe)).await?;
    let (before, cpu, mut times) = (probe.traffic(), site.cpu()?, Vec::new());
    for turn in 0..turns {
        times.push(move_endpoint(site, probe, &mut slices, routes, (251, turn)).await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let traffic = probe.traffic().since(&before);
    let (_, p99) = report.times("t2_t1", &times);
    report.figure("cpu_ms_per_change", (site.cpu()? - cpu) * 1e3 / count(turns));
    report.figure("bytes_per_change", count(traffic.bytes) / count(turns));
    meter.stop(site, &mut report).await?;
    report.bar(format!("EndpointSlice event to probe p99, {routes} routes, ms"), 20.0, p99);
    report.plot = Some(Plot {
        x: "change",
        y: "ms",
        series: vec![Series::cloud(
            "t2−t1",
            times.into_iter().enumerate().map(|(at, ms)| (count(at), ms)).collect(),
        )],
    });
    Ok(report)
}

/// Gives one of the Services another endpoint, marked by the turn of a series; gives t2−t1 in ms.
pub(super) async fn move_endpoint(
    site: &Site,
    probe: &Probe,
    slices: &mut Watch,
    routes: usize,
    (series, turn): (u8, usize),
) -> Result<f64, BenchError> {
    let index = 1 + turn * 7919 % (routes - 1);
    let (name, second) = (service_name(index), format!("10.{series}.{}.{}", turn / 250, 1 + turn % 250));
    probe.expect(&second)?;
    let of = (Kind::Slice, site.homes.of(index), &*name);
    let written = site.writer.patch(of, &moved(index, &second)).await?;
    let (t2, t1) = (probe.came(&second).await?, slices.seen(&name, &written.version).await?);
    Ok(between(t1, t2))
}

/// B2, and what a change costs among many and among none, in the same minute and of the same process. That is measured without an Envoy:
/// its own work grows with the routes, and takes the caches and half a processor from whoever works beside it.
async fn under_churn(bench: &Bench, site: &Site) -> Result<Report, BenchError> {
    let (routes, turns) = (bench.sizes.scale, bench.sizes.turns);
    let mut report = Report::new("B2", "route probe, at rest and under churn");
    report.input("routes", routes);
    report.input("probes", turns);
    let probe = Arc::new(site.probe().await?);
    let envoy = if bench.envoy { Some((site.envoy().await?, User::new(site.port))) } else { None };
    let mut followers = Followers { probe, routes: site.watch(Kind::Route).await?, envoy };
    let mut next = routes..;
    let probe = Arc::clone(&followers.probe);
    let meter = Meter::start(site, Some(&probe)).await?;
    let pace = bench.sizes.churned / u32::try_from(turns).unwrap_or(u32::MAX);
    let (at_rest, cpu) = rested(site, &mut followers, next.by_ref().take(turns + 1), pace).await?;
    report.figure("at_rest_cpu_ms_per_route", cpu);
    let churn = Churn::start(&bench.writer, &site.homes, routes, None);
    let mut churned = Times::default();
    paced(site, &mut followers, next.by_ref().take(turns), pace, &mut churned).await?;
    let changes = churn.end().await?;
    report.input("changes_meanwhile", changes);
    let wrong = followers.envoy.take().map(|(_, user)| user.wrong);
    let (_, among_many) = rested(site, &mut followers, next.by_ref().take(turns + 1), Duration::ZERO).await?;
    report.figure("among_many_cpu_ms_per_route", among_many);
    for namespace in site.homes.all() {
        bench.writer.delete_all(Kind::Route, namespace).await?;
    }
    let gone = |objects: &HashMap<String, Seen>| objects.values().all(|it| it.gone.is_some()).then_some(());
    followers.routes.until("all routes are gone", Duration::from_mins(2), gone).await?;
    // Removals of what routes used may be held back, ours by 10 s: they are no part of what comes.
    followers.probe.quiet(Duration::from_secs(12)).await?;
    let (_, among_few) = rested(site, &mut followers, next.by_ref().take(turns + 1), Duration::ZERO).await?;
    report.figure("among_few_cpu_ms_per_route", among_few);
    meter.stop(site, &mut report).await?;
    let (p50, p99) = report.times("t2_t1", &churned.t2_t1);
    let (rest_p50, rest_p99) = report.times("at_rest_t2_t1", &at_rest.t2_t1);
    report.bar("t2-t1 p50 under churn, ms", 10.0, p50);
    report.bar("t2-t1 p99 under churn, ms", 50.0, p99);
    report.bar("p50 under churn over p50 at rest", 2.0, p50 / rest_p50);
    report.bar("p99 under churn over p99 at rest", 2.0, p99 / rest_p99);
    if let Some(wrong) = wrong {
        report.times("t4_t0", &churned.t4_t0);
        report.times("at_rest_t4_t0", &at_rest.t4_t0);
        report.figure("wrong_answers", count(wrong));
        report.bar("answers other than 200 and 404", 0.0, count(wrong));
    }
    let cloud = |name: &str, times: &[f64]| {
        Series::cloud(name, times.iter().enumerate().map(|(at, ms)| (count(at), *ms)).collect())
    };
    let series = vec![cloud("t2−t1 at rest", &at_rest.t2_t1), cloud("t2−t1 under churn", &churned.t2_t1)];
    report.plot = Some(Plot { x: "probe", y: "ms", series });
    Ok(report)
}

/// Routes one by one while nothing else changes; gives their times, and the CPU time of each in milliseconds.
async fn rested(
    site: &Site,
    followers: &mut Followers,
    mut routes: impl Iterator<Item = usize>,
    pace: Duration,
) -> Result<(Times, f64), BenchError> {
    // The first waits for an Envoy that may still load the rest, and what came before still has statuses to write.
    for index in routes.by_ref().take(1) {
        followers.follow(site, index, 0, &mut Times::default()).await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (cpu, mut times) = (site.cpu()?, Times::default());
    let turns = paced(site, followers, routes, pace, &mut times).await?;
    // The statuses of the last ones.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok((times, (site.cpu()? - cpu) * 1e3 / count(turns)))
}

/// Routes one by one, no sooner than this one after the other; gives how many.
async fn paced(
    site: &Site,
    followers: &mut Followers,
    routes: impl Iterator<Item = usize>,
    pace: Duration,
    times: &mut Times,
) -> Result<usize, BenchError> {
    let mut turns = 0;
    for index in routes {
        let next = Instant::now() + pace;
        followers.follow(site, index, 0, times).await?;
        tokio::time::sleep_until(next.into()).await;
        turns += 1;
    }
    Ok(turns)
}

/// `proxy`: what one Envoy keeps.
async fn proxy(bench: &Bench, site: &Site) -> Result<Report, BenchError> {
    let routes = bench.sizes.scale;
    let mut report = Report::new("proxy", "what one real Envoy keeps");
    report.input("routes", routes);
    let (mut envoy, mut user) = (site.envoy().await?, User::new(site.port));
    let start = Instant::now();
    let mut resident = Vec::new();
    bench.writer.patch((Kind::Route, site.homes.of(0), &route_name(0)), &remarked(0, "proxied")).await?;
    {
        let host = objects::hostname(0);
        let served = user.served(&host, "proxied");
        tokio::pin!(served);
        let mut tick = tokio::time::interval(Duration::from_millis(25));
        loop {
            tokio::select! {
                done = &mut served => break done?,
                // An Envoy that ended serves nothing: that is told, and tells more.
                _ = tick.tick() => if let Ok(now) = process::memory(envoy.pid()) {
                    resident.push((start.elapsed().as_secs_f64(), mib(now.resident)));
                },
            }
        }
    };
    let first_200 = start.elapsed().as_secs_f64();
    report.figure("started_to_first_200_s", first_200);
    let (series, clusters) = (envoy.series().await?, envoy.clusters().await?);
    report.figure("series", count(series));
    report.figure("clusters", count(clusters));
    let (memory, spent) = (process::memory(envoy.pid())?, process::cpu(envoy.pid())?);
    report.figure("cpu_seconds", spent.as_secs_f64());
    report.figure("resident_mib", mib(memory.resident));
    report.figure("peak_mib", mib(memory.peak));
    report.figure("resident_kib_per_route", mib(memory.resident) * 1024.0 / count(routes));
    report.bar("Prometheus series of one proxy", 2_000.0, count(series));
    report.bar("clusters per backend", 1.0, count(clusters) / count(routes));
    report.plot = Some(Plot {
        x: "seconds from Envoy's start to its first 200",
        y: "resident MiB",
        series: vec![Series::line(format!("Envoy, {routes} routes"), resident)],
    });
    Ok(report)
}
