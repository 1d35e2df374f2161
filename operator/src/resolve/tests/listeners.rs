//! Listeners: validity, conflicts, isolation.

use super::*;

#[test]
fn a_listener_without_routes_still_has_its_host_so_that_it_answers_404() {
    let rig = Rig::with("");
    let host = rig.web().host("default/web/80", "*").unwrap();
    assert!(host.routes.is_empty() && host.otherwise == ir::Otherwise::NotFound);
}

#[test]
fn a_host_of_a_more_specific_listener_is_not_served_by_another() {
    let mut rig = Rig::with("");
    rig.apply(
        "kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners:
  - {name: wide, port: 80, protocol: HTTP, hostname: '*.example.com'}
  - {name: narrow, port: 80, protocol: HTTP, hostname: 'a.example.com'}",
    );
    rig.apply(
        "kind: HTTPRoute\nmetadata: {name: r, namespace: default}\nspec:\n  parentRefs: [{name: web, sectionName: wide}]\n  hostnames: [a.example.com, b.example.com]\n  rules: [{backendRefs: [{name: blue, port: 80}]}]",
    );
    assert!(rig.web().host("default/web/80", "a.example.com").unwrap().routes.is_empty());
    assert_eq!(rig.web().host("default/web/80", "b.example.com").unwrap().routes.len(), 1);
}

#[test]
fn conflicting_listeners_all_lose_and_the_rest_stays() {
    let mut rig = Rig::with("");
    rig.apply(
        "kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners:
  - {name: a, port: 80, protocol: HTTP, hostname: x.com}
  - {name: b, port: 80, protocol: HTTP, hostname: x.com}
  - {name: c, port: 80, protocol: HTTP}
  - {name: d, port: 81, protocol: HTTP}
  - {name: e, port: 81, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}
  - {name: f, port: 82, protocol: SCTP}",
    );
    for (index, reason) in
        [(0, "HostnameConflict"), (1, "HostnameConflict"), (3, "ProtocolConflict"), (4, "ProtocolConflict")]
    {
        is(rig.listener(index, "Accepted"), "False", reason);
        is(rig.listener(index, "Conflicted"), "True", reason);
    }
    is(rig.listener(2, "Accepted"), "True", "Accepted");
    is(rig.listener(5, "Accepted"), "False", "UnsupportedProtocol");
    let (status, reason, _) = rig.condition(Kind::Gateway, "web", "/conditions", "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "ListenersNotValid"));
}

#[test]
fn kinds_that_a_protocol_does_not_carry_are_named() {
    let mut rig = Rig::with("");
    rig.apply("kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: TCPRoute}]}}]");
    is(rig.listener(0, "ResolvedRefs"), "False", "InvalidRouteKinds");
    assert_eq!(
        rig.report(Kind::Gateway, "web")["listeners"][0]["supportedKinds"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn an_address_has_a_type() {
    let rig = Rig::with("");
    let report = rig.report(Kind::Gateway, "web");
    assert_eq!(report["addresses"], serde_json::json!([{"type": "IPAddress", "value": "127.0.0.1"}]));
}
