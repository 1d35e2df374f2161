//! The one door to another namespace's objects (GEP-709).

use std::sync::Arc;

use thiserror::Error;

use crate::{
    model::{ConfigMap, Kind, ObjectKey, Secret, Service},
    world::View,
};

/// Proof that a reference was allowed. Only this module can make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted<T>(T);

impl<T> Granted<T> {
    /// The object behind the reference.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// Who refers.
#[derive(Clone, Debug)]
pub struct RefFrom<'a> {
    /// The kind of the referring object, with its group.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: &'a Arc<str>,
}

impl<'a> RefFrom<'a> {
    /// An object that refers.
    pub fn of(object: &'a ObjectKey) -> Self {
        Self { kind: object.kind, namespace: &object.namespace }
    }
}

/// Why a reference cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RefError {
    /// No ReferenceGrant allows it.
    #[error(
        "{to} is in another namespace and no ReferenceGrant in {} allows references from {from} in {from_namespace} to it",
        to.namespace
    )]
    NotPermitted {
        /// The target.
        to: ObjectKey,
        /// The referring kind.
        from: Kind,
        /// Its namespace.
        from_namespace: Arc<str>,
    },
    /// The target does not exist.
    #[error("{0} does not exist")]
    NotFound(ObjectKey),
}

/// Targets that can be referred to.
pub(super) trait Target: Sized {
    /// The target's kind.
    const KIND: Kind;
    /// Reads it.
    fn read(view: &View<'_>, key: &ObjectKey) -> Option<Arc<Self>>;
}

impl Target for Service {
    const KIND: Kind = Kind::Service;
    fn read(view: &View<'_>, key: &ObjectKey) -> Option<Arc<Self>> {
        view.service(key)
    }
}

impl Target for Secret {
    const KIND: Kind = Kind::Secret;
    fn read(view: &View<'_>, key: &ObjectKey) -> Option<Arc<Self>> {
        view.secret(key)
    }
}

impl Target for ConfigMap {
    const KIND: Kind = Kind::ConfigMap;
    fn read(view: &View<'_>, key: &ObjectKey) -> Option<Arc<Self>> {
        view.config_map(key)
    }
}

/// A kind for messages: without its group when that is the core group.
pub(super) fn named(group: &str, kind: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{group}/{kind}") }
}

/// Follows a reference. The grant is looked up before the target's existence, so that a refused reference tells nothing
/// about the other namespace (conformance: GatewaySecretMissingReferenceGrant).
pub(super) fn resolve_ref<T: Target>(
    view: &View<'_>,
    from: &RefFrom<'_>,
    namespace: Option<&Arc<str>>,
    name: &Arc<str>,
) -> Result<Granted<Arc<T>>, RefError> {
    let namespace = namespace.unwrap_or(from.namespace);
    let to = ObjectKey::new(T::KIND, namespace.clone(), name.clone());
    if namespace != from.namespace && !granted(view, from, &to) {
        return Err(RefError::NotPermitted { to, from: from.kind, from_namespace: from.namespace.clone() });
    }
    T::read(view, &to).map(Granted).ok_or(RefError::NotFound(to))
}

fn granted(view: &View<'_>, from: &RefFrom<'_>, to: &ObjectKey) -> bool {
    view.grants_into(&to.namespace).iter().any(|grant| {
        let from_matches = grant.from.iter().any(|one| {
            *one.group == *from.kind.group()
                && *one.kind == *from.kind.as_str()
                && one.namespace == *from.namespace
        });
        let to_matches = grant.to.iter().any(|one| {
            *one.group == *to.kind.group()
                && *one.kind == *to.kind.as_str()
                && one.name.as_ref().is_none_or(|name| name.is_empty() || *name == to.name)
        });
        from_matches && to_matches
    })
}
