//! What the proxies of other replicas have in force of one Gateway, in the edits of this replica's store. Pure.
//!
//! Of each stream only the difference to this store is kept: what it lacks, or has beyond it. So a change costs as many
//! steps as there are streams, whatever the number of resources; and a stream that has everything costs nothing.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use portolan_xds::{
    program::ResourceKey,
    store::{ResourceType, Seq, Store, Version},
};

use super::{Entry, PeerId};

/// How many versions that a stream lacks of one resource are told apart. With more, it must come closer to the present.
const UNMET: usize = 64;

/// A stream of another replica's proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerStream {
    /// The connection of the replica.
    pub peer: PeerId,
    /// The stream, among those of the replica.
    pub stream: u64,
}

/// A resource that is not in force as it is here.
#[derive(Clone, Debug, PartialEq)]
struct Difference {
    /// What is in force instead.
    held: Option<Version>,
    /// Whether a proxy has acknowledged that.
    accepted: bool,
    /// What this store had since, oldest first, up to now; never empty. The edit of the first counts: everything before
    /// it has been in force.
    unmet: Vec<(Seq, Option<Version>)>,
}

#[derive(Debug, Default)]
struct Mirror {
    differences: BTreeMap<ResourceKey, Difference>,
    /// The same by the first edit that is lacking.
    firsts: BTreeSet<(Seq, ResourceKey)>,
    acked: Seq,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Mirrors {
    /// This store, as far as it was told.
    current: BTreeMap<ResourceKey, Version>,
    seq: Seq,
    streams: BTreeMap<PeerStream, Mirror>,
}

/// Versions that proxies have acknowledged, and that this store has.
pub type Accepted = Vec<(ResourceKey, Version)>;

impl Mirrors {
    /// Without a stream, beside a store as it is.
    pub fn new(store: &Store) -> Self {
        let all = ResourceType::ORDER.into_iter().flat_map(|kind| {
            store.iter(kind).map(move |live| {
                (ResourceKey { kind, name: live.resource.name().clone() }, live.resource.version())
            })
        });
        Self { current: all.collect(), seq: store.seq(), streams: BTreeMap::new() }
    }

    /// Whether there is no stream.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Takes in what changed in the store, which may be more than what is named.
    pub fn on_edit<'a>(
        &mut self,
        changed: impl IntoIterator<Item = &'a ResourceKey>,
        store: &Store,
    ) -> Accepted {
        self.seq = store.seq();
        let mut accepted = Vec::new();
        for key in changed {
            let live = store.get(key.kind, &key.name);
            let new = live.map(|live| live.resource.version());
            let seq = live.map_or(store.seq(), |live| live.seq);
            let old = match new {
                Some(new) => self.current.insert(key.clone(), new),
                None => self.current.remove(key),
            };
            if old == new {
                continue;
            }
            for mirror in self.streams.values_mut() {
                let met = mirror.on_edit(key, old, new, seq);
                accepted.extend(met.map(|version| (key.clone(), version)));
            }
        }
        self.settle();
        accepted
    }

    /// Takes in what a stream has in force. With `fresh` it has nothing else.
    pub fn on_report(
        &mut self,
        stream: PeerStream,
        entries: &[Entry],
        fresh: bool,
        store: &Store,
    ) -> Accepted {
        let known = self.streams.contains_key(&stream);
        let mirror = self.streams.entry(stream).or_default();
        if fresh || !known {
            mirror.lack_everything(&self.current);
        }
        let mut accepted = Vec::new();
        for Entry { resource, version, accepted: by_proxy } in entries {
            let current = self.current.get(resource).copied();
            if *by_proxy
                && let Some(version) = version
                && current == Some(*version)
            {
                accepted.push((resource.clone(), *version));
            }
            let since = store.get(resource.kind, &resource.name).map_or(self.seq, |live| live.seq);
            mirror.hold(resource, *version, *by_proxy, (since, current));
        }
        self.settle();
        accepted
    }

    /// A stream is closed, or unknown from now on.
    pub fn close(&mut self, stream: PeerStream) {
        self.streams.remove(&stream);
    }

    /// The streams of a connection.
    pub fn of(&self, peer: PeerId) -> Vec<PeerStream> {
        self.streams.keys().filter(|stream| stream.peer == peer).copied().collect()
    }

    /// The store begins anew: edits are counted from zero, and there is nothing in it.
    pub fn start_over(&mut self) {
        let gone = std::mem::take(&mut self.current);
        self.seq = Seq(0);
        for mirror in self.streams.values_mut() {
            for (key, version) in &gone {
                mirror.on_edit(key, Some(*version), None, Seq(1));
            }
            for difference in mirror.differences.values_mut() {
                difference.unmet = vec![(Seq(1), None)];
            }
            mirror.firsts = mirror.differences.keys().map(|key| (Seq(1), key.clone())).collect();
            mirror.acked = Seq(0);
        }
    }

    /// Through which edit each stream has everything in force, or had at some time.
    pub fn acked(&self) -> impl Iterator<Item = (PeerStream, Seq)> {
        self.streams.iter().map(|(stream, mirror)| (*stream, mirror.acked))
    }

    fn settle(&mut self) {
        for mirror in self.streams.values_mut() {
            let now = mirror.firsts.first().map_or(self.seq, |(lacking, _)| lacking.previous());
            mirror.acked = mirror.acked.max(now);
        }
    }
}

impl Mirror {
    /// Nothing is in force: what was here before is unknown, so that every edit may be lacking.
    fn lack_everything(&mut self, current: &BTreeMap<ResourceKey, Version>) {
        let lacking = |version: &Version| Difference {
            held: None,
            accepted: false,
            unmet: vec![(Seq(1), Some(*version))],
        };
        self.differences = current.iter().map(|(key, version)| (key.clone(), lacking(version))).collect();
        self.firsts = current.keys().map(|key| (Seq(1), key.clone())).collect();
    }

    /// A resource became another in this store. Returns its version where a proxy has acknowledged it already.
    fn on_edit(
        &mut self,
        key: &ResourceKey,
        old: Option<Version>,
        new: Option<Version>,
        seq: Seq,
    ) -> Option<Version> {
        let mut entry = match self.differences.entry(key.clone()) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(Difference { held: old, accepted: false, unmet: vec![(seq, new)] });
                self.firsts.insert((seq, key.clone()));
                return None;
            }
            btree_map::Entry::Occupied(entry) => entry,
        };
        let difference = entry.get_mut();
        if difference.held != new {
            if difference.unmet.len() >= UNMET {
                difference.unmet.remove(1);
            }
            difference.unmet.push((seq, new));
            return None;
        }
        let difference = entry.remove();
        self.firsts.remove(&(difference.first(), key.clone()));
        difference.held.filter(|_| difference.accepted)
    }

    /// Something is in force. `current` is what this store has, and since when.
    fn hold(
        &mut self,
        key: &ResourceKey,
        held: Option<Version>,
        accepted: bool,
        current: (Seq, Option<Version>),
    ) {
        let before = self.differences.remove(key);
        if let Some(before) = &before {
            self.firsts.remove(&(before.first(), key.clone()));
        }
        if held == current.1 {
            return;
        }
        let mut unmet = before.map_or_else(|| vec![current], |before| before.unmet);
        // Everything up to the version that is in force was in it.
        if let Some(at) = unmet.iter().rposition(|(_, version)| *version == held) {
            unmet.drain(..=at);
        }
        let difference = Difference { held, accepted, unmet };
        self.firsts.insert((difference.first(), key.clone()));
        self.differences.insert(key.clone(), difference);
    }
}

impl Difference {
    fn first(&self) -> Seq {
        self.unmet.first().map_or(Seq(1), |(seq, _)| *seq)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use portolan_xds::store::Resource;

    use super::*;

    const ONE: PeerStream = PeerStream { peer: PeerId(1), stream: 1 };
    const OTHER: PeerStream = PeerStream { peer: PeerId(2), stream: 1 };

    fn key(name: &str) -> ResourceKey {
        ResourceKey { kind: ResourceType::Cluster, name: name.into() }
    }

    /// `name=body`, or `name-` where it is removed.
    fn parse(text: &str) -> (ResourceKey, Option<&str>) {
        text.split_once('=')
            .map_or_else(|| (key(text.trim_end_matches('-')), None), |(name, body)| (key(name), Some(body)))
    }

    #[derive(Default)]
    struct World {
        store: Store,
        mirrors: Mirrors,
    }

    impl World {
        fn edit(&mut self, all: &[&str]) -> Accepted {
            let mut keys = Vec::new();
            let mut edit = self.store.edit(Instant::now());
            for text in all {
                let (key, body) = parse(text);
                match body {
                    Some(body) => {
                        let body = body.as_bytes().to_vec().into();
                        edit.upsert(key.kind, Resource::new(key.name.clone(), body, Vec::new()));
                    }
                    None => _ = edit.remove(key.kind, &key.name),
                }
                keys.push(key);
            }
            self.mirrors.on_edit(&keys, &self.store)
        }

        /// With a `+` where a proxy has acknowledged it.
        fn report(&mut self, stream: PeerStream, all: &[&str], fresh: bool) -> u64 {
            let entry = |text: &&str| {
                let (resource, body) = parse(text.trim_end_matches('+'));
                let version = body.map(|body| Version::of(body.as_bytes()));
                Entry { resource, version, accepted: text.ends_with('+') }
            };
            let entries: Vec<Entry> = all.iter().map(entry).collect();
            self.mirrors.on_report(stream, &entries, fresh, &self.store);
            self.acked(stream)
        }

        fn acked(&self, of: PeerStream) -> u64 {
            self.mirrors.acked().find(|(stream, _)| *stream == of).unwrap().1.0
        }
    }

    #[test]
    fn a_stream_has_nothing_until_it_has_all_of_it() {
        let mut world = World::default();
        world.edit(&["a=1", "b=1"]);
        world.edit(&["c=1"]);
        assert_eq!(world.report(ONE, &[], true), 0);
        // What c was before its last edit is unknown here.
        assert_eq!(world.report(ONE, &["a=1", "b=1"], false), 0);
        assert_eq!(world.report(ONE, &["c=1"], false), 2);
        assert_eq!(world.report(OTHER, &["a=1", "b=1", "c=1"], true), 2);
    }

    #[test]
    fn it_lags_behind_by_the_oldest_edit_that_it_lacks() {
        let mut world = World::default();
        world.edit(&["a=1", "b=1"]);
        world.report(ONE, &["a=1", "b=1"], true);
        world.edit(&["a=2"]);
        world.edit(&["b=2"]);
        world.edit(&["a=3"]);
        assert_eq!(world.acked(ONE), 1);
        assert_eq!(world.report(ONE, &["b=2"], false), 1);
        // A version in between: nobody needs to catch up with the present to come nearer to it.
        assert_eq!(world.report(ONE, &["a=2"], false), 3);
        assert_eq!(world.report(ONE, &["a=3"], false), 4);
        world.edit(&["b-"]);
        assert_eq!(world.acked(ONE), 4);
        assert_eq!(world.report(ONE, &["b-"], false), 5);
    }

    #[test]
    fn what_is_in_force_there_before_it_is_known_here_counts_when_it_is_known() {
        let mut world = World::default();
        world.edit(&["a=1"]);
        world.report(ONE, &["a=1"], true);
        assert_eq!(world.report(ONE, &["a=2+", "b=1"], false), 1, "it goes never back");
        assert_eq!(world.edit(&["c=1"]), []);
        assert_eq!(world.acked(ONE), 1);
        assert_eq!(world.report(ONE, &["c=1"], false), 1);
        assert_eq!(world.edit(&["a=2", "b=1"]), [(key("a"), Version::of(b"2"))]);
        assert_eq!(world.acked(ONE), 3);
    }

    #[test]
    fn a_change_that_is_taken_back_is_not_waited_for() {
        let mut world = World::default();
        world.edit(&["a=1"]);
        world.report(ONE, &["a=1"], true);
        world.edit(&["a=2"]);
        world.edit(&["a=1"]);
        assert_eq!(world.acked(ONE), 3);
    }

    #[test]
    fn a_fresh_start_forgets_what_was_told_and_takes_nothing_back() {
        let mut world = World::default();
        world.edit(&["a=1", "b=1"]);
        world.report(ONE, &["a=1", "b=1"], true);
        world.edit(&["c=1"]);
        assert_eq!(world.report(ONE, &["a=1", "c=1"], true), 1);
        assert_eq!(world.report(ONE, &["b=1"], false), 2);
    }

    #[test]
    fn a_store_that_begins_anew_is_judged_anew() {
        let mut world = World::default();
        world.edit(&["a=1"]);
        world.edit(&["b=1"]);
        world.report(ONE, &["a=1", "b=1"], true);
        world.store = Store::default();
        world.mirrors.start_over();
        assert_eq!(world.acked(ONE), 0);
        world.edit(&["a=1"]);
        assert_eq!(world.acked(ONE), 0, "b is still in force there");
        assert_eq!(world.report(ONE, &["b-"], false), 1);
    }

    #[test]
    fn versions_that_are_lacking_are_bounded() {
        let mut world = World::default();
        world.edit(&["a=0"]);
        world.report(ONE, &["a=0"], true);
        for index in 1..=UNMET + 10 {
            world.edit(&[&format!("a={index}")]);
        }
        let unmet = &world.mirrors.streams[&ONE].differences[&key("a")].unmet;
        assert_eq!((unmet.len(), unmet[0].0), (UNMET, Seq(2)));
        // A version that is forgotten brings it no nearer, one that is known does.
        assert_eq!(world.report(ONE, &["a=2"], false), 1);
        assert_eq!(world.report(ONE, &[&format!("a={}", UNMET + 9)], false), UNMET as u64 + 10);
    }
}
