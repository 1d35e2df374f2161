//! BackendTLSPolicy, and what a Gateway shows to backends.

use portolan_xds::ir::{Cluster, UpstreamTrust};

use super::*;

const ROUTE: &str = "  rules: [{backendRefs: [{name: blue, port: 80}]}]";

fn policy(name: &str, created: u16, rest: &str, validation: &str) -> String {
    format!(
        "kind: BackendTLSPolicy\nmetadata: {{name: {name}, namespace: default, generation: 2, creationTimestamp: '{created}-01-01T00:00:00Z'}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: {rest}}}], validation: {{{validation}}}}}"
    )
}

const WITH_CA: &str = "hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";

fn config_map(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!("kind: ConfigMap\nmetadata: {{name: ca, namespace: default}}\ndata: {{ca.crt: {text}}}")
}

fn rig() -> Rig {
    let mut rig = Rig::with(&http_route("r", ROUTE));
    rig.apply(&config_map(&authority()));
    rig
}

impl Rig {
    fn policy(&self, name: &str, type_: &str) -> (String, String, String) {
        self.condition(Kind::BackendTlsPolicy, name, "/ancestors/0/conditions", type_)
    }

    fn only_cluster(&self) -> &Cluster {
        let clusters: Vec<_> = self.web().clusters.values().collect();
        assert_eq!(clusters.len(), 1, "{clusters:?}");
        clusters[0]
    }

    fn answer(&self) -> Option<u16> {
        let host = self.web().host("default/web/80", "*").unwrap();
        match host.routes[0].action.target {
            ir::Target::Answer { status, .. } => Some(status),
            _ => None,
        }
    }
}

#[test]
fn a_policy_makes_another_cluster_with_its_authorities_and_takes_both_away() {
    let mut rig = rig();
    assert_eq!(&*rig.only_cluster().name, "default/blue/80");
    rig.apply(&policy("p", 2020, "blue", WITH_CA));
    let cluster = rig.only_cluster().clone();
    assert!(cluster.name.starts_with("default/blue/80/"), "{}", cluster.name);
    let tls = cluster.tls.unwrap();
    assert_eq!(&*tls.server_name, "a.org");
    assert_eq!(tls.trust, UpstreamTrust::Authorities("default/p/authorities".into()));
    assert!(rig.web().secrets.contains_key("default/p/authorities"));
    assert!(rig.web().endpoints.contains_key(&cluster.name));
    let (status, reason, _) = rig.policy("p", "Accepted");
    is((status, reason), "True", "Accepted");
    let report = rig.report(Kind::BackendTlsPolicy, "p");
    assert_eq!(report["ancestors"][0]["ancestorRef"]["name"], "web");
    assert_eq!(report["ancestors"][0]["conditions"][0]["observedGeneration"], 2);

    rig.remove(Kind::BackendTlsPolicy, "p");
    assert_eq!(&*rig.only_cluster().name, "default/blue/80");
    assert!(rig.web().secrets.is_empty());
}

#[test]
fn new_authorities_change_a_secret_and_nothing_else() {
    let mut rig = rig();
    rig.apply(&policy("p", 2020, "blue", WITH_CA));
    let before = rig.web().secrets["default/p/authorities"].clone();
    rig.apply(&config_map(&authority()));
    assert_ne!(rig.web().secrets["default/p/authorities"], before);
    let delta = rig.last.deltas.values().next().unwrap();
    assert!(delta.clusters.is_empty() && delta.virtual_hosts.is_empty(), "{delta:?}");
}

#[test]
fn what_cannot_be_verified_is_not_spoken_to() {
    for (validation, accepted, resolved) in [
        (
            "hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: nobody}]",
            ("NoValidCACertificate", "ConfigMap/default/nobody does not exist"),
            "InvalidCACertificateRef",
        ),
        (
            "hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: bad}]",
            ("NoValidCACertificate", "ca.crt holds no certificate"),
            "InvalidCACertificateRef",
        ),
        (
            "hostname: a.org, caCertificateRefs: [{group: x.io, kind: Vault, name: ca}]",
            ("NoValidCACertificate", "x.io/Vault ca: expected a ConfigMap"),
            "InvalidKind",
        ),
        (
            "hostname: a.org, wellKnownCACertificates: Mars",
            ("Invalid", "wellKnownCACertificates Mars is not supported: expected System"),
            "ResolvedRefs",
        ),
        ("hostname: a.org", ("Invalid", "names no authorities"), "ResolvedRefs"),
        (
            "hostname: '*.a.org', wellKnownCACertificates: System",
            ("Invalid", "is not a DNS name without wildcard"),
            "ResolvedRefs",
        ),
        (
            "hostname: a.org, wellKnownCACertificates: System, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]",
            ("Invalid", "exclude each other"),
            "ResolvedRefs",
        ),
        (
            "hostname: a.org, wellKnownCACertificates: System, subjectAltNames: [{type: URI, uri: relative}]",
            ("Invalid", "subjectAltNames[0]: expected type Hostname"),
            "ResolvedRefs",
        ),
    ] {
        let mut rig = rig();
        rig.apply("kind: ConfigMap\nmetadata: {name: bad, namespace: default}\ndata: {ca.crt: nonsense}");
        rig.apply(&policy("p", 2020, "blue", validation));
        let (status, reason, message) = rig.policy("p", "Accepted");
        is((status, reason), "False", accepted.0);
        assert!(message.contains(accepted.1), "{message}");
        assert_eq!(rig.policy("p", "ResolvedRefs").1, resolved, "{validation}");
        assert_eq!(rig.answer(), Some(500), "{validation}");
        assert!(rig.web().clusters.is_empty(), "never in clear text");
        // The route's own references are fine.
        is(rig.route("r", "ResolvedRefs"), "True", "ResolvedRefs");
        // Once it can be verified, it is spoken to.
        rig.apply(&policy("p", 2020, "blue", WITH_CA));
        assert_eq!(rig.answer(), None);
    }
}

#[test]
fn one_good_reference_is_enough_and_the_others_are_told() {
    let mut rig = rig();
    rig.apply(&policy("p", 2020, "blue", "hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: nobody}, {group: '', kind: ConfigMap, name: ca}]"));
    assert_eq!(rig.policy("p", "Accepted").1, "Accepted");
    let (status, reason, message) = rig.policy("p", "ResolvedRefs");
    is((status, reason), "False", "InvalidCACertificateRef");
    assert!(message.starts_with("validation.caCertificateRefs[0]: "), "{message}");
    assert_eq!(rig.answer(), None);
}

#[test]
fn the_oldest_policy_is_in_force_and_the_next_one_follows_it() {
    let mut rig = rig();
    rig.apply(&policy("b", 2020, "blue", WITH_CA));
    rig.apply(&policy("a", 2021, "blue", "hostname: b.org, wellKnownCACertificates: System"));
    let name = |rig: &Rig| rig.only_cluster().tls.clone().unwrap().server_name;
    assert_eq!(&*name(&rig), "a.org");
    let (status, reason, message) = rig.policy("a", "Accepted");
    is((status, reason), "False", "Conflicted");
    assert!(
        message.contains("BackendTLSPolicy/default/b is older and in force on Service/default/blue"),
        "{message}"
    );
    rig.remove(Kind::BackendTlsPolicy, "b");
    assert_eq!(&*name(&rig), "b.org");
    assert_eq!(rig.policy("a", "Accepted").1, "Accepted");
}

#[test]
fn a_policy_about_a_port_goes_before_one_about_the_service() {
    let mut rig = rig();
    rig.apply(
        "kind: Service\nmetadata: {name: blue}\nspec: {ports: [{name: x, port: 80}, {name: other, port: 81}]}",
    );
    rig.apply(&policy("whole", 2020, "blue", WITH_CA));
    rig.apply(&policy(
        "port",
        2021,
        "blue, sectionName: x",
        "hostname: x.org, wellKnownCACertificates: System",
    ));
    assert_eq!(&*rig.only_cluster().tls.as_ref().unwrap().server_name, "x.org");
    for name in ["whole", "port"] {
        assert_eq!(rig.policy(name, "Accepted").1, "Accepted");
    }
    rig.apply(&policy(
        "port",
        2021,
        "blue, sectionName: z",
        "hostname: x.org, wellKnownCACertificates: System",
    ));
    let (status, reason, message) = rig.policy("port", "Accepted");
    is((status, reason), "False", "TargetNotFound");
    assert!(message.contains("Service/default/blue has no port named z"), "{message}");
}

#[test]
fn a_policy_that_no_gateway_reaches_says_nothing() {
    let mut rig = rig();
    rig.apply(&policy("p", 2020, "blue", WITH_CA));
    assert_eq!(rig.report(Kind::BackendTlsPolicy, "p")["ancestors"].as_array().unwrap().len(), 1);
    rig.remove(Kind::HttpRoute, "r");
    assert!(rig.last.reports.contains(&ObjectKey::new(Kind::BackendTlsPolicy, "default", "p")));
    assert_eq!(rig.report(Kind::BackendTlsPolicy, "p")["ancestors"].as_array().unwrap().len(), 0);
}

fn with_client(reference: &str) -> String {
    format!(
        "kind: Gateway\nmetadata: {{name: web, namespace: default, generation: 4}}\nspec:\n  gatewayClassName: portolan\n  tls: {{backend: {{clientCertificateRef: {reference}}}}}\n  listeners: [{{name: http, port: 80, protocol: HTTP}}]"
    )
}

#[test]
fn a_gateway_shows_its_certificate_to_backends_that_speak_tls() {
    let mut rig = rig();
    rig.apply(&policy("p", 2020, "blue", WITH_CA));
    rig.apply(&certificate_secret("c", "client.org"));
    let shown = |rig: &Rig| rig.only_cluster().tls.clone().unwrap().client_certificate;
    assert_eq!(shown(&rig), None);
    rig.apply(&with_client("{name: c}"));
    assert_eq!(shown(&rig).as_deref(), Some("default/web/client"));
    let first = rig.web().secrets["default/web/client"].clone();
    let (status, reason, _) = rig.condition(Kind::Gateway, "web", "/conditions", "ResolvedRefs");
    is((status, reason), "True", "ResolvedRefs");
    rig.apply(&certificate_secret("c", "client.org"));
    assert_ne!(rig.web().secrets["default/web/client"], first, "a rotation is followed");
    rig.apply(&BASE.split("\n---\n").nth(1).unwrap().replace("generation: 3", "generation: 5"));
    assert_eq!(shown(&rig), None);
    assert!(!rig.web().secrets.contains_key("default/web/client"));
}

#[test]
fn a_certificate_for_backends_that_cannot_be_used_is_told_and_the_gateway_goes_on() {
    for (reference, reason, text) in [
        ("{name: nobody}", "InvalidClientCertificateRef", "Secret/default/nobody does not exist"),
        ("{name: c, kind: Vault, group: x.io}", "InvalidClientCertificateRef", "expected a Secret"),
        ("{name: broken}", "InvalidClientCertificateRef", "tls.key is missing"),
        ("{name: c, namespace: other}", "RefNotPermitted", "no ReferenceGrant in other allows"),
    ] {
        let mut rig = rig();
        rig.apply("kind: Secret\nmetadata: {name: broken, namespace: default}\ntype: kubernetes.io/tls\nstringData: {tls.crt: x}");
        rig.apply(&with_client(reference));
        let (status, found, message) = rig.condition(Kind::Gateway, "web", "/conditions", "ResolvedRefs");
        is((status, found), "False", reason);
        assert!(
            message.starts_with("tls.backend.clientCertificateRef: ") && message.contains(text),
            "{message}"
        );
        let (status, _, _) = rig.condition(Kind::Gateway, "web", "/conditions", "Accepted");
        assert_eq!(status, "True");
        assert_eq!(rig.answer(), None, "traffic goes on");
    }
}
