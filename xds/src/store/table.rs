//! The resources of one type, with the index by [`Seq`] and the bounded tombstones.

use std::collections::{BTreeMap, BTreeSet, btree_map, btree_set};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use super::{Resource, Seq};

/// A resource that exists, and its last change.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// The resource.
    pub resource: &'a Resource,
    /// The edit that last changed it.
    pub seq: Seq,
    /// When that edit was made.
    pub at: Instant,
}

/// One name that changed.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The name.
    pub name: &'a Arc<str>,
    /// The edit that last changed it.
    pub seq: Seq,
    /// When that edit was made.
    pub at: Instant,
    /// The resource, or nothing if it was removed.
    pub resource: Option<&'a Resource>,
}

/// What changed since a cursor.
#[derive(Debug)]
pub enum Changes<'a> {
    /// These names changed, oldest change first.
    Known(ChangesIter<'a>),
    /// A removal since then was forgotten: only a full comparison tells what changed.
    Unknown,
}

/// Iterates over changed names. Costs as much as there are changes.
#[derive(Debug)]
pub struct ChangesIter<'a> {
    slots: &'a BTreeMap<Arc<str>, Slot>,
    range: btree_set::Range<'a, (Seq, Arc<str>)>,
}

impl<'a> Iterator for ChangesIter<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.range.find_map(|(seq, name)| {
            let slot = self.slots.get(name)?;
            Some(Change { name, seq: *seq, at: slot.at, resource: slot.resource.as_ref() })
        })
    }
}

/// A live resource, or the tombstone of one.
#[derive(Debug)]
struct Slot {
    seq: Seq,
    at: Instant,
    resource: Option<Resource>,
}

impl Slot {
    fn live(&self) -> Option<Live<'_>> {
        let resource = self.resource.as_ref()?;
        Some(Live { resource, seq: self.seq, at: self.at })
    }
}

/// Invariant: `by_seq` has exactly one entry per slot, and `dead` exactly those of them without a resource.
#[derive(Debug)]
pub(super) struct Table {
    slots: BTreeMap<Arc<str>, Slot>,
    by_seq: BTreeSet<(Seq, Arc<str>)>,
    dead: BTreeSet<(Seq, Arc<str>)>,
    max_dead: usize,
    /// The newest tombstone that was forgotten.
    forgotten: Seq,
}

impl Table {
    pub(super) fn new(max_dead: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            by_seq: BTreeSet::new(),
            dead: BTreeSet::new(),
            max_dead,
            forgotten: Seq(0),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Live<'_>> {
        self.slots.get(name)?.live()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Live<'_>> {
        self.slots.values().filter_map(Slot::live)
    }

    /// Those whose names begin so.
    pub(super) fn starting(&self, prefix: &str) -> impl Iterator<Item = Live<'_>> + use<'_> {
        let prefix: Arc<str> = prefix.into();
        self.slots
            .range(Arc::clone(&prefix)..)
            .take_while(move |(name, _)| name.starts_with(&*prefix))
            .filter_map(|(_, slot)| slot.live())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.dead.len()
    }

    pub(super) fn upsert(&mut self, resource: Resource, seq: Seq, at: Instant) -> bool {
        let name = resource.name().clone();
        if let Some(old) = self.get(&name)
            && *old.resource == resource
        {
            return false;
        }
        self.put(name, Slot { seq, at, resource: Some(resource) });
        true
    }

    pub(super) fn remove(&mut self, name: &str, seq: Seq, at: Instant) -> bool {
        let Some(old) = self.get(name) else { return false };
        let name = old.resource.name().clone();
        self.put(name, Slot { seq, at, resource: None });
        while self.dead.len() > self.max_dead {
            let Some((seq, name)) = self.dead.pop_first() else { break };
            self.slots.remove(&name);
            self.by_seq.remove(&(seq, name));
            self.forgotten = self.forgotten.max(seq);
        }
        true
    }

    fn put(&mut self, name: Arc<str>, slot: Slot) {
        let (seq, dead) = (slot.seq, slot.resource.is_none());
        let old = match self.slots.entry(name.clone()) {
            btree_map::Entry::Occupied(mut entry) => Some(entry.insert(slot)),
            btree_map::Entry::Vacant(entry) => {
                entry.insert(slot);
                None
            }
        };
        if let Some(old) = old {
            let key = (old.seq, name.clone());
            self.by_seq.remove(&key);
            self.dead.remove(&key);
        }
        if dead {
            self.dead.insert((seq, name.clone()));
        }
        self.by_seq.insert((seq, name));
    }

    pub(super) fn changes_since(&self, since: Seq) -> Changes<'_> {
        if since < self.forgotten {
            return Changes::Unknown;
        }
        let from = (since.next(), Arc::from(""));
        let range = self.by_seq.range((Bound::Included(from), Bound::Unbounded));
        Changes::Known(ChangesIter { slots: &self.slots, range })
    }
}
