//! The schema of every kind that Portolan reads, so that files are checked as the API server would.
//!
//! Gateway API kinds: the official CRDs of v1.7.0, experimental channel (a superset of the standard one),
//! embedded without their description texts. Core kinds: derived from the `k8s-openapi` types, references
//! inlined, so that one walker serves both. Our own kinds: as their CRDs have it. Schemas are built on first use and live as long as the process.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use crate::core::{ClusterTrustBundle, ConfigMap, EndpointSlice, Namespace, Secret, Service};
use crate::install;

/// A kind's structural schema with what one needs to address it.
#[derive(Debug)]
pub struct Schema {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, for example `v1`.
    pub version: &'static str,
    /// Kind, for example `HTTPRoute`.
    pub kind: &'static str,
    /// Plural name in lower case, for example `httproutes`.
    pub plural: &'static str,
    /// Whether objects of this kind live in a namespace.
    pub namespaced: bool,
    /// Whether this comes from a CRD: then `default`, `x-kubernetes-validations` and the other structural
    /// keywords are complete. Core kinds have types only; the API server checks them with code.
    pub structural: bool,
    /// The `openAPIV3Schema`, with `x-kubernetes-*` extensions.
    pub value: Value,
}

impl Schema {
    /// `apiVersion` as it stands in a manifest: `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// A schema as the build script left it.
struct Embedded {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
    json: &'static str,
}

static EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/schemas.rs"));

type Key = (&'static str, &'static str, &'static str);

/// A schema that is built when first asked for.
type Lazy = LazyLock<Schema, Box<dyn FnOnce() -> Schema + Send>>;

static SCHEMAS: LazyLock<BTreeMap<Key, Lazy>> = LazyLock::new(|| {
    let mut schemas = BTreeMap::new();
    let mut add = |key: Key, build: Box<dyn FnOnce() -> Schema + Send>| {
        schemas.insert(key, LazyLock::new(build));
    };
    for embedded in EMBEDDED {
        let key = (embedded.group, embedded.kind, embedded.version);
        add(key, Box::new(move || from_crd(embedded)));
    }
    add(("", "Service", "v1"), Box::new(|| from_type::<Service>("", "Service", "services", true)));
    add(("", "Secret", "v1"), Box::new(|| from_type::<Secret>("", "Secret", "secrets", true)));
    add(("", "ConfigMap", "v1"), Box::new(|| from_type::<ConfigMap>("", "ConfigMap", "configmaps", true)));
    add(("", "Namespace", "v1"), Box::new(|| from_type::<Namespace>("", "Namespace", "namespaces", false)));
    let group = "discovery.k8s.io";
    add(
        (group, "EndpointSlice", "v1"),
        Box::new(move || from_type::<EndpointSlice>(group, "EndpointSlice", "endpointslices", true)),
    );
    let group = "certificates.k8s.io";
    // Its v1, of Kubernetes 1.37, has the same fields.
    for version in ["v1", "v1beta1"] {
        let build = move || Schema {
            version,
            ..from_type::<ClusterTrustBundle>(group, "ClusterTrustBundle", "clustertrustbundles", false)
        };
        add((group, "ClusterTrustBundle", version), Box::new(build));
    }
    for crd in install::own() {
        for schema in from_own(&crd) {
            let key = (schema.group, schema.kind, schema.version);
            add(key, Box::new(move || schema));
        }
    }
    schemas
});

/// The schema of a kind, or `None` when Portolan does not know it in this group and version.
pub fn schema(group: &str, version: &str, kind: &str) -> Option<&'static Schema> {
    // Scanned, not looked up: the keys live for ever, the arguments do not, and the list is short.
    SCHEMAS.iter().find(|(key, _)| **key == (group, kind, version)).map(|(_, schema)| &**schema)
}

/// Group, kind and version of every schema, sorted.
pub fn known() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    SCHEMAS.keys().copied()
}

fn from_crd(embedded: &'static Embedded) -> Schema {
    Schema {
        group: embedded.group,
        version: embedded.version,
        kind: embedded.kind,
        plural: embedded.plural,
        namespaced: embedded.namespaced,
        structural: true,
        // The build script wrote this text, and a test reads all of them: it parses.
        value: serde_json::from_str(embedded.json).unwrap_or_default(),
    }
}

/// One schema per served version. Its texts live as long as the process, as every schema does.
fn from_own(crd: &CustomResourceDefinition) -> Vec<Schema> {
    fn keep(text: &str) -> &'static str {
        Box::leak(text.to_owned().into_boxed_str())
    }
    let spec = &crd.spec;
    let served = spec.versions.iter().filter(|version| version.served);
    served
        .map(|version| {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let mut value = serde_json::to_value(schema).unwrap_or_default();
            // Every served object has metadata; the derive leaves it to the API server.
            if let Some(properties) = value.get_mut("properties").and_then(Value::as_object_mut) {
                properties.entry("metadata").or_insert_with(|| serde_json::json!({"type": "object"}));
            }
            inline(&mut value, &Value::Null, 0);
            Schema {
                group: keep(&spec.group),
                version: keep(&version.name),
                kind: keep(&spec.names.kind),
                plural: keep(&spec.names.plural),
                namespaced: spec.scope == "Namespaced",
                structural: true,
                value,
            }
        })
        .collect()
}

fn from_type<T: JsonSchema>(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Schema {
    let mut generator = SchemaGenerator::default();
    let mut value = generator.root_schema_for::<T>().to_value();
    let definitions = value.as_object_mut().and_then(|root| root.remove("$defs")).unwrap_or_default();
    inline(&mut value, &definitions, 0);
    Schema { group, version: "v1", kind, plural, namespaced, structural: false, value }
}

/// References nest this deep at most in the kinds above; the bound keeps a recursive type from hanging us.
const MAX_REFERENCE_DEPTH: usize = 32;

/// Replaces each `$ref` by what it names and drops the texts that no check reads.
fn inline(node: &mut Value, definitions: &Value, depth: usize) {
    if depth > MAX_REFERENCE_DEPTH {
        return;
    }
    let reference = node.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    if let Some(definition) = reference.and_then(|name| definitions.get(name)) {
        *node = definition.clone();
    }
    let Value::Object(keywords) = node else { return };
    for text in ["description", "title", "$schema"] {
        keywords.remove(text);
    }
    for (keyword, value) in keywords.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(|property| inline(property, definitions, depth + 1));
            }
            ("items" | "additionalProperties", value) => inline(value, definitions, depth + 1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, known, schema};

    fn count(node: &Value, keyword: &str) -> usize {
        match node {
            Value::Object(map) => {
                usize::from(map.contains_key(keyword))
                    + map.values().map(|value| count(value, keyword)).sum::<usize>()
            }
            Value::Array(items) => items.iter().map(|item| count(item, keyword)).sum(),
            _ => 0,
        }
    }

    #[test]
    fn every_schema_is_an_object_with_metadata() {
        for (group, kind, version) in known() {
            let schema = schema(group, version, kind).expect(kind);
            assert_eq!(schema.value["type"], "object", "{kind}");
            assert!(schema.value["properties"]["metadata"].is_object(), "{kind}");
            assert_eq!(count(&schema.value, "$ref"), 0, "{kind}");
        }
    }

    #[test]
    fn gateway_api_kinds_keep_their_rules_and_lose_their_texts() {
        let route = schema("gateway.networking.k8s.io", "v1", "HTTPRoute").expect("HTTPRoute");
        assert!(count(&route.value, "x-kubernetes-validations") > 20);
        assert_eq!(count(&route.value, "description"), 0);
        assert!(route.namespaced && route.structural);
        let class = schema("gateway.networking.k8s.io", "v1", "GatewayClass").expect("GatewayClass");
        assert!(!class.namespaced);
        assert!(class.value["properties"]["spec"]["properties"]["description"].is_object());
    }

    #[test]
    fn core_kinds_are_inlined() {
        let service = schema("", "v1", "Service").expect("Service");
        let port = &service.value["properties"]["spec"]["properties"]["ports"]["items"]["properties"]["port"];
        assert_eq!(port["type"], "integer");
        assert_eq!(service.api_version(), "v1");
        assert!(schema("", "v1", "Pod").is_none());
    }
}
