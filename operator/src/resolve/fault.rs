//! What is wrong with something, as a condition says it.

use std::sync::Arc;

use serde::Serialize;

/// How many names a message lists.
const MOST_NAMES: usize = 5;

/// A condition's False: its reason in the API and a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The reason.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

impl Fault {
    /// A fault from its parts.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// A value that Portolan does not serve.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("UnsupportedValue", message)
    }

    /// The same, said of a field.
    #[must_use]
    pub fn at(mut self, field: impl std::fmt::Display) -> Self {
        self.message = format!("{field}: {}", self.message);
        self
    }
}

/// Names for a message: the first few, and how many more.
pub(super) fn enumerate<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<&str> = names.map(AsRef::as_ref).collect();
    match names.split_at_checked(MOST_NAMES) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", first.join(", "), rest.len()),
        _ => names.join(", "),
    }
}
