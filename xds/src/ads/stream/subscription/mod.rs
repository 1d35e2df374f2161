//! What one proxy wants of one type, what it has, and what it is still to be sent.

mod sending;
mod tables;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

pub(super) use sending::Outgoing;
use tables::Entered;

use crate::ads::event::bounded;
use crate::store::{Changes, Resource, ResourceType, Seq, Store, Version, table_of};

/// A name to be sent. What is sent is what the store has by then: a newer version replaces an unsent one.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// The oldest edit that the proxy lacks of it.
    since: Seq,
    /// The newest edit that it contains: what that edit needs must have arrived before it.
    need: Seq,
    /// Sent even if the proxy has that version, or rejected it: the proxy asked, or its parent changed.
    force: bool,
    /// Whether later stages wait for it. New endpoints of a known cluster hold up nobody.
    blocks: bool,
    /// When the oldest change was made, if this stream saw it as a change.
    changed_at: Option<Instant>,
}

impl Pending {
    fn changed(seq: Seq, blocks: bool, changed_at: Option<Instant>) -> Self {
        Self { since: seq, need: seq, force: false, blocks, changed_at }
    }

    fn forced(seq: Seq) -> Self {
        Self { since: seq, need: seq, force: true, blocks: true, changed_at: None }
    }

    /// A removal that was held until nothing needed it. Nothing waits for it, no acknowledgement lacks it.
    fn released(seq: Seq) -> Self {
        Self { since: Seq(u64::MAX), need: seq, force: false, blocks: false, changed_at: None }
    }

    fn merge(&mut self, later: Self) {
        self.since = self.since.min(later.since);
        self.need = self.need.max(later.need);
        self.force |= later.force;
        self.blocks |= later.blocks;
        self.changed_at = earlier(self.changed_at, later.changed_at);
    }
}

/// A removal that waits until no request can need the resource any more.
#[derive(Clone, Copy, Debug)]
struct Held {
    seq: Seq,
    /// Since when the proxy has acknowledged everything that stops its use.
    unused_since: Option<Instant>,
}

/// The one response of this type that is not answered yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) items: Vec<(Arc<str>, Version, Seq)>,
    pub(super) removed: Vec<Arc<str>>,
    /// The newest edit of the store when it was built.
    pub(super) built: Seq,
    /// The oldest edit in it.
    pub(super) since: Seq,
    /// The oldest edit in it that later stages wait for.
    blocks_from: Option<Seq>,
    pub(super) sent_at: Instant,
    pub(super) changed_at: Option<Instant>,
}

/// What a proxy rejected and has not accepted since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The version that it rejected.
    pub version: Version,
    /// The edit that contained it.
    pub seq: Seq,
    /// The proxy's reason, for the whole response in which it was.
    pub message: Arc<str>,
}

/// What a request says about the names of a type.
#[derive(Debug)]
pub(super) struct NameRequest<'a> {
    pub(super) subscribe: &'a [String],
    pub(super) unsubscribe: &'a [String],
    pub(super) known: &'a BTreeMap<String, String>,
}

/// The state of one type on one stream.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    /// Whether a request of this type has come.
    asked: bool,
    wildcard: bool,
    /// The first answer to a wildcard is sent even if it is empty: Envoy waits for it to start.
    must_answer: bool,
    names: HashSet<Arc<str>>,
    /// What the proxy was last sent, or said that it has.
    has: HashMap<Arc<str>, Version>,
    pending: BTreeMap<Arc<str>, Pending>,
    held: BTreeMap<Arc<str>, Held>,
    /// Boxed: a silent stream has none.
    in_flight: Option<Box<InFlight>>,
    rejected: BTreeMap<Arc<str>, Rejection>,
    /// What was in rejected responses, removals too, and was not sent since. Envoy may have taken nothing of them. With the
    /// number of the rejection, the newest one.
    refused: BTreeMap<Arc<str>, u64>,
    /// How many responses were rejected.
    rejections: u64,
    /// Every edit up to this one is in the fields above.
    cursor: Seq,
    /// Names whose parent was sent before the first request of this type: `initial_resource_versions`
    /// must not suppress them.
    touched_early: HashSet<Arc<str>>,
    /// Of virtual hosts: the tables that the proxy has, see `tables`.
    tables: HashMap<Arc<str>, Entered>,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            asked: false,
            wildcard: false,
            must_answer: false,
            names: HashSet::new(),
            has: HashMap::new(),
            pending: BTreeMap::new(),
            held: BTreeMap::new(),
            in_flight: None,
            rejected: BTreeMap::new(),
            refused: BTreeMap::new(),
            rejections: 0,
            cursor: Seq(0),
            touched_early: HashSet::new(),
            tables: HashMap::new(),
        }
    }

    pub(super) fn asked(&self) -> bool {
        self.asked
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        if self.kind == ResourceType::VirtualHost {
            return self.wildcard && self.tables.contains_key(table_of(name));
        }
        self.wildcard || self.names.contains(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.has.contains_key(name)
    }

    /// Whether the proxy has it, or was told to drop it and has not answered.
    pub(super) fn has_or_removes(&self, name: &str) -> bool {
        self.has(name)
            || self.in_flight.as_ref().is_some_and(|each| each.removed.iter().any(|it| **it == *name))
    }

    pub(super) fn rejected(&self) -> &BTreeMap<Arc<str>, Rejection> {
        &self.rejected
    }

    pub(super) fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_deref()
    }

    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.names.len(), self.pending.len(), self.held.len())
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What is still to be sent.
    pub(super) fn pending(&self) -> impl Iterator<Item = &str> {
        self.pending.keys().map(|name| &**name)
    }

    // ---- What the proxy asks for ----

    /// Applies a request's names. Returns names of a form that is not served.
    pub(super) fn request(&mut self, store: &Store, request: &NameRequest<'_>) -> Vec<Arc<str>> {
        let first = !std::mem::replace(&mut self.asked, true);
        let none = BTreeMap::new();
        let known = if first { request.known } else { &none };
        if first {
            self.cursor = store.seq();
        }
        // Only these have the legacy form of the wildcard: a first request without names.
        let legacy =
            matches!(self.kind, ResourceType::Cluster | ResourceType::Listener | ResourceType::VirtualHost);
        if first && legacy && request.subscribe.is_empty() && request.unsubscribe.is_empty() {
            self.start_wildcard(store, known, first);
        }
        let mut ignored = Vec::new();
        for name in request.subscribe {
            if name == "*" {
                self.start_wildcard(store, known, first);
            } else if name.starts_with("xdstp:") {
                ignored.push(bounded(name));
            } else {
                self.subscribe(store, name, known, first);
            }
        }
        for name in request.unsubscribe {
            if name == "*" {
                self.end_wildcard();
            } else {
                self.unsubscribe(store, name);
            }
        }
        if first {
            self.touched_early = HashSet::new();
        }
        ignored
    }

    fn start_wildcard(&mut self, store: &Store, known: &BTreeMap<String, String>, first: bool) {
        self.wildcard = true;
        // Envoy waits for each table's hosts, and not for an answer.
        self.must_answer = self.kind != ResourceType::VirtualHost;
        for live in store.iter(self.kind) {
            let name = live.resource.name();
            if first && self.learn(live.resource, known) || !self.wants(name) {
                continue;
            }
            // A name that the proxy does not have needs no force, so that it can still vanish unsent.
            let force = !first || self.has(name);
            self.mark(name, Pending { force, ..Pending::forced(live.seq) });
        }
        for (name, version) in known {
            if store.get(self.kind, name).is_none() {
                let name = Arc::from(name.as_str());
                self.has.insert(Arc::clone(&name), known_version(version));
                self.gone(store, &name, store.seq(), None);
            }
        }
    }

    /// Notes what the proxy says that it has. Returns whether it needs nothing of this resource.
    fn learn(&mut self, resource: &Resource, known: &BTreeMap<String, String>) -> bool {
        let name = resource.name();
        let Some(version) = known.get(&**name) else { return false };
        let version = known_version(version);
        self.has.insert(Arc::clone(name), version);
        // A proxy whose listener became active without its certificate must recover: secrets always go out.
        self.kind != ResourceType::Secret
            && version == resource.version()
            && !self.touched_early.contains(name)
            && !self.is_new(name)
    }

    fn subscribe(&mut self, store: &Store, name: &str, known: &BTreeMap<String, String>, first: bool) {
        let live = store.get(self.kind, name);
        let name = live.map_or_else(|| Arc::from(name), |live| Arc::clone(live.resource.name()));
        self.names.insert(Arc::clone(&name));
        self.rejected.remove(&name);
        self.held.remove(&name);
        if let Some(live) = live
            && first
            && self.learn(live.resource, known)
        {
            return;
        }
        if live.is_none()
            && first
            && self.kind == ResourceType::Endpoints
            && let Some(version) = known.get(&*name)
        {
            // Its cluster went while the proxy was away, and carries traffic until the proxy's routes have left it: until
            // then it keeps the endpoints that it has.
            self.has.insert(Arc::clone(&name), known_version(version));
            self.gone(store, &name, store.seq(), None);
            return;
        }
        // Asked, so answered: also if it was sent before, also if it does not exist.
        self.mark(&name, Pending::forced(live.map_or(store.seq(), |live| live.seq)));
    }

    fn unsubscribe(&mut self, store: &Store, name: &str) {
        let Some(name) = self.names.take(name) else { return };
        if self.wildcard {
            // Still wanted by the wildcard: the proxy expects to be told what becomes of it.
            let seq = store.get(self.kind, &name).map_or(store.seq(), |live| live.seq);
            self.mark(&name, Pending::forced(seq));
        } else {
            self.forget(&name);
        }
    }

    fn end_wildcard(&mut self) {
        self.wildcard = false;
        self.must_answer = false;
        let names = &self.names;
        self.has.retain(|name, _| names.contains(name));
        self.pending.retain(|name, _| names.contains(name));
        self.held.retain(|name, _| names.contains(name));
        self.rejected.retain(|name, _| names.contains(name));
    }

    fn forget(&mut self, name: &str) {
        self.has.remove(name);
        self.pending.remove(name);
        self.held.remove(name);
        self.rejected.remove(name);
    }

    // ---- What the store says ----

    /// Takes up what changed since the last call.
    pub(super) fn sync(&mut self, store: &Store) {
        if !self.asked || self.cursor >= store.seq() {
            return;
        }
        match store.changes_since(self.kind, self.cursor) {
            Changes::Known(changes) => {
                for change in changes {
                    if self.wants(change.name) || change.resource.is_none() && self.has(change.name) {
                        self.changed(store, change.name, change.resource, change.seq, Some(change.at));
                    }
                }
            }
            Changes::Unknown => self.compare(store),
        }
        self.cursor = store.seq();
    }

    fn compare(&mut self, store: &Store) {
        for live in store.iter(self.kind) {
            if live.seq > self.cursor && self.wants(live.resource.name()) {
                self.changed(store, live.resource.name(), Some(live.resource), live.seq, Some(live.at));
            }
        }
        let lost: Vec<_> =
            self.has.keys().filter(|name| store.get(self.kind, name).is_none()).cloned().collect();
        for name in lost {
            if !self.held.contains_key(&name) {
                self.changed(store, &name, None, store.seq(), None);
            }
        }
    }

    fn changed(
        &mut self,
        store: &Store,
        name: &Arc<str>,
        resource: Option<&Resource>,
        seq: Seq,
        at: Option<Instant>,
    ) {
        if let Some(number) = self.refused.remove(name) {
            self.resend_refused(store, number);
        }
        if let Some(resource) = resource {
            self.held.remove(name);
            // A new edit with bytes that were rejected: it was put back meanwhile, and is tried again.
            let again = self.rejected.get(name).is_some_and(|rejection| rejection.seq < seq);
            let same = !again && self.has.get(name) == Some(&resource.version());
            match self.pending.get(name) {
                // Back to what the proxy has, before anything else was sent.
                Some(pending) if same && !pending.force => {
                    self.pending.remove(name);
                }
                None if same => {}
                _ => {
                    let mark = Pending::changed(seq, self.blocks(name), at);
                    self.mark(name, Pending { force: again, ..mark });
                }
            }
        } else {
            self.rejected.remove(name);
            // A name that was asked for is answered all the same; any other removal takes its own way.
            if self.pending.get(name).is_some_and(|each| !each.force) || !self.names.contains(name) {
                self.pending.remove(name);
            }
            if self.has(name) {
                self.gone(store, name, seq, at);
            }
        }
    }

    /// Part of a rejected response has changed, so the rest of it goes out again: virtual hosts are taken up all or none, and
    /// of other types those before the one that Envoy stumbled over.
    ///
    /// What was rejected after that may still be as bad as it was, and waits for a change of its own.
    fn resend_refused(&mut self, store: &Store, number: u64) {
        let refused = std::mem::take(&mut self.refused);
        let (due, later): (BTreeMap<_, _>, _) = refused.into_iter().partition(|(_, each)| *each <= number);
        self.refused = later;
        for name in due.into_keys() {
            match store.get(self.kind, &name) {
                Some(live) if self.wants(&name) => self.mark(&name, Pending::forced(live.seq)),
                Some(_) => {}
                None => self.mark(&name, Pending { force: true, ..Pending::released(store.seq()) }),
            }
        }
    }

    /// Whether later stages wait for this name: a change of what carries traffic, or the first time that the
    /// proxy gets it.
    fn blocks(&self, name: &str) -> bool {
        !matches!(self.kind, ResourceType::Endpoints | ResourceType::Secret) || !self.has(name)
    }

    /// A resource that the proxy has was removed. Listeners go in their stage, the rest after the hold.
    fn gone(&mut self, store: &Store, name: &Arc<str>, seq: Seq, at: Option<Instant>) {
        let now = match self.kind {
            ResourceType::Listener => true,
            // The cluster lives on: Envoy must learn that it has no endpoints.
            ResourceType::Endpoints => store.get(ResourceType::Cluster, name).is_some(),
            // The table lives on, and must not route by it any more.
            ResourceType::VirtualHost => {
                store.get(ResourceType::RouteConfiguration, table_of(name)).is_some()
            }
            _ => false,
        };
        if now {
            self.mark(name, Pending::changed(seq, self.blocks(name), at));
        } else {
            self.held.insert(Arc::clone(name), Held { seq, unused_since: None });
        }
    }

    /// The parent of this name was sent: Envoy waits for it, and does not ask. Returns whether the proxy is
    /// subscribed to it.
    pub(super) fn touch(&mut self, store: &Store, name: &Arc<str>, seq: Seq) -> bool {
        // A table stays what it was with a new version of its listener.
        let forgets = matches!(self.kind, ResourceType::Endpoints | ResourceType::Secret);
        if !self.asked {
            if forgets {
                self.touched_early.insert(Arc::clone(name));
            }
            return false;
        }
        if !self.wants(name) {
            return false;
        }
        let exists = self.kind == ResourceType::Endpoints || store.get(self.kind, name).is_some();
        if exists && forgets {
            self.mark(name, Pending::forced(seq));
        }
        true
    }

    fn mark(&mut self, name: &Arc<str>, mark: Pending) {
        match self.pending.get_mut(name) {
            Some(pending) => pending.merge(mark),
            None => {
                self.pending.insert(Arc::clone(name), mark);
            }
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// The version that a proxy reports. What we did not write equals none of ours.
fn known_version(text: &str) -> Version {
    text.parse().unwrap_or_else(|_| Version::of(b"a version of another program"))
}
