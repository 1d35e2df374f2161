//! What an administrator applies: the chart makes what the kustomization makes, values do what their comments say, and the
//! manifests agree with the program that they run.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn run(script: &str, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(root().join(script)).args(arguments).current_dir(root()).output();
    let done = done.unwrap_or_else(|error| panic!("{script} does not run: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

type Objects = BTreeMap<String, Value>;

fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let mut all = Objects::new();
    for object in documents.into_iter().filter(|document| !document.is_null()) {
        let meta = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = format!("{} {}/{}", text(&object["kind"]), text(&meta["namespace"]), text(&meta["name"]));
        assert!(all.insert(key.clone(), object).is_none(), "{key} twice");
    }
    all
}

fn kustomized() -> Objects {
    objects(&run("hack/kustomize", &["build", "config/default"]).unwrap())
}

fn chart(values: &Value) -> Objects {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values.to_string()).unwrap();
    let namespace = "portolan-system";
    let arguments = [
        "template",
        "portolan",
        "config/helm",
        "--namespace",
        namespace,
        "--include-crds",
        "--values",
        file.to_str().unwrap(),
    ];
    objects(&run("hack/helm", &arguments).unwrap())
}

/// What is in one and not, or otherwise, in the other.
fn difference(one: &Objects, other: &Objects) -> Vec<String> {
    let keys = one.keys().chain(other.keys()).collect::<std::collections::BTreeSet<_>>();
    keys.into_iter()
        .filter(|key| one.get(*key) != other.get(*key))
        .map(|key| format!("{key}:\n  {}\n  {}", json!(one.get(key)), json!(other.get(key))))
        .collect()
}

#[test]
fn the_chart_makes_what_the_kustomization_makes() {
    let mut kustomized = kustomized();
    // Helm makes the namespace of a release itself: helm install --create-namespace.
    assert!(kustomized.remove("Namespace /portolan-system").is_some());
    let difference = difference(&kustomized, &chart(&json!({})));
    assert!(difference.is_empty(), "{}", difference.join("\n"));
}

#[test]
fn the_chart_is_in_order() {
    let said = run("hack/helm", &["lint", "config/helm", "--strict"]);
    assert!(said.is_ok(), "{said:?}");
}

#[test]
fn every_value_of_the_chart_does_what_it_says() {
    let changed = chart(&json!({
        "image": {"repository": "registry.example/operator", "tag": "1.2.3", "pullPolicy": "Always"},
        "proxyImage": {"repository": "registry.example/proxy", "tag": "1.2.4"},
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 3,
        "resources": {"limits": {"memory": "1Gi"}},
        "nodeSelector": {"role": "infra"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"note": "x"},
        "extraArgs": ["--log=debug"],
        "gatewayClass": {"name": "edge", "fleetConfig": {"replicas": 2}},
        "secrets": {"access": "referenced", "namespaces": ["certificates"]},
        "fleets": {"namespaces": ["apps", "infra"]},
    }));
    let deployment = &changed["Deployment portolan-system/portolan"]["spec"];
    let pod = &deployment["template"]["spec"];
    let container = &pod["containers"][0];
    for (found, expected) in [
        (&deployment["replicas"], json!(3)),
        (&container["image"], json!("registry.example/operator:1.2.3")),
        (&container["imagePullPolicy"], json!("Always")),
        (&container["env"][2]["value"], json!("registry.example/proxy:1.2.4")),
        (&container["args"], json!(["operator", "--log=debug"])),
        (&container["resources"]["limits"]["memory"], json!("1Gi")),
        (&pod["imagePullSecrets"], json!([{"name": "registry"}])),
        (&pod["nodeSelector"], json!({"role": "infra"})),
        (&pod["tolerations"], json!([{"key": "infra", "operator": "Exists"}])),
        (&pod["priorityClassName"], json!("system-cluster-critical")),
        (&deployment["template"]["metadata"]["annotations"]["note"], json!("x")),
        (&changed["GatewayClass /edge"]["spec"]["parametersRef"]["name"], json!("edge")),
        (&changed["FleetConfig portolan-system/edge"]["spec"], json!({"replicas": 2})),
    ] {
        assert_eq!(*found, expected);
    }
    for binding in ["certificates/portolan-secrets", "apps/portolan-fleets", "infra/portolan-fleets"] {
        assert!(changed.contains_key(&format!("RoleBinding {binding}")), "{binding}: {:?}", changed.keys());
    }
    for everywhere in ["portolan-secrets", "portolan-fleets"] {
        assert!(!changed.contains_key(&format!("ClusterRoleBinding /{everywhere}")), "{everywhere}");
    }
    let all = chart(&json!({"secrets": {"access": "all"}}));
    let arguments =
        &all["Deployment portolan-system/portolan"]["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(*arguments, json!(["operator", "--secret-access=all"]));
    let without = chart(&json!({"gatewayClass": {"create": false}}));
    assert!(without.keys().all(|key| !key.starts_with("GatewayClass")), "{:?}", without.keys());
}

/// PodSecurity `restricted`, as far as a pod's own text can meet or break it.
#[test]
fn the_operators_pods_meet_pod_security_restricted() {
    let all = kustomized();
    let pod = &all["Deployment portolan-system/portolan"]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    }
    let labels = &all["Namespace /portolan-system"]["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}
