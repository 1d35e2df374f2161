//! GRPCRoute: methods, headers, and the codes of calls that reach nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use portolan_e2e::rig::manifest::http_gateway;
use portolan_e2e::rig::{Ask, Shared, Target, World, grpc, table};

static WORLD: Shared = Shared::new();

async fn world() -> &'static World {
    WORLD
        .get(async || {
            World::plan()
                .backends(&["blue", "green", "red"])
                .manifest("web.yaml", &http_gateway("web"))
                .manifest("grpc.yaml", ROUTES)
                .start()
                .await
        })
        .await
}

async fn web() -> Target {
    world().await.http("web", 80).await
}

const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: methods}
spec:
  parentRefs: [{name: web}]
  hostnames: [methods.example]
  rules:
  - name: exact
    matches: [{method: {service: shop.Cart, method: Add}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{method: {service: shop.Cart}}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{method: {method: Ping}}]
    backendRefs: [{name: red, port: 80}]
  - matches: [{method: {type: RegularExpression, service: 'admin\\.[A-Z]+', method: 'Get.*'}}]
    backendRefs: [{name: red, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: headers}
spec:
  parentRefs: [{name: web}]
  hostnames: [headers.example]
  rules:
  - matches: [{headers: [{name: version, value: one}]}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{headers: [{name: Version, value: two}]}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}]
    backendRefs: [{name: red, port: 80}]
  - matches: [{headers: [{name: color, value: blue}]}, {headers: [{type: RegularExpression, name: color, value: 'gr.+'}]}]
    backendRefs: [{name: blue, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: everything}
spec:
  parentRefs: [{name: web}]
  hostnames: [everything.example]
  rules:
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: X-Set, value: set}], add: [{name: X-Add, value: added}], remove: [X-Remove]}
    backendRefs: [{name: blue, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: missing}
spec:
  parentRefs: [{name: web}]
  hostnames: [missing.example]
  rules:
  - matches: [{method: {service: a.B, method: Missing}}]
    backendRefs: [{name: nobody, port: 80}]
  - matches: [{method: {service: a.B, method: None}}]
  - matches: [{method: {service: a.B, method: Shared}}]
    backendRefs: [{name: blue, port: 80, weight: 1}, {name: nobody, port: 80, weight: 1}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: weights}
spec:
  parentRefs: [{name: web}]
  hostnames: [weights.example]
  rules:
  - backendRefs: [{name: blue, port: 80, weight: 70}, {name: green, port: 80, weight: 30}, {name: red, port: 80, weight: 0}]
";

/// A method, the metadata of a call, and the backend's name or the code that is expected.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// Makes each call on a host.
async fn call_table(host: &str, rows: &[Row<'_>]) {
    let target = web().await;
    let mut wrong = String::new();
    for (method, metadata, expected) in rows {
        let outcome = grpc::call(&target, host, method, metadata).await;
        if grpc::short(&outcome) != *expected {
            writeln!(wrong, "{host}{method} {metadata:?}: expected {expected}, got {outcome:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn calls_are_matched_by_service_and_method() {
    call_table(
        "methods.example",
        &[
            ("/shop.Cart/Add", &[], "blue"),
            ("/shop.Cart/Remove", &[], "green"),
            ("/shop.Cart/add", &[], "green"),
            ("/shop.CartTwo/Add", &[], "UNIMPLEMENTED"),
            ("/other.Service/Ping", &[], "red"),
            // A service is worth more than a method (GRPCRouteRule.matches).
            ("/shop.Cart/Ping", &[], "green"),
            ("/admin.USERS/GetAll", &[], "red"),
            ("/admin.USERS/List", &[], "UNIMPLEMENTED"),
            ("/admin.users/GetAll", &[], "UNIMPLEMENTED"),
        ],
    )
    .await;
}

#[tokio::test]
async fn calls_are_matched_by_headers() {
    let method = "/any.Service/Method";
    call_table(
        "headers.example",
        &[
            (method, &[("version", "one")], "blue"),
            (method, &[("version", "two")], "green"),
            (method, &[("version", "two"), ("color", "orange")], "red"),
            (method, &[("version", "two"), ("color", "blue")], "green"),
            (method, &[("color", "blue")], "blue"),
            (method, &[("color", "green")], "blue"),
            (method, &[("color", "orange")], "UNIMPLEMENTED"),
            (method, &[("color", "purple")], "UNIMPLEMENTED"),
            (method, &[], "UNIMPLEMENTED"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_rule_without_matches_takes_every_call() {
    call_table("everything.example", &[("/a.B/C", &[], "blue"), ("/d.E/F", &[("x", "y")], "blue")]).await;
    call_table("unknown.example", &[("/a.B/C", &[], "UNIMPLEMENTED")]).await;
}

#[tokio::test]
async fn metadata_is_set_added_and_removed() {
    let metadata = [("x-set", "before"), ("x-add", "before"), ("x-remove", "gone")];
    let reply = grpc::call(&web().await, "everything.example", "/a.B/C", &metadata).await.unwrap();
    assert_eq!(
        (reply.service.as_str(), reply.method.as_str(), reply.message.as_str()),
        ("a.B", "C", "hello")
    );
    let lines = |name: &str| {
        let all = reply.headers.iter().filter(|one| one.name == name).map(|one| one.value.as_str());
        all.collect::<Vec<_>>()
    };
    assert_eq!(lines("x-set"), ["set"]);
    // One list, in one line or two (RFC 9110 §5.3).
    assert_eq!(lines("x-add").join(","), "before,added");
    assert_eq!(lines("x-remove"), Vec::<&str>::new());
}

#[tokio::test]
async fn a_call_without_a_valid_backend_is_unavailable() {
    call_table("missing.example", &[("/a.B/Missing", &[], "UNAVAILABLE"), ("/a.B/None", &[], "UNAVAILABLE")])
        .await;
}

#[tokio::test]
async fn an_invalid_backend_keeps_its_share_of_calls() {
    let mut counts = BTreeMap::new();
    for _ in 0..60 {
        let outcome = grpc::call(&web().await, "missing.example", "/a.B/Shared", &[]).await;
        *counts.entry(grpc::short(&outcome)).or_insert(0) += 1;
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["UNAVAILABLE", "blue"], "{counts:?}");
}

#[tokio::test]
async fn calls_are_shared_out_by_weight() {
    const CALLS: i32 = 500;
    let target = web().await.http2();
    let mut open = target.connect().await.unwrap();
    let mut counts = BTreeMap::new();
    for _ in 0..CALLS {
        let ask = Ask::get("weights.example", "/a.B/C").method("POST");
        let ask = ask.headers(&[("content-type", "application/grpc"), ("te", "trailers")]).body(vec![0; 5]);
        let answer = open.ask(&ask).await.unwrap();
        assert_eq!(answer.trailers["grpc-status"], "0", "{answer}");
        let instance = ["blue", "green", "red"].into_iter().find(|name| {
            let text = String::from_utf8_lossy(&answer.body);
            text.contains(name)
        });
        *counts.entry(instance).or_insert(0) += 1;
    }
    // Five standard deviations of 500 draws.
    let blue: i32 = counts.get(&Some("blue")).copied().unwrap_or_default();
    assert!((blue - 350).abs() <= 51, "{counts:?}");
    assert_eq!(blue + counts.get(&Some("green")).copied().unwrap_or_default(), CALLS, "{counts:?}");
}

#[tokio::test]
async fn what_is_not_grpc_gets_no_grpc_answer() {
    // An ordinary request to a host that only a GRPCRoute serves.
    table(&web().await, [(Ask::get("everything.example", "/a.B/C"), "404")]).await;
}
