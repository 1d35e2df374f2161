//! Tables of [`super::merge`]: what is there, what is wanted, what is written.

use serde_json::{Value, json};

use super::{Merged, is_pending, merge};

const NOW: &str = "2026-01-02T03:04:05Z";
const OLD: &str = "2020-01-01T00:00:00Z";

/// A condition as it stands in a status.
fn condition(type_: &str, status: &str, generation: i64, since: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": "Because", "message": "", "observedGeneration": generation,
        "lastTransitionTime": since,
    })
}

/// A condition as the core wants it.
fn wanted(type_: &str, status: &str, generation: i64) -> Value {
    let mut condition = condition(type_, status, generation, "");
    condition.as_object_mut().unwrap().remove("lastTransitionTime");
    condition
}

/// A route's parent entry: controller, Gateway, conditions.
fn parent(controller: &str, gateway: &str, conditions: &Value) -> Value {
    json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway},
        "controllerName": controller, "conditions": conditions,
    })
}

const OURS: &str = "portolan.dev/gateway-controller";
const THEIRS: &str = "example.com/other";

/// The whole status after the write.
fn written(observed: &Value, generation: i64, desired: Option<&Value>) -> Value {
    match merge(observed, generation, desired, NOW) {
        Merged::Write(fields) => {
            let mut status = observed.clone();
            for (name, value) in fields {
                status[name] = value;
            }
            status
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_status_replaces_what_the_schema_put_there() {
    let default = json!({"conditions": [
        {"type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z"},
        {"type": "Programmed", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z"},
    ]});
    let desired = json!({
        "addresses": [{"type": "IPAddress", "value": "10.0.0.1"}],
        "conditions": [wanted("Accepted", "True", 1), wanted("Programmed", "False", 1)],
        "listeners": [{"name": "http", "attachedRoutes": 1, "supportedKinds": [], "conditions": [wanted("Accepted", "True", 1)]}],
    });
    let expected = json!({
        "addresses": [{"type": "IPAddress", "value": "10.0.0.1"}],
        "conditions": [condition("Accepted", "True", 1, NOW), condition("Programmed", "False", 1, NOW)],
        "listeners": [{"name": "http", "attachedRoutes": 1, "supportedKinds": [], "conditions": [condition("Accepted", "True", 1, NOW)]}],
    });
    assert_eq!(written(&default, 1, Some(&desired)), expected);
    assert_eq!(merge(&expected, 1, Some(&desired), "later"), Merged::Same);
}

#[test]
fn a_transition_time_moves_only_with_the_status() {
    let observed = json!({"conditions": [condition("Accepted", "True", 1, OLD), condition("Programmed", "True", 1, OLD)]});
    let desired = json!({"conditions": [wanted("Accepted", "True", 2), wanted("Programmed", "False", 2)]});
    let expected = json!({"conditions": [condition("Accepted", "True", 2, OLD), condition("Programmed", "False", 2, NOW)]});
    assert_eq!(written(&observed, 2, Some(&desired)), expected);
    // The core knows when it happened.
    let desired = json!({"conditions": [condition("Accepted", "False", 2, "2026-01-02T03:04:04Z")]});
    let expected = json!({"conditions": [condition("Accepted", "False", 2, "2026-01-02T03:04:04Z")]});
    assert_eq!(written(&observed, 2, Some(&desired)), expected);
}

#[test]
fn an_observed_generation_never_goes_back() {
    let observed = json!({"conditions": [condition("Accepted", "True", 5, OLD)]});
    let desired = json!({"conditions": [wanted("Accepted", "False", 4)]});
    assert_eq!(merge(&observed, 5, Some(&desired), NOW), Merged::Behind);
    // The object was made anew from a copy with its status: generation 5 does not exist yet.
    let expected = json!({"conditions": [condition("Accepted", "False", 4, NOW)]});
    assert_eq!(written(&observed, 4, Some(&desired)), expected);
}

#[test]
fn foreign_conditions_stay_where_they_are() {
    let foreign = json!({"type": "example.com/Foreign", "status": "True", "extra": {"b": 1, "a": [2]}});
    let listener = |conditions: Value| json!({"name": "http", "attachedRoutes": 0, "supportedKinds": [], "conditions": conditions});
    let observed = json!({
        "conditions": [foreign, condition("Accepted", "True", 1, OLD), condition("Conflicted", "True", 1, OLD)],
        "listeners": [listener(json!([condition("Accepted", "True", 1, OLD), foreign]))],
    });
    let desired = json!({
        "conditions": [wanted("Accepted", "True", 1), wanted("Programmed", "True", 1)],
        "listeners": [listener(json!([wanted("Accepted", "False", 1)]))],
    });
    let expected = json!({
        "conditions": [foreign, condition("Accepted", "True", 1, OLD), condition("Programmed", "True", 1, NOW)],
        "listeners": [listener(json!([condition("Accepted", "False", 1, NOW), foreign]))],
    });
    let after = written(&observed, 1, Some(&desired));
    assert_eq!(after, expected);
    assert_eq!(after["conditions"][0].to_string(), foreign.to_string(), "to the byte");
}

#[test]
fn entries_of_other_controllers_stay_and_ours_go_with_what_they_are_about() {
    let theirs = parent(THEIRS, "web", &json!([{"type": "Accepted", "status": "False", "weird": null}]));
    let observed = json!({"parents": [
        parent(OURS, "old", &json!([condition("Accepted", "True", 1, OLD)])),
        theirs,
        parent(OURS, "web", &json!([condition("Accepted", "True", 1, OLD)])),
    ]});
    let desired = json!({"parents": [
        parent(OURS, "new", &json!([wanted("Accepted", "True", 1)])),
        parent(OURS, "web", &json!([wanted("Accepted", "True", 1)])),
    ]});
    let expected = json!({"parents": [
        theirs,
        parent(OURS, "web", &json!([condition("Accepted", "True", 1, OLD)])),
        parent(OURS, "new", &json!([condition("Accepted", "True", 1, NOW)])),
    ]});
    let after = written(&observed, 1, Some(&desired));
    assert_eq!(after, expected);
    assert_eq!(after["parents"][0].to_string(), theirs.to_string(), "to the byte");
}

#[test]
fn a_route_that_is_ours_no_more_keeps_what_others_wrote() {
    let theirs = parent(THEIRS, "web", &json!([]));
    let observed = json!({"parents": [parent(OURS, "web", &json!([])), theirs]});
    assert_eq!(written(&observed, 1, None), json!({"parents": [theirs]}));
    assert_eq!(merge(&json!({"parents": [theirs]}), 1, None, NOW), Merged::Same);
    // Nobody can tell who wrote this: it stays.
    let gateway = json!({"conditions": [condition("Accepted", "True", 1, OLD)]});
    assert_eq!(merge(&gateway, 1, None, NOW), Merged::Same);
    assert_eq!(merge(&Value::Null, 1, None, NOW), Merged::Same);
}

#[test]
fn sections_of_one_gateway_are_entries_of_their_own() {
    let section = |name: &str, conditions: Value| {
        let mut entry = parent(OURS, "web", &conditions);
        entry["parentRef"]["sectionName"] = name.into();
        entry
    };
    let observed = json!({"parents": [section("b", json!([condition("Accepted", "True", 1, OLD)]))]});
    let desired = json!({"parents": [
        section("a", json!([wanted("Accepted", "True", 1)])),
        section("b", json!([wanted("Accepted", "True", 1)])),
    ]});
    let expected = json!({"parents": [
        section("b", json!([condition("Accepted", "True", 1, OLD)])),
        section("a", json!([condition("Accepted", "True", 1, NOW)])),
    ]});
    assert_eq!(written(&observed, 1, Some(&desired)), expected);
}

#[test]
fn where_a_list_is_full_only_ours_is_left_out() {
    let theirs: Vec<Value> =
        (0..31).map(|number| parent(&format!("{THEIRS}-{number}"), "web", &json!([]))).collect();
    let desired = json!({"parents": [parent(OURS, "a", &json!([])), parent(OURS, "b", &json!([]))]});
    let after = written(&json!({"parents": theirs}), 1, Some(&desired));
    let parents = after["parents"].as_array().unwrap();
    assert_eq!((parents.len(), &parents[31]["parentRef"]["name"]), (32, &json!("a")));
    assert_eq!(parents[..31], theirs);

    let ancestor = |controller: &str, name: &str| json!({"ancestorRef": {"name": name}, "controllerName": controller, "conditions": []});
    let full: Vec<Value> = (0..16).map(|number| ancestor(THEIRS, &format!("g{number}"))).collect();
    let desired = json!({"ancestors": [ancestor(OURS, "web")]});
    assert_eq!(merge(&json!({"ancestors": full}), 1, Some(&desired), NOW), Merged::Same);

    let foreign: Vec<Value> =
        (0..7).map(|number| condition(&format!("example.com/{number}"), "True", 1, OLD)).collect();
    let desired = json!({"conditions": [wanted("Accepted", "True", 1), wanted("Programmed", "True", 1)]});
    let after = written(&json!({"conditions": foreign}), 1, Some(&desired));
    let conditions = after["conditions"].as_array().unwrap();
    assert_eq!((conditions.len(), &conditions[7]["type"]), (8, &json!("Accepted")));
}

#[test]
fn listeners_that_are_gone_have_no_status() {
    let listener =
        |name: &str| json!({"name": name, "attachedRoutes": 0, "supportedKinds": [], "conditions": []});
    let observed = json!({"listeners": [listener("a"), listener("b")]});
    let desired = json!({"listeners": [listener("b"), listener("c")]});
    assert_eq!(written(&observed, 1, Some(&desired)), json!({"listeners": [listener("b"), listener("c")]}));
}

#[test]
fn an_empty_list_that_is_absent_is_not_written() {
    let desired = json!({"addresses": [], "conditions": [], "listeners": []});
    assert_eq!(merge(&json!({}), 1, Some(&desired), NOW), Merged::Same);
    // One that was there is emptied.
    let observed = json!({"addresses": [{"type": "IPAddress", "value": "10.0.0.1"}]});
    assert_eq!(written(&observed, 1, Some(&desired)), json!({"addresses": []}));
}

#[test]
fn a_message_is_cut_to_what_the_api_takes() {
    let mut long = wanted("Accepted", "False", 1);
    long["message"] = "é".repeat(20_000).into();
    let after = written(&json!({}), 1, Some(&json!({"conditions": [long]})));
    let message = after["conditions"][0]["message"].as_str().unwrap();
    assert!(message.len() <= 32_768 && message.ends_with("é…"), "{}", message.len());
    // What was cut is equal the next time.
    assert_eq!(merge(&after, 1, Some(&json!({"conditions": [long]})), NOW), Merged::Same);
}

#[test]
fn a_status_is_pending_while_proxies_have_not_answered() {
    let pending = |type_: &str| json!({"type": type_, "status": "False", "reason": "Pending"});
    assert!(is_pending(&json!({"conditions": [pending("Programmed")]})));
    assert!(is_pending(
        &json!({"parents": [{"conditions": []}, {"conditions": [pending("portolan.dev/Programmed")]}]})
    ));
    assert!(!is_pending(&json!({"conditions": [pending("Accepted")]})));
    assert!(!is_pending(
        &json!({"parents": [{"conditions": [condition("portolan.dev/Programmed", "True", 1, OLD)]}]})
    ));
}
