//! What to write into a status: what we want to say, merged into what is there. Pure.
//!
//! Many write into one status, and its lists are atomic, so whoever writes one writes all of it. Promises
//! (conformance.md of the suite, Gateway API §status):
//!
//! - entries of other controllers and conditions of types that are not ours stay as they are, to the byte;
//! - where a list is full, only entries of ours are left out;
//! - an entry of ours goes when what it is about goes;
//! - `lastTransitionTime` moves only with `status`, `observedGeneration` never goes back;
//! - what is equal already is not written.

use portolan_crds::{
    conditions::{gateway, gateway_class, listener, policy, portolan, route},
    names::{API_GROUP, CONTROLLER_NAME},
};
use serde_json::{Map, Value};

/// The types of conditions that Portolan writes, wherever, beside those in its own domain. Any other is somebody else's.
const OWN_TYPES: [&str; 10] = [
    gateway::types::ACCEPTED,
    gateway::types::INSECURE_FRONTEND_VALIDATION_MODE,
    gateway::types::PROGRAMMED,
    gateway::types::RESOLVED_REFS,
    gateway_class::types::SUPPORTED_VERSION,
    listener::types::CONFLICTED,
    listener::types::OVERLAPPING_TLS_CONFIG,
    policy::types::RESOLVED_REFS,
    route::types::ACCEPTED,
    route::types::PARTIALLY_INVALID,
];

/// How many conditions, parents and ancestors the API's schemas allow.
const MAX_CONDITIONS: usize = 8;
const MAX_PARENTS: usize = 32;
const MAX_ANCESTORS: usize = 16;

/// The longest message of a condition, in bytes (metav1.Condition).
const MAX_MESSAGE: usize = 32_768;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Merged {
    /// Everything is as it should be.
    Same,
    /// Somebody has seen a newer generation than we have: what we would say is out of date.
    Behind,
    /// These fields of the status are to be replaced; the others stay.
    Write(Map<String, Value>),
}

/// Merges what we want to say into what is there. `desired` is nothing for an object that is not ours (any more).
/// `generation` is the object's own, and `now` the time for transitions that `desired` has none for.
pub fn merge(observed: &Value, generation: i64, desired: Option<&Value>, now: &str) -> Merged {
    let context = Context { generation, now };
    let empty = Map::new();
    let there = observed.as_object().unwrap_or(&empty);
    // Of a status that says nothing of controllers, nobody can tell what is ours: it is left to whoever is next.
    let removals;
    let wanted = if let Some(wanted) = desired.and_then(Value::as_object) {
        wanted
    } else {
        removals = LISTS.into_iter().filter(|list| there.contains_key(list.field));
        &removals.map(|list| (list.field.to_owned(), Value::Array(Vec::new()))).collect()
    };
    let mut fields = Map::new();
    for (name, value) in wanted {
        let old = there.get(name);
        let new = match name.as_str() {
            "conditions" => context.conditions(old, value),
            "listeners" => context.listeners(old, value),
            _ => match LISTS.into_iter().find(|list| list.field == name) {
                Some(list) => context.entries(old, value, list),
                None => Ok(value.clone()),
            },
        };
        let Ok(new) = new else { return Merged::Behind };
        let absent = old.is_none() && is_nothing(&new);
        if old != Some(&new) && !absent {
            fields.insert(name.clone(), new);
        }
    }
    if fields.is_empty() { Merged::Same } else { Merged::Write(fields) }
}

/// The API server leaves out lists that are empty and optional.
fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// A list whose entries belong to controllers.
#[derive(Clone, Copy, Debug)]
struct List {
    field: &'static str,
    reference: &'static str,
    limit: usize,
}

const LISTS: [List; 2] = [
    List { field: "parents", reference: "parentRef", limit: MAX_PARENTS },
    List { field: "ancestors", reference: "ancestorRef", limit: MAX_ANCESTORS },
];

/// See [`Merged::Behind`].
struct Behind;

struct Context<'a> {
    generation: i64,
    now: &'a str,
}

impl Context<'_> {
    fn conditions(&self, old: Option<&Value>, wanted: &Value) -> Result<Value, Behind> {
        let (old, wanted) = (list(old), list(Some(wanted)));
        let foreign = old.iter().filter(|one| !is_own(one)).count();
        // The first ones matter most.
        let wanted = wanted.get(..MAX_CONDITIONS.saturating_sub(foreign)).unwrap_or(wanted);
        let mut merged = Vec::new();
        for one in old {
            match wanted.iter().find(|wanted| wanted["type"] == one["type"]) {
                None if is_own(one) => {}
                None => merged.push(one.clone()),
                Some(wanted) => merged.push(self.condition(Some(one), wanted)?),
            }
        }
        for one in wanted.iter().filter(|wanted| !old.iter().any(|old| old["type"] == wanted["type"])) {
            merged.push(self.condition(None, one)?);
        }
        Ok(Value::Array(merged))
    }

    fn condition(&self, old: Option<&Value>, wanted: &Value) -> Result<Value, Behind> {
        let mut new = wanted.clone();
        if let Some(message) = new["message"].as_str().filter(|message| message.len() > MAX_MESSAGE) {
            new["message"] = cut(message).into();
        }
        let generation = |condition: &Value| condition["observedGeneration"].as_i64().unwrap_or(0);
        if let Some(old) = old {
            // A generation that the object has not reached was never observed: it is not ours to respect.
            if generation(old) > generation(&new) && generation(old) <= self.generation {
                return Err(Behind);
            }
            let time = old.get("lastTransitionTime").filter(|_| old["status"] == new["status"]);
            if let Some(time) = time {
                new["lastTransitionTime"] = time.clone();
            }
        }
        if new["lastTransitionTime"].is_null() {
            new["lastTransitionTime"] = self.now.into();
        }
        Ok(new)
    }

    /// One entry for each listener of the spec, and no other.
    fn listeners(&self, old: Option<&Value>, wanted: &Value) -> Result<Value, Behind> {
        let merged = list(Some(wanted)).iter().map(|wanted| {
            let old = list(old).iter().find(|old| old["name"] == wanted["name"]);
            self.with_conditions(old, wanted)
        });
        merged.collect()
    }

    /// Entries of a list that belong to controllers: ours are replaced where they stand, new ones come last.
    fn entries(&self, old: Option<&Value>, wanted: &Value, kind: List) -> Result<Value, Behind> {
        let (old, wanted) = (list(old), list(Some(wanted)));
        let is_ours = |entry: &&Value| entry["controllerName"] == CONTROLLER_NAME;
        let foreign = old.iter().filter(|entry| !is_ours(entry)).count();
        let wanted = wanted.get(..kind.limit.saturating_sub(foreign)).unwrap_or(wanted);
        let mut open: Vec<&Value> = wanted.iter().collect();
        let mut merged = Vec::new();
        for entry in old {
            if !is_ours(&entry) {
                merged.push(entry.clone());
                continue;
            }
            let place = open.iter().position(|wanted| wanted[kind.reference] == entry[kind.reference]);
            if let Some(place) = place {
                merged.push(self.with_conditions(Some(entry), open.remove(place))?);
            }
        }
        for wanted in open {
            merged.push(self.with_conditions(None, wanted)?);
        }
        Ok(Value::Array(merged))
    }

    fn with_conditions(&self, old: Option<&Value>, wanted: &Value) -> Result<Value, Behind> {
        let mut new = wanted.clone();
        new["conditions"] =
            self.conditions(old.and_then(|old| old.get("conditions")), &wanted["conditions"])?;
        Ok(new)
    }
}

fn is_own(condition: &Value) -> bool {
    let type_ = condition["type"].as_str().unwrap_or_default();
    OWN_TYPES.contains(&type_) || type_.split_once('/').is_some_and(|(domain, _)| domain == API_GROUP)
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn cut(message: &str) -> String {
    let end = (0..=MAX_MESSAGE - "…".len()).rev().find(|end| message.is_char_boundary(*end));
    format!("{}…", message.get(..end.unwrap_or(0)).unwrap_or_default())
}

/// Whether a status says that proxies have not answered yet.
pub fn is_pending(status: &Value) -> bool {
    let pending = |holder: &Value| {
        list(holder.get("conditions")).iter().any(|one| {
            let programmed = [gateway::types::PROGRAMMED, portolan::types::PROGRAMMED]
                .iter()
                .any(|type_| one["type"] == **type_);
            programmed && one["reason"] == gateway::reasons::PENDING
        })
    };
    pending(status) || LISTS.iter().any(|kind| list(status.get(kind.field)).iter().any(pending))
}

#[cfg(test)]
mod tests;
