//! A follower with a book and a leader with mirrors, over a line that is slow and breaks: whatever the order of things, the
//! leader says that something is in force on a proxy only if it was, and says so in the end.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use portolan_xds::{
    GatewayKey,
    ads::{Event, StreamId},
    program::ResourceKey,
    store::{Resource, ResourceType, Seq, Store, Version},
};
use proptest::prelude::*;

use super::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const STREAMS: u64 = 3;

fn key(name: usize) -> ResourceKey {
    ResourceKey { kind: ResourceType::Cluster, name: NAMES[name].into() }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// The world changes: a resource becomes another, what it was before, or is removed.
    Edit(usize, Change),
    /// The leader or the follower takes in so many changes of the world as one.
    Leader(usize),
    Follower(usize),
    /// A proxy opens its stream, acknowledges so many more edits, or closes it.
    Open,
    Acknowledge(u64, u64),
    Close(u64),
    /// So many reports arrive.
    Deliver(usize),
    /// The line breaks, and another one opens.
    Break,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    New,
    Back,
    Removed,
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![4 => Just(Change::New), 1 => Just(Change::Back), 1 => Just(Change::Removed)];
    prop_oneof![
        6 => (0..NAMES.len(), change).prop_map(|(name, change)| Step::Edit(name, change)),
        4 => (1..4_usize).prop_map(Step::Leader),
        4 => (1..4_usize).prop_map(Step::Follower),
        2 => Just(Step::Open),
        6 => (0..STREAMS, 1..4_u64).prop_map(|(stream, edits)| Step::Acknowledge(stream, edits)),
        1 => (0..STREAMS).prop_map(Step::Close),
        6 => (1..4_usize).prop_map(Step::Deliver),
        1 => Just(Step::Break),
    ]
}

/// The changes of the world that a replica has taken in, and its store.
#[derive(Default)]
struct Replica {
    taken: usize,
    store: Store,
}

impl Replica {
    fn take(&mut self, world: &[(usize, Option<u32>)], count: usize) -> BTreeSet<ResourceKey> {
        let until = world.len().min(self.taken + count);
        let mut changed = BTreeSet::new();
        let mut edit = self.store.edit(Instant::now());
        for (name, body) in &world[self.taken..until] {
            let key = key(*name);
            match body {
                Some(body) => {
                    let body = body.to_le_bytes().to_vec().into();
                    edit.upsert(key.kind, Resource::new(Arc::clone(&key.name), body, Vec::new()));
                }
                None => _ = edit.remove(key.kind, &key.name),
            }
            changed.insert(key);
        }
        self.taken = until;
        changed
    }

    fn version(&self, key: &ResourceKey) -> Option<Version> {
        Some(self.store.get(key.kind, &key.name)?.resource.version())
    }
}

/// A proxy of the follower: how far it is, and everything that it ever had in force.
#[derive(Default)]
struct Proxy {
    acked: u64,
    had: BTreeMap<ResourceKey, BTreeSet<Option<Version>>>,
}

#[derive(Default)]
struct Model {
    world: Vec<(usize, Option<u32>)>,
    bodies: u32,
    leader: Replica,
    follower: Replica,
    book: Book,
    /// Each is open on the follower.
    proxies: BTreeMap<u64, Proxy>,
    next_stream: u64,
    /// Streams by proxy: a proxy that opens again is another stream.
    line: VecDeque<StreamReport>,
    peer: u64,
    mirrors: Mirrors,
    /// The versions that the leader's store had: by resource, with the edit in which each came.
    history: BTreeMap<ResourceKey, Vec<(Seq, Option<Version>)>>,
}

impl Model {
    fn new() -> Self {
        let mut model = Self { peer: 1, next_stream: STREAMS, ..Self::default() };
        model.book.open();
        model
    }

    fn gateway() -> GatewayKey {
        GatewayKey::new("apps", "web")
    }

    fn say(&mut self, stream: u64, event: &Event) {
        self.book.on_event(&Self::gateway(), StreamId(stream), event, &self.follower.store, |_| None);
    }

    /// The stream of that rank among those that are open.
    fn stream(&self, rank: u64) -> Option<u64> {
        self.proxies.keys().nth(usize::try_from(rank).unwrap()).copied()
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Edit(name, change) => {
                let last = self.world.iter().rev().filter(|(at, _)| *at == name);
                let before: Vec<Option<u32>> = last.map(|(_, body)| *body).take(2).collect();
                self.bodies += 1;
                let body = match change {
                    Change::New => Some(self.bodies),
                    Change::Back => before.get(1).copied().flatten(),
                    Change::Removed => None,
                };
                self.world.push((name, body));
            }
            Step::Leader(count) => {
                let changed = self.leader.take(&self.world, count);
                for key in &changed {
                    let version = self.leader.version(key);
                    let history = self.history.entry(key.clone()).or_default();
                    if history.last().map(|(_, version)| *version) != Some(version) {
                        history.push((self.leader.store.seq(), version));
                    }
                }
                self.mirrors.on_edit(&changed, &self.leader.store);
            }
            Step::Follower(count) => _ = self.follower.take(&self.world, count),
            Step::Open if self.proxies.len() < 3 => {
                self.next_stream += 1;
                // It begins without any resource.
                let had = (0..NAMES.len()).map(|name| (key(name), BTreeSet::from([None]))).collect();
                self.proxies.insert(self.next_stream, Proxy { acked: 0, had });
                self.say(self.next_stream, &Event::Opened);
            }
            Step::Acknowledge(rank, edits) => {
                let Some(stream) = self.stream(rank) else { return };
                let Some(proxy) = self.proxies.get_mut(&stream) else { return };
                proxy.acked = (proxy.acked + edits).min(self.follower.store.seq().0);
                let acked = Seq(proxy.acked);
                for name in 0..NAMES.len() {
                    let key = key(name);
                    let live = self.follower.store.get(key.kind, &key.name);
                    if live.is_none_or(|live| live.seq <= acked) {
                        let version = live.map(|live| live.resource.version());
                        proxy.had.entry(key).or_default().insert(version);
                    }
                }
                self.say(stream, &Event::Progress { acked_through: acked });
            }
            Step::Close(rank) => {
                let Some(stream) = self.stream(rank) else { return };
                self.proxies.remove(&stream);
                self.say(stream, &Event::Closed { reason: "gone".into() });
            }
            Step::Deliver(count) => self.deliver(count),
            Step::Break => {
                for stream in self.mirrors.of(PeerId(self.peer)) {
                    self.mirrors.close(stream);
                }
                self.peer += 1;
                self.line.clear();
                self.book.open();
            }
            Step::Open => {}
        }
        // What is to be told is on its way at once, or waits for its place: the line carries two reports.
        while self.line.len() < 2 {
            let store = &self.follower.store;
            let Some(report) = self.book.next(&mut |_, look| look(store, &|_| None)) else { break };
            self.line.push_back(report);
        }
    }

    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let Some(report) = self.line.pop_front() else { return };
            let stream = PeerStream { peer: PeerId(self.peer), stream: report.stream };
            if report.closed {
                self.mirrors.close(stream);
            } else {
                self.mirrors.on_report(stream, &report.entries, report.fresh, &self.leader.store);
            }
        }
    }

    /// What the leader says of a proxy is true of it.
    fn check(&self) -> Result<(), TestCaseError> {
        for (stream, acked) in self.mirrors.acked() {
            let Some(proxy) = self.proxies.get(&stream.stream) else { continue };
            for (key, history) in &self.history {
                // An object's content is in the version that it came with and in all that follow, until it is another:
                // any of them will do.
                let Some(from) = history.iter().rposition(|(seq, _)| *seq <= acked) else { continue };
                let had = proxy.had.get(key);
                let true_of_it =
                    history[from..].iter().any(|(_, version)| had.is_some_and(|had| had.contains(version)));
                prop_assert!(true_of_it, "{stream:?} through {acked:?}: {key}: {had:?} of {history:?}");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_the_leader_says_of_a_proxy_is_true_and_in_the_end_complete(steps in prop::collection::vec(step(), 0..80)) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
            model.check()?;
        }
        // Everybody comes to know everything.
        model.run(&Step::Leader(usize::MAX / 2));
        model.run(&Step::Follower(usize::MAX / 2));
        for rank in 0..STREAMS {
            model.run(&Step::Acknowledge(rank, u64::MAX / 2));
        }
        while !model.line.is_empty() {
            model.run(&Step::Deliver(1));
            model.check()?;
        }
        let streams: BTreeMap<u64, Seq> =
            model.mirrors.acked().map(|(stream, acked)| (stream.stream, acked)).collect();
        let expected = model.proxies.keys().map(|stream| (*stream, model.leader.store.seq())).collect();
        prop_assert_eq!(streams, expected);
    }
}
