//! What a change costs.

use super::*;

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

#[test]
fn what_others_do_costs_nothing() {
    let class = "kind: GatewayClass\nmetadata: {name: other}\nspec: {controllerName: example.com/other}";
    let mut rig = Rig::with(class);
    let gateway = |port: u16| {
        format!(
            "kind: Gateway\nmetadata: {{name: theirs}}\nspec:\n  gatewayClassName: other\n  listeners: [{{name: http, port: {port}, protocol: HTTP}}]"
        )
    };
    let route = |path: &str| {
        format!(
            "kind: HTTPRoute\nmetadata: {{name: theirs}}\nspec:\n  parentRefs: [{{name: theirs}}]\n  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: blue, port: 80}}]}}]"
        )
    };
    rig.apply(&gateway(80));
    rig.apply(&route("/a"));
    for change in [gateway(81), route("/b")] {
        let resolved = rig.engine.apply(objects(&change));
        assert_eq!(resolved.units_run, 0, "{change}");
    }
    // It is noticed all the same once they are ours.
    rig.apply("kind: GatewayClass\nmetadata: {name: other}\nspec: {controllerName: portolan.dev/gateway-controller}");
    let told = &rig.told[&ObjectKey::new(Kind::Gateway, "default", "theirs")];
    assert!(told.listeners.keys().any(|name| name.to_string() == "default/theirs/81"), "{told:?}");
    let host = told.host("default/theirs/81", "*").unwrap();
    assert!(format!("{host:?}").contains("/b"), "{host:?}");
    // And forgotten once they are not.
    rig.apply(class);
    assert!(rig.engine.state.route(&ObjectKey::new(Kind::HttpRoute, "default", "theirs")).is_none());
}
