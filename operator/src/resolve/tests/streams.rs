//! TLSRoute, TCPRoute and UDPRoute.

use portolan_xds::ir::{ChainTraffic, FilterChain, Listener};

use super::*;

/// Services `blue` (two addresses) and `green` (one) with TCP and UDP on port 90, and `empty` without addresses.
const BACKENDS: &str = "
kind: Service
metadata: {name: blue}
spec: {ports: [{name: t, port: 90}, {name: u, port: 90, protocol: UDP}]}
---
kind: EndpointSlice
metadata: {name: blue-1, labels: {kubernetes.io/service-name: blue}}
ports: [{name: t, port: 9090}, {name: u, port: 9091}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]
---
kind: Service
metadata: {name: green}
spec: {ports: [{name: t, port: 90}, {name: u, port: 90, protocol: UDP}]}
---
kind: EndpointSlice
metadata: {name: green-1, labels: {kubernetes.io/service-name: green}}
ports: [{name: t, port: 9090}, {name: u, port: 9091}]
endpoints: [{addresses: [10.0.1.1]}]
---
kind: Service
metadata: {name: empty}
spec: {ports: [{name: t, port: 90}]}
";

fn rig(listeners: &str) -> Rig {
    let mut rig = Rig::with(BACKENDS);
    rig.apply(&gateway(listeners));
    rig
}

fn gateway(listeners: &str) -> String {
    format!(
        "kind: Gateway\nmetadata: {{name: web, namespace: default}}\nspec:\n  gatewayClassName: portolan\n  listeners:\n{listeners}"
    )
}

/// A route on `web`: `rest` goes into the spec, `parent` into the parentRef.
fn route(kind: &str, name: &str, parent: &str, rest: &str, backends: &str) -> String {
    let age = if name.starts_with("old") {
        ", creationTimestamp: '2020-01-01T00:00:00Z'"
    } else {
        ", creationTimestamp: '2021-01-01T00:00:00Z'"
    };
    format!(
        "kind: {kind}\nmetadata: {{name: {name}, namespace: default{age}}}\nspec:\n  parentRefs: [{{name: web{parent}}}]\n{rest}  rules: [{{backendRefs: [{backends}]}}]"
    )
}

fn tls(name: &str, hostnames: &str, backend: &str) -> String {
    route(
        "TLSRoute",
        name,
        "",
        &format!("  hostnames: [{hostnames}]\n"),
        &format!("{{name: {backend}, port: 90}}"),
    )
}

impl Rig {
    fn bound(&self, name: &str) -> &Listener {
        self.web()
            .listeners
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.web().listeners.keys()))
    }

    fn chain(&self, listener: &str, server_name: Option<&str>) -> &FilterChain {
        let chains = &self.bound(listener).chains;
        chains
            .iter()
            .find(|one| one.server_name.as_deref() == server_name)
            .unwrap_or_else(|| panic!("{chains:?}"))
    }

    /// Addresses and weights of a stream, and the weight of nowhere.
    fn shares(&self, cluster: &str) -> (Vec<(String, u32)>, u32) {
        let endpoints = &self.web().endpoints[cluster];
        let each = endpoints.endpoints.iter().map(|one| (one.address.to_string(), one.weight));
        (each.collect(), endpoints.nowhere)
    }

    fn of_route(&self, kind: Kind, name: &str, type_: &str) -> (String, String) {
        let (status, reason, _) = self.condition(kind, name, "/parents/0/conditions", type_);
        (status, reason)
    }

    fn attached(&self) -> Vec<u64> {
        let report = self.report(Kind::Gateway, "web");
        let listeners = report["listeners"].as_array().unwrap();
        listeners.iter().map(|one| one["attachedRoutes"].as_u64().unwrap()).collect()
    }
}

fn to(rig: &Rig, cluster: &str) -> Vec<String> {
    rig.shares(cluster).0.into_iter().map(|(address, _)| address).collect()
}

#[test]
fn tcp_and_udp_share_a_port_and_nothing_else() {
    let mut rig = rig("  - {name: t, port: 53, protocol: TCP}\n  - {name: u, port: 53, protocol: UDP}");
    rig.apply(&route("TCPRoute", "t", "", "", "{name: blue, port: 90}"));
    rig.apply(&route("UDPRoute", "u", "", "", "{name: blue, port: 90}"));
    assert_eq!(to(&rig, "default/web/53/tcp"), ["10.0.0.1:9090", "10.0.0.2:9090"]);
    assert_eq!(to(&rig, "default/web/53/udp"), ["10.0.0.1:9091", "10.0.0.2:9091"]);
    assert_eq!(
        rig.chain("default/web/53", None).traffic,
        ChainTraffic::Tcp { cluster: "default/web/53/tcp".into() }
    );
    assert_eq!(
        rig.chain("default/web/53/udp", None).traffic,
        ChainTraffic::Udp { cluster: "default/web/53/udp".into() }
    );
    assert_eq!(rig.bound("default/web/53/udp").transport, Transport::Udp);
    assert_eq!(rig.attached(), [1, 1]);
    for (kind, name) in [(Kind::TcpRoute, "t"), (Kind::UdpRoute, "u")] {
        is(rig.of_route(kind, name, "Accepted"), "True", "Accepted");
        is(rig.of_route(kind, name, "ResolvedRefs"), "True", "ResolvedRefs");
    }
}

#[test]
fn weights_fall_on_addresses_and_the_share_of_an_invalid_backend_is_refused() {
    let mut rig = rig("  - {name: t, port: 9000, protocol: TCP}");
    rig.apply(&route("TCPRoute", "t", "", "", "{name: blue, port: 90, weight: 4}, {name: green, port: 90, weight: 2}, {name: nobody, port: 90, weight: 3}, {name: empty, port: 90, weight: 1}, {name: green, port: 91, weight: 0}"));
    let (each, nowhere) = rig.shares("default/web/9000/tcp");
    assert_eq!(each, [("10.0.0.1:9090".into(), 1), ("10.0.0.2:9090".into(), 1), ("10.0.1.1:9090".into(), 1)]);
    assert_eq!(nowhere, 2, "3 of nobody and 1 of empty, of 10");
    is(rig.of_route(Kind::TcpRoute, "t", "Accepted"), "True", "Accepted");
    is(rig.of_route(Kind::TcpRoute, "t", "ResolvedRefs"), "False", "BackendNotFound");
}

#[test]
fn references_of_streams_are_judged_like_those_of_requests() {
    let mut rig = rig("  - {name: t, port: 9000, protocol: TCP}\n  - {name: u, port: 9000, protocol: UDP}");
    for (kind, api) in [(Kind::TcpRoute, "TCPRoute"), (Kind::UdpRoute, "UDPRoute")] {
        for (backend, reason) in [
            ("{name: nobody, port: 90}", "BackendNotFound"),
            ("{name: blue, port: 91}", "BackendNotFound"),
            ("{name: blue}", "BackendNotFound"),
            ("{name: blue, port: 90, kind: Bucket, group: x.io}", "InvalidKind"),
            ("{name: blue, namespace: other, port: 90}", "RefNotPermitted"),
        ] {
            rig.apply(&route(api, "r", "", "", backend));
            is(rig.of_route(kind, "r", "ResolvedRefs"), "False", reason);
            is(rig.of_route(kind, "r", "Accepted"), "True", "Accepted");
        }
        rig.change(vec![(ObjectKey::new(kind, "default", "r"), None)]);
    }
    // The port is there, for another transport.
    rig.apply("kind: Service\nmetadata: {name: one}\nspec: {ports: [{port: 90}]}");
    rig.apply(&route("UDPRoute", "r", "", "", "{name: one, port: 90}"));
    is(rig.of_route(Kind::UdpRoute, "r", "ResolvedRefs"), "False", "BackendNotFound");
}

#[test]
fn several_routes_attach_and_the_oldest_serves() {
    let mut rig = rig("  - {name: u, port: 9000, protocol: UDP}");
    rig.apply(&route("UDPRoute", "new", "", "", "{name: green, port: 90}"));
    assert_eq!(to(&rig, "default/web/9000/udp"), ["10.0.1.1:9091"]);
    let before = rig.bound("default/web/9000/udp").clone();
    rig.apply(&route("UDPRoute", "old", "", "", "{name: blue, port: 90}"));
    assert_eq!(to(&rig, "default/web/9000/udp"), ["10.0.0.1:9091", "10.0.0.2:9091"]);
    assert_eq!(rig.attached(), [2]);
    for name in ["new", "old"] {
        is(rig.of_route(Kind::UdpRoute, name, "Accepted"), "True", "Accepted");
    }
    rig.remove(Kind::UdpRoute, "old");
    assert_eq!(to(&rig, "default/web/9000/udp"), ["10.0.1.1:9091"]);
    rig.remove(Kind::UdpRoute, "new");
    assert_eq!(to(&rig, "default/web/9000/udp"), [""; 0]);
    assert_eq!(*rig.bound("default/web/9000/udp"), before, "the listener stays as it is: sessions live on");
}

#[test]
fn an_edit_of_a_route_changes_endpoints_only() {
    let mut rig = rig("  - {name: t, port: 9000, protocol: TCP}");
    rig.apply(&route("TCPRoute", "t", "", "", "{name: blue, port: 90}"));
    rig.apply(&route("TCPRoute", "t", "", "", "{name: blue, port: 90}, {name: green, port: 90}"));
    let delta = rig.last.deltas.values().next().unwrap();
    assert!(delta.listeners.is_empty() && delta.tables.is_empty() && delta.virtual_hosts.is_empty());
    assert_eq!(delta.endpoints.len(), 1);
    assert!(rig.last.units_run <= 4, "{}", rig.last.units_run);
}

#[test]
fn a_listener_of_another_protocol_takes_no_stream() {
    let mut rig = rig(
        "  - {name: h, port: 80, protocol: HTTP}\n  - {name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}\n  - {name: p, port: 444, protocol: TLS, tls: {mode: Passthrough}}\n  - {name: t, port: 90, protocol: TCP}\n  - {name: u, port: 90, protocol: UDP}",
    );
    for (kind, api, good) in [
        (Kind::HttpRoute, "HTTPRoute", vec!["h", "s"]),
        (Kind::TlsRoute, "TLSRoute", vec!["p"]),
        (Kind::TcpRoute, "TCPRoute", vec!["t"]),
        (Kind::UdpRoute, "UDPRoute", vec!["u"]),
    ] {
        let hostnames = if kind == Kind::TlsRoute { "  hostnames: [a.org]\n" } else { "" };
        for section in ["h", "s", "p", "t", "u"] {
            rig.apply(&route(
                api,
                "r",
                &format!(", sectionName: {section}"),
                hostnames,
                "{name: blue, port: 90}",
            ));
            let (status, reason) = rig.of_route(kind, "r", "Accepted");
            if good.contains(&section) {
                is((status, reason), "True", "Accepted");
            } else {
                is((status, reason), "False", "NotAllowedByListeners");
            }
            is(rig.of_route(kind, "r", "ResolvedRefs"), "True", "ResolvedRefs");
        }
        rig.apply(&route(api, "r", ", sectionName: nope", hostnames, "{name: blue, port: 90}"));
        is(rig.of_route(kind, "r", "Accepted"), "False", "NoMatchingParent");
        rig.change(vec![(ObjectKey::new(kind, "default", "r"), None)]);
    }
    assert_eq!(rig.attached(), [0; 5]);
}

#[test]
fn supported_kinds_follow_the_protocol() {
    let rig = rig(
        "  - {name: p, port: 444, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: TLSRoute}, {kind: TCPRoute}]}}\n  - {name: t, port: 90, protocol: TCP}\n  - {name: u, port: 90, protocol: UDP}\n  - {name: x, port: 1111, protocol: INVALID, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}",
    );
    let report = rig.report(Kind::Gateway, "web");
    let kinds = |index: usize| {
        let kinds = report["listeners"][index]["supportedKinds"].as_array().unwrap();
        kinds.iter().map(|one| one["kind"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((kinds(0), kinds(1), kinds(2)), (vec!["TLSRoute"], vec!["TCPRoute"], vec!["UDPRoute"]));
    assert!(kinds(3).is_empty());
    is(rig.listener(0, "ResolvedRefs"), "False", "InvalidRouteKinds");
    is(rig.listener(1, "ResolvedRefs"), "True", "ResolvedRefs");
    is(rig.listener(3, "Accepted"), "False", "UnsupportedProtocol");
}

const MIXED: &str =
    "  - {name: end, port: 443, protocol: TLS, hostname: '*.end.org', tls: {certificateRefs: [{name: c}]}}
  - {name: pass, port: 443, protocol: TLS, hostname: '*.pass.org', tls: {mode: Passthrough}}
  - {name: web, port: 443, protocol: HTTPS, hostname: web.org, tls: {certificateRefs: [{name: c}]}}";

#[test]
fn terminated_passed_and_https_names_share_a_port() {
    let mut rig = rig(MIXED);
    rig.apply(&certificate_secret("c", "a.end.org"));
    rig.apply(&tls("a", "a.end.org, a.pass.org, a.other.org", "blue"));
    for index in 0..3 {
        is(rig.listener(index, "Accepted"), "True", "Accepted");
    }
    assert_eq!(rig.attached(), [1, 1, 0]);
    let end = rig.chain("default/web/443", Some("a.end.org"));
    assert_eq!(end.tls.as_ref().unwrap().certificates.len(), 1);
    assert_eq!(end.traffic, ChainTraffic::Tcp { cluster: "default/web/443/tls/a.end.org".into() });
    assert!(rig.chain("default/web/443", Some("a.pass.org")).tls.is_none());
    assert_eq!(to(&rig, "default/web/443/tls/a.pass.org"), ["10.0.0.1:9090", "10.0.0.2:9090"]);
    // What no route serves is closed: its cluster has no address.
    assert_eq!(to(&rig, "default/web/443/tls/*.pass.org"), [""; 0]);
    assert!(rig.chain("default/web/443", Some("*.pass.org")).tls.is_none());
    assert!(matches!(rig.chain("default/web/443", Some("web.org")).traffic, ChainTraffic::Http { .. }));
    rig.remove(Kind::Secret, "c");
    assert_eq!(rig.chain("default/web/443", Some("a.end.org")).traffic, ChainTraffic::Closed);
    assert!(matches!(rig.chain("default/web/443", Some("a.pass.org")).traffic, ChainTraffic::Tcp { .. }));
}

#[test]
fn the_more_specific_hostname_as_written_wins_over_age() {
    let mut rig =
        rig("  - {name: p, port: 443, protocol: TLS, hostname: abc.example.com, tls: {mode: Passthrough}}");
    rig.apply(&tls("old", "'*.example.com'", "blue"));
    assert_eq!(to(&rig, "default/web/443/tls/abc.example.com"), ["10.0.0.1:9090", "10.0.0.2:9090"]);
    rig.apply(&tls("new", "abc.example.com", "green"));
    assert_eq!(to(&rig, "default/web/443/tls/abc.example.com"), ["10.0.1.1:9090"]);
    assert_eq!(rig.attached(), [2]);
}

#[test]
fn a_tls_route_that_meets_no_hostname_is_refused() {
    let mut rig =
        rig("  - {name: p, port: 443, protocol: TLS, hostname: abc.example.com, tls: {mode: Passthrough}}");
    rig.apply(&tls("r", "other.example.com", "blue"));
    is(rig.of_route(Kind::TlsRoute, "r", "Accepted"), "False", "NoMatchingListenerHostname");
    assert_eq!(rig.attached(), [0]);
}

#[test]
fn a_server_name_of_a_more_specific_listener_is_not_served_by_another() {
    let mut rig = rig(
        "  - {name: wide, port: 443, protocol: TLS, tls: {mode: Passthrough}}\n  - {name: narrow, port: 443, protocol: TLS, hostname: a.org, tls: {mode: Passthrough}}",
    );
    rig.apply(&route(
        "TLSRoute",
        "r",
        ", sectionName: wide",
        "  hostnames: [a.org, b.org]\n",
        "{name: blue, port: 90}",
    ));
    assert_eq!(to(&rig, "default/web/443/tls/a.org"), [""; 0]);
    assert_eq!(to(&rig, "default/web/443/tls/b.org").len(), 2);
}

#[test]
fn protocols_that_cannot_share_a_port_all_lose() {
    for (listeners, reasons) in [
        (
            "  - {name: a, port: 80, protocol: HTTP}\n  - {name: b, port: 80, protocol: TCP}",
            ["ProtocolConflict", "ProtocolConflict"],
        ),
        (
            "  - {name: a, port: 80, protocol: TLS, tls: {mode: Passthrough}}\n  - {name: b, port: 80, protocol: TCP}",
            ["ProtocolConflict", "ProtocolConflict"],
        ),
        (
            "  - {name: a, port: 80, protocol: TCP}\n  - {name: b, port: 80, protocol: TCP}",
            ["ProtocolConflict", "ProtocolConflict"],
        ),
        (
            "  - {name: a, port: 80, protocol: TLS, hostname: a.org, tls: {mode: Passthrough}}\n  - {name: b, port: 80, hostname: a.org, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}",
            ["HostnameConflict", "HostnameConflict"],
        ),
    ] {
        let rig = rig(listeners);
        for (index, reason) in reasons.into_iter().enumerate() {
            is(rig.listener(index, "Accepted"), "False", reason);
            is(rig.listener(index, "Conflicted"), "True", reason);
        }
        let (status, reason, _) = rig.condition(Kind::Gateway, "web", "/conditions", "Accepted");
        is((status, reason), "False", "ListenersNotValid");
    }
    let rig = rig("  - {name: a, port: 53, protocol: HTTP}\n  - {name: b, port: 53, protocol: UDP}");
    is(rig.listener(0, "Accepted"), "True", "Accepted");
    is(rig.listener(1, "Accepted"), "True", "Accepted");
}

#[test]
fn a_grant_opens_a_backend_and_its_removal_closes_it_at_once() {
    let mut rig = rig("  - {name: t, port: 9000, protocol: TCP}");
    rig.apply("kind: Service\nmetadata: {name: db, namespace: other}\nspec: {ports: [{port: 90}]}");
    rig.apply("kind: EndpointSlice\nmetadata: {name: db, namespace: other, labels: {kubernetes.io/service-name: db}}\nports: [{port: 90}]\nendpoints: [{addresses: [10.9.9.9]}]");
    rig.apply(&route("TCPRoute", "t", "", "", "{name: db, namespace: other, port: 90}"));
    assert_eq!(to(&rig, "default/web/9000/tcp"), [""; 0]);
    rig.apply("kind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: default}], to: [{group: '', kind: Service}]}");
    assert_eq!(to(&rig, "default/web/9000/tcp"), ["10.9.9.9:90"]);
    rig.change(vec![(ObjectKey::new(Kind::ReferenceGrant, "other", "g"), None)]);
    assert_eq!(to(&rig, "default/web/9000/tcp"), [""; 0]);
    is(rig.of_route(Kind::TcpRoute, "t", "ResolvedRefs"), "False", "RefNotPermitted");
}

#[test]
fn a_second_rule_is_dropped() {
    let mut rig = rig("  - {name: t, port: 9000, protocol: TCP}");
    rig.apply("kind: TCPRoute\nmetadata: {name: t, namespace: default}\nspec:\n  parentRefs: [{name: web}]\n  rules: [{backendRefs: [{name: blue, port: 90}]}, {backendRefs: [{name: green, port: 90}]}]");
    is(rig.of_route(Kind::TcpRoute, "t", "PartiallyInvalid"), "True", "UnsupportedValue");
    assert_eq!(to(&rig, "default/web/9000/tcp").len(), 2);
}

#[test]
fn hosts_of_many_https_listeners_do_not_multiply() {
    let listeners: Vec<String> = (0..200)
        .map(|index| format!("  - {{name: l{index}, port: 443, protocol: HTTPS, hostname: h{index}.org, tls: {{certificateRefs: [{{name: c}}]}}}}"))
        .collect();
    let rig = rig(&listeners.join("\n"));
    assert_eq!(rig.web().hosts.len(), 400, "each has its own host and answers 421 to everything else");
    assert_eq!(
        rig.web()
            .host("default/web/443/h7.org", "*")
            .map(|host| host.otherwise == ir::Otherwise::Misdirected),
        Some(true)
    );
}
