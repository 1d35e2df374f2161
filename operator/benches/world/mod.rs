//! A world of routes, and everything downstream of its source, for the benchmarks of this folder.

#![allow(dead_code)] // not every benchmark needs all of it

use std::time::Instant;

use portolan::{
    model::{Kind, Object, ObjectKey, parse},
    resolve::{Engine, Placement, Resolved},
};
use portolan_xds::{
    GatewayKey,
    ir::{Delta, Transport},
    program::Program,
    store::{ResourceType, Store},
};
use serde_json::{Value, json};

/// How hostnames are shared out among routes.
#[derive(Clone, Copy)]
pub(crate) enum Hostnames {
    /// Each route has its own: one virtual host per route.
    Own,
    /// All routes name the same one: one virtual host with every route.
    Shared,
    /// No route names any: the listener's virtual host has every route.
    None,
}

impl Hostnames {
    pub(crate) const ALL: [Self; 3] = [Self::Own, Self::Shared, Self::None];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Own => "own hostnames",
            Self::Shared => "one hostname",
            Self::None => "no hostname",
        }
    }

    pub(crate) fn of(self, index: usize) -> Value {
        match self {
            Self::Own => json!([format!("host-{index}.example.com")]),
            Self::Shared => json!(["shared.example.com"]),
            Self::None => json!([]),
        }
    }
}

pub(crate) fn class() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "portolan"},
        "spec": {"controllerName": "portolan.dev/gateway-controller"},
    })
}

pub(crate) fn gateway() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "web"},
        "spec": {
            "gatewayClassName": "portolan",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    })
}

pub(crate) fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "blue"},
        "spec": {"ports": [{"port": 80}]},
    })
}

pub(crate) fn slice() -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "blue", "labels": {"kubernetes.io/service-name": "blue"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.0.0.1"]}],
    })
}

/// A route with two rules, one of which has a backend that does not exist (the probe of gateway-api-bench).
pub(crate) fn route(hostnames: Hostnames, index: usize, value: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": format!("route-{index}")},
        "spec": {
            "parentRefs": [{"name": "web"}],
            "hostnames": hostnames.of(index),
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": format!("/{index}")}}],
                "filters": [{
                    "type": "RequestHeaderModifier",
                    "requestHeaderModifier": {"set": [{"name": "x-a", "value": value}]},
                }],
                "backendRefs": [{"name": "blue", "port": 80}],
            }, {
                "matches": [{"path": {"type": "PathPrefix", "value": format!("/{index}/missing")}}],
                "backendRefs": [{"name": "missing", "port": 80}],
            }],
        },
    })
}

pub(crate) fn object(json: &Value) -> (ObjectKey, Option<Object>) {
    let kind = Kind::from_name(json["kind"].as_str().unwrap()).unwrap();
    let object = parse(kind, json).unwrap();
    (object.key().clone(), Some(object))
}

pub(crate) fn changed_route(hostnames: Hostnames, routes: usize, turn: usize) -> Value {
    route(hostnames, turn * 7919 % routes, &format!("v{turn}"))
}

/// Everything downstream of the source, as the running control plane holds it.
pub(crate) struct Pipeline {
    engine: Engine,
    program: Program,
    store: Store,
}

impl Pipeline {
    pub(crate) fn new() -> Self {
        let program = Program::new(GatewayKey::new("default", "web"));
        Self { engine: Engine::new(), program, store: Store::default() }
    }

    /// Resolves a whole world.
    pub(crate) fn resolve_all(&mut self, objects: Vec<(ObjectKey, Option<Object>)>) -> Delta {
        let mut delta = delta(self.engine.apply(objects));
        let ports = [((80, Transport::Tcp), Ok(vec![([127, 0, 0, 1], 80).into()]))];
        let gateway = ObjectKey::new(Kind::Gateway, "default", "web");
        delta.merge(self::delta(self.engine.place(&gateway, Some(Placement::bound(ports)))));
        delta
    }

    pub(crate) fn resolve(&mut self, change: (ObjectKey, Option<Object>)) -> Delta {
        let resolved = self.engine.apply([change]);
        assert!(resolved.units_run <= 4, "{} units for one route", resolved.units_run);
        delta(resolved)
    }

    pub(crate) fn lower(&mut self, delta: Delta) {
        let applied = self.program.apply(delta, &mut self.store, Instant::now());
        assert!(!applied.changed.is_empty(), "nothing to send");
    }

    /// Answers as a proxy does, so that nothing is left to be proven.
    pub(crate) fn acknowledge(&mut self) {
        for kind in ResourceType::ORDER {
            let all = self.store.iter(kind);
            let all: Vec<_> =
                all.map(|live| (live.resource.name().clone(), live.resource.version())).collect();
            self.program.on_ack(kind, &all, &mut self.store, Instant::now());
        }
    }

    /// With `routes` routes served and acknowledged.
    pub(crate) fn warm(hostnames: Hostnames, routes: usize) -> Self {
        let mut pipeline = Self::new();
        let delta = pipeline.resolve_all(world(hostnames, routes));
        pipeline.lower(delta);
        pipeline.acknowledge();
        pipeline
    }
}

pub(crate) fn delta(mut resolved: Resolved) -> Delta {
    resolved.deltas.pop_first().map(|(_, delta)| delta).unwrap_or_default()
}

pub(crate) fn world(hostnames: Hostnames, routes: usize) -> Vec<(ObjectKey, Option<Object>)> {
    let base = [class(), gateway(), service(), slice()];
    let routes = (0..routes).map(|index| route(hostnames, index, "v"));
    base.into_iter().chain(routes).map(|json| object(&json)).collect()
}
