//! Validation of clients (GEP-91), after the suite's four tests of it.

use super::*;

/// HTTPS on 443 and 8443 and HTTP on 80, with a certificate; `tls` is spec.tls.
fn gateway(tls: &str) -> String {
    let https = "protocol: HTTPS, tls: {certificateRefs: [{name: c}]}";
    format!(
        "kind: Gateway\nmetadata: {{name: web, namespace: default}}\nspec:\n  gatewayClassName: portolan\n  tls: {tls}\n  listeners:
  - {{name: https, port: 443, {https}}}
  - {{name: other, port: 8443, {https}}}
  - {{name: http, port: 80, protocol: HTTP}}"
    )
}

fn validation(reference: &str) -> String {
    format!("{{validation: {{caCertificateRefs: [{reference}]}}}}")
}

fn map(name: &str, namespace: &str, authorities: &str) -> String {
    let text = serde_json::to_string(authorities).unwrap();
    format!("kind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{ca.crt: {text}}}")
}

fn authority() -> String {
    rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem()
}

fn rig(tls: &str) -> Rig {
    let mut rig = Rig::with(&gateway(tls));
    rig.apply(&certificate_secret("c", "a.org"));
    rig
}

fn check(rig: &Rig, port: u16) -> Option<ir::ClientValidation> {
    let chain = &rig.web().listeners[format!("default/web/{port}").as_str()].chains[0];
    chain.tls.as_ref().unwrap().client_validation.clone()
}

#[test]
fn a_port_of_its_own_overrides_the_default_and_plain_text_is_left_alone() {
    let (one, two) = ("{kind: ConfigMap, group: '', name: one}", "{kind: ConfigMap, group: '', name: two}");
    let mut rig = rig(&format!(
        "{{frontend: {{default: {}, perPort: [{{port: 8443, tls: {}}}]}}}}",
        validation(one),
        validation(two)
    ));
    let (first, second) = (authority(), authority());
    rig.apply(&map("one", "default", &first));
    rig.apply(&map("two", "default", &second));
    let names =
        |port| check(&rig, port).map(|check| (check.authorities.to_string(), check.insecure_fallback));
    assert_eq!(names(443), Some(("default/web/clients".into(), false)));
    assert_eq!(names(8443), Some(("default/web/clients/8443".into(), false)));
    assert_eq!(bundle(&rig, "default/web/clients").trim(), first.trim());
    assert_eq!(bundle(&rig, "default/web/clients/8443").trim(), second.trim());
    for index in 0..3 {
        is(rig.listener(index, "Accepted"), "True", "Accepted");
        is(rig.listener(index, "ResolvedRefs"), "True", "ResolvedRefs");
    }
    assert!(rig.web().listeners["default/web/80"].chains[0].tls.is_none());
    let before = rig.web().listeners.clone();
    rig.apply(&map("one", "default", &authority()));
    assert_ne!(bundle(&rig, "default/web/clients"), first, "an edit of the ConfigMap reaches the proxies");
    assert_eq!(rig.web().listeners, before, "and changes no listener");
    rig.apply(&gateway(&format!(
        "{{frontend: {{default: {}, perPort: [{{port: 8443, tls: {{}}}}]}}}}",
        validation(one)
    )));
    assert_eq!(check(&rig, 8443), None, "an entry without validation switches it off");
    assert!(!rig.web().secrets.contains_key("default/web/clients/8443"));
}

fn bundle(rig: &Rig, name: &str) -> String {
    let ir::SecretBody::Authorities { bundle } = &rig.web().secrets[name].body else { panic!("{name}") };
    bundle.to_string()
}

#[test]
fn a_reference_that_cannot_be_used_closes_the_listeners_of_its_ports_only() {
    for (reference, reason) in [
        ("{kind: ConfigMap, group: '', name: nobody}", "InvalidCACertificateRef"),
        ("{kind: ConfigMap, group: '', name: malformed}", "InvalidCACertificateRef"),
        ("{kind: ConfigMap, group: '', name: empty}", "InvalidCACertificateRef"),
        ("{kind: Service, group: '', name: blue}", "InvalidCACertificateKind"),
        ("{kind: ConfigMap, group: '', name: one, namespace: other}", "RefNotPermitted"),
        ("{kind: ConfigMap, group: '', name: nobody, namespace: other}", "RefNotPermitted"),
    ] {
        let mut rig = rig(&format!(
            "{{frontend: {{default: {{}}, perPort: [{{port: 8443, tls: {}}}]}}}}",
            validation(reference)
        ));
        rig.apply(&map(
            "malformed",
            "default",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ));
        rig.apply(&map("empty", "default", "nothing"));
        rig.apply(&map("one", "other", &authority()));
        is(rig.listener(1, "ResolvedRefs"), "False", reason);
        is(rig.listener(1, "Accepted"), "False", "NoValidCACertificate");
        is(rig.listener(1, "Programmed"), "False", "Invalid");
        for index in [0, 2] {
            is(rig.listener(index, "Accepted"), "True", "Accepted");
            is(rig.listener(index, "Programmed"), "True", "Programmed");
        }
        assert!(!rig.web().listeners.contains_key("default/web/8443"), "{reference}");
        assert_eq!(check(&rig, 443), None);
    }
}

#[test]
fn a_grant_opens_a_config_map() {
    let mut rig = rig(&format!(
        "{{frontend: {{default: {}}}}}",
        validation("{kind: ConfigMap, group: '', name: one, namespace: other}")
    ));
    rig.apply(&map("one", "other", &authority()));
    is(rig.listener(0, "ResolvedRefs"), "False", "RefNotPermitted");
    let grant = |to: &str| {
        format!(
            "kind: ReferenceGrant\nmetadata: {{name: g, namespace: other}}\nspec: {{from: [{{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}}], to: [{{group: '', kind: {to}}}]}}"
        )
    };
    rig.apply(&grant("Secret"));
    is(rig.listener(0, "ResolvedRefs"), "False", "RefNotPermitted");
    rig.apply(&grant("ConfigMap"));
    is(rig.listener(0, "ResolvedRefs"), "True", "ResolvedRefs");
    assert!(check(&rig, 443).is_some());
}

#[test]
fn one_usable_reference_among_several_is_enough_to_serve() {
    let mut rig = rig(&format!(
        "{{frontend: {{default: {}}}}}",
        validation("{kind: ConfigMap, group: '', name: one}, {kind: ConfigMap, group: '', name: nobody}")
    ));
    rig.apply(&map("one", "default", &authority()));
    is(rig.listener(0, "ResolvedRefs"), "False", "InvalidCACertificateRef");
    is(rig.listener(0, "Accepted"), "True", "Accepted");
    assert!(check(&rig, 443).is_some());
}

#[test]
fn the_insecure_fallback_is_said_on_the_gateway() {
    let reference = "{kind: ConfigMap, group: '', name: one}";
    let with = |mode: &str| {
        format!(
            "{{frontend: {{default: {{validation: {{caCertificateRefs: [{reference}], mode: {mode}}}}}}}}}"
        )
    };
    let mut rig = rig(&with("AllowInsecureFallback"));
    rig.apply(&map("one", "default", &authority()));
    let (status, reason, _) =
        rig.condition(Kind::Gateway, "web", "/conditions", "InsecureFrontendValidationMode");
    is((status, reason), "True", "ConfigurationChanged");
    assert!(check(&rig, 443).unwrap().insecure_fallback);
    rig.apply(&gateway(&with("AllowValidOnly")));
    let report = rig.report(Kind::Gateway, "web").to_string();
    assert!(!report.contains("InsecureFrontendValidationMode"), "it is not written when it is false");
    assert!(!check(&rig, 443).unwrap().insecure_fallback);
}

#[test]
fn the_server_name_of_a_closed_listener_is_not_served_by_a_wider_one() {
    let mut rig = Rig::with(
        "kind: Gateway\nmetadata: {name: web, namespace: default}\nspec:\n  gatewayClassName: portolan\n  listeners:
  - {name: any, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}
  - {name: lost, port: 443, hostname: lost.org, protocol: HTTPS, tls: {certificateRefs: [{name: nobody}]}}",
    );
    rig.apply(&certificate_secret("c", "a.org"));
    let chains = &rig.web().listeners["default/web/443"].chains;
    let closed = chains.iter().find(|chain| chain.server_name.as_deref() == Some("lost.org")).unwrap();
    assert_eq!(closed.traffic, ir::ChainTraffic::Closed);
    assert_eq!(chains.len(), 2);
}
