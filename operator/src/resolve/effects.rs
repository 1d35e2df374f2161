//! What a changed output changes elsewhere: the indexes between units, and the deltas that go out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use portolan_xds::ir::{ClusterName, VirtualHostKey};

use super::{
    ClusterId, Output, Resolved, Slot, Unit, attach,
    engine::State,
    slot::{Member, Members},
};
use crate::{
    model::{Object, ObjectKey},
    world::{Read, World},
};

/// Counters and users that are kept up to date from output to output.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// How many virtual hosts of each Gateway use a cluster.
    users: HashMap<ClusterId, BTreeMap<ObjectKey, usize>>,
    /// attachedRoutes by Gateway and listener.
    pub(super) attached: HashMap<ObjectKey, BTreeMap<Arc<str>, usize>>,
    /// Gateways by the moments at which certificates of theirs expire.
    pub(super) expiries: BTreeMap<i64, BTreeSet<ObjectKey>>,
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
                resolved.fleets.insert(gateway.clone());
            }
            Unit::Frontend(gateway) => _ = resolved.reports.insert(gateway.clone()),
            Unit::Tls(gateway) => {
                resolved.reports.insert(gateway.clone());
                self.tls(gateway, old, new);
            }
            Unit::Route(route) => {
                resolved.reports.insert(route.clone());
                rules(world, state, route, new, &mut touched);
                if servable(old) != servable(new) {
                    touched.reads.insert(Read::Servable(route.clone()));
                }
            }
            Unit::Attach(route, gateway) => {
                self.attach(state, (route, gateway), (old, new), resolved, &mut touched);
            }
            Unit::Stream(gateway, key) => {
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

    fn attach(
        &mut self,
        state: &mut State,
        (route, gateway): (&ObjectKey, &ObjectKey),
        (old, new): (&Output, &Output),
        resolved: &mut Resolved,
        touched: &mut Touched,
    ) {
        resolved.reports.insert(route.clone());
        let (old, new) = (as_attach(old), as_attach(new));
        let slots = |out: Option<&super::AttachOut>| out.map(|out| out.slots.clone()).unwrap_or_default();
        let (before, after) = (slots(old), slots(new));
        let rules = state.route(route).cloned();
        for slot in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            if before.get(slot) == after.get(slot) {
                continue;
            }
            let member = after.get(slot).map(|rank| Member { rank: *rank, rules: rules.clone() });
            touched.slot(state, gateway, slot, |members| {
                match member {
                    Some(member) => members.routes.insert(route.clone(), member),
                    None => members.routes.remove(route),
                };
            });
        }
        let counts = self.attached.entry(gateway.clone()).or_default();
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
            self.attached.remove(gateway);
        }
        if old.map(|out| &out.listeners) != new.map(|out| &out.listeners) {
            resolved.reports.insert(gateway.clone());
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
        for (gateway, id) in std::mem::take(&mut self.started) {
            send(state, &gateway, &id, &Unit::Cluster(id.clone()), resolved);
            send(state, &gateway, &id, &Unit::Endpoints(id.clone()), resolved);
        }
        let mut unused = Vec::new();
        for (gateway, id) in std::mem::take(&mut self.ended) {
            let name: ClusterName = id.name();
            let delta = resolved.deltas.entry(gateway).or_default();
            delta.clusters.insert(name.clone(), None);
            delta.endpoints.insert(name, None);
            if !self.users.contains_key(&id) {
                unused.push(id);
            }
        }
        unused
    }
}

fn servable(output: &Output) -> bool {
    matches!(output, Output::Route(out) if out.refusal().is_none())
}

/// Gives a route's new rules to the slots that it is a member of.
fn rules(world: &World, state: &mut State, route: &ObjectKey, new: &Output, touched: &mut Touched) {
    let rules = match new {
        Output::Route(rules) => Some(rules),
        _ => None,
    };
    // Attachments that the object no longer has are resolved again and leave their slots by themselves.
    let Some(Object::Route(object)) = world.get(route) else { return };
    for gateway in attach::gateways_of(object) {
        let Some(attached) = state.attach(route, &gateway).cloned() else { continue };
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

fn send(state: &State, gateway: &ObjectKey, id: &ClusterId, unit: &Unit, resolved: &mut Resolved) {
    let delta = resolved.deltas.entry(gateway.clone()).or_default();
    match state.outputs.get(unit) {
        Some(Output::Cluster(cluster)) => _ = delta.clusters.insert(id.name(), Some(cluster.clone())),
        Some(Output::Endpoints(endpoints)) => _ = delta.endpoints.insert(id.name(), Some(endpoints.clone())),
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
            touched.slot(state, gateway, slot, |members| members.structural = after.get(slot).copied());
        }
    }
    let tables = |out: Option<&super::ListenersOut>| out.map(|out| out.tables.clone()).unwrap_or_default();
    diff(&tables(old), &tables(new), &mut resolved.deltas.entry(gateway.clone()).or_default().tables);
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
