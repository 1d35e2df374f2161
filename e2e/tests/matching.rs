//! Which backend a request reaches: every match of HTTPRoute, their precedence, and hostnames of listeners and routes.
//!
//! Expected is what the API says (HTTPRouteMatch, HTTPRouteRule.matches, GEP-3567 for precedence of hostnames), on the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use portolan_e2e::rig::manifest::{gateway, http_gateway, join, route};
use portolan_e2e::rig::{Ask, Shared, World, table};
use serde_json::json;

static WORLD: Shared = Shared::new();

async fn world() -> &'static World {
    WORLD
        .get(async || {
            World::plan()
                .backends(&["blue", "green", "red"])
                .manifest("web.yaml", &http_gateway("web"))
                .manifest("paths.yaml", PATHS)
                .manifest("values.yaml", VALUES)
                .manifest("precedence.yaml", PRECEDENCE)
                .manifest("ties.yaml", TIES)
                .manifest("isolated.yaml", &isolated())
                .manifest("intersection.yaml", INTERSECTION)
                .manifest("original.yaml", ORIGINAL_HOSTNAMES)
                .manifest("sections.yaml", SECTIONS)
                .start()
                .await
        })
        .await
}

/// Asks the port 80 of Gateway `web` on one host.
async fn ask_web(host: &str, rows: &[(&str, &str)]) {
    let target = world().await.http("web", 80).await;
    table(&target, rows.iter().map(|(path, expected)| (Ask::get(host, path), *expected))).await;
}

const PATHS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: paths}
spec:
  parentRefs: [{name: web}]
  hostnames: [paths.example]
  rules:
  - matches: [{path: {type: Exact, value: /exact}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /abc}}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /slash/}}]
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {type: RegularExpression, value: '/id/[0-9]+(/a|/b)?'}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /kept}}, {path: {type: Exact, value: /also}}]
    backendRefs: [{name: red, port: 80}]
";

#[tokio::test]
async fn an_exact_path_is_compared_letter_by_letter() {
    ask_web(
        "paths.example",
        &[
            ("/exact", "blue"),
            ("/exact?a=b", "blue"),
            ("/exact/", "404"),
            ("/exact/more", "404"),
            ("/Exact", "404"),
            ("/exac", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_prefix_is_compared_by_path_element() {
    ask_web(
        "paths.example",
        &[
            ("/abc", "green"),
            ("/abc/", "green"),
            ("/abc/d", "green"),
            ("/abc?d", "green"),
            ("/abc/d/e?f=g", "green"),
            ("/abcd", "404"),
            ("/ABC", "404"),
            ("/x/abc", "404"),
            // HTTPPathMatch.type: a trailing slash of the prefix is ignored.
            ("/slash", "red"),
            ("/slash/", "red"),
            ("/slash/x", "red"),
            ("/slashes", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_expression_matches_the_whole_path() {
    ask_web(
        "paths.example",
        &[
            ("/id/7", "blue"),
            ("/id/12/b", "blue"),
            ("/id/12?x=/y", "blue"),
            ("/id/x", "404"),
            ("/id/7/c", "404"),
            ("/x/id/7", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn any_match_of_a_rule_is_enough() {
    ask_web("paths.example", &[("/kept/x", "red"), ("/also", "red"), ("/also/x", "404"), ("/", "404")]).await;
}

#[tokio::test]
async fn paths_are_normalised_before_they_are_compared() {
    ask_web(
        "paths.example",
        &[
            ("/x/../exact", "blue"),
            ("/./exact", "blue"),
            ("//exact", "blue"),
            ("/abc//d", "green"),
            ("/abc/../etc", "404"),
            // An escaped slash is a letter of its element, not a slash.
            ("/abc%2Fd", "404"),
        ],
    )
    .await;
}

const VALUES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: headers}
spec:
  parentRefs: [{name: web}]
  hostnames: [headers.example]
  rules:
  - matches: [{headers: [{name: version, value: one}]}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{headers: [{name: version, value: two}]}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{headers: [{name: version, value: two}, {name: COLOR, value: orange}]}]
    backendRefs: [{name: red, port: 80}]
  - matches: [{headers: [{type: RegularExpression, name: agent, value: 'curl/[78]\\..*'}]}]
    backendRefs: [{name: green, port: 80}]
  # Only the first entry of a name counts (HTTPRouteMatch.headers).
  - matches: [{headers: [{name: twice, value: first}, {name: Twice, value: second}]}]
    backendRefs: [{name: red, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: query}
spec:
  parentRefs: [{name: web}]
  hostnames: [query.example]
  rules:
  - matches: [{queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{queryParams: [{name: animal, value: dolphin}]}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}, {queryParams: [{name: ANIMAL, value: Whale}]}]
    backendRefs: [{name: red, port: 80}]
  - matches: [{queryParams: [{type: RegularExpression, name: page, value: '[0-9]+'}]}]
    backendRefs: [{name: green, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: methods}
spec:
  parentRefs: [{name: web}]
  hostnames: [methods.example]
  rules:
  - matches: [{method: POST}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{method: GET}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{path: {value: /all}, method: PUT, headers: [{name: version, value: one}], queryParams: [{name: a, value: b}]}]
    backendRefs: [{name: red, port: 80}]
";

#[tokio::test]
async fn headers_are_compared_by_name_without_case_and_value_with_it() {
    let target = world().await.http("web", 80).await;
    let ask = |headers: &[(&str, &str)]| Ask::get("headers.example", "/").headers(headers);
    table(
        &target,
        [
            (ask(&[("VERSION", "one")]), "blue"),
            (ask(&[("Version", "two")]), "green"),
            (ask(&[("version", "One")]), "404"),
            (ask(&[("version", "one-more")]), "404"),
            (ask(&[("version", "two"), ("color", "orange")]), "red"),
            (ask(&[("version", "two"), ("color", "blue")]), "green"),
            (ask(&[("color", "orange")]), "404"),
            (ask(&[("agent", "curl/8.1")]), "green"),
            (ask(&[("agent", "curl/6.1")]), "404"),
            (ask(&[("agent", "my curl/8.1")]), "404"),
            (ask(&[("twice", "first")]), "red"),
            (ask(&[("twice", "second")]), "404"),
            (ask(&[]), "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn query_parameters_are_compared_with_case() {
    ask_web(
        "query.example",
        &[
            ("/?animal=whale", "blue"),
            ("/?animal=dolphin", "green"),
            ("/?animal=dolphin&color=blue", "red"),
            ("/?color=blue&animal=dolphin", "red"),
            ("/?ANIMAL=Whale", "red"),
            ("/?animal=whale&other=x", "blue"),
            ("/?animal=dolphin&color=yellow", "green"),
            ("/?color=blue", "404"),
            ("/?animal=dog", "404"),
            ("/?animal=whaledolphin", "404"),
            ("/?page=42", "green"),
            ("/?page=x42", "404"),
            ("/", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn methods_match_and_all_conditions_of_a_match_count() {
    let target = world().await.http("web", 80).await;
    let ask = |method: &str, path: &str| Ask::get("methods.example", path).method(method);
    table(
        &target,
        [
            (ask("POST", "/"), "blue"),
            (ask("GET", "/"), "green"),
            (ask("DELETE", "/"), "404"),
            (ask("PUT", "/all?a=b").header("version", "one"), "red"),
            (ask("PUT", "/all?a=c").header("version", "one"), "404"),
            (ask("PUT", "/all?a=b").header("version", "two"), "404"),
            (ask("PUT", "/other?a=b").header("version", "one"), "404"),
            (ask("PATCH", "/all?a=b").header("version", "one"), "404"),
        ],
    )
    .await;
}

const PRECEDENCE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: order}
spec:
  parentRefs: [{name: web}]
  hostnames: [order.example]
  rules:
  - matches: [{path: {value: /}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /a}}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{path: {value: /a/long/prefix}}]
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {type: Exact, value: /a/long/prefix}}]
    backendRefs: [{name: blue, port: 80}]
  # A longer path is worth more than a method, a method more than headers, headers more than query parameters.
  - matches: [{path: {value: /p}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{method: PATCH}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{path: {value: /p}, queryParams: [{name: a, value: '1'}, {name: b, value: '2'}]}]
    backendRefs: [{name: green, port: 80}]
  - matches: [{path: {value: /p}, headers: [{name: x, value: '1'}]}]
    backendRefs: [{name: red, port: 80}]
  - matches: [{path: {value: /p}, method: PUT}]
    backendRefs: [{name: green, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: across-a}
spec:
  parentRefs: [{name: web}]
  hostnames: [across.example, other-across.example]
  rules:
  - matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}]
    backendRefs: [{name: blue, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: across-b}
spec:
  parentRefs: [{name: web}]
  hostnames: [across.example]
  rules:
  - matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: green, port: 80}]
";

#[tokio::test]
async fn exact_paths_come_first_then_longer_prefixes() {
    ask_web(
        "order.example",
        &[
            ("/", "blue"),
            ("/b", "blue"),
            ("/a/b", "green"),
            ("/a/long/prefix/b", "red"),
            ("/a/long/prefix", "blue"),
        ],
    )
    .await;
}

#[tokio::test]
async fn then_methods_then_headers_then_query_parameters() {
    let target = world().await.http("web", 80).await;
    let ask = |method: &str, path: &str| Ask::get("order.example", path).method(method);
    table(
        &target,
        [
            (ask("PATCH", "/"), "green"),
            (ask("PATCH", "/p"), "blue"),
            (ask("GET", "/p?a=1&b=2"), "green"),
            (ask("GET", "/p?a=1&b=2").header("x", "1"), "red"),
            (ask("PUT", "/p?a=1&b=2").header("x", "1"), "green"),
            (ask("PUT", "/p"), "green"),
            (ask("GET", "/p").header("x", "1"), "red"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_same_order_holds_across_routes() {
    let target = world().await.http("web", 80).await;
    table(
        &target,
        [
            (Ask::get("across.example", "/"), "blue"),
            (Ask::get("across.example", "/v2/x"), "green"),
            (Ask::get("across.example", "/v2x"), "blue"),
            (Ask::get("across.example", "/x").header("version", "two"), "green"),
            (Ask::get("across.example", "/x").header("version", "one"), "blue"),
            (Ask::get("other-across.example", "/v2/x"), "blue"),
        ],
    )
    .await;
}

/// Each hostname is claimed twice with the same match.
const TIES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a-newer, creationTimestamp: '2025-02-01T00:00:00Z'}
spec:
  parentRefs: [{name: web}]
  hostnames: [age.example]
  rules: [{backendRefs: [{name: green, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: b-older, creationTimestamp: '2025-01-01T00:00:00Z'}
spec:
  parentRefs: [{name: web}]
  hostnames: [age.example]
  rules: [{backendRefs: [{name: blue, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: name-b}
spec:
  parentRefs: [{name: web}]
  hostnames: [name.example]
  rules: [{backendRefs: [{name: green, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: name-a}
spec:
  parentRefs: [{name: web}]
  hostnames: [name.example]
  rules: [{backendRefs: [{name: blue, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: rule-order}
spec:
  parentRefs: [{name: web}]
  hostnames: [rule-order.example]
  rules:
  - matches: [{path: {value: /first}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /first}}]
    backendRefs: [{name: green, port: 80}]
  # The first rule wins even if its backend does not exist (HTTPRouteRuleOrder).
  - matches: [{path: {value: /invalid}}]
    backendRefs: [{name: nobody, port: 80}]
  - matches: [{path: {value: /invalid}}]
    backendRefs: [{name: green, port: 80}]
";

#[tokio::test]
async fn the_oldest_route_wins_a_tie() {
    ask_web("age.example", &[("/", "blue")]).await;
}

#[tokio::test]
async fn the_name_decides_between_routes_of_one_age() {
    ask_web("name.example", &[("/", "blue")]).await;
}

#[tokio::test]
async fn the_first_rule_wins_a_tie_even_without_a_backend() {
    ask_web("rule-order.example", &[("/first", "blue"), ("/invalid", "500")]).await;
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

#[tokio::test]
async fn http2_with_prior_knowledge_is_routed_the_same() {
    let target = world().await.http("web", 80).await.http2();
    table(
        &target,
        [
            (Ask::get("paths.example", "/exact"), "blue"),
            (Ask::get("paths.example", "/abc/d?x"), "green"),
            (Ask::get("paths.example", "/nothing"), "404"),
            (Ask::get("unknown.example", "/exact"), "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_route_without_matches_takes_every_request_of_its_host() {
    // Not part of the shared world's manifests at first: the rest of a world does not notice a new route.
    let world = world().await;
    world
        .edit(
            "everything.yaml",
            &route("everything", "everything.example", "{backendRefs: [{name: red, port: 80}]}"),
        )
        .await;
    ask_web("everything.example", &[("/", "red"), ("/a/b?c", "red"), ("/%2F", "red")]).await;
}
