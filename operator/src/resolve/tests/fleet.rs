//! What a Gateway asks of its fleet, and what the fleet says of addresses.

use super::*;

fn gateway(rest: &str) -> String {
    format!(
        "kind: Gateway\nmetadata: {{name: web, namespace: default, generation: 5}}\nspec:\n  gatewayClassName: portolan\n{rest}\n  listeners: [{{name: http, port: 80, protocol: HTTP}}, {{name: bad, port: 81, protocol: SCTP}}]"
    )
}

fn web() -> ObjectKey {
    ObjectKey::new(Kind::Gateway, "default", "web")
}

fn of(rig: &Rig, type_: &str) -> (String, String) {
    let (status, reason, _) = rig.condition(Kind::Gateway, "web", "/conditions", type_);
    (status, reason)
}

fn place(rig: &mut Rig, addresses: Addresses) {
    let ports = [((80, Transport::Tcp), Ok(vec![([0, 0, 0, 0], 80).into()]))].into_iter().collect();
    rig.tell(|engine| engine.place(&web(), Some(Placement { ports, addresses, ready: true, trouble: None })));
}

fn ips(addresses: &[&str]) -> Vec<AddressReport> {
    addresses.iter().map(|text| AddressReport::ip(text.parse().unwrap())).collect()
}

#[test]
fn a_plan_holds_what_the_fleets_objects_need() {
    let mut rig = Rig::with(&gateway(
        "  infrastructure: {labels: {team: a}, annotations: {example.com/note: first}}\n  addresses: [{type: IPAddress}, {value: 10.0.0.9, routability: Cluster}]",
    ));
    assert!(rig.last.fleets.contains(&web()));
    let plan = rig.engine.fleet_plan(&web()).unwrap().clone();
    assert_eq!(plan.ports.iter().copied().collect::<Vec<_>>(), [(80, Transport::Tcp)]);
    assert_eq!((&*plan.class, plan.generation), ("portolan", 5));
    assert_eq!(plan.labels["team"].as_ref(), "a");
    assert_eq!(plan.annotations["example.com/note"].as_ref(), "first");
    assert_eq!(
        plan.addresses.iter().map(|one| one.value.as_deref()).collect::<Vec<_>>(),
        [None, Some("10.0.0.9")]
    );
    assert_eq!(plan.fault, None);
    rig.apply(&http_route("a", "  rules: [{backendRefs: [{name: blue, port: 80}]}]"));
    assert!(rig.last.fleets.is_empty(), "a route is nothing to the fleet");
    rig.remove(Kind::Gateway, "web");
    assert!(rig.last.fleets.contains(&web()) && rig.engine.fleet_plan(&web()).is_none());
}

#[test]
fn addresses_that_a_type_or_a_routability_makes_unsupported() {
    for address in [
        "{type: Hostname, value: a.org}",
        "{type: test/fake, value: x}",
        "{value: 10.0.0.1, routability: x.io/far}",
    ] {
        let rig = Rig::with(&gateway(&format!("  addresses: [{{value: 10.0.0.9}}, {address}]")));
        is(of(&rig, "Accepted"), "False", "UnsupportedAddress");
        is(of(&rig, "Programmed"), "False", "Invalid");
        assert!(rig.engine.fleet_plan(&web()).unwrap().fault.is_some());
    }
}

#[test]
fn an_address_is_used_refused_or_awaited() {
    let mut rig = Rig::with(&gateway("  addresses: [{value: 10.0.0.9}]"));
    is(of(&rig, "Programmed"), "False", "AddressNotUsable");
    for (addresses, status, reason, shown) in [
        (Addresses::Assigned(ips(&["10.0.0.9"])), "True", "Programmed", vec!["10.0.0.9"]),
        (Addresses::Assigned(ips(&["10.0.0.8"])), "False", "AddressNotUsable", vec!["10.0.0.8"]),
        (
            Addresses::Pending { assigned: vec![], why: "the Service has no address yet".into() },
            "False",
            "AddressNotAssigned",
            vec![],
        ),
        (
            Addresses::Refused { assigned: vec![], why: "10.0.0.9 is outside the range of Services".into() },
            "False",
            "AddressNotUsable",
            vec![],
        ),
    ] {
        place(&mut rig, addresses);
        is(of(&rig, "Accepted"), "True", "ListenersNotValid");
        is(of(&rig, "Programmed"), status, reason);
        let report = rig.report(Kind::Gateway, "web");
        let found: Vec<&str> = report["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["value"].as_str().unwrap())
            .collect();
        assert_eq!(found, shown);
    }
}

#[test]
fn an_address_without_a_value_is_allocated() {
    let mut rig = Rig::with(&gateway("  addresses: [{type: IPAddress}, {type: IPAddress, value: ''}]"));
    is(of(&rig, "Programmed"), "True", "Programmed");
    place(&mut rig, Addresses::Assigned(vec![]));
    is(of(&rig, "Programmed"), "False", "AddressNotAssigned");
    place(&mut rig, Addresses::Assigned(ips(&["10.0.0.7"])));
    is(of(&rig, "Programmed"), "True", "Programmed");
}

#[test]
fn text_that_is_no_address_is_named() {
    let rig = Rig::with(&gateway("  addresses: [{value: 10.0.0.999}]"));
    let (_, reason, message) = rig.condition(Kind::Gateway, "web", "/conditions", "Programmed");
    assert_eq!(reason, "AddressNotUsable");
    assert!(message.contains("10.0.0.999"), "{message}");
}

#[test]
fn parameters_of_an_unknown_kind_are_refused() {
    let rig =
        Rig::with(&gateway("  infrastructure: {parametersRef: {group: invalid.io, kind: Invalid, name: x}}"));
    is(of(&rig, "Accepted"), "False", "InvalidParameters");
    let plan = rig.engine.fleet_plan(&web()).unwrap();
    assert_eq!(plan.parameters.as_ref().unwrap().name.as_ref(), "x");
}

#[test]
fn a_rejection_by_envoy_is_shown_on_the_gateway() {
    let rig = Rig::with(&gateway(""));
    let report = rig.engine.report(&web(), &|_, _| Programmed::Rejected("no such thing".into()));
    let report = serde_json::to_value(report).unwrap().to_string();
    assert!(report.contains("Envoy rejected it: no such thing"), "{report}");
}
