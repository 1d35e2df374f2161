//! What a standalone says about itself: `/status`, and `portolan status -o json`.

use std::fmt;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;

/// One condition of an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason.
    pub reason: String,
    /// The message.
    pub message: String,
    /// The generation that was judged.
    pub observed_generation: i64,
}

impl Condition {
    /// Whether it is True.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// Whether it is False for that reason.
    pub fn is_false(&self, reason: &str) -> bool {
        self.status == "False" && self.reason == reason
    }
}

/// Something wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 when it is about the whole file.
    pub line: u64,
    /// The column, from 1; 0 likewise.
    pub column: u64,
    /// `error` or `warning`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// The object, where it is known.
    pub object: Option<String>,
}

/// A status at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(Value);

impl Status {
    /// Reads it from JSON.
    ///
    /// # Errors
    /// Where it is not JSON.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Self)
    }

    /// The JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// The standalone's process id.
    pub fn pid(&self) -> Option<u64> {
        self.0["pid"].as_u64()
    }

    /// Problems with the manifests.
    pub fn problems(&self) -> Vec<Problem> {
        serde_json::from_value(self.0["problems"].clone()).expect("problems are as documented")
    }

    /// Whether a Gateway's proxy is ready.
    pub fn proxy_ready(&self, gateway: &str) -> bool {
        self.0["gateways"][gateway]["proxy"]["ready"] == true
    }

    /// How often the Envoy of a Gateway was started again.
    pub fn restarts(&self, gateway: &str) -> Option<u64> {
        self.0["gateways"][gateway]["proxy"]["restarts"].as_u64()
    }

    /// The Gateways that have a proxy.
    pub fn gateways(&self) -> Vec<String> {
        self.0["gateways"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default()
    }

    /// Where a Gateway's TCP port of the API is bound.
    pub fn bound(&self, gateway: &str, port: u16) -> Option<SocketAddr> {
        self.bound_on(gateway, &format!("{port}/tcp"))
    }

    /// Where a port of a Gateway is bound: `80/tcp`, `53/udp`.
    pub fn bound_on(&self, gateway: &str, port: &str) -> Option<SocketAddr> {
        let bound = &self.0["gateways"][gateway]["ports"][port];
        bound.as_array()?.iter().filter_map(Value::as_str).find_map(|text| text.parse().ok())
    }

    /// The status of an object, `<Kind>/<namespace>/<name>`.
    pub fn object(&self, key: &str) -> Option<&Value> {
        self.0["objects"].get(key)
    }

    /// The objects that have a status.
    pub fn objects(&self) -> Vec<String> {
        self.0["objects"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default()
    }

    /// A condition of a Gateway or a class, or of the first parent of a route.
    pub fn condition(&self, key: &str, type_: &str) -> Option<Condition> {
        self.parent_condition(key, 0, type_)
    }

    /// A condition of one parent of a route, by its place.
    pub fn parent_condition(&self, key: &str, parent: usize, type_: &str) -> Option<Condition> {
        let object = self.object(key)?;
        let conditions = match object.get("parents") {
            Some(parents) => parents.get(parent)?.get("conditions")?,
            None => object.get("conditions")?,
        };
        find(conditions, type_)
    }

    /// A condition of a listener.
    pub fn listener_condition(&self, gateway: &str, listener: &str, type_: &str) -> Option<Condition> {
        find(&self.listener(gateway, listener)?["conditions"], type_)
    }

    /// The status of a listener of a Gateway, `<namespace>/<name>`.
    pub fn listener(&self, gateway: &str, listener: &str) -> Option<&Value> {
        let listeners = self.object(&format!("Gateway/{gateway}"))?["listeners"].as_array()?;
        listeners.iter().find(|one| one["name"] == listener)
    }

    /// The generation that an object's status is about; 0 without a status.
    pub fn generation(&self, key: &str) -> i64 {
        let Some(object) = self.object(key) else { return 0 };
        let own = object.get("conditions").into_iter();
        let parents = object["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let all = own.chain(parents.iter().filter_map(|parent| parent.get("conditions")));
        let conditions = all.filter_map(Value::as_array).flatten();
        conditions.filter_map(|one| one["observedGeneration"].as_i64()).max().unwrap_or(0)
    }

    /// Whether the Envoy of every parent acknowledged an object as it is now.
    pub fn programmed(&self, key: &str) -> bool {
        let Some(object) = self.object(key) else { return false };
        match object.get("parents").and_then(Value::as_array) {
            Some(parents) => {
                let programmed = |parent: &Value| {
                    let condition = find(&parent["conditions"], "portolan.dev/Programmed");
                    condition.is_some_and(|one| one.is_true())
                };
                !parents.is_empty() && parents.iter().all(programmed)
            }
            None => find(&object["conditions"], "Programmed").is_some_and(|one| one.is_true()),
        }
    }

    /// Whether nothing is on its way any more: every Gateway's proxy is ready, and no condition waits for an Envoy.
    pub fn settled(&self) -> bool {
        let pending = |condition: &Value| {
            let programmed = condition["type"].as_str().is_some_and(|type_| type_.ends_with("Programmed"));
            programmed && condition["reason"] == "Pending"
        };
        self.0["ready"] == true
            && self.gateways().iter().all(|gateway| self.proxy_ready(gateway))
            && !any_condition(&self.0["objects"], &pending)
    }
}

/// Whether a predicate holds for any condition anywhere below a value.
fn any_condition(value: &Value, predicate: &impl Fn(&Value) -> bool) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, inner)| {
            let conditions = if name == "conditions" { inner.as_array() } else { None };
            conditions.is_some_and(|all| all.iter().any(predicate)) || any_condition(inner, predicate)
        }),
        Value::Array(items) => items.iter().any(|item| any_condition(item, predicate)),
        _ => false,
    }
}

fn find(conditions: &Value, type_: &str) -> Option<Condition> {
    let found = conditions.as_array()?.iter().find(|one| one["type"] == type_)?;
    Some(serde_json::from_value(found.clone()).expect("a condition has all its fields"))
}

/// For people: what is not well in full, the rest in short.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "ready: {}, problems: {}, gateways: {}",
            self.0["ready"], self.0["problems"], self.0["gateways"]
        )?;
        let objects = self.0["objects"].as_object().into_iter().flatten();
        let (well, other): (Vec<_>, Vec<_>) =
            objects.partition(|(_, object)| !any_condition(object, &|one| one["status"] != "True"));
        for (key, object) in other {
            writeln!(f, "{key}: {object}")?;
        }
        write!(f, "{} objects with all conditions True", well.len())
    }
}
