//! Walking a document along its schema.

use std::{collections::HashMap, fmt::Display};

use serde_json::{Map, Value};

use super::{ListType, Path, Schema, Type, did_you_mean, format::Format};
use crate::source::manifest::yaml::{Content, Entry, Node, Place, show_key};

/// More findings than this in one document help nobody.
const MAX_FINDINGS: usize = 20;

/// Characters of a value that are shown.
const MAX_SHOWN: usize = 60;

/// Something wrong in a document.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) struct Finding {
    pub(in crate::source) at: Place,
    /// Names the field and what was expected.
    pub(in crate::source) message: String,
}

/// Everything wrong in a document.
#[derive(Debug, Default)]
pub(in crate::source) struct Findings {
    found: Vec<Finding>,
    /// Broken cross-field rules: they count only where the fields themselves are right, as in the API server.
    rules: Vec<Finding>,
    more: usize,
    /// Values are not shown.
    secret: bool,
}

impl Findings {
    /// No findings yet. Those of a `secret` document never show a value.
    pub(in crate::source) fn new(secret: bool) -> Self {
        Self { secret, ..Self::default() }
    }

    /// Adds a finding about a field.
    pub(in crate::source) fn add(&mut self, at: Place, path: &Path<'_>, message: impl Display) {
        if self.found.len() >= MAX_FINDINGS {
            self.more += 1;
            return;
        }
        let message =
            if matches!(path, Path::Root) { message.to_string() } else { format!("{path}: {message}") };
        self.found.push(Finding { at, message });
    }

    /// Whether nothing is wrong.
    pub(in crate::source) fn none(&self) -> bool {
        self.found.is_empty() && self.rules.is_empty()
    }

    /// What to report, in order of place.
    pub(in crate::source) fn into_list(self) -> Vec<Finding> {
        let mut list = if self.found.is_empty() { self.rules } else { self.found };
        if let (Some(last), 1..) = (list.last_mut(), self.more) {
            last.message = format!("{} (and {} more problems in this object)", last.message, self.more);
        }
        list.sort_by_key(|finding| finding.at);
        list
    }

    /// A value as it may be shown.
    pub(in crate::source) fn show(&self, node: &Node) -> String {
        match &node.content {
            Content::Null => "nothing".into(),
            Content::List(_) => "a list".into(),
            Content::Map(_) => "a map".into(),
            Content::Text(_) if self.secret => "a text".into(),
            Content::Number(_) if self.secret => "a number".into(),
            Content::Bool(_) if self.secret => "a boolean".into(),
            Content::Bool(value) => format!("the boolean {value}"),
            Content::Number(number) => format!("the number {number}"),
            Content::Text(text) => format!("the text {}", shorten(text)),
        }
    }

    /// A text as it may be shown.
    pub(in crate::source) fn quote(&self, text: &str) -> String {
        if self.secret { "the value".into() } else { shorten(text) }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?} and so on", &text[..end]),
    }
}

/// Checks a value: gives it with defaults filled in, and adds what is wrong to the findings.
pub(in crate::source) fn check(
    schema: &Schema,
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings,
) -> Value {
    let wrong_before = findings.found.len();
    let value = match (&node.content, schema.type_) {
        (Content::Map(entries), Type::Map | Type::Any) => map(schema, node, entries, path, findings),
        (Content::List(items), Type::List | Type::Any) => list(schema, node, items, path, findings),
        (Content::Text(text), Type::Text | Type::IntegerOrText | Type::Any) => {
            check_text(schema, node, text, path, findings);
            Value::String(text.clone())
        }
        (Content::Number(number), Type::Integer | Type::Number | Type::IntegerOrText | Type::Any)
            if !number.is_f64() || matches!(schema.type_, Type::Number | Type::Any) =>
        {
            check_number(schema, node, number, path, findings);
            Value::Number(number.clone())
        }
        (Content::Bool(value), Type::Bool | Type::Any) => Value::Bool(*value),
        (Content::Null, Type::Any) => Value::Null,
        (Content::Null, _) if schema.nullable => Value::Null,
        _ => {
            wrong_type(schema, node, path, findings);
            return Value::Null;
        }
    };
    if !schema.words.is_empty() && !schema.words.contains(&value) && findings.found.len() == wrong_before {
        let words: Vec<String> = schema.words.iter().map(plain).collect();
        let meant = did_you_mean(value.as_str().unwrap_or_default(), words.iter().map(String::as_str));
        let message = format!("expected one of {}, found {}{meant}", words.join(", "), findings.show(node));
        findings.add(node.at, path, message);
    }
    // What is too long or of the wrong type need not be compared with each other, and may take too long.
    if findings.found.is_empty() {
        for condition in schema.conditions.iter().filter(|condition| !condition.holds(&value)) {
            findings.add(node.at, path, format!("expected {}", condition.expected()));
        }
        for rule in &schema.rules {
            if let Some(message) = rule.breaks(schema, &value) {
                findings.rules.push(Finding { at: node.at, message: format!("{path}: {message}") });
            }
        }
    }
    value
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn map(schema: &Schema, node: &Node, entries: &[Entry], path: &Path<'_>, findings: &mut Findings) -> Value {
    let mut values = Map::with_capacity(entries.len() + schema.defaults.len());
    if too_many(schema, node, entries.len(), "entries", path, findings) {
        return Value::Null;
    }
    for Entry { key, at, node } in entries {
        if let Some(field) = schema.field(key) {
            // A field without a value is one that is not there (Kubernetes prunes nulls before it looks for defaults).
            if !field.ignored && (node.content != Content::Null || field.nullable) {
                values.insert(key.clone(), check(field, node, &path.field(key), findings));
            }
        } else if let Some(additional) = &schema.additional {
            if node.content != Content::Null || additional.nullable {
                values.insert(key.clone(), check(additional, node, &path.key(key), findings));
            }
        } else if schema.open || schema.type_ == Type::Any {
            values.insert(key.clone(), to_value(node));
        } else {
            let known = schema.fields.keys().map(String::as_str);
            let message = format!("unknown field{}", did_you_mean(key, known));
            findings.add(*at, &path.field(show_key(key)), message);
        }
    }
    for (name, default) in &schema.defaults {
        if !values.contains_key(name) {
            values.insert(name.clone(), default.clone());
        }
    }
    for name in schema.required.iter().filter(|name| !values.contains_key(*name)) {
        findings.add(node.at, &path.field(name), "is required");
    }
    Value::Object(values)
}

fn list(schema: &Schema, node: &Node, items: &[Node], path: &Path<'_>, findings: &mut Findings) -> Value {
    if too_many(schema, node, items.len(), "items", path, findings) {
        return Value::Null;
    }
    let each = |(index, item): (usize, &Node)| match &schema.items {
        Some(schema) => check(schema, item, &path.item(index), findings),
        None => to_value(item),
    };
    let values: Vec<Value> = items.iter().enumerate().map(each).collect();
    let distinct: &[String] = match &schema.list {
        ListType::Atomic => return Value::Array(values),
        ListType::Set => &[],
        ListType::Map(keys) => keys,
    };
    if values.len() > 1 {
        let mut seen: HashMap<String, usize> = HashMap::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let identity = if distinct.is_empty() {
                value.to_string()
            } else {
                distinct
                    .iter()
                    .map(|key| value.get(key).map_or_else(String::new, Value::to_string) + "\n")
                    .collect()
            };
            if let Some(first) = seen.insert(identity, index) {
                let same = if distinct.is_empty() { "value".to_owned() } else { distinct.join(" and ") };
                let message = format!("has the same {same} as item {first} in line {}", items[first].at.line);
                findings.add(items[index].at, &path.item(index), message);
            }
        }
    }
    Value::Array(values)
}

/// Whether there are so many that looking at them is no use.
fn too_many(
    schema: &Schema,
    node: &Node,
    count: usize,
    what: &str,
    path: &Path<'_>,
    findings: &mut Findings,
) -> bool {
    if count < schema.shortest {
        findings.add(node.at, path, format!("expected at least {} {what}, found {count}", schema.shortest));
    }
    let Some(longest) = schema.longest.filter(|longest| count > *longest) else { return false };
    findings.add(node.at, path, format!("expected at most {longest} {what}, found {count}"));
    true
}

fn check_text(schema: &Schema, node: &Node, text: &str, path: &Path<'_>, findings: &mut Findings) {
    let count = if schema.longest.is_some() || schema.shortest > 0 { text.chars().count() } else { 0 };
    if count < schema.shortest {
        findings.add(
            node.at,
            path,
            format!("expected at least {} characters, found {count}", schema.shortest),
        );
    } else if let Some(longest) = schema.longest.filter(|longest| count > *longest) {
        findings.add(node.at, path, format!("expected at most {longest} characters, found {count}"));
    } else if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.fits(text)) {
        findings.add(
            node.at,
            path,
            format!("expected {}, found {}", pattern.expected(), findings.quote(text)),
        );
    } else if let Some(format) = schema.format.filter(|format| !format.fits(text)) {
        findings.add(
            node.at,
            path,
            format!("expected {}, found {}", format.expected(), findings.quote(text)),
        );
    }
}

fn check_number(
    schema: &Schema,
    node: &Node,
    number: &serde_json::Number,
    path: &Path<'_>,
    findings: &mut Findings,
) {
    let value = number.as_f64().unwrap_or(f64::INFINITY);
    let found = |findings: &Findings| findings.show(node);
    if let Some(minimum) = schema.minimum.filter(|minimum| value < *minimum) {
        let range = schema.maximum.map_or_else(
            || format!("expected at least {minimum}"),
            |maximum| format!("expected a number from {minimum} to {maximum}"),
        );
        findings.add(node.at, path, format!("{range}, found {}", found(findings)));
    } else if let Some(maximum) = schema.maximum.filter(|maximum| value > *maximum) {
        let range = schema.minimum.map_or_else(
            || format!("expected at most {maximum}"),
            |minimum| format!("expected a number from {minimum} to {maximum}"),
        );
        findings.add(node.at, path, format!("{range}, found {}", found(findings)));
    } else if schema.format == Some(Format::Int32)
        && number.as_i64().is_none_or(|value| i32::try_from(value).is_err())
    {
        findings.add(
            node.at,
            path,
            format!("expected {}, found {}", Format::Int32.expected(), found(findings)),
        );
    } else if schema.type_ == Type::Integer && number.as_i64().is_none() {
        findings.add(node.at, path, "expected a number of at most 64 bits");
    }
}

fn wrong_type(schema: &Schema, node: &Node, path: &Path<'_>, findings: &mut Findings) {
    let expected = schema.type_.expected();
    let hint = match (&node.content, schema.type_) {
        (Content::Text(text), Type::Integer | Type::Number) if text.parse::<f64>().is_ok() => {
            ": remove the quotes"
        }
        (Content::Text(text), Type::Bool) if text == "true" || text == "false" => ": remove the quotes",
        (Content::Bool(_), Type::Text) => {
            ": put it in quotes (yes, no, on, off, y and n are booleans in YAML)"
        }
        (Content::Number(_), Type::Text) => ": put it in quotes",
        (Content::Map(_), Type::List) => ": put \"- \" before it",
        (Content::List(items), Type::Map) if items.len() == 1 => ": remove the \"- \" before it",
        _ => "",
    };
    findings.add(node.at, path, format!("expected {expected}, found {}{hint}", findings.show(node)));
}

/// A value as it stands there.
pub(in crate::source) fn to_value(node: &Node) -> Value {
    match &node.content {
        Content::Null => Value::Null,
        Content::Bool(value) => Value::Bool(*value),
        Content::Number(number) => Value::Number(number.clone()),
        Content::Text(text) => Value::String(text.clone()),
        Content::List(items) => items.iter().map(to_value).collect(),
        Content::Map(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), to_value(&entry.node))).collect()
        }
    }
}
