//! ClusterTrustBundles as authorities (GEP-5075), of backends and of clients.

use std::collections::BTreeSet;

use super::*;

const REFERENCE: &str = "{group: certificates.k8s.io, kind: ClusterTrustBundle, name: 'example.com:ca:one'}";

fn bundle(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        "kind: ClusterTrustBundle\nmetadata: {{name: 'example.com:ca:one'}}\nspec: {{signerName: example.com/ca, trustBundle: {text}}}"
    )
}

/// A route to a backend over TLS, and clients of an HTTPS listener, who are all judged by one bundle.
fn rig() -> Rig {
    let validation = format!("{{validation: {{caCertificateRefs: [{REFERENCE}]}}}}");
    let mut rig = Rig::with(&http_route("r", "  rules: [{backendRefs: [{name: blue, port: 80}]}]"));
    rig.apply(&certificate_secret("c", "a.org"));
    rig.apply(&format!(
        "kind: Gateway
metadata: {{name: web, namespace: default}}
spec:
  gatewayClassName: portolan
  tls: {{frontend: {{default: {validation}}}}}
  listeners:
  - {{name: http, port: 80, protocol: HTTP}}
  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: c}}]}}}}"
    ));
    rig.apply(&format!(
        "kind: BackendTLSPolicy
metadata: {{name: p, namespace: default}}
spec: {{targetRefs: [{{group: '', kind: Service, name: blue}}], validation: {{hostname: a.org, caCertificateRefs: [{REFERENCE}]}}}}"
    ));
    rig
}

/// What proxies trust: the backend's authorities and the clients'.
fn trusted(rig: &Rig) -> Vec<Option<String>> {
    let bundle = |name: &str| match &rig.web().secrets.get(name)?.body {
        ir::SecretBody::Authorities { bundle } => Some(bundle.trim().to_owned()),
        ir::SecretBody::Certificate { .. } => None,
    };
    ["default/p/authorities", "default/web/clients"].map(bundle).into()
}

/// That nothing is trusted, and why: the reason of a policy's reference, and of a listener's.
fn is_refused(rig: &Rig, policy: &str, listener: &str, why: &str) {
    assert_eq!(trusted(rig), [None, None], "{why}");
    let said = |type_| rig.condition(Kind::BackendTlsPolicy, "p", "/ancestors/0/conditions", type_);
    let (status, reason, message) = said("ResolvedRefs");
    assert_eq!((&*status, &*reason), ("False", policy), "{message}");
    assert!(message.contains(why), "{message}");
    let (status, reason, _) = said("Accepted");
    is((status, reason), "False", "NoValidCACertificate");
    is(rig.listener(1, "ResolvedRefs"), "False", listener);
    is(rig.listener(1, "Accepted"), "False", "NoValidCACertificate");
    let route = &rig.web().host("default/web/80", "*").unwrap().routes[0];
    assert!(matches!(route.action.target, ir::Target::Answer { status: 500, .. }), "{route:?}");
}

#[test]
fn a_bundle_is_trusted_as_long_as_it_is_there_and_as_it_is_now() {
    let mut rig = rig();
    is_refused(&rig, "InvalidCACertificateRef", "InvalidCACertificateRef", "one does not exist");
    let (first, second) = (authority(), authority());
    for text in [&first, &second] {
        rig.apply(&bundle(text));
        let text = Some(text.trim().to_owned());
        assert_eq!(trusted(&rig), [text.clone(), text]);
        is(rig.listener(1, "ResolvedRefs"), "True", "ResolvedRefs");
    }
    let before = rig.web().listeners.clone();
    rig.apply(&bundle(&first));
    assert_eq!(rig.web().listeners, before, "a new bundle changes no listener");
    rig.remove(Kind::ClusterTrustBundle, "example.com:ca:one");
    is_refused(&rig, "InvalidCACertificateRef", "InvalidCACertificateRef", "one does not exist");
}

#[test]
fn a_bundle_that_holds_no_certificate_is_refused() {
    let mut rig = rig();
    for text in ["", "nonsense"] {
        rig.apply(&bundle(text));
        let why = "spec.trustBundle holds no certificate";
        is_refused(&rig, "InvalidCACertificateRef", "InvalidCACertificateRef", why);
    }
}

#[test]
fn where_the_api_server_does_not_serve_bundles_the_kind_is_refused() {
    let mut rig = rig();
    rig.apply(&bundle(&authority()));
    let environment = |absent: BTreeSet<Kind>| Environment { absent, ..Environment::default() };
    rig.tell(|engine| engine.set_environment(environment([Kind::ClusterTrustBundle].into())));
    is_refused(&rig, "InvalidKind", "InvalidCACertificateKind", "does not serve ClusterTrustBundle");
    rig.tell(|engine| engine.set_environment(environment(BTreeSet::new())));
    assert!(trusted(&rig).iter().all(Option::is_some));
}
