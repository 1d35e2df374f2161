//! What the API server has of each object's status, as the watches last saw it: what a status writer compares with.
//!
//! Kept on every replica, so that a new leader starts without reading anything again.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::seen::Observed;
use crate::{model::ObjectKey, runtime::Dirty};

/// See the module.
#[derive(Debug, Default)]
pub struct Observations {
    objects: RwLock<HashMap<ObjectKey, Arc<Observed>>>,
    follower: RwLock<Option<Arc<Dirty>>>,
}

impl Observations {
    /// The newest version of an object that was seen.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Observed>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Every object with a status.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// From now on adds every object that is seen again. One follower at a time.
    pub fn follow(&self, follower: Arc<Dirty>) {
        *self.follower.write().unwrap_or_else(PoisonError::into_inner) = Some(follower);
    }

    /// Takes in what was read or written besides the watch, unless the watch has seen a newer version.
    pub fn note(&self, key: &ObjectKey, observed: Observed) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        // An object that the watch does not know is gone, or is told soon.
        if let Some(known) = objects.get_mut(key)
            && is_newer(&observed, known)
        {
            *known = Arc::new(observed);
        }
    }

    /// Takes in what the watches saw.
    pub(super) fn update(&self, seen: Vec<(ObjectKey, Option<Observed>)>) {
        if seen.is_empty() {
            return;
        }
        let follower = self.follower.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let mut touched = Vec::with_capacity(seen.len());
        for (key, observed) in seen {
            match observed {
                // The watch may be behind what a write of ours has shown.
                Some(observed) if objects.get(&key).is_some_and(|known| is_newer(known, &observed)) => {
                    continue;
                }
                Some(observed) => _ = objects.insert(key.clone(), Arc::new(observed)),
                None => _ = objects.remove(&key),
            }
            touched.push(key);
        }
        drop(objects);
        if let Some(follower) = follower {
            follower.add(touched);
        }
    }
}

/// Whether `one` is a later version than `other` of the same object. Versions of a resource are decimal numbers that
/// grow (Kubernetes 1.35: KEP-5504); of other texts nothing is known.
fn is_newer(one: &Observed, other: &Observed) -> bool {
    let number = |observed: &Observed| observed.resource_version.parse::<u128>().ok();
    match (number(one), number(other)) {
        (Some(one_version), Some(other_version)) => one.uid == other.uid && one_version > other_version,
        _ => false,
    }
}
