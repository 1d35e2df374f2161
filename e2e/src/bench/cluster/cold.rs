//! B8: the control plane starts among thousands of routes, and a proxy of before comes back.

use std::time::{Duration, Instant};

use portolan_xds::ads::client::View;

use super::{
    Bench, BenchError,
    access::Access,
    api::Kind,
    objects::{GATEWAY, moved, remarked, route_name, service_name},
    probe::Probe,
    report::{Plot, Report, Series, count},
    site::Site,
};
use crate::bench::figures::mib;

/// A proxy of before, which tries until it is served: nobody listens at first, then nobody answers who has not read everything.
async fn come_back(access: &Access, view: &View) -> Result<Probe, BenchError> {
    const LIMIT: Duration = Duration::from_mins(2);
    let mut last = "nobody answers".to_owned();
    let tries = async {
        loop {
            match Probe::reconnect(access, view.clone()).await {
                Ok(probe) => return probe,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let served = tokio::time::timeout(LIMIT, tries).await;
    let of = format!("the proxy is served again ({last})");
    served.map_err(|_| BenchError::Late { of, seconds: LIMIT.as_secs() })
}

/// That nothing came says something only if something would have come: a change of a route does, and one of endpoints.
async fn still_served(bench: &Bench, site: &Site, probe: &Probe) -> Result<(), BenchError> {
    let (marker, address) = ("after-the-cold-start", "10.253.0.1");
    let changes = [
        (Kind::Route, route_name(1), remarked(1, marker), marker),
        (Kind::Slice, service_name(1), moved(1, address), address),
    ];
    for (kind, name, patch, text) in changes {
        probe.expect(text)?;
        bench.writer.patch((kind, site.homes.of(1), &name), &patch).await?;
        probe.came(text).await?;
    }
    Ok(())
}

/// Expects everything to be written already.
pub(super) async fn run(bench: &Bench, site: &mut Site) -> Result<Report, BenchError> {
    let mut report = Report::new("B8", "cold start among many routes, and a proxy that comes back");
    report.input("routes", bench.sizes.scale);
    // What the proxy has when the control plane goes.
    let probe = site.probe().await?;
    let view = probe.view();
    let whole = probe.traffic();
    drop(probe);
    site.halt().await?;
    // The floor: these lists by themselves.
    let start = Instant::now();
    for kind in [Kind::Route, Kind::Service, Kind::Slice, Kind::Gateway] {
        bench.writer.list(kind, "").await?;
    }
    let lists = start.elapsed().as_secs_f64();
    // The proxy tries while the control plane starts, as an Envoy does: what is served too early is served then.
    let started = site.launch()?;
    let access = site.access(GATEWAY).await?;
    let (ready, probe) = tokio::try_join!(site.ready(), come_back(&access, &view))?;
    let to_ready = (ready - started).as_secs_f64();
    let connected = Instant::now();
    // Longer than any delay of ours: what is wrongly sent would be sent by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let traffic = probe.traffic();
    if let Some(metrics) = site.metrics().await? {
        let written = |of: &str| metrics.sum("portolan_status_writes_total", of);
        report.figure("status_writes", written(""));
        report.bar("statuses of routes written again", 0.0, written("HTTPRoute"));
    }
    report.figure("lists_s", lists);
    report.figure("started_to_ready_s", to_ready);
    // Since its start, that is.
    report.figure("cpu_seconds", site.cpu()?);
    report.figure("whole_configuration_bytes", count(whole.bytes));
    report.figure("resent_bytes", count(traffic.bytes));
    report.figure("resent_resources", count(traffic.resources_but("Secret")));
    report.note("resources", serde_json::json!(traffic.resources));
    let had = |text: &String| {
        let (name, version) = text.rsplit_once(' ')?;
        let (_, name) = name.split_once(' ')?;
        let before = view.values().find_map(|held| held.get(name))?;
        Some(format!("{text}, had {}", if before.version == version { "the same" } else { &before.version }))
    };
    let first: Vec<String> = traffic.first.iter().filter_map(had).collect();
    report.note("first_resent", first);
    report.figure("removals", count(traffic.removed));
    report.figure("seconds_watched", connected.elapsed().as_secs_f64());
    if let Some(memory) = site.memory()? {
        report.figure("resident_mib", mib(memory.resident));
        report.figure("peak_mib", mib(memory.peak));
    }
    still_served(bench, site, &probe).await?;
    report.bar("ready after the lists, s", 3.0, (to_ready - lists).max(0.0));
    report.bar("resources sent again, Secrets excepted", 0.0, count(traffic.resources_but("Secret")));
    report.bar("removals", 0.0, count(traffic.removed));
    report.plot = Some(Plot {
        x: "0 lists alone, 1 started to ready",
        y: "seconds",
        series: vec![Series::line("cold start", vec![(0.0, lists), (1.0, to_ready)])],
    });
    Ok(report)
}
