//! Filters of listeners, which run before a route is picked (GEP-5224).

use super::*;

/// An HTTP listener of every host on 80, one of `*.plain.org` there without filters, and one of TLS on 443.
fn gateway(filters: &str) -> String {
    format!(
        "kind: Gateway\nmetadata: {{name: web, namespace: default}}\nspec:\n  gatewayClassName: portolan\n  listeners:
  - {{name: http, port: 80, protocol: HTTP, filters: {{requests: [{filters}]}}}}
  - {{name: plain, port: 80, protocol: HTTP, hostname: '*.plain.org'}}
  - {{name: https, port: 443, protocol: HTTPS, hostname: a.org, tls: {{certificateRefs: [{{name: c}}]}}, filters: {{requests: [{filters}]}}}}"
    )
}

fn ask(name: &str, rest: &str) -> String {
    format!(
        "{{type: ExternalAuth, externalAuth: {{protocol: HTTP, backendRef: {{name: {name}, port: 80{rest}}}}}}}"
    )
}

fn service(name: &str, namespace: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}"
    )
}

fn routed(hosts: &str) -> String {
    http_route(
        "r",
        &format!("  hostnames: [{hosts}]\n  rules: [{{backendRefs: [{{name: blue, port: 80}}]}}]"),
    )
}

fn asked(rig: &Rig, table: &str, domain: &str) -> Vec<String> {
    let host = rig.web().host(table, domain).unwrap_or_else(|| panic!("no host {domain}"));
    host.auth.iter().map(|server| server.cluster.to_string()).collect()
}

fn message(rig: &Rig, index: usize, type_: &str) -> String {
    rig.condition(Kind::Gateway, "web", &format!("/listeners/{index}/conditions"), type_).2
}

#[test]
fn every_host_of_a_listener_has_its_filters_in_their_order_and_no_other_has() {
    let mut rig = Rig::with(&gateway(&format!("{}, {}", ask("second", ""), ask("first", ""))));
    rig.apply(&service("first", "default"));
    rig.apply(&service("second", "default"));
    rig.apply(&certificate_secret("c", "a.org"));
    rig.apply(&routed("b.org, a.org, x.plain.org"));
    let both = ["default/second/80", "default/first/80"];
    for (table, domain) in
        [("default/web/80", "*"), ("default/web/80", "b.org"), ("default/web/443/a.org", "a.org")]
    {
        assert_eq!(asked(&rig, table, domain), both, "{table} {domain}");
    }
    for domain in ["*.plain.org", "x.plain.org"] {
        assert!(asked(&rig, "default/web/80", domain).is_empty(), "{domain}");
    }
    for name in both {
        assert!(rig.web().clusters.contains_key(name), "{name}");
    }
    for index in 0..3 {
        is(rig.listener(index, "Accepted"), "True", "Accepted");
        is(rig.listener(index, "ResolvedRefs"), "True", "ResolvedRefs");
    }
    // Another list is another configuration, of the same routes.
    let before = rig.web().host("default/web/80", "b.org").unwrap().routes.clone();
    rig.apply(&gateway(&ask("first", "")));
    assert_eq!(asked(&rig, "default/web/80", "b.org"), ["default/first/80"]);
    assert_eq!(rig.web().host("default/web/80", "b.org").unwrap().routes, before);
    assert!(!rig.web().clusters.contains_key("default/second/80"), "nobody asks it any more");
    rig.apply(&gateway(""));
    assert!(asked(&rig, "default/web/80", "b.org").is_empty());
    assert!(!rig.web().clusters.contains_key("default/first/80"));
}

#[test]
fn a_reference_that_cannot_be_followed_closes_the_listener_until_it_can() {
    for (filter, reason, what) in [
        (ask("nobody", ""), "InvalidListenerFilterRef", "Service/default/nobody does not exist"),
        (ask("auth", ", namespace: other"), "RefNotPermitted", "no ReferenceGrant in other"),
        (ask("blue", ", kind: Bucket"), "InvalidListenerFilterRef", "expected a Service"),
    ] {
        let mut rig = Rig::with(&gateway(&filter));
        rig.apply(&service("auth", "other"));
        rig.apply(&routed("b.org, x.plain.org"));
        is(rig.listener(0, "Accepted"), "True", "Accepted");
        is(rig.listener(0, "ResolvedRefs"), "False", reason);
        let told = message(&rig, 0, "ResolvedRefs");
        assert!(
            told.contains("filters.requests[0].externalAuth.backendRef: ") && told.contains(what),
            "{told}"
        );
        is(rig.listener(1, "ResolvedRefs"), "True", "ResolvedRefs");
        for domain in ["*", "b.org"] {
            let host = rig.web().host("default/web/80", domain).unwrap();
            assert_eq!((host.otherwise, host.routes.len()), (ir::Otherwise::Closed, 0), "{domain}");
        }
        assert_eq!(rig.web().host("default/web/80", "x.plain.org").unwrap().routes.len(), 1);
        rig.apply(&service("nobody", "default"));
        rig.apply(
            "kind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], to: [{group: '', kind: Service}]}",
        );
        let open = rig.web().host("default/web/80", "b.org").unwrap();
        let heals = !filter.contains("Bucket");
        assert_eq!((open.routes.len() == 1, open.auth.len() == 1), (heals, heals), "{filter}");
    }
}

#[test]
fn a_revoked_grant_closes_the_listener_at_once() {
    let mut rig = Rig::with(&gateway(&ask("auth", ", namespace: other")));
    rig.apply(&service("auth", "other"));
    rig.apply(&routed("b.org"));
    rig.apply(
        "kind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], to: [{group: '', kind: Service, name: auth}]}",
    );
    assert_eq!(asked(&rig, "default/web/80", "b.org"), ["other/auth/80"]);
    let grant = ObjectKey::new(Kind::ReferenceGrant, "other", "g");
    rig.change(vec![(grant, None)]);
    assert_eq!(rig.web().host("default/web/80", "b.org").unwrap().otherwise, ir::Otherwise::Closed);
    assert!(!rig.web().clusters.contains_key("other/auth/80"));
}

#[test]
fn a_filter_that_is_wrong_by_itself_is_not_accepted_and_nothing_is_served() {
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: b.org}}";
    let extension = "{type: ExtensionRef, extensionRef: {group: example.com, kind: Wasm, name: w}}";
    let auth = |protocol: &str, rest: &str| {
        let backend = "backendRef: {name: blue, port: 80}";
        format!("{{type: ExternalAuth, externalAuth: {{protocol: {protocol}, {backend}{rest}}}}}")
    };
    for (filter, reason, what) in [
        (rewrite.to_owned(), "InvalidListenerFilter", "filters.requests[1].type: expected ExternalAuth"),
        (extension.to_owned(), "UnsupportedValue", "filters.requests[1]: ExtensionRef"),
        (auth("FTP", ""), "InvalidListenerFilter", "requests[1].externalAuth.protocol \"FTP\""),
        (auth("HTTP", ", http: {path: /a/../b}"), "InvalidListenerFilter", "externalAuth.http.path"),
        ("{type: Nothing}".to_owned(), "InvalidListenerFilter", "filters.requests[1]: "),
    ] {
        let mut rig = Rig::with(&gateway(&format!("{}, {filter}", ask("blue", ""))));
        rig.apply(&routed("b.org, x.plain.org"));
        is(rig.listener(0, "Accepted"), "False", reason);
        let told = message(&rig, 0, "Accepted");
        assert!(told.contains(what), "{told}");
        is(rig.listener(0, "Programmed"), "False", "Invalid");
        is(rig.listener(1, "Accepted"), "True", "Accepted");
        assert!(rig.web().host("default/web/80", "b.org").is_none());
        assert!(rig.web().host("default/web/80", "x.plain.org").is_some());
    }
}

#[test]
fn a_listener_without_requests_has_no_filters() {
    let rig = Rig::with(
        "kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners:
  - {name: tcp, port: 90, protocol: TCP, filters: {requests: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}]}}
  - {name: http, port: 80, protocol: HTTP, filters: {}}",
    );
    is(rig.listener(0, "Accepted"), "False", "InvalidListenerFilter");
    assert!(message(&rig, 0, "Accepted").contains("protocol TCP"));
    is(rig.listener(1, "Accepted"), "True", "Accepted");
}

#[test]
fn a_listener_set_refers_from_its_own_namespace() {
    let mut rig = Rig::with(
        "kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  allowedListeners: {namespaces: {from: All}}\n  listeners: [{name: http, port: 80, protocol: HTTP}]",
    );
    rig.apply(&format!(
        "kind: ListenerSet\nmetadata: {{name: s, namespace: team}}\nspec:\n  parentRef: {{name: web, namespace: default}}\n  listeners:\n  - {{name: own, port: 80, protocol: HTTP, hostname: team.org, filters: {{requests: [{}]}}}}",
        ask("auth", "")
    ));
    let set = |rig: &Rig| {
        let key = ObjectKey::new(Kind::ListenerSet, "team", "s");
        let report = serde_json::to_value(rig.engine.report(&key, &|_, _| Programmed::Yes)).unwrap();
        let conditions = report["listeners"][0]["conditions"].as_array().unwrap().clone();
        let one = conditions.into_iter().find(|one| one["type"] == "ResolvedRefs").unwrap();
        one["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(set(&rig), "InvalidListenerFilterRef");
    let attached = |rig: &Rig| rig.report(Kind::Gateway, "web")["attachedListenerSets"].clone();
    assert_eq!(attached(&rig), 0);
    rig.apply(&service("auth", "team"));
    assert_eq!(set(&rig), "ResolvedRefs");
    assert_eq!(attached(&rig), 1);
    assert_eq!(asked(&rig, "default/web/80", "team.org"), ["team/auth/80"]);
    assert!(asked(&rig, "default/web/80", "*").is_empty(), "the Gateway's own listener has none");
}

#[test]
fn the_policy_of_a_server_tells_of_the_gateway() {
    let mut rig = Rig::with(&gateway(&ask("auth", "")));
    rig.apply(&service("auth", "default"));
    rig.apply(&routed("b.org"));
    rig.apply(
        "kind: BackendTLSPolicy\nmetadata: {name: p, namespace: default}\nspec: {targetRefs: [{group: '', kind: Service, name: auth}], validation: {hostname: auth.org, wellKnownCACertificates: System}}",
    );
    let report = rig.report(Kind::BackendTlsPolicy, "p");
    assert_eq!(report["ancestors"][0]["ancestorRef"]["name"], "web", "{report}");
    let [server] = asked(&rig, "default/web/80", "b.org").try_into().unwrap();
    assert!(rig.web().clusters[server.as_str()].tls.is_some(), "{server}");
}
