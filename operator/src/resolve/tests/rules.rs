//! Rules: matches, precedence, filters, and what is dropped.

use portolan_xds::ir::{self, Target};

use super::*;

#[test]
fn a_route_becomes_a_virtual_host_with_a_cluster_and_its_ready_endpoints() {
    let rig = Rig::with(&http_route(
        "a",
        "  hostnames: [a.example.com]\n  rules: [{matches: [{path: {type: Exact, value: /x}}], backendRefs: [{name: blue, port: 80}]}]",
    ));
    let host = rig.web().host("default/web/80", "a.example.com").unwrap();
    assert_eq!(host.routes.len(), 1);
    assert_eq!(host.routes[0].matches.path, ir::PathMatch::Exact("/x".into()));
    assert!(rig.web().clusters.contains_key("default/blue/80"));
    let endpoints = &rig.web().endpoints["default/blue/80"].endpoints;
    assert_eq!(endpoints.iter().map(|one| one.address.to_string()).collect::<Vec<_>>(), ["10.0.0.1:8080"]);
    assert_eq!(rig.web().listeners.len(), 1);
    is(rig.route("a", "Accepted"), "True", "Accepted");
    is(rig.route("a", "ResolvedRefs"), "True", "ResolvedRefs");
    assert_eq!(rig.report(Kind::Gateway, "web")["listeners"][0]["attachedRoutes"], 1);
}

#[test]
fn precedence_is_exact_then_longest_prefix_then_method_headers_query() {
    let rig = Rig::with(&http_route(
        "a",
        "  rules:
  - matches:
    - {path: {type: PathPrefix, value: /}}
    - {path: {type: PathPrefix, value: /abc/}}
    - {path: {type: Exact, value: /a}}
    - {path: {type: PathPrefix, value: /}, queryParams: [{name: q, value: v}]}
    - {path: {type: PathPrefix, value: /}, headers: [{name: X, value: v}]}
    - {path: {type: PathPrefix, value: /}, method: GET}
    backendRefs: [{name: blue, port: 80}]",
    ));
    let routes = &rig.web().host("default/web/80", "*").unwrap().routes;
    let order: Vec<usize> = routes.iter().map(|route| route.rank.matching).collect();
    assert_eq!(order, [2, 1, 5, 4, 3, 0]);
    assert_eq!(
        routes[1].matches.path,
        ir::PathMatch::Prefix("/abc".into()),
        "a trailing slash is no part of a prefix"
    );
}

#[test]
fn the_more_specific_hostname_as_written_comes_first_in_a_shared_host() {
    let mut rig = Rig::with("");
    rig.apply(
        "kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners: [{name: http, port: 80, protocol: HTTP, hostname: abc.example.com}]",
    );
    rig.apply(&http_route(
        "older",
        "  hostnames: ['*.example.com']\n  rules: [{backendRefs: [{name: blue, port: 80}]}]",
    ));
    rig.apply(&http_route(
        "exact",
        "  hostnames: ['abc.example.com']\n  rules: [{backendRefs: [{name: blue, port: 80}]}]",
    ));
    let routes = &rig.web().host("default/web/80", "abc.example.com").unwrap().routes;
    let order: Vec<&str> = routes.iter().map(|route| route.origin.as_str()).collect();
    assert_eq!(order, ["HTTPRoute/default/exact", "HTTPRoute/default/older"]);
}

#[test]
fn one_bad_rule_is_dropped_and_the_others_stay() {
    let rig = Rig::with(&http_route(
        "a",
        "  rules:
  - {matches: [{path: {type: RegularExpression, value: '('}}], backendRefs: [{name: blue, port: 80}]}
  - {backendRefs: [{name: blue, port: 80}]}",
    ));
    let (status, reason, message) =
        rig.condition(Kind::HttpRoute, "a", "/parents/0/conditions", "PartiallyInvalid");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "UnsupportedValue"));
    assert!(message.starts_with("Dropped Rule: rules[0]: path: \"(\""), "{message}");
    assert_eq!(rig.web().host("default/web/80", "*").unwrap().routes.len(), 1);
}

#[test]
fn a_huge_expression_is_refused() {
    let rig = Rig::with(&http_route(
        "a",
        "  rules: [{matches: [{path: {type: RegularExpression, value: '(((a{100}){100}){100})'}}], backendRefs: [{name: blue, port: 80}]}]",
    ));
    is(rig.route("a", "Accepted"), "False", "UnsupportedValue");
}

#[test]
fn prefix_rewrites_know_the_prefix_of_each_match() {
    let rig = Rig::with(&http_route(
        "a",
        "  rules:
  - matches: [{path: {value: /one}}, {path: {value: /two}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}]
    backendRefs: [{name: blue, port: 80}]",
    ));
    let routes = &rig.web().host("default/web/80", "*").unwrap().routes;
    let prefixes: Vec<_> = routes
        .iter()
        .map(|route| match &route.action.target {
            Target::Forward { rewrite, .. } => format!("{:?}", rewrite.path),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(prefixes[0].contains("/one") && prefixes[1].contains("/two"), "{prefixes:?}");
}

#[test]
fn grpc_routes_share_everything_and_speak_http2() {
    let mut rig = Rig::with("");
    rig.apply("kind: GRPCRoute\nmetadata: {name: g, namespace: default}\nspec:\n  parentRefs: [{name: web}]\n  rules: [{matches: [{method: {service: foo.Bar, method: Do}}], backendRefs: [{name: blue, port: 80}]}]");
    let host = rig.web().host("default/web/80", "*").unwrap();
    assert_eq!(host.routes[0].matches.path, ir::PathMatch::Exact("/foo.Bar/Do".into()));
    assert!(rig.web().clusters.contains_key("default/blue/80/h2"));
    assert_eq!(rig.report(Kind::Gateway, "web")["listeners"][0]["attachedRoutes"], 1);
}

#[test]
fn header_edits_that_no_header_can_have_are_refused() {
    for (filter, part) in [
        ("requestHeaderModifier: {set: [{name: 'a b', value: x}]}", "is not the name of a header"),
        ("requestHeaderModifier: {add: [{name: Host, value: x}]}", "host can only be set"),
        ("requestHeaderModifier: {remove: [host]}", "host can only be set"),
        ("requestHeaderModifier: {set: [{name: ':path', value: x}]}", "is not the name of a header"),
        ("responseHeaderModifier: {set: [{name: x-a, value: \"1\\n2\"}]}", "a control character"),
        ("responseHeaderModifier: {set: [{name: host, value: x}]}", "host can only be set"),
    ] {
        let kind = filter.split(':').next().unwrap();
        let kind = kind[..1].to_uppercase() + &kind[1..];
        let rig = Rig::with(&http_route(
            "a",
            &format!(
                "  rules: [{{filters: [{{type: {kind}, {filter}}}], backendRefs: [{{name: blue, port: 80}}]}}]"
            ),
        ));
        let (status, reason, message) =
            rig.condition(Kind::HttpRoute, "a", "/parents/0/conditions", "Accepted");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "UnsupportedValue"), "{filter}");
        assert!(message.contains(part), "{message}");
    }
    let rig = Rig::with(&http_route(
        "a",
        "  rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: b.org}]}}], backendRefs: [{name: blue, port: 80}]}]",
    ));
    is(rig.route("a", "Accepted"), "True", "Accepted");
}
