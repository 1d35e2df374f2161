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
    let rig = Rig::with(&gateway("  addresses: [{routability: Cluster}, {routability: x.io/far}]"));
    let (_, _, message) = rig.condition(Kind::Gateway, "web", "/conditions", "Accepted");
    assert!(message.contains("addresses[1]") && message.contains("x.io/far"), "{message}");
    assert!(message.contains("use Cluster"), "{message}");
}

#[test]
fn an_address_inside_the_cluster_is_used_only_as_one() {
    let mut rig = Rig::with(&gateway("  addresses: [{value: 10.96.0.9, routability: Cluster}]"));
    place(&mut rig, Addresses::Assigned(ips(&["10.96.0.9"])));
    is(of(&rig, "Programmed"), "False", "AddressNotUsable");
    let inside = AddressReport::inside("10.96.0.9".parse().unwrap());
    place(&mut rig, Addresses::Assigned(vec![inside]));
    is(of(&rig, "Programmed"), "True", "Programmed");
    assert_eq!(
        rig.report(Kind::Gateway, "web")["addresses"],
        serde_json::json!([{"type": "IPAddress", "value": "10.96.0.9", "routability": "Cluster"}])
    );
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

/// A class with a FleetConfig, and a Gateway of it with one of its own.
fn configured(class: &str, gateway_config: &str) -> Rig {
    let mut rig = Rig::with(&gateway(
        "  infrastructure: {parametersRef: {group: portolan.dev, kind: FleetConfig, name: own}}",
    ));
    rig.apply(&format!("kind: FleetConfig\nmetadata: {{name: edge, namespace: infra}}\nspec: {class}"));
    rig.apply(&format!(
        "kind: FleetConfig\nmetadata: {{name: own, namespace: default}}\nspec: {gateway_config}"
    ));
    rig.apply(
        "kind: GatewayClass\nmetadata: {name: portolan}\nspec:\n  controllerName: portolan.dev/gateway-controller\n  parametersRef: {group: portolan.dev, kind: FleetConfig, name: edge, namespace: infra}",
    );
    rig
}

#[test]
fn a_gateways_fleet_config_lies_over_that_of_its_class() {
    let rig = configured("{replicas: 2, image: class, locked: [image]}", "{replicas: 3, image: own}");
    let plan = rig.engine.fleet_plan(&web()).unwrap();
    assert_eq!((plan.config.replicas, plan.config.image.as_deref()), (Some(3), Some("class")));
    let (status, _, message) = rig.condition(Kind::Gateway, "web", "/conditions", "Accepted");
    assert_eq!(status, "True");
    assert!(message.contains("listeners that are not accepted: bad"), "{message}");
    assert!(
        message.ends_with("GatewayClass portolan locks image: the FleetConfig's values are ignored"),
        "{message}"
    );
}

#[test]
fn a_fleet_config_is_followed_as_it_changes_and_goes() {
    let mut rig = configured("{replicas: 2}", "{image: own}");
    rig.apply("kind: FleetConfig\nmetadata: {name: edge, namespace: infra}\nspec: {replicas: 5}");
    assert!(rig.last.fleets.contains(&web()));
    assert_eq!(rig.engine.fleet_plan(&web()).unwrap().config.replicas, Some(5));
    rig.remove(Kind::FleetConfig, "own");
    is(of(&rig, "Accepted"), "False", "InvalidParameters");
    let plan = rig.engine.fleet_plan(&web()).unwrap();
    assert!(plan.fault.as_ref().unwrap().message.contains("default/own"), "{:?}", plan.fault);
}

#[test]
fn settings_that_contradict_each_other_are_invalid_parameters() {
    let rig = configured("{workload: DaemonSet}", "{replicas: 3}");
    is(of(&rig, "Accepted"), "False", "InvalidParameters");
    let rig = configured("{}", "{replicas: many}");
    is(of(&rig, "Accepted"), "False", "InvalidParameters");
}

#[test]
fn parameters_of_another_kind_are_refused() {
    let rig =
        Rig::with(&gateway("  infrastructure: {parametersRef: {group: invalid.io, kind: Invalid, name: x}}"));
    is(of(&rig, "Accepted"), "False", "InvalidParameters");
}

#[test]
fn a_class_with_bad_parameters_takes_its_gateways_along() {
    let class = |parameters: &str| {
        format!(
            "kind: GatewayClass\nmetadata: {{name: portolan}}\nspec:\n  controllerName: portolan.dev/gateway-controller\n  parametersRef: {{{parameters}}}"
        )
    };
    let mut rig = Rig::with(&gateway(""));
    for (parameters, expected) in [
        ("group: portolan.dev, kind: FleetConfig, name: edge", "set parametersRef.namespace"),
        (
            "group: portolan.dev, kind: FleetConfig, name: edge, namespace: infra",
            "there is no FleetConfig infra/edge",
        ),
        ("group: '', kind: ConfigMap, name: edge, namespace: infra", "expected portolan.dev/FleetConfig"),
    ] {
        rig.apply(&class(parameters));
        let (status, reason, message) =
            rig.condition(Kind::GatewayClass, "portolan", "/conditions", "Accepted");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidParameters"));
        assert!(message.contains(expected), "{message}");
        let (status, reason, message) = rig.condition(Kind::Gateway, "web", "/conditions", "Accepted");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidParameters"));
        assert!(message.starts_with("GatewayClass portolan: "), "{message}");
    }
}

#[test]
fn a_rejection_by_envoy_is_shown_on_the_gateway() {
    let rig = Rig::with(&gateway(""));
    let report = rig.engine.report(&web(), &|_, _| Programmed::Rejected("no such thing".into()));
    let report = serde_json::to_value(report).unwrap().to_string();
    assert!(report.contains("Envoy rejected it: no such thing"), "{report}");
}
