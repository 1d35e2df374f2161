//! How long resolving takes: everything cold, and one route changed among many.
//!
//! Prints one JSON line per figure. Run with `cargo bench -p portolan --bench resolve`.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)] // a benchmark reports to a person and may stop at once

use std::time::{Duration, Instant};

use portolan::{
    model::{Kind, Object, ObjectKey, parse},
    resolve::{Engine, Placement},
};
use portolan_xds::ir::Transport;
use serde_json::{Value, json};

fn object(kind: Kind, json: &Value) -> (ObjectKey, Option<Object>) {
    let namespace = if kind.cluster_scoped() { "" } else { "default" };
    let key = ObjectKey::new(kind, namespace, json["metadata"]["name"].as_str().unwrap());
    (key, Some(parse(kind, json).unwrap()))
}

fn base() -> Vec<(ObjectKey, Option<Object>)> {
    let class = json!({"metadata": {"name": "portolan"}, "spec": {"controllerName": "portolan.dev/gateway-controller"}});
    let gateway = json!({"metadata": {"name": "web"}, "spec": {"gatewayClassName": "portolan",
        "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}});
    let service = json!({"metadata": {"name": "blue"}, "spec": {"ports": [{"port": 80}]}});
    let slice = json!({"metadata": {"name": "blue", "labels": {"kubernetes.io/service-name": "blue"}},
        "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
    vec![
        object(Kind::GatewayClass, &class),
        object(Kind::Gateway, &gateway),
        object(Kind::Service, &service),
        object(Kind::EndpointSlice, &slice),
    ]
}

fn route(index: usize, path: &str) -> Value {
    json!({"metadata": {"name": format!("route-{index}")}, "spec": {
        "parentRefs": [{"name": "web"}],
        "hostnames": [format!("host-{index}.example.com")],
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "b"}]}}],
            "backendRefs": [{"name": "blue", "port": 80}],
        }, {"backendRefs": [{"name": "missing", "port": 80}]}],
    }})
}

fn print(figure: &str, routes: usize, value: Duration) {
    println!("{}", json!({"figure": figure, "routes": routes, "microseconds": value.as_micros()}));
}

fn measure(routes: usize) {
    let parsed: Vec<_> = (0..routes).map(|index| object(Kind::HttpRoute, &route(index, "/a"))).collect();
    let mut engine = Engine::new();
    let start = Instant::now();
    engine.apply(base());
    let ports = [((80, Transport::Tcp), Ok(vec![([127, 0, 0, 1], 80).into()]))];
    engine.place(&ObjectKey::new(Kind::Gateway, "default", "web"), Some(Placement::bound(ports)));
    engine.apply(parsed);
    print("cold resolve", routes, start.elapsed());

    let mut times: Vec<Duration> = (0..200)
        .map(|turn| {
            let json = route(turn * 7 % routes, if turn % 2 == 0 { "/b" } else { "/c" });
            let start = Instant::now();
            let resolved = engine.apply([object(Kind::HttpRoute, &json)]);
            let took = start.elapsed();
            assert!(resolved.units_run <= 4, "{} units for one route", resolved.units_run);
            took
        })
        .collect();
    times.sort();
    print("one route changed: parse and resolve, p50", routes, times[times.len() / 2]);
    print("one route changed: parse and resolve, p99", routes, times[times.len() * 99 / 100]);
}

fn main() {
    // `cargo test` runs benchmark targets too: a small size shows that it works.
    let full = std::env::args().any(|argument| argument == "--bench");
    for routes in if full { vec![100, 1_000, 10_000] } else { vec![100] } {
        measure(routes);
    }
}
