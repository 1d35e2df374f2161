//! The World: the single-writer store of parsed objects, with the secondary indexes that resolving reads.
//!
//! Promise: [`World::put`] returns exactly the [`Read`]s whose answer a change alters, computed from the old and the
//! new version of the object. Whoever recorded one of them is dirty; nobody else is.

mod read;
mod view;

use std::{collections::BTreeSet, sync::Arc};

use foldhash::HashMap;
pub use read::Read;
pub use view::View;

use crate::model::{Object, ObjectKey};

/// All parsed objects.
#[derive(Debug, Default)]
pub struct World {
    objects: HashMap<ObjectKey, Object>,
    grants: HashMap<Arc<str>, BTreeSet<ObjectKey>>,
    slices: HashMap<(Arc<str>, Arc<str>), BTreeSet<ObjectKey>>,
    sets: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    policies: HashMap<(Arc<str>, Arc<str>), BTreeSet<ObjectKey>>,
}

impl World {
    /// Puts an object in place, or removes it, and tells which reads changed. An equal object changes nothing.
    pub fn put(&mut self, key: &ObjectKey, object: Option<Object>) -> BTreeSet<Read> {
        let mut touched = BTreeSet::new();
        if self.objects.get(key) == object.as_ref() {
            return touched;
        }
        touched.insert(Read::Object(key.clone()));
        if let Some(old) = self.objects.remove(key) {
            self.unindex(key, &old, &mut touched);
        }
        if let Some(new) = object {
            self.index(key, &new, &mut touched);
            self.objects.insert(key.clone(), new);
        }
        touched
    }

    /// An object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> BTreeSet<ObjectKey> {
        self.objects.keys().cloned().collect()
    }

    fn index(&mut self, key: &ObjectKey, object: &Object, touched: &mut BTreeSet<Read>) {
        match object {
            Object::ReferenceGrant(_) => {
                self.grants.entry(key.namespace.clone()).or_default().insert(key.clone());
                touched.insert(Read::GrantsInto(key.namespace.clone()));
            }
            Object::EndpointSlice(slice) => {
                let service = (key.namespace.clone(), slice.service.clone());
                self.slices.entry(service.clone()).or_default().insert(key.clone());
                touched.insert(Read::SlicesOf(service.0, service.1));
            }
            Object::ListenerSet(set) => {
                if let Some(gateway) = &set.gateway {
                    self.sets.entry(gateway.clone()).or_default().insert(key.clone());
                    touched.insert(Read::SetsOf(gateway.clone()));
                }
            }
            Object::BackendTlsPolicy(policy) => {
                for (name, _) in policy.services() {
                    let service = (key.namespace.clone(), name.clone());
                    self.policies.entry(service.clone()).or_default().insert(key.clone());
                    touched.insert(Read::PoliciesOn(service.0, service.1));
                }
            }
            _ => {}
        }
    }

    fn unindex(&mut self, key: &ObjectKey, object: &Object, touched: &mut BTreeSet<Read>) {
        match object {
            Object::ReferenceGrant(_) => {
                remove(&mut self.grants, &key.namespace, key);
                touched.insert(Read::GrantsInto(key.namespace.clone()));
            }
            Object::EndpointSlice(slice) => {
                let service = (key.namespace.clone(), slice.service.clone());
                remove(&mut self.slices, &service, key);
                touched.insert(Read::SlicesOf(service.0, service.1));
            }
            Object::ListenerSet(set) => {
                if let Some(gateway) = &set.gateway {
                    remove(&mut self.sets, gateway, key);
                    touched.insert(Read::SetsOf(gateway.clone()));
                }
            }
            Object::BackendTlsPolicy(policy) => {
                for (name, _) in policy.services() {
                    let service = (key.namespace.clone(), name.clone());
                    remove(&mut self.policies, &service, key);
                    touched.insert(Read::PoliciesOn(service.0, service.1));
                }
            }
            _ => {}
        }
    }
}

fn remove<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<ObjectKey>>, at: &K, key: &ObjectKey) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}
