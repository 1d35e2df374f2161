//! A Gateway's listeners: validity, conflicts, and where their routes go.
//!
//! Reads no Secret: whether certificates can be used is [`super::Unit::Tls`]'s to say.

mod conflict;
mod layout;
mod protocol;
mod validate;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portolan_xds::ir::{RouteTable, RouteTableName, Transport};

pub use protocol::Protocol;

use super::{
    Fault,
    class::class_of,
    engine::State,
    slot::{Slot, StreamName, Structural},
};
use crate::{
    model::{From, Gateway, Hostname, ListenerSet, ObjectKey, RouteKind},
    world::View,
};

/// A listener after validation.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerOut {
    /// Its name, unique in its owner.
    pub name: Arc<str>,
    /// The ListenerSet that it is of; none is the Gateway itself.
    pub set: Option<ObjectKey>,
    /// Its port.
    pub port: u16,
    /// What it speaks; none for a protocol that Portolan does not.
    pub protocol: Option<Protocol>,
    /// Its hostname.
    pub hostname: Option<Hostname>,
    /// Which namespaces' routes it takes.
    pub from: From,
    /// Which kinds of route it takes, sorted: `supportedKinds`.
    pub kinds: Vec<RouteKind>,
    /// Why it is not accepted.
    pub fault: Option<Fault>,
    /// Whether the fault is a conflict with another listener.
    pub conflicted: bool,
    /// Kinds that were asked for and are not supported by the protocol.
    pub invalid_kinds: Option<Fault>,
    /// Names of other listeners on the port that end TLS for overlapping hostnames.
    pub overlaps: Vec<Arc<str>>,
    /// Where its routes go; none when it is not accepted.
    pub serves: Option<Serves>,
}

/// Where the routes of a listener go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Into a route table, by hostname.
    Http(RouteTableName),
    /// To clusters of its own, by server name.
    Stream(StreamName),
}

/// A ListenerSet of a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct SetOut {
    /// metadata.generation.
    pub generation: i64,
    /// Why the Gateway does not take it.
    pub fault: Option<Fault>,
}

impl ListenerOut {
    /// Whose it is: the object that its namespaces, references and status are about.
    pub(super) fn owner<'a>(&'a self, gateway: &'a ObjectKey) -> &'a ObjectKey {
        self.set.as_ref().unwrap_or(gateway)
    }

    /// A name that no other listener of the Gateway has: that of a ListenerSet's holds two slashes.
    pub fn label(&self) -> Arc<str> {
        match &self.set {
            None => self.name.clone(),
            Some(set) => format!("{}/{}/{}", set.namespace, set.name, self.name).into(),
        }
    }

    /// The transport of its port.
    pub fn transport(&self) -> Transport {
        self.protocol.map_or(Transport::Tcp, Protocol::transport)
    }

    /// Where a route goes that meets the listener in a hostname; `None` stands for every host.
    pub(super) fn slot(&self, hostname: Option<&Hostname>) -> Option<Slot> {
        Some(self.serves.as_ref()?.slot(hostname))
    }
}

impl Serves {
    fn slot(&self, hostname: Option<&Hostname>) -> Slot {
        let domain = hostname.map_or_else(|| Arc::from("*"), Hostname::shared);
        match self {
            Self::Http(table) => Slot::host(table.clone(), domain),
            Self::Stream(name) => Slot::stream(name.clone(), domain),
        }
    }
}

/// A Gateway of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenersOut {
    /// metadata.generation.
    pub generation: i64,
    /// Its listeners, in order, and those of its ListenerSets after them, in their precedence.
    pub listeners: Vec<ListenerOut>,
    /// Its ListenerSets.
    pub sets: BTreeMap<ObjectKey, SetOut>,
    /// The route tables.
    pub tables: BTreeMap<RouteTableName, Arc<RouteTable>>,
    /// Slots that exist whatever routes do: a listener's own hostname (404 or a closed connection: listener isolation),
    /// and hostnames of other listeners (421).
    pub slots: BTreeMap<Slot, Structural>,
    /// Accepted listeners by port, transport and hostname.
    owners: BTreeMap<(u16, Transport), BTreeMap<Option<Hostname>, usize>>,
}

impl ListenersOut {
    /// The accepted listener that a hostname belongs to among those of a port: the most specific one that covers it
    /// (GatewayHTTPListenerIsolation). `None` stands for every host.
    pub fn owner(
        &self,
        port: u16,
        transport: Transport,
        hostname: Option<&Hostname>,
    ) -> Option<&ListenerOut> {
        let names = self.owners.get(&(port, transport))?;
        let narrow = hostname.into_iter().flat_map(|host| std::iter::once(host.clone()).chain(host.wider()));
        let index = narrow.map(Some).chain([None]).find_map(|name| names.get(&name))?;
        self.listeners.get(*index)
    }

    /// The accepted listener of a port with exactly this hostname.
    pub(super) fn named(&self, port: (u16, Transport), hostname: Option<&Hostname>) -> Option<&ListenerOut> {
        let index = self.owners.get(&port)?.get(&hostname.cloned())?;
        self.listeners.get(*index)
    }

    /// The accepted listener that a server name of a stream belongs to.
    pub(super) fn stream_owner(
        &self,
        name: &StreamName,
        hostname: Option<&Hostname>,
    ) -> Option<&ListenerOut> {
        let of = |one: &&ListenerOut| matches!(&one.serves, Some(Serves::Stream(serves)) if serves == name);
        let one = self.listeners.iter().find(of)?;
        self.owner(one.port, one.transport(), hostname)
    }

    /// The ports of accepted listeners.
    pub fn ports(&self) -> BTreeSet<(u16, Transport)> {
        self.owners.keys().copied().collect()
    }
}

/// Why a Gateway does not take a ListenerSet (GatewaySpec.allowedListeners: without it, none).
fn refused(view: &View<'_>, gateway: &Gateway, set: &ListenerSet) -> Option<Fault> {
    let namespace = &set.meta.key.namespace;
    let allowed = gateway.allowed_sets.as_ref();
    if allowed.is_some_and(|from| from.allows(view, namespace, &gateway.meta.key.namespace)) {
        return None;
    }
    let message = format!(
        "{} takes no ListenerSets from namespace {namespace}: see its allowedListeners",
        gateway.meta.key
    );
    Some(Fault::new("NotAllowed", message))
}

impl From {
    /// Whether objects of a namespace are let in by one that is `own`.
    pub(super) fn allows(&self, view: &View<'_>, namespace: &Arc<str>, own: &Arc<str>) -> bool {
        match self {
            Self::All => true,
            Self::Same => namespace == own,
            Self::Selector(selector) => selector.matches(&view.namespace_labels(namespace)),
        }
    }
}

/// Resolves [`Unit::Listeners`].
pub(super) fn listeners(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<ListenersOut> {
    let gateway = view.gateway(key)?;
    class_of(view, state, &gateway)?;
    let mut listeners: Vec<ListenerOut> = gateway.listeners.iter().map(validate::validate).collect();
    let mut taken = conflict::Taken::default();
    taken.judge(&mut listeners);
    let mut sets = BTreeMap::new();
    for set in view.sets_of(key) {
        let fault = refused(view, &gateway, &set);
        if fault.is_none() {
            let of_set = |spec| ListenerOut { set: Some(set.meta.key.clone()), ..validate::validate(spec) };
            let mut added: Vec<ListenerOut> = set.listeners.iter().map(of_set).collect();
            taken.judge(&mut added);
            listeners.append(&mut added);
        }
        sets.insert(set.meta.key.clone(), SetOut { generation: set.meta.generation, fault });
    }
    conflict::find_overlaps(&mut listeners);
    let mut out = ListenersOut {
        generation: gateway.meta.generation,
        listeners,
        sets,
        tables: BTreeMap::new(),
        slots: BTreeMap::new(),
        owners: BTreeMap::new(),
    };
    layout::lay_out(&mut out, key);
    Some(out)
}
