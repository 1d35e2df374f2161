//! How each object stands: its report as it would be written, with transition times that move only with a status.
//!
//! In a cluster the API server remembers them; a standalone has only us. Kept per condition: where it stands in the
//! report, its status, and since when. Reports themselves are made anew when somebody asks.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::{model::ObjectKey, resolve::Report};

/// One condition's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingCondition {
    /// A hash of where it stands in the report, and its type.
    place: u64,
    /// A hash of its status.
    status: u64,
    since: Timestamp,
}

/// The memory of all objects.
#[derive(Debug, Default)]
pub struct Standing {
    objects: HashMap<ObjectKey, (u64, Vec<StandingCondition>)>,
}

impl Standing {
    /// Takes in an object's newest report. Returns whether anything in it changed.
    pub fn observe(&mut self, key: &ObjectKey, report: Option<&Report>, now: Timestamp) -> bool {
        let Some(report) = report else { return self.objects.remove(key).is_some() };
        let mut json = json!(report);
        let content = xxh3_64(json.to_string().as_bytes());
        let before = self.objects.get(key);
        if before.is_some_and(|(old, _)| *old == content) {
            return false;
        }
        let mut conditions = Vec::new();
        let old = before.map(|(_, conditions)| conditions.as_slice()).unwrap_or_default();
        for_each_condition(&mut json, &mut |place, condition| {
            let status = xxh3_64(condition["status"].to_string().as_bytes());
            let same = old.iter().find(|one| one.place == place && one.status == status);
            let since = same.map_or(now, |one| one.since);
            conditions.push(StandingCondition { place, status, since });
        });
        self.objects.insert(key.clone(), (content, conditions));
        true
    }

    /// A report as JSON, with `lastTransitionTime` in every condition.
    pub fn stamp(&self, key: &ObjectKey, report: &Report) -> Value {
        let mut json = json!(report);
        let known = self.objects.get(key).map(|(_, conditions)| conditions.as_slice()).unwrap_or_default();
        for_each_condition(&mut json, &mut |place, condition| {
            let found = known.iter().find(|one| one.place == place);
            // The API has whole seconds (metav1.Time).
            let since = found.map(|one| one.since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            if let (Some(since), Some(fields)) = (since, condition.as_object_mut()) {
                fields.insert("lastTransitionTime".into(), since.into());
            }
        });
        json
    }
}

/// Visits the conditions of a status wherever they stand: the object's own, a listener's, a parent's.
fn for_each_condition(status: &mut Value, visit: &mut impl FnMut(u64, &mut Value)) {
    fn walk(node: &mut Value, path: &str, visit: &mut impl FnMut(u64, &mut Value)) {
        match node {
            Value::Object(fields) => {
                // What tells list entries apart is not their position: listeners by name, parents by reference.
                let identity = ["name", "parentRef", "ancestorRef"].iter().find_map(|name| fields.get(*name));
                let path = identity.map_or_else(|| path.to_owned(), |identity| format!("{path}/{identity}"));
                for (name, value) in fields.iter_mut() {
                    match value {
                        Value::Array(conditions) if name == "conditions" => {
                            for condition in conditions {
                                let place = format!("{path}/{}", condition["type"]);
                                visit(xxh3_64(place.as_bytes()), condition);
                            }
                        }
                        Value::Object(_) | Value::Array(_) => walk(value, &format!("{path}/{name}"), visit),
                        _ => {}
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, path, visit)),
            _ => {}
        }
    }
    walk(status, "", visit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Kind,
        resolve::{ClassReport, Condition, Status},
    };

    fn report(status: Status, reason: &'static str) -> Report {
        let condition =
            Condition { type_: "Accepted", status, reason, message: String::new(), observed_generation: 1 };
        Report::Class(ClassReport { conditions: vec![condition], supported_features: Vec::new() })
    }

    fn second(at: i64) -> Timestamp {
        Timestamp::from_second(at).unwrap()
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let key = ObjectKey::new(Kind::GatewayClass, "", "c");
        let mut standing = Standing::default();
        let (good, other) = (report(Status::True, "Accepted"), report(Status::True, "Again"));
        assert!(standing.observe(&key, Some(&good), second(10)));
        assert!(!standing.observe(&key, Some(&good), second(20)));
        assert!(standing.observe(&key, Some(&other), second(30)));
        assert_eq!(
            standing.stamp(&key, &other)["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:00:10Z"
        );
        let bad = report(Status::False, "Pending");
        assert!(standing.observe(&key, Some(&bad), second(40)));
        assert_eq!(standing.stamp(&key, &bad)["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:40Z");
        assert!(standing.observe(&key, None, second(50)));
    }
}
