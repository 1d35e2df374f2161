//! ReferenceGrants.

use std::sync::Arc;

use serde::Deserialize;

use super::Meta;

/// A ReferenceGrant: objects of `from` may refer to objects of `to` in the grant's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Metadata.
    pub meta: Meta,
    /// Who may refer.
    pub from: Vec<GrantFrom>,
    /// To what.
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GrantFrom {
    /// Group of the referring object.
    pub group: Arc<str>,
    /// Kind of the referring object.
    pub kind: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
}

/// To what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GrantTo {
    /// Group of the target.
    pub group: Arc<str>,
    /// Kind of the target.
    pub kind: Arc<str>,
    /// One name; all when absent.
    pub name: Option<Arc<str>>,
}
