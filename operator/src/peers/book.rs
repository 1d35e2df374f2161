//! What this replica's proxies have in force, for the leader to know. Pure.
//!
//! A stream that has acknowledged everything through an edit has in force what the store had then, subscribed to or not: so
//! only that edit is kept of it, and what is to be told is found in the store, at a cost of what changed. Names are
//! kept only while a line is open and has not taken them yet, each once.

use std::collections::{BTreeMap, BTreeSet};

use portolan_xds::{
    GatewayKey,
    ads::{Event, StreamId},
    program::ResourceKey,
    store::{Changes, ResourceType, Seq, Store, Version},
};

use super::{Entry, StreamReport};

/// How many resources a report has at most.
const ENTRIES: usize = 2_000;

/// What a proxy has in force of a resource: its version, or nothing when removed; and whether a proxy has acknowledged it.
type InForce = (Option<Version>, bool);

/// One stream of a proxy of this replica.
#[derive(Debug, Default)]
struct Proxy {
    /// Everything up to this edit has been in force.
    through: Seq,
    /// The leader knows nothing of it.
    whole: bool,
    /// What is to be told.
    entries: BTreeMap<ResourceKey, InForce>,
}

type Key = (GatewayKey, StreamId);

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    /// Whether somebody is told.
    open: bool,
    proxies: BTreeMap<Key, Proxy>,
    /// Those with something to tell.
    queue: BTreeSet<Key>,
    closed: BTreeSet<Key>,
}

impl Book {
    /// A line opens: everything is to be told.
    pub fn open(&mut self) {
        self.close();
        self.open = true;
        for (key, proxy) in &mut self.proxies {
            proxy.whole = true;
            self.queue.insert(key.clone());
        }
    }

    /// The line is closed: nobody is told any more.
    pub fn close(&mut self) {
        self.open = false;
        self.queue.clear();
        self.closed.clear();
        for proxy in self.proxies.values_mut() {
            (proxy.whole, proxy.entries) = (false, BTreeMap::new());
        }
    }

    /// Takes in what happened on a stream, after the program did. `accepted` is the version of a resource that a proxy
    /// acknowledged last. Returns whether there is something to tell.
    pub fn on_event(
        &mut self,
        gateway: &GatewayKey,
        stream: StreamId,
        event: &Event,
        store: &Store,
        accepted: impl Fn(&ResourceKey) -> Option<Version>,
    ) -> bool {
        let key = (gateway.clone(), stream);
        if let Event::Closed { .. } = event {
            self.queue.remove(&key);
            if self.proxies.remove(&key).is_some() && self.open {
                self.closed.insert(key);
            }
            return self.open;
        }
        let proxy =
            self.proxies.entry(key.clone()).or_insert_with(|| Proxy { whole: self.open, ..Proxy::default() });
        match event {
            Event::Opened => {}
            Event::Progress { acked_through } if *acked_through > proxy.through => {
                let since = std::mem::replace(&mut proxy.through, *acked_through);
                if self.open {
                    proxy.note(store, since, &accepted);
                }
            }
            Event::Known { kind, resources } if self.open => proxy.accept(*kind, resources),
            Event::Acked(answer) if self.open => proxy.accept(answer.kind, &answer.resources),
            _ => return false,
        }
        if self.open {
            self.queue.insert(key);
        }
        self.open
    }

    /// Takes out the next report. `look` shows a Gateway's store, and the versions that proxies acknowledged of it.
    pub fn next(&mut self, look: &mut dyn FnMut(&GatewayKey, &mut Look<'_>)) -> Option<StreamReport> {
        if let Some((gateway, stream)) = self.closed.pop_first() {
            let (entries, stream) = (Vec::new(), stream.0);
            return Some(StreamReport { gateway, stream, entries, fresh: false, closed: true });
        }
        let key = self.queue.pop_first()?;
        let proxy = self.proxies.get_mut(&key)?;
        let fresh = std::mem::take(&mut proxy.whole);
        if fresh {
            look(&key.0, &mut |store, accepted| proxy.fill(store, accepted));
        }
        let rest = proxy.entries.keys().nth(ENTRIES).cloned();
        let rest = rest.map(|rest| proxy.entries.split_off(&rest)).unwrap_or_default();
        let told = std::mem::replace(&mut proxy.entries, rest);
        if !proxy.entries.is_empty() {
            self.queue.insert(key.clone());
        }
        let entry = |(resource, (version, accepted))| Entry { resource, version, accepted };
        let ((gateway, stream), entries) = (key, told.into_iter().map(entry).collect());
        Some(StreamReport { gateway, stream: stream.0, entries, fresh, closed: false })
    }
}

/// Looks at a Gateway's store, and at the versions that proxies acknowledged of it.
pub type Look<'a> = dyn FnMut(&Store, &dyn Fn(&ResourceKey) -> Option<Version>) + 'a;

impl Proxy {
    /// Notes what changed since an edit and is in force now.
    fn note(&mut self, store: &Store, since: Seq, accepted: &impl Fn(&ResourceKey) -> Option<Version>) {
        for kind in ResourceType::ORDER {
            match store.changes_since(kind, since) {
                Changes::Known(changes) => {
                    // Oldest first; what has changed again since is told when that is in force.
                    for change in changes.take_while(|change| change.seq <= self.through) {
                        let key = ResourceKey { kind, name: change.name.clone() };
                        let version = change.resource.map(portolan_xds::store::Resource::version);
                        let by_proxy = version.is_some() && accepted(&key) == version;
                        self.entries.insert(key, (version, by_proxy));
                    }
                }
                // More was removed than is remembered.
                Changes::Unknown => self.whole = true,
            }
        }
    }

    /// Notes everything that is in force; what is noted already is newer.
    fn fill(&mut self, store: &Store, accepted: &dyn Fn(&ResourceKey) -> Option<Version>) {
        for kind in ResourceType::ORDER {
            for live in store.iter(kind).filter(|live| live.seq <= self.through) {
                let key = ResourceKey { kind, name: live.resource.name().clone() };
                let version = Some(live.resource.version());
                let by_proxy = accepted(&key) == version;
                self.entries.entry(key).or_insert((version, by_proxy));
            }
        }
    }

    fn accept(&mut self, kind: ResourceType, resources: &[(std::sync::Arc<str>, Version)]) {
        for (name, version) in resources {
            self.entries.insert(ResourceKey { kind, name: name.clone() }, (Some(*version), true));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, Instant},
    };

    use portolan_xds::{ads::Answer, store::Resource};

    use super::*;

    const KIND: ResourceType = ResourceType::Cluster;

    fn gateway() -> GatewayKey {
        GatewayKey::new("apps", "web")
    }

    fn put(store: &mut Store, name: &str, body: &'static str) {
        store.edit(Instant::now()).upsert(KIND, Resource::new(name, body.as_bytes().into(), Vec::new()));
    }

    fn remove(store: &mut Store, name: &str) {
        store.edit(Instant::now()).remove(KIND, name);
    }

    fn say(book: &mut Book, store: &Store, stream: u64, event: &Event) -> bool {
        book.on_event(&gateway(), StreamId(stream), event, store, |_| None)
    }

    fn progress(through: u64) -> Event {
        Event::Progress { acked_through: Seq(through) }
    }

    fn closed() -> Event {
        Event::Closed { reason: "gone".into() }
    }

    /// What there is to tell, as `stream: name=body` with a `+` where a proxy acknowledged it, or `stream closed`.
    fn told(book: &mut Book, store: &Store) -> Vec<String> {
        let bodies: BTreeMap<Version, &str> =
            ["1", "2", "3"].into_iter().map(|body| (Version::of(body.as_bytes()), body)).collect();
        let mut told = Vec::new();
        while let Some(report) = book.next(&mut |_, look| look(store, &|_| None)) {
            if report.closed {
                told.push(format!("{} closed", report.stream));
                continue;
            }
            let entries = report.entries.iter().map(|entry| {
                let body = entry.version.map_or("none", |version| bodies[&version]);
                format!("{}={body}{}", entry.resource.name, if entry.accepted { "+" } else { "" })
            });
            let start = if report.fresh { "*" } else { "" };
            told.push(format!("{start}{}: {}", report.stream, entries.collect::<Vec<_>>().join(" ")));
        }
        told
    }

    #[test]
    fn nobody_is_told_while_there_is_no_line_and_a_line_is_told_everything() {
        let (mut book, mut store) = (Book::default(), Store::default());
        put(&mut store, "a", "1");
        put(&mut store, "b", "1");
        assert!(!say(&mut book, &store, 1, &Event::Opened));
        assert!(!say(&mut book, &store, 2, &Event::Opened));
        assert!(!say(&mut book, &store, 1, &progress(1)));
        assert!(told(&mut book, &store).is_empty());
        for _ in 0..2 {
            book.open();
            assert_eq!(told(&mut book, &store), ["*1: a=1", "*2: "]);
            assert!(told(&mut book, &store).is_empty(), "once");
        }
        book.close();
        assert!(!say(&mut book, &store, 1, &progress(2)));
        assert!(told(&mut book, &store).is_empty());
    }

    #[test]
    fn what_comes_into_force_is_told_each_name_once_with_its_newest() {
        let (mut book, mut store) = (Book::default(), Store::default());
        book.open();
        put(&mut store, "a", "1");
        put(&mut store, "b", "1");
        say(&mut book, &store, 1, &Event::Opened);
        assert!(say(&mut book, &store, 1, &progress(2)));
        assert_eq!(told(&mut book, &store), ["*1: a=1 b=1"]);
        put(&mut store, "a", "2");
        remove(&mut store, "b");
        assert!(say(&mut book, &store, 1, &progress(4)));
        assert_eq!(told(&mut book, &store), ["1: a=2 b=none"]);
        // It has changed again before it was looked at: it is told when that is in force.
        put(&mut store, "a", "3");
        put(&mut store, "c", "1");
        put(&mut store, "a", "1");
        say(&mut book, &store, 1, &progress(6));
        assert_eq!(told(&mut book, &store), ["1: c=1"]);
        say(&mut book, &store, 1, &progress(7));
        assert_eq!(told(&mut book, &store), ["1: a=1"]);
        // Less than before takes nothing back.
        assert!(!say(&mut book, &store, 1, &progress(3)));
    }

    #[test]
    fn what_a_proxy_acknowledges_is_in_force_before_its_neighbours_are() {
        let (mut book, mut store) = (Book::default(), Store::default());
        book.open();
        put(&mut store, "a", "1");
        let resources = vec![("a".into(), Version::of(b"1"))];
        let known = Event::Known { kind: KIND, resources: vec![("b".into(), Version::of(b"2"))] };
        let acked = Event::Acked(Answer {
            kind: KIND,
            resources,
            removed: Vec::new(),
            built: Seq(1),
            change_to_sent: None,
            sent_to_answer: Duration::ZERO,
        });
        assert!(say(&mut book, &store, 1, &acked) && say(&mut book, &store, 1, &known));
        assert_eq!(told(&mut book, &store), ["*1: a=1+ b=2+"]);
    }

    #[test]
    fn more_removals_than_are_remembered_make_a_fresh_start() {
        let (mut book, mut store) = (Book::default(), Store::new(1));
        book.open();
        for name in ["a", "b", "c"] {
            put(&mut store, name, "1");
        }
        say(&mut book, &store, 1, &progress(3));
        assert_eq!(told(&mut book, &store), ["*1: a=1 b=1 c=1"]);
        for name in ["a", "b"] {
            remove(&mut store, name);
        }
        say(&mut book, &store, 1, &progress(5));
        assert_eq!(told(&mut book, &store), ["*1: c=1"]);
    }

    #[test]
    fn a_stream_that_closes_is_told_if_somebody_knows_of_it() {
        let (mut book, store) = (Book::default(), Store::default());
        say(&mut book, &store, 1, &Event::Opened);
        say(&mut book, &store, 1, &closed());
        book.open();
        say(&mut book, &store, 2, &Event::Opened);
        say(&mut book, &store, 2, &closed());
        assert_eq!(told(&mut book, &store), ["2 closed"]);
    }

    #[test]
    fn a_report_has_a_bounded_size() {
        let (mut book, mut store) = (Book::default(), Store::default());
        let mut edit = store.edit(Instant::now());
        for index in 0..=ENTRIES {
            edit.upsert(KIND, Resource::new(format!("c{index}"), "1".into(), Vec::new()));
        }
        say(&mut book, &store, 1, &progress(1));
        book.open();
        let mut sizes = Vec::new();
        while let Some(report) = book.next(&mut |_, look| look(&store, &|_| None)) {
            sizes.push(report.entries.len());
        }
        assert_eq!(sizes, [ENTRIES, 1]);
    }
}
