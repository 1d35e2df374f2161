//! Checking objects against the schema of their kind, as the API server would.
//!
//! A kind's schema is compiled once, on first use: patterns, CEL rules and defaults are ready then. Walking a document
//! gives its value with defaults filled in, and everything that is wrong with it, each with its place.

mod compile;
mod condition;
mod escape;
pub(in crate::source) mod format;
mod guard;
mod path;
mod pattern;
mod rule;
mod suggest;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use portolan_crds::schema as embedded;
use serde_json::Value;

use self::{condition::Condition, format::Format, pattern::Pattern, rule::Rule};
pub(super) use self::{
    path::Path,
    suggest::did_you_mean,
    walk::{Findings, check},
};

/// What a value must be.
#[derive(Debug, Default)]
pub(super) struct Schema {
    type_: Type,
    nullable: bool,
    /// Fields that are not listed are kept.
    open: bool,
    /// Somebody else writes it; a copy in a file says nothing.
    ignored: bool,
    fields: BTreeMap<String, Schema>,
    /// Of each value of a map.
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
    required: Vec<String>,
    /// Fields that have a default, with nested defaults filled in.
    defaults: Vec<(String, Value)>,
    /// If any: the only values allowed.
    words: Vec<Value>,
    pattern: Option<Arc<Pattern>>,
    format: Option<Format>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    /// Characters, items or entries: whatever the type counts.
    shortest: usize,
    longest: Option<usize>,
    list: ListType,
    conditions: Vec<Condition>,
    rules: Vec<Arc<Rule>>,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Type {
    #[default]
    Any,
    Map,
    List,
    Text,
    Integer,
    Number,
    Bool,
    IntegerOrText,
}

impl Type {
    fn expected(self) -> &'static str {
        match self {
            Self::Any => "a value",
            Self::Map => "a map of fields",
            Self::List => "a list",
            Self::Text => "a text",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::IntegerOrText => "an integer or a text",
        }
    }
}

/// What distinguishes the items of a list.
#[derive(Debug, Default)]
enum ListType {
    #[default]
    Atomic,
    /// The items themselves.
    Set,
    /// These fields of them.
    Map(Vec<String>),
}

impl Schema {
    fn field(&self, name: &str) -> Option<&Self> {
        self.fields.get(name)
    }
}

/// A kind that Portolan knows.
#[derive(Debug)]
pub(super) struct KindSchema {
    /// Whether its objects live in namespaces.
    pub(super) namespaced: bool,
    pub(super) schema: Schema,
}

/// The compiled schema of a kind; `None` when Portolan does not know it.
pub(super) fn of(group: &str, version: &str, kind: &str) -> Option<Arc<KindSchema>> {
    type Compiled = HashMap<(&'static str, &'static str, &'static str), Arc<KindSchema>>;
    static COMPILED: LazyLock<Mutex<Compiled>> = LazyLock::new(Mutex::default);
    let source = embedded::schema(group, version, kind)?;
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let schema = compiled.entry((source.group, source.version, source.kind)).or_insert_with(|| {
        // What does not compile is left out; a test holds that nothing is.
        let (schema, _left_out) = compile::kind(source);
        Arc::new(KindSchema { namespaced: source.namespaced, schema })
    });
    Some(schema.clone())
}
