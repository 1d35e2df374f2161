//! B7: many proxies of many Gateways are connected and idle; then routes come and go for minutes. Memory must follow what is there,
//! not what has been.

use std::time::{Duration, Instant};

use super::{
    Bench, BenchError,
    api::Kind,
    meter::Meter,
    objects::{self, GATEWAY, route, route_name},
    probe::Probe,
    report::{Plot, Report, Series, count, slope},
    site::Site,
};
use crate::bench::figures::mib;

/// Routes of each Gateway that stay, and as many that come and go.
const EACH: usize = 20;

pub(super) async fn run(bench: &Bench) -> Result<Report, BenchError> {
    let (gateways, each) = bench.sizes.streams;
    let mut report = Report::new("B7", "idle streams, then routes come and go");
    report.input("gateways", gateways);
    report.input("streams", gateways * each);
    report.input("routes", gateways * EACH);
    report.input("seconds", bench.sizes.soak.as_secs());
    let mut site = Site::prepare(&bench.target, &bench.writer, "bench-b7", gateways).await?;
    let (namespace, writer) = (site.namespace.clone(), bench.writer.clone());
    let stay = gateways * EACH;
    let gateway = |index: usize| match index % gateways {
        0 => GATEWAY.to_owned(),
        other => format!("{GATEWAY}-{other}"),
    };
    writer.create_all((0..stay).map(|index| objects::service(&namespace, index))).await?;
    writer.create_all((0..stay).map(|index| objects::slice(&namespace, index))).await?;
    site.run().await?;
    let mut routes = site.watch(Kind::Route).await?;
    writer
        .create_all(
            (0..stay).map(|index| route(&namespace, (&namespace, &gateway(index)), index, index, "stays")),
        )
        .await?;
    site.settled(&mut routes, stay).await?;
    let mut accesses = Vec::new();
    for index in 0..gateways {
        accesses.push(site.access(&gateway(index)).await?);
    }
    // One stream of each Gateway first: what is made for the first is no cost of the next.
    let mut probes = futures::future::try_join_all(accesses.iter().map(connect)).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = site.memory()?;
    for _ in 1..each {
        probes.extend(futures::future::try_join_all(accesses.iter().map(connect)).await?);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let more = gateways * (each - 1);
    if let (Some(before), Some(after)) = (before, site.memory()?) {
        let grown = after.resident.saturating_sub(before.resident);
        let per_stream = mib(grown) * 1024.0 / count(more);
        report.figure("resident_mib_with_all_streams", mib(after.resident));
        report.figure("kib_per_idle_stream", per_stream);
        report.bar("kB of resident memory per idle stream", 50.0, per_stream * 1.024);
    }

    let meter = Meter::start(&site, probes.first()).await?;
    let (cpu, start, mut resident, mut turns) = (site.cpu()?, Instant::now(), Vec::new(), 0_usize);
    while start.elapsed() < bench.sizes.soak {
        let some = stay..2 * stay;
        writer
            .create_all(some.clone().map(|index| {
                route(
                    &namespace,
                    (&namespace, &gateway(index)),
                    index,
                    index - stay,
                    &format!("turn-{turns}"),
                )
            }))
            .await?;
        writer.delete_many(Kind::Route, &namespace, some.map(route_name)).await?;
        turns += 1;
        // At the same point of each turn: with nothing but what stays.
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(memory) = site.memory()? {
            resident.push((start.elapsed().as_secs_f64(), mib(memory.resident)));
        }
    }
    report.input("turns", turns);
    report.figure("cpu_ms_per_route", (site.cpu()? - cpu) * 1e3 / count(turns * stay));
    let span = bench.sizes.soak.as_secs_f64();
    let last: Vec<(f64, f64)> = resident.iter().copied().filter(|(at, _)| *at >= 0.4 * span).collect();
    if last.len() > 2 {
        let grown = slope(&last) * 0.6 * span;
        let mean = last.iter().map(|(_, mib)| mib).sum::<f64>() / count(last.len());
        report.figure("grown_mib_over_last_60_percent", grown);
        report.figure("resident_mib_mean_over_last_60_percent", mean);
        // Pages come and go by themselves: 3 % of it is no trend.
        report.bar("growth over the last 60 %, of the mean", 0.03, grown / mean);
    }
    meter.stop(&site, &mut report).await?;
    report.plot =
        Some(Plot { x: "seconds", y: "resident MiB", series: vec![Series::line("control plane", resident)] });
    drop(probes);
    site.end().await?;
    Ok(report)
}

async fn connect(access: &super::access::Access) -> Result<Probe, BenchError> {
    let probe = Probe::connect(access).await?;
    probe.complete().await?;
    Ok(probe)
}
