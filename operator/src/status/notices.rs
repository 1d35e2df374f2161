//! Which changes of a status are worth an event: what got wrong, and a Gateway that begins to serve. Pure.
//!
//! Taken from the difference between what stands in the API server and what is written over it, so that a restart or a
//! new leader tells nothing twice.

use portolan_crds::conditions::{gateway, gateway_class, listener, portolan, route};
use serde_json::{Map, Value};

use crate::events::Notice;

/// What to tell of a write. `fields` are those that replace what was `observed`.
pub(super) fn notices(observed: &Value, fields: &Map<String, Value>) -> Vec<Notice> {
    let mut notices = Vec::new();
    for (name, new) in fields {
        let old = observed.get(name);
        match name.as_str() {
            "conditions" => compare("", old, new, &mut notices),
            "listeners" => entries(old, new, &["name"], &mut notices),
            "parents" => entries(old, new, &["parentRef", "controllerName"], &mut notices),
            "ancestors" => entries(old, new, &["ancestorRef", "controllerName"], &mut notices),
            _ => {}
        }
    }
    notices
}

/// Compares the conditions of entries that have the same identity.
fn entries(old: Option<&Value>, new: &Value, identity: &[&str], notices: &mut Vec<Notice>) {
    for entry in list(Some(new)) {
        let same = |old: &&Value| identity.iter().all(|field| old[field] == entry[field]);
        let old = list(old).iter().find(same).and_then(|old| old.get("conditions"));
        let at = if let Value::String(listener) = &entry["name"] {
            format!("listener {listener}: ")
        } else {
            let reference = ["parentRef", "ancestorRef"].iter().find_map(|field| entry.get(field));
            let name = |field: &str| reference.and_then(|it| it[field].as_str());
            let section = name("sectionName").map(|section| format!(", {section}")).unwrap_or_default();
            format!("parent {}{section}: ", name("name").unwrap_or_default())
        };
        compare(&at, old, &entry["conditions"], notices);
    }
}

fn compare(at: &str, old: Option<&Value>, new: &Value, notices: &mut Vec<Notice>) {
    for condition in list(Some(new)) {
        let before = list(old).iter().find(|old| old["type"] == condition["type"]);
        let same = |field: &str| before.is_some_and(|before| before[field] == condition[field]);
        if same("status") && same("reason") {
            continue;
        }
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let Some((warning, action)) = judge(at, text("type"), text("status"), text("reason")) else {
            continue;
        };
        notices.push(Notice {
            warning,
            reason: text("reason").to_owned(),
            action,
            message: format!("{at}{}", text("message")),
        });
    }
}

/// Whether a condition that is new is worth an event: whether it is a warning, and what Portolan was doing.
fn judge(at: &str, type_: &str, status: &str, reason: &str) -> Option<(bool, &'static str)> {
    let (yes, no) = (status == "True", status == "False");
    if type_ == gateway::types::PROGRAMMED || type_ == portolan::types::PROGRAMMED {
        // Of listeners and routes the Gateway's own is enough.
        return match (yes, reason) {
            (true, _) => (at.is_empty()).then_some((false, "Program")),
            // A fleet that is being made has neither: that passes, and the status says it meanwhile.
            (false, gateway::reasons::PENDING | gateway::reasons::ADDRESS_NOT_ASSIGNED) => None,
            (false, _) => Some((true, "Program")),
        };
    }
    let bad = if type_ == listener::types::CONFLICTED || type_ == route::types::PARTIALLY_INVALID {
        yes
    } else {
        let good_when_true = [
            gateway::types::ACCEPTED,
            gateway::types::RESOLVED_REFS,
            gateway_class::types::SUPPORTED_VERSION,
        ];
        good_when_true.contains(&type_) && no && reason != gateway::reasons::PENDING
    };
    bad.then_some((true, "Resolve"))
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "words"})
    }

    /// What is told when `old` becomes `new`, as `W`arning or `N`ormal, reason and message.
    fn told(old: &Value, new: &Value) -> Vec<String> {
        let notices = notices(old, new.as_object().unwrap());
        let told = notices
            .iter()
            .map(|it| format!("{} {}: {}", if it.warning { "W" } else { "N" }, it.reason, it.message));
        told.collect()
    }

    #[test]
    fn what_gets_wrong_is_told_once() {
        let parents = |conditions: Value| json!({"parents": [{"parentRef": {"name": "web", "sectionName": "http"}, "controllerName": "c", "conditions": conditions}]});
        let good = parents(json!([condition("ResolvedRefs", "True", "ResolvedRefs")]));
        let bad = parents(json!([condition("ResolvedRefs", "False", "BackendNotFound")]));
        let worse = parents(json!([condition("ResolvedRefs", "False", "RefNotPermitted")]));
        assert_eq!(told(&good, &bad), ["W BackendNotFound: parent web, http: words"]);
        assert!(told(&bad, &bad).is_empty());
        assert_eq!(told(&bad, &worse), ["W RefNotPermitted: parent web, http: words"]);
        assert!(told(&worse, &good).is_empty());
    }

    #[test]
    fn a_rejection_by_envoy_is_told_and_waiting_for_it_is_not() {
        let gateway = |status: &str, reason: &str| {
            let listener = json!({"name": "http", "conditions": [condition("Programmed", status, reason)]});
            json!({"conditions": [condition("Programmed", status, reason)], "listeners": [listener]})
        };
        assert!(told(&json!({}), &gateway("False", "Pending")).is_empty());
        assert_eq!(
            told(&gateway("False", "Pending"), &gateway("True", "Programmed")),
            ["N Programmed: words"]
        );
        let rejected = told(&gateway("True", "Programmed"), &gateway("False", "Invalid"));
        assert_eq!(rejected, ["W Invalid: words", "W Invalid: listener http: words"]);
        let route = |reason: &str| {
            let conditions = [condition("portolan.dev/Programmed", "False", reason)];
            json!({"parents": [{"parentRef": {"name": "web"}, "controllerName": "c", "conditions": conditions}]})
        };
        assert_eq!(told(&route("Pending"), &route("Invalid")), ["W Invalid: parent web: words"]);
    }

    #[test]
    fn conditions_that_are_bad_when_true_are_told_when_true() {
        let conflicted = json!({"listeners": [{"name": "a", "conditions": [condition("Conflicted", "True", "HostnameConflict")]}]});
        assert_eq!(told(&json!({}), &conflicted), ["W HostnameConflict: listener a: words"]);
    }
}
