//! One golden file per feature in `testdata/`: what an IR piece becomes. `e2e/tests/validate.rs` gives each to Envoy.

mod clusters;
mod listeners;
mod routes;

use std::{cmp::Reverse, sync::Arc};

use prost::{Message, Name};
use serde_json::Value;

use super::*;
use crate::ir::*;

fn golden<M: Message + Name>(feature: &str, message: &M) {
    let json =
        portolan_xds_proto::dump::to_json(&portolan_xds_proto::type_url::<M>(), &message.encode_to_vec())
            .unwrap();
    write(feature, &json);
}

fn write(feature: &str, json: &Value) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../testdata");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(feature, format!("{json:#}")));
}

/// The virtual host with these routes.
fn golden_routes(feature: &str, table: &RouteTable, routes: impl IntoIterator<Item = Route>) {
    golden_host(feature, table, routes, &VirtualHost::default());
}

/// The virtual host with these routes and whatever else `host` has.
fn golden_host(
    feature: &str,
    table: &RouteTable,
    routes: impl IntoIterator<Item = Route>,
    host: &VirtualHost,
) {
    let chunks: Vec<_> = routes.into_iter().map(|route| table::route_chunk(&route, table)).collect();
    let end = table::virtual_host_end(host);
    let start = table::virtual_host_start(&table.name, "app.test", host);
    let bytes = [&[start], chunks.as_slice(), &[end]].concat().concat();
    let json = portolan_xds_proto::dump::to_json(crate::store::ResourceType::VirtualHost.type_url(), &bytes)
        .unwrap();
    write(feature, &json);
}

fn http() -> RouteTable {
    RouteTable { name: "apps/public/80".into(), port: 80, tls: false }
}

fn text(value: &str) -> Arc<str> {
    value.into()
}

fn prefix(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix(path.into()),
        method: None,
        headers: vec![],
        query: vec![],
        grpc: false,
    }
}

fn routed(matches: RouteMatch, target: Target) -> Route {
    acting(
        matches,
        Action {
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            cors: None,
            auth: None,
            target,
        },
    )
}

fn acting(matches: RouteMatch, action: Action) -> Route {
    Route {
        rank: RouteRank { hostname: Reverse((true, 8)), ..RouteRank::default() },
        origin: Origin::new("HTTPRoute/apps/r"),
        name: "rule".into(),
        matches,
        action: Arc::new(action),
    }
}

fn arm(name: &str, weight: u32) -> Arm {
    Arm {
        weight,
        backend: Backend::Cluster(name.into()),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        mirrors: vec![],
        cors: None,
        auth: None,
        redirect: None,
    }
}

fn invalid(weight: u32) -> Arm {
    Arm { backend: Backend::Invalid, ..arm("", weight) }
}

fn to(arms: Vec<Arm>) -> Target {
    forward(arms, UrlRewrite::default(), vec![], Timeouts::default(), None)
}

fn forward(
    arms: Vec<Arm>,
    rewrite: UrlRewrite,
    mirrors: Vec<Mirror>,
    timeouts: Timeouts,
    retry: Option<Retry>,
) -> Target {
    Target::Forward { arms, rewrite, mirrors, timeouts, retry, session: None }
}

fn one() -> Vec<Arm> {
    vec![arm("apps/one/80", 1)]
}

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderEdits {
    let list = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| HeaderEdit { name: text(name), value: text(value) }).collect()
    };
    HeaderEdits { set: list(set), add: list(add), remove: remove.iter().map(|name| text(name)).collect() }
}

fn rewritten(matched: &str, replacement: &str) -> Route {
    let path = PathRewrite::Prefix { matched: matched.into(), replacement: replacement.into() };
    let rewrite = UrlRewrite { hostname: None, path: Some(path) };
    routed(prefix(matched), forward(one(), rewrite, vec![], Timeouts::default(), None))
}

fn redirect() -> Redirect {
    Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 }
}

fn redirected(redirect: Redirect) -> Route {
    routed(prefix("/"), Target::Redirect(redirect))
}

fn cors() -> Cors {
    Cors {
        allow_origins: vec![
            CorsOrigin::Exact("https://www.foo.com".into()),
            CorsOrigin::Wildcard("https://*.bar.com".into()),
        ],
        allow_methods: vec!["GET".into(), "OPTIONS".into()],
        allow_headers: vec!["x-header-1".into()],
        expose_headers: vec!["x-header-3".into()],
        allow_credentials: true,
        max_age: Millis(3_600_000),
    }
}

#[test]
fn re2_quoting() {
    assert_eq!(wire::quote("/a.b-c_1é"), r"\/a\.b\-c_1é");
}
