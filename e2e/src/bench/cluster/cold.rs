//! B8: the control plane starts among thousands of routes, and a proxy of before comes back.

use std::time::{Duration, Instant};

use super::{
    Bench, BenchError,
    api::Kind,
    objects::GATEWAY,
    probe::Probe,
    report::{Plot, Report, Series, count},
    site::Site,
};
use crate::bench::figures::mib;

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
    let (started, ready) = site.run().await?;
    let to_ready = (ready - started).as_secs_f64();
    let connected = Instant::now();
    let probe = Probe::reconnect(&site.access(GATEWAY).await?, view.clone()).await?;
    // Longer than any delay of ours: what is wrongly sent would be sent by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let traffic = probe.traffic();
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
