//! A cross-field rule of a CRD (`x-kubernetes-validations`), compiled once and applied to every object.

use std::{collections::HashMap, sync::Arc};

use kube_cel::{
    KubeCelExt as _,
    cel::{
        Context, ExecutionError, Program, Value as Cel,
        objects::{Key, Map},
    },
};
use serde_json::Value;

use super::{Schema, escape::escape, guard::Guard};

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    guard: Guard,
    program: Program,
    message: String,
}

thread_local! {
    /// CEL with the functions of Kubernetes; making it anew for every rule would cost more than the rule.
    static CONTEXT: Context<'static> = Context::default().with_all();
}

impl Rule {
    /// Compiles a rule as it stands in a schema. `None` for a rule about an update (`oldSelf`): a file has no older version
    /// that an API server has accepted.
    pub(super) fn new(json: &Value) -> Result<Option<Self>, String> {
        let Some(text) = json["rule"].as_str() else { return Err("a rule without text".into()) };
        let program = Program::compile(text).map_err(|error| format!("{text}: {error}"))?;
        if program.references().has_variable("oldSelf") {
            return Ok(None);
        }
        if json.get("messageExpression").is_some() || json.get("fieldPath").is_some() {
            return Err(format!("{text}: messageExpression and fieldPath are not implemented"));
        }
        let message =
            json["message"].as_str().map_or_else(|| format!("breaks the rule {text}"), str::to_owned);
        Ok(Some(Self { guard: Guard::new(program.expression()), program, message }))
    }

    /// What to say about a value that breaks the rule.
    pub(super) fn breaks(&self, schema: &Schema, value: &Value) -> Option<&str> {
        if self.guard.holds(value) == Some(true) {
            return None;
        }
        match self.interpret(schema, value) {
            // In the second case the rule calls something that our interpreter lacks: the API server will tell.
            Ok(Cel::Bool(true)) | Err(ExecutionError::UndeclaredReference(_)) => None,
            _ => Some(&self.message),
        }
    }

    fn interpret(&self, schema: &Schema, value: &Value) -> Result<Cel, ExecutionError> {
        CONTEXT.with(|context| {
            let mut scope = context.new_inner_scope();
            scope.add_variable_from_value("self", to_cel(Some(schema), value));
            self.program.execute(&scope)
        })
    }
}

fn to_cel(schema: Option<&Schema>, value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Cel::Int(value),
            (None, Some(value)) => Cel::UInt(value),
            (None, None) => Cel::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => {
            let schema = schema.and_then(|schema| schema.items.as_deref());
            Cel::List(Arc::new(items.iter().map(|item| to_cel(schema, item)).collect()))
        }
        Value::Object(map) => {
            // The keys of a map are data, the names of an object's fields are part of the language.
            let is_map = schema.is_some_and(|schema| schema.additional.is_some());
            let entry = |(name, value): (&String, &Value)| {
                let child = schema.and_then(|schema| schema.field(name).or(schema.additional.as_deref()));
                let key = if is_map { name.clone() } else { escape(name) };
                (Key::String(Arc::new(key)), to_cel(child, value))
            };
            let map: HashMap<Key, Cel> = map.iter().map(entry).collect();
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

#[cfg(test)]
impl Rule {
    /// What the guard says, and whether the interpreter says so too. The guard may know nothing.
    pub(super) fn compare(
        &self,
        schema: &Schema,
        value: &Value,
    ) -> (Option<bool>, Result<Cel, ExecutionError>) {
        (self.guard.holds(value), self.interpret(schema, value))
    }

    /// Its message.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}
