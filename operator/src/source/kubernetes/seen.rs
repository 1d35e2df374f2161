//! An object as the API server gives it, cut to what is used of it while it is read.
//!
//! managedFields and annotations (the last applied configuration is one) are often the larger part of an object; they never
//! become anything in memory. A status stays the text that it is, and so does everything else until the object turns out to
//! have changed in it: most of what a watch shows is a write of our own to a status.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{ApiResource, DynamicResourceScope, ObjectMeta, Resource};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use super::resource::has_status;
use crate::model::{Identity, Kind, Object, ObjectKey, ParseError, parse_identified};

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
    /// The status as JSON text: smaller than its tree, and rarely looked at. It is as the API server wrote it.
    pub status: Box<str>,
}

impl Observed {
    /// Of an object that was just read or written.
    pub fn of(object: Seen) -> Self {
        Self::new(&object.meta, object.status)
    }

    fn new(meta: &ObjectMeta, status: Option<Box<RawValue>>) -> Self {
        Self {
            uid: text(meta.uid.as_ref()),
            resource_version: text(meta.resource_version.as_ref()),
            generation: meta.generation.unwrap_or(0),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleted: meta.deletion_timestamp.is_some(),
            status: status.map_or_else(|| "{}".into(), Into::into),
        }
    }

    /// The status as JSON.
    ///
    /// # Errors
    /// Where it is no JSON that we can read: then nothing may be written over it, as it holds what others wrote.
    pub fn status(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.status)
    }
}

/// See the module.
#[derive(Clone, Default)]
pub struct Seen {
    meta: ObjectMeta,
    /// In a watch event it can be read because the API server writes the event's type before its object.
    status: Option<Box<RawValue>>,
    fields: Fields,
}

/// All fields of an object but its metadata, status, apiVersion and kind.
type Fields = Vec<(String, Box<RawValue>)>;

impl fmt::Debug for Seen {
    // It may be a Secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectMeta { namespace, name, resource_version, .. } = &self.meta;
        f.debug_struct("Seen")
            .field("namespace", namespace)
            .field("name", name)
            .field("resource_version", resource_version)
            .finish_non_exhaustive()
    }
}

/// What is read of metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    finalizers: Option<Vec<String>>,
}

impl From<Read> for ObjectMeta {
    fn from(read: Read) -> Self {
        Self {
            name: read.name,
            namespace: read.namespace,
            uid: read.uid,
            resource_version: read.resource_version,
            generation: read.generation,
            creation_timestamp: read.creation_timestamp,
            deletion_timestamp: read.deletion_timestamp,
            labels: read.labels,
            finalizers: read.finalizers,
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Seen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of the Kubernetes API")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
                let mut seen = Seen::default();
                let mut identified = false;
                while let Some(name) = map.next_key::<String>()? {
                    match &*name {
                        "metadata" => {
                            seen.meta = map.next_value::<Read>()?.into();
                            identified = true;
                        }
                        "status" => seen.status = Some(map.next_value()?),
                        "apiVersion" | "kind" => _ = map.next_value::<IgnoredAny>()?,
                        _ => {
                            let value = map.next_value()?;
                            seen.fields.push((name, value));
                        }
                    }
                }
                if identified { Ok(seen) } else { Err(A::Error::missing_field("metadata")) }
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

impl Resource for Seen {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

impl Seen {
    pub(super) fn key(&self, kind: Kind) -> ObjectKey {
        key(&self.meta, kind)
    }

    pub(super) fn version(&self) -> Version {
        let meta = &self.meta;
        let spec = meta.generation.map(|generation| (text(meta.uid.as_ref()), generation));
        Version { resource: text(meta.resource_version.as_ref()), spec }
    }

    /// What a status writer needs, `None` for kinds without a status of ours; and the rest.
    pub(super) fn split(self, kind: Kind) -> (Option<Observed>, Content) {
        let Self { meta, status, fields } = self;
        (has_status(kind).then(|| Observed::new(&meta, status)), Content { meta, fields })
    }
}

/// An object without its status.
pub(super) struct Content {
    meta: ObjectMeta,
    fields: Fields,
}

impl Content {
    /// The object in our model.
    pub(super) fn parse(self, kind: Kind) -> Result<Object, ParseError> {
        let key = key(&self.meta, kind);
        let Self { meta, fields } = self;
        let read = |(name, text): (String, Box<RawValue>)| match serde_json::from_str(text.get()) {
            Ok(value) => Ok((name, value)),
            // It is JSON, but perhaps of a depth that nothing of ours has.
            Err(error) => Err(ParseError { key: key.clone(), message: format!("{name}: {error}") }),
        };
        let mut fields = fields.into_iter().map(read).collect::<Result<Map<String, Value>, _>>()?;
        if kind == Kind::Secret
            && let Some(Value::Object(data)) = fields.get_mut("data")
        {
            data.retain(|name, _| SECRET_KEYS.contains(&name.as_str()));
        }
        let identity = Identity {
            name: text(meta.name.as_ref()),
            uid: meta.uid.map(Into::into),
            namespace: meta.namespace.map(Into::into),
            generation: meta.generation,
            creation_timestamp: meta.creation_timestamp.map(|at| at.0),
            labels: meta.labels.map(|labels| labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect()),
        };
        parse_identified(kind, &identity, &Value::Object(fields))
    }
}

fn key(meta: &ObjectMeta, kind: Kind) -> ObjectKey {
    let namespace = if kind.cluster_scoped() { "".into() } else { text(meta.namespace.as_ref()) };
    ObjectKey::new(kind, namespace, text(meta.name.as_ref()))
}

fn text(field: Option<&String>) -> Arc<str> {
    field.map_or_else(|| "".into(), |text| text.as_str().into())
}

#[cfg(test)]
mod tests {
    use kube::core::WatchEvent;
    use serde_json::json;

    use super::*;

    /// As it comes from the API server.
    fn seen(json: &Value) -> Seen {
        let event = json!({"type": "ADDED", "object": json}).to_string();
        match serde_json::from_str(&event).unwrap() {
            WatchEvent::Added(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_nothing_reads_is_cut() {
        let secret = seen(&json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {
                "name": "s", "namespace": "apps", "uid": "u", "resourceVersion": "7",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "large"},
                "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {}}],
            },
            "data": {"tls.crt": "YQ==", "tls.key": "Yg==", "password": "Yw=="},
        }));
        assert_eq!((&secret.meta.annotations, &secret.meta.managed_fields), (&None, &None));
        assert!(!format!("{secret:?}").contains("Yg=="), "keys are in no log");
        let Object::Secret(secret) = secret.split(Kind::Secret).1.parse(Kind::Secret).unwrap() else {
            panic!("no Secret")
        };
        assert_eq!((secret.certificate.as_deref(), &*secret.type_), (Some(&b"a"[..]), "kubernetes.io/tls"));
    }

    #[test]
    fn what_is_too_deep_to_read_is_a_problem_of_its_object() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let event = format!(
            r#"{{"type": "ADDED", "object": {{"metadata": {{"name": "r", "namespace": "d"}}, "spec": {deep}}}}}"#
        );
        let WatchEvent::Added(seen) = serde_json::from_str::<WatchEvent<Seen>>(&event).unwrap() else {
            panic!("no object")
        };
        let error = seen.split(Kind::HttpRoute).1.parse(Kind::HttpRoute).unwrap_err();
        assert_eq!(error.key, ObjectKey::new(Kind::HttpRoute, "d", "r"));
        assert!(error.message.starts_with("spec: recursion limit exceeded"), "{}", error.message);
    }

    #[test]
    fn what_tells_an_object_from_another_survives() {
        let json = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "c", "uid": "u", "generation": 3, "creationTimestamp": "1970-01-01T00:01:40Z"},
            "spec": {"controllerName": "portolan.dev/gateway-controller"},
        });
        let parsed = seen(&json).split(Kind::GatewayClass).1.parse(Kind::GatewayClass).unwrap();
        assert_eq!((parsed.meta().created, parsed.meta().generation), (100, 3));
        assert_eq!(&*parsed.meta().uid, "u");
    }

    #[test]
    fn a_status_is_kept_as_text_for_the_kinds_that_have_one() {
        let seen = seen(&json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "g", "namespace": "d", "uid": "u", "resourceVersion": "9", "generation": 2},
            "spec": {}, "status": {"conditions": [{"type": "foreign"}]},
        }));
        assert_eq!(seen.clone().split(Kind::Service).0, None);
        let observed = seen.split(Kind::Gateway).0.unwrap();
        assert_eq!((&*observed.resource_version, observed.generation), ("9", 2));
        assert_eq!(observed.status().unwrap(), json!({"conditions": [{"type": "foreign"}]}));
    }
}
