//! The state machine of one delta ADS stream.
//!
//! Pure: requests, store changes and the time come in, responses and events go out. It promises what the
//! protocol asks of a server, and what Envoy needs beyond that so that traffic survives a change:
//!
//! - **Order** within an edit: clusters, endpoints, secrets, listeners, routes, virtual hosts; then removals. The last
//!   three wait until the clusters that they may name are acknowledged, which Envoy does when these are warm.
//!   Endpoints and secrets never wait: Envoy delays the acknowledgement of a cluster until it has them.
//! - **Removals** of anything but listeners wait until the listeners and routes that used it are replaced and
//!   acknowledged, and then for [`StreamConfig::removal_hold`], since requests in flight still hold a cluster.
//! - **Virtual hosts** go out after the `RouteConfiguration` that they are of, all of them in one response: Envoy opens the
//!   listener that waits for them with the first, and forgets what it is sent before.
//! - **A parent that is sent touches its children**: Endpoints and Secrets are sent again after it, unchanged or
//!   not, because Envoy waits for them and does not ask.
//! - **Names that are asked for are answered**, again if asked again; a missing one is answered as removed and
//!   sent when it appears; Endpoints are never missing, only empty.
//! - **A rejection** is never answered by the same bytes.
//! - **One response per type** waits for its answer; what changes meanwhile is coalesced, so a slow proxy costs
//!   one entry per name and no more.
//!
//! Sources: the xDS protocol's delta variant, and Envoy's behaviour as noted at each rule.

mod subscription;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_xds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portolan_xds_proto::google::rpc::Status;
pub use subscription::Rejection;
use subscription::{InFlight, NameRequest, Outgoing, Subscription};

use super::event::{Answer, Event, NodeInfo, bounded, reason};
use super::registry::{StreamSummary, TypeSummary};
use crate::store::{Child, ResourceType, Seq, Store, table_of};

/// How many answers to unsupported types are kept for a proxy that does not read.
const MAX_FOREIGN: usize = 16;

/// The limits and times of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// How long a removal waits after nothing uses the resource any more.
    pub removal_hold: Duration,
    /// The most resources in one response.
    pub max_resources: usize,
    /// The most bytes of resources in one response, in bytes. A single larger resource still goes out.
    pub max_bytes: usize,
    /// How long listeners and routes wait for the acknowledgement of what they need. Envoy acknowledges
    /// clusters when they are warm: one that never is must not hold up the others' routes.
    pub stage_patience: Duration,
    /// How long an acknowledged parent counts as incomplete because the proxy has not asked for a child.
    pub child_patience: Duration,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            removal_hold: Duration::from_secs(10),
            max_resources: 2_000,
            max_bytes: 3 << 20,
            stage_patience: Duration::from_secs(5),
            child_patience: Duration::from_secs(15),
        }
    }
}

/// A child that Envoy will ask for, since it was sent the parent.
#[derive(Clone, Debug)]
struct Awaited {
    parent: (ResourceType, Arc<str>),
    since: Seq,
    until: Instant,
}

/// One connection of one proxy.
#[derive(Debug)]
pub struct Stream {
    config: StreamConfig,
    node: Option<NodeInfo>,
    /// Boxed: a leaf has room for eleven.
    types: BTreeMap<ResourceType, Box<Subscription>>,
    counters: BTreeMap<ResourceType, Counters>,
    awaited: BTreeMap<Child, Awaited>,
    /// Answers to requests of types that are not served.
    foreign: VecDeque<DeltaDiscoveryResponse>,
    next_nonce: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    sent: u64,
    resources: u64,
    bytes: u64,
    acked: u64,
    nacked: u64,
}

impl Stream {
    /// A stream that has heard and said nothing yet.
    pub fn new(config: StreamConfig) -> Self {
        Self {
            config,
            node: None,
            types: ResourceType::ORDER
                .into_iter()
                .map(|kind| (kind, Box::new(Subscription::new(kind))))
                .collect(),
            counters: ResourceType::ORDER.into_iter().map(|kind| (kind, Counters::default())).collect(),
            awaited: BTreeMap::new(),
            foreign: VecDeque::new(),
            next_nonce: 1,
        }
    }

    /// Takes in a request: an answer to a response, a change of subscriptions, or both.
    ///
    /// A stale nonce only means that the request answers nothing; its subscriptions always count.
    pub fn on_request(&mut self, store: &Store, request: &DeltaDiscoveryRequest, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if let (None, Some(node)) = (&self.node, &request.node) {
            let node = NodeInfo::of(node);
            self.node = Some(node.clone());
            events.push(Event::Node(node));
        }
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            self.answer_unsupported(request, &mut events);
            return events;
        };
        let Some(subscription) = self.types.get_mut(&kind) else { return events };
        if !request.response_nonce.is_empty()
            && let Some(in_flight) = subscription.answered(&request.response_nonce)
        {
            let error = request.error_detail.as_ref();
            if let Some(error) = error {
                subscription.reject(store, &in_flight, &reason(&error.message));
            }
            let counters = self.counters.entry(kind).or_default();
            *(if error.is_some() { &mut counters.nacked } else { &mut counters.acked }) += 1;
            events.push(answer_event(kind, *in_flight, error, now));
        }
        if !subscription.asked() && !request.initial_resource_versions.is_empty() {
            let known = request.initial_resource_versions.iter();
            let resources = known
                .filter_map(|(name, version)| Some((Arc::from(name.as_str()), version.parse().ok()?)))
                .collect();
            events.push(Event::Known { kind, resources });
        }
        let names = NameRequest {
            subscribe: &request.resource_names_subscribe,
            unsubscribe: &request.resource_names_unsubscribe,
            known: &request.initial_resource_versions,
        };
        for name in subscription.request(store, &names) {
            events.push(Event::UnsupportedName { kind, name });
        }
        if kind == ResourceType::RouteConfiguration {
            self.tables_asked_for(store, &names);
        }
        if !self.awaited.is_empty() {
            for name in &request.resource_names_subscribe {
                self.awaited.remove(&(kind, Arc::from(name.as_str())));
            }
        }
        events
    }

    /// A proxy that asks for a table has none, or a new one, and with it no virtual hosts, unless it says that it has it.
    fn tables_asked_for(&mut self, store: &Store, names: &NameRequest<'_>) {
        let resumed: Vec<Arc<str>> = match self.types.get(&ResourceType::RouteConfiguration) {
            Some(tables) => names
                .subscribe
                .iter()
                .filter(|name| tables.is_settled(name))
                .map(|name| name.as_str().into())
                .collect(),
            None => Vec::new(),
        };
        let Some(hosts) = self.types.get_mut(&ResourceType::VirtualHost) else { return };
        for name in names.subscribe.iter().chain(names.unsubscribe) {
            hosts.leave_table(name);
        }
        for name in &resumed {
            hosts.enter_table(store, name, false);
        }
    }

    /// A type that is not served: nothing of it exists. Answered, since Envoy may wait for it to start.
    fn answer_unsupported(&mut self, request: &DeltaDiscoveryRequest, events: &mut Vec<Event>) {
        if !request.response_nonce.is_empty() && request.resource_names_subscribe.is_empty() {
            return;
        }
        events.push(Event::UnsupportedType { type_url: bounded(&request.type_url) });
        if self.foreign.len() < MAX_FOREIGN {
            let nonce = self.nonce();
            self.foreign.push_back(DeltaDiscoveryResponse {
                type_url: request.type_url.clone(),
                removed_resources: request.resource_names_subscribe.clone(),
                nonce,
                ..DeltaDiscoveryResponse::default()
            });
        }
    }

    /// The next response to send, if there is one. Call it until there is none: after a request, after a
    /// change of the store, and at [`Stream::next_deadline`].
    pub fn poll(&mut self, store: &Store, now: Instant) -> Option<DeltaDiscoveryResponse> {
        if let Some(response) = self.foreign.pop_front() {
            return Some(response);
        }
        for subscription in self.types.values_mut() {
            subscription.sync(store);
        }
        self.awaited.retain(|_, each| now < each.until);
        if self.awaited.is_empty() {
            // An emptied map keeps a leaf, 808 bytes of a silent stream.
            self.awaited = BTreeMap::new();
        }
        self.release(now);
        ResourceType::ORDER.into_iter().find_map(|kind| self.send(kind, store, now))
    }

    fn send(&mut self, kind: ResourceType, store: &Store, now: Instant) -> Option<DeltaDiscoveryResponse> {
        let barrier = self.barrier(kind, now);
        let nonce = self.next_nonce.to_string();
        let config = self.config;
        let subscription = self.types.get_mut(&kind)?;
        let Outgoing { response, bytes, children } =
            subscription.take(store, barrier, &config, nonce, now)?;
        self.next_nonce += 1;
        let counters = self.counters.entry(kind).or_default();
        counters.sent += 1;
        counters.resources += response.resources.len() as u64;
        counters.bytes += bytes as u64;
        for (parent, child, seq) in children {
            self.touch(store, (kind, parent), child, seq, now);
        }
        if kind == ResourceType::RouteConfiguration
            && let Some(hosts) = self.types.get_mut(&ResourceType::VirtualHost)
        {
            for table in &response.resources {
                hosts.enter_table(store, &Arc::from(table.name.as_str()), true);
            }
        }
        Some(response)
    }

    /// The oldest edit that this type must not go beyond yet, if any.
    fn barrier(&self, kind: ResourceType, now: Instant) -> Option<Seq> {
        let unacked = |each| self.of(each).and_then(|it| it.unacked_from(now, self.config.stage_patience));
        let unsent = |each| self.of(each).and_then(Subscription::unsent_from);
        let waits_for = match kind {
            // Envoy acknowledges clusters only after they are warm, for which it needs these two.
            ResourceType::Cluster | ResourceType::Endpoints | ResourceType::Secret => return None,
            ResourceType::Listener => [
                unacked(ResourceType::Cluster),
                unacked(ResourceType::Endpoints),
                unacked(ResourceType::Secret),
            ],
            ResourceType::RouteConfiguration => [
                unacked(ResourceType::Cluster),
                unacked(ResourceType::Endpoints),
                unsent(ResourceType::Listener),
            ],
            ResourceType::VirtualHost => [
                unacked(ResourceType::Cluster),
                unacked(ResourceType::Endpoints),
                // In this order on the stream is enough: Envoy takes up the one before it reads the other.
                unsent(ResourceType::Listener)
                    .into_iter()
                    .chain(unsent(ResourceType::RouteConfiguration))
                    .min(),
            ],
        };
        waits_for.into_iter().flatten().min()
    }

    /// Lets removals go whose users are gone.
    fn release(&mut self, now: Instant) {
        let users = [ResourceType::Listener, ResourceType::RouteConfiguration, ResourceType::VirtualHost];
        let barrier =
            users.into_iter().filter_map(|kind| self.of(kind).and_then(Subscription::unused_from)).min();
        let hold = self.config.removal_hold;
        for kind in ResourceType::ORDER {
            let Some(mut subscription) = self.types.remove(&kind) else { continue };
            let (clusters, tables) =
                (self.of(ResourceType::Cluster), self.of(ResourceType::RouteConfiguration));
            subscription.release(now, barrier, hold, |name| match kind {
                // Endpoints outlive their cluster.
                ResourceType::Endpoints => clusters.is_some_and(|it| it.has_or_removes(name)),
                // A listener that is removed drains: its table is in use until the proxy asks for it no more.
                ResourceType::VirtualHost => tables.is_some_and(|it| it.wants(table_of(name))),
                _ => false,
            });
            self.types.insert(kind, subscription);
        }
    }

    fn touch(
        &mut self,
        store: &Store,
        parent: (ResourceType, Arc<str>),
        child: Child,
        seq: Seq,
        now: Instant,
    ) {
        let Some(subscription) = self.types.get_mut(&child.0) else { return };
        if !subscription.touch(store, &child.1, seq) {
            let (since, until) =
                (seq.min(child_missing_since(store, &child)), now + self.config.child_patience);
            self.awaited.insert(child, Awaited { parent, since, until });
        }
    }

    /// When [`Stream::poll`] may have something to send though nothing happened.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let hold = self.config.removal_hold;
        let releases = self.types.values().filter_map(|each| each.next_release(now, hold));
        let later_waits =
            [ResourceType::Listener, ResourceType::RouteConfiguration, ResourceType::VirtualHost]
                .into_iter()
                .any(|kind| self.of(kind).is_some_and(Subscription::has_pending));
        let patience = [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Secret]
            .into_iter()
            .filter(|_| later_waits)
            .filter_map(|kind| Some(self.of(kind)?.in_flight()?.sent_at + self.config.stage_patience))
            .filter(|at| *at > now);
        let awaited = self.awaited.values().map(|each| each.until).filter(|at| *at > now);
        releases.chain(patience).chain(awaited).min()
    }

    /// The newest edit such that everything up to it which this proxy subscribes to is acknowledged.
    ///
    /// Zero before the proxy has asked for clusters and listeners, and was told. Children of what it has and
    /// has not asked for yet count as missing; removals that are held back, or rejected resources that were
    /// removed since, do not.
    pub fn acked_through(&self, store: &Store) -> Seq {
        let types = self
            .types
            .iter()
            .filter(|(kind, each)| {
                each.asked()
                    || each.has_hosts_to_come(store)
                    || matches!(kind, ResourceType::Cluster | ResourceType::Listener)
            })
            .map(|(_, each)| each.acked_through());
        let awaited = self
            .awaited
            .iter()
            .filter(|(child, each)| {
                let (kind, name) = &each.parent;
                store.get(*kind, name).is_some_and(|live| live.resource.children().contains(child))
            })
            .map(|(_, each)| each.since.previous());
        let to_come = self.tables_to_come(store).map(|table| missing_since(store, table).previous());
        match types.chain(awaited).min() {
            // To look at all hosts of tables would tell nothing more; a proxy that has just connected is here.
            None | Some(Seq(0)) => Seq(0),
            Some(least) => to_come.min().map_or(least, |each| each.min(least)),
        }
    }

    /// The tables that the proxy is yet to be sent, whose hosts it cannot have: those that it has asked for, and those of listeners that
    /// are to be sent before it can ask.
    fn tables_to_come<'a>(&'a self, store: &'a Store) -> impl Iterator<Item = &'a str> {
        let pending = |kind| self.of(kind).into_iter().flat_map(Subscription::pending);
        let (tables, hosts) = (self.of(ResourceType::RouteConfiguration), self.of(ResourceType::VirtualHost));
        let of_listeners = pending(ResourceType::Listener)
            .filter_map(|name| store.get(ResourceType::Listener, name))
            .flat_map(|live| live.resource.children())
            .filter(move |(kind, name)| {
                *kind == ResourceType::RouteConfiguration && !tables.is_some_and(|it| it.wants(name))
            })
            .map(|(_, name)| &**name);
        let asked_for = pending(ResourceType::RouteConfiguration)
            .filter(move |table| !hosts.is_some_and(|it| it.has_table(table)));
        of_listeners.chain(asked_for)
    }

    /// What the proxy rejected and has not accepted since.
    pub fn rejected(&self) -> BTreeMap<(ResourceType, Arc<str>), Rejection> {
        self.types
            .iter()
            .flat_map(|(kind, each)| {
                each.rejected().iter().map(|(name, it)| ((*kind, Arc::clone(name)), it.clone()))
            })
            .collect()
    }

    /// The stream as `/debug/streams` shows it.
    pub fn summary(&self, store: &Store) -> StreamSummary {
        let types = self.types.iter().map(|(kind, each)| {
            let (names, pending, held) = each.counts();
            let counters = self.counters.get(kind).copied().unwrap_or_default();
            let summary = TypeSummary {
                wildcard: each.is_wildcard(),
                names,
                pending,
                held,
                waiting: each.in_flight().is_some(),
                sent: counters.sent,
                resources: counters.resources,
                bytes: counters.bytes,
                acked: counters.acked,
                nacked: counters.nacked,
            };
            (kind.short_name(), summary)
        });
        StreamSummary {
            node: self.node.clone().unwrap_or_default(),
            acked_through: self.acked_through(store),
            rejected: self
                .rejected()
                .into_iter()
                .map(|((kind, name), each)| (format!("{kind} {name}"), each.message))
                .collect(),
            types: types.collect(),
        }
    }

    fn of(&self, kind: ResourceType) -> Option<&Subscription> {
        self.types.get(&kind).map(Box::as_ref)
    }

    fn nonce(&mut self) -> String {
        let nonce = self.next_nonce.to_string();
        self.next_nonce += 1;
        nonce
    }
}

/// The oldest edit that a proxy lacks which has not asked for a child: the child may have been there long before its parent.
fn child_missing_since(store: &Store, (kind, name): &Child) -> Seq {
    if *kind == ResourceType::RouteConfiguration {
        return missing_since(store, name);
    }
    store.get(*kind, name).map_or(Seq(u64::MAX), |live| live.seq)
}

/// The oldest edit that a proxy lacks which does not have a table, nor its hosts.
fn missing_since(store: &Store, table: &str) -> Seq {
    let own = store.get(ResourceType::RouteConfiguration, table).map(|live| live.seq);
    store.hosts_of(table).map(|live| live.seq).chain(own).min().unwrap_or(Seq(u64::MAX))
}

fn answer_event(kind: ResourceType, in_flight: InFlight, error: Option<&Status>, now: Instant) -> Event {
    let answer = Answer {
        kind,
        change_to_sent: in_flight.changed_at.map(|at| in_flight.sent_at.saturating_duration_since(at)),
        sent_to_answer: now.saturating_duration_since(in_flight.sent_at),
        resources: in_flight.items.into_iter().map(|(name, version, _)| (name, version)).collect(),
        removed: in_flight.removed,
        built: in_flight.built,
    };
    match error {
        None => Event::Acked(answer),
        Some(error) => Event::Nacked { answer, message: reason(&error.message) },
    }
}

#[cfg(test)]
mod tests;
