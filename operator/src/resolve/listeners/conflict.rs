//! Listeners that cannot live beside each other (GatewaySpec.listeners, "Distinct Listeners").

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portolan_xds::ir::Transport;

use super::{ListenerOut, protocol::Family};
use crate::{
    model::Hostname,
    resolve::{Fault, fault::enumerate},
};

/// Listeners of one port must be of one family and have distinct hostnames. Inside a Gateway nobody wins: all that are
/// not distinct are rejected.
fn find_conflicts(listeners: &mut [ListenerOut]) {
    for indices in by_port(listeners).into_values() {
        let family = |index: &usize| listeners.get(*index).and_then(family_of);
        let families: BTreeSet<Family> = indices.iter().filter_map(family).collect();
        if families.len() > 1 {
            reject(listeners, &indices, "ProtocolConflict", "is also used with another protocol");
            continue;
        }
        let mut twins: BTreeMap<Option<Hostname>, Vec<usize>> = BTreeMap::new();
        for index in &indices {
            let Some(listener) = listeners.get(*index) else { continue };
            twins.entry(listener.hostname.clone()).or_default().push(*index);
        }
        let named = families.iter().all(|family| matches!(family, Family::Http | Family::Tls));
        let (reason, what) = if named {
            ("HostnameConflict", "is also used with the same hostname")
        } else {
            ("ProtocolConflict", "is used twice with the same protocol")
        };
        for indices in twins.into_values().filter(|indices| indices.len() > 1) {
            reject(listeners, &indices, reason, what);
        }
    }
}

/// The most ports of a Gateway: those of its own listeners, of which the API allows 64, and of its ListenerSets. A Service that
/// is reached through nodes takes a node port for each, of some 2,700 that all Services of a cluster share, and one that asks for
/// more than there are is refused whole: the last ListenerSet would close the door to all.
pub(super) const MOST_PORTS: usize = 512;

/// What the listeners of a Gateway and of its older ListenerSets have taken. They go first (ListenerSetSpec.listeners: the
/// Gateway's own, then those of the oldest set).
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<(u16, Transport), (Family, Names)>);

/// Hostnames, and the listeners that have them.
type Names = BTreeMap<Option<Hostname>, Arc<str>>;

impl Taken {
    /// Rejects what others have taken, and then what is not distinct among the rest. The rest is taken.
    pub(super) fn judge(&mut self, listeners: &mut [ListenerOut]) {
        for listener in listeners.iter_mut().filter(|one| one.fault.is_none()) {
            if let Some(fault) = self.conflict(listener) {
                listener.fault = Some(fault);
                listener.conflicted = true;
            }
        }
        find_conflicts(listeners);
        for listener in listeners.iter_mut().filter(|one| one.fault.is_none()) {
            let Some(family) = family_of(listener) else { continue };
            let port = (listener.port, listener.transport());
            if self.0.len() >= MOST_PORTS && !self.0.contains_key(&port) {
                listener.fault = Some(Fault::new(
                    "TooManyListeners",
                    format!(
                        "port {}: the Gateway and its older ListenerSets have {MOST_PORTS} ports already, the most that a \
                         Gateway can have; use one of them with a hostname of your own",
                        listener.port
                    ),
                ));
                continue;
            }
            let (_, names) = self.0.entry(port).or_insert_with(|| (family, Names::new()));
            names.insert(listener.hostname.clone(), listener.label());
        }
    }

    fn conflict(&self, listener: &ListenerOut) -> Option<Fault> {
        let family = family_of(listener)?;
        let (of, names) = self.0.get(&(listener.port, listener.transport()))?;
        let any = names.values().next();
        let (reason, elder, what) = if *of != family {
            ("ProtocolConflict", any, "with another protocol")
        } else if matches!(family, Family::Http | Family::Tls) {
            ("HostnameConflict", names.get(&listener.hostname), "with the same hostname")
        } else {
            ("ProtocolConflict", any, "with the same protocol")
        };
        let message =
            format!("port {} is used {what} by listener {}, which goes first", listener.port, elder?);
        Some(Fault::new(reason, message))
    }
}

/// Listeners without a fault of their own, by what they bind.
fn by_port(listeners: &[ListenerOut]) -> BTreeMap<(u16, Transport), Vec<usize>> {
    let mut ports: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, listener) in listeners.iter().enumerate().filter(|(_, one)| one.fault.is_none()) {
        ports.entry((listener.port, listener.transport())).or_default().push(index);
    }
    ports
}

fn family_of(listener: &ListenerOut) -> Option<Family> {
    listener.protocol.map(super::Protocol::family)
}

fn reject(listeners: &mut [ListenerOut], indices: &[usize], reason: &'static str, what: &str) {
    let names: Vec<Arc<str>> =
        indices.iter().filter_map(|index| listeners.get(*index)).map(ListenerOut::label).collect();
    for index in indices {
        let Some(listener) = listeners.get_mut(*index) else { continue };
        let others = enumerate(names.iter().filter(|name| **name != listener.label()));
        listener.conflicted = true;
        listener.fault = Some(Fault::new(
            reason,
            format!("port {} {what} by listener {others}: give each its own", listener.port),
        ));
    }
}

/// HTTPS listeners whose hostnames overlap: clients that reuse connections can be misdirected (GEP-3567).
pub(super) fn find_overlaps(listeners: &mut [ListenerOut]) {
    let mut overlaps: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for indices in by_port(listeners).into_values() {
        let ends_tls = |index: &&usize| {
            listeners.get(**index).and_then(|one| one.protocol).is_some_and(super::Protocol::terminates)
        };
        let host = |index: &usize| listeners.get(*index).and_then(|one| one.hostname.clone());
        let names: BTreeMap<Option<Hostname>, usize> =
            indices.iter().filter(ends_tls).map(|index| (host(index), *index)).collect();
        for (name, index) in &names {
            // Two hostnames overlap if one covers the other.
            let wider = name.iter().flat_map(Hostname::wider).map(Some).chain([None]);
            for other in wider.filter_map(|wider| names.get(&wider)).filter(|other| *other != index) {
                overlaps.entry(*index).or_default().insert(*other);
                overlaps.entry(*other).or_default().insert(*index);
            }
        }
    }
    let names: Vec<Arc<str>> = listeners.iter().map(ListenerOut::label).collect();
    for (index, others) in overlaps {
        let Some(listener) = listeners.get_mut(index) else { continue };
        listener.overlaps = others.iter().filter_map(|other| names.get(*other).cloned()).collect();
    }
}
