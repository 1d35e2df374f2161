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
