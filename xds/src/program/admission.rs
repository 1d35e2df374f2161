//! Finds the objects that Envoy rejects, and keeps the others live (a pure state machine).
//!
//! Every chunk that differs from what was last acknowledged is *unproven*. An acknowledgement proves what it covers.
//! A rejection makes the unproven chunks in the rejected bytes suspects: all are put back to their acknowledged
//! content (absent, if there is none), and admitted again by halves of their origins, one trial per resource type at a
//! time. A suspect that is alone in a rejection is blamed: it stays put back until its content changes. So k bad
//! origins among n are found in O(k log n) rounds, and what is not under suspicion goes out meanwhile.
//!
//! Answers come late: what was in the rejected bytes may have been put back, changed or removed since. Then it may be the
//! cause as well, so a suspect that is alone only by now is tried once more instead of being blamed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Frozen,
    chunk::{Chunk, ChunkKey, Part, ResourceKey},
};
use crate::{
    ir::Origin,
    store::{ResourceType, Seq},
};

/// How long a trial may stay without an answer before the next begins. Its chunks stay live: a proxy that does not
/// answer must not hold back the rest.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// Where an unproven chunk stands.
#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Its desired content is served since that edit.
    Live { since: Seq, trial: bool },
    /// Put back, and waiting for its trial.
    Held,
    /// Put back until its content changes.
    Blamed { message: Arc<str> },
}

/// A chunk whose desired content was not acknowledged yet.
#[derive(Clone, Debug, PartialEq)]
struct Unproven {
    origin: Origin,
    /// What was acknowledged last.
    proven: Option<Chunk>,
    state: State,
}

/// The trials of one resource type.
#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<BTreeSet<Origin>>,
    /// When the running trial is given up.
    limit: Option<Instant>,
}

/// What is served of a chunk.
pub(super) enum Serving<'a> {
    /// What is desired.
    Desired,
    /// What was acknowledged last.
    Proven(Option<&'a Chunk>),
}

/// A chunk that is put back, for the caller to report or to keep.
pub(super) struct PutBack<'a> {
    pub(super) key: &'a ChunkKey,
    pub(super) origin: &'a Origin,
    pub(super) proven: Option<&'a Chunk>,
    pub(super) message: &'a Arc<str>,
}

/// The state of all unproven chunks.
#[derive(Debug, Default)]
pub(super) struct Admission {
    unproven: BTreeMap<ChunkKey, Unproven>,
    /// Those of them that are blamed: callers look at these after every change.
    blamed: BTreeSet<ChunkKey>,
    lanes: BTreeMap<ResourceType, Lane>,
    /// Where content that nobody acknowledged has stopped being served, since [`Admission::take_left`].
    left: BTreeSet<ResourceKey>,
}

impl Admission {
    /// Notes that the desired content of a chunk became `after`, in the edit `seq`. Returns whether it is served now.
    pub(super) fn change(
        &mut self,
        key: &ChunkKey,
        origin: &Origin,
        before: Option<Chunk>,
        after: &Chunk,
        seq: Seq,
    ) -> bool {
        let live = State::Live { since: seq, trial: false };
        let Some(known) = self.unproven.get_mut(key) else {
            let entry = Unproven { origin: origin.clone(), proven: before, state: live };
            self.unproven.insert(key.clone(), entry);
            return true;
        };
        known.origin = origin.clone();
        if matches!(known.state, State::Live { .. }) {
            self.left.insert(key.resource.clone());
        }
        if known.proven.as_ref() == Some(after) {
            self.remove(key);
            return true;
        }
        if known.state == State::Held {
            return false;
        }
        known.state = live;
        self.blamed.remove(key);
        true
    }

    /// Starts a chunk as blamed: its content was rejected before a restart.
    pub(super) fn change_blamed(
        &mut self,
        key: ChunkKey,
        origin: Origin,
        proven: Option<Chunk>,
        message: Arc<str>,
    ) {
        self.blamed.insert(key.clone());
        self.unproven.insert(key, Unproven { origin, proven, state: State::Blamed { message } });
    }

    /// Puts a chunk back whose desired content another replica's proxies reject, to the content that they have instead, so
    /// that all replicas serve the same. `before` is what it was until now, where the desired content is new. What is put
    /// back already stays as it is, unless the other replica `decides`. Returns whether anything changed.
    pub(super) fn blame(
        &mut self,
        key: &ChunkKey,
        origin: &Origin,
        before: Option<Chunk>,
        frozen: &Frozen,
        decides: bool,
    ) -> bool {
        let known = self.unproven.get(key);
        let blamed = known.is_some_and(|known| matches!(known.state, State::Blamed { .. }));
        if blamed && !decides && before.is_none() {
            return false;
        }
        let kept = matches!(key.resource.kind, ResourceType::Endpoints | ResourceType::Secret);
        let proven = match known {
            // The others do not tell these.
            Some(known) if kept => known.proven.clone(),
            None if kept => before,
            _ => frozen.clone().into_proven(),
        };
        let state = State::Blamed { message: frozen.message() };
        let entry = Unproven { origin: origin.clone(), proven, state };
        if known == Some(&entry) {
            return false;
        }
        self.blamed.insert(key.clone());
        self.unproven.insert(key.clone(), entry);
        self.left.insert(key.resource.clone());
        true
    }

    /// Forgets a chunk that is no longer desired. A removal is never put back: it may be a security edit.
    pub(super) fn remove(&mut self, key: &ChunkKey) {
        if self.unproven.remove(key).is_some() {
            self.left.insert(key.resource.clone());
        }
        self.blamed.remove(key);
    }

    /// Forgets all chunks of a resource.
    pub(super) fn remove_resource(&mut self, resource: &ResourceKey) {
        let keys: Vec<ChunkKey> = self.of(resource).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.remove(&key);
        }
    }

    /// What is served of a chunk.
    pub(super) fn serving(&self, key: &ChunkKey) -> Serving<'_> {
        match self.unproven.get(key) {
            Some(Unproven { state: State::Held | State::Blamed { .. }, proven, .. }) => {
                Serving::Proven(proven.as_ref())
            }
            _ => Serving::Desired,
        }
    }

    /// The origins whose routes in a virtual host are put back, with what is served instead.
    pub(super) fn put_back(&self, host: &ResourceKey) -> impl Iterator<Item = (&Origin, Option<&Chunk>)> {
        self.of(host).filter_map(|(_, entry)| match entry.state {
            State::Held | State::Blamed { .. } => Some((&entry.origin, entry.proven.as_ref())),
            State::Live { .. } => None,
        })
    }

    /// Notes that the bytes of a resource up to the edit `through` were acknowledged.
    pub(super) fn prove(&mut self, resource: &ResourceKey, through: Seq) {
        let proven: Vec<ChunkKey> = self.live(resource, through).map(|(key, _)| key.clone()).collect();
        for key in proven {
            self.unproven.remove(&key);
        }
    }

    /// Notes that the bytes of these resources as of the edit `built` were rejected. `alone` says that what they contained and
    /// nobody had acknowledged is still served. Returns the chunks that are put back now; none means that nobody can
    /// be blamed.
    pub(super) fn reject(
        &mut self,
        kind: ResourceType,
        resources: &[ResourceKey],
        built: Seq,
        alone: bool,
        message: &Arc<str>,
    ) -> BTreeSet<ChunkKey> {
        let suspects: BTreeMap<ChunkKey, Origin> = resources
            .iter()
            .flat_map(|resource| self.live(resource, built))
            .map(|(key, entry)| (key.clone(), entry.origin.clone()))
            .collect();
        let origins: BTreeSet<Origin> = suspects.values().cloned().collect();
        let found = alone && origins.len() == 1;
        let state = if found { State::Blamed { message: Arc::clone(message) } } else { State::Held };
        for key in suspects.keys() {
            if let Some(entry) = self.unproven.get_mut(key) {
                entry.state = state.clone();
            }
            if found {
                self.blamed.insert(key.clone());
            }
            self.left.insert(key.resource.clone());
        }
        if !found {
            let half = origins.len() / 2;
            let second: BTreeSet<Origin> = origins.iter().skip(half).cloned().collect();
            let first: BTreeSet<Origin> = origins.into_iter().take(half).collect();
            for part in [second, first].into_iter().filter(|part| !part.is_empty()) {
                self.lanes.entry(kind).or_default().queue.push_front(part);
            }
        }
        suspects.into_keys().collect()
    }

    /// Content that went live in an edit that changed nothing went live with the edit before.
    pub(super) fn date_back(&mut self, resource: &ResourceKey, edit: Seq, to: Seq) {
        let keys: Vec<ChunkKey> = self.of(resource).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(Unproven { state: State::Live { since, .. }, .. }) = self.unproven.get_mut(&key)
                && *since == edit
            {
                *since = to;
            }
        }
    }

    /// The resources in which content that nobody acknowledged has stopped being served, since the last call.
    pub(super) fn take_left(&mut self) -> BTreeSet<ResourceKey> {
        std::mem::take(&mut self.left)
    }

    /// Begins the next trials where none is running. Returns the chunks that go live in the edit `seq`.
    pub(super) fn advance(&mut self, now: Instant, seq: Seq) -> Vec<(ChunkKey, Origin)> {
        let kinds: Vec<ResourceType> = self.lanes.keys().copied().collect();
        kinds.into_iter().flat_map(|kind| self.advance_lane(kind, now, seq)).collect()
    }

    fn advance_lane(&mut self, kind: ResourceType, now: Instant, seq: Seq) -> Vec<(ChunkKey, Origin)> {
        let running =
            self.of_kind(kind).any(|(_, entry)| matches!(entry.state, State::Live { trial: true, .. }));
        let limit = self.lanes.get(&kind).and_then(|lane| lane.limit);
        if running && limit.is_some_and(|limit| now < limit) {
            return Vec::new();
        }
        if running {
            self.end_trial(kind);
        }
        loop {
            let Some(origins) = self.lanes.get_mut(&kind).and_then(|lane| lane.queue.pop_front()) else {
                self.lanes.remove(&kind);
                return Vec::new();
            };
            let admitted: Vec<(ChunkKey, Origin)> = self
                .of_kind(kind)
                .filter(|(_, entry)| entry.state == State::Held && origins.contains(&entry.origin))
                .map(|(key, entry)| (key.clone(), entry.origin.clone()))
                .collect();
            if admitted.is_empty() {
                continue;
            }
            for (key, _) in &admitted {
                if let Some(entry) = self.unproven.get_mut(key) {
                    entry.state = State::Live { since: seq, trial: true };
                }
            }
            if let Some(lane) = self.lanes.get_mut(&kind) {
                lane.limit = Some(now + TRIAL_LIMIT);
            }
            return admitted;
        }
    }

    fn end_trial(&mut self, kind: ResourceType) {
        for (_, entry) in self.unproven.iter_mut().filter(|(key, _)| key.resource.kind == kind) {
            if let State::Live { trial, .. } = &mut entry.state {
                *trial = false;
            }
        }
    }

    /// When [`Admission::advance`] should be called at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lanes.values().filter_map(|lane| lane.limit).min()
    }

    /// The chunks that are blamed.
    pub(super) fn blamed(&self) -> impl Iterator<Item = PutBack<'_>> {
        self.blamed.iter().filter_map(|key| {
            let entry = self.unproven.get(key)?;
            let State::Blamed { message } = &entry.state else { return None };
            Some(PutBack { key, origin: &entry.origin, proven: entry.proven.as_ref(), message })
        })
    }

    /// The origins that wait for an answer or for a trial.
    pub(super) fn pending(&self) -> BTreeSet<Origin> {
        self.unproven
            .values()
            .filter(|entry| !matches!(entry.state, State::Blamed { .. }))
            .map(|entry| entry.origin.clone())
            .collect()
    }

    fn of_kind(&self, kind: ResourceType) -> impl Iterator<Item = (&ChunkKey, &Unproven)> {
        let first = ResourceKey { kind, name: Arc::from("") };
        let from = ChunkKey { resource: first, part: Part::Whole };
        self.unproven.range(from..).take_while(move |(key, _)| key.resource.kind == kind)
    }

    fn of(&self, resource: &ResourceKey) -> impl Iterator<Item = (&ChunkKey, &Unproven)> {
        let from = ChunkKey { resource: resource.clone(), part: Part::Whole };
        self.unproven.range(from..).take_while({
            let resource = resource.clone();
            move |(key, _)| key.resource == resource
        })
    }

    fn live(&self, resource: &ResourceKey, through: Seq) -> impl Iterator<Item = (&ChunkKey, &Unproven)> {
        self.of(resource)
            .filter(move |(_, entry)| matches!(entry.state, State::Live { since, .. } if since <= through))
    }
}
