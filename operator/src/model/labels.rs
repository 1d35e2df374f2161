//! Namespaces with their labels, and label selectors.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::Meta;

/// A Namespace. One that nobody declared still has its `kubernetes.io/metadata.name` label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Metadata.
    pub meta: Meta,
    /// metadata.labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// The label that every namespace carries (Kubernetes: automatic labelling of namespaces).
pub(super) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Namespace {
    /// The labels of a namespace that was not declared.
    pub fn default_labels(name: &str) -> BTreeMap<Arc<str>, Arc<str>> {
        BTreeMap::from([(NAME_LABEL.into(), name.into())])
    }
}

/// A metav1.LabelSelector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    match_labels: BTreeMap<String, String>,
    match_expressions: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Requirement {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether the labels satisfy every requirement. An empty selector matches everything.
    pub fn matches(&self, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        let value = |key: &str| labels.get(key).map(AsRef::as_ref);
        self.match_labels.iter().all(|(key, wanted)| value(key) == Some(wanted))
            && self.match_expressions.iter().all(|one| {
                let among = |found: &str| one.values.iter().any(|wanted| wanted == found);
                match one.operator {
                    Operator::In => value(&one.key).is_some_and(among),
                    Operator::NotIn => !value(&one.key).is_some_and(among),
                    Operator::Exists => value(&one.key).is_some(),
                    Operator::DoesNotExist => value(&one.key).is_none(),
                }
            })
    }
}
