//! B0: what the API server, its watch and this harness cost by themselves. No control plane of ours runs. Every other figure is read
//! against it.

use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::{
    Bench, BenchError,
    api::{Kind, WRITERS},
    objects::{self, GATEWAY, remarked, route, route_name},
    report::{Plot, Report, Series, between, count, sorted},
    watch::Watch,
};
use crate::bench::figures::quantile;

const NAMESPACE: &str = "bench-floor";

pub(super) async fn run(bench: &Bench) -> Result<Report, BenchError> {
    let (writer, turns) = (&bench.writer, bench.sizes.floor);
    let mut report = Report::new("B0", "floor: the API server's own write and watch");
    report.input("writes", turns);
    writer.ensure(&objects::namespace(NAMESPACE)).await?;
    writer.create(&objects::config_map(NAMESPACE, "floor")).await?;
    for index in 0..WRITERS {
        writer.create(&route(NAMESPACE, (NAMESPACE, GATEWAY), index, 0, "none")).await?;
    }
    let mut maps = Watch::start(Kind::ConfigMap, NAMESPACE).await?;
    let mut routes = Watch::start(Kind::Route, NAMESPACE).await?;
    let (mut of_maps, mut of_routes, mut writing) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..turns {
        let patch = json!({"data": {"turn": turn.to_string()}});
        let written = writer.patch((Kind::ConfigMap, NAMESPACE, "floor"), &patch).await?;
        of_maps.push(between(written.at, maps.seen("floor", &written.version).await?));
        let (start, name) = (Instant::now(), route_name(0));
        let written =
            writer.patch((Kind::Route, NAMESPACE, &name), &remarked(0, &format!("turn-{turn}"))).await?;
        writing.push(between(start, written.at));
        of_routes.push(between(written.at, routes.seen(&name, &written.version).await?));
    }
    report.times("config_map_t1_t0", &of_maps);
    report.times("route_t1_t0", &of_routes);
    let (write_p50, _) = report.times("write", &writing);
    // The same in both halves, were there no noise.
    let half = |times: &[f64]| quantile(&sorted(times), 0.5);
    let (first, second) = writing.split_at(turns / 2);
    report.figure("noise_percent", 100.0 * (half(first) - half(second)).abs() / write_p50);

    let cloud = |name: &str, times: &[f64]| {
        Series::cloud(name, times.iter().enumerate().map(|(at, ms)| (count(at), *ms)).collect())
    };
    let series = vec![
        cloud("write of a route", &writing),
        cloud("t1−t0, a route", &of_routes),
        cloud("t1−t0, a ConfigMap", &of_maps),
    ];
    report.plot = Some(Plot { x: "write", y: "ms", series });

    let start = Instant::now();
    let statuses = futures::stream::iter((0..WRITERS * turns).map(|turn| async move {
        let status = json!({"status": {"parents": [{
            "parentRef": {"name": "none"}, "controllerName": "example.com/floor",
            "conditions": [{
                "type": "Accepted", "status": "True", "reason": "Accepted", "message": turn.to_string(),
                "observedGeneration": 1, "lastTransitionTime": "2001-01-01T00:00:00Z",
            }],
        }]}});
        let name = format!("{}/status", route_name(turn % WRITERS));
        bench.writer.patch((Kind::Route, NAMESPACE, &name), &status).await
    }));
    statuses.buffer_unordered(WRITERS).try_fold((), async |(), _| Ok(())).await?;
    report.figure("status_writes_per_second", count(WRITERS * turns) / start.elapsed().as_secs_f64());
    writer.delete_all(Kind::Route, NAMESPACE).await?;
    writer.delete_all(Kind::ConfigMap, NAMESPACE).await?;
    Ok(report)
}
