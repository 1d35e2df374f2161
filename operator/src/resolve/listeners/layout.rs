//! Where the routes of listeners go: route tables, streams, and the slots that exist without any route.

use std::{collections::BTreeMap, sync::Arc};

use portolan_xds::ir::{RouteTable, RouteTableName, Transport};

use super::{ListenerOut, ListenersOut, Protocol, Serves};
use crate::{
    model::{Hostname, ObjectKey},
    resolve::slot::{Holder, Slot, StreamKind, StreamName, Structural},
};

/// Up to this many TLS listeners of one port know the hostnames of each other one by one. Beyond it, what a listener
/// does not cover is misdirected without asking whether another listener does: n listeners would need n² virtual hosts.
const MOST_NEIGHBOURS: usize = 64;

/// Fills in everything but the listeners themselves.
pub(super) fn lay_out(out: &mut ListenersOut, gateway: &ObjectKey) {
    for (index, listener) in out.listeners.iter_mut().enumerate().filter(|(_, one)| one.fault.is_none()) {
        let Some(protocol) = listener.protocol else { continue };
        listener.serves = Some(serves(listener, protocol, gateway));
        let names = out.owners.entry((listener.port, protocol.transport())).or_default();
        names.insert(listener.hostname.clone(), index);
    }
    for listener in &out.listeners {
        let (Some(Serves::Http(name)), Some(protocol)) = (&listener.serves, listener.protocol) else {
            continue;
        };
        let table = RouteTable { name: name.clone(), port: listener.port, tls: protocol.terminates() };
        out.tables.insert(name.clone(), Arc::new(table));
    }
    out.slots = slots(out, gateway);
}

fn serves(listener: &ListenerOut, protocol: Protocol, gateway: &ObjectKey) -> Serves {
    let base = format!("{}/{}/{}", gateway.namespace, gateway.name, listener.port);
    let stream = |kind| Serves::Stream(StreamName { base: base.as_str().into(), kind });
    match protocol {
        Protocol::Http => Serves::Http(base.into()),
        Protocol::Https => {
            let host = listener.hostname.as_ref().map_or("*", Hostname::as_str);
            Serves::Http(RouteTableName::from(format!("{base}/{host}")))
        }
        Protocol::Tls(_) => stream(StreamKind::Tls),
        Protocol::Tcp => stream(StreamKind::Tcp),
        Protocol::Udp => stream(StreamKind::Udp),
    }
}

/// The slots of listeners, and in the table of an HTTPS listener those of others: RFC 9110 §15.5.20, a host that
/// belongs to another listener is misdirected. The plain-text listeners of a port share one table, where each has its
/// own host.
fn slots(out: &ListenersOut, gateway: &ObjectKey) -> BTreeMap<Slot, Structural> {
    let mut slots = BTreeMap::new();
    for ((_, transport), names) in &out.owners {
        let listener = |index: &usize| out.listeners.get(*index);
        for (name, index) in names {
            let own = listener(index).and_then(|one| {
                let holder = Holder { owner: one.owner(gateway).clone(), listener: one.name.clone() };
                Some((one.slot(name.as_ref())?, Structural::Own(holder)))
            });
            slots.extend(own);
        }
        if *transport == Transport::Tcp {
            let table = |index: &usize| {
                let https = listener(index).filter(|one| one.protocol == Some(Protocol::Https))?;
                https.serves.as_ref()
            };
            misdirected(names, table, &mut slots);
        }
    }
    slots
}

/// The hosts of other listeners of a port, in the tables of its HTTPS listeners (`table`).
fn misdirected<'a>(
    names: &BTreeMap<Option<Hostname>, usize>,
    table: impl Fn(&usize) -> Option<&'a Serves>,
    slots: &mut BTreeMap<Slot, Structural>,
) {
    let mut add = |serves: &Serves, name: Option<&Hostname>| {
        _ = slots.entry(serves.slot(name)).or_insert(Structural::Misdirected);
    };
    for name in names.keys() {
        // Whoever covers a name and does not own it.
        let wider = name.iter().flat_map(Hostname::wider).map(Some).chain([None]);
        for serves in wider.filter(|wider| wider != name).filter_map(|wider| table(names.get(&wider)?)) {
            add(serves, name.as_ref());
        }
    }
    let everything = names.contains_key(&None) || names.len() > MOST_NEIGHBOURS;
    for (own, index) in names.iter().filter(|(own, _)| own.is_some()) {
        let Some(serves) = table(index) else { continue };
        if everything {
            add(serves, None);
            continue;
        }
        for other in names.keys().flatten().filter(|other| own.as_ref() != Some(*other)) {
            add(serves, Some(other));
        }
    }
}
