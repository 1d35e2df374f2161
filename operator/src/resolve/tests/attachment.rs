//! Which listeners take a route.

use super::*;

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
fn a_foreign_class_is_left_alone() {
    let mut rig = Rig::with(&http_route("a", "  rules: [{backendRefs: [{name: blue, port: 80}]}]"));
    rig.apply("kind: GatewayClass\nmetadata: {name: portolan}\nspec: {controllerName: example.com/other}");
    assert_eq!(*rig.web(), Told::default());
    assert_eq!(rig.report(Kind::Gateway, "web"), Value::Null);
    assert_eq!(rig.report(Kind::HttpRoute, "a")["parents"], Value::Array(vec![]));
}

#[test]
fn a_route_that_is_not_accepted_is_not_counted() {
    let route = |expression: &str| {
        http_route(
            "a",
            &format!(
                "  rules: [{{matches: [{{path: {{type: RegularExpression, value: '{expression}'}}}}], backendRefs: [{{name: blue, port: 80}}]}}]"
            ),
        )
    };
    let mut rig = Rig::with(&route("("));
    let attached = |rig: &Rig| rig.report(Kind::Gateway, "web")["listeners"][0]["attachedRoutes"].clone();
    is(rig.route("a", "Accepted"), "False", "UnsupportedValue");
    assert_eq!(attached(&rig), 0);
    rig.apply(&route("/a+"));
    is(rig.route("a", "Accepted"), "True", "Accepted");
    assert_eq!(attached(&rig), 1);
    rig.apply(&route("("));
    assert_eq!(attached(&rig), 0);
}

#[test]
fn a_hostname_that_is_none_is_named() {
    let of = |hostnames: &str| {
        let rig = Rig::with(&http_route(
            "a",
            &format!("  hostnames: [{hostnames}]\n  rules: [{{backendRefs: [{{name: blue, port: 80}}]}}]"),
        ));
        rig.condition(Kind::HttpRoute, "a", "/parents/0/conditions", "Accepted")
    };
    let (status, _, message) = of("a.org, 1.2.3.4");
    assert!(status == "True" && message.contains("\"1.2.3.4\" is not a hostname"), "{message}");
    let (status, reason, message) = of("'*'");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoMatchingListenerHostname"));
    assert!(message.contains("\"*\" is not a hostname"), "{message}");
}

#[test]
fn a_class_lists_what_works_and_judges_the_crds() {
    let mut rig = Rig::with("");
    let of = |rig: &Rig| rig.condition(Kind::GatewayClass, "portolan", "/conditions", "SupportedVersion");
    let features = |rig: &Rig| rig.report(Kind::GatewayClass, "portolan")["supportedFeatures"].clone();
    let (status, reason, _) = of(&rig);
    is((status, reason), "True", "SupportedVersion");
    let experimental = serde_json::json!({"name": "HTTPRouteDestinationPortMatching"});
    assert!(features(&rig).as_array().unwrap().contains(&experimental));
    let bundle = |version: &str| Some(Bundle { version: version.into(), channel: Channel::Standard });
    let environment =
        |bundle| Environment { provenance: Provenance::Kubernetes, bundle, ..Environment::default() };
    for (bundle, status, reason) in [
        (bundle("v1.6.3"), "True", "SupportedVersion"),
        (bundle("v1.4.0"), "False", "UnsupportedVersion"),
        (bundle("v2.0.0"), "False", "UnsupportedVersion"),
        (None, "False", "UnsupportedVersion"),
    ] {
        rig.tell(|engine| engine.set_environment(environment(bundle)));
        assert!(rig.last.reports.contains(&ObjectKey::new(Kind::GatewayClass, "", "portolan")));
        let (found, why, message) = of(&rig);
        assert_eq!((found.as_str(), why.as_str()), (status, reason), "{message}");
        assert!(!features(&rig).as_array().unwrap().contains(&experimental));
    }
}
