//! The promise of incremental resolving: any events in any order end in what a fresh resolve gives.

use proptest::prelude::*;

use super::*;

/// A small universe where everything refers to everything.
fn universe() -> Vec<(ObjectKey, Option<Object>)> {
    let mut all = objects(BASE);
    let hosts = ["", "hostname: a.example.com, ", "hostname: '*.example.com', "];
    for (index, host) in hosts.iter().enumerate() {
        all.extend(objects(&format!(
            "kind: Gateway\nmetadata: {{name: web, namespace: default, generation: {index}}}\nspec:\n  gatewayClassName: portolan\n  listeners: [{{name: http, {host}port: 80, protocol: HTTP}}, {{name: b, port: {}, protocol: HTTP, allowedRoutes: {{namespaces: {{from: Selector, selector: {{matchLabels: {{team: a}}}}}}}}}}]",
            8080 + index
        )));
    }
    for name in ["r1", "r2"] {
        for host in ["a.example.com", "'*.example.com'", "b.example.com"] {
            for backend in ["name: blue", "name: db, namespace: other"] {
                all.extend(objects(&http_route(
                    name,
                    &format!("  hostnames: [{host}]\n  rules: [{{backendRefs: [{{{backend}, port: 80}}]}}]"),
                )));
            }
        }
    }
    all.extend(objects("kind: Service\nmetadata: {name: db, namespace: other}\nspec: {ports: [{port: 80}]}"));
    all.extend(objects(
        "kind: Service\nmetadata: {name: blue}\nspec: {ports: [{port: 80, appProtocol: kubernetes.io/h2c}]}",
    ));
    all.extend(objects("kind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service}]}"));
    all.extend(objects("kind: Namespace\nmetadata: {name: default, labels: {team: a}}"));
    all.extend(objects(
        "kind: GatewayClass\nmetadata: {name: portolan}\nspec: {controllerName: example.com/other}",
    ));
    let keys: std::collections::BTreeSet<_> = all.iter().map(|(key, _)| key.clone()).collect();
    all.extend(keys.into_iter().map(|key| (key, None)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any events in any order and any batches end in what a fresh resolve of the final objects gives.
    #[test]
    fn incremental_equals_fresh(steps in prop::collection::vec((0usize..1000, any::<bool>()), 1..60)) {
        let universe = universe();
        let mut rig = Rig::default();
        let mut last: BTreeMap<ObjectKey, Option<Object>> = BTreeMap::new();
        let mut batch = Vec::new();
        for (pick, flush) in steps {
            let (key, object) = universe[pick % universe.len()].clone();
            last.insert(key.clone(), object.clone());
            batch.push((key, object));
            if flush {
                rig.change(std::mem::take(&mut batch));
            }
        }
        rig.change(batch);
        let mut fresh = Rig::default();
        fresh.change(last.clone().into_iter().collect());
        rig.told.retain(|_, told| *told != Told::default());
        fresh.told.retain(|_, told| *told != Told::default());
        prop_assert_eq!(&rig.told, &fresh.told);
        for key in last.keys() {
            let programmed = |_: &ObjectKey, _: &ObjectKey| Programmed::Yes;
            prop_assert_eq!(rig.engine.report(key, &programmed), fresh.engine.report(key, &programmed));
        }
    }
}
