//! Which backend a request reaches: every match of HTTPRoute, and their precedence.
//!
//! Expected is what the API says (HTTPRouteMatch, HTTPRouteRule.matches), on the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use portolan_e2e::rig::manifest::{http_gateway, route};
use portolan_e2e::rig::{Ask, Shared, World, table};

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
  - matches: [{headers: [{type: RegularExpression, name: client, value: 'curl/[78]\\..*'}]}]
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
            (ask(&[("client", "curl/8.1")]), "green"),
            (ask(&[("client", "curl/6.1")]), "404"),
            (ask(&[("client", "my curl/8.1")]), "404"),
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
