//! Which share of requests a backend gets, what happens when there is none, timeouts, retries, and protocols.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use portolan_e2e::rig::backends::refusing;
use portolan_e2e::rig::manifest::{http_gateway, join, route, service};
use portolan_e2e::rig::{Answer, Ask, Shared, Target, World, table, websocket};

static WORLD: Shared = Shared::new();

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let world = World::plan()
                .backends(&["blue", "green", "red"])
                .manifest("web.yaml", &http_gateway("web"))
                .manifest("shares.yaml", SHARES)
                .manifest("missing.yaml", MISSING)
                .manifest("times.yaml", TIMES)
                .manifest("protocols.yaml", PROTOCOLS)
                .manifest("empty.yaml", &service("empty", &[]))
                .prepare();
            let healthy = world.backends.address("blue");
            world.write("half.yaml", &service("half", &[refusing(), healthy]));
            world.write("refusing.yaml", &service("refusing", &[refusing()]));
            world.write(
                "pair.yaml",
                &service("pair", &["blue", "green"].map(|name| world.backends.address(name))),
            );
            world.run();
            world.settled().await;
            world
        })
        .await
}

async fn web() -> Target {
    world().await.http("web", 80).await
}

/// How often each backend, or status code, answered a number of requests.
async fn count(host: &str, path: &str, requests: u32) -> BTreeMap<String, u32> {
    let mut open = web().await.connect().await.unwrap();
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let answer = open.ask(&Ask::get(host, path)).await.unwrap();
        *counts.entry(answer.short()).or_default() += 1;
    }
    counts
}

/// 500 requests must be shared out as expected, within five in a hundred (as the suite asks), in one of three rounds.
async fn shared_out(host: &str, path: &str, expected: &[(&str, f64)]) {
    const REQUESTS: u32 = 500;
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let counts = count(host, path, REQUESTS).await;
        let near = |(name, share): &(&str, f64)| {
            let seen = f64::from(counts.get(*name).copied().unwrap_or_default()) / f64::from(REQUESTS);
            (seen - share).abs() <= 0.05
        };
        let known =
            counts.keys().all(|name| expected.iter().any(|(known, share)| known == name && *share > 0.0));
        assert!(known, "answers that nothing allows: {counts:?}, expected {expected:?}");
        if expected.iter().all(near) {
            return;
        }
        rounds.push(counts);
    }
    panic!("expected shares {expected:?}, seen in three rounds {rounds:?}");
}

const SHARES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shares}
spec:
  parentRefs: [{name: web}]
  hostnames: [shares.example]
  rules:
  - matches: [{path: {value: /weights}}]
    backendRefs: [{name: blue, port: 80, weight: 70}, {name: green, port: 80, weight: 30}, {name: red, port: 80, weight: 0}]
  - matches: [{path: {value: /default}}]
    backendRefs: [{name: blue, port: 80}, {name: green, port: 80, weight: 1}]
  - matches: [{path: {value: /large}}]
    backendRefs: [{name: blue, port: 80, weight: 1000000}, {name: green, port: 80, weight: 1000000}]
  - matches: [{path: {value: /invalid}}]
    backendRefs: [{name: blue, port: 80, weight: 60}, {name: nobody, port: 80, weight: 40}]
  - matches: [{path: {value: /empty}}]
    backendRefs: [{name: blue, port: 80, weight: 60}, {name: empty, port: 80, weight: 40}]
  - matches: [{path: {value: /zero}}]
    backendRefs: [{name: blue, port: 80, weight: 0}, {name: green, port: 80, weight: 0}]
  - matches: [{path: {value: /one-zero}}]
    backendRefs: [{name: blue, port: 80, weight: 0}]
  - matches: [{path: {value: /same}}]
    backendRefs: [{name: blue, port: 80, weight: 40}, {name: green, port: 80, weight: 20}, {name: blue, port: 80, weight: 40}]
  - matches: [{path: {value: /endpoints}}]
    backendRefs: [{name: pair, port: 80}]
";

#[tokio::test]
async fn weights_are_shares() {
    shared_out("shares.example", "/weights", &[("blue", 0.7), ("green", 0.3), ("red", 0.0)]).await;
}

#[tokio::test]
async fn a_weight_is_one_unless_it_is_given() {
    shared_out("shares.example", "/default", &[("blue", 0.5), ("green", 0.5)]).await;
}

#[tokio::test]
async fn the_largest_weights_can_be_added_up() {
    shared_out("shares.example", "/large", &[("blue", 0.5), ("green", 0.5)]).await;
}

#[tokio::test]
async fn an_invalid_backend_keeps_its_share_as_errors() {
    shared_out("shares.example", "/invalid", &[("blue", 0.6), ("500", 0.4)]).await;
}

#[tokio::test]
async fn a_backend_without_endpoints_keeps_its_share_as_errors() {
    shared_out("shares.example", "/empty", &[("blue", 0.6), ("503", 0.4)]).await;
}

#[tokio::test]
async fn one_backend_twice_gets_both_shares() {
    shared_out("shares.example", "/same", &[("blue", 0.8), ("green", 0.2)]).await;
}

#[tokio::test]
async fn no_share_at_all_is_an_error() {
    // HTTPBackendRef.weight: zero means no traffic; with nothing left the API asks for 500.
    let ask = |path| Ask::get("shares.example", path);
    table(&web().await, [(ask("/zero"), "500"), (ask("/one-zero"), "500")]).await;
}

#[tokio::test]
async fn all_endpoints_of_a_service_are_used() {
    let counts = count("shares.example", "/endpoints", 100).await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["blue", "green"], "{counts:?}");
}

const MISSING: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: missing}
spec:
  parentRefs: [{name: web}]
  hostnames: [missing.example]
  rules:
  - matches: [{path: {value: /service}}]
    backendRefs: [{name: nobody, port: 80}]
  - matches: [{path: {value: /port}}]
    backendRefs: [{name: blue, port: 9}]
  - matches: [{path: {value: /kind}}]
    backendRefs: [{group: example.org, kind: Thing, name: blue, port: 80}]
  - matches: [{path: {value: /elsewhere}}]
    backendRefs: [{name: there, namespace: other, port: 80}]
  - matches: [{path: {value: /omitted}}]
  - matches: [{path: {value: /none}}]
    backendRefs: []
  - matches: [{path: {value: /endpoints}}]
    backendRefs: [{name: empty, port: 80}]
  - matches: [{path: {value: /refused}}]
    backendRefs: [{name: refusing, port: 80}]
  - matches: [{path: {value: /fine}}]
    backendRefs: [{name: blue, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: there, namespace: other}
spec: {ports: [{port: 80}]}
";

#[tokio::test]
async fn what_cannot_be_resolved_is_500_and_what_has_no_endpoint_503() {
    let ask = |path| Ask::get("missing.example", path);
    table(
        &web().await,
        [
            (ask("/service"), "500"),
            (ask("/port"), "500"),
            (ask("/kind"), "500"),
            (ask("/elsewhere"), "500"),
            (ask("/omitted"), "500"),
            (ask("/none"), "500"),
            (ask("/endpoints"), "503"),
            (ask("/refused"), "503"),
            (ask("/fine"), "blue"),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_reference_that_cannot_be_resolved_is_named() {
    let status = world().await.status().await;
    let resolved = status.condition("HTTPRoute/default/missing", "ResolvedRefs").unwrap();
    assert_eq!(resolved.status, "False");
    for name in ["nobody", "9", "Thing", "there"] {
        assert!(resolved.message.contains(name), "{name} is not in {:?}", resolved.message);
    }
    let accepted = status.condition("HTTPRoute/default/missing", "Accepted").unwrap();
    assert!(accepted.is_true(), "{accepted:?}");
}

#[tokio::test]
async fn a_grant_lets_a_reference_cross_namespaces_until_it_is_taken_away() {
    let world = world().await;
    let green = world.backends.address("green");
    let far = service("far", &[green])
        .replace("metadata: {name: far", "metadata: {namespace: elsewhere, name: far");
    world.write("far.yaml", &far);
    let rule = "{backendRefs: [{name: far, namespace: elsewhere, port: 80}]}";
    world.edit("granted.yaml", &route("granted", "granted.example", rule)).await;
    let ask = || Ask::get("granted.example", "/");
    table(&web().await, [(ask(), "500")]).await;
    let grant = "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: far, namespace: elsewhere}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: '', kind: Service, name: far}]
";
    let resolved = |reason: &'static str| {
        move |status: &portolan_e2e::rig::Status| {
            let key = "HTTPRoute/default/granted";
            status.condition(key, "ResolvedRefs").is_some_and(|one| one.reason == reason)
                && status.programmed(key)
        }
    };
    world.write("grant.yaml", grant);
    world.until("the grant counts", resolved("ResolvedRefs")).await;
    table(&web().await, [(ask(), "green")]).await;
    world.remove("grant.yaml");
    world.until("the grant is gone", resolved("RefNotPermitted")).await;
    table(&web().await, [(ask(), "500")]).await;
}

const TIMES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: timeouts}
spec:
  parentRefs: [{name: web}]
  hostnames: [timeouts.example]
  rules:
  - matches: [{path: {value: /request}}]
    timeouts: {request: 300ms}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /backend}}]
    timeouts: {backendRequest: 300ms}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /both}}]
    timeouts: {request: 5s, backendRequest: 300ms}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /never}}]
    timeouts: {request: 0s, backendRequest: 0s}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /unset}}]
    backendRefs: [{name: blue, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: retries}
spec:
  parentRefs: [{name: web}]
  hostnames: [retries.example]
  rules:
  - matches: [{path: {value: /500-three-times}}]
    retry: {codes: [500], attempts: 3, backoff: 5ms}
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {value: /all-twice}}]
    retry: {codes: [500, 502, 503, 504], attempts: 2, backoff: 5ms}
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {value: /default}}]
    retry: {codes: [503], backoff: 5ms}
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {value: /no-attempt}}]
    retry: {codes: [500, 502, 503, 504], attempts: 0}
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {value: /unset}}]
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {value: /connection}}]
    retry: {attempts: 100}
    backendRefs: [{name: half, port: 80}]
  - matches: [{path: {value: /refused}}]
    retry: {attempts: 3, backoff: 5ms}
    backendRefs: [{name: refusing, port: 80}]
  - matches: [{path: {value: /slow-tries}}]
    timeouts: {request: 10s, backendRequest: 300ms}
    retry: {codes: [503, 504], attempts: 2, backoff: 5ms}
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {value: /whole}}]
    timeouts: {request: 400ms}
    retry: {codes: [503], attempts: 50, backoff: 100ms}
    backendRefs: [{name: red, port: 80}]
";

async fn timed(path: &str) -> Answer {
    web().await.ask(&Ask::get("timeouts.example", path)).await
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_504() {
    for path in ["/request", "/backend", "/both"] {
        let late = timed(&format!("{path}?delay=3s")).await;
        assert_eq!(late.status, 504, "{path}: {late}");
        assert!(late.took < Duration::from_secs(3), "{path} took {:?}", late.took);
        assert_eq!(timed(path).await.short(), "blue", "{path}");
    }
}

#[tokio::test]
async fn a_timeout_of_zero_is_none() {
    assert_eq!(timed("/never?delay=1500ms").await.short(), "blue");
}

#[tokio::test]
async fn there_is_no_timeout_unless_one_is_set() {
    assert_eq!(timed("/unset?delay=1500ms").await.short(), "blue");
}

/// A request whose first tries fail with a code; how often the backend is asked shows how often it was tried.
async fn tried(path: &str, failures: u32, code: u16) -> (String, u64) {
    let world = world().await;
    let id = format!("{path}-{failures}-{code}");
    // A path of its own, so that its tries can be counted.
    let path = format!("{path}/{failures}/{code}/x");
    let ask = Ask::get("retries.example", &format!("{path}?fail={failures}&code={code}&id={id}"));
    let answer = web().await.ask(&ask).await;
    (answer.short(), world.backends.get("red").counts().get(&path).copied().unwrap_or_default())
}

#[tokio::test]
async fn listed_codes_are_tried_again_as_often_as_allowed() {
    let rows = [
        ("/500-three-times", 2, 500, ("red", 3)),
        ("/500-three-times", 3, 500, ("red", 4)),
        ("/500-three-times", 4, 500, ("500", 4)),
        ("/500-three-times", 1, 503, ("503", 1)),
        ("/all-twice", 1, 500, ("red", 2)),
        ("/all-twice", 1, 502, ("red", 2)),
        ("/all-twice", 2, 503, ("red", 3)),
        ("/all-twice", 3, 504, ("504", 3)),
        ("/all-twice", 3, 502, ("502", 3)),
        ("/all-twice", 1, 501, ("501", 1)),
    ];
    let mut wrong = Vec::new();
    for (path, failures, code, (answer, tries)) in rows {
        let seen = tried(path, failures, code).await;
        if (seen.0.as_str(), seen.1) != (answer, tries) {
            wrong.push(format!(
                "{path} {failures} × {code}: expected {answer} after {tries} tries, seen {seen:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn one_more_try_is_the_default() {
    assert_eq!(tried("/default", 1, 503).await, ("red".to_owned(), 2));
    assert_eq!(tried("/default", 2, 503).await, ("503".to_owned(), 2));
}

#[tokio::test]
async fn no_attempts_or_no_retry_is_one_try() {
    for path in ["/no-attempt", "/unset"] {
        assert_eq!(tried(path, 1, 503).await, ("503".to_owned(), 1), "{path}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere() {
    // HTTPRouteRetry without codes: errors of the connection alone. One of two endpoints refuses.
    let target = web().await;
    for _ in 0..20 {
        assert_eq!(target.ask(&Ask::get("retries.example", "/connection")).await.short(), "blue");
    }
    assert_eq!(target.ask(&Ask::get("retries.example", "/refused")).await.status, 503);
}

#[tokio::test]
async fn each_try_has_its_own_time() {
    let world = world().await;
    let late = web().await.ask(&Ask::get("retries.example", "/slow-tries/x?delay=5s")).await;
    assert_eq!((late.status, world.backends.get("red").counts()["/slow-tries/x"]), (504, 3), "{late}");
    assert!(late.took < Duration::from_secs(5), "took {:?}", late.took);
}

#[tokio::test]
async fn all_tries_together_have_the_time_of_the_request() {
    let late = web().await.ask(&Ask::get("retries.example", "/whole/status/503")).await;
    assert!(late.took < Duration::from_secs(3), "took {:?}", late.took);
    // Between two tries there is no answer yet; after the last one it would be its code.
    assert!([503, 504].contains(&late.status), "{late}");
}

const PROTOCOLS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: protocols}
spec:
  parentRefs: [{name: web}]
  hostnames: [protocols.example]
  rules:
  - matches: [{path: {value: /plain}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /h2c}}]
    backendRefs: [{name: blue, port: 81}]
  - matches: [{path: {value: /ws}}]
    backendRefs: [{name: blue, port: 82}]
";

#[tokio::test]
async fn the_protocol_to_the_backend_is_the_one_its_port_names() {
    let ask = |path: &str| Ask::get("protocols.example", path).method("POST").body("12345");
    for client in [web().await, web().await.http2()] {
        for (path, proto) in [("/plain", "HTTP/1.1"), ("/h2c", "HTTP/2.0"), ("/ws", "HTTP/1.1")] {
            let echoed = client.ask(&ask(path)).await.echoed();
            assert_eq!((echoed.proto.as_str(), echoed.body_bytes), (proto, 5), "{path} by {client:?}");
        }
    }
}

#[tokio::test]
async fn websockets_reach_backends_that_speak_http1() {
    let address = web().await.address();
    for path in ["/ws", "/plain"] {
        let mut socket = websocket::open(address, "protocols.example", path).await.unwrap();
        assert_eq!(socket.exchange("hello").await, "hello");
        assert_eq!(socket.exchange("again").await, "again");
        let request = socket.exchange("?request").await;
        assert!(request.contains(&format!("\"path\":\"{path}\"")), "{request}");
    }
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let body = vec![b'x'; 3 << 20];
    for client in [web().await, web().await.http2()] {
        for path in ["/plain/echo-body", "/h2c/echo-body"] {
            let ask = Ask::get("protocols.example", path).method("POST").body(body.clone());
            let answer = client.ask(&ask).await;
            assert_eq!((answer.status, answer.body.len()), (200, body.len()), "{path} by {client:?}");
        }
    }
}

#[tokio::test]
async fn a_service_without_named_ports_is_found_by_number() {
    let world = world().await;
    let port = world.backends.address("green").port();
    let documents = [
        "
apiVersion: v1
kind: Service
metadata: {name: unnamed}
spec: {ports: [{port: 7000}]}
"
        .to_owned(),
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: unnamed-1, labels: {{kubernetes.io/service-name: unnamed}}}}
addressType: IPv4
ports: [{{port: {port}}}]
endpoints:
- {{addresses: [127.0.0.1]}}
# Nothing listens there: an endpoint that is not ready gets nothing.
- {{addresses: [127.0.0.9], conditions: {{ready: false}}}}
"
        ),
        route("unnamed", "unnamed.example", "{backendRefs: [{name: unnamed, port: 7000}]}"),
    ];
    world.edit("unnamed.yaml", &join(documents)).await;
    let counts = count("unnamed.example", "/", 20).await;
    assert_eq!(counts, BTreeMap::from([("green".to_owned(), 20)]));
}
