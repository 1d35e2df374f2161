//! Whether an object's spec was edited.

use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

/// A hash of everything that an object says beside its type, its metadata and its status. The order of fields does not count.
pub(super) fn of_spec(object: &Value) -> u128 {
    let mut hasher = Xxh3::new();
    let mut fields: Vec<_> = object.as_object().into_iter().flatten().collect();
    fields.retain(|(name, _)| !["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()));
    map(&mut fields, &mut hasher);
    hasher.digest128()
}

fn map(fields: &mut [(&String, &Value)], hasher: &mut Xxh3) {
    fields.sort_by_key(|(name, _)| *name);
    hasher.update(b"{");
    for (name, child) in fields {
        text(name, hasher);
        value(child, hasher);
    }
    hasher.update(b"}");
}

/// With its length, so that `ab` and `c` are not `a` and `bc`.
fn text(text: &str, hasher: &mut Xxh3) {
    hasher.update(&text.len().to_le_bytes());
    hasher.update(text.as_bytes());
}

fn value(json: &Value, hasher: &mut Xxh3) {
    match json {
        Value::Null => hasher.update(b"n"),
        Value::Bool(value) => hasher.update(if *value { b"t" } else { b"f" }),
        Value::Number(number) => text(&number.to_string(), hasher),
        Value::String(content) => {
            hasher.update(b"\"");
            text(content, hasher);
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                value(item, hasher);
            }
            hasher.update(b"]");
        }
        Value::Object(fields) => map(&mut fields.iter().collect::<Vec<_>>(), hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_an_edit_of_the_spec_is_another_spec() {
        let spec = of_spec(&json!({"metadata": {"name": "a"}, "spec": {"a": [1, "x"], "b": {"c": true}}}));
        assert_eq!(
            spec,
            of_spec(&json!({"spec": {"b": {"c": true}, "a": [1, "x"]}, "metadata": {"labels": {}}}))
        );
        for other in [
            json!({"spec": {"a": ["x", 1], "b": {"c": true}}}),
            json!({"spec": {"a": [1], "b": {"c": true}}}),
            json!({"spec": {"a": [1, "x"], "b": {"c": false}}}),
            json!({"spec": {"a": [1, "x"], "b": {"d": true}}}),
            json!({"spec": {"a": ["1", "x"], "b": {"c": true}}}),
            json!({"spec": {"a": [1, ["x"]], "b": {"c": true}}}),
            json!({}),
        ] {
            assert_ne!(spec, of_spec(&other), "{other}");
        }
    }
}
