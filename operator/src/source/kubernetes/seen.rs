//! An object as the API server gave it, cut to what is used of it.

use std::sync::Arc;

use kube::core::{DynamicObject, ObjectMeta, PartialObjectMeta};
use serde_json::{Map, Value, json};

use super::resource::has_status;
use crate::model::{Kind, Object, ObjectKey, ParseError, parse};

/// Keys of a Secret that are ever read.
const SECRET_KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// What tells one version of an object from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Any write changes it.
    pub(super) resource: Arc<str>,
    /// Writes to the spec change it; `None` for kinds that do not count them.
    pub(super) spec: Option<(Arc<str>, i64)>,
}

/// What the API server has of an object's status, and what a write to it needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// metadata.uid.
    pub uid: Arc<str>,
    /// metadata.resourceVersion: a write that carries an older one is refused.
    pub resource_version: Arc<str>,
    /// metadata.generation.
    pub generation: i64,
    /// metadata.finalizers.
    pub finalizers: Vec<String>,
    /// Whether metadata.deletionTimestamp is set.
    pub deleted: bool,
    /// The status as JSON text: smaller than its tree, and rarely looked at.
    pub status: Box<str>,
}

impl Observed {
    /// Of an object that was just read or written.
    pub fn of(object: &DynamicObject) -> Self {
        let meta = &object.metadata;
        Self {
            uid: text(meta.uid.as_ref()),
            resource_version: text(meta.resource_version.as_ref()),
            generation: meta.generation.unwrap_or(0),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleted: meta.deletion_timestamp.is_some(),
            status: object.data.get("status").map_or_else(|| "{}".into(), |it| it.to_string().into()),
        }
    }

    /// The status as JSON.
    pub fn status(&self) -> Value {
        // It was written from a tree.
        serde_json::from_str(&self.status).unwrap_or_default()
    }
}

/// An object, whole or its metadata alone.
#[derive(Clone, Debug)]
pub(super) struct Seen(DynamicObject);

impl From<DynamicObject> for Seen {
    fn from(object: DynamicObject) -> Self {
        Self(object)
    }
}

impl From<PartialObjectMeta<DynamicObject>> for Seen {
    fn from(object: PartialObjectMeta<DynamicObject>) -> Self {
        Self(DynamicObject { types: None, metadata: object.metadata, data: Value::Object(Map::new()) })
    }
}

impl Seen {
    pub(super) fn key(&self, kind: Kind) -> ObjectKey {
        key(kind, &self.0.metadata)
    }

    pub(super) fn version(&self) -> Version {
        let meta = &self.0.metadata;
        let spec = meta.generation.map(|generation| (text(meta.uid.as_ref()), generation));
        Version { resource: text(meta.resource_version.as_ref()), spec }
    }

    /// What a status writer needs; `None` for kinds without a status of ours.
    pub(super) fn observed(&self, kind: Kind) -> Option<Observed> {
        has_status(kind).then(|| Observed::of(&self.0))
    }

    /// The object in our model.
    pub(super) fn parse(self, kind: Kind) -> Result<Object, ParseError> {
        parse(kind, &pruned(kind, self.0))
    }
}

fn text(field: Option<&String>) -> Arc<str> {
    field.map_or_else(|| "".into(), |text| text.as_str().into())
}

fn key(kind: Kind, meta: &ObjectMeta) -> ObjectKey {
    let namespace = if kind.cluster_scoped() { "".into() } else { text(meta.namespace.as_ref()) };
    ObjectKey::new(kind, namespace, text(meta.name.as_ref()))
}

/// The JSON that the model is made from: no managedFields, no annotations (the last applied configuration is as large
/// as the object), no status, and of Secrets no key that nothing reads.
fn pruned(kind: Kind, object: DynamicObject) -> Value {
    let meta = object.metadata;
    let mut json = object.data;
    if !json.is_object() {
        json = json!({});
    }
    json["metadata"] = json!({
        "name": meta.name,
        "uid": meta.uid,
        "namespace": meta.namespace,
        "generation": meta.generation,
        "creationTimestamp": meta.creation_timestamp,
        "labels": meta.labels,
    });
    if let Some(fields) = json.as_object_mut() {
        fields.remove("status");
        if kind == Kind::Secret
            && let Some(Value::Object(data)) = fields.get_mut("data")
        {
            data.retain(|name, _| SECRET_KEYS.contains(&name.as_str()));
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: Value) -> DynamicObject {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_nothing_reads_is_cut() {
        let secret = object(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {
                "name": "s", "namespace": "apps", "uid": "u", "resourceVersion": "7",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "large"},
                "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {}}],
            },
            "data": {"tls.crt": "YQ==", "tls.key": "Yg==", "password": "Yw=="},
        }));
        let text = pruned(Kind::Secret, secret).to_string();
        for gone in ["password", "last-applied", "managedFields"] {
            assert!(!text.contains(gone), "{gone} is in {text}");
        }
        assert!(text.contains("tls.crt") && text.contains("kubernetes.io/tls"), "{text}");
    }

    #[test]
    fn what_tells_an_object_from_another_survives() {
        let json = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "c", "uid": "u", "generation": 3, "creationTimestamp": "1970-01-01T00:01:40Z"},
            "spec": {"controllerName": "portolan.dev/gateway-controller"},
        });
        let parsed = Seen::from(object(json)).parse(Kind::GatewayClass).unwrap();
        assert_eq!((parsed.meta().created, parsed.meta().generation), (100, 3));
        assert_eq!(&*parsed.meta().uid, "u");
    }

    #[test]
    fn a_status_is_kept_as_text_for_the_kinds_that_have_one() {
        let json = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "g", "namespace": "d", "uid": "u", "resourceVersion": "9", "generation": 2},
            "spec": {}, "status": {"conditions": [{"type": "foreign"}]},
        });
        let seen = Seen::from(object(json));
        let observed = seen.observed(Kind::Gateway).unwrap();
        assert_eq!((&*observed.resource_version, observed.generation), ("9", 2));
        assert_eq!(observed.status(), json!({"conditions": [{"type": "foreign"}]}));
        assert_eq!(seen.observed(Kind::Service), None);
    }
}
