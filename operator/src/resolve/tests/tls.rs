//! Certificates, and hosts that belong to other listeners.

use super::*;

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
    let host = |table: &str, domain: &str| {
        rig.web().host(table, domain).map(|host| host.otherwise == ir::Otherwise::Misdirected)
    };
    assert_eq!(host("default/web/443/a.org", "a.org"), Some(false));
    assert_eq!(host("default/web/443/a.org", "*"), Some(true));
    assert_eq!(host("default/web/443/*", "*"), Some(false));
    assert_eq!(host("default/web/443/*", "a.org"), Some(true));
    is(rig.listener(0, "OverlappingTLSConfig"), "True", "OverlappingHostnames");
}

#[test]
fn an_expired_certificate_is_served_and_said() {
    let mut rig = Rig::with(HTTPS);
    rig.apply(&certificate_until("c", 2029));
    let types = |rig: &Rig| {
        let report = rig.report(Kind::Gateway, "web");
        let list = report["listeners"][0]["conditions"].as_array().unwrap().clone();
        list.iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let condition = "portolan.dev/CertificateExpired".to_owned();
    let expiry = rig.engine.next_expiry().unwrap();
    rig.tell(|engine| engine.set_time(expiry - 1));
    assert!(rig.last.reports.is_empty() && !types(&rig).contains(&condition));
    rig.tell(|engine| engine.set_time(expiry));
    assert!(rig.last.reports.contains(&ObjectKey::new(Kind::Gateway, "default", "web")));
    assert_eq!(rig.engine.next_expiry(), None);
    let (status, _, message) = rig.condition(Kind::Gateway, "web", "/listeners/0/conditions", &condition);
    assert_eq!(status, "True");
    assert!(message.contains("Secret/default/c expired at 2029-12-31"), "{message}");
    is(rig.listener(0, "ResolvedRefs"), "True", "ResolvedRefs");
    assert!(rig.web().secrets.contains_key("default/c"));
    rig.apply(&certificate_until("c", 2039));
    assert!(!types(&rig).contains(&condition));
}
