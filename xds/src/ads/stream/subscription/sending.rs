//! In what order, when and in what portions one type's names go out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_xds_proto::envoy::service::discovery::v3::{self as discovery, DeltaDiscoveryResponse};

use super::{InFlight, Pending, Rejection, Subscription, earlier};
use crate::ads::stream::StreamConfig;
use crate::store::{Child, Resource, ResourceType, Seq, Store, Version};

/// A response, and the children of what is in it: parent, child, and the edit that touched it.
#[derive(Debug)]
pub(in crate::ads::stream) struct Outgoing {
    pub(in crate::ads::stream) response: DeltaDiscoveryResponse,
    /// Bytes of resources and names in it.
    pub(in crate::ads::stream) bytes: usize,
    pub(in crate::ads::stream) children: Vec<(Arc<str>, Child, Seq)>,
}

impl Subscription {
    // ---- Order ----

    /// The oldest edit of this type that is not sent and that later stages wait for.
    pub(in crate::ads::stream) fn unsent_from(&self) -> Option<Seq> {
        self.pending.values().filter(|pending| pending.blocks).map(|pending| pending.since).min()
    }

    /// The same, and what is sent and not answered, unless that took longer than `patience`.
    pub(in crate::ads::stream) fn unacked_from(&self, now: Instant, patience: Duration) -> Option<Seq> {
        let sent = self.in_flight.as_ref().filter(|each| now < each.sent_at + patience);
        [self.unsent_from(), sent.and_then(|each| each.blocks_from)].into_iter().flatten().min()
    }

    /// The oldest edit of this type that the proxy may not be using: unsent, unanswered or rejected.
    pub(in crate::ads::stream) fn unused_from(&self) -> Option<Seq> {
        self.pending
            .values()
            .map(|pending| pending.since)
            .chain(self.in_flight.as_ref().map(|each| each.since))
            .chain(self.rejected.values().map(|each| each.seq))
            .min()
    }

    /// Every edit of this type up to this one is acknowledged.
    pub(in crate::ads::stream) fn acked_through(&self) -> Seq {
        if !self.asked || self.must_answer {
            return Seq(0);
        }
        self.unused_from().map_or(self.cursor, |seq| seq.previous().min(self.cursor))
    }

    /// Lets removals go that nothing uses any more: everything before `barrier` is acknowledged, for `hold`.
    pub(in crate::ads::stream) fn release(
        &mut self,
        now: Instant,
        barrier: Option<Seq>,
        hold: Duration,
        still_needed: impl Fn(&str) -> bool,
    ) {
        let mut due = Vec::new();
        for (name, held) in &mut self.held {
            if barrier.is_some_and(|barrier| barrier <= held.seq) {
                held.unused_since = None;
                continue;
            }
            let since = *held.unused_since.get_or_insert(now);
            if now >= since + hold && !still_needed(name) {
                due.push((Arc::clone(name), held.seq));
            }
        }
        for (name, seq) in due {
            self.held.remove(&name);
            self.mark(&name, Pending::released(seq));
        }
    }

    /// When the next removal may go, if time alone lets it.
    pub(in crate::ads::stream) fn next_release(&self, now: Instant, hold: Duration) -> Option<Instant> {
        let due = self.held.values().filter_map(|held| held.unused_since).map(|since| since + hold);
        due.filter(|at| *at > now).min()
    }

    // ---- Sending ----

    /// Builds the next response of names whose edits are older than `barrier`, and notes it as sent. Also
    /// gives the children of what it sends, with the edit that touched them.
    pub(in crate::ads::stream) fn take(
        &mut self,
        store: &Store,
        barrier: Option<Seq>,
        config: &StreamConfig,
        nonce: String,
        now: Instant,
    ) -> Option<Outgoing> {
        if self.in_flight.is_some() {
            return None;
        }
        // Envoy opens a listener with the first of its table's hosts that come: all are in one response.
        let config = match self.kind {
            ResourceType::VirtualHost => {
                &StreamConfig { max_resources: usize::MAX, max_bytes: usize::MAX, ..*config }
            }
            _ => config,
        };
        let mut chunk = Chunk::default();
        let ready: Vec<Arc<str>> = self
            .pending
            .iter()
            .filter(|(_, pending)| barrier.is_none_or(|barrier| pending.need < barrier))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in ready {
            let Some(pending) = self.pending.get(&name).copied() else { continue };
            if !self.add(store, &name, pending, config, &mut chunk) {
                break;
            }
            self.pending.remove(&name);
        }
        if self.pending.is_empty() {
            // An emptied map keeps a leaf, 632 bytes of each type of each silent stream.
            self.pending = BTreeMap::new();
        }
        let nothing = chunk.resources.is_empty() && chunk.removed.is_empty();
        if nothing && !(self.must_answer && self.pending.is_empty()) {
            return None;
        }
        if std::mem::take(&mut self.must_answer) {
            // Until the first answer is acknowledged, nothing is.
            chunk.since = Some(Seq(1));
        }
        let response = DeltaDiscoveryResponse {
            system_version_info: store.seq().0.to_string(),
            resources: chunk.resources,
            type_url: self.kind.type_url().to_owned(),
            removed_resources: chunk.removed.iter().map(ToString::to_string).collect(),
            nonce: nonce.clone(),
            ..DeltaDiscoveryResponse::default()
        };
        self.in_flight = Some(Box::new(InFlight {
            nonce,
            items: chunk.items,
            removed: chunk.removed,
            built: store.seq(),
            since: chunk.since.unwrap_or(store.seq()),
            blocks_from: chunk.blocks_from,
            sent_at: now,
            changed_at: chunk.changed_at,
        }));
        Some(Outgoing { response, bytes: chunk.bytes, children: chunk.children })
    }

    /// Adds a name to a chunk, if there is something to say about it. Returns false when the chunk is full.
    fn add(
        &mut self,
        store: &Store,
        name: &Arc<str>,
        pending: Pending,
        config: &StreamConfig,
        chunk: &mut Chunk,
    ) -> bool {
        let empty;
        let resource = match store.get(self.kind, name) {
            Some(live) => Some(live.resource),
            None if self.kind == ResourceType::Endpoints => {
                empty = Resource::empty_endpoints(Arc::clone(name));
                Some(&empty)
            }
            None => None,
        };
        let Some(resource) = resource else {
            if !pending.force && !self.has(name) {
                return true;
            }
            if !chunk.admit(name.len(), config) {
                return false;
            }
            self.forget_sent(name);
            self.refused.remove(name);
            chunk.removed.push(Arc::clone(name));
            chunk.note(pending);
            return true;
        };
        let version = resource.version();
        if !pending.force && self.has.get(name) == Some(&version) {
            return true;
        }
        if !chunk.admit(resource.body().len() + 2 * name.len(), config) {
            return false;
        }
        self.has.insert(Arc::clone(name), version);
        self.rejected.remove(name);
        self.refused.remove(name);
        for child in resource.children() {
            chunk.children.push((Arc::clone(name), child.clone(), pending.need));
        }
        chunk.items.push((Arc::clone(name), version, pending.need));
        chunk.resources.push(discovery::Resource {
            name: name.to_string(),
            version: version.to_string(),
            resource: Some(resource.to_any(self.kind)),
            ..discovery::Resource::default()
        });
        chunk.note(pending);
        true
    }

    fn forget_sent(&mut self, name: &str) {
        self.has.remove(name);
        self.rejected.remove(name);
    }

    /// Takes the response with that nonce, if it is the one that waits for an answer.
    pub(in crate::ads::stream) fn answered(&mut self, nonce: &str) -> Option<Box<InFlight>> {
        self.in_flight.take_if(|each| each.nonce == nonce)
    }

    /// Notes that the proxy rejected what was in a response.
    ///
    /// Where a part of it has changed while the answer was on its way, the rest goes out again with it at once.
    pub(in crate::ads::stream) fn reject(&mut self, store: &Store, in_flight: &InFlight, message: &Arc<str>) {
        for (name, version, seq) in &in_flight.items {
            if self.wants(name) && self.has.get(name) == Some(version) {
                let rejection = Rejection { version: *version, seq: *seq, message: Arc::clone(message) };
                self.rejected.insert(Arc::clone(name), rejection);
            }
        }
        self.rejections += 1;
        let number = self.rejections;
        let sent = in_flight.items.iter().map(|(name, ..)| name);
        let names: Vec<Arc<str>> = sent.chain(&in_flight.removed).cloned().collect();
        // Also if it is as it was: then it was put back meanwhile, and is tried again.
        let edited = |name: &str| store.get(self.kind, name).is_some_and(|live| live.seq > in_flight.built);
        let changed = names.iter().any(|name| self.pending.contains_key(name) || edited(name));
        self.refused.extend(names.into_iter().map(|name| (name, number)));
        if changed {
            self.resend_refused(store, number);
        }
    }
}

/// A response under construction.
#[derive(Debug, Default)]
struct Chunk {
    resources: Vec<discovery::Resource>,
    items: Vec<(Arc<str>, Version, Seq)>,
    removed: Vec<Arc<str>>,
    children: Vec<(Arc<str>, Child, Seq)>,
    bytes: usize,
    since: Option<Seq>,
    blocks_from: Option<Seq>,
    changed_at: Option<Instant>,
}

impl Chunk {
    /// Whether so many more bytes fit. The first always does.
    fn admit(&mut self, bytes: usize, config: &StreamConfig) -> bool {
        let count = self.resources.len() + self.removed.len();
        let full = count >= config.max_resources || self.bytes + bytes > config.max_bytes;
        if full && count > 0 {
            return false;
        }
        self.bytes += bytes;
        true
    }

    fn note(&mut self, pending: Pending) {
        self.since = Some(self.since.map_or(pending.since, |since| since.min(pending.since)));
        if pending.blocks {
            let from = self.blocks_from.map_or(pending.since, |from| from.min(pending.since));
            self.blocks_from = Some(from);
        }
        self.changed_at = earlier(self.changed_at, pending.changed_at);
    }
}
