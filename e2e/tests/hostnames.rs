//! Which listener and which route a request belongs to by its host: isolation, intersections, precedence of hostnames.
//!
//! Expected is what the API says (Listener.hostname, HTTPRouteSpec.hostnames, ParentReference), on the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use portolan_e2e::rig::manifest::{gateway, join};
use portolan_e2e::rig::{Ask, Shared, World, table};
use serde_json::json;

static WORLD: Shared = Shared::new();

async fn world() -> &'static World {
    WORLD
        .get(async || {
            World::plan()
                .backends(&["blue", "green", "red"])
                .manifest("isolated.yaml", &isolated())
                .manifest("intersection.yaml", INTERSECTION)
                .manifest("original.yaml", ORIGINAL_HOSTNAMES)
                .manifest("sections.yaml", SECTIONS)
                .start()
                .await
        })
        .await
}

/// Four listeners on one port, each with a route for its own path, twice: once with the hostnames only in the listeners, once
/// also in the routes.
fn isolated() -> String {
    let listeners = [
        ("any", None),
        ("example", Some("*.example.com")),
        ("foo", Some("*.foo.example.com")),
        ("abc", Some("abc.foo.example.com")),
    ];
    let mut documents = Vec::new();
    for (gateway_name, in_routes) in [("isolated", false), ("isolated-both", true)] {
        let specs: Vec<String> = listeners
            .iter()
            .map(|(name, hostname)| {
                let hostname = hostname.map(|text| format!(", hostname: '{text}'")).unwrap_or_default();
                format!("{{name: {name}, port: 80, protocol: HTTP{hostname}}}")
            })
            .collect();
        documents.push(gateway(gateway_name, &specs.join(", ")));
        for (name, hostname) in listeners {
            let hostnames = match hostname {
                // The suite's own routes: each names all hostnames, and gets those of its listener.
                _ if in_routes => {
                    "hostnames: [bar.com, '*.example.com', '*.foo.example.com', abc.foo.example.com]"
                }
                _ => "",
            };
            documents.push(format!(
                "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {gateway_name}-{name}}}
spec:
  parentRefs: [{{name: {gateway_name}, sectionName: {name}}}]
  {hostnames}
  rules:
  - matches: [{{path: {{value: /{name}}}}}]
    backendRefs: [{{name: blue, port: 80}}]
"
            ));
        }
    }
    join(documents)
}

#[tokio::test]
async fn a_request_belongs_to_the_most_specific_listener_alone() {
    let world = world().await;
    let hosts = [
        ("bar.com", "any"),
        ("bar.example.com", "example"),
        ("bar.foo.example.com", "foo"),
        ("abc.foo.example.com", "abc"),
    ];
    for gateway in ["isolated", "isolated-both"] {
        let target = world.http(gateway, 80).await;
        let rows = hosts.iter().flat_map(|(host, own)| {
            ["any", "example", "foo", "abc"].map(|listener| {
                let expected = if listener == *own { "blue" } else { "404" };
                (Ask::get(host, &format!("/{listener}")), expected)
            })
        });
        table(&target, rows).await;
    }
}

const INTERSECTION: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: intersection}
spec:
  gatewayClassName: portolan
  listeners:
  - {name: specific, port: 80, protocol: HTTP, hostname: very.specific.com}
  - {name: wildcard, port: 80, protocol: HTTP, hostname: '*.wildcard.io'}
  - {name: another, port: 80, protocol: HTTP, hostname: '*.anotherwildcard.io'}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: specific-in-specific}
spec:
  parentRefs: [{name: intersection}]
  hostnames: [non.matching.com, '*.nonmatchingwildcard.io', very.specific.com]
  rules: [{matches: [{path: {value: /s1}}], backendRefs: [{name: blue, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: specific-in-wildcard}
spec:
  parentRefs: [{name: intersection}]
  hostnames: [non.matching.com, wildcard.io, foo.wildcard.io, foo.bar.wildcard.io]
  rules: [{matches: [{path: {value: /s2}}], backendRefs: [{name: green, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: wildcard-in-specific}
spec:
  parentRefs: [{name: intersection}]
  hostnames: [non.matching.com, '*.specific.com']
  rules: [{matches: [{path: {value: /s3}}], backendRefs: [{name: red, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: wildcard-in-wildcard}
spec:
  parentRefs: [{name: intersection}]
  hostnames: ['*.anotherwildcard.io']
  rules: [{matches: [{path: {value: /s4}}], backendRefs: [{name: blue, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: no-intersection}
spec:
  parentRefs: [{name: intersection}]
  hostnames: [specific.but.wrong.com, wildcard.io]
  rules: [{matches: [{path: {value: /s5}}], backendRefs: [{name: green, port: 80}]}]
";

#[tokio::test]
async fn a_route_serves_the_intersection_of_its_hostnames_and_the_listeners() {
    let target = world().await.http("intersection", 80).await;
    let rows = [
        ("very.specific.com", "/s1", "blue"),
        // The port in a Host header is not compared (HTTPRouteSpec.hostnames).
        ("very.specific.com:1234", "/s1", "blue"),
        ("non.matching.com", "/s1", "404"),
        ("foo.nonmatchingwildcard.io", "/s1", "404"),
        ("foo.wildcard.io", "/s1", "404"),
        ("very.specific.com", "/other", "404"),
        ("foo.wildcard.io", "/s2", "green"),
        ("foo.bar.wildcard.io", "/s2", "green"),
        ("bar.wildcard.io", "/s2", "404"),
        ("wildcard.io", "/s2", "404"),
        ("very.specific.com", "/s2", "404"),
        ("very.specific.com", "/s3", "red"),
        ("foo.specific.com", "/s3", "404"),
        ("foo.anotherwildcard.io", "/s4", "blue"),
        // A wildcard stands for any number of labels, and for at least one.
        ("foo.bar.anotherwildcard.io", "/s4", "blue"),
        ("anotherwildcard.io", "/s4", "404"),
        ("specific.but.wrong.com", "/s5", "404"),
        ("wildcard.io", "/s5", "404"),
    ];
    table(&target, rows.map(|(host, path, expected)| (Ask::get(host, path), expected))).await;
}

#[tokio::test]
async fn only_accepted_routes_count_as_attached() {
    let status = world().await.status().await;
    let attached =
        |listener| status.listener("default/intersection", listener).unwrap()["attachedRoutes"].clone();
    assert_eq!(
        [attached("specific"), attached("wildcard"), attached("another")],
        [json!(2), json!(1), json!(1)]
    );
    let refused = status.condition("HTTPRoute/default/no-intersection", "Accepted").unwrap();
    assert!(refused.is_false("NoMatchingListenerHostname"), "{refused:?}");
    let resolved = status.condition("HTTPRoute/default/no-intersection", "ResolvedRefs").unwrap();
    assert!(resolved.is_true(), "references are judged all the same: {resolved:?}");
}

/// Routes that meet in one hostname of a listener, with other hostnames of their own (GatewayRouteHostnameIntersectionPrecedence).
const ORIGINAL_HOSTNAMES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: original}
spec:
  gatewayClassName: portolan
  listeners:
  - {name: exact, port: 80, protocol: HTTP, hostname: abc.example.com}
  - {name: wild, port: 8080, protocol: HTTP, hostname: '*.example.com'}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: older-wildcard, creationTimestamp: '2025-01-01T00:00:00Z'}
spec:
  parentRefs: [{name: original, sectionName: exact}]
  hostnames: ['*.example.com']
  rules:
  - matches: [{path: {value: /path/prefix}, headers: [{name: b, value: '1'}]}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {type: Exact, value: /only/here}}]
    backendRefs: [{name: blue, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: newer-exact, creationTimestamp: '2025-02-01T00:00:00Z'}
spec:
  parentRefs: [{name: original, sectionName: exact}]
  hostnames: [abc.example.com]
  rules:
  - matches: [{path: {value: /path}, headers: [{name: a, value: '1'}]}]
    backendRefs: [{name: green, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: older-short, creationTimestamp: '2025-01-01T00:00:00Z'}
spec:
  parentRefs: [{name: original, sectionName: wild}]
  hostnames: ['*.com']
  rules:
  - matches: [{path: {value: /path/prefix}, headers: [{name: b, value: '1'}]}]
    backendRefs: [{name: blue, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: newer-long, creationTimestamp: '2025-02-01T00:00:00Z'}
spec:
  parentRefs: [{name: original, sectionName: wild}]
  hostnames: ['*.example.com']
  rules:
  - matches: [{path: {value: /path}, headers: [{name: a, value: '1'}]}]
    backendRefs: [{name: green, port: 80}]
";

#[tokio::test]
async fn the_hostname_that_a_route_names_decides_not_the_intersection() {
    let world = world().await;
    for port in [80, 8080] {
        let target = world.http("original", port).await;
        let ask = |path: &str, headers: &[(&str, &str)]| Ask::get("abc.example.com", path).headers(headers);
        table(
            &target,
            [
                // Shorter prefix and newer, but the more specific hostname.
                (ask("/path/prefix/x", &[("a", "1"), ("b", "1")]), "green"),
                (ask("/path/prefix/x", &[("a", "1")]), "green"),
                // What it does not match goes on to the less specific route.
                (ask("/path/prefix/x", &[("b", "1")]), "blue"),
                (ask("/path/prefix/x", &[]), "404"),
                (ask("/path", &[("b", "1")]), "404"),
            ],
        )
        .await;
    }
    let exact = world.http("original", 80).await;
    table(&exact, [(Ask::get("abc.example.com", "/only/here"), "blue")]).await;
}

const SECTIONS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: sections}
spec:
  gatewayClassName: portolan
  listeners:
  - {name: one, port: 80, protocol: HTTP}
  - {name: two, port: 8080, protocol: HTTP}
  - {name: three, port: 8090, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: by-section}
spec:
  parentRefs: [{name: sections, sectionName: one}]
  rules: [{backendRefs: [{name: blue, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: by-port}
spec:
  parentRefs: [{name: sections, port: 8080}]
  rules: [{backendRefs: [{name: green, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: by-both}
spec:
  parentRefs: [{name: sections, port: 8090, sectionName: three}]
  rules: [{backendRefs: [{name: red, port: 80}]}]
";

#[tokio::test]
async fn a_parent_reference_may_name_a_listener_or_a_port() {
    let world = world().await;
    for (port, expected) in [(80, "blue"), (8080, "green"), (8090, "red")] {
        let target = world.http("sections", port).await;
        table(&target, [(Ask::get("any.example", "/"), expected)]).await;
    }
}
