//! Objects in an API server, in a test's own words: YAML in, JSON out.

use std::path::Path;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use portolan::identity::{AUTHORITY_SECRET, Authorities};
use serde_json::{Value, json};

use super::until;

/// The manager of the fields that tests write.
const MANAGER: &str = "e2e";

/// Reads and writes objects.
#[derive(Clone)]
pub struct Objects {
    client: Client,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Objects")
    }
}

impl Objects {
    /// With this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let text = |name: &str| object[name].as_str().unwrap_or_else(|| panic!("no {name} in {object}"));
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Applies the objects of a YAML text, as `kubectl apply --server-side` does.
    pub async fn apply(&self, yaml: &str) {
        for object in documents(yaml) {
            let name = object["metadata"]["name"].as_str().expect("a name");
            let (api, params) = (self.api(&object), PatchParams::apply(MANAGER).force());
            let applied = api.patch(name, &params, &Patch::Apply(&object)).await;
            applied.unwrap_or_else(|error| panic!("{name} cannot be applied: {error}"));
        }
    }

    /// Deletes the objects of a YAML text, as far as they exist.
    pub async fn delete(&self, yaml: &str) {
        for object in documents(yaml) {
            let name = object["metadata"]["name"].as_str().expect("a name");
            match self.api(&object).delete(name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => panic!("{name} cannot be deleted: {error}"),
            }
        }
    }

    /// An object as it is now: `apiVersion`, kind, namespace (empty for none) and name.
    pub async fn get(&self, of: (&str, &str, &str, &str)) -> Option<Value> {
        let (version, kind, namespace, name) = of;
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {}});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        let found = self.api(&object).get_opt(name).await;
        found.unwrap_or_else(|error| panic!("{kind} {name} cannot be read: {error}")).map(|it| json!(it))
    }

    /// A Gateway API object, and the same after a condition holds.
    pub async fn gateway_api(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.get(("gateway.networking.k8s.io/v1", kind, namespace, name)).await
    }

    /// What the operator of a namespace signs its proxies' certificates with.
    pub async fn authorities(&self, namespace: &str) -> Authorities {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets.get(AUTHORITY_SECRET).await.unwrap();
        let data = secret.data.unwrap().into_iter().map(|(name, bytes)| (name, bytes.0)).collect();
        Authorities::read(&data).unwrap()
    }

    /// All objects of a kind in a namespace.
    pub async fn list(&self, version: &str, kind: &str, namespace: &str) -> Vec<Value> {
        self.list_like(&json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": namespace}}))
            .await
    }

    /// All objects of a kind, everywhere.
    pub async fn list_all(&self, version: &str, kind: &str) -> Vec<Value> {
        self.list_like(&json!({"apiVersion": version, "kind": kind, "metadata": {}})).await
    }

    async fn list_like(&self, object: &Value) -> Vec<Value> {
        let list = self.api(object).list(&ListParams::default()).await;
        list.unwrap_or_else(|error| panic!("{}: {error}", object["kind"]))
            .items
            .iter()
            .map(|item| json!(item))
            .collect()
    }

    /// Merges a patch into an object's status.
    pub async fn patch_status(&self, kind: &str, namespace: &str, name: &str, status: &Value) {
        let object = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"namespace": namespace},
        });
        let patch = json!({"status": status});
        let patched =
            self.api(&object).patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// Merges a patch into an object.
    pub async fn patch(&self, version: &str, kind: &str, namespace: &str, name: &str, patch: &Value) {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {}});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        let patched = self.api(&object).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// Changes an object's labels; null removes one.
    pub async fn patch_labels(&self, version: &str, kind: &str, namespace: &str, name: &str, labels: &Value) {
        self.patch(version, kind, namespace, name, &json!({"metadata": {"labels": labels}})).await;
    }

    /// Creates a namespace of a test's own; its name starts with `prefix`.
    pub async fn namespace(&self, prefix: &str) -> String {
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let name = format!("{prefix}-{nanos:x}");
        self.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")).await;
        name
    }

    /// Deletes the Gateways and routes of a test's namespace, and the class that is named like it.
    pub async fn clear(&self, namespace: &str) {
        let version = "gateway.networking.k8s.io/v1";
        for kind in ["Gateway", "HTTPRoute"] {
            for object in self.list(version, kind, namespace).await {
                let name = object["metadata"]["name"].as_str().unwrap();
                let metadata = json!({"name": name, "namespace": namespace});
                self.delete(&json!({"apiVersion": version, "kind": kind, "metadata": metadata}).to_string())
                    .await;
            }
        }
        let metadata = json!({"name": namespace});
        self.delete(
            &json!({"apiVersion": version, "kind": "GatewayClass", "metadata": metadata}).to_string(),
        )
        .await;
    }

    /// Installs the CRDs of a folder and waits until they are served.
    pub async fn install(&self, folder: &Path) {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "yaml")) {
            self.install_file(file).await;
        }
    }

    /// Installs the CRDs of a file and waits until they are served.
    pub async fn install_file(&self, file: &Path) {
        let yaml = std::fs::read_to_string(file).unwrap();
        self.apply(&yaml).await;
        for crd in documents(&yaml) {
            let name = crd["metadata"]["name"].as_str().unwrap();
            let of = ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name);
            let established = |crd: &Option<Value>| {
                let conditions = crd.as_ref().and_then(|crd| crd["status"]["conditions"].as_array());
                conditions.is_some_and(|all| {
                    all.iter().any(|one| one["type"] == "Established" && one["status"] == "True")
                })
            };
            until(&format!("{name} is established"), async || self.get(of).await, established).await;
        }
    }
}

/// The documents of a YAML text.
pub fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}
