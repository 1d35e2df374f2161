//! References to backends, and the grants that they need.

use portolan_xds::ir::{self, Target};

use super::*;

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
fn loopback_is_a_backend_of_files_only() {
    let mut rig = Rig::with(&http_route("a", "  rules: [{backendRefs: [{name: blue, port: 80}]}]"));
    rig.apply("kind: EndpointSlice\nmetadata: {name: blue-1, labels: {kubernetes.io/service-name: blue}}\nports: [{port: 8080}]\nendpoints: [{addresses: [127.0.0.1]}, {addresses: [169.254.169.254]}, {addresses: [10.0.0.1]}]");
    let addresses = |rig: &Rig| {
        let endpoints = &rig.web().endpoints["default/blue/80"].endpoints;
        endpoints.iter().map(|one| one.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(&rig), ["10.0.0.1:8080", "127.0.0.1:8080"]);
    let kubernetes = Environment { provenance: Provenance::Kubernetes, ..Environment::default() };
    rig.tell(|engine| engine.set_environment(kubernetes));
    assert_eq!(addresses(&rig), ["10.0.0.1:8080"]);
}

#[test]
fn a_grpc_route_without_a_valid_backend_is_unavailable() {
    for backends in ["[]", "[{name: nobody, port: 80}]", "[{name: blue, port: 80, weight: 0}]"] {
        let mut rig = Rig::with("");
        rig.apply(&format!("kind: GRPCRoute\nmetadata: {{name: g, namespace: default}}\nspec:\n  parentRefs: [{{name: web}}]\n  rules: [{{backendRefs: {backends}}}]"));
        let host = rig.web().host("default/web/80", "*").unwrap();
        assert!(matches!(host.routes[0].action.target, Target::Answer { status: 503, .. }), "{backends}");
    }
}
