//! From the JSON of a schema to what is applied to objects.

use std::{collections::HashMap, sync::Arc};

use portolan_crds::schema as embedded;
use serde_json::{Map, Value};

use super::{ListType, Schema, Type, condition::Condition, format::Format, pattern::Pattern, rule::Rule};

/// Compiles the schema of a kind, and tells what it does not understand.
pub(super) fn kind(source: &embedded::Schema) -> (Schema, Vec<String>) {
    let mut compiler = Compiler { structural: source.structural, ..Compiler::default() };
    let mut schema = compiler.node(&source.value);
    // CRDs say nothing about metadata, because it is the same everywhere; core kinds have it in their type.
    if let Some(service) = embedded::schema("", "v1", "Service") {
        schema.fields.insert("metadata".into(), compiler.node(&service.value["properties"]["metadata"]));
    }
    // What every object has; a CRD may leave it out.
    for name in ["apiVersion", "kind"] {
        let text = || Schema { type_: Type::Text, ..Schema::default() };
        schema.fields.entry(name.into()).or_insert_with(text);
    }
    if !schema.required.iter().any(|name| name == "metadata") {
        schema.required.push("metadata".into());
    }
    // Status has its own door in the API server; what a file says about it is not looked at.
    schema.fields.insert("status".into(), Schema { ignored: true, ..Schema::default() });
    (schema, compiler.left_out)
}

/// Equal patterns and rules stand in dozens of places; they are compiled once.
#[derive(Default)]
struct Compiler {
    patterns: HashMap<String, Option<Arc<Pattern>>>,
    rules: HashMap<String, Option<Arc<Rule>>>,
    left_out: Vec<String>,
    /// Whether the schema says what is required. Core kinds are decoded into Go types, to which nothing is missing; what must
    /// be there is checked by code.
    structural: bool,
}

impl Compiler {
    fn node(&mut self, json: &Value) -> Schema {
        let type_ = type_of(json);
        let mut schema = Schema {
            type_,
            nullable: json["nullable"] == true,
            open: json["x-kubernetes-preserve-unknown-fields"] == true,
            required: if self.structural { texts(&json["required"]) } else { Vec::new() },
            words: json["enum"].as_array().cloned().unwrap_or_default(),
            minimum: json["minimum"].as_f64(),
            maximum: json["maximum"].as_f64(),
            list: list_type(json),
            conditions: Condition::of(json),
            ..Schema::default()
        };
        let (shortest, longest) = match type_ {
            Type::List => ("minItems", "maxItems"),
            Type::Map => ("minProperties", "maxProperties"),
            _ => ("minLength", "maxLength"),
        };
        let count = |name: &str| json[name].as_u64().and_then(|count| usize::try_from(count).ok());
        schema.shortest = count(shortest).unwrap_or(0);
        schema.longest = count(longest);
        schema.pattern = json["pattern"].as_str().and_then(|pattern| self.pattern(pattern));
        schema.format = json["format"].as_str().and_then(Format::from_name);
        for (name, field) in entries(&json["properties"]) {
            let child = self.node(field);
            if let Some(default) = field.get("default") {
                schema.defaults.push((name.clone(), filled(default, &child)));
            }
            schema.fields.insert(name.clone(), child);
        }
        if json["additionalProperties"].is_object() {
            schema.additional = Some(Box::new(self.node(&json["additionalProperties"])));
        }
        // A map without fields and without a word about them, such as managedFields.fieldsV1, holds anything.
        schema.open |= type_ == Type::Map && schema.fields.is_empty() && schema.additional.is_none();
        if json["items"].is_object() {
            schema.items = Some(Box::new(self.node(&json["items"])));
        }
        let rules = json["x-kubernetes-validations"].as_array().into_iter().flatten();
        schema.rules = rules.filter_map(|rule| self.rule(rule)).collect();
        schema
    }

    fn pattern(&mut self, pattern: &str) -> Option<Arc<Pattern>> {
        if !self.patterns.contains_key(pattern) {
            let compiled = Pattern::new(pattern).inspect_err(|error| self.left_out.push(error.to_string()));
            self.patterns.insert(pattern.to_owned(), compiled.ok().map(Arc::new));
        }
        self.patterns.get(pattern).cloned().flatten()
    }

    fn rule(&mut self, rule: &Value) -> Option<Arc<Rule>> {
        let text = rule.to_string();
        if !self.rules.contains_key(&text) {
            let compiled = Rule::new(rule).unwrap_or_else(|error| {
                self.left_out.push(error);
                None
            });
            self.rules.insert(text.clone(), compiled.map(Arc::new));
        }
        self.rules.get(&text).cloned().flatten()
    }
}

/// A default, with the defaults of what it leaves out.
fn filled(default: &Value, schema: &Schema) -> Value {
    match default {
        Value::Object(map) => {
            let filled = |(name, value): (&String, &Value)| {
                let child = schema.field(name);
                (name.clone(), child.map_or_else(|| value.clone(), |child| filled(value, child)))
            };
            let mut map: Map<String, Value> = map.iter().map(filled).collect();
            for (name, value) in &schema.defaults {
                map.entry(name).or_insert_with(|| value.clone());
            }
            Value::Object(map)
        }
        Value::Array(items) => match &schema.items {
            Some(child) => items.iter().map(|item| filled(item, child)).collect(),
            None => default.clone(),
        },
        _ => default.clone(),
    }
}

fn type_of(json: &Value) -> Type {
    if json["x-kubernetes-int-or-string"] == true {
        return Type::IntegerOrText;
    }
    match json["type"].as_str() {
        Some("object") => Type::Map,
        Some("array") => Type::List,
        Some("string") => Type::Text,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Bool,
        _ => Type::Any,
    }
}

fn list_type(json: &Value) -> ListType {
    match json["x-kubernetes-list-type"].as_str() {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(texts(&json["x-kubernetes-list-map-keys"])),
        _ => ListType::Atomic,
    }
}

fn texts(json: &Value) -> Vec<String> {
    json.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn entries(json: &Value) -> impl Iterator<Item = (&String, &Value)> {
    json.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keywords that this module reads, and those that say nothing about a value.
    const KNOWN: [&str; 30] = [
        "type",
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
        "required",
        "enum",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "properties",
        "default",
        "additionalProperties",
        "items",
        "x-kubernetes-validations",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "oneOf",
        "anyOf",
        "not",
        "allOf",
        "description",
        "title",
    ];

    fn unknown(json: &Value, path: &str, found: &mut Vec<String>) {
        let Value::Object(keywords) = json else { return };
        for keyword in keywords.keys() {
            if !KNOWN.contains(&keyword.as_str()) {
                found.push(format!("{path}: {keyword}"));
            }
        }
        for (name, field) in entries(&json["properties"]) {
            unknown(field, &format!("{path}.{name}"), found);
        }
        for keyword in ["items", "additionalProperties"] {
            unknown(&json[keyword], &format!("{path}.{keyword}"), found);
        }
    }

    #[test]
    fn every_word_of_every_schema_is_understood() {
        for (group, name, version) in embedded::known() {
            let source = embedded::schema(group, version, name).unwrap();
            let mut found = Vec::new();
            unknown(&source.value, name, &mut found);
            let (_, left_out) = kind(source);
            found.extend(left_out);
            assert!(found.is_empty(), "{name} {version}: {found:?}");
        }
    }
}
