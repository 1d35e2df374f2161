//! The promise of incremental resolving: any events in any order end in what a fresh resolve gives.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// Classes that go from one controller to another.
fn classes() -> Vec<(ObjectKey, Option<Object>)> {
    [
        ("portolan", "example.com/other"),
        ("other", "example.com/other"),
        ("other", "portolan.dev/gateway-controller"),
    ]
    .into_iter()
    .flat_map(|(class, controller)| {
        objects(&format!(
            "kind: GatewayClass\nmetadata: {{name: {class}}}\nspec: {{controllerName: {controller}}}"
        ))
    })
    .collect()
}

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
    all.extend(classes());
    for port in [80, 81] {
        all.extend(objects(&format!(
            "kind: Gateway\nmetadata: {{name: web, namespace: default, generation: {port}}}\nspec:\n  gatewayClassName: other\n  listeners: [{{name: http, port: {port}, protocol: HTTP}}]"
        )));
    }
    let certificate = certificate_secret("c", "a.org");
    all.extend(objects(&certificate));
    for mode in ["AllowValidOnly", "AllowInsecureFallback"] {
        all.extend(objects(&format!(
            "kind: Gateway\nmetadata: {{name: tls, namespace: default}}\nspec:\n  gatewayClassName: portolan\n  tls: {{backend: {{clientCertificateRef: {{name: c}}}}, frontend: {{default: {{validation: {{mode: {mode}, caCertificateRefs: [{{kind: ConfigMap, group: '', name: ca, namespace: other}}]}}}}}}}}\n  listeners: [{{name: a, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: c}}]}}}}, {{name: b, port: 443, hostname: b.example.com, protocol: HTTPS, tls: {{certificateRefs: [{{name: d}}]}}}}]"
        )));
    }
    for text in ["", &rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem()] {
        let text = serde_json::to_string(text).unwrap();
        all.extend(objects(&format!(
            "kind: ConfigMap\nmetadata: {{name: ca, namespace: other}}\ndata: {{ca.crt: {text}}}"
        )));
    }
    let authority = serde_json::to_string(&authority()).unwrap();
    for text in ["''", &authority] {
        all.extend(objects(&format!(
            "kind: ClusterTrustBundle\nmetadata: {{name: ca}}\nspec: {{trustBundle: {text}}}"
        )));
    }
    all.extend(objects("kind: BackendTLSPolicy\nmetadata: {name: p1, namespace: default, creationTimestamp: '2020-01-01T00:00:00Z'}\nspec: {targetRefs: [{group: '', kind: Service, name: blue}], validation: {hostname: a.org, caCertificateRefs: [{group: certificates.k8s.io, kind: ClusterTrustBundle, name: ca}]}}"));
    for text in ["''", &authority] {
        all.extend(objects(&format!(
            "kind: ConfigMap\nmetadata: {{name: ca, namespace: default}}\ndata: {{ca.crt: {text}}}"
        )));
    }
    for (name, created) in [("p1", 2020), ("p2", 2021)] {
        for (target, host) in
            [("blue", "a.org"), ("blue, sectionName: t", "a.org"), ("blue", "b.org"), ("nobody", "a.org")]
        {
            all.extend(objects(&format!(
                "kind: BackendTLSPolicy\nmetadata: {{name: {name}, namespace: default, creationTimestamp: '{created}-01-01T00:00:00Z'}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: {target}}}], validation: {{hostname: {host}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]}}}}"
            )));
        }
    }
    all.extend(objects("kind: ReferenceGrant\nmetadata: {name: ca, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], to: [{group: '', kind: ConfigMap}]}"));
    for (index, mode) in ["Terminate", "Passthrough"].into_iter().enumerate() {
        all.extend(objects(&format!(
            "kind: Gateway\nmetadata: {{name: l4, namespace: default}}\nspec:\n  gatewayClassName: portolan\n  listeners: [{{name: t, port: 90, protocol: TCP}}, {{name: u, port: {}, protocol: UDP}}, {{name: s, port: 443, hostname: '*.example.com', protocol: TLS, tls: {{mode: {mode}, certificateRefs: [{{name: c}}]}}}}, {{name: h, port: 443, hostname: a.example.com, protocol: HTTPS, tls: {{certificateRefs: [{{name: c}}]}}}}]",
            90 + index
        )));
    }
    all.extend(sets());
    all.extend(objects(&certificate_secret("d", "b.example.com")));
    for kind in ["TLSRoute", "TCPRoute", "UDPRoute"] {
        for (name, created) in [("s1", 2020), ("s2", 2021)] {
            for (host, backends) in [
                ("a.example.com", "{name: blue, port: 80}"),
                (
                    "'*.example.com'",
                    "{name: db, namespace: other, port: 80}, {name: blue, port: 80, weight: 3}",
                ),
            ] {
                all.extend(objects(&format!(
                    "kind: {kind}\nmetadata: {{name: {name}, namespace: default, creationTimestamp: '{created}-01-01T00:00:00Z'}}\nspec:\n  parentRefs: [{{name: l4}}]\n  hostnames: [{host}]\n  rules: [{{backendRefs: [{backends}]}}]"
                )));
            }
        }
    }
    all.extend(objects("kind: Service\nmetadata: {name: blue}\nspec: {ports: [{port: 80, name: u, protocol: UDP}, {port: 80, name: t}]}"));
    all.extend(objects("kind: EndpointSlice\nmetadata: {name: blue-2, labels: {kubernetes.io/service-name: blue}}\nports: [{name: u, port: 8081}, {name: t, port: 8082}]\nendpoints: [{addresses: [10.0.0.3]}]"));
    for name in ["r1", "r2"] {
        for host in ["a.example.com", "'*.example.com'", "b.example.com"] {
            for backend in ["name: blue", "name: db, namespace: other"] {
                all.extend(objects(&http_route_on(
                    &["web", "tls"],
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

/// ListenerSets that come, go, move and conflict.
fn sets() -> Vec<(ObjectKey, Option<Object>)> {
    let mut all = Vec::new();
    for (from, own) in [("All", "a"), ("None", "a"), ("Same", "b")] {
        all.extend(objects(&format!(
            "kind: Gateway\nmetadata: {{name: sets, namespace: default}}\nspec:\n  gatewayClassName: portolan\n  allowedListeners: {{namespaces: {{from: {from}}}}}\n  listeners: [{{name: own, port: 80, protocol: HTTP, hostname: {own}.example.com}}]"
        )));
    }
    for (name, created) in [("ls1", 2020), ("ls2", 2021)] {
        for (gateway, host, secret) in [("sets", "a", "c"), ("sets", "b", "d"), ("web", "b", "d")] {
            all.extend(objects(&format!(
                "kind: ListenerSet\nmetadata: {{name: {name}, namespace: default, creationTimestamp: '{created}-01-01T00:00:00Z'}}\nspec:\n  parentRef: {{name: {gateway}}}\n  listeners: [{{name: h, port: 80, protocol: HTTP, hostname: {host}.example.com}}, {{name: s, port: 443, protocol: HTTPS, hostname: {host}.example.com, tls: {{certificateRefs: [{{name: {secret}}}]}}}}]"
            )));
        }
    }
    for parents in [
        "{name: sets}, {kind: ListenerSet, name: ls1}",
        "{kind: ListenerSet, name: ls1}, {kind: ListenerSet, name: ls2, sectionName: s}",
    ] {
        all.extend(objects(&format!(
            "kind: HTTPRoute\nmetadata: {{name: r3, namespace: default}}\nspec:\n  parentRefs: [{parents}]\n  rules: [{{backendRefs: [{{name: blue, port: 80}}]}}]"
        )));
    }
    all
}

type Change = (ObjectKey, Option<Object>);

static UNIVERSE: LazyLock<Vec<Change>> = LazyLock::new(universe);

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any events in any order and any batches, from nothing or from everything, end in what a fresh resolve of the
    /// final objects gives.
    #[test]
    fn incremental_equals_fresh(
        everything in any::<bool>(),
        steps in prop::collection::vec((0usize..10_000, any::<bool>()), 1..60),
    ) {
        let mut rig = Rig::default();
        let mut last: BTreeMap<ObjectKey, Option<Object>> = BTreeMap::new();
        let mut batch: Vec<Change> = UNIVERSE.iter().filter(|(_, object)| everything && object.is_some()).cloned().collect();
        last.extend(batch.iter().cloned());
        for (pick, flush) in steps {
            let (key, object) = UNIVERSE[pick % UNIVERSE.len()].clone();
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
            prop_assert_eq!(rig.engine.fleet_plan(key), fresh.engine.fleet_plan(key));
        }
    }
}
