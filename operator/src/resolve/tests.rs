//! The resolver as a specification: given manifests, expect IR and conditions.

use std::collections::BTreeMap;

use portolan_xds::ir::{self, Delta, Target, Transport, VirtualHost, VirtualHostKey};
use serde_json::Value;

use super::*;
use crate::model::{Kind, Object, ObjectKey, parse};

const BASE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portolan}
spec: {controllerName: portolan.dev/gateway-controller}
---
kind: Gateway
metadata: {name: web, namespace: default, generation: 3}
spec:
  gatewayClassName: portolan
  listeners:
  - {name: http, port: 80, protocol: HTTP}
---
kind: Service
metadata: {name: blue}
spec: {ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: blue-1, labels: {kubernetes.io/service-name: blue}}
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}]
";

fn objects(yaml: &str) -> Vec<(ObjectKey, Option<Object>)> {
    let parts = yaml.split("\n---\n").filter(|text| !text.trim().is_empty());
    parts
        .map(|text| {
            let json: Value = serde_saphyr::from_str(text).unwrap();
            let kind = Kind::from_name(json["kind"].as_str().unwrap()).unwrap();
            let object = parse(kind, &json).unwrap();
            (object.key().clone(), Some(object))
        })
        .collect()
}

/// What all deltas so far add up to, as a proxy would hold it.
#[derive(Debug, Default, PartialEq)]
struct Told {
    listeners: BTreeMap<ir::ListenerName, ir::Listener>,
    tables: BTreeMap<ir::RouteTableName, ir::RouteTable>,
    hosts: BTreeMap<VirtualHostKey, VirtualHost>,
    clusters: BTreeMap<ir::ClusterName, ir::Cluster>,
    endpoints: BTreeMap<ir::ClusterName, ir::Endpoints>,
    secrets: BTreeMap<ir::SecretName, ir::Secret>,
}

fn lay<K: Ord + Clone, V: Clone>(onto: &mut BTreeMap<K, V>, delta: &BTreeMap<K, Option<std::sync::Arc<V>>>) {
    for (key, value) in delta {
        match value {
            Some(value) => onto.insert(key.clone(), (**value).clone()),
            None => onto.remove(key),
        };
    }
}

impl Told {
    fn take(&mut self, delta: &Delta) {
        lay(&mut self.listeners, &delta.listeners);
        lay(&mut self.tables, &delta.tables);
        lay(&mut self.hosts, &delta.virtual_hosts);
        lay(&mut self.clusters, &delta.clusters);
        lay(&mut self.endpoints, &delta.endpoints);
        lay(&mut self.secrets, &delta.secrets);
    }

    fn host(&self, table: &str, domain: &str) -> Option<&VirtualHost> {
        self.hosts.get(&VirtualHostKey { table: table.into(), domain: domain.into() })
    }
}

#[derive(Default)]
struct Rig {
    engine: Engine,
    told: BTreeMap<ObjectKey, Told>,
    last: Resolved,
}

impl Rig {
    fn with(yaml: &str) -> Self {
        let mut rig = Self::default();
        rig.apply(BASE);
        rig.apply(yaml);
        rig
    }

    fn apply(&mut self, yaml: &str) {
        self.change(objects(yaml));
    }

    fn change(&mut self, changes: Vec<(ObjectKey, Option<Object>)>) {
        let resolved = self.engine.apply(changes);
        self.take(resolved);
        for (gateway, ports) in self.engine.wanted_ports() {
            let address = |port: (u16, Transport)| (port, Ok(vec![([127, 0, 0, 1], port.0).into()]));
            let placement = Placement { ports: ports.into_iter().map(address).collect() };
            let resolved = self.engine.place(&gateway, Some(placement));
            for (gateway, delta) in &resolved.deltas {
                self.told.entry(gateway.clone()).or_default().take(delta);
            }
        }
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        self.change(vec![(
            ObjectKey::new(kind, if kind.cluster_scoped() { "" } else { "default" }, name),
            None,
        )]);
    }

    fn take(&mut self, resolved: Resolved) {
        for (gateway, delta) in &resolved.deltas {
            self.told.entry(gateway.clone()).or_default().take(delta);
        }
        self.last = resolved;
    }

    fn web(&self) -> &Told {
        &self.told[&ObjectKey::new(Kind::Gateway, "default", "web")]
    }

    fn report(&self, kind: Kind, name: &str) -> Value {
        let key = ObjectKey::new(kind, if kind.cluster_scoped() { "" } else { "default" }, name);
        serde_json::to_value(self.engine.report(&key, &|_, _| Programmed::Yes)).unwrap()
    }

    fn condition(&self, kind: Kind, name: &str, pointer: &str, type_: &str) -> (String, String, String) {
        let report = self.report(kind, name);
        let list = report
            .pointer(pointer)
            .and_then(Value::as_array)
            .unwrap_or_else(|| panic!("{pointer} of {report}"));
        let one =
            list.iter().find(|one| one["type"] == type_).unwrap_or_else(|| panic!("no {type_} in {report}"));
        let text = |field: &str| one[field].as_str().unwrap().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    fn route(&self, name: &str, type_: &str) -> (String, String) {
        let (status, reason, _) = self.condition(Kind::HttpRoute, name, "/parents/0/conditions", type_);
        (status, reason)
    }

    fn listener(&self, index: usize, type_: &str) -> (String, String) {
        let pointer = format!("/listeners/{index}/conditions");
        let (status, reason, _) = self.condition(Kind::Gateway, "web", &pointer, type_);
        (status, reason)
    }
}

fn is((found, why): (String, String), status: &str, reason: &str) {
    assert_eq!((found, why), (status.to_owned(), reason.to_owned()));
}

fn http_route(name: &str, rest: &str) -> String {
    format!(
        "kind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  parentRefs: [{{name: web}}]\n{rest}"
    )
}

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
fn a_listener_without_routes_still_has_its_host_so_that_it_answers_404() {
    let rig = Rig::with("");
    let host = rig.web().host("default/web/80", "*").unwrap();
    assert!(host.routes.is_empty() && !host.misdirected);
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
fn references_that_cannot_be_followed_answer_500_and_say_why() {
    for (backend, reason) in [
        ("{name: nobody, port: 80}", "BackendNotFound"),
        ("{name: blue, port: 81}", "BackendNotFound"),
        ("{name: blue, port: 80, kind: Bucket, group: x.io}", "InvalidKind"),
        ("{name: secret-service, namespace: other, port: 80}", "RefNotPermitted"),
    ] {
        let rig = Rig::with(&http_route("a", &format!("  rules: [{{backendRefs: [{backend}]}}]")));
        is(rig.route("a", "ResolvedRefs"), "False", reason);
        is(rig.route("a", "Accepted"), "True", "Accepted");
        let host = rig.web().host("default/web/80", "*").unwrap();
        assert!(matches!(host.routes[0].action.target, Target::Answer { status: 500, .. }), "{backend}");
    }
}

#[test]
fn a_bad_backend_keeps_its_share_beside_a_good_one() {
    let rig = Rig::with(&http_route(
        "a",
        "  rules: [{backendRefs: [{name: blue, port: 80, weight: 3}, {name: nobody, port: 80}, {name: blue, port: 80, weight: 0}]}]",
    ));
    let host = rig.web().host("default/web/80", "*").unwrap();
    let Target::Forward { arms, .. } = &host.routes[0].action.target else { panic!("{host:?}") };
    assert_eq!(arms.len(), 2);
    assert_eq!((arms[0].weight, arms[1].weight), (3, 1));
    assert_eq!(arms[1].backend, ir::Backend::Invalid);
}

#[test]
fn a_grant_opens_a_namespace_and_its_removal_closes_it_at_once() {
    let mut rig =
        Rig::with(&http_route("a", "  rules: [{backendRefs: [{name: db, namespace: other, port: 80}]}]"));
    rig.apply("kind: Service\nmetadata: {name: db, namespace: other}\nspec: {ports: [{port: 80}]}");
    is(rig.route("a", "ResolvedRefs"), "False", "RefNotPermitted");
    let grant = "kind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service}]}";
    rig.apply(grant);
    is(rig.route("a", "ResolvedRefs"), "True", "ResolvedRefs");
    assert!(rig.web().clusters.contains_key("other/db/80"));
    rig.change(vec![(ObjectKey::new(Kind::ReferenceGrant, "other", "g"), None)]);
    is(rig.route("a", "ResolvedRefs"), "False", "RefNotPermitted");
    assert!(rig.web().clusters.is_empty(), "the backend is taken from the proxies");
}

#[test]
fn attachment_is_refused_with_the_reason_of_the_api() {
    let base = "kind: HTTPRoute\nmetadata: {name: r, namespace: NS}\nspec:\n  parentRefs: [{name: web, namespace: default REST}]\n  hostnames: [a.example.com]\n  rules: [{backendRefs: [{name: blue, port: 80}]}]";
    for (namespace, rest, reason) in [
        ("default", ", sectionName: nope", "NoMatchingParent"),
        ("default", ", port: 81", "NoMatchingParent"),
        ("elsewhere", "", "NotAllowedByListeners"),
    ] {
        let rig = Rig::with(&base.replace("NS", namespace).replace("REST", rest));
        let key = ObjectKey::new(Kind::HttpRoute, namespace, "r");
        let report = serde_json::to_value(rig.engine.report(&key, &|_, _| Programmed::Yes)).unwrap();
        assert_eq!(report["parents"][0]["conditions"][0]["reason"], reason);
        assert_eq!(rig.report(Kind::Gateway, "web")["listeners"][0]["attachedRoutes"], 0);
    }
    let mut rig = Rig::with(&base.replace("NS", "default").replace("REST", ""));
    rig.apply("kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners: [{name: http, port: 80, protocol: HTTP, hostname: b.example.com}]");
    is(rig.route("r", "Accepted"), "False", "NoMatchingListenerHostname");
}

#[test]
fn a_namespace_selector_follows_labels() {
    let mut rig = Rig::with("");
    rig.apply("kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}}]");
    rig.apply("kind: HTTPRoute\nmetadata: {name: r, namespace: apps}\nspec:\n  parentRefs: [{name: web, namespace: default}]\n  rules: [{backendRefs: [{name: blue, port: 80}]}]");
    let attached = |rig: &Rig| rig.report(Kind::Gateway, "web")["listeners"][0]["attachedRoutes"].clone();
    assert_eq!(attached(&rig), 0);
    rig.apply("kind: Namespace\nmetadata: {name: apps, labels: {team: a}}");
    assert_eq!(attached(&rig), 1);
    rig.apply("kind: Namespace\nmetadata: {name: apps, labels: {team: b}}");
    assert_eq!(attached(&rig), 0);
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

fn certificate_secret(name: &str, host: &str) -> String {
    let pair = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    secret(name, &pair.cert.pem(), &pair.signing_key.serialize_pem())
}

fn secret(name: &str, chain: &str, key: &str) -> String {
    let quote = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        "kind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: kubernetes.io/tls\nstringData: {{tls.crt: {}, tls.key: {}}}",
        quote(chain),
        quote(key)
    )
}

const HTTPS: &str = "kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners:
  - {name: one, port: 443, protocol: HTTPS, hostname: 'a.org', tls: {certificateRefs: [{name: c}]}}
  - {name: wild, port: 443, protocol: HTTPS, hostname: '*.wild.org', tls: {certificateRefs: [{name: c}]}}
  - {name: any, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}";

#[test]
fn a_certificate_makes_a_chain_and_its_loss_takes_it_away() {
    let mut rig = Rig::with(HTTPS);
    is(rig.listener(0, "ResolvedRefs"), "False", "InvalidCertificateRef");
    is(rig.listener(0, "Programmed"), "False", "Invalid");
    assert!(rig.web().listeners.is_empty());
    rig.apply(&certificate_secret("c", "a.org"));
    is(rig.listener(0, "ResolvedRefs"), "True", "ResolvedRefs");
    assert_eq!(rig.web().listeners["default/web/443"].chains.len(), 3);
    assert!(rig.web().secrets.contains_key("default/c"));
    rig.remove(Kind::Secret, "c");
    assert!(rig.web().secrets.is_empty() && rig.web().listeners.is_empty());
}

#[test]
fn a_certificate_that_does_not_match_its_key_is_refused_by_name() {
    let mut rig = Rig::with(HTTPS);
    let (one, two) = (
        rcgen::generate_simple_self_signed(["a.org".to_owned()]).unwrap(),
        rcgen::generate_simple_self_signed(["a.org".to_owned()]).unwrap(),
    );
    rig.apply(&secret("c", &one.cert.pem(), &two.signing_key.serialize_pem()));
    let (status, reason, message) =
        rig.condition(Kind::Gateway, "web", "/listeners/0/conditions", "ResolvedRefs");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidCertificateRef"));
    assert!(message.contains("Secret/default/c") && message.contains("not the key"), "{message}");
}

#[test]
fn hosts_of_other_tls_listeners_are_misdirected() {
    let mut rig = Rig::with(HTTPS);
    rig.apply(&certificate_secret("c", "a.org"));
    let host = |table: &str, domain: &str| rig.web().host(table, domain).map(|host| host.misdirected);
    assert_eq!(host("default/web/443/a.org", "a.org"), Some(false));
    assert_eq!(host("default/web/443/a.org", "*.wild.org"), Some(true));
    assert_eq!(host("default/web/443/a.org", "*"), Some(true));
    assert_eq!(host("default/web/443/*", "*"), Some(false));
    assert_eq!(host("default/web/443/*", "a.org"), Some(true));
    is(rig.listener(0, "OverlappingTLSConfig"), "True", "OverlappingHostnames");
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
fn a_foreign_class_is_left_alone() {
    let mut rig = Rig::with(&http_route("a", "  rules: [{backendRefs: [{name: blue, port: 80}]}]"));
    rig.apply("kind: GatewayClass\nmetadata: {name: portolan}\nspec: {controllerName: example.com/other}");
    assert_eq!(*rig.web(), Told::default());
    assert_eq!(rig.report(Kind::Gateway, "web"), Value::Null);
    assert_eq!(rig.report(Kind::HttpRoute, "a")["parents"], Value::Array(vec![]));
}

#[test]
fn one_edit_among_many_costs_a_handful_of_units() {
    let mut rig = Rig::with("");
    let route = |index: usize, path: &str| {
        http_route(
            &format!("r{index}"),
            &format!(
                "  hostnames: [h{index}.example.com]\n  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: blue, port: 80}}]}}]"
            ),
        )
    };
    rig.change((0..500).flat_map(|index| objects(&route(index, "/a"))).collect());
    rig.change(objects(&route(250, "/b")));
    assert!(rig.last.units_run <= 4, "{} units for one route among 500", rig.last.units_run);
    let delta = rig.last.deltas.values().next().unwrap();
    assert_eq!(delta.virtual_hosts.len(), 1);
    assert!(delta.clusters.is_empty() && delta.listeners.is_empty() && delta.tables.is_empty());
}

#[test]
fn an_equal_object_costs_nothing() {
    let mut rig = Rig::with(&http_route("a", "  rules: [{backendRefs: [{name: blue, port: 80}]}]"));
    rig.change(objects(
        "kind: Service\nmetadata: {name: blue}\nspec: {ports: [{port: 80}], clusterIP: 10.1.1.1}",
    ));
    assert!(rig.last.deltas.is_empty());
}

mod any_order {
    use proptest::prelude::*;

    use super::*;

    /// A small universe where everything refers to everything.
    fn universe() -> Vec<(ObjectKey, Option<Object>)> {
        let mut all = objects(BASE);
        let hosts = ["", "hostname: a.example.com, ", "hostname: '*.example.com', "];
        for (index, host) in hosts.iter().enumerate() {
            all.extend(objects(&format!(
                "kind: Gateway\nmetadata: {{name: web, namespace: default, generation: {index}}}\nspec:\n  gatewayClassName: portolan\n  listeners: [{{name: http, {host}port: 80, protocol: HTTP}}, {{name: b, port: {}, protocol: HTTP, allowedRoutes: {{namespaces: {{from: Selector, selector: {{matchLabels: {{team: a}}}}}}}}}}]",
                8080 + index
            )));
        }
        for name in ["r1", "r2"] {
            for host in ["a.example.com", "'*.example.com'", "b.example.com"] {
                for backend in ["name: blue", "name: db, namespace: other"] {
                    all.extend(objects(&http_route(
                        name,
                        &format!(
                            "  hostnames: [{host}]\n  rules: [{{backendRefs: [{{{backend}, port: 80}}]}}]"
                        ),
                    )));
                }
            }
        }
        all.extend(objects(
            "kind: Service\nmetadata: {name: db, namespace: other}\nspec: {ports: [{port: 80}]}",
        ));
        all.extend(objects("kind: Service\nmetadata: {name: blue}\nspec: {ports: [{port: 80, appProtocol: kubernetes.io/h2c}]}"));
        all.extend(objects("kind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service}]}"));
        all.extend(objects("kind: Namespace\nmetadata: {name: default, labels: {team: a}}"));
        all.extend(objects(
            "kind: GatewayClass\nmetadata: {name: portolan}\nspec: {controllerName: example.com/other}",
        ));
        let keys: std::collections::BTreeSet<_> = all.iter().map(|(key, _)| key.clone()).collect();
        all.extend(keys.into_iter().map(|key| (key, None)));
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// Any events in any order and any batches end in what a fresh resolve of the final objects gives.
        #[test]
        fn incremental_equals_fresh(steps in prop::collection::vec((0usize..1000, any::<bool>()), 1..60)) {
            let universe = universe();
            let mut rig = Rig::default();
            let mut last: BTreeMap<ObjectKey, Option<Object>> = BTreeMap::new();
            let mut batch = Vec::new();
            for (pick, flush) in steps {
                let (key, object) = universe[pick % universe.len()].clone();
                last.insert(key.clone(), object.clone());
                batch.push((key, object));
                if flush {
                    rig.change(std::mem::take(&mut batch));
                }
            }
            rig.change(batch);
            let mut fresh = Rig::default();
            fresh.change(last.clone().into_iter().collect());
            rig.told.retain(|_, told| *told != Told::default());
            fresh.told.retain(|_, told| *told != Told::default());
            prop_assert_eq!(&rig.told, &fresh.told);
            for key in last.keys() {
                let programmed = |_: &ObjectKey, _: &ObjectKey| Programmed::Yes;
                prop_assert_eq!(rig.engine.report(key, &programmed), fresh.engine.report(key, &programmed));
            }
        }
    }
}
