//! What a changed output changes elsewhere: the indexes between units, and the deltas that go out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::HashMap;
use portolan_xds::ir::{Cluster, ClusterName, Transport, UpstreamTls, VirtualHostKey};

use super::{
    ClusterId, Fault, Followed, Output, PreRoutingOut, Resolved, Slot, Unit, attach,
    engine::State,
    policy,
    slot::{Member, Members},
};
use crate::{
    model::{Hostname, Object, ObjectKey},
    world::{Read, World},
};

/// Counters and users that are kept up to date from output to output.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// How many virtual hosts of each Gateway use a cluster.
    users: HashMap<ClusterId, BTreeMap<ObjectKey, usize>>,
    /// attachedRoutes by Gateway or ListenerSet, and listener.
    pub(super) attached: HashMap<ObjectKey, BTreeMap<Arc<str>, usize>>,
    /// Gateways and ListenerSets by the moments at which certificates of theirs expire.
    pub(super) expiries: BTreeMap<i64, BTreeSet<ObjectKey>>,
    /// How many clusters of each Gateway need the authorities of a policy.
    trusting: HashMap<ObjectKey, BTreeMap<ObjectKey, usize>>,
    /// Gateways and policies of which that changed, and whether any cluster needed them before.
    trust_moved: BTreeMap<(ObjectKey, ObjectKey), bool>,
    started: BTreeSet<(ObjectKey, ClusterId)>,
    ended: BTreeSet<(ObjectKey, ClusterId)>,
}

/// What a change of an output dirties.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) units: BTreeSet<Unit>,
    pub(super) reads: BTreeSet<Read>,
}

impl Touched {
    /// Changes the members of a slot, and dirties who looks at them.
    fn slot(
        &mut self,
        state: &mut State,
        gateway: &ObjectKey,
        slot: &Slot,
        change: impl FnOnce(&mut Members),
    ) {
        if state.slots.change(gateway, slot, change) {
            self.reads.insert(Read::StreamsOf(gateway.clone()));
        }
        self.reads.insert(Read::MembersOf(slot.clone()));
        self.units.insert(slot.unit(gateway));
    }
}

impl Effects {
    /// Follows one changed output.
    pub(super) fn follow(
        &mut self,
        world: &World,
        state: &mut State,
        unit: &Unit,
        (old, new): (&Output, &Output),
        resolved: &mut Resolved,
    ) -> Touched {
        let mut touched = Touched::default();
        match unit {
            Unit::Class(key) => _ = resolved.reports.insert(key.clone()),
            Unit::Listeners(gateway) => {
                resolved.reports.insert(gateway.clone());
                listeners(state, gateway, old, new, resolved, &mut touched);
            }
            Unit::Fleet(gateway) => {
                resolved.reports.insert(gateway.clone());
                resolved.reports.extend(sets(state, gateway));
                resolved.fleets.insert(gateway.clone());
            }
            Unit::Frontend(gateway) => {
                resolved.reports.insert(gateway.clone());
                resolved.reports.extend(sets(state, gateway));
            }
            Unit::Tls(owner) => {
                resolved.reports.insert(owner.clone());
                if let Some(Object::ListenerSet(set)) = world.get(owner) {
                    // It counts its sets.
                    resolved.reports.extend(set.gateway.clone());
                }
                self.tls(owner, old, new);
                self.client_certificate(state, owner, (old, new), resolved);
            }
            Unit::Policy(policy) => {
                resolved.reports.insert(policy.clone());
                self.authorities(policy, new, resolved);
            }
            Unit::PreRouting(owner) => {
                resolved.reports.insert(owner.clone());
                if let Some(Object::ListenerSet(set)) = world.get(owner) {
                    // It counts its sets.
                    resolved.reports.extend(set.gateway.clone());
                }
                pre_routing(world, state, owner, (old, new), resolved, &mut touched);
            }
            Unit::Route(route) => {
                resolved.reports.insert(route.clone());
                for output in [old, new] {
                    if let Output::Route(out) = output {
                        resolved.reports.extend(out.policies.iter().cloned());
                    }
                }
                rules(world, state, route, new, &mut touched);
                if servable(old) != servable(new) {
                    touched.reads.insert(Read::Servable(route.clone()));
                }
            }
            Unit::Attach(route, parent) => {
                self.attach(state, (route, parent), (old, new), resolved, &mut touched);
            }
            Unit::Stream(gateway, key) => {
                for (output, more) in [(new, true), (old, false)] {
                    let Output::Stream(out) = output else { continue };
                    for policy in &out.policies {
                        self.trust(gateway, policy, more);
                    }
                }
                let (cluster, endpoints) = match new {
                    Output::Stream(out) => (Some(out.cluster.clone()), Some(out.endpoints.clone())),
                    _ => (None, None),
                };
                let name: ClusterName = key.to_string().into();
                let delta = resolved.deltas.entry(gateway.clone()).or_default();
                delta.clusters.insert(name.clone(), cluster);
                delta.endpoints.insert(name, endpoints);
            }
            Unit::Chains(gateway) => {
                resolved.reports.insert(gateway.clone());
                if unavailable(old) != unavailable(new) {
                    resolved.reports.extend(sets(state, gateway));
                }
                chains(gateway, old, new, resolved);
            }
            Unit::Host(gateway, key) => self.host(gateway, key, old, new, resolved, &mut touched),
            Unit::Cluster(id) | Unit::Endpoints(id) => {
                for gateway in self.users.get(id).into_iter().flat_map(BTreeMap::keys) {
                    send(state, gateway, id, unit, resolved);
                }
            }
        }
        touched
    }

    fn tls(&mut self, gateway: &ObjectKey, old: &Output, new: &Output) {
        let expiries = |output: &Output| match output {
            Output::Tls(out) => out.expiries().collect(),
            _ => BTreeSet::new(),
        };
        for moment in expiries(old) {
            if let Some(holders) = self.expiries.get_mut(&moment) {
                holders.remove(gateway);
                if holders.is_empty() {
                    self.expiries.remove(&moment);
                }
            }
        }
        for moment in expiries(new) {
            self.expiries.entry(moment).or_default().insert(gateway.clone());
        }
    }

    /// What a Gateway shows to backends: the secret, and whether clusters name it.
    fn client_certificate(
        &self,
        state: &State,
        gateway: &ObjectKey,
        (old, new): (&Output, &Output),
        resolved: &mut Resolved,
    ) {
        let secret = |output: &Output| match output {
            Output::Tls(out) => out.client_secret().cloned(),
            _ => None,
        };
        let (old, new) = (secret(old), secret(new));
        if old == new {
            return;
        }
        if let Some(name) = new.as_ref().or(old.as_ref()).map(|secret| secret.name.clone()) {
            let delta = resolved.deltas.entry(gateway.clone()).or_default();
            delta.secrets.insert(name, new.clone());
        }
        if old.is_some() != new.is_some() {
            let uses =
                self.users.iter().filter(|(id, users)| id.tls.is_some() && users.contains_key(gateway));
            for (id, _) in uses {
                send(state, gateway, id, &Unit::Cluster(id.clone()), resolved);
            }
        }
    }

    /// New authorities of a policy, for the Gateways that have the old ones. Those that need them no more, or for the
    /// first time, are seen to in [`Self::finish`].
    fn authorities(&self, policy: &ObjectKey, new: &Output, resolved: &mut Resolved) {
        let Output::Policy(out) = new else { return };
        let Some(secret) = &out.authorities else { return };
        for gateway in self.trusting.get(policy).into_iter().flat_map(BTreeMap::keys) {
            let delta = resolved.deltas.entry(gateway.clone()).or_default();
            delta.secrets.insert(secret.name.clone(), Some(secret.clone()));
        }
    }

    /// One more cluster of a Gateway needs the authorities of a policy, or one less.
    fn trust(&mut self, gateway: &ObjectKey, policy: &ObjectKey, more: bool) {
        let gateways = self.trusting.entry(policy.clone()).or_default();
        let count = gateways.entry(gateway.clone()).or_default();
        self.trust_moved.entry((gateway.clone(), policy.clone())).or_insert(*count > 0);
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            gateways.remove(gateway);
        }
        if gateways.is_empty() {
            self.trusting.remove(policy);
        }
    }

    fn attach(
        &mut self,
        state: &mut State,
        (route, parent): (&ObjectKey, &ObjectKey),
        (old, new): (&Output, &Output),
        resolved: &mut Resolved,
        touched: &mut Touched,
    ) {
        resolved.reports.insert(route.clone());
        resolved.reports.extend(state.route(route).into_iter().flat_map(|out| out.policies.iter().cloned()));
        let (old, new) = (as_attach(old), as_attach(new));
        // It begins to be resolved with its first attachment, and need not be after its last.
        if new.is_some() != state.route(route).is_some() {
            touched.units.insert(Unit::Route(route.clone()));
        }
        // A ListenerSet can move from one Gateway to another.
        for out in old.into_iter().filter(|old| new.is_none_or(|new| new.gateway != old.gateway)) {
            Self::members(state, (route, parent), &out.gateway, (Some(out), None), touched);
        }
        if let Some(out) = new {
            let before = old.filter(|old| old.gateway == out.gateway);
            Self::members(state, (route, parent), &out.gateway, (before, new), touched);
        }
        let counts = self.attached.entry(parent.clone()).or_default();
        for name in old.into_iter().flat_map(|out| &out.listeners) {
            if let Some(count) = counts.get_mut(name) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(name);
                }
            }
        }
        for name in new.into_iter().flat_map(|out| &out.listeners) {
            *counts.entry(name.clone()).or_default() += 1;
        }
        if counts.is_empty() {
            self.attached.remove(parent);
        }
        if old.map(|out| &out.listeners) != new.map(|out| &out.listeners) {
            resolved.reports.insert(parent.clone());
        }
    }

    /// Makes a route a member of the slots of a Gateway that its attachment names now.
    fn members(
        state: &mut State,
        (route, parent): (&ObjectKey, &ObjectKey),
        gateway: &ObjectKey,
        (old, new): (Option<&super::AttachOut>, Option<&super::AttachOut>),
        touched: &mut Touched,
    ) {
        let none = BTreeMap::new();
        let before = old.map_or(&none, |out| &out.slots);
        let after = new.map_or(&none, |out| &out.slots);
        let rules = state.route(route).cloned();
        for slot in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            if before.get(slot) == after.get(slot) {
                continue;
            }
            let member = after.get(slot).map(|place| Member {
                parent: parent.clone(),
                place: place.clone(),
                rules: rules.clone(),
            });
            touched.slot(state, gateway, slot, |members| match member {
                Some(member) => _ = members.routes.insert(route.clone(), member),
                // A slot is one listener's. Where it went from one parent's to another's, the other may have been first.
                None if members.routes.get(route).is_some_and(|there| there.parent == *parent) => {
                    members.routes.remove(route);
                }
                None => {}
            });
        }
    }

    fn host(
        &mut self,
        gateway: &ObjectKey,
        key: &VirtualHostKey,
        old: &Output,
        new: &Output,
        resolved: &mut Resolved,
        touched: &mut Touched,
    ) {
        let clusters = |output: &Output| match output {
            Output::Host(out) => Arc::clone(&out.clusters),
            _ => Arc::default(),
        };
        let (mut before, mut after) = (clusters(old), clusters(new));
        if Arc::ptr_eq(&before, &after) {
            (before, after) = Default::default();
        }
        for id in after.difference(&before) {
            let users = self.users.entry(id.clone()).or_default();
            let count = users.entry(gateway.clone()).or_default();
            *count += 1;
            if *count == 1 {
                let pair = (gateway.clone(), id.clone());
                if !self.ended.remove(&pair) {
                    self.started.insert(pair);
                }
                touched.units.insert(Unit::Cluster(id.clone()));
                touched.units.insert(Unit::Endpoints(id.clone()));
            }
        }
        for id in before.difference(&after) {
            let Some(users) = self.users.get_mut(id) else { continue };
            let Some(count) = users.get_mut(gateway) else { continue };
            *count -= 1;
            if *count == 0 {
                users.remove(gateway);
                let pair = (gateway.clone(), id.clone());
                if !self.started.remove(&pair) {
                    self.ended.insert(pair);
                }
            }
            if users.is_empty() {
                self.users.remove(id);
            }
        }
        let piece = match new {
            Output::Host(out) => Some(out.host.clone()),
            _ => None,
        };
        resolved.deltas.entry(gateway.clone()).or_default().virtual_hosts.insert(key.clone(), piece);
    }

    /// Emits clusters whose first or last user in a Gateway came or went in this batch. Returns those that nobody uses
    /// any more, to be forgotten.
    pub(super) fn finish(&mut self, state: &State, resolved: &mut Resolved) -> Vec<ClusterId> {
        let (started, ended) = (std::mem::take(&mut self.started), std::mem::take(&mut self.ended));
        for (more, pairs) in [(true, &started), (false, &ended)] {
            for (gateway, id) in pairs {
                if let Some(policy) = id.tls.as_ref().and_then(|tls| tls.authorities()) {
                    self.trust(gateway, policy, more);
                }
            }
        }
        for ((gateway, policy), before) in std::mem::take(&mut self.trust_moved) {
            let now = self.trusting.get(&policy).is_some_and(|gateways| gateways.contains_key(&gateway));
            if before != now {
                let secret = state.policy(&policy).and_then(|out| out.authorities.clone()).filter(|_| now);
                let delta = resolved.deltas.entry(gateway).or_default();
                delta.secrets.insert(policy::secret_name(&policy), secret);
            }
        }
        for (gateway, id) in started {
            send(state, &gateway, &id, &Unit::Cluster(id.clone()), resolved);
            send(state, &gateway, &id, &Unit::Endpoints(id.clone()), resolved);
        }
        let mut unused = Vec::new();
        for (gateway, id) in ended {
            let name: ClusterName = id.name();
            let delta = resolved.deltas.entry(gateway.clone()).or_default();
            delta.clusters.insert(name.clone(), None);
            delta.endpoints.insert(name, None);
            let followed = Followed { cluster: id.clone(), source: None };
            resolved.followed.entry(gateway).or_default().push(followed);
            if !self.users.contains_key(&id) {
                unused.push(id);
            }
        }
        unused
    }
}

/// The ListenerSets of a Gateway.
fn sets(state: &State, gateway: &ObjectKey) -> Vec<ObjectKey> {
    state.listeners(gateway).map(|out| out.sets.keys().cloned().collect()).unwrap_or_default()
}

fn unavailable(output: &Output) -> Option<&BTreeMap<(u16, Transport), Fault>> {
    match output {
        Output::Chains(out) => Some(&out.unavailable),
        _ => None,
    }
}

/// Dirties the hosts of listeners whose filters changed.
fn pre_routing(
    world: &World,
    state: &State,
    owner: &ObjectKey,
    (old, new): (&Output, &Output),
    resolved: &mut Resolved,
    touched: &mut Touched,
) {
    fn parts(output: &Output) -> Option<&PreRoutingOut> {
        match output {
            Output::PreRouting(out) => Some(out),
            _ => None,
        }
    }
    let (old, new) = (parts(old), parts(new));
    for out in [old, new].into_iter().flatten() {
        resolved.reports.extend(out.policies.iter().cloned());
    }
    let gateway = match world.get(owner) {
        Some(Object::ListenerSet(set)) => set.gateway.clone(),
        _ => Some(owner.clone()),
    };
    let Some(gateway) = gateway else { return };
    let of = |out: Option<&PreRoutingOut>, name: &str| out.and_then(|out| out.listeners.get(name).cloned());
    let held = state.slots.held_by(owner).into_iter();
    let changed = held.filter(|(_, name)| of(old, name) != of(new, name));
    touched.units.extend(changed.map(|(slot, _)| slot.unit(&gateway)));
}

/// A route that is not resolved is not refused either.
fn servable(output: &Output) -> bool {
    !matches!(output, Output::Route(out) if out.refusal().is_some())
}

/// Gives a route's new rules to the slots that it is a member of.
fn rules(world: &World, state: &mut State, route: &ObjectKey, new: &Output, touched: &mut Touched) {
    let rules = match new {
        Output::Route(rules) => Some(rules),
        _ => None,
    };
    // Attachments that the object no longer has are resolved again and leave their slots by themselves.
    let Some(Object::Route(object)) = world.get(route) else { return };
    for parent in attach::parents_of(object) {
        let Some(attached) = state.attach(route, &parent).cloned() else { continue };
        for slot in attached.slots.keys() {
            if state.slots.give_rules(slot, route, rules) {
                touched.reads.insert(Read::MembersOf(slot.clone()));
            }
        }
    }
}

fn as_attach(output: &Output) -> Option<&super::AttachOut> {
    match output {
        Output::Attach(out) => Some(out),
        _ => None,
    }
}

/// What a Gateway shows to backends is its own: the rest of a cluster is the same for all Gateways.
fn with_client(state: &State, gateway: &ObjectKey, cluster: &Arc<Cluster>) -> Arc<Cluster> {
    let client = state.tls(gateway).and_then(|tls| tls.client_secret());
    let (Some(tls), Some(client)) = (&cluster.tls, client) else { return Arc::clone(cluster) };
    let tls = UpstreamTls { client_certificate: Some(client.name.clone()), ..tls.clone() };
    Arc::new(Cluster { tls: Some(tls), ..Cluster::clone(cluster) })
}

fn send(state: &State, gateway: &ObjectKey, id: &ClusterId, unit: &Unit, resolved: &mut Resolved) {
    let delta = resolved.deltas.entry(gateway.clone()).or_default();
    match state.outputs.get(unit) {
        Some(Output::Cluster(cluster)) => {
            delta.clusters.insert(id.name(), Some(with_client(state, gateway, cluster)));
        }
        Some(Output::Endpoints(out)) => {
            delta.endpoints.insert(id.name(), Some(out.endpoints.clone()));
            let followed = Followed { cluster: id.clone(), source: out.source.clone() };
            resolved.followed.entry(gateway.clone()).or_default().push(followed);
        }
        _ => {}
    }
}

fn listeners(
    state: &mut State,
    gateway: &ObjectKey,
    old: &Output,
    new: &Output,
    resolved: &mut Resolved,
    touched: &mut Touched,
) {
    fn parts(output: &Output) -> Option<&super::ListenersOut> {
        match output {
            Output::Listeners(out) => Some(out),
            _ => None,
        }
    }
    let (old, new) = (parts(old), parts(new));
    let slots = |out: Option<&super::ListenersOut>| out.map(|out| out.slots.clone()).unwrap_or_default();
    let (before, after) = (slots(old), slots(new));
    for slot in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        if before.get(slot) != after.get(slot) {
            touched.slot(state, gateway, slot, |members| members.structural = after.get(slot).cloned());
        }
    }
    let (before, after) = (judged(old, gateway), judged(new, gateway));
    let changed: BTreeSet<&ObjectKey> = before
        .keys()
        .chain(after.keys())
        .filter(|owner| before.get(*owner) != after.get(*owner))
        .copied()
        .collect();
    resolved.reports.extend(changed.iter().map(|owner| (*owner).clone()));
    let mut about: BTreeSet<&ObjectKey> = changed.clone();
    for (out, judged) in [(old, &before), (new, &after)] {
        let listeners = changed.iter().filter_map(|owner| judged.get(*owner)).flat_map(|(_, list)| list);
        about.extend(listeners.flat_map(|one| wider_owners(out, gateway, one)));
    }
    touched.reads.extend(about.into_iter().cloned().map(Read::ListenersOf));
    let tables = |out: Option<&super::ListenersOut>| out.map(|out| out.tables.clone()).unwrap_or_default();
    diff(&tables(old), &tables(new), &mut resolved.deltas.entry(gateway.clone()).or_default().tables);
}

type Judged<'a> = BTreeMap<&'a ObjectKey, (Option<&'a super::SetOut>, Vec<&'a super::ListenerOut>)>;

/// What is said of a Gateway and of each of its ListenerSets: among a thousand, those that a change is not about are not
/// looked at again.
fn judged<'a>(out: Option<&'a super::ListenersOut>, gateway: &'a ObjectKey) -> Judged<'a> {
    let mut judged = Judged::new();
    let Some(out) = out else { return judged };
    judged.entry(gateway).or_default();
    for (set, verdict) in &out.sets {
        judged.entry(set).or_default().0 = Some(verdict);
    }
    for one in &out.listeners {
        judged.entry(one.owner(gateway)).or_default().1.push(one);
    }
    judged
}

/// Whose hosts a listener takes away or leaves: those of listeners on its port whose hostnames cover its own (listener
/// isolation).
fn wider_owners<'a>(
    out: Option<&'a super::ListenersOut>,
    gateway: &'a ObjectKey,
    one: &super::ListenerOut,
) -> impl Iterator<Item = &'a ObjectKey> {
    let port = (one.port, one.transport());
    let wider: Vec<Option<Hostname>> =
        one.hostname.iter().flat_map(Hostname::wider).map(Some).chain([None]).collect();
    let found = move |name: Option<Hostname>| Some(out?.named(port, name.as_ref())?.owner(gateway));
    wider.into_iter().filter_map(found)
}

fn chains(gateway: &ObjectKey, old: &Output, new: &Output, resolved: &mut Resolved) {
    let parts = |output: &Output| match output {
        Output::Chains(out) => (out.listeners.clone(), out.secrets.clone()),
        _ => Default::default(),
    };
    let (old, new) = (parts(old), parts(new));
    let delta = resolved.deltas.entry(gateway.clone()).or_default();
    diff(&old.0, &new.0, &mut delta.listeners);
    diff(&old.1, &new.1, &mut delta.secrets);
}

/// Writes what differs between two maps into a delta.
fn diff<K: Ord + Clone, V: Clone + PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    out: &mut BTreeMap<K, Option<V>>,
) {
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        out.insert(key.clone(), None);
    }
    for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(*value)) {
        out.insert(key.clone(), Some(value.clone()));
    }
}
