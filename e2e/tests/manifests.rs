//! What an administrator applies: the chart makes what the kustomization makes, values do what their comments say, and the
//! manifests agree with the program that they run.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use portolan_e2e::{
    apiserver::{ApiServer, until},
    rig::binary,
};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn helm(arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(root().join("hack/helm")).args(arguments).current_dir(root()).output();
    let done = done.unwrap_or_else(|error| panic!("hack/helm does not run: {error}"));
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

async fn kustomized() -> Objects {
    let server = ApiServer::shared().await;
    objects(&server.kubectl(&["kustomize", "config/default"]).unwrap())
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
        // A Helm that is built from its module believes in a Kubernetes of long ago.
        "--kube-version",
        "v1.35.0",
        "--values",
        file.to_str().unwrap(),
    ];
    objects(&helm(&arguments).unwrap())
}

/// What is in one and not, or otherwise, in the other.
fn difference(one: &Objects, other: &Objects) -> Vec<String> {
    let keys = one.keys().chain(other.keys()).collect::<std::collections::BTreeSet<_>>();
    keys.into_iter()
        .filter(|key| one.get(*key) != other.get(*key))
        .map(|key| format!("{key}:\n  {}\n  {}", json!(one.get(key)), json!(other.get(key))))
        .collect()
}

#[tokio::test]
async fn the_chart_makes_what_the_kustomization_makes() {
    let mut kustomized = kustomized().await;
    // Helm makes the namespace of a release itself: helm install --create-namespace.
    assert!(kustomized.remove("Namespace /portolan-system").is_some());
    let difference = difference(&kustomized, &chart(&json!({})));
    assert!(difference.is_empty(), "{}", difference.join("\n"));
}

#[test]
fn the_chart_is_in_order() {
    let said = helm(&["lint", "config/helm", "--strict"]);
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
    let variables = container["env"].as_array().unwrap();
    let proxy_image = variables.iter().find(|it| it["name"] == "PORTOLAN_PROXY_IMAGE").unwrap();
    for (found, expected) in [
        (&deployment["replicas"], json!(3)),
        (&container["image"], json!("registry.example/operator:1.2.3")),
        (&container["imagePullPolicy"], json!("Always")),
        (&proxy_image["value"], json!("registry.example/proxy:1.2.4")),
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

/// What `portolan crds` prints and config/default, in an API server that has nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_takes_everything_that_an_install_applies() {
    let server = ApiServer::own("manifests");
    let objects = server.objects().await;
    let crds = Command::new(binary::portolan()).args(["crds", "--channel", "experimental"]).output().unwrap();
    assert!(crds.status.success(), "{crds:?}");
    objects.apply(&String::from_utf8(crds.stdout).unwrap()).await;
    for (kind, name) in [("GatewayClass", "gatewayclasses"), ("FleetConfig", "fleetconfigs")] {
        // A kind is served a moment after its CRD is there.
        let list = async || server.kubectl(&["get", name]);
        until(kind, list, Result::is_ok).await.unwrap();
    }
    let apply = |arguments: &[&str]| {
        let applied = server.kubectl(&[&["apply", "--server-side"], arguments].concat());
        applied.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    };
    apply(&["--kustomize", "config/default"]);
    apply(&["--filename", "config/samples/fleet"]);
    // Its namespace enforces PodSecurity `restricted`, which a Deployment does not tell before it makes pods.
    let deployment = objects.get(("apps/v1", "Deployment", "portolan-system", "portolan")).await.unwrap();
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "probe".into();
    pod["metadata"]["namespace"] = "portolan-system".into();
    objects.apply(&pod.to_string()).await;
    pod["metadata"]["name"] = "loose".into();
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pod.json");
    std::fs::write(&file, pod.to_string()).unwrap();
    let refused = server.kubectl(&["create", "--filename", file.to_str().unwrap()]).unwrap_err();
    assert!(refused.contains("PodSecurity"), "{refused}");
}

/// What the schema refuses, and the words that say why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_config_that_contradicts_itself_is_refused() {
    let server = ApiServer::own("fleet-configs");
    let objects = server.objects().await;
    objects.install(&root().join("config/crd/portolan")).await;
    let folder = tempfile::tempdir().unwrap();
    let create = |spec: &Value| {
        let config = json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "FleetConfig",
            "metadata": {"generateName": "test-", "namespace": "default"}, "spec": spec,
        });
        let file = folder.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        server.kubectl(&["create", "--dry-run=server", "--filename", file.to_str().unwrap()])
    };
    for good in [
        json!({}),
        json!({"replicas": 0}),
        json!({"workload": "DaemonSet", "service": {"type": "NodePort", "externalTrafficPolicy": "Local"}}),
        json!({"autoscaling": {"maxReplicas": 3}, "disruptionBudget": {"minAvailable": "50%"}}),
        json!({"accessLog": {}, "locked": ["image", "service.type"]}),
        json!({"resources": {"requests": {"cpu": 2, "memory": "1Gi"}}}),
    ] {
        let created = create(&good);
        assert!(created.is_ok(), "{good}: {created:?}");
    }
    for (bad, why) in [
        (json!({"replicas": 2, "autoscaling": {"maxReplicas": 3}}), "exclude each other"),
        (json!({"workload": "DaemonSet", "replicas": 2}), "one proxy on each node"),
        (json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}), "must not exceed maxReplicas"),
        (json!({"disruptionBudget": {}}), "exactly one of"),
        (json!({"disruptionBudget": {"minAvailable": 1, "maxUnavailable": 1}}), "exactly one of"),
        (json!({"service": {"type": "ClusterIP", "externalTrafficPolicy": "Local"}}), "needs type NodePort"),
        (json!({"service": {"type": "NodePort", "loadBalancerClass": "x"}}), "needs type LoadBalancer"),
        (json!({"drain": {"minimumSeconds": 9, "timeoutSeconds": 3}}), "must not exceed timeoutSeconds"),
        (json!({"labels": {"app.kubernetes.io/managed-by": "me"}}), "Portolan's own"),
        (json!({"annotations": {"portolan.dev/applied": "x"}}), "Portolan's own"),
        (json!({"replicas": -1}), "greater than or equal to 0"),
        (json!({"image": ""}), "at least 1 chars"),
        (json!({"workload": "Pod"}), "Unsupported value"),
        (json!({"locked": ["colour"]}), "Unsupported value"),
        (json!({"replica": 2}), "unknown field"),
    ] {
        let refused = create(&bad);
        assert!(
            refused.as_ref().is_err_and(|error| error.contains(why)),
            "{bad}: expected {why:?}, got {refused:?}"
        );
    }
}

/// Probes and ports of the Deployment are those of the program.
#[tokio::test]
async fn the_deployment_agrees_with_the_program() {
    let all = kustomized().await;
    let container = &all["Deployment portolan-system/portolan"]["spec"]["template"]["spec"]["containers"][0];
    let help = Command::new(binary::portolan()).args(["operator", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for port in container["ports"].as_array().unwrap() {
        let listens = format!(":{}]", port["containerPort"]);
        assert!(help.contains(&listens), "{port}: no default {listens:?} in\n{help}");
    }
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(help.contains(&format!("[env: {name}=")), "{name}: nothing reads it:\n{help}");
    }
    let service = &all["Service portolan-system/portolan"]["spec"];
    for port in service["ports"].as_array().unwrap() {
        let named = container["ports"].as_array().unwrap().iter().find(|it| it["name"] == port["targetPort"]);
        assert_eq!(named.expect("a port of the container")["containerPort"], port["port"]);
    }
}
