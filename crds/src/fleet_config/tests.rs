use serde_json::{Value, json};

use super::*;
use crate::install;

fn spec(value: Value) -> FleetConfigSpec {
    serde_json::from_value(value).unwrap()
}

fn over(gateway: Value, class: Value) -> (Value, Vec<&'static str>) {
    let inherited = spec(gateway).over(&spec(class));
    let ignored = inherited.ignored.iter().map(|field| field.path()).collect();
    (serde_json::to_value(inherited.spec).unwrap(), ignored)
}

#[test]
fn a_gateway_wins_field_by_field_maps_key_by_key_and_lists_as_a_whole() {
    let class = json!({
        "image": "class",
        "replicas": 2,
        "service": {"type": "NodePort", "annotations": {"a": "class", "b": "class"}},
        "labels": {"team": "class", "tier": "edge"},
        "tolerations": [{"key": "class"}, {"key": "other"}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
    });
    let gateway = json!({
        "replicas": 3,
        "service": {"annotations": {"b": "gateway"}, "externalTrafficPolicy": "Local"},
        "labels": {"team": "gateway"},
        "tolerations": [{"key": "gateway"}],
        "resources": {"requests": {"cpu": 2}, "limits": {"memory": "2Gi"}},
    });
    let expected = json!({
        "image": "class",
        "replicas": 3,
        "service": {
            "type": "NodePort",
            "annotations": {"a": "class", "b": "gateway"},
            "externalTrafficPolicy": "Local",
        },
        "labels": {"team": "gateway", "tier": "edge"},
        "tolerations": [{"key": "gateway"}],
        "resources": {"requests": {"cpu": 2, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    });
    assert_eq!(over(gateway, class), (expected, vec![]));
}

#[test]
fn a_choice_puts_its_alternatives_out_of_force() {
    let scaling = json!({"maxReplicas": 5});
    for (gateway, class, expected) in [
        (json!({"replicas": 3}), json!({"autoscaling": scaling}), json!({"replicas": 3})),
        (json!({"autoscaling": scaling}), json!({"replicas": 3}), json!({"autoscaling": scaling})),
        (json!({"workload": "DaemonSet"}), json!({"replicas": 3}), json!({"workload": "DaemonSet"})),
        (json!({"workload": "DaemonSet"}), json!({"autoscaling": scaling}), json!({"workload": "DaemonSet"})),
        (
            json!({"disruptionBudget": {"minAvailable": 1}}),
            json!({"disruptionBudget": {"maxUnavailable": "25%"}}),
            json!({"disruptionBudget": {"minAvailable": 1}}),
        ),
    ] {
        assert_eq!(over(gateway, class), (expected, vec![]));
    }
}

#[test]
fn a_locked_field_stays_the_classs_and_is_told() {
    let class = json!({"image": "class", "locked": ["image", "service.type", "envoy"]});
    let gateway = json!({
        "image": "gateway",
        "service": {"type": "ClusterIP", "annotations": {"a": "b"}},
        "replicas": 2,
        "locked": ["replicas"],
    });
    let expected = json!({"image": "class", "service": {"annotations": {"a": "b"}}, "replicas": 2});
    assert_eq!(over(gateway, class), (expected, vec!["image", "service.type"]));
}

#[test]
fn a_lock_holds_against_the_alternatives_of_its_field() {
    for locked in ["replicas", "autoscaling", "workload"] {
        let class = json!({"replicas": 2, "locked": [locked]});
        for gateway in [
            json!({"replicas": 3}),
            json!({"autoscaling": {"maxReplicas": 9}}),
            json!({"workload": "DaemonSet"}),
        ] {
            assert_eq!(over(gateway, class.clone()), (json!({"replicas": 2}), vec![locked]));
        }
    }
}

/// The properties of the spec and of the parts of it that can be locked one by one.
fn paths() -> Vec<String> {
    let crd = install::own().remove(0);
    let crd = serde_json::to_value(crd).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let mut paths = Vec::new();
    for (name, schema) in spec.as_object().unwrap() {
        paths.push(name.clone());
        if ["service", "envoy"].contains(&name.as_str()) {
            let inner = schema["properties"].as_object().unwrap();
            paths.extend(inner.keys().map(|inner| format!("{name}.{inner}")));
        }
    }
    paths.retain(|path| path != "locked");
    paths.sort();
    paths
}

#[test]
fn every_field_can_be_locked_and_nothing_else() {
    let mut locked: Vec<String> = LockedField::ALL.iter().map(|field| field.path().to_owned()).collect();
    locked.sort();
    assert_eq!(locked, paths());
}

#[test]
fn every_lock_takes_its_field_from_the_gateway() {
    for field in LockedField::ALL {
        let full = spec(json!({
            "workload": "Deployment", "replicas": 1, "disruptionBudget": {"minAvailable": 1}, "image": "i",
            "imagePullPolicy": "Always", "imagePullSecrets": [{"name": "s"}], "resources": {}, "nodeSelector": {},
            "tolerations": [], "topologySpread": [], "labels": {}, "annotations": {}, "drain": {}, "accessLog": {},
            "service": {"type": "ClusterIP", "annotations": {}, "externalTrafficPolicy": "Local", "loadBalancerClass": "c"},
            "envoy": {"concurrency": 1, "logLevel": "info"},
        }));
        let class = FleetConfigSpec { locked: Some(vec![*field]), ..FleetConfigSpec::default() };
        let inherited = full.over(&class);
        assert_eq!(inherited.ignored, [*field]);
        let left = serde_json::to_value(inherited.spec).unwrap();
        let pointer = format!("/{}", field.path().replace('.', "/"));
        assert_eq!(left.pointer(&pointer), None, "{field}");
    }
}
