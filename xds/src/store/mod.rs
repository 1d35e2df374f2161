//! The resources of one Gateway, shared by all of its streams.
//!
//! Pure: no I/O, no clock, no lock. Every [`Edit`] that changes something takes the next [`Seq`], and an index
//! by it lets a stream find what changed since its own cursor in time linear in the changes, not in the store.
//! One entry per resource: changing it again moves it in the index, so a slow stream sees only the newest.
//!
//! A removed name stays as a tombstone. Tombstones are bounded in number; a stream whose cursor is older than
//! the newest forgotten one compares everything instead ([`Changes::Unknown`]).

mod body;
mod resource;
mod table;

use std::sync::Arc;
use std::time::Instant;

pub use body::{Body, Piece};
pub use resource::{Child, InvalidVersion, Resource, ResourceType, Version, domain_of, host_name, table_of};
use serde::Serialize;
use table::Table;
pub use table::{Change, Changes, Live};

/// How many removed names are remembered per type, by default.
pub const DEFAULT_TOMBSTONES: usize = 10_000;

/// The number of an edit of a store. Later edits have greater ones; zero is before the first edit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The number of the edit before this one. Zero has none before it.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The number of the edit after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The resources of one Gateway.
#[derive(Debug)]
pub struct Store {
    seq: Seq,
    tables: [Table; ResourceType::ORDER.len()],
}

impl Default for Store {
    fn default() -> Self {
        Self::new(DEFAULT_TOMBSTONES)
    }
}

impl Store {
    /// An empty store that remembers this many removed names of each type.
    pub fn new(tombstones: usize) -> Self {
        Self { seq: Seq(0), tables: std::array::from_fn(|_| Table::new(tombstones)) }
    }

    /// Opens an edit: a set of changes that belong together and share one [`Seq`]. Delivery orders within an
    /// edit by type, so what routes need is sent before them, in whatever order it is written here.
    ///
    /// `at` is the moment when the change was made; it is only compared and subtracted.
    pub fn edit(&mut self, at: Instant) -> Edit<'_> {
        Edit { seq: self.seq.next(), store: self, at }
    }

    /// The number of the last edit that changed something.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The resource of that name, with the edit that last changed it.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<Live<'_>> {
        self.table(kind).get(name)
    }

    /// The names of a type, sorted.
    pub fn names(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<str>> {
        self.table(kind).iter().map(|live| live.resource.name())
    }

    /// The resources of a type, sorted by name.
    pub fn iter(&self, kind: ResourceType) -> impl Iterator<Item = Live<'_>> {
        self.table(kind).iter()
    }

    /// The virtual hosts of a `RouteConfiguration`, sorted by name.
    pub fn hosts_of<'a>(&'a self, table: &'a str) -> impl Iterator<Item = Live<'a>> {
        // Other tables' names may begin with this one's: `a/b` has `a/b/*`, and `a/b/c/*` is of `a/b/c`.
        self.table(ResourceType::VirtualHost)
            .starting(&format!("{table}/"))
            .filter(move |live| table_of(live.resource.name()) == table)
    }

    /// How many resources of a type there are.
    pub fn len(&self, kind: ResourceType) -> usize {
        self.table(kind).len()
    }

    /// Whether there is no resource of any type.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.len() == 0)
    }

    /// What changed after the edit `since`, oldest first: one entry per name, with its newest state.
    pub fn changes_since(&self, kind: ResourceType, since: Seq) -> Changes<'_> {
        self.table(kind).changes_since(since)
    }

    fn table(&self, kind: ResourceType) -> &Table {
        let [cluster, endpoints, secret, listener, routes, hosts] = &self.tables;
        match kind {
            ResourceType::Cluster => cluster,
            ResourceType::Endpoints => endpoints,
            ResourceType::Secret => secret,
            ResourceType::Listener => listener,
            ResourceType::RouteConfiguration => routes,
            ResourceType::VirtualHost => hosts,
        }
    }

    fn table_mut(&mut self, kind: ResourceType) -> &mut Table {
        let [cluster, endpoints, secret, listener, routes, hosts] = &mut self.tables;
        match kind {
            ResourceType::Cluster => cluster,
            ResourceType::Endpoints => endpoints,
            ResourceType::Secret => secret,
            ResourceType::Listener => listener,
            ResourceType::RouteConfiguration => routes,
            ResourceType::VirtualHost => hosts,
        }
    }
}

/// Changes of a store that share one [`Seq`]. It takes the number only when something really changes.
#[derive(Debug)]
pub struct Edit<'a> {
    store: &'a mut Store,
    seq: Seq,
    at: Instant,
}

impl Edit<'_> {
    /// Adds or replaces a resource. Returns whether that changed anything: equal bytes change nothing.
    pub fn upsert(&mut self, kind: ResourceType, resource: Resource) -> bool {
        let changed = self.store.table_mut(kind).upsert(resource, self.seq, self.at);
        self.note(changed)
    }

    /// Removes a resource. Returns whether it was there.
    pub fn remove(&mut self, kind: ResourceType, name: &str) -> bool {
        let changed = self.store.table_mut(kind).remove(name, self.seq, self.at);
        self.note(changed)
    }

    /// The number that this edit has, or would have if it changed something.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The store as edited so far.
    pub fn store(&self) -> &Store {
        self.store
    }

    fn note(&mut self, changed: bool) -> bool {
        if changed {
            self.store.seq = self.seq;
        }
        changed
    }
}

#[cfg(test)]
mod tests;
