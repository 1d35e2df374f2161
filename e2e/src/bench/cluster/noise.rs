//! B6: objects that concern no Gateway of ours change fifty times a second. Nothing must come of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    Bench, BenchError,
    api::{Kind, Object},
    meter::Meter,
    objects::{self, remarked, route_name},
    report::{Plot, Report, Series, count},
    site::Site,
};

const PER_SECOND: u32 = 50;
/// How many kinds of objects change.
const KINDS: usize = 4;
/// Routes of ours that must not be touched.
const OURS: usize = 100;
const FOREIGN_CLASS: &str = "bench-foreign";
/// Far from the numbers of our own.
const FOREIGN: usize = 100_000;

pub(super) async fn run(bench: &Bench) -> Result<Report, BenchError> {
    let mut report = Report::new("B6", "unrelated objects change");
    let site = Site::start(&bench.target, &bench.writer, "bench-b6").await?;
    let other = "bench-b6-foreign";
    let writer = &bench.writer;
    writer.ensure(&objects::namespace(other)).await?;
    writer.ensure(&objects::class(FOREIGN_CLASS, "example.com/foreign")).await?;
    writer.create(&objects::service(&site.namespace, 0)).await?;
    writer.create(&objects::slice(&site.namespace, 0)).await?;
    writer.create_all((0..OURS).map(|index| site.route(index, 0, "ours"))).await?;
    let each = bench.sizes.unrelated / KINDS;
    writer.create_all((0..each).flat_map(|index| foreign(other, index))).await?;
    let probe = site.probe().await?;
    let mut routes = site.watch(Kind::Route).await?;
    site.settled(&mut routes, OURS).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;

    // The same span without noise: what the control plane spends on itself.
    let span = bench.sizes.noise;
    let (cpu, start) = (site.cpu()?, Instant::now());
    tokio::time::sleep(span / 2).await;
    let idle = (site.cpu()? - cpu) / start.elapsed().as_secs_f64();
    let (metrics, written) = (site.metrics().await?, routes.status_writes());
    let meter = Meter::start(&site, Some(&probe)).await?;
    let (cpu, start) = (site.cpu()?, Instant::now());
    let mut turns = 0_usize;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    while start.elapsed() < span {
        tick.tick().await;
        let (kind, name, patch) = change(turns, each);
        writer.patch((kind, other, &name), &patch).await?;
        turns += 1;
    }
    // What comes of the last ones.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seconds = start.elapsed().as_secs_f64();
    let busy = (site.cpu()? - cpu) / seconds;
    meter.stop(&site, &mut report).await?;
    report.input("changes", turns);
    report.input("unrelated_objects", KINDS * each);
    report.input("seconds", span.as_secs());
    report.input("routes", OURS);
    report.figure("changes_per_second", count(turns) / span.as_secs_f64());
    report.figure("core_percent", busy * 100.0);
    report.figure("core_percent_idle", idle * 100.0);
    report.figure("status_writes_of_routes", count(routes.status_writes() - written));
    if let (Some(before), Some(after)) = (metrics, site.metrics().await?) {
        report.figure("units_resolved", after.units() - before.units());
        report.bar("units resolved", 0.0, after.units() - before.units());
        let name = "portolan_status_writes_total";
        report.bar("status writes by the operator", 0.0, after.sum(name, "") - before.sum(name, ""));
    }
    report.bar("status writes of our routes", 0.0, count(routes.status_writes() - written));
    report.bar("core, %", 2.0, busy * 100.0);
    report.plot = Some(Plot {
        x: "0 idle, 1 under noise",
        y: "% of a core",
        series: vec![Series::line("CPU", vec![(0.0, idle * 100.0), (1.0, busy * 100.0)])],
    });
    drop(probe);
    for kind in [Kind::Route, Kind::Gateway, Kind::Secret] {
        writer.delete_all(kind, other).await?;
    }
    let names: Vec<String> = (0..each).map(|index| objects::service_name(FOREIGN + index)).collect();
    writer.delete_many(Kind::Service, other, names.into_iter()).await?;
    site.end().await?;
    Ok(report)
}

fn foreign(namespace: &str, index: usize) -> [Object; KINDS] {
    [
        objects::secret(namespace, &format!("secret-{index}")),
        objects::service(namespace, FOREIGN + index),
        objects::gateway(namespace, &gateway_name(index), FOREIGN_CLASS, 80),
        objects::route(
            namespace,
            (namespace, &gateway_name(index)),
            FOREIGN + index,
            FOREIGN + index,
            "foreign",
        ),
    ]
}

fn gateway_name(index: usize) -> String {
    format!("foreign-{index}")
}

/// The change of a turn: each kind in turn, each of its `each` objects in turn, a real change each time.
fn change(turn: usize, each: usize) -> (Kind, String, Value) {
    let index = turn / KINDS % each;
    match turn % KINDS {
        0 => (Kind::Secret, format!("secret-{index}"), json!({"stringData": {"turn": turn.to_string()}})),
        1 => {
            let port = 1_000 + turn % 30_000;
            let patch = json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": port}]}});
            (Kind::Service, objects::service_name(FOREIGN + index), patch)
        }
        2 => {
            let port = 1_000 + turn % 30_000;
            let patch = json!({"spec": {"listeners": [{"name": "http", "port": port, "protocol": "HTTP"}]}});
            (Kind::Gateway, gateway_name(index), patch)
        }
        _ => {
            let patch = remarked(FOREIGN + index, &format!("turn-{turn}"));
            (Kind::Route, route_name(FOREIGN + index), patch)
        }
    }
}
