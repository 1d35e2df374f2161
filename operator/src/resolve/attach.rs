//! Attachment: which listeners of a Gateway take a route, and under which hostnames.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::{Hostname, Kind, ObjectKey, ParentRef, Route},
    world::{Read, View},
};

use super::{
    Fault, ListenerOut, ListenersOut,
    engine::State,
    slot::{Place, Slot},
};

/// A route on a parent: a Gateway, or a ListenerSet and through it a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachOut {
    /// The Gateway.
    pub gateway: ObjectKey,
    /// One per parentRef to this parent, in order.
    pub parents: Vec<ParentOutcome>,
    /// Where its rules go.
    pub slots: BTreeMap<Slot, Place>,
    /// Listeners of the parent that count it in attachedRoutes.
    pub listeners: BTreeSet<Arc<str>>,
}

/// The outcome of one parentRef.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentOutcome {
    /// The reference as written.
    pub parent: ParentRef,
    /// Why it is not accepted.
    pub fault: Option<Fault>,
}

/// The Gateways and ListenerSets that a route refers to.
pub(super) fn parents_of(route: &Route) -> BTreeSet<ObjectKey> {
    route.parents.iter().filter_map(|parent| parent_of(route, parent)).collect()
}

/// The Gateway or ListenerSet that a parentRef names, if it names one.
pub(super) fn parent_of(route: &Route, parent: &ParentRef) -> Option<ObjectKey> {
    let kinds = [Kind::Gateway, Kind::ListenerSet];
    let kind = kinds.into_iter().find(|kind| *parent.kind == *kind.as_str())?;
    (*parent.group == *kind.group()).then(|| {
        let namespace = parent.namespace.clone().unwrap_or_else(|| route.meta.key.namespace.clone());
        ObjectKey::new(kind, namespace, parent.name.clone())
    })
}

/// Resolves [`super::Unit::Attach`].
pub(super) fn attach(
    view: &View<'_>,
    state: &State,
    route: &ObjectKey,
    parent: &ObjectKey,
) -> Option<AttachOut> {
    let gateway = match parent.kind {
        Kind::ListenerSet => view.listener_set(parent)?.gateway.clone()?,
        _ => parent.clone(),
    };
    view.record(Read::ListenersOf(parent.clone()));
    let listeners = state.listeners(&gateway)?;
    view.record(Read::Servable(route.clone()));
    let refused = state.route(route).is_some_and(|route| route.refusal().is_some());
    let route = view.route(route)?;
    let mut out = AttachOut {
        gateway,
        parents: Vec::with_capacity(route.parents.len()),
        slots: BTreeMap::new(),
        listeners: BTreeSet::new(),
    };
    let to_parent = |one: &&ParentRef| parent_of(&route, one).as_ref() == Some(parent);
    for reference in route.parents.iter().filter(to_parent) {
        let fault = attach_parent(view, &route, parent, reference, listeners, &mut out).err();
        out.parents.push(ParentOutcome { parent: reference.clone(), fault });
    }
    if refused {
        // ListenerStatus.attachedRoutes: routes that are not accepted are not counted.
        out.listeners.clear();
    }
    Some(out)
}

fn attach_parent(
    view: &View<'_>,
    route: &Route,
    owner: &ObjectKey,
    parent: &ParentRef,
    all: &ListenersOut,
    out: &mut AttachOut,
) -> Result<(), Fault> {
    if let Some(fault) = all.sets.get(owner).and_then(|set| set.fault.as_ref()) {
        return Err(Fault::new("NoMatchingParent", format!("{owner} has no listeners: {}", fault.message)));
    }
    // A route sees the listeners of its parent alone: those of a Gateway's sets are not the Gateway's.
    let gateway = out.gateway.clone();
    let of_parent = |one: &&ListenerOut| one.owner(&gateway) == owner;
    let named = |one: &&ListenerOut| {
        parent.section_name.as_ref().is_none_or(|name| *name == one.name)
            && parent.port.is_none_or(|port| port == one.port)
    };
    let candidates: Vec<_> = all.listeners.iter().filter(of_parent).filter(named).collect();
    if candidates.is_empty() {
        let wanted = match (&parent.section_name, parent.port) {
            (Some(name), Some(port)) => format!("named {name} on port {port}"),
            (Some(name), None) => format!("named {name}"),
            (None, Some(port)) => format!("on port {port}"),
            (None, None) => "at all".to_owned(),
        };
        let known: Vec<_> =
            all.listeners.iter().filter(of_parent).map(|one| format!("{}:{}", one.name, one.port)).collect();
        return Err(Fault::new(
            "NoMatchingParent",
            format!("{owner} has no listener {wanted}; it has {}", known.join(", ")),
        ));
    }
    let kind = route.meta.key.kind;
    let allowed: Vec<_> = candidates
        .into_iter()
        .filter(|one| {
            one.kinds.iter().any(|allowed| *allowed.kind == *kind.as_str() && *allowed.group == *kind.group())
        })
        .filter(|one| one.from.allows(view, &route.meta.key.namespace, &owner.namespace))
        .collect();
    if allowed.is_empty() {
        return Err(Fault::new(
            "NotAllowedByListeners",
            format!(
                "no selected listener of {owner} allows routes of kind {kind} from namespace {}: see its protocol and its allowedRoutes",
                route.meta.key.namespace
            ),
        ));
    }
    let hostnames: Vec<&Hostname> = route.hostnames.iter().filter_map(|name| name.as_ref().ok()).collect();
    let mut attached = false;
    for listener in allowed {
        let meets = intersections(route, &hostnames, listener);
        if meets.is_empty() {
            continue;
        }
        attached = true;
        out.listeners.insert(listener.name.clone());
        for (host, original) in meets {
            let Some(slot) = listener.slot(host.as_ref()) else { continue };
            // Listener isolation: a host that belongs to a more specific listener is not this one's to serve.
            let best = all.owner(listener.port, listener.transport(), host.as_ref());
            if best.is_none_or(|best| best.name != listener.name || best.set != listener.set) {
                continue;
            }
            let rank = Hostname::specificity(original);
            let place = || Place { rank, listener: listener.name.clone() };
            let entry = out.slots.entry(slot).or_insert_with(place);
            entry.rank = entry.rank.min(rank);
        }
    }
    if attached {
        return Ok(());
    }
    let mut message =
        format!("none of the route's hostnames meets a hostname of a selected listener of {owner}");
    for ignored in route.hostnames.iter().filter_map(|name| name.as_ref().err()) {
        message = format!("{message}; {ignored}");
    }
    Err(Fault::new("NoMatchingListenerHostname", message))
}

/// The hosts of a route on a listener, each with the route's own hostname that gave it.
fn intersections<'a>(
    route: &Route,
    hostnames: &[&'a Hostname],
    listener: &ListenerOut,
) -> Vec<(Option<Hostname>, Option<&'a Hostname>)> {
    if route.hostnames.is_empty() {
        return vec![(listener.hostname.clone(), None)];
    }
    let meet = |name: &&'a Hostname| match &listener.hostname {
        None => Some((Some((*name).clone()), Some(*name))),
        Some(own) => own.intersect(name).map(|host| (Some(host), Some(*name))),
    };
    hostnames.iter().filter_map(meet).collect()
}
