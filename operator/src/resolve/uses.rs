//! Who uses what: questions of those who watch an API server and of those who write to it.

use std::collections::BTreeSet;

use super::{Engine, Unit};
use crate::{
    model::{Kind, Object, ObjectKey},
    world::Read,
};

impl Engine {
    /// Whether Gateways use a class; nothing for a class that is not ours.
    pub fn class_in_use(&self, class: &ObjectKey) -> Option<bool> {
        self.state.class(class)?;
        let uses = |key: &ObjectKey| match self.world.get(key) {
            Some(Object::Gateway(gateway)) => gateway.class == class.name,
            _ => false,
        };
        Some(self.gateways.iter().any(uses))
    }

    /// The Gateway of ours that has the listeners of a Gateway or ListenerSet.
    pub(super) fn gateway_of(&self, owner: &ObjectKey) -> Option<ObjectKey> {
        match self.world.get(owner)? {
            Object::ListenerSet(set) => set.gateway.clone().filter(|_| self.takes(owner)),
            _ => Some(owner.clone()).filter(|gateway| self.is_served(gateway)),
        }
    }

    /// Whether a Gateway of ours takes a ListenerSet.
    fn takes(&self, set: &ObjectKey) -> bool {
        let Some(Object::ListenerSet(object)) = self.world.get(set) else { return false };
        let out = object.gateway.as_ref().and_then(|gateway| self.state.listeners(gateway));
        out.and_then(|out| out.sets.get(set)).is_some_and(|set| set.fault.is_none())
    }

    /// Secrets and the like that objects of ours refer to, as far as they may: also those that do not exist (yet).
    pub fn referenced(&self) -> BTreeSet<ObjectKey> {
        // A Gateway of a foreign class is resolved no further than its own fields, but those may name Secrets.
        let counts = |unit: &Unit| match unit {
            Unit::Tls(owner) if owner.kind == Kind::ListenerSet => self.takes(owner),
            Unit::Tls(gateway) => self.is_served(gateway),
            _ => true,
        };
        let read = |key: &&ObjectKey| self.dependencies.readers(&Read::Object((*key).clone())).any(counts);
        self.dependencies.named().filter(read).cloned().collect()
    }
}
