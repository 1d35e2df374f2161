//! `portolan preflight` asks for what the shipped roles give, no more and no less, and for what an install applies.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use kube::config::Kubeconfig;
use portolan::{
    model::Kind,
    preflight::{Permission, installer, operator},
    source::kubernetes::SecretAccess,
};
use portolan_e2e::{
    apiserver::{ApiServer, Objects},
    rig::binary,
};
use serde_json::Value;

const SYSTEM: &str = "portolan-system";

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

async fn rendered(folder: &str) -> Vec<Value> {
    let server = ApiServer::shared().await;
    let text = server.kubectl(&["kustomize", folder]).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// `verb resource[.group][/subresource]`, its namespace, and the role that gives it.
type Allowed = BTreeMap<(String, Option<String>), BTreeSet<String>>;

fn shown(permission: &Permission) -> (String, Option<String>) {
    let everywhere = Permission { namespace: None, ..permission.clone() };
    (everywhere.to_string(), permission.namespace.clone())
}

/// What the roles of config/rbac allow.
async fn allowed() -> Allowed {
    let mut all = Allowed::new();
    for role in rendered("config/rbac").await {
        let namespace = role["metadata"]["namespace"].as_str().map(ToOwned::to_owned);
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                        let slash = if subresource.is_empty() { "" } else { "/" };
                        let dot = if group.is_empty() { "" } else { "." };
                        let text = format!("{verb} {resource}{slash}{subresource}{dot}{group}");
                        let name = role["metadata"]["name"].as_str().unwrap().to_owned();
                        all.entry((text, namespace.clone())).or_default().insert(name);
                    }
                }
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_list_is_what_the_shipped_roles_give() {
    let allowed = allowed().await;
    let asked = operator(Kind::ALL, SecretAccess::Referenced, SYSTEM);
    let names: BTreeSet<_> = asked.iter().map(shown).collect();
    let given: BTreeSet<_> = allowed.keys().cloned().collect();
    assert!(given.len() > 60, "too few: {given:#?}");
    let lacking: Vec<_> = names.difference(&given).collect();
    assert!(lacking.is_empty(), "asked for, and no role gives it: {lacking:#?}");
    let forgotten: Vec<_> = given.difference(&names).collect();
    assert!(forgotten.is_empty(), "a role gives it, and preflight does not ask: {forgotten:#?}");
    // The role that a warning names is one that gives it, and may be bound alone.
    for permission in &asked {
        let roles = &allowed[&shown(permission)];
        match permission.by_namespace {
            Some(role) => assert!(roles.contains(role), "{permission}: {role} is not one of {roles:?}"),
            None => assert!(
                roles.iter().any(|role| !["portolan-fleets", "portolan-secrets"].contains(&role.as_str())),
                "{permission} is needed everywhere, and only {roles:?} give it"
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_installers_list_is_what_an_install_applies() {
    let applied: BTreeSet<(String, bool)> = rendered("config/default")
        .await
        .iter()
        .map(|object| {
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            let plural = if kind.ends_with('s') { format!("{kind}es") } else { format!("{kind}s") };
            (plural, object["metadata"]["namespace"].is_string())
        })
        .collect();
    let asked: BTreeSet<(String, bool)> = installer(SYSTEM)
        .into_iter()
        .filter(|permission| permission.verb == "create")
        .map(|permission| (permission.resource, permission.namespace.is_some()))
        .collect();
    assert_eq!(asked, applied);
}

/// What it prints for an account, and whether it found that something is missing.
fn preflight(account: &Kubeconfig, namespace: &str) -> (bool, BTreeMap<String, (String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, serde_json::to_string(account).unwrap()).unwrap();
    let done = Command::new(binary::portolan())
        .args(["preflight", "--as-operator", "--output", "json", "--namespace", namespace, "--kubeconfig"])
        .arg(&path)
        .output()
        .unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&done.stderr));
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = findings
        .iter()
        .map(|one| (text(&one["check"]), (text(&one["verdict"]), text(&one["message"]))))
        .collect();
    (done.status.success(), found)
}

/// The shipped roles for an account of this namespace, changed a little.
async fn give(objects: &Objects, namespace: &str, file: &str, change: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rbac").join(file);
    let text = change(&std::fs::read_to_string(path).unwrap())
        .replace("namespace: portolan-system", &format!("namespace: {namespace}"))
        .replace("name: portolan", &format!("name: {namespace}"));
    objects.apply(&text).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_with_the_roles_lacks_nothing_and_one_without_is_told_what() {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    objects.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd/portolan")).await;
    let namespace = objects.namespace("preflight").await;
    let account = server.account_named(&namespace, &namespace).await;
    for file in ["operator.yaml", "fleets.yaml", "secrets.yaml"] {
        give(&objects, &namespace, file, ToOwned::to_owned).await;
    }
    let (fine, found) = preflight(&account, &namespace);
    let bad: Vec<_> = found.iter().filter(|(_, (verdict, _))| verdict != "ok").collect();
    assert!(fine && bad.is_empty(), "{bad:#?}");

    // Fleets in some namespaces alone, and no authority.
    objects
        .delete(&format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: {namespace}-fleets}}}}"
        ))
        .await;
    give(&objects, &namespace, "operator.yaml", |text| {
        text.replace(
            "resources: [secrets]\n  verbs: [create, get, update]",
            "resources: [secrets]\n  verbs: [get]",
        )
    })
    .await;
    let (fine, found) = preflight(&account, &namespace);
    assert!(!fine);
    let (verdict, message) = &found["may create deployments.apps"];
    assert_eq!(verdict, "warning");
    assert!(message.contains("RoleBinding") && message.contains("portolan-fleets"), "{message}");
    assert_eq!(found["may watch deployments.apps"].0, "ok");
    assert_eq!(found[&format!("may create secrets in {namespace}")].0, "missing");
    assert_eq!(found[&format!("may get secrets in {namespace}")].0, "ok");
}
