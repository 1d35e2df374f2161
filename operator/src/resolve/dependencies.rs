//! Who read what: from a read whose answer changed to the units that asked.
//!
//! There are a few reads per unit and a few units per route, so their form decides how much memory a route costs: each
//! unit and each read is stored once and shared, and a read that one unit asked for (most of them) needs no set.

use std::{
    collections::{BTreeSet, hash_map::Entry},
    sync::Arc,
};

use foldhash::{HashMap, HashSet};

use super::Unit;
use crate::{model::ObjectKey, world::Read};

/// The recorded reads of all units, both ways.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// Sorted.
    reads: HashMap<Arc<Unit>, Box<[Arc<Read>]>>,
    readers: HashMap<Arc<Read>, Readers>,
    /// Objects of kinds that are read by name and that somebody asked for.
    named: BTreeSet<ObjectKey>,
    /// Since it was looked at: whether somebody asks for such an object who did not before, or no longer.
    named_changed: bool,
}

/// Units that asked the same. Never empty.
#[derive(Debug)]
enum Readers {
    One(Arc<Unit>),
    Many(Box<HashSet<Arc<Unit>>>),
}

impl Dependencies {
    /// The units that asked for this.
    pub(super) fn readers(&self, read: &Read) -> impl Iterator<Item = &Unit> {
        let (one, many) = match self.readers.get(read) {
            None => (None, None),
            Some(Readers::One(unit)) => (Some(unit), None),
            Some(Readers::Many(units)) => (None, Some(units.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten()).map(AsRef::as_ref)
    }

    /// Objects of kinds that are read by name and that somebody asked for, there or not.
    pub(super) fn named(&self) -> impl Iterator<Item = &ObjectKey> {
        self.named.iter()
    }

    /// Whether an object of [`Dependencies::named`] has other readers than when this was called last.
    pub(super) fn take_named_changed(&mut self) -> bool {
        std::mem::take(&mut self.named_changed)
    }

    /// Replaces the reads of a unit; none forgets it.
    pub(super) fn replace(&mut self, unit: &Unit, reads: BTreeSet<Read>) {
        let (unit, old) = match self.reads.remove_entry(unit) {
            Some((unit, old)) => (unit, old),
            None => (Arc::new(unit.clone()), Box::default()),
        };
        let mut old = old.into_iter().peekable();
        let mut new = Vec::with_capacity(reads.len());
        for read in reads {
            while let Some(gone) = old.next_if(|old| **old < read) {
                self.leave(&gone, &unit);
            }
            let read = old.next_if(|old| **old == read).unwrap_or_else(|| self.enter(read, &unit));
            new.push(read);
        }
        for gone in old {
            self.leave(&gone, &unit);
        }
        if !new.is_empty() {
            self.reads.insert(unit, new.into_boxed_slice());
        }
    }

    fn enter(&mut self, read: Read, unit: &Arc<Unit>) -> Arc<Read> {
        self.named_changed |= is_named(&read);
        match self.readers.entry(Arc::new(read)) {
            Entry::Vacant(entry) => {
                let read = Arc::clone(entry.key());
                if let Read::Object(key) = &*read
                    && is_named(&read)
                {
                    self.named.insert(key.clone());
                }
                entry.insert(Readers::One(Arc::clone(unit)));
                read
            }
            Entry::Occupied(mut entry) => {
                match entry.get_mut() {
                    Readers::Many(units) => _ = units.insert(Arc::clone(unit)),
                    one @ Readers::One(_) => {
                        let Readers::One(first) = &*one else { return Arc::clone(entry.key()) };
                        *one = Readers::Many(Box::new(
                            [Arc::clone(first), Arc::clone(unit)].into_iter().collect(),
                        ));
                    }
                }
                Arc::clone(entry.key())
            }
        }
    }

    fn leave(&mut self, read: &Arc<Read>, unit: &Arc<Unit>) {
        self.named_changed |= is_named(read);
        let nobody = match self.readers.get_mut(&**read) {
            None => return,
            Some(Readers::One(only)) => only == unit,
            Some(Readers::Many(units)) => {
                units.remove(unit);
                units.is_empty()
            }
        };
        if nobody {
            self.readers.remove(&**read);
            if let Read::Object(key) = &**read {
                self.named.remove(key);
            }
        }
    }
}

/// Whether this is a read of an object that an API server is asked for by its name.
fn is_named(read: &Read) -> bool {
    matches!(read, Read::Object(key) if key.kind.is_read_by_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, ObjectKey};

    fn unit(name: &str) -> Unit {
        Unit::Route(ObjectKey::new(Kind::HttpRoute, "default", name))
    }

    fn read(name: &str) -> Read {
        Read::Object(ObjectKey::new(Kind::Service, "default", name))
    }

    fn readers(dependencies: &Dependencies, name: &str) -> BTreeSet<Unit> {
        dependencies.readers(&read(name)).cloned().collect()
    }

    #[test]
    fn what_is_read_by_name_is_known_while_somebody_asks_for_it() {
        let secret = ObjectKey::new(Kind::Secret, "default", "s");
        let mut dependencies = Dependencies::default();
        dependencies.replace(&unit("one"), [read("a"), Read::Object(secret.clone())].into());
        dependencies.replace(&unit("two"), [Read::Object(secret.clone())].into());
        assert!(dependencies.named().eq([&secret]));
        dependencies.replace(&unit("one"), BTreeSet::new());
        assert!(dependencies.named().eq([&secret]));
        dependencies.replace(&unit("two"), [read("a")].into());
        assert_eq!(dependencies.named().count(), 0);
    }

    #[test]
    fn a_read_leads_to_everyone_whose_last_reads_have_it() {
        let mut dependencies = Dependencies::default();
        dependencies.replace(&unit("one"), [read("a"), read("b")].into());
        dependencies.replace(&unit("two"), [read("b"), read("c")].into());
        dependencies.replace(&unit("three"), [read("b")].into());
        assert_eq!(readers(&dependencies, "a"), [unit("one")].into());
        assert_eq!(readers(&dependencies, "b"), [unit("one"), unit("two"), unit("three")].into());
        dependencies.replace(&unit("one"), [read("c"), read("d")].into());
        assert_eq!(readers(&dependencies, "a"), [].into());
        assert_eq!(readers(&dependencies, "b"), [unit("two"), unit("three")].into());
        assert_eq!(readers(&dependencies, "c"), [unit("one"), unit("two")].into());
        assert_eq!(readers(&dependencies, "d"), [unit("one")].into());
    }

    #[test]
    fn what_nobody_reads_any_more_is_forgotten() {
        let mut dependencies = Dependencies::default();
        for name in ["one", "two", "three"] {
            dependencies.replace(&unit(name), [read("a"), read(name)].into());
        }
        for name in ["one", "two", "three"] {
            dependencies.replace(&unit(name), BTreeSet::new());
        }
        assert!(dependencies.reads.is_empty() && dependencies.readers.is_empty(), "{dependencies:?}");
    }
}
