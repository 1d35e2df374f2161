//! What to do about one object: pure, from how it should be and how it is.
//!
//! An object is ours when the Gateway owns it: an owner reference with the Gateway's uid, which only we write. An object
//! of our name that is not ours is never touched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use portolan_crds::names::{self, labels};
use serde_json::Value;

use super::objects::{Desired, OwnedKind};
use crate::fleet::GatewayName;

/// On every object of ours: a hash of what we wrote last. With it an object that still is as we wrote it is told from
/// one that has lost a field which we have given up, without writing it again to see.
pub const APPLIED: &str = "portolan.dev/applied";

/// On every object of ours: the namespace of the operator that keeps it. Two operators with one controller name would
/// write over each other's fleets for ever; whoever came first keeps one.
pub const OPERATOR: &str = "portolan.dev/operator";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It does not exist.
    Create,
    /// It is ours and as it should be.
    Keep,
    /// It is ours and differs. The write holds only for this version.
    Update {
        /// Its resourceVersion.
        version: String,
    },
    /// It is ours, and Kubernetes allows no change of a field that has to change: delete it, then create it.
    Recreate {
        /// Its uid.
        uid: String,
    },
    /// It belonged to an earlier Gateway of this name, or is being deleted: it has to be gone first.
    Remove {
        /// Its uid; none where somebody deletes it already.
        uid: Option<String>,
    },
    /// It is not ours. Says whose it is.
    Refuse(String),
}

/// A hash of an object as it should be.
pub fn digest(desired: &Value) -> String {
    // Objects are made of sorted maps and of structs with fixed fields: equal objects have equal texts.
    let hash = xxhash_rust::xxh3::xxh3_128(desired.to_string().as_bytes());
    format!("{hash:032x}")
}

/// The object to write: as desired, with its hash.
pub fn with_digest(desired: &Desired) -> Value {
    let mut object = desired.value.clone();
    let digest = digest(&desired.value);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations =
            metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(APPLIED.to_owned(), digest.into());
        }
    }
    object
}

/// An object as this operator keeps it.
pub fn kept_by(desired: &Desired, operator: &str) -> Desired {
    let mut kept = desired.clone();
    if let Some(metadata) = kept.value.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations =
            metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(OPERATOR.to_owned(), operator.into());
        }
    }
    kept
}

/// The other operator that keeps an object, if one does.
pub fn rival(live: &Value, operator: &str) -> Option<String> {
    let keeper = live.pointer("/metadata/annotations").and_then(|all| all.get(OPERATOR))?.as_str()?;
    (keeper != operator).then(|| keeper.to_owned())
}

/// Decides what to do about an object of a Gateway (name and uid).
pub fn step(desired: &Desired, live: Option<&Value>, gateway: &GatewayName, uid: &str) -> Step {
    let Some(live) = live else { return Step::Create };
    let live_uid = text(live, "/metadata/uid").to_owned();
    match owner_of(live) {
        Some(owner) if owner.uid == uid => {}
        Some(owner) if is_gateway(&owner) && owner.name == *gateway.key().name => {
            return Step::Remove { uid: Some(live_uid) };
        }
        Some(owner) => return Step::Refuse(format!("{} {} owns it", owner.kind, owner.name)),
        None if text(live, &managed_by()) == labels::MANAGED_BY_PORTOLAN => {
            return Step::Refuse("it has lost its owner reference to the Gateway".to_owned());
        }
        None => return Step::Refuse("it was there before".to_owned()),
    }
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        return Step::Remove { uid: None };
    }
    if desired.kind == OwnedKind::Service && asks_for_another_address(&desired.value, live) {
        return Step::Recreate { uid: live_uid };
    }
    let applied = live.pointer("/metadata/annotations").and_then(|all| all.get(APPLIED));
    let digest = digest(&desired.value);
    if applied.and_then(Value::as_str) == Some(digest.as_str()) && covers(live, &desired.value) {
        return Step::Keep;
    }
    Step::Update { version: text(live, "/metadata/resourceVersion").to_owned() }
}

/// A Service's clusterIP is given once.
fn asks_for_another_address(desired: &Value, live: &Value) -> bool {
    let address =
        |service: &Value| service.pointer("/spec/clusterIP").and_then(Value::as_str).map(str::to_owned);
    address(desired).is_some_and(|wanted| address(live).as_ref() != Some(&wanted))
}

/// The controlling owner of an object.
pub fn owner_of(object: &Value) -> Option<OwnerReference> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let controller = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    serde_json::from_value(controller.clone()).ok()
}

/// Whether an owner is a Gateway.
pub fn is_gateway(owner: &OwnerReference) -> bool {
    let group = owner.api_version.split('/').next();
    owner.kind == "Gateway" && group == Some(names::GATEWAY_API_GROUP)
}

fn managed_by() -> String {
    format!("/metadata/labels/{}", labels::MANAGED_BY.replace('/', "~1"))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether everything desired is there. What the API server or others added does not matter.
fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(key, value)| live.get(key).map_or_else(|| is_empty(value), |found| covers(found, value))),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| covers(live, desired))
        }
        (live, desired) => live == desired,
    }
}

/// The API server leaves out empty maps and lists.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn desired(kind: OwnedKind, spec: &Value) -> Desired {
        let value = json!({
            "apiVersion": "v1", "kind": kind.as_str(), "spec": spec,
            "metadata": {
                "name": "web-portolan", "namespace": "apps",
                "labels": {"app.kubernetes.io/managed-by": "portolan"},
                "ownerReferences": [owner("Gateway", "web", "u1")],
            },
        });
        Desired { kind, name: "web-portolan".to_owned(), value }
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        let group = if kind == "Gateway" { "gateway.networking.k8s.io/v1" } else { "apps/v1" };
        json!({"apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": true})
    }

    /// As the API server has it after we wrote it.
    fn written(desired: &Desired) -> Value {
        let mut live = with_digest(desired);
        live["metadata"]["uid"] = "o1".into();
        live["metadata"]["resourceVersion"] = "7".into();
        live["spec"]["added"] = "by a default".into();
        live
    }

    fn decide(desired: &Desired, live: &Value) -> Step {
        step(desired, Some(live), &GatewayName::new("apps", "web").unwrap(), "u1")
    }

    #[test]
    fn an_object_that_is_as_we_wrote_it_is_left_alone() {
        let service = desired(OwnedKind::Service, &json!({"ports": [{"port": 80}], "selector": {"a": "b"}}));
        let gateway = GatewayName::new("apps", "web").unwrap();
        assert_eq!(step(&service, None, &gateway, "u1"), Step::Create);
        assert_eq!(decide(&service, &written(&service)), Step::Keep);
    }

    #[test]
    fn drift_is_repaired() {
        let service = desired(OwnedKind::Service, &json!({"ports": [{"port": 80}], "selector": {"a": "b"}}));
        let update = Step::Update { version: "7".to_owned() };
        let changed = |change: fn(&mut Value)| {
            let mut live = written(&service);
            change(&mut live);
            decide(&service, &live)
        };
        assert_eq!(changed(|live| live["spec"]["ports"][0]["port"] = 81.into()), update);
        assert_eq!(changed(|live| live["spec"]["ports"] = json!([{"port": 80}, {"port": 81}])), update);
        assert_eq!(changed(|live| live["spec"]["selector"] = json!({})), update);
        assert_eq!(changed(|live| live["metadata"]["labels"] = json!({})), update);
        let annotation = |live: &mut Value| live["metadata"]["annotations"] = json!({});
        assert_eq!(changed(annotation), update, "without the hash nobody knows");
        let foreign = |live: &mut Value| live["metadata"]["annotations"]["other.example/note"] = "x".into();
        assert_eq!(changed(foreign), Step::Keep, "what others add is theirs");
    }

    #[test]
    fn a_field_that_is_given_up_is_taken_away() {
        let before =
            desired(OwnedKind::Service, &json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1"}));
        let after = desired(OwnedKind::Service, &json!({"type": "LoadBalancer"}));
        assert_eq!(decide(&after, &written(&before)), Step::Update { version: "7".to_owned() });
    }

    #[test]
    fn an_object_that_is_not_ours_is_refused() {
        let service = desired(OwnedKind::Service, &json!({}));
        let owned_by = |owners: Value| {
            let mut live = written(&service);
            live["metadata"]["ownerReferences"] = owners;
            decide(&service, &live)
        };
        let refusals = [
            (owned_by(json!([])), "lost its owner reference"),
            (owned_by(json!([owner("Deployment", "web", "u1x")])), "Deployment web owns it"),
            (owned_by(json!([owner("Gateway", "web-a", "u2")])), "Gateway web-a owns it"),
        ];
        for (step, expected) in refusals {
            let Step::Refuse(why) = step else { panic!("{step:?}") };
            assert!(why.contains(expected), "{why}");
        }
        let mut stranger = written(&service);
        stranger["metadata"] = json!({"name": "web-portolan", "uid": "x"});
        assert_eq!(decide(&service, &stranger), Step::Refuse("it was there before".to_owned()));
    }

    #[test]
    fn what_an_earlier_gateway_of_the_name_left_goes_first() {
        let service = desired(OwnedKind::Service, &json!({}));
        let mut left = written(&service);
        left["metadata"]["ownerReferences"] = json!([owner("Gateway", "web", "u0")]);
        assert_eq!(decide(&service, &left), Step::Remove { uid: Some("o1".to_owned()) });
        let mut going = written(&service);
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(decide(&service, &going), Step::Remove { uid: None });
    }

    #[test]
    fn another_cluster_ip_needs_another_service() {
        let service = desired(OwnedKind::Service, &json!({"clusterIP": "10.96.0.7"}));
        let mut live = written(&service);
        assert_eq!(decide(&service, &live), Step::Keep);
        live["spec"]["clusterIP"] = "10.96.0.8".into();
        assert_eq!(decide(&service, &live), Step::Recreate { uid: "o1".to_owned() });
        let any = desired(OwnedKind::Service, &json!({}));
        assert_eq!(decide(&any, &written(&any)), Step::Keep, "any address will do");
    }

    #[test]
    fn what_another_operator_keeps_is_known_by_its_name() {
        let service = desired(OwnedKind::Service, &json!({}));
        let ours = written(&kept_by(&service, "one"));
        assert_eq!(rival(&ours, "one"), None);
        assert_eq!(rival(&ours, "two").as_deref(), Some("one"));
        assert_eq!(rival(&written(&service), "two"), None, "nobody's yet");
        assert_eq!(decide(&kept_by(&service, "one"), &ours), Step::Keep);
        assert!(matches!(decide(&kept_by(&service, "one"), &written(&service)), Step::Update { .. }));
    }
}
